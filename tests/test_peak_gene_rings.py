"""Peaks to genes: against a double loop in plain Python, by hand at the bounds, and on real peaks of two assemblies."""

import gzip
import logging
import re
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.modeling.peak_gene_rings import (
    DEFAULT_RINGS,
    GeneLoci,
    Rings,
    checked_loci,
    contig_key,
    count_links,
    peak_gene_links,
    peak_gene_weights,
    require_same_assembly,
    tss_enrichment,
    weighted_gene_sums,
)

CONTIGS = ["chr1", "1", "chr2", "2", "chrM", "MT", "scaffold"]


def loci(*genes: tuple[str, int, int, str]) -> GeneLoci:
    contig, start, end, strand = zip(*genes, strict=True)
    return GeneLoci(np.array(contig, object), np.array(start), np.array(end), np.array(strand, object))


def links_of_one_gene(gene: tuple[str, int, int, str], peaks: list[tuple[str, int, int]], rings: Rings = DEFAULT_RINGS):
    contig, start, end = zip(*peaks, strict=True)
    links = peak_gene_links(contig, np.array(start), np.array(end), loci(gene), rings)
    return dict(zip(links.peak.tolist(), links.ring.tolist(), strict=True))


def naive_link(peak, gene, rings: Rings) -> tuple[int, int] | None:
    """(ring, distance) base by base of the definition, or None."""
    (peak_contig, start, end), (gene_contig, gene_start, gene_end, strand) = peak, gene
    alias = [name.removeprefix("chr").replace("MT", "M") for name in (peak_contig, gene_contig)]
    if not gene_contig or alias[0] != alias[1]:
        return None
    tss = gene_start if strand == "+" else gene_end - 1
    distance = 0 if start <= tss < end else min(abs(start - tss), abs(end - 1 - tss))
    if rings.gene_body and max(start, gene_start) < min(end, gene_end):
        return 0, distance
    lower = 0
    for ring, bound in enumerate(rings.bounds_bp):
        if lower <= distance < bound:
            return ring, distance
        lower = bound
    return None


@st.composite
def peaks_and_genes(draw):
    # Coordinates on a coarse grid and beside it, so that distances at the very bounds are frequent.
    position = st.builds(lambda step, beside: max(0, 500 * step + beside), st.integers(0, 400), st.integers(-1, 1))
    length = st.one_of(st.integers(1, 3), st.integers(1, 400).map(lambda step: 500 * step))
    contig = st.sampled_from(CONTIGS)
    peaks = draw(st.lists(st.tuples(contig, position, length), min_size=0, max_size=25))
    genes = draw(
        st.lists(st.tuples(st.sampled_from([*CONTIGS, ""]), position, length, st.sampled_from("+-")), max_size=12)
    )
    return [(c, s, s + n) for c, s, n in peaks], [(c, s, s + n, strand) for c, s, n, strand in genes]


@pytest.mark.parity
@given(
    data=peaks_and_genes(),
    bounds=st.sampled_from([(10_000, 20_000, 50_000), (500,), (1, 2, 3), (499, 1000, 1001, 40_000)]),
    gene_body=st.booleans(),
)
def test_links_are_those_of_a_double_loop(data, bounds, gene_body) -> None:
    peaks, genes = data
    rings = Rings(bounds, tuple(1 / (2 + ring) for ring in range(len(bounds))), gene_body)
    contig = [peak[0] for peak in peaks]
    start, end = (np.array([peak[at] for peak in peaks], dtype=np.int64) for at in (1, 2))
    placed = loci(*genes) if genes else GeneLoci(*(np.zeros(0, kind) for kind in (object, int, int, object)))
    expected = {
        (row, column): link
        for row, peak in enumerate(peaks)
        for column, gene in enumerate(genes)
        if (link := naive_link(peak, gene, rings)) is not None
    }
    links = peak_gene_links(contig, start, end, placed, rings)
    pairs = list(zip(links.peak.tolist(), links.gene.tolist(), strict=True))
    assert pairs == sorted(pairs)
    assert dict(zip(pairs, zip(links.ring.tolist(), links.distance_bp.tolist(), strict=True), strict=True)) == expected
    dense = np.zeros((len(peaks), len(genes)), dtype=np.float32)
    for pair, (ring, _) in expected.items():
        dense[pair] = rings.weights[ring]
    weights = peak_gene_weights(contig, start, end, placed, rings)
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights.toarray(), dense)
    counted = count_links(links, rings)
    for ring in range(len(bounds)):
        within = [pair for pair, (of_ring, _) in expected.items() if of_ring <= ring]
        assert counted.peaks_per_gene[ring].tolist() == [
            sum(g == gene for _, g in within) for gene in range(len(genes))
        ]
        assert counted.genes_per_peak[ring].tolist() == [
            sum(p == peak for p, _ in within) for peak in range(len(peaks))
        ]


