"""Bins: against numpy's percentile, median and digitize cell by cell; ties, chunks, sampling and bad input."""

import json
import logging

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from omics_transformers.modeling.value_bins import STRATEGIES, ValueBins, ValueBinsFitter


def random_counts(cells: int, genes: int, seed: int = 0, density: float = 0.3) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.geometric(0.4, (cells, genes)) * (random.random((cells, genes)) < density)


def fit(counts, strategy: str = "gene_normalized", *, chunk: int = 10, **options) -> ValueBins:
    fitter = ValueBinsFitter(strategy, counts.shape[1], **options)
    for start in range(0, counts.shape[0], chunk):
        fitter.add(counts[start : start + chunk])
    return fitter.finish()


def plain_values(counts: np.ndarray, strategy: str) -> np.ndarray:
    """Dense, row by row; also the gene's scale for gene_normalized, column by column."""
    values = np.zeros(counts.shape)
    for cell, row in enumerate(counts):
        if row.sum():
            normalized = row / row.sum() * 10_000
            values[cell] = np.log2(1 + normalized) if strategy == "scbert" else np.log1p(normalized)
    if strategy == "gene_normalized":
        for gene in range(counts.shape[1]):
            if values[:, gene].any():
                values[:, gene] /= np.median(values[values[:, gene] > 0, gene])
    return values


def plain_bins(values: np.ndarray, strategy: str, num_bins: int) -> tuple[list[float], np.ndarray]:
    present = values[values > 0]
    if strategy == "scbert":
        return list(range(2, num_bins + 1)), np.minimum(np.floor(values), num_bins).astype(np.uint8)
    if strategy == "absolute":
        edges = [present.max() * number / num_bins for number in range(1, num_bins)]
    else:
        edges = np.percentile(present, [100 * number / num_bins for number in range(1, num_bins)]).tolist()
    return edges, np.where(values > 0, np.digitize(values, edges) + 1, 0).astype(np.uint8)


@pytest.mark.parity
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("num_bins", [2, 5, 7])
def test_bins_are_numpys(strategy: str, num_bins: int) -> None:
    counts = random_counts(60, 23) * (10 if strategy == "scbert" else 1)
    counts[7] = 0  # a cell without any value
    counts[:, 5] = 0  # a gene never seen
    counts[0, :] = 1_000 * (np.arange(23) == 0) + (np.arange(23) == 1)  # values below 1 in log2 for scbert come here
    values = plain_values(counts, strategy)
    edges, expected = plain_bins(values, strategy, num_bins)
    bins = fit(sp.csr_matrix(counts), strategy, num_bins=num_bins)
    assert bins.edges.tolist() == edges
    binned = bins.bin(sp.csr_matrix(counts))
    assert binned.dtype == np.uint8
    np.testing.assert_array_equal(binned, expected)
    np.testing.assert_array_equal(bins.bin(counts), expected)  # dense
    assert bins.genes_unseen == 1 and bins.num_genes == 23
    assert bins.values_seen == bins.values_fitted == (expected > 0).sum()
    assert (bins.scales is not None) == (strategy == "gene_normalized")
    means = [values[expected == number].mean() for number in range(1, num_bins + 1) if (expected == number).any()]
    filled = [0, *(number for number in range(1, num_bins + 1) if (expected == number).any())]
    np.testing.assert_allclose(bins.centres[filled], [0, *means], rtol=1e-12)


def test_values_below_one_are_zero_for_scbert() -> None:
    counts = np.array([[99_999, 1, 0], [5_000, 4_999, 1]])
    bins = fit(counts, "scbert")
    assert bins.bin(counts).tolist() == [[5, 0, 0], [5, 5, 1]]  # 10,000 x 1 / 100,000 = 0.1, log2(1.1) < 1
    assert bins.values_seen == 4


