"""Windows and haplotypes against plain strings, what is refused, and the data set."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omics_transformers.data_scripts.genomes import open_genome
from omics_transformers.data_scripts.promoters import (
    build_promoters,
    donor_promoters,
    one_hot,
    promoter_windows,
)
from omics_transformers.data_scripts.variants import DonorVariants

SEQUENCE = "".join(np.random.default_rng(3).choice(list("ACGT"), 60))
_PAIRS = {"A": "T", "C": "G", "G": "C", "T": "A", "N": "N"}


def make_genome(folder: Path, **contigs: str):
    (folder / "genome.fa").write_text(
        "".join(f">{name}\n{bases}\n" for name, bases in (contigs or {"1": SEQUENCE}).items())
    )
    return open_genome(folder / "genome.fa")


def make_tss(*rows: tuple[str, str, str, int]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["gene_id", "contig", "strand", "tss"])
    return table.assign(symbol=table["gene_id"].str.lower())


def naive_window(sequence: str, tss: int, strand: str, window_bp: int, oriented: bool) -> str:
    """The bases from window_bp // 2 before the TSS in the direction of the window."""
    if oriented and strand == "-":
        sequence = "".join(_PAIRS[base] for base in reversed(sequence))
        tss = len(sequence) - 1 - tss
    places = range(tss - window_bp // 2, tss - window_bp // 2 + window_bp)
    return "".join(sequence[place] if 0 <= place < len(sequence) else "N" for place in places)


@given(st.integers(0, 59), st.sampled_from("+-"), st.integers(1, 90), st.booleans())
def test_windows_agree_with_plain_strings(tss: int, strand: str, window_bp: int, oriented: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, make_genome(Path(folder)) as genome:
        genes = make_tss(("G", "chr1", strand, tss))
        windows = promoter_windows(genome, genes, window_bp=window_bp, orient_by_strand=oriented)
        (found,) = (sequence.decode() for sequence in windows)
    assert found == naive_window(SEQUENCE, tss, strand, window_bp, oriented)
    if window_bp > 1:
        base = SEQUENCE[tss] if not (oriented and strand == "-") else _PAIRS[SEQUENCE[tss]]
        assert found[window_bp // 2] == base


variant_sets = st.dictionaries(st.integers(0, 59), st.tuples(st.sampled_from("ACGT"), st.integers(0, 63)), max_size=6)


@settings(max_examples=60, deadline=None)
@given(variant_sets, st.integers(1, 40), st.booleans())
def test_haplotypes_agree_with_plain_strings(sites: dict[int, tuple[str, int]], window_bp: int, oriented: bool) -> None:
    """Three donors; the six bits of a site's number say which haplotypes carry it."""
    rows = [(position, base, bits) for position, (base, bits) in sorted(sites.items()) if base != SEQUENCE[position]]
    variants = DonorVariants(
        ["a", "b", "c"],
        np.array(["chr1"] * len(rows), dtype=str),
        np.array([position for position, _, _ in rows], dtype=np.int64),
        np.array([ord(SEQUENCE[position]) for position, _, _ in rows], dtype=np.uint8),
        np.array([ord(base) for _, base, _ in rows], dtype=np.uint8),
        np.array([[bits >> bit & 1 for bit in range(6)] for _, _, bits in rows], dtype=np.int8).reshape(-1, 3, 2),
    )
    genes = make_tss(("G", "1", "-", 20), ("H", "1", "+", 35))
    with tempfile.TemporaryDirectory() as folder, make_genome(Path(folder)) as genome:
        windows = promoter_windows(genome, genes, window_bp=window_bp, orient_by_strand=oriented)
        promoters = donor_promoters(windows, variants)
        reference = [sequence.decode() for sequence in windows]
        haplotypes = [promoters.sequence(windows, number).decode() for number in range(len(promoters.haplotype_genes))]
    seen = {0: set(), 1: set()}
    for donor in range(3):
        for gene, (tss, strand) in enumerate(((20, "-"), (35, "+"))):
            pair = []
            for haplotype in range(2):
                bases = list(SEQUENCE)
                for position, base, bits in rows:
                    bases[position] = base if bits >> (2 * donor + haplotype) & 1 else bases[position]
                pair.append(naive_window("".join(bases), tss, strand, window_bp, oriented))
            number = promoters.index[donor, gene]
            if number == -1:
                found = [reference[gene]] * 2
            else:
                assert promoters.promoter_genes[number] == gene
                found = [haplotypes[i] if i >= 0 else reference[gene] for i in promoters.promoter_haplotypes[number]]
                seen[gene].add(number)
            assert sorted(found) == sorted(pair)
    for gene in range(2):  # each distinct one once, and none that nobody has
        of_gene = [text for text, owner in zip(haplotypes, promoters.haplotype_genes, strict=True) if owner == gene]
        assert len(set(of_gene)) == len(of_gene)
        assert reference[gene] not in of_gene
        assert seen[gene] == set(np.flatnonzero(promoters.promoter_genes == gene))
        pairs = promoters.promoter_haplotypes[promoters.promoter_genes == gene].tolist()
        assert len({tuple(sorted(pair)) for pair in pairs}) == len(pairs)


def test_one_hot_is_in_enformers_order() -> None:
    encoded = one_hot([b"ACGTN", b"TTTTT"])
    assert encoded.shape == (2, 5, 4)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded[0], [*np.eye(4), np.zeros(4)])
    np.testing.assert_array_equal(encoded[1], [[0, 0, 0, 1]] * 5)


def test_contigs_that_the_genome_lacks(tmp_path: Path) -> None:
    genome = make_genome(tmp_path)
    genes = make_tss(("A", "chr1", "+", 5), ("B", "chr2", "+", 5), ("C", "chr3", "+", 5), ("D", "chr3", "+", 9))
    with pytest.raises(ValueError, match=r"3 genes are on 2 contigs that .* lacks: chr3 \(2 genes\), chr2 \(1 genes\)"):
        promoter_windows(genome, genes)
    windows = promoter_windows(genome, genes, missing_contigs="drop")
    assert windows.genes["gene_id"].tolist() == ["A"]
    assert windows.report == {"genes on contigs that the genome lacks": 3}
    with pytest.raises(ValueError, match="no gene is left"):
        promoter_windows(genome, genes[1:], missing_contigs="drop")


@pytest.mark.parametrize("tss", [60, -1])
def test_a_tss_beyond_the_contig_is_named(tss: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"first B \(b\) at 1:{tss + 1} .* spans 1-60"):
        promoter_windows(make_genome(tmp_path), make_tss(("A", "1", "+", 59), ("B", "1", "+", tss)))
    genes = make_tss(("B", "1", "+", tss), ("A", "1", "+", 59))
    windows = promoter_windows(make_genome(tmp_path), genes, beyond_contig="drop")
    assert windows.genes["gene_id"].tolist() == ["A"]
    assert windows.report == {"genes that begin beyond their contig": 1}
    with pytest.raises(ValueError, match="all begin beyond"):
        promoter_windows(make_genome(tmp_path), genes[:1], beyond_contig="drop")


def test_settings_that_make_no_sense(tmp_path: Path) -> None:
    genome, genes = make_genome(tmp_path), make_tss(("A", "1", "+", 5))
    with pytest.raises(ValueError, match="positive number"):
        promoter_windows(genome, genes, window_bp=0)
    with pytest.raises(ValueError, match='"error" or "drop"'):
        promoter_windows(genome, genes, missing_contigs="skip")  # type: ignore[arg-type]


def test_the_data_set_is_what_load_dataset_reads(tmp_path: Path) -> None:
    from datasets import load_dataset

    make_genome(tmp_path, **{"1": SEQUENCE, "2": "R" * 8}).close()
    annotation = tmp_path / "tss.tsv"
    annotation.write_text("gene_id\tcontig\tstrand\ttss\nA\tchr1\t+\t5\nB\tchr2\t-\t3\nC\tchr9\t-\t3\n")
    settings_of_build = {"window_bp": 20, "missing_contigs": "drop"}
    report = build_promoters(tmp_path / "genome.fa", annotation, tmp_path / "out", **settings_of_build)
    rows = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["sequence"][:] == ["NNNNN" + SEQUENCE[:15], "N" * 20]
    assert rows[0] | {"sequence": ""} == {
        "gene_id": "A", "symbol": "A", "contig": "1", "strand": "+", "tss": 5, "start": -5, "end": 15, "sequence": "",
    }  # fmt: skip
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    assert report["left out"] == {"genes on contigs that the genome lacks": 1}
    assert report["IUPAC letters read as N"] == {"2": 8}
    with pytest.raises(FileExistsError, match="overwrite"):
        build_promoters(tmp_path / "genome.fa", annotation, tmp_path / "out", **settings_of_build)
    build_promoters(tmp_path / "genome.fa", annotation, tmp_path / "out", **settings_of_build, overwrite=True)


@pytest.mark.real_data
def test_gata4s_piece_is_padded_to_enformers_window(data_folder: Path) -> None:
    path = data_folder / "genome/GATA4_chr8_11496144-11627216.hg19.fa"
    with open_genome(path, offsets={"8": 11_496_144}) as genome:
        windows = promoter_windows(genome, make_tss(("ENSG00000136574", "chr8", "+", 11_561_710)))
        (sequence,) = windows
    assert len(sequence) == 196_608
    before, after = 11_496_144 - (11_561_710 - 98_304), 11_561_710 + 98_304 - 11_627_216
    assert sequence == b"N" * before + sequence[before:-after] + b"N" * after
    assert sequence[before:-after].count(b"N") == 0
    start_codon = 98_304 + 11_565_821 - 11_561_710  # of NM_002052.5
    assert sequence[start_codon : start_codon + 3] == b"ATG"
