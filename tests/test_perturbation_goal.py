"""Groups of a goal and what is said of bad ones; the sign flip test against scipy; moves with a known answer."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from omics_transformers.pipelines.perturbation_goal import (
    GoalState,
    goal_groups,
    goal_statistics,
    parse_goal,
    sign_flip_p_value,
)

LABELS = np.array(["sick", "sick", "well", "other", "well"])


def test_groups_of_labels_and_masks() -> None:
    start, goal = goal_groups(GoalState("sick", ["well", "other"], "state"), LABELS, 5)
    assert start.tolist() == [True, True, False, False, False] and goal.tolist() == [False, False, True, True, True]
    masks = GoalState(start, np.array([False, False, True, False, False]))
    assert goal_groups(masks, None, 5)[1].sum() == 1
    numbers = goal_groups(GoalState(1, 2, "cluster"), np.array(["1", "2", "2"]), 3)
    assert [group.sum() for group in numbers] == [1, 2]


def test_what_a_user_may_give() -> None:
    assert parse_goal(None) is None
    goal = GoalState("a", "b", "c")
    assert parse_goal(goal) is goal
    assert parse_goal({"start": "a", "goal": "b", "column": "c"}).column == "c"
    for wrong in ("well", {"start": "a"}, {"start": 1, "goal": 2, "colum": "c"}):
        with pytest.raises(ValueError, match="expected GoalState"):
            parse_goal(wrong)


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        (
            GoalState("sick", "ill", "state"),
            r"no cell is in the goal of the goal \(ill\); 'state' holds other, sick, well",
        ),
        (GoalState("sick", "sick", "state"), r"2 of 5 cells are both in the start \(sick\) and in the goal \(sick\)"),
        (GoalState(np.ones(5, dtype=bool), np.ones(5, dtype=bool)), "5 of 5 cells are both in the start"),
        (GoalState(np.zeros(5, dtype=bool), np.ones(5, dtype=bool)), r"no cell is in the start of the goal \(a mask\)"),
        (GoalState(np.ones(4, dtype=bool), np.ones(5, dtype=bool)), r"shape \(4,\) and type bool: .* 5 bools"),
        (GoalState("sick", "well"), "without a column give a mask"),
    ],
)
def test_bad_groups_are_named(goal: GoalState, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        goal_groups(goal, LABELS if goal.column else None, 5)


@pytest.mark.parity
@pytest.mark.parametrize("n", [3, 9, 12])
def test_all_sign_flips_equal_scipy(n: int) -> None:
    values = np.random.default_rng(n).normal(0.4, 1, n)
    expected = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p_value(values, seed=0) == pytest.approx(expected.pvalue)


def test_drawn_sign_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(0.25, 1, 100)
    found = sign_flip_p_value(values, seed=3)
    assert found == sign_flip_p_value(values, seed=3)
    assert found == pytest.approx(2 * stats.norm.sf(abs(values.sum()) / np.sqrt((values**2).sum())), abs=0.01)
    monkeypatch.setattr("omics_transformers.pipelines.perturbation_goal.SIGNS_A_CHUNK", 700)
    assert sign_flip_p_value(values, seed=3) == pytest.approx(found, abs=0.01)
    assert sign_flip_p_value(np.full(30, 0.1), seed=0) == 1e-4
    assert np.isnan(sign_flip_p_value(np.empty(0), seed=0))


def test_statistics_take_cells_of_the_start_alone() -> None:
    cells = pd.DataFrame(
        {
            "state": ["start", "start", "start", "goal", ""],
            "toward_goal": [0.1, 0.2, 0.3, -9, -9],
            "toward_goal_without_edited": [0.1, -0.1, np.nan, 9, 9],
        }
    )
    found = goal_statistics(
        cells, np.array([0.0, 0.02, np.nan, -0.02]), distance=2.0, n_in_start=7, n_in_goal=9, seed=0
    )
    assert (found["n_cells"], found["n_cells_in_start"], found["n_cells_in_goal"]) == (3, 7, 9)
    assert found["toward_goal_mean"] == pytest.approx(0.2) and found["toward_goal_effect"] == pytest.approx(2)
    assert found["toward_goal_p_value"] == pytest.approx(2 / 8) and found["toward_goal_share_positive"] == 1
    assert found["toward_goal_without_edited_mean"] == pytest.approx(0, abs=1e-12)
    assert found["sham_mean"] == pytest.approx(0, abs=1e-12) and found["p_value_sham"] == 1
    alone = goal_statistics(cells, np.empty(0), distance=2.0, n_in_start=7, n_in_goal=9, seed=0)
    assert "p_value_sham" not in alone
