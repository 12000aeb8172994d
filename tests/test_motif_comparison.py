"""Scores within hits against the background: planted and absent signals, matching, N, and bad input."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from omics_transformers.pipelines.motif_comparison import COLUMNS, compare_with_hits, score_hits

WIDTH, LENGTH = 6, 3_000


def sequence_of(seed: int = 0, gc: float = 0.5) -> str:
    shares = [(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2]
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), size=LENGTH, p=shares))


def hits_of(starts: list[int], motif: str = "M") -> pd.DataFrame:
    return pd.DataFrame(
        {"matrix_id": motif, "motif": motif.lower(), "start": starts, "end": [start + WIDTH for start in starts]}
    )


STARTS = list(range(50, 2_900, 95))


def scores_with_signal(starts: list[int], size: float) -> np.ndarray:
    scores = np.random.default_rng(1).normal(size=LENGTH)
    for start in starts:
        scores[start : start + WIDTH] += size
    return scores


@pytest.mark.parametrize("background", ["gc", "positions"])
def test_a_planted_signal_is_found_and_an_absent_one_is_not(background: str) -> None:
    hits = pd.concat([hits_of(STARTS, "PLANTED"), hits_of([start + 40 for start in STARTS], "ABSENT")])
    table = compare_with_hits(
        scores_with_signal(STARTS, 2.0),
        hits,
        sequence=sequence_of(),
        background=background,  # type: ignore[arg-type]
    )
    assert list(table.columns) == COLUMNS
    assert table["matrix_id"].tolist() == ["PLANTED", "ABSENT"]
    planted, absent = table.iloc[0], table.iloc[1]
    assert planted["auroc"] > 0.9 and planted["q_value"] < 1e-6 and planted["n_hits"] == len(STARTS)
    assert 0.35 < absent["auroc"] < 0.65 and absent["rank_sum_p"] > 0.05
    assert planted["mean_in_hits"] - planted["mean_background"] == pytest.approx(2.0, abs=0.4)


def test_chance_is_one_half_on_average() -> None:
    random = np.random.default_rng(2)
    found = [
        compare_with_hits(random.normal(size=LENGTH), hits_of(STARTS), sequence=sequence_of(seed), seed=seed)
        for seed in range(30)
    ]
    assert np.mean([table["auroc"][0] for table in found]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([table["rank_sum_p"][0] < 0.05 for table in found]) < 0.2


@pytest.mark.parity
def test_auroc_and_p_are_those_of_other_libraries() -> None:
    """Scores outside the hits are all 0, so that the draw of the background does not matter."""
    scores = np.zeros(LENGTH)
    inside = np.zeros(LENGTH, dtype=bool)
    for start in STARTS:
        inside[start : start + WIDTH] = True
    scores[inside] = np.tile([0.5, 1.0], inside.sum() // 2)
    scores[STARTS[0] : STARTS[0] + WIDTH] = -1.0
    table = compare_with_hits(scores, hits_of(STARTS), sequence=sequence_of(), background="positions", controls=5)
    assert table["auroc"][0] == pytest.approx((len(STARTS) - 1) / len(STARTS))
    assert table["auroc_bases"][0] == pytest.approx(roc_auc_score(inside, scores))
    q = stats.false_discovery_control(table["rank_sum_p"].to_numpy())
    assert table["q_value"].to_numpy() == pytest.approx(q)


def test_matching_by_gc_takes_away_what_gc_alone_explains() -> None:
    """Scores that only count G and C, and hits in the G- and C-rich half."""
    sequence = sequence_of(0, 0.2)[: LENGTH // 2] + sequence_of(1, 0.8)[: LENGTH // 2]
    is_gc = np.array([base in "GC" for base in sequence], dtype=float)
    scores = is_gc + 1e-3 * np.random.default_rng(4).normal(size=LENGTH)
    hits = hits_of(list(range(1_550, 2_900, 60)))
    matched, any_place = (
        compare_with_hits(scores, hits, sequence=sequence, background=background)  # type: ignore[arg-type]
        for background in ("gc", "positions")
    )
    assert any_place["auroc"][0] > 0.7
    assert matched["auroc"][0] == pytest.approx(0.5, abs=0.12)
    assert matched["mean_in_hits"][0] == pytest.approx(matched["mean_background"][0], abs=0.02)


def test_scores_of_a_part_and_of_both_strands() -> None:
    """Hits outside the part, or half in it, are counted and not scored; one place counts once."""
    scores = scores_with_signal(STARTS, 3.0)
    hits = pd.concat([hits_of(STARTS), hits_of(STARTS[:10])])  # palindromes: two strands
    whole = compare_with_hits(scores, hits, sequence=sequence_of())
    start, end = STARTS[4] + 2, STARTS[20] + 3
    part = compare_with_hits(scores[start:end], hits, sequence=sequence_of(), start=start)
    assert (whole["n_hits"][0], whole["n_hits_not_scored"][0]) == (len(STARTS), 0)
    assert (part["n_hits"][0], part["n_hits_not_scored"][0]) == (15, len(STARTS) - 15)
    assert part["auroc"][0] > 0.9


def test_n_and_missing_scores_do_not_count() -> None:
    sequence = sequence_of()
    sequence = sequence[: STARTS[0]] + "N" + sequence[STARTS[0] + 1 :]
    scores = scores_with_signal(STARTS, 3.0)
    scores[STARTS[1]] = np.nan
    scores[STARTS[2]] = np.inf
    table = compare_with_hits(scores, hits_of(STARTS), sequence=sequence)
    assert table["n_hits_not_scored"][0] == 3
    assert np.isfinite(table[["auroc", "mean_in_hits", "mean_background", "auroc_bases"]].to_numpy(float)).all()


def test_the_seed_decides_the_draw() -> None:
    scores = np.random.default_rng(5).normal(size=LENGTH)
    first, again, other = (
        compare_with_hits(scores, hits_of(STARTS), sequence=sequence_of(), seed=seed) for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(first, again)
    assert first["auroc"][0] != other["auroc"][0]


def test_hits_that_leave_no_background_and_no_hits() -> None:
    everywhere = hits_of(list(range(0, 24, 3)))
    table = compare_with_hits(np.arange(30.0), everywhere, sequence="ACGTAC" * 5)
    assert table["n_hits"][0] == 8 and np.isnan(table["auroc"][0]) and np.isnan(table["q_value"][0])
    assert len(compare_with_hits(np.arange(30.0), everywhere.head(0), sequence="ACGTAC" * 5)) == 0


def test_equal_scores_tell_nothing() -> None:
    table = compare_with_hits(np.ones(LENGTH), hits_of(STARTS), sequence=sequence_of())
    assert table["auroc"][0] == table["auroc_bases"][0] == 0.5
    assert table["rank_sum_p"][0] > 0.4


def test_each_hit_among_all_windows_of_its_width() -> None:
    """Against a plain loop."""
    random = np.random.default_rng(6)
    scores, sequence, start = np.round(random.normal(size=60), 1), sequence_of()[:90], 20
    scores[30] = np.nan
    hits = pd.DataFrame({"start": [10, 25, 44, 47, 70, 76], "end": [16, 31, 50, 55, 76, 82]}, index=list("abcdef"))
    table = score_hits(scores, hits, sequence=sequence, start=start)
    assert table.index.tolist() == hits.index.tolist()
    for (name, first, last), row in zip(hits.itertuples(), table.itertuples(), strict=True):
        width = last - first
        means = np.array([scores[place : place + width].mean() for place in range(60 - width + 1)])
        means = means[~np.isnan(means)]
        if name in ("a", "d", "f"):  # before, over the gap, behind
            assert np.isnan(row.mean) and np.isnan(row.percentile)
            continue
        mean = scores[first - start : last - start].mean()
        assert row.mean == pytest.approx(mean)
        close = np.isclose(means, mean)
        assert row.percentile == pytest.approx(((means < mean) & ~close).mean() + close.mean() / 2, abs=1e-9)
    assert len(score_hits(scores, hits.head(0), sequence=sequence)) == 0


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="'shuffled'; expected gc or positions"):
        compare_with_hits(np.ones(3), hits_of([0]), sequence="ACG", background="shuffled")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scores of bases 2-5 do not fit a sequence of 4"):
        compare_with_hits(np.ones(3), hits_of([0]), sequence="ACGT", start=2)
    with pytest.raises(ValueError, match="controls is 0"):
        compare_with_hits(np.ones(3), hits_of([0]), sequence="ACGT", controls=0)
