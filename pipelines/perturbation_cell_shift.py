"""How far whole cells move: the mean embedding of a cell's genes before and after the edit.

Source: the cell embeddings of Theodoris et al. 2023. A cell is taken as the mean over all its genes, and as the mean
over those that were not edited, since a gene that is gone moves a mean by its absence alone. Reductions are in float64
on the device (float32 where it has none), and no cell's embedding is kept.
Shapes: B cells, G tokens a cell, H hidden, 2 kinds of mean (all genes; without the edited ones).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from .perturbation_edits import Batch
from .perturbation_statistics import one_minus_cosine

if TYPE_CHECKING:
    import pandas as pd


class Goal(NamedTuple):
    """The way between two groups of cells.

    Attributes:
        direction: (H,) float64, the goal's mean cell embedding less the start's.
        in_start: (all cells,) bool, the group to be moved.
        in_goal: (all cells,) bool, the group to be reached.
    """

    direction: torch.Tensor
    in_start: np.ndarray
    in_goal: np.ndarray


def cell_means(
    states: torch.Tensor, batch: Batch, edited_tokens: torch.Tensor, num_special_tokens: int
) -> torch.Tensor:
    """(B, G, H) embeddings -> (B, 2, H) means over a cell's genes; NaN where there are none.

    Args:
        states: of the batch.
        batch: with or without the edit.
        edited_tokens: (edited genes,) int64.
        num_special_tokens: ids below are no genes.
    """
    dtype = torch.float32 if states.device.type == "mps" else torch.float64
    is_gene = batch.attention_mask.bool() & (batch.input_ids >= num_special_tokens)  # (B, G)
    is_other = is_gene & ~torch.isin(batch.input_ids, edited_tokens)
    weights = torch.stack([is_gene, is_other], dim=1).to(dtype)  # (B, 2, G)
    return weights @ states.to(dtype) / weights.sum(dim=2, keepdim=True)


class CellShifts:
    """What each cell's shift is, gathered batch by batch and kept on the device.

    Args:
        direction: (H,) of a goal; projections on it are kept too.
    """

    def __init__(self, direction: torch.Tensor | None = None) -> None:
        self._direction = direction
        self._cells: list[np.ndarray] = []
        self._shifts: list[torch.Tensor] = []
        self._projections: list[torch.Tensor] = []

    def add(self, cells: np.ndarray, before: torch.Tensor, after: torch.Tensor) -> None:
        """Add a batch: `cells` (B,) int64, and their means `before` and `after`, (B, 2, H) each."""
        self._cells.append(cells)
        self._shifts.append(one_minus_cosine(before, after))  # (B, 2)
        if self._direction is not None:
            length = self._direction.norm()
            self._projections.append((after - before) @ (self._direction / length) / length)

    def result(self) -> "CellShiftArrays":
        """All cells, by ascending index."""
        cells = np.concatenate([np.empty(0, dtype=np.int64), *self._cells])
        order = np.argsort(cells, kind="stable")
        shifts, projections = (
            torch.cat(parts).double().cpu().numpy()[order] if parts else np.full((len(cells), 2), np.nan)
            for parts in (self._shifts, self._projections)
        )
        return CellShiftArrays(cells[order], shifts, projections)


class CellShiftArrays(NamedTuple):
    """Of measured cells, ascending: index (cells,), and (cells, 2) over all genes and without the edited ones.

    Attributes:
        cells: (cells,) int64 index among all cells.
        shifts: (cells, 2) 1 - cosine of the mean embedding before and after.
        projections: (cells, 2) the move along a goal's direction, as a share of the whole way; NaN without a goal.
    """

    cells: np.ndarray
    shifts: np.ndarray
    projections: np.ndarray


def cell_table(
    arrays: CellShiftArrays,
    n_genes: np.ndarray,
    names: Sequence[str] | np.ndarray | None,
    *,
    noise_floor: float = float("nan"),
    goal: Goal | None = None,
) -> "pd.DataFrame":
    """One row a measured cell, in the order of the cells given.

    Args:
        arrays: of `CellShifts`.
        n_genes: (all cells,) genes a cell, the edited ones included.
        names: (all cells,); the index where None.
        noise_floor: a cell's shift without any edit, see `perturbation_noise`.
        goal: adds the columns of a goal.

    Returns:
        cell (its index), name, n_genes, shift (1 - cosine of the mean over all genes), shift_without_edited (over the
        genes not edited; missing where there are none), noise_floor; with a goal also state ("start", "goal" or ""),
        toward_goal and toward_goal_without_edited (share of the way from start to goal; negative: away from it).
    """
    import pandas as pd

    table = pd.DataFrame(
        {
            "cell": arrays.cells,
            "name": arrays.cells.astype(str) if names is None else np.asarray(names)[arrays.cells],
            "n_genes": n_genes[arrays.cells],
            "shift": arrays.shifts[:, 0],
            "shift_without_edited": arrays.shifts[:, 1],
            "noise_floor": noise_floor,
        }
    )
    if goal is None:
        return table
    state = np.where(goal.in_start, "start", np.where(goal.in_goal, "goal", ""))
    return table.assign(
        state=state[arrays.cells],
        toward_goal=arrays.projections[:, 0],
        toward_goal_without_edited=arrays.projections[:, 1],
    )