def test_gene_normalized_bins_are_evenly_filled() -> None:
    random = np.random.default_rng(0)
    counts = random.poisson(random.gamma(2, 3, (300, 1)) * random.gamma(2, 3, (1, 80)))
    filled = np.bincount(fit(counts).bin(counts).ravel(), minlength=6)[1:] / (counts > 0).sum()
    np.testing.assert_allclose(filled, 0.2, atol=0.002)


def test_a_value_equal_to_an_edge_is_in_the_upper_bin() -> None:
    bins = ValueBins("quartile", edges=np.log1p([10, 100, 1000, 5000]), centres=np.arange(6))
    counts = np.array([[10, 100, 1000, 5000, 9, 3881]])  # they sum to 10,000
    assert bins.bin(counts).tolist() == [[2, 3, 4, 5, 1, 4]]


def test_ties_leave_bins_empty_and_are_told(caplog: pytest.LogCaptureFixture) -> None:
    counts = np.eye(20, dtype=int)  # all values are equal
    with caplog.at_level(logging.WARNING):
        bins = fit(counts)
    assert "edges of the bins are equal" in caplog.text
    assert set(np.unique(bins.bin(counts))) == {0, 5}
    assert bins.edges.tolist() == [1.0] * 4 and (np.diff(bins.centres) >= 0).all()


def test_a_gene_never_seen_has_scale_one_and_can_still_be_binned() -> None:
    counts = random_counts(50, 6)
    counts[:, 2] = 0
    bins = fit(counts)
    assert bins.scales[2] == 1 and bins.genes_unseen == 1
    new = np.array([[0, 0, 3, 1, 0, 0]])
    assert bins.bin(new)[0, 2] == 5


@given(
    arrays(np.int64, st.tuples(st.integers(2, 12), st.integers(1, 6)), elements=st.integers(0, 60)),
    st.sampled_from(STRATEGIES),
    st.integers(2, 8),
)
def test_bins_rise_with_the_value_within_a_gene(counts: np.ndarray, strategy: str, num_bins: int) -> None:
    counts = np.vstack([counts, np.full((1, counts.shape[1]), 3)])
    bins = fit(counts, strategy, num_bins=num_bins)
    values, binned = bins.scaled_values(counts).toarray(), bins.bin(counts)
    for gene in range(counts.shape[1]):
        order = np.argsort(values[:, gene])
        assert (np.diff(binned[order, gene].astype(int)) >= 0).all()
    assert binned.max() <= num_bins
    zero = binned == 0
    assert zero[counts == 0].all() and (strategy == "scbert" or not zero[counts > 0].any())
    assert (np.diff(bins.centres) >= 0).all()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("maximum_values", [10**6, 900, 1])
def test_chunks_do_not_matter(strategy: str, maximum_values: int) -> None:
    counts = sp.csr_matrix(random_counts(200, 40) * 5)
    fitted = [fit(counts, strategy, chunk=chunk, maximum_values=maximum_values).to_dict() for chunk in (1, 7, 64, 200)]
    assert fitted[0] == fitted[1] == fitted[2] == fitted[3]


@pytest.mark.parametrize("strategy", ["gene_normalized", "quartile"])
def test_a_sample_is_seeded_close_and_told(strategy: str) -> None:
    counts = sp.csr_matrix(random_counts(3_000, 50))
    exact = fit(counts, strategy, chunk=500)
    sampled = [fit(counts, strategy, chunk=500, maximum_values=9_000, seed=seed) for seed in (1, 1, 2)]
    assert sampled[0].to_dict() == sampled[1].to_dict() != sampled[2].to_dict()
    assert 8_900 < sampled[0].values_fitted <= 9_000 < sampled[0].values_seen == counts.nnz == exact.values_fitted
    np.testing.assert_allclose(sampled[0].edges, exact.edges, rtol=0.02)


