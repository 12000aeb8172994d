"""The ranking metric against Rax, SciPy and plain counting of orders, in pieces and over processes, in flat memory."""

import itertools
import logging
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from omics_transformers.training.ranking_metric import CHANCES, SCORES, RegionRankingMetric

FILE = Path(__file__).parents[1] / "training" / "ranking_metric.py"
Array = npt.NDArray[Any]


def lists(number: int = 200, regions: int = 3, *, seed: int = 0, masked: float = 0.0) -> tuple[Array, Array, Array]:
    """Scores that know something of the counts, counts with ties, and a mask."""
    random = np.random.default_rng(seed)
    counts = random.choice([0.0, 0.1, 0.25, 0.5, 1.5], (number, regions))
    scores = counts + random.normal(size=counts.shape).round(1)  # rounded: some tie
    return scores, counts, random.random(counts.shape) >= masked


@st.composite
def some_lists(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """Lists of up to six regions with ties of scores and counts and masks; each has two different counts at least."""
    regions, number = draw(st.integers(2, 6)), draw(st.integers(1, 5))
    size = {"min_size": number * regions, "max_size": number * regions}
    scores = np.array(draw(st.lists(st.sampled_from([-1.5, -0.25, 0.0, 0.5, 2.0, 3.0]), **size)), dtype=np.float64)
    counts = np.array(draw(st.lists(st.sampled_from([0.0, 0.1, 0.5, 2.0, 3.0]), **size)), dtype=np.float64)
    mask = np.array(draw(st.lists(st.booleans(), **size)), dtype=bool)
    scores, counts, mask = (array.reshape(number, regions) for array in (scores, counts, mask))
    mask[:, :2] = True
    counts[:, 0] = counts[:, 1] + 0.5
    return scores, counts, mask


def dense_ranks(counts: Array) -> Array:
    return np.unique(counts, return_inverse=True)[1].astype(np.float64)


def compute(scores: Array, counts: Array, mask: Array | None = None, **options: Any) -> dict[str, Any]:
    return RegionRankingMetric(**options).compute(predictions=scores, references=counts, region_mask=mask)


@pytest.fixture(scope="module")
def rax() -> Any:
    """Rax in double precision; skips where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = pytest.importorskip("rax")
        jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    yield module
    jax.config.update("jax_enable_x64", False)


def padded(sample: tuple[Array, Array, Array]) -> tuple[Array, ...]:
    """The same lists in a (5, 6) batch, the rest masked: JAX compiles for each shape anew."""
    by = [(0, 5 - sample[0].shape[0]), (0, 6 - sample[0].shape[1])]
    return tuple(np.pad(array, by) for array in sample)


def untied(scores: Array) -> Array:
    """Scores without ties, which Rax breaks by place."""
    return scores + 1e-4 * np.arange(scores.shape[1])


@pytest.mark.parity
@settings(max_examples=25)
@given(some_lists())
@pytest.mark.parametrize(
    ("labels", "gain"), [("ranks", "exponential"), ("counts", "exponential"), ("counts", "linear")]
)
def test_ndcg_is_that_of_rax(rax: Any, labels: Any, gain: Any, sample: tuple[Array, Array, Array]) -> None:
    scores, counts, mask = padded(sample)
    scores = untied(scores)
    relevance = counts.copy()
    if labels == "ranks":
        for row, of_list in enumerate(mask):
            relevance[row, of_list] = dense_ranks(counts[row, of_list])
    options = {"gain_fn": lambda label: label} if gain == "linear" else {}
    expected = float(rax.ndcg_metric(scores, relevance, where=mask, **options))
    assert compute(scores, counts, mask, labels=labels, gain=gain)["ndcg"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parity
@settings(max_examples=25)
@given(some_lists())
def test_pair_accuracy_is_that_of_rax(rax: Any, sample: tuple[Array, Array, Array]) -> None:
    scores, counts, mask = padded(sample)
    either = [float(rax.opa_metric(sign * scores, sign * counts, where=mask)) for sign in (1, -1)]
    assert either[0] == pytest.approx(either[1])
    right_ties = sum(
        ((s[:, None] == s) & (c[:, None] > c))[np.ix_(m, m)].sum() / max((c[:, None] > c)[np.ix_(m, m)].sum(), 1)
        for s, c, m in zip(scores, counts, mask, strict=True)
    )  # Rax takes tied scores for wrong
    expected = either[0] + right_ties / 2 / mask.any(axis=1).sum()
    assert compute(scores, counts, mask)["pair_accuracy"] == pytest.approx(expected, abs=1e-6)
    strict = untied(scores)
    expected = float(rax.opa_metric(strict, counts, where=mask))
    assert compute(strict, counts, mask)["pair_accuracy"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parity
@settings(max_examples=60)
@given(some_lists())
def test_kendalls_tau_is_that_of_scipy(sample: tuple[Array, Array, Array]) -> None:
    taus = [kendalltau(s[m], c[m]).statistic for s, c, m in zip(*sample, strict=True)]
    assert compute(*sample)["kendall_tau"] == pytest.approx(np.nan_to_num(taus).mean(), abs=1e-6)


@pytest.mark.parity
@settings(max_examples=40)
@given(some_lists())
def test_ties_earn_the_mean_over_random_tie_breaking(sample: tuple[Array, Array, Array]) -> None:
    """Every order that the scores allow, counted one by one; chance is the same with all scores tied."""
    scores, counts, mask = sample
    for s, name in ((scores, ""), (np.zeros_like(scores), "_chance")):
        found = compute(scores, counts, mask)
        expected = np.array([plain_scores(*row) for row in zip(s, counts, mask, strict=True)]).mean(axis=0)
        for score, value in zip(("exact_order", "pair_accuracy", "ndcg"), expected, strict=True):
            assert found[score + name] == pytest.approx(value, abs=1e-9)


def plain_scores(scores: Array, counts: Array, mask: Array) -> Array:
    """Exact order, pair accuracy and NDCG, means over the orders that sort the scores downwards."""
    scores, counts = scores[mask], counts[mask]
    gains = 2 ** dense_ranks(counts) - 1
    discounts = 1 / np.log2(np.arange(len(counts)) + 2)
    ideal = np.sort(gains)[::-1] @ discounts
    drawn = []
    for order in itertools.permutations(range(len(counts))):
        if (np.diff(scores[list(order)]) > 0).any():
            continue
        c = counts[list(order)]
        pairs = [first > second for first, second in itertools.combinations(c, 2) if first != second]
        drawn.append((all(pairs), np.mean(pairs), gains[list(order)] @ discounts / ideal))
    return np.mean(drawn, axis=0)


def test_on_paper() -> None:
    """Right, one neighbouring pair swapped, and the reverse, of three distinct counts: chance 1/6."""
    scores = np.array([[3.0, 2, 1], [2, 3, 1], [1, 2, 3]])
    found = compute(scores, np.array([[0.5, 0.2, 0.0]] * 3))
    assert found["exact_order"] == pytest.approx(1 / 3)
    assert found["pair_accuracy"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert found["kendall_tau"] == pytest.approx((1 + 1 / 3 - 1) / 3)
    second = 1 / np.log2(3)
    ideal = 3 + second
    assert found["ndcg"] == pytest.approx((1 + (1 + 3 * second) / ideal + (3 / 2 + second) / ideal) / 3)
    assert found["exact_order_chance"] == pytest.approx(1 / 6)
    assert (found["pair_accuracy_chance"], found["kendall_tau_chance"]) == (0.5, 0)
    assert found["ndcg_chance"] == pytest.approx(4 * (1 + second + 1 / 2) / 3 / ideal)
    assert (found["lists"], found["groups"], found["lists_without_order"]) == (3, 1, 0)


def test_chance_of_exact_order_grows_with_ties_of_counts() -> None:
    found = compute(np.array([[1.0, 2, 3]]), np.array([[0.0, 0.0, 1.0]]))
    assert (found["exact_order"], found["exact_order_chance"]) == (1.0, pytest.approx(1 / 3))


def test_chance_is_what_random_scores_earn() -> None:
    _, counts, mask = lists(20_000, 4, masked=0.2)
    found = compute(np.random.default_rng(1).normal(size=counts.shape), counts, mask)
    for score in SCORES:
        assert found[score] == pytest.approx(found[f"{score}_chance"], abs=0.015)


def test_lists_without_an_order_are_counted_apart(caplog: pytest.LogCaptureFixture) -> None:
    scores, counts, _ = lists(40)
    expected = compute(scores, counts)
    nothing = np.zeros((6, 3))
    nothing[3:] = 0.5  # tied, and above 0
    metric = RegionRankingMetric()
    metric.add_batch(predictions=scores, references=counts, groups=np.arange(40))
    metric.add_batch(predictions=scores[:6], references=nothing, groups=np.full(6, 99))
    metric.add_batch(predictions=scores[:2] * np.nan, references=counts[:2], region_mask=np.zeros((2, 3)))
    metric.add(prediction=scores[0], reference=counts[0], region_mask=[True, False, False])
    assert len(metric) == 49
    found = metric.compute()
    assert found["lists_without_order"] == expected["lists_without_order"] + 9
    assert found["groups"] == found["lists"] == expected["lists"]
    for score in (*SCORES, *CHANCES):
        assert found[score] == pytest.approx(expected[score])
    with caplog.at_level(logging.WARNING):
        empty = compute(scores[:6], nothing)
    assert all(np.isnan(empty[score]) for score in (*SCORES, *CHANCES))
    assert (empty["lists"], empty["groups"], empty["lists_without_order"]) == (0, 0, 6)
    assert "none of 6 lists has two regions with different counts" in caplog.text


def test_what_is_masked_does_not_matter() -> None:
    scores, counts, mask = lists(100, 5, masked=0.4)
    expected = compute(scores, counts, mask)
    nothing = np.where(mask, 0.0, np.nan)
    assert compute(scores + nothing, counts + nothing, mask) == expected
    swapped = np.random.default_rng(2).permutation(5)  # nor the order in which regions are given
    assert compute(scores[:, swapped], counts[:, swapped], mask[:, swapped]) == pytest.approx(expected)
    wider = [np.pad(array, ((0, 0), (0, 2))) for array in (scores, counts, mask)]
    assert compute(*wider) == pytest.approx(expected)


def test_large_counts_and_long_lists_do_not_overflow() -> None:
    scores, counts, _ = lists(3, 1500)
    found = compute(scores, 1e4 * counts, labels="counts")
    assert all(np.isfinite(found[score]) for score in (*SCORES, *CHANCES))
    perfect = compute(counts, np.arange(4500.0).reshape(3, 1500) + counts)
    assert np.isfinite(perfect["ndcg"])


def test_pieces_and_merged_processes_give_the_same_as_one_go() -> None:
    scores, counts, mask = lists(150, 4, masked=0.2)
    groups = np.arange(150) // 20
    at_once = RegionRankingMetric(seed=1)
    batch = {"predictions": scores, "references": counts, "region_mask": mask, "groups": groups}
    expected = at_once.compute(**batch, resamples=50)
    pieces = RegionRankingMetric(seed=1)
    for row in np.random.default_rng(0).permutation(150):
        pieces.add(prediction=scores[row], reference=counts[row], region_mask=mask[row], group=int(groups[row]))
    assert_same(pieces.compute(resamples=50), expected)
    processes = [RegionRankingMetric(seed=1) for _ in range(3)]
    for rank, metric in enumerate(processes):
        metric.add_batch(**{name: array[rank::3] for name, array in batch.items()})
    merged = RegionRankingMetric(seed=1)
    for metric in processes:
        merged.merge(metric.state())
    assert_same(merged.compute(resamples=50), expected)
    dense = [metric.state(group_ids=range(10)) for metric in processes]  # as an all-reduce over processes adds them
    merged.merge({"groups": np.arange(10), "sums": sum(state["sums"] for state in dense)})
    assert_same(merged.compute(resamples=50), expected)
    with pytest.raises(ValueError, match="no list was added"):
        merged.compute()  # forgotten
    assert merged.state()["sums"].shape == (0, 10)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-12, abs=1e-12), name


def test_intervals_are_those_of_a_bootstrap_over_groups(caplog: pytest.LogCaptureFixture) -> None:
    scores, counts, _ = lists(400)
    groups = np.repeat(np.arange(12), np.random.default_rng(0).multinomial(400, np.full(12, 1 / 12)))
    metric = RegionRankingMetric(seed=3)
    batch = {"predictions": scores, "references": counts, "groups": groups}
    result = metric.compute(**batch, resamples=1000)
    random = np.random.default_rng(5)
    drawn = []
    for _ in range(300):
        rows = np.concatenate([np.flatnonzero(groups == group) for group in random.integers(12, size=12)])
        drawn.append([compute(scores[rows], counts[rows])[score] for score in SCORES])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    for score, *ends in zip(SCORES, low, high, strict=True):
        np.testing.assert_allclose(result[f"{score}_interval"], ends, atol=0.02)
        assert result[f"{score}_interval"][0] < result[score] < result[f"{score}_interval"][1]
    assert RegionRankingMetric(seed=3).compute(**batch, resamples=1000) == result
    with caplog.at_level(logging.WARNING):
        alone = RegionRankingMetric().compute(predictions=scores, references=counts, resamples=10)
    assert [alone[f"{score}_interval"] for score in SCORES] == [None] * 4
    assert "the lists lie in 1 group" in caplog.text


def test_memory_is_flat_in_the_number_of_lists() -> None:
    scores, counts, _ = lists(5_000)
    metric = RegionRankingMetric()
    metric.add_batch(predictions=scores, references=counts)
    tracemalloc.start()
    for _ in range(10):
        metric.add_batch(predictions=scores, references=counts)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 20_000
    assert metric.compute()["lists"] == pytest.approx(11 * compute(scores, counts)["lists"])


def test_loads_from_its_path(tmp_path: Path) -> None:
    scores, counts, mask = lists(masked=0.1)
    metric = evaluate.load(str(FILE), labels="counts", gain="linear", cache_dir=str(tmp_path))
    found = metric.compute(predictions=scores, references=counts, region_mask=mask)
    assert found == compute(scores, counts, mask, labels="counts", gain="linear")
    assert "Kendall's tau" in metric.description
    assert not list(tmp_path.rglob("*.arrow"))


def test_says_what_does_not_fit() -> None:
    scores, counts, mask = lists(2)
    metric = RegionRankingMetric()
    with pytest.raises(ValueError, match=r"predictions have shape \(2, 2\), references \(2, 3\)"):
        metric.add_batch(predictions=scores[:, :2], references=counts)
    with pytest.raises(ValueError, match=r"region_mask \(2, 1\)"):
        metric.add_batch(predictions=scores, references=counts, region_mask=mask[:, :1])
    with pytest.raises(ValueError, match="expected a group a list"):
        metric.add_batch(predictions=scores, references=counts, groups=[1])
    with pytest.raises(ValueError, match="1 of 6 predictions are NaN, first in list 1"):
        metric.add_batch(predictions=np.where(np.arange(6).reshape(2, 3) == 4, np.nan, scores), references=counts)
    for bad in (-0.5, np.nan, np.inf):
        with pytest.raises(ValueError, match="6 of 6 references are negative, NaN or infinite"):
            metric.add_batch(predictions=scores, references=np.full_like(counts, bad))
    with pytest.raises(ValueError, match="no list was added"):
        metric.compute()
    with pytest.raises(ValueError, match="labels is 'grades': expected one of ranks, counts"):
        RegionRankingMetric("grades")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="gain is 'steep'"):
        RegionRankingMetric(gain="steep")  # type: ignore[arg-type]
    metric.add_batch(predictions=scores, references=counts, groups=[4, 5])
    with pytest.raises(ValueError, match=r"not named: \[5\]"):
        metric.state(group_ids=range(5))
    with pytest.raises(ValueError, match="expected \\(1 groups, 10\\)"):
        metric.merge({"groups": np.array([0]), "sums": np.zeros((1, 3))})