@pytest.mark.parametrize(("strand", "tss"), [("+", 100_000), ("-", 100_999)])
def test_rings_begin_and_end_at_their_bounds(strand: str, tss: int) -> None:
    """One-base peaks at a distance; the gene of 1 kb lies downstream of its TSS."""
    sign = -1 if strand == "+" else 1  # upstream
    peaks = [
        ("1", tss + sign * away, tss + sign * away + 1) for away in (9_999, 10_000, 19_999, 20_000, 49_999, 50_000)
    ]
    found = links_of_one_gene(("chr1", 100_000, 101_000, strand), peaks)
    assert found == {0: 0, 1: 1, 2: 1, 3: 2, 4: 2}


def test_a_long_peak_counts_once_and_in_the_nearest_ring() -> None:
    found = links_of_one_gene(("chr1", 100_000, 101_000, "+"), [("chr1", 0, 300_000), ("chr1", 55_000, 89_000)])
    assert found == {0: 0, 1: 1}
    weights = peak_gene_weights(["chr1"], np.array([55_000]), np.array([89_000]), loci(("chr1", 100_000, 101_000, "+")))
    assert weights.toarray().tolist() == [[np.float32(1 / 3)]]


def test_the_body_of_a_long_gene_is_in_the_first_ring_unless_switched_off() -> None:
    gene, peak = ("chr1", 100_000, 400_000, "+"), [("chr1", 390_000, 390_500)]
    assert links_of_one_gene(gene, peak) == {0: 0}
    assert links_of_one_gene(gene, peak, Rings(gene_body=False)) == {}


def test_sums_of_a_cell_do_not_depend_on_its_chunk() -> None:
    random = np.random.default_rng(0)
    fragments = sp.random(
        40, 300, density=0.2, random_state=1, format="csr", data_rvs=lambda n: random.integers(1, 5, n)
    )
    weights = sp.csr_matrix(
        random.choice([0, 1 / 2, 1 / 3, 1 / 6], (300, 20), p=[0.7, 0.1, 0.1, 0.1]).astype(np.float32)
    )
    whole = weighted_gene_sums(fragments, weights)
    shuffled = fragments[7:9].tocoo()
    order = random.permutation(shuffled.nnz)
    part = sp.coo_matrix((shuffled.data[order], (shuffled.row[order], shuffled.col[order])), shape=shuffled.shape)
    assert weighted_gene_sums(part.tocsr(), weights).data.tobytes() == whole[7:9].data.tobytes()
    np.testing.assert_allclose(whole.toarray(), fragments.toarray() @ weights.toarray(), rtol=1e-6)
    assert whole.dtype == np.float32


def test_a_million_peaks_and_twenty_thousand_genes_take_seconds() -> None:
    random = np.random.default_rng(0)
    names = np.array([f"chr{number}" for number in range(1, 23)], dtype=object)
    start = random.integers(0, 200_000_000, 1_000_000)
    gene_start = random.integers(0, 200_000_000, 20_000)
    genes = GeneLoci(
        names[random.integers(0, 22, 20_000)],
        gene_start,
        gene_start + random.integers(1_000, 500_000, 20_000),
        np.array(["+", "-"], dtype=object)[random.integers(0, 2, 20_000)],
    )
    began = time.perf_counter()
    weights = peak_gene_weights(names[random.integers(0, 22, len(start))], start, start + 800, genes)
    assert weights.nnz > 500_000
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bounds_bp": (20_000, 10_000), "weights": (1, 1)}, "bounds of the rings are.*ascending"),
        ({"bounds_bp": (10_000, 10_000), "weights": (1, 1)}, "ascending"),
        ({"bounds_bp": (0, 10_000), "weights": (1, 1)}, "above 0"),
        ({"bounds_bp": (0.5,), "weights": (1,)}, "whole bp"),
        ({"bounds_bp": (), "weights": ()}, "bounds of the rings"),
        ({"weights": (1, 2)}, "3 rings have 2 weights"),
        ({"weights": (1, -1, 1)}, "positive"),
        ({"weights": (1, float("nan"), 1)}, "positive"),
    ],
)
def test_rings_that_are_none_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rings(**options)


def test_rings_survive_json() -> None:
    rings = Rings([1_000, 5_000], [1, 0.25], False)
    assert Rings(**rings.to_dict()) == rings
    assert rings.to_dict() == {"bounds_bp": [1000, 5000], "weights": [1.0, 0.25], "gene_body": False}