def test_a_gene_that_sampling_leaves_out_is_scaled_by_its_mean() -> None:
    counts = random_counts(500, 10)
    counts[:, 9] = 0
    counts[[3, 4], 9] = [1, 40]
    values = plain_values(counts, "quartile")
    bins = fit(counts, maximum_values=30, seed=1)
    assert bins.genes_scaled_by_mean >= 1 and bins.genes_unseen == 0
    assert bins.scales[9] == pytest.approx(values[[3, 4], 9].mean())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_bins_survive_json(strategy: str) -> None:
    counts = random_counts(50, 8)
    bins = fit(counts, strategy)
    again = ValueBins.from_dict(json.loads(json.dumps(bins.to_dict())))
    assert again.to_dict() == bins.to_dict()
    np.testing.assert_array_equal(again.bin(counts), bins.bin(counts))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_expected_values_undo_the_scaling(strategy: str) -> None:
    counts = random_counts(50, 8) * 4
    bins = fit(counts, strategy, num_bins=12 if strategy == "scbert" else 5)
    certain = np.eye(len(bins.centres))[bins.bin(counts)]
    expected = bins.expected_log_values(certain)
    truth = plain_values(counts, "quartile")
    assert (expected[counts == 0] == 0).all()
    # Within a bin the centre stands for all: of equal percentiles, its mean is the values' mean.
    assert expected.sum() == pytest.approx(truth.sum(), rel=0.05)
    assert np.corrcoef(expected.ravel(), truth.ravel())[0, 1] > 0.95
    halves = (certain + np.eye(len(bins.centres))[np.zeros(counts.shape, int)]) / 2
    np.testing.assert_allclose(bins.expected_log_values(halves), expected / 2)


def test_counts_are_not_changed() -> None:
    counts = sp.csr_matrix(random_counts(20, 5).astype(np.float64))
    before = counts.copy()
    bins = fit(counts)
    bins.bin(counts)
    assert (counts != before).nnz == 0


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.ones((2, 4)), "counts have 4 genes and the bins are of 3"),
        (np.array([[0, 1, -2]]), "1 counts are negative, the first -2.0 in cell 0, gene number 2"),
        (np.array([[0, 1, 1], [np.nan, 0, 1]]), "1 counts are not finite, the first nan in cell 1, gene number 0"),
    ],
)
def test_counts_that_are_none_are_refused(counts: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(random_counts(30, 3), "quartile").bin(counts)
    with pytest.raises(ValueError, match=message):
        ValueBinsFitter("quartile", 3).add(counts)


def test_nothing_to_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="no cell has a non-zero value"):
        ValueBinsFitter("quartile", 3).finish()
    with pytest.raises(ValueError, match="no cell has a non-zero value"):
        fit(np.zeros((4, 3)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "median"}, "no binning strategy 'median': choose one of gene_normalized"),
        ({"num_bins": 1}, "num_bins is 1: give 2 to 254"),
        ({"num_bins": 255}, "num_bins is 255"),
        ({"target_total": 0}, "target_total is 0"),
        ({"num_genes": 0}, "num_genes is 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ValueBinsFitter(**{"strategy": "quartile", "num_genes": 3, **options})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": [1, 2, 3]}, "edges of 5 bins are .*expected 4 numbers, ascending"),
        ({"edges": [1, 2, 4, 3]}, "ascending"),
        ({"centres": [0, 1, 2, 3, 4]}, "centres of 5 bins"),
        ({"scales": None}, "lack scales"),
        ({"strategy": "quartile"}, "have scales"),
        ({"scales": [1.0, 0.0, 1.0]}, "1 scales are not positive, the first 0.0 of gene number 1"),
        ({"scales": [1.0]}, "expected one a gene, of 3 genes"),
        ({"edge": 3}, "edge unknown"),
    ],
)
def test_broken_fitted_bins_are_refused(change: dict, message: str) -> None:
    dictionary = fit(random_counts(30, 3)).to_dict()
    with pytest.raises(ValueError, match=message):
        ValueBins.from_dict({**dictionary, **change})
    with pytest.raises(ValueError, match="centres missing"):
        ValueBins.from_dict({name: value for name, value in dictionary.items() if name != "centres"})


@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 6), (2, 3, 5)])
def test_probabilities_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(cells, 3, 6\)"):
        fit(random_counts(30, 3)).expected_log_values(np.zeros(shape))
