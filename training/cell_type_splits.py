"""Cells to train, validate and test on, as a function of data set, cell name, cell type and seed alone.

So two builds of the same cells, binned in other ways or in another order, are split alike. Places are drawn by SipHash,
as pandas has it, with the seed in its key; few-shot training cells are nested, the 5 of a type among its 10.
"""

import logging
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

logger = logging.getLogger(__name__)

SplitBy = Literal["cell", "donor", "batch", "dataset"]
TRAINING, VALIDATION, TEST = 0, 1, 2
_PLURAL = {"donor": "donors", "batch": "batches", "dataset": "data sets"}

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CellTypeSplit:
    """What is held out.

    Attributes:
        by: "cell", shares of each type; or "donor", "batch" or "dataset": whole ones.
        test_share, validation_share: of a type's cells, or of the groups; at least one of each where above 0.
        rare_classes: a type with a single cell, which cannot both be learned and tested: "error", or "drop" (and
            count). A type with two has none to validate on.

    Raises:
        ValueError: for shares that leave nothing, and choices that there are not.
    """

    by: SplitBy = "cell"
    test_share: float = 0.2
    validation_share: float = 0.1
    rare_classes: Literal["error", "drop"] = "error"

    def __post_init__(self) -> None:
        if self.by not in get_args(SplitBy):
            raise ValueError(f"split_by is {self.by!r}: expected one of {', '.join(get_args(SplitBy))}")
        if self.rare_classes not in ("error", "drop"):
            raise ValueError(f"rare_classes is {self.rare_classes!r}: expected error or drop")
        if not 0 < self.test_share < 1 or not 0 <= self.validation_share < 1:
            raise ValueError(
                f"test_share is {self.test_share} and validation_share {self.validation_share}: expected shares, the "
                "first above 0, both below 1"
            )
        if self.test_share + self.validation_share >= 1:
            raise ValueError(
                f"test_share {self.test_share} and validation_share {self.validation_share} leave no cells to train on"
            )


@dataclass(frozen=True)
class SplitCells:
    """Cells of each part, as places among the cells that were split, ascending.

    Attributes:
        training, validation, test: (cells,) int64.
        report: `training_cells`, `validation_cells`, `test_cells`; `unseen_in_training`, type -> its test cells;
            `short_of_cells_per_type`, types with fewer training cells than were asked for.
    """

    training: Rows
    validation: Rows
    test: Rows
    report: dict[str, Any]


def split_cells(
    split: CellTypeSplit,
    keys: npt.NDArray[Any],
    types: Rows,
    groups: npt.NDArray[Any] | None = None,
    *,
    type_names: list[str],
    seed: int,
    cells_per_type: int | None = None,
) -> SplitCells:
    """Draw one split.

    Args:
        split: what is held out.
        keys: (cells,) object, a text for each cell, each once.
        types: (cells,) int64, the cell's type, a place in `type_names`.
        groups: (cells,) object, the donor, batch or data set of each cell, for splits by one.
        type_names: (types,).
        seed: of the drawing.
        cells_per_type: training cells of a type at most, and as many validation cells: who has labelled few cells has
            no more to choose a model by.

    Raises:
        ValueError: where a type has a single cell, named, in splits by cell; where groups are too few; where no cell
            is left to train on, or fewer than two types are.
    """
    hashed = seeded_hash(keys, seed)
    if split.by == "cell":
        part = _parts_of_types(split, types, hashed, type_names)
    else:
        assert groups is not None
        part = _parts_of_groups(split, groups, seed)
    report: dict[str, Any] = {}
    if cells_per_type is not None:
        if cells_per_type < 1:
            raise ValueError(f"cells_per_type is {cells_per_type}: expected 1 or more")
        rank = _ranks_within(np.stack([part, types]), hashed)
        is_kept = (part == TEST) | (rank < cells_per_type)
        found = np.bincount(types[is_kept & (part == TRAINING)], minlength=len(type_names))
        report["short_of_cells_per_type"] = [
            name for name, number in zip(type_names, found, strict=True) if 0 < number < cells_per_type
        ]
        part = np.where(is_kept, part, -1)
    training, validation, test = (np.flatnonzero(part == one) for one in (TRAINING, VALIDATION, TEST))
    seen = np.unique(types[training])
    if len(seen) < 2:
        raise ValueError(
            f"the {len(training):,} training cells are of {len(seen)} types: expected two or more; split otherwise, or "
            "give cells of more types"
        )
    report["unseen_in_training"] = _unseen(types[test], seen, type_names)
    if report["unseen_in_training"]:
        logger.warning("test cells of types unseen in training count as wrong: %s", report["unseen_in_training"])
    cells = {"training_cells": len(training), "validation_cells": len(validation), "test_cells": len(test)}
    return SplitCells(training, validation, test, cells | report)


