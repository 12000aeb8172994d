"""Does an edit move cells of one group towards another: the goal, its two groups, and the test over cells.

Source: the goal states of Theodoris et al. 2023 (do edits move diseased cells towards healthy ones). Deviation: moves
are projected on the line between the groups' mean embeddings, in shares of the way, and tested over cells by flipping
signs; with sham edits also against what edits of other genes do, since any edit may move cells along that line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

SIGN_FLIPS = 9_999
SIGNS_A_CHUNK = 4_000_000


@dataclass(frozen=True, eq=False)
class GoalState:
    """Two groups of cells: where they are, and where they should go.

    Args:
        start: value(s) of `column`, or a mask (cells,) of bool.
        goal: the same of the group to be reached.
        column: the cells' column (of `obs`, or of the data set) that holds the values; None with masks.
    """

    start: Any
    goal: Any
    column: str | None = None


def parse_goal(goal: Any) -> GoalState | None:
    """A GoalState from itself, from a mapping with its fields, or None.

    Raises:
        ValueError: on anything else.
    """
    if goal is None or all(hasattr(goal, name) for name in ("start", "goal", "column")):
        return goal
    if isinstance(goal, Mapping) and {"start", "goal"} <= goal.keys() <= {"start", "goal", "column"}:
        return GoalState(**goal)
    raise ValueError(
        f"goal is {str(goal)[:80]!r}: expected GoalState(start=..., goal=..., column=...) or a mapping with these keys"
    )


def goal_groups(goal: GoalState, labels: np.ndarray | None, n_cells: int) -> tuple[np.ndarray, np.ndarray]:
    """The cells of the start and of the goal, (cells,) bool each.

    Args:
        goal: values of a column, or masks.
        labels: (cells,) values of the column; None with masks.
        n_cells: how many cells there are.

    Raises:
        ValueError: where a group has no cells, both share cells, or a mask is not one bool a cell.
    """
    start, wanted = (_group(name, getattr(goal, name), labels, goal.column, n_cells) for name in ("start", "goal"))
    shared = int((start & wanted).sum())
    if shared:
        raise ValueError(
            f"{shared:,} of {n_cells:,} cells are both in the start ({_shown(goal.start)}) and in the goal "
            f"({_shown(goal.goal)}): give two groups that share no cell"
        )
    return start, wanted


def goal_statistics(
    cells: "pd.DataFrame", sham_means: np.ndarray, *, distance: float, n_in_start: int, n_in_goal: int, seed: int
) -> dict[str, Any]:
    """The test over the edited cells of the start.

    Args:
        cells: of `cell_table`, with a goal.
        sham_means: (sham edits,) mean move towards the goal under each, over cells of the start, without edited genes.
        distance: between the mean embeddings of the groups.
        n_in_start, n_in_goal: cells of each group, with the edited gene or without.
        seed: of the sign flips.

    Returns:
        Group sizes, distance, n_cells (tested), and for toward_goal and toward_goal_without_edited each: mean, sd,
        effect (mean / sd), share_positive, p_value (two-sided, by sign flips: 1 + those as far from zero / 1 + all);
        with sham edits sham_mean, sham_sd and p_value_sham (two-sided, against them, of the mean without edited genes).
    """
    start = cells[cells["state"] == "start"]
    found: dict[str, Any] = {"n_cells_in_start": n_in_start, "n_cells_in_goal": n_in_goal, "distance": distance}
    found["n_cells"] = len(start)
    for column in ("toward_goal", "toward_goal_without_edited"):
        moves = start[column].dropna().to_numpy()
        found |= {f"{column}_{name}": value for name, value in _moves(moves, seed).items()}
    known = sham_means[np.isfinite(sham_means)]
    if len(known):
        centre = float(known.mean())
        observed = abs(found["toward_goal_without_edited_mean"] - centre)
        found["sham_mean"], found["sham_sd"] = centre, float(known.std(ddof=1)) if len(known) > 1 else float("nan")
        found["p_value_sham"] = float((1 + (np.abs(known - centre) >= observed).sum()) / (1 + len(known)))
    return found


def sign_flip_p_value(values: np.ndarray, *, seed: int, flips: int = SIGN_FLIPS) -> float:
    """Two-sided p-value of a mean of zero, for values that are symmetric around it; NaN for no values.

    All sign patterns are counted where there are no more than `flips`; else as many are drawn.
    """
    n = len(values)
    if n == 0:
        return float("nan")
    observed = abs(values.sum()) * (1 - 1e-9)  # the same sum in another order counts as equal
    if 2**n <= flips:
        patterns = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float(np.mean(np.abs((1 - 2 * patterns) @ values) >= observed))
    generator = np.random.default_rng(seed)
    hits = 0
    step = max(1, SIGNS_A_CHUNK // n)
    for first in range(0, flips, step):
        signs = generator.integers(0, 2, (min(step, flips - first), n), dtype=np.int8)
        hits += int((np.abs((1 - 2 * signs) @ values) >= observed).sum())
    return (1 + hits) / (1 + flips)


def _moves(moves: np.ndarray, seed: int) -> dict[str, float]:
    n = len(moves)
    mean = float(moves.mean()) if n else float("nan")
    deviation = float(moves.std(ddof=1)) if n > 1 else float("nan")
    return {
        "mean": mean,
        "sd": deviation,
        "effect": mean / deviation if deviation > 0 else float("nan"),
        "share_positive": float((moves > 0).mean()) if n else float("nan"),
        "p_value": sign_flip_p_value(moves, seed=seed),
    }


def _group(name: str, wanted: Any, labels: np.ndarray | None, column: str | None, n_cells: int) -> np.ndarray:
    if column is None:
        mask = np.asarray(wanted)
        if mask.shape != (n_cells,) or mask.dtype != bool:
            raise ValueError(
                f"the {name} of the goal has shape {mask.shape} and type {mask.dtype}: without a column give a mask of "
                f"{n_cells:,} bools, one a cell"
            )
    else:
        assert labels is not None
        values = [wanted] if isinstance(wanted, str) or np.ndim(wanted) == 0 else list(wanted)
        mask = np.isin(labels, [str(value) for value in values])
    if not mask.any():
        known = "" if labels is None else f"; {column!r} holds {', '.join(np.unique(labels)[:8].tolist())}"
        raise ValueError(f"no cell is in the {name} of the goal ({_shown(wanted)}){known}: give a group that has cells")
    return mask


def _shown(wanted: Any) -> str:
    return "a mask" if np.ndim(wanted) and np.asarray(wanted).dtype == bool else str(wanted)[:80]
