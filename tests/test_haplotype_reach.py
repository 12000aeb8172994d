"""Distinct haplotypes of many donors at once against one haplotype at a time."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omics_transformers.data_scripts import donor_variants
from omics_transformers.data_scripts.donor_variants import DonorSequenceVariants
from omics_transformers.data_scripts.edited_windows import apply_variants, overlap, sort_variants
from omics_transformers.data_scripts.genomes import Genome, open_genome
from omics_transformers.data_scripts.promoters import donor_promoters, promoter_windows
from omics_transformers.data_scripts.sequence_variants import SequenceVariant

SEQUENCE = "".join(np.random.default_rng(8).choice(list("ACGT"), 120))
GENES = [("F", "+", 30), ("G", "-", 60), ("H", "+", 85), ("I", "-", 61)]


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    path = tmp_path_factory.mktemp("reach") / "g.fa"
    path.write_text(f">1\n{SEQUENCE}\n")
    return open_genome(path)


@st.composite
def donors_variants(draw: st.DrawFn) -> DonorSequenceVariants:
    """Variants of every kind, overlapping perhaps, of three donors; no haplotype carries two that overlap."""
    variants = {}
    for _ in range(draw(st.integers(0, 9))):
        start = draw(st.integers(1, 112))
        end = start + draw(st.integers(1, 7))
        kind = draw(st.sampled_from(["sequence", "snv", "insertion", "<INV>", "<DUP>", "<DEL>"]))
        if kind.startswith("<"):
            variant = SequenceVariant("chr1", start, end, "", kind)
        else:
            end = end if kind == "sequence" else start + 1
            put = draw(st.text("ACGT", min_size=1, max_size=1 if kind == "snv" else 7))
            put = SEQUENCE[start] + put if kind == "insertion" else put
            if put == SEQUENCE[start:end]:
                continue
            variant = SequenceVariant("chr1", start, end, SEQUENCE[start:end], put)
        variants[str(variant)] = variant
    ordered = sort_variants(list(variants.values()))
    carried = np.zeros((len(ordered), 6), dtype=np.int8)
    for haplotype in range(6):
        for row, variant in enumerate(ordered):
            before = [ordered[other].edit() for other in np.flatnonzero(carried[:row, haplotype])]
            if draw(st.booleans()) and not any(overlap(edit, variant.edit()) for edit in before):
                carried[row, haplotype] = 1
    return DonorSequenceVariants(["a", "b", "c"], ordered, carried.reshape(-1, 3, 2))


@pytest.mark.parity
@settings(max_examples=150)
@given(donors_variants(), st.integers(1, 70), st.booleans())
def test_each_haplotype_is_as_if_alone(
    genome: Genome, variants: DonorSequenceVariants, window_bp: int, oriented: bool
) -> None:
    genes = pd.DataFrame(GENES, columns=["gene_id", "strand", "tss"]).assign(contig="chr1", symbol="")
    windows = promoter_windows(genome, genes, window_bp=window_bp, orient_by_strand=oriented)
    promoters = donor_promoters(windows, variants)
    sequences = [promoters.sequence(windows, number) for number in range(len(promoters.haplotype_genes))]
    used = set()
    for donor, name in enumerate(variants.donors):
        for gene, (_, strand, tss) in enumerate(GENES):
            for haplotype in (0, 1):
                alone = apply_variants(
                    genome,
                    variants.haplotype(name, haplotype),
                    contig="1",
                    tss=tss,
                    strand=strand,
                    window_bp=window_bp,
                    orient_by_strand=oriented,
                )
                number = promoters.haplotype_index[donor, gene, haplotype]
                found = windows.sequence(gene) if number == -1 else sequences[number]
                assert found.decode() == alone.sequence
                rows = [] if number == -1 else promoters.haplotype_variants[number]
                assert [variants.variants[row] for row in rows] == alone.applied
                used.update(rows)
            pair = promoters.index[donor, gene]
            both = sorted(promoters.haplotype_index[donor, gene].tolist())
            assert both == ([-1, -1] if pair == -1 else promoters.promoter_haplotypes[pair].tolist())
            assert pair == -1 or promoters.promoter_genes[pair] == gene
    for gene in range(len(GENES)):  # each distinct one once
        of_gene = [
            tuple(rows)
            for rows, owner in zip(promoters.haplotype_variants, promoters.haplotype_genes, strict=True)
            if owner == gene
        ]
        assert len(set(of_gene)) == len(of_gene)
    assert variants.report.get("variants that reach no window", 0) == len(variants) - len(used)


def row_of(variant: SequenceVariant, haplotypes: np.ndarray) -> str:
    genotypes = [f"{first}|{second}" for first, second in haplotypes]
    if variant.is_symbolic:
        site = [
            str(variant.start),
            ".",
            SEQUENCE[variant.start - 1],
            variant.alternative,
            ".",
            ".",
            f"END={variant.end}",
        ]
    else:
        site = [str(variant.start + 1), ".", variant.reference, variant.alternative, ".", ".", "."]
    return "\t".join(["chr1", *site, "GT", *genotypes]) + "\n"


@settings(max_examples=60)
@given(donors_variants(), st.integers(1, 40), st.booleans())
def test_what_is_read_around_windows_is_enough(
    genome: Genome, variants: DonorSequenceVariants, window_bp: int, oriented: bool
) -> None:
    """From a VCF, with no margin around the windows to begin with, as from all of the variants."""
    genes = pd.DataFrame(GENES, columns=["gene_id", "strand", "tss"]).assign(contig="1", symbol="")
    windows = promoter_windows(genome, genes, window_bp=window_bp, orient_by_strand=oriented)
    header = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\tc\n"
    rows = [row_of(*pair) for pair in zip(variants.variants, variants.haplotypes, strict=True)]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(donor_variants, "_FIRST_MARGIN_BP", 0)
        (Path(folder) / "v.vcf").write_text(header + "".join(rows))
        read = donor_variants.read_donor_variants(Path(folder) / "v.vcf", windows=windows.genes, unsorted="sort")
    found, expected = donor_promoters(windows, read), donor_promoters(windows, variants)
    np.testing.assert_array_equal(found.haplotype_index == -1, expected.haplotype_index == -1)
    for number, other in zip(found.haplotype_index.ravel(), expected.haplotype_index.ravel(), strict=True):
        if number != -1:
            assert found.sequence(windows, number) == expected.sequence(windows, other)


def test_five_hundred_donors_share_their_haplotypes(genome: Genome) -> None:
    """Two common insertions and an SNV: at most seven haplotypes a window, however many donors."""
    generator = np.random.default_rng(0)
    variants = [
        SequenceVariant("1", 40, 41, SEQUENCE[40], SEQUENCE[40] + "ACG"),
        SequenceVariant("1", 55, 56, SEQUENCE[55], "ACGT".replace(SEQUENCE[55], "")[0]),
        SequenceVariant("1", 70, 71, SEQUENCE[70], SEQUENCE[70] + "TT"),
    ]
    carried = generator.integers(0, 2, (3, 500, 2)).astype(np.int8)
    found = DonorSequenceVariants([f"d{number}" for number in range(500)], variants, carried)
    genes = pd.DataFrame(GENES, columns=["gene_id", "strand", "tss"]).assign(contig="1", symbol="")
    promoters = donor_promoters(promoter_windows(genome, genes, window_bp=50), found)
    assert np.bincount(promoters.haplotype_genes).tolist() == [1, 7, 1, 7]
    assert promoters.index.shape == (500, 4)
