"""Motifs put in and taken out: where they come to lie, what stays as it was, that nothing new arises."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omics_transformers.data_scripts.genomes import open_genome
from omics_transformers.pipelines.motif_hits import BASES, Motif, find_hits, read_jaspar
from omics_transformers.pipelines.promoter_mutagenesis_motifs import (
    best_instance,
    delete_motif,
    insert_motif,
    reverse_complement,
    sampled_instance,
)

CONSENSUS = "CTTATCTC"


def motif_of(consensus: str, count: float = 97.0) -> Motif:
    counts = np.ones((4, len(consensus)))
    counts[[BASES.index(base) for base in consensus], np.arange(len(consensus))] = count
    return Motif(f"M_{consensus}", consensus.lower(), counts)


GATA = motif_of(CONSENSUS)
REFERENCE = "".join(np.random.default_rng(0).choice(list("ACGT"), 400))


@pytest.mark.parametrize("strand", ["+", "-"])
@pytest.mark.parametrize("gene_strand", ["+", "-"])
@pytest.mark.parametrize("offset", [-50, 0, 30])
def test_the_motif_lies_where_it_was_put(strand: Any, gene_strand: Any, offset: int) -> None:
    """Read along the gene, from its TSS, whatever strand that is on."""
    edit = insert_motif(REFERENCE, GATA, offset=offset, strand=strand, gene_strand=gene_strand)
    along = edit.sequence if gene_strand == "+" else reverse_complement(edit.sequence)
    tss = 200 if gene_strand == "+" else 399 - 200
    placed = along[tss + offset : tss + offset + 8]
    assert placed == (CONSENSUS if strand == "+" else reverse_complement(CONSENSUS))
    start, end = edit.description["start"], edit.description["end"]
    assert edit.sequence[:start] == REFERENCE[:start] and edit.sequence[end:] == REFERENCE[end:]
    assert edit.description["replaced"] == REFERENCE[start:end]
    assert edit.description["n_mutations"] == len(edit.mutations) > 0
    hits = find_hits(edit.sequence, [GATA])
    assert [start, end, edit.description["window_strand"]] in hits[["start", "end", "strand"]].to_numpy().tolist()


def test_sampled_instances_follow_the_counts() -> None:
    motif = Motif("M", "M", np.array([[30.0, 0], [10, 0], [0, 0], [0, 5]]))
    assert best_instance(motif) == "AT"
    generator = np.random.default_rng(0)
    found = Counter(sampled_instance(motif, generator) for _ in range(4_000))
    assert set(found) == {"AT", "CT"} and found["AT"] / 4_000 == pytest.approx(0.75, abs=0.03)
    first, again, other = (
        insert_motif(REFERENCE, motif_of(CONSENSUS, 2), offset=0, instance="sampled", seed=seed) for seed in (1, 1, 2)
    )
    assert first.sequence == again.sequence != other.sequence
    assert first.description["seed"] == 1


def test_insertions_that_are_refused() -> None:
    for offset in (-201, 193):
        with pytest.raises(ValueError, match="reaches beyond the window of 400 bp"):
            insert_motif(REFERENCE, GATA, offset=offset)
    edited = insert_motif(REFERENCE, GATA, offset=10).sequence
    with pytest.raises(ValueError, match="holds CTTATCTC at \\+10 from the TSS already"):
        insert_motif(edited, GATA, offset=10)
    with pytest.raises(ValueError, match="strand is '1'"):
        insert_motif(REFERENCE, GATA, offset=0, strand="1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="instance is 'worst'"):
        insert_motif(REFERENCE, GATA, offset=0, instance="worst")  # type: ignore[arg-type]


def keys_of(sequence: str, motifs: list[Motif]) -> set[tuple]:
    hits = find_hits(sequence, motifs)
    return set(hits[["matrix_id", "start", "strand"]].itertuples(index=False, name=None))


@settings(max_examples=15)
@given(
    offsets=st.lists(st.integers(-90, 80), min_size=1, max_size=3),
    strands=st.lists(st.sampled_from("+-"), min_size=3, max_size=3),
    method=st.sampled_from(["shuffle", "dinucleotide_shuffle"]),
    seed=st.integers(0, 1000),
)
def test_hits_are_gone_and_none_has_come(offsets: list[int], strands: list[Any], method: Any, seed: int) -> None:
    other = motif_of("GGATTAGC", 30.0)
    reference = "".join(np.random.default_rng(seed).choice(list("ACGT"), 400))
    for offset, strand in zip(offsets, strands, strict=False):
        if reference[200 + offset : 208 + offset] not in (CONSENSUS, reverse_complement(CONSENSUS)):
            reference = insert_motif(reference, GATA, offset=offset, strand=strand).sequence
    before, before_other = keys_of(reference, [GATA]), keys_of(reference, [other])
    within = {key for key in before if key[1] >= 100 and key[1] + 8 <= 300}
    edit = delete_motif(reference, GATA, window_bp=200, method=method, keep_out=[other], seed=seed)
    assert keys_of(edit.sequence, [GATA]) <= before - within
    assert keys_of(edit.sequence, [other]) <= before_other
    assert edit.description["n_hits"] == len(within) and edit.description["n_mutations"] == len(edit.mutations) > 0
    covered = {place for first, last in edit.description["shuffled"] for place in range(first, last)}
    assert {int(mutation[:-3]) for mutation in edit.mutations} <= covered
    assert Counter(edit.sequence) == Counter(reference)
    if method == "dinucleotide_shuffle":
        assert Counter(pairwise(edit.sequence)) == Counter(pairwise(reference))
    again = delete_motif(reference, GATA, window_bp=200, method=method, keep_out=[other], seed=seed)
    assert again.sequence == edit.sequence


def test_n_stays_where_it_is() -> None:
    reference = REFERENCE[:190] + "NN" + CONSENSUS + "N" + REFERENCE[201:]
    edit = delete_motif(reference, GATA, window_bp=40, method="shuffle")
    assert [place for place, base in enumerate(edit.sequence) if base == "N"] == [190, 191, 200]
    assert edit.description["shuffled"] == [[192, 200]]


def test_deletions_that_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no hit of cttatctc with a p-value below 0\.0001 lies in the 20 bp"):
        delete_motif("ACGT" * 50, GATA, window_bp=20)
    with pytest.raises(ValueError, match="no shuffle of the hit at bases 96-104"):
        # Every order of one letter is the same.
        delete_motif("C" * 200, motif_of("C" * 8), window_bp=8, method="shuffle", offset=0)
    with pytest.raises(ValueError, match="method is 'random'"):
        delete_motif(REFERENCE, GATA, window_bp=20, method="random")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="attempts is 0"):
        delete_motif(REFERENCE, GATA, window_bp=20, attempts=0)


@pytest.mark.real_data
def test_gata4s_own_motif_at_its_locus(data_folder: Path) -> None:
    motifs = {motif.name: motif for motif in read_jaspar(data_folder / "genesets/JASPAR2026_cardiac_and_CTCF.jaspar")}
    tss = 11_561_710
    with open_genome(data_folder / "genome/GATA4_chr8_11496144-11627216.hg19.fa", offsets={"8": 11_496_144}) as genome:
        reference = genome.fetch("chr8", tss - 98_304, tss + 98_304, pad=True).decode()
    edit = delete_motif(reference, motifs["GATA4"], window_bp=5_000, threshold=2e-4, keep_out=[*motifs.values()])
    around = slice(98_304 - 2_500, 98_304 + 2_500)
    assert edit.description["n_hits"] > 0
    assert find_hits(edit.sequence[around], [motifs["GATA4"]], threshold=2e-4).empty
    inserted = insert_motif(reference, motifs["GATA4"], offset=-60, instance="sampled", seed=3)
    assert inserted.description["n_mutations"] > 0 and len(inserted.sequence) == 196_608
