"""The metric against scikit-learn and a plain SOV'99, in pieces and over processes, in flat memory."""

import tracemalloc
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, f1_score, matthews_corrcoef, precision_score, recall_score

from omics_transformers.training.segmentation_metric import (
    BIN_EDGES,
    BINS,
    SCORES,
    SegmentationMetric,
    _bins,
    segment_overlaps,
)

FILE = Path(__file__).parents[1] / "training" / "segmentation_metric.py"
NAMES = ["exon", "intron", "splice_donor"]


def windows(
    number: int = 12, bases: int = 300, *, seed: int = 0, ignored: float = 0.2, spread: float = 1.0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    """Probabilities and labels, (windows, bases, 3), in segments, with ignored bases."""
    random = np.random.default_rng(seed)
    present = random.random((number, bases // 10, 3)) < np.array([0.3, 0.5, 0.02])
    labels = present.repeat(10, axis=1).astype(np.int8)
    log_odds = spread * (random.normal(size=labels.shape) + 1.5 * labels) - 1
    labels[random.random(labels.shape[:2]) < ignored] = -100
    return (1 / (1 + np.exp(-log_odds))).astype(np.float32), labels


def of_element(p: npt.NDArray[Any], labels: npt.NDArray[Any], element: int) -> tuple[npt.NDArray[Any], ...]:
    is_scored = labels[..., element] != -100
    return p[..., element][is_scored], labels[..., element][is_scored]


@pytest.mark.parity
@pytest.mark.parametrize("spread", [0.2, 1.0, 4.0])
def test_agrees_with_scikit_learn(spread: float) -> None:
    p, labels = windows(20, 1000, spread=spread)
    result = SegmentationMetric(NAMES, 0.5).compute(predictions=p, references=labels)
    for number, name in enumerate(NAMES):
        scores, truth = of_element(p, labels, number)
        found, called = result["elements"][name], scores >= 0.5
        assert found["threshold"] == 0.5
        assert (found["scored_bases"], found["positive_bases"]) == (len(truth), truth.sum())
        assert found["mcc"] == pytest.approx(matthews_corrcoef(truth, called), abs=1e-12)
        assert found["f1"] == pytest.approx(f1_score(truth, called, zero_division=0), abs=1e-12)
        assert found["precision"] == pytest.approx(precision_score(truth, called, zero_division=0), abs=1e-12)
        assert found["recall"] == pytest.approx(recall_score(truth, called), abs=1e-12)
        assert found["auprc"] == pytest.approx(average_precision_score(truth, scores), abs=1e-3)
    for score in SCORES:
        assert result[score] == pytest.approx(np.mean([result["elements"][name][score] for name in NAMES]))


@pytest.mark.parity
def test_auprc_is_the_expectation_over_orders_within_bins() -> None:
    random = np.random.default_rng(0)
    levels, truth = random.choice(4, 30, p=[0.5, 0.3, 0.15, 0.05]), random.random(30) < 0.3
    orders = [average_precision_score(truth, levels + random.random(30)) for _ in range(3_000)]
    p, labels = (levels / 4 + 0.1)[None, :, None], truth[None, :, None].astype(np.int8)
    found = SegmentationMetric(["exon"]).compute(predictions=p, references=labels)["auprc"]
    assert found == pytest.approx(np.mean(orders), abs=4 * np.std(orders) / len(orders) ** 0.5)


@pytest.mark.parity
def test_best_threshold_is_that_of_the_best_mcc() -> None:
    p, labels = windows(3)
    result = SegmentationMetric(NAMES, "best").compute(predictions=p, references=labels)
    for number, name in enumerate(NAMES[:2]):
        scores, truth = of_element(p, labels, number)
        best = max(matthews_corrcoef(truth, scores >= edge) for edge in np.unique(scores)[1:])
        found = result["elements"][name]
        assert best - 0.01 < found["mcc"] <= best + 1e-12
        assert found["mcc"] == pytest.approx(matthews_corrcoef(truth, scores >= found["threshold"]), abs=1e-12)


def test_chosen_thresholds_give_the_same_calls_when_they_are_handed_on() -> None:
    p, labels = windows()
    best = SegmentationMetric(NAMES, "best").compute(predictions=p, references=labels)["elements"]
    thresholds = [best[name]["threshold"] for name in NAMES]
    fixed = SegmentationMetric(NAMES, thresholds).compute(predictions=p, references=labels)["elements"]
    for name in NAMES:
        same = [score for score in (*SCORES, "threshold", "positive_bases") if score != "segment_overlap"]
        assert {score: fixed[name][score] for score in same} == {score: best[name][score] for score in same}
        assert np.float32(best[name]["threshold"]) == best[name]["threshold"]


def plain_sov(truth: list[bool], called: list[bool]) -> tuple[float, float]:
    """SOV'99 of one state, as its definition reads: sums over pairs of segments."""

    def segments(flags: list[bool]) -> list[set[int]]:
        found: list[set[int]] = []
        for place, flag in enumerate(flags):
            if flag and place and flags[place - 1]:
                found[-1].add(place)
            elif flag:
                found.append({place})
        return found

    weighted, norm = 0.0, 0.0
    for first in segments(truth):
        pairs = [second for second in segments(called) if first & second]
        norm += len(first) * max(len(pairs), 1)
        for second in pairs:
            overlap, extent = len(first & second), len(first | second)
            allowance = min(extent - overlap, overlap, len(first) // 2, len(second) // 2)
            weighted += (overlap + allowance) / extent * len(first)
    return weighted, norm


@pytest.mark.parity
@given(arrays(bool, st.tuples(st.just(2), st.integers(1, 4), st.integers(1, 40))))
def test_segment_overlaps_are_those_of_the_definition(flags: npt.NDArray[np.bool_]) -> None:
    truth, called = flags
    found = segment_overlaps(truth, called)
    expected = [plain_sov(*pair) for pair in zip(truth.tolist(), called.tolist(), strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_segment_overlap_on_paper() -> None:
    """One segment of 4 called one base too far: (3 + min(2, 3, 2, 2)) / 5 = 1; of two segments, one missed: 1/3."""
    p, labels = np.zeros((1, 20, 1), dtype=np.float32), np.zeros((1, 20, 1), dtype=np.int8)
    labels[0, 2:6], p[0, 3:7] = 1, 0.9
    assert SegmentationMetric(["exon"]).compute(predictions=p, references=labels)["segment_overlap"] == 1.0
    labels[0, 10:18] = 1
    assert SegmentationMetric(["exon"]).compute(predictions=p, references=labels)["segment_overlap"] == 4 / 12


@pytest.mark.parametrize("thresholds", [0.5, "best"])
def test_windows_without_segments_may_come_first(thresholds: Any) -> None:
    p, labels = windows(4)
    nothing = SegmentationMetric(NAMES, thresholds)
    nothing.add_batch(predictions=np.zeros_like(p[:1]), references=np.zeros_like(labels[:1]))
    nothing.add_batch(predictions=p, references=labels)
    found = nothing.compute()
    alone = SegmentationMetric(NAMES, thresholds).compute(predictions=p, references=labels)
    assert found["elements"]["exon"]["recall"] > 0 and found["windows"] == 5
    if thresholds == 0.5:
        assert found["segment_overlap"] == alone["segment_overlap"]


def test_segments_end_at_bases_that_are_not_scored() -> None:
    p, labels = np.full((1, 9, 1), 0.9, dtype=np.float32), np.ones((1, 9, 1), dtype=np.int8)
    labels[0, 8] = 0
    labels[0, 4] = -100
    found = SegmentationMetric(["exon"]).compute(predictions=p, references=labels)["segment_overlap"]
    weighted, norm = plain_sov([True] * 4 + [False] + [True] * 3 + [False], [True] * 4 + [False] + [True] * 4)
    assert found == weighted / norm


@pytest.mark.parametrize("thresholds", [0.5, [0.2, 0.5, 0.7], "best"])
def test_pieces_and_merged_processes_give_the_same_as_one_go(thresholds: Any) -> None:
    p, labels = windows()
    blocks = np.arange(12) // 3
    at_once = SegmentationMetric(NAMES, thresholds, seed=1)
    expected = at_once.compute(predictions=p, references=labels, blocks=blocks, resamples=50)
    pieces = SegmentationMetric(NAMES, thresholds, seed=1)
    for row in np.random.default_rng(0).permutation(12):
        pieces.add(prediction=p[row], reference=labels[row], block=blocks[row])
    assert len(pieces) == 12
    assert_same(pieces.compute(resamples=50), expected)
    processes = [SegmentationMetric(NAMES, thresholds, seed=1) for _ in range(3)]
    for rank, metric in enumerate(processes):
        metric.add_batch(predictions=p[rank::3], references=labels[rank::3], blocks=blocks[rank::3])
    states = [metric.state() for metric in processes]
    merged = SegmentationMetric(NAMES, thresholds, seed=1)
    for state in states:
        merged.merge(state)
    assert_same(merged.compute(resamples=50), expected)
    dense = [metric.state(block_ids=range(5)) for metric in processes]  # as an all-reduce over processes adds them
    summed = {name: sum(state[name] for state in dense) for name in ("counts", "overlaps", "windows")}
    merged.merge({"blocks": np.arange(5), **summed})
    assert_same(merged.compute(resamples=50), expected)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if name == "elements":
            for element in value:
                assert_same(found[name][element], value[element])
        else:
            assert found[name] == pytest.approx(value, rel=1e-12), name


def test_intervals_are_those_of_a_bootstrap_over_blocks() -> None:
    p, labels = windows(40, ignored=0.0)
    blocks = np.arange(40) // 4
    metric = SegmentationMetric(NAMES, seed=3)
    result = metric.compute(predictions=p, references=labels, blocks=blocks, resamples=400)
    random = np.random.default_rng(5)
    drawn = []
    for _ in range(400):
        rows = np.concatenate([np.flatnonzero(blocks == block) for block in random.integers(10, size=10)])
        drawn.append(matthews_corrcoef(labels[rows, :, 0].ravel(), p[rows, :, 0].ravel() >= 0.5))
    found = result["elements"]["exon"]
    np.testing.assert_allclose(found["mcc_interval"], np.percentile(drawn, [2.5, 97.5]), atol=0.01)
    for scores in (result, *result["elements"].values()):
        assert all(scores[f"{score}_interval"][0] <= scores[f"{score}_interval"][1] for score in SCORES)
    assert found["mcc_interval"][0] < found["mcc"] < found["mcc_interval"][1]
    again = SegmentationMetric(NAMES, seed=3).compute(predictions=p, references=labels, blocks=blocks, resamples=400)
    assert again == result
    alone = SegmentationMetric(NAMES).compute(predictions=p, references=labels, resamples=10)
    assert np.isnan(alone["mcc_interval"]).all()


def test_memory_is_flat_in_the_number_of_windows() -> None:
    p, labels = windows(4, 2000)
    metric = SegmentationMetric(NAMES)
    metric.add_batch(predictions=p, references=labels)
    tracemalloc.start()
    for _ in range(50):
        metric.add_batch(predictions=p, references=labels)
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 20_000
    assert most < 3_000_000
    assert metric.compute()["elements"]["exon"]["scored_bases"] == 51 * (labels[..., 0] != -100).sum()


def test_loads_from_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    p, labels = windows()
    metric = evaluate.load(str(FILE), elements=NAMES, thresholds=0.4, cache_dir=str(tmp_path))
    found = metric.compute(predictions=p, references=labels)
    assert found == SegmentationMetric(NAMES, 0.4).compute(predictions=p, references=labels)
    assert "segment overlap" in metric.description
    assert not list(tmp_path.rglob("*.arrow"))


def test_forgets_after_compute() -> None:
    p, labels = windows()
    metric = SegmentationMetric(NAMES)
    first = metric.compute(predictions=p, references=labels)
    assert metric.compute(predictions=p, references=labels) == first
    with pytest.raises(ValueError, match="no window was added"):
        metric.compute()


def test_elements_without_a_positive_base_are_not_averaged() -> None:
    p, labels = windows()
    labels[..., 2][labels[..., 2] == 1] = 0
    result = SegmentationMetric(NAMES, "best").compute(predictions=p, references=labels, blocks=range(12), resamples=9)
    absent = result["elements"]["splice_donor"]
    assert all(np.isnan(absent[score]) for score in SCORES)
    assert (absent["positive_bases"], absent["threshold"]) == (0, 0.5)
    assert result["mcc"] == np.mean([result["elements"][name]["mcc"] for name in NAMES[:2]])
    assert np.isfinite(result["mcc_interval"]).all() and np.isnan(absent["mcc_interval"]).all()
    nothing_called = SegmentationMetric(NAMES, 1.0).compute(predictions=p, references=labels)["elements"]["exon"]
    assert [nothing_called[score] for score in SCORES if score != "auprc"] == [0.0] * 5


def test_bins_are_half_open_between_float32_edges() -> None:
    edges = BIN_EDGES.astype(np.float32)
    assert len(edges) == BINS and (np.diff(edges) > 0).all() and (edges == BIN_EDGES).all()
    np.testing.assert_array_equal(_bins(edges), np.arange(BINS))
    np.testing.assert_array_equal(_bins(np.nextafter(edges[1:], np.float32(0))), np.arange(BINS - 1))
    np.testing.assert_array_equal(_bins(np.float32([0, 1e-30, 0.5, 1])), [0, 0, 24 * 128, BINS - 1])


def test_says_what_does_not_fit() -> None:
    p, labels = windows(2)
    metric = SegmentationMetric(NAMES)
    with pytest.raises(ValueError, match=r"predictions have shape \(2, 300\) and references \(2, 300, 3\)"):
        metric.add_batch(predictions=p[..., 0], references=labels)
    with pytest.raises(ValueError, match=r"references hold \[-100, 0, 3\]"):
        metric.add_batch(predictions=p, references=np.where(labels == 1, 3, labels))
    with pytest.raises(ValueError, match=r"predictions range from .* to 1\.5"):
        metric.add_batch(predictions=p * 0 + 1.5, references=labels)
    with pytest.raises(ValueError, match="predictions range from nan"):
        metric.add_batch(predictions=p * np.nan, references=labels)
    with pytest.raises(ValueError, match="expected a block a window"):
        metric.add_batch(predictions=p, references=labels, blocks=[1])
    with pytest.raises(ValueError, match="2 elements and 3 names of elements"):
        metric.add_batch(predictions=p[..., :2], references=labels[..., :2])
    with pytest.raises(ValueError, match="3 elements and 2 thresholds"):
        SegmentationMetric(NAMES, [0.1, 0.2])
    for thresholds in (1.5, "good"):
        with pytest.raises(ValueError, match=f"thresholds is '?{thresholds}"):
            SegmentationMetric(NAMES, thresholds)  # type: ignore[arg-type]
    metric.add_batch(predictions=p, references=labels, blocks=[4, 5])
    with pytest.raises(ValueError, match=r"not named: \[5\]"):
        metric.state(block_ids=range(5))
    with pytest.raises(ValueError, match="counted at 1 thresholds, and this metric at 33"):
        SegmentationMetric(NAMES, "best").merge(metric.state())
    with pytest.raises(ValueError, match="number of elements is unknown"):
        SegmentationMetric().state()