def rare_types(types: Rows, n_types: int) -> Rows:
    """Types with a single cell."""
    return np.flatnonzero(np.bincount(types, minlength=n_types) == 1)


def seeded_hash(keys: npt.NDArray[Any], seed: int) -> npt.NDArray[np.uint64]:
    """(keys,) uint64, the same for the same text and seed on every machine.

    Raises:
        ValueError: for a seed that is negative, or of more than 16 digits.
    """
    if not 0 <= seed < 10**16:
        raise ValueError(f"seed is {seed}: expected 0 to 10^16 - 1")
    return pd.util.hash_array(np.asarray(keys, dtype=object), hash_key=f"{seed:016d}", categorize=False)


def _parts_of_types(
    split: CellTypeSplit, types: Rows, hashed: npt.NDArray[np.uint64], type_names: list[str]
) -> npt.NDArray[np.int64]:
    cells = np.bincount(types, minlength=len(type_names))
    rare = rare_types(types, len(type_names))
    if len(rare):
        names = ", ".join(type_names[one] for one in rare[:5])
        raise ValueError(
            f"{len(rare)} cell types have a single cell, which cannot both be learned and tested: {names}; leave them "
            "out (--rare-classes drop), or hold out whole donors (--split-by donor)"
        )
    n_test = np.maximum(np.rint(split.test_share * cells), 1).astype(np.int64)
    n_validation = np.zeros_like(n_test)
    if split.validation_share:
        n_validation = np.maximum(np.rint(split.validation_share * cells), 1).astype(np.int64)
    n_test = np.minimum(n_test, np.maximum(cells - 1, 0))
    n_validation = np.minimum(n_validation, np.maximum(cells - n_test - 1, 0))
    rank = _ranks_within(types[None], hashed)
    is_held_out = rank < (n_test + n_validation)[types]
    return np.where(rank < n_test[types], TEST, np.where(is_held_out, VALIDATION, TRAINING))


def _parts_of_groups(split: CellTypeSplit, groups: npt.NDArray[Any], seed: int) -> npt.NDArray[np.int64]:
    names, group_of = np.unique(groups.astype(str), return_inverse=True)
    needed = 3 if split.validation_share else 2
    if len(names) < needed:
        raise ValueError(
            f"the cells are of {len(names)} {_PLURAL[split.by]} ({', '.join(names)}): expected {needed} or more, so "
            "that whole ones can be held out; split by cell, or by something else"
            + ("" if needed == 2 or len(names) < 2 else ", or set validation_share to 0")
        )
    n_test = min(max(round(split.test_share * len(names)), 1), len(names) - needed + 1)
    n_validation = needed - 2 and max(round(split.validation_share * len(names)), 1)
    n_validation = min(n_validation, len(names) - n_test - 1)
    part_of_group = np.full(len(names), TRAINING)
    order = np.lexsort((names, seeded_hash(names, seed)))
    part_of_group[order[:n_test]] = TEST
    part_of_group[order[n_test : n_test + n_validation]] = VALIDATION
    return part_of_group[group_of]


def _ranks_within(kinds: npt.NDArray[np.int64], hashed: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """(cells,) how many cells of the same kind (a column of `kinds`) have a smaller hash."""
    order = np.lexsort((hashed, *kinds))
    ordered = kinds[:, order]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (ordered[:, 1:] != ordered[:, :-1]).any(axis=0)
    places = np.arange(len(order))
    first = np.maximum.accumulate(np.where(is_first, places, 0))
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = places - first
    return ranks


def _unseen(test_types: Rows, seen: Rows, type_names: list[str]) -> dict[str, int]:
    cells = np.bincount(test_types, minlength=len(type_names))
    cells[seen] = 0
    return {type_names[one]: int(cells[one]) for one in np.flatnonzero(cells)}
