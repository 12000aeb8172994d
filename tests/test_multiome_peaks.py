"""Peaks beside genes: every column of a matrix has a fate, and peaks of another assembly are refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from omics_transformers.data_scripts.multiome_peaks import (
    ALIGNED,
    BLACKLISTED,
    NO_GENE,
    NOT_LIFTED,
    OTHER_FEATURE,
    PeakRules,
    align_genes,
    align_peaks,
    contig_lengths_of,
    read_blacklists,
    require_within_contigs,
)
from omics_transformers.modeling.peak_gene_rings import GeneLoci, Rings


def loci(*places: tuple[str, int, int, str]) -> GeneLoci:
    contig, start, end, strand = zip(*places, strict=True)
    return GeneLoci(np.array(contig, object), np.array(start), np.array(end), np.array(strand, object))


def peaks(*places: tuple[int, str, int, int]) -> pd.DataFrame:
    table = pd.DataFrame(places, columns=["column", "contig", "start", "end"])
    return table.assign(name="peak")


GENES = loci(("chr1", 100_000, 101_000, "+"), ("2", 100_000, 101_000, "-"))


def test_genes_sum_their_columns() -> None:
    found = align_genes(np.array([1, -1, 0, 1, -1]), 3, np.array([True, True, True, True, False]))
    assert found.weights.toarray().tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert found.fate.tolist() == [ALIGNED, NO_GENE, ALIGNED, ALIGNED, OTHER_FEATURE]
    assert found.report["genes missing, zero here"] == 1 and found.report["columns of genes"] == 3


def test_every_column_has_a_fate(tmp_path: Path) -> None:
    table = peaks(
        (1, "chr1", 99_900, 100_100),
        (2, "chr1", 115_000, 115_100),
        (3, "chr2", 140_999, 141_000),
        (4, "chr1", 500_000, 500_100),
        (6, "1", 100_400, 100_500),
    )
    bed = tmp_path / "black.bed"
    bed.write_text("chr1\t100450\t100460\n")
    found = align_peaks(table, 7, GENES, PeakRules(Rings(), read_blacklists(bed)), source="file")
    assert found.fate.tolist() == [OTHER_FEATURE, ALIGNED, ALIGNED, ALIGNED, NO_GENE, OTHER_FEATURE, BLACKLISTED]
    expected = np.zeros((7, 2))
    expected[1, 0], expected[2, 0], expected[3, 1] = 1 / 2, 1 / 3, 1 / 6
    np.testing.assert_allclose(found.weights.toarray(), expected, rtol=1e-6)
    assert found.report["peaks linked to no gene"] == 1 and found.report["peaks on the blacklist, left out"] == 1
    within = found.report["peaks per gene"]
    assert [within[f"within {bound} bp"]["mean"] for bound in ("10,000", "20,000", "50,000")] == [0.5, 1.0, 1.5]
    assert read_blacklists(None) is None


@pytest.mark.real_data
def test_peaks_are_lifted(data_folder: Path) -> None:
    chain = data_folder / "annotation" / "hg19ToHg38.over.chain.gz"
    # GATA4's start: hg19 chr8:11,561,710, hg38 11,704,201.
    genes = loci(("chr8", 11_704_201, 11_760_000, "+"))
    table = peaks((0, "chr8", 11_561_700, 11_561_800), (1, "chr99", 5, 10))
    found = align_peaks(table, 2, genes, PeakRules(Rings()), chain=chain, source="file")
    assert found.fate.tolist() == [ALIGNED, NOT_LIFTED] and found.report["lift"]["lifted"] == 1


def test_what_lies_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match=r"file: none of 1 peaks \(on chr7\) lies within 50,000 bp of any of 2 genes"):
        align_peaks(peaks((0, "chr7", 5, 10)), 1, GENES, PeakRules(Rings()), source="file")
    lengths = contig_lengths_of("hg19")
    assert lengths["1"] == 249_250_621
    table = peaks((0, "chr1", 249_250_600, 249_250_621), (1, "chrOdd", 5, 10**9), (2, "1", 249_250_600, 249_250_622))
    with pytest.raises(ValueError, match="file: 1 of 3 end beyond their contig in hg19, the first 1:249,250,600"):
        require_within_contigs(table, lengths, source="file", assembly="hg19")
    with pytest.raises(ValueError, match=r"assembly is 'hg1'; known are .*hg38"):
        contig_lengths_of("hg1")


@pytest.mark.parametrize(("shift", "is_refused"), [(0, False), (7_500, True)])
def test_peaks_that_keep_off_the_starts_are_of_another_assembly(shift: int, is_refused: bool) -> None:
    """600 genes; nine in ten have a peak at their start, and every base is in a peak in one of five cases."""
    random, n_genes = np.random.default_rng(0), 600
    start = 100_000 + 40_000 * np.arange(n_genes)
    genes = GeneLoci(np.full(n_genes, "chr1", object), start, start + 2_000, np.full(n_genes, "+", object))
    at_start = start[random.random(n_genes) < 0.9] - 200 + shift
    anywhere = random.integers(0, start[-1], 12_000)
    places = np.concatenate([at_start, anywhere])
    table = pd.DataFrame({"column": np.arange(len(places)), "contig": "1", "start": places, "end": places + 500})
    if is_refused:
        with pytest.raises(ValueError, match=r"^file: the peaks look like those of another assembly"):
            align_peaks(table, len(table), genes, PeakRules(Rings()), source="file")
    else:
        found = align_peaks(table, len(table), genes, PeakRules(Rings()), source="file")
        assert found.report["assembly check"]["share of TSSs in peaks"] > 0.8
    tiles = align_peaks(table, len(table), genes, PeakRules(Rings()), source="file", are_tiles=True)
    assert tiles.report["assembly check"] == "none: tiles lie everywhere"