@pytest.mark.parametrize(
    ("contig", "start", "end", "message"),
    [
        (["chr1"], [0, 1], [5, 6], "peaks have 1 contigs, 2 starts and 2 ends"),
        (["chr1", "chr7"], [0, 9], [5, 9], "1 peaks are no intervals, the first number 1: chr7:9-9"),
        (["chr1"], [-1], [5], "chr1:-1-5"),
        (["chr1"], [0.5], [5.5], "float64.*whole numbers of bp"),
    ],
)
def test_broken_peaks_are_named(contig, start, end, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        peak_gene_links(contig, np.array(start), np.array(end), loci(("chr1", 0, 10, "+")))


def test_broken_loci_are_named_and_unknown_ones_are_not_looked_at() -> None:
    with pytest.raises(ValueError, match=r"1 genes have no strand, the first number 1 at chr2:5-9 with '\.'"):
        checked_loci(loci(("chr1", 0, 10, "+"), ("chr2", 5, 9, ".")))
    with pytest.raises(ValueError, match="2 strands"):
        checked_loci(GeneLoci(np.array(["1"]), np.array([0]), np.array([1]), np.array(["+", "-"])))
    with pytest.raises(ValueError, match="1 genes are no intervals, the first number 0: chr1:9-5"):
        checked_loci(loci(("chr1", 9, 5, "+")))
    assert len(checked_loci(loci(("", -1, -1, "")))[0]) == 1


@pytest.mark.parametrize(("name", "key"), [("chr20", "20"), ("CHR20", "20"), ("X", "X"), ("chrM", "M"), ("MT", "M")])
def test_names_of_one_contig_have_one_key(name: str, key: str) -> None:
    assert contig_key(name) == key


def test_enrichment_by_hand() -> None:
    genes = loci(("chr1", 20_000, 30_000, "+"), ("chr1", 50_000, 60_000, "-"), ("chr9", 0, 5, "+"))
    # One of the TSSs 20,000 and 59,999, and of the eight flanks the base at 25,000 (twice covered counts once).
    start, end = np.array([19_000, 24_900, 25_000]), np.array([20_001, 25_001, 25_050])
    found = tss_enrichment(["1"] * 3, start, end, genes)
    assert found == (0.5, 1 / 8, 7.0, 2)
    both = tss_enrichment(["1"] * 2, np.array([19_000, 59_999]), np.array([20_001, 60_000]), genes)
    assert both == (1.0, 0.0, np.inf, 2)
    nothing = tss_enrichment(["1"], np.array([40_000]), np.array([40_001]), genes)
    assert nothing[:2] == (0, 0) and np.isnan(nothing.odds_ratio)


def genes_and_promoter_peaks(number: int, shift: int) -> tuple[GeneLoci, np.ndarray, np.ndarray]:
    start = 100_000 * np.arange(1, number + 1)
    genes = loci(*(("chr1", int(at), int(at) + 9_000, "+") for at in start))
    scattered = np.random.default_rng(0).integers(0, 100_000 * number, 5 * number)
    peaks = np.concatenate([start - 200 + shift, scattered])
    return genes, peaks, peaks + np.r_[np.full(number, 500), np.full(5 * number, 2_000)]


def test_peaks_of_another_assembly_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    genes, start, end = genes_and_promoter_peaks(400, shift=0)
    assert require_same_assembly(["chr1"] * len(start), start, end, genes).odds_ratio > 5
    genes, start, end = genes_and_promoter_peaks(400, shift=43_210)
    with pytest.raises(ValueError, match=r"another assembly than the genes' \(hg38\).*liftOver"):
        require_same_assembly(["chr1"] * len(start), start, end, genes, assembly="hg38")
    assert not caplog.records


@pytest.mark.parametrize("case", ["few genes", "few peaks", "peaks everywhere"])
def test_too_little_to_tell_is_said_and_not_refused(case: str, caplog: pytest.LogCaptureFixture) -> None:
    genes, start, end = genes_and_promoter_peaks(100 if case == "few genes" else 400, shift=43_210)
    if case == "few peaks":
        start, end = start[:9], end[:9]
    if case == "peaks everywhere":
        start = np.arange(0, 40_200_000, 5_000)
        end = start + 5_000
    with caplog.at_level(logging.WARNING):
        require_same_assembly(["chr1"] * len(start), start, end, genes)
    assert "cannot tell whether peaks and genes are of one assembly" in caplog.text


def refseq_loci(path: Path) -> GeneLoci:
    """Each gene of a genePred table on a main contig, from its first transcript's start to its last one's end."""
    ends: dict[tuple[str, str, str], tuple[int, int]] = {}
    with gzip.open(path, "rt") as lines:
        for line in lines:
            row = line.split("\t")
            if re.fullmatch(r"chr[\dXY]+", row[2]):
                key, low, high = (row[12], row[2], row[3]), int(row[4]), int(row[5])
                first, last = ends.get(key, (low, high))
                ends[key] = (min(first, low), max(last, high))
    return loci(*((contig, *span, strand) for (_, contig, strand), span in ends.items()))


@pytest.mark.real_data
def test_real_peaks_are_told_to_be_of_hg38_and_not_of_hg19(data_folder: Path) -> None:
    peaks = ad.read_h5ad(data_folder / "multiome" / "mosim_pbmc_multiome_atac.h5ad", backed="r").var_names
    contig, start, end = zip(*(name.rsplit("-", 2) for name in peaks), strict=True)
    intervals = contig, np.array(start, dtype=np.int64), np.array(end, dtype=np.int64)
    annotation = data_folder / "annotation"
    right = require_same_assembly(*intervals, refseq_loci(annotation / "ncbiRefSeq_genePred.hg38.txt.gz"))
    assert right.odds_ratio > 7
    with pytest.raises(ValueError, match=r"an odds ratio of 1\.\d\d where at least 4 is expected"):
        require_same_assembly(*intervals, refseq_loci(annotation / "ncbiRefSeq_genePred.hg19.txt.gz"))
