"""What pre-training of the multiome Performer trains and is evaluated on: kinds of input, data sets, held-out cells.

A cell with both modalities serves as both; and, if asked or needed, with either one as if the other had not been
measured. What is held out of a cell is held out of all its uses.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from .modality_sampler import KINDS, CellDraw, Kind
from .multiome_data import MODALITIES, Modality, MultiomeCells, MultiomeFolder
from .multiome_masking import CellBatch
from .multiome_pretraining_arguments import MultiomeDataArguments
from .parquet_folder import evenly_spaced

logger = logging.getLogger(__name__)

NOT_COUNTED = -1
MODALITIES_OF: dict[Kind, tuple[Modality, ...]] = {"rna": ("rna",), "atac": ("atac",), "both": MODALITIES}

RowsOfKinds = dict[Kind, npt.NDArray[np.int64]]


class EvaluatedAs(NamedTuple):
    """What is read of the cells of an evaluation, and what of that is missing."""

    kind: Kind
    missing: Modality | None = None

    @property
    def name(self) -> str:
        """rna, atac, both, rna_to_atac or atac_to_rna."""
        if self.missing is None:
            return self.kind
        (given,) = (modality for modality in MODALITIES if modality != self.missing)
        return f"{given}_to_{self.missing}"

    @property
    def predicted(self) -> tuple[Modality, ...]:
        return MODALITIES_OF[self.kind] if self.missing is None else (self.missing,)


@dataclass
class MultiomePretrainingData:
    """The cells of each use.

    Attributes:
        cells: of the folder.
        kinds: of batches, in turn.
        training: kind -> data set -> (cells,) int64 rows.
        validation: kind -> rows of cells held out at random; empty where none are.
        held_out: kind -> rows of the data sets that are held out whole; empty where none are.
        report: numbers of cells, of the data sets and of each use.
    """

    cells: MultiomeCells
    kinds: list[Kind]
    training: dict[Kind, dict[str, npt.NDArray[np.int64]]]
    validation: RowsOfKinds
    held_out: RowsOfKinds
    report: dict[str, Any]

    @property
    def modalities(self) -> list[Modality]:
        """That any kind has."""
        return [name for name in MODALITIES if any(name in MODALITIES_OF[kind] for kind in self.kinds)]

    def training_rows(self, modality: Modality) -> npt.NDArray[np.int64]:
        """(cells,) the distinct cells that are trained on with this modality."""
        parts = [
            part for kind in self.kinds if modality in MODALITIES_OF[kind] for part in self.training[kind].values()
        ]
        return np.unique(np.concatenate(parts))


def prepare_multiome_data(
    arguments: MultiomeDataArguments, folder: MultiomeFolder, *, kinds: Sequence[str] | None = None, seed: int = 0
) -> MultiomePretrainingData:
    """Choose the cells of training, validation and of whole data sets held out.

    Args:
        arguments: of the run.
        folder: what `read_multiome` read.
        kinds: in place of the arguments' own.
        seed: of the cells that are held out.

    Raises:
        ValueError: where a kind has no cells, a name is that of no data set, or a share is none.
    """
    if not 0 <= arguments.validation_share < 1:
        raise ValueError(f"validation_share is {arguments.validation_share}: expected a share, 0 up to but not 1")
    cells = folder.cells
    is_held_out = _is_in_datasets(cells, arguments.held_out_datasets or [])
    of_kinds = _rows_of_kinds(cells, ~is_held_out, arguments.split_paired)
    chosen = _chosen_kinds(kinds or arguments.kinds, of_kinds, folder)
    is_validation = _validation_cells(cells, arguments.validation_share, seed) & ~is_held_out
    training = {kind: _by_dataset(cells, of_kinds[kind][~is_validation[of_kinds[kind]]]) for kind in chosen}
    for kind, parts in training.items():
        if not parts:
            raise ValueError(
                f"no {kind} cells are left to train on: lower validation_share, or hold out fewer data sets"
            )
    validation = {kind: of_kinds[kind][is_validation[of_kinds[kind]]] for kind in chosen}
    apart = _rows_of_kinds(cells, is_held_out, "always")
    data = MultiomePretrainingData(
        cells,
        chosen,
        training,
        {kind: rows for kind, rows in validation.items() if len(rows)},
        {kind: apart[kind] for kind in chosen if len(apart[kind])},
        {},
    )
    data.report = _report(data, is_held_out)
    return data


class MultiomeDataset(Dataset[CellBatch]):
    """Cells as the sampler draws them, a batch at a time."""

    def __init__(self, cells: MultiomeCells) -> None:
        self.cells = cells

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, draw: CellDraw) -> CellBatch:
        return self.__getitems__([draw])

    def __getitems__(self, draws: Sequence[CellDraw]) -> CellBatch:
        """A batch of draws of one step; torch's data loader calls this in place of reading one by one."""
        rows = np.array([draw.row for draw in draws], dtype=np.int64)
        first = draws[0]
        assert {draw[1:] for draw in draws} == {first[1:]}, "a batch has one kind, epoch and step"
        return CellBatch(rows, first.kind, read_values(self.cells, rows, first.kind), first.epoch, first.step)


class EvaluationBatches(Dataset[CellBatch]):
    """Whole batches of held-out cells, each of one kind; for data loaders with `batch_size=None`.

    Args:
        cells: of the folder.
        rows: kind -> rows.
        batch_size: cells.
        imputes: add both kinds of cells of which one modality is missing.
    """

    def __init__(
        self, cells: MultiomeCells, rows: Mapping[Kind, npt.NDArray[np.int64]], batch_size: int, *, imputes: bool
    ) -> None:
        self.cells = cells
        self.uses = [EvaluatedAs(kind) for kind in rows]
        if imputes and "both" in rows:
            self.uses += [EvaluatedAs("both", missing) for missing in reversed(MODALITIES)]
        self.n_cells = sum(len(rows[use.kind]) for use in self.uses)
        self._batches = [
            (number, rows[use.kind][start : start + batch_size])
            for number, use in enumerate(self.uses)
            for start in range(0, len(rows[use.kind]), batch_size)
        ]

    def share_of(self, rank: int, processes: int) -> Self:
        """Every `processes`-th batch, equally many on each process: those that are one too many are not counted."""
        most = -(-len(self._batches) // processes) * processes
        of_no_use = [(NOT_COUNTED, self._batches[0][1])] * (most - len(self._batches))
        share = object.__new__(type(self))
        share.__dict__ |= self.__dict__ | {"_batches": (self._batches + of_no_use)[rank::processes]}
        return share

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> CellBatch:
        number, rows = self._batches[index]
        kind, missing = self.uses[max(number, 0)]
        return CellBatch(rows, kind, read_values(self.cells, rows, kind), missing=missing, counted_as=number)


def read_values(cells: MultiomeCells, rows: npt.NDArray[np.int64], kind: Kind) -> dict[Modality, npt.NDArray[np.uint8]]:
    """Modality -> (rows, genes) uint8 bins."""
    return {modality: cells.values(rows, modality) for modality in MODALITIES_OF[kind]}


def some_of(rows: RowsOfKinds, most: int | None) -> RowsOfKinds:
    """`most` cells of each kind, evenly spaced; all where None."""
    return {kind: evenly_spaced(part, most, option="validation_cells") for kind, part in rows.items()}


def _rows_of_kinds(cells: MultiomeCells, is_used: npt.NDArray[np.bool_], split_paired: str) -> RowsOfKinds:
    has_both = cells.has_rna & cells.has_atac
    found: RowsOfKinds = {}
    for kind, has in (("rna", cells.has_rna), ("atac", cells.has_atac)):
        alone = np.flatnonzero(has & ~has_both & is_used)
        splits = split_paired == "always" or (split_paired == "if_needed" and not len(alone))
        found[kind] = np.flatnonzero(has & is_used) if splits else alone  # type: ignore[index]
    found["both"] = np.flatnonzero(has_both & is_used)
    return found


def _chosen_kinds(kinds: Sequence[str] | None, of_kinds: RowsOfKinds, folder: MultiomeFolder) -> list[Kind]:
    available = [kind for kind in KINDS if len(of_kinds[kind])]
    if kinds is None:
        return available
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds or len(set(kinds)) < len(kinds):
        raise ValueError(f"kinds are {', '.join(kinds) or 'none'}: expected some of {', '.join(KINDS)}, each once")
    lacking = [kind for kind in kinds if kind not in available]
    if lacking:
        cells = folder.cells
        raise ValueError(
            f"{folder.folder} has no cells to train on of the kind {', '.join(lacking)}: {int(cells.has_rna.sum()):,} "
            f"cells have RNA, {int(cells.has_atac.sum()):,} ATAC and {int((cells.has_rna & cells.has_atac).sum()):,} "
            f"both; choose kinds among {', '.join(available) or 'none'}, or see split_paired and held_out_datasets"
        )
    return [kind for name in kinds for kind in KINDS if kind == name]


def _is_in_datasets(cells: MultiomeCells, names: Sequence[str]) -> npt.NDArray[np.bool_]:
    unknown = [name for name in names if name not in cells.dataset_names]
    if unknown:
        raise ValueError(
            f"held_out_datasets names {', '.join(unknown)}, and the folder has {', '.join(cells.dataset_names)}"
        )
    numbers = [cells.dataset_names.index(name) for name in names]
    return np.isin(cells.dataset_of, numbers)


def _validation_cells(cells: MultiomeCells, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """(cells,) bool: that share of each data set, rounded, at least one cell of those with several."""
    is_validation = np.zeros(len(cells), dtype=bool)
    for number in range(len(cells.dataset_names)):
        rows = np.flatnonzero(cells.dataset_of == number)
        size = max(round(share * len(rows)), 1) if share and len(rows) > 1 else 0
        is_validation[np.random.default_rng((seed, number)).permutation(rows)[:size]] = True
    return is_validation


def _by_dataset(cells: MultiomeCells, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.int64]]:
    parts = {name: rows[cells.dataset_of[rows] == number] for number, name in enumerate(cells.dataset_names)}
    return {name: part for name, part in parts.items() if len(part)}


def _report(data: MultiomePretrainingData, is_held_out: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Numbers of cells; warns of what is in the folder and in no use."""
    is_used = np.zeros(len(data.cells), dtype=bool)
    for rows in [
        *(part for parts in data.training.values() for part in parts.values()),
        *data.validation.values(),
        *data.held_out.values(),
    ]:
        is_used[rows] = True
    unused = int((~is_used).sum())
    if unused:
        logger.warning(
            "%d of %d cells are in no use: they do not have what the kinds %s read", unused, len(data.cells), data.kinds
        )
    if not data.validation and not data.held_out:
        logger.warning("no cells are held out: nothing is said of how well the model predicts")
    return {
        "cells": len(data.cells),
        "cells_not_used": unused,
        "cells_of_held_out_datasets": int(is_held_out.sum()),
        "training": {kind: {name: len(part) for name, part in of.items()} for kind, of in data.training.items()},
        "validation": {kind: len(rows) for kind, rows in data.validation.items()},
        "held_out": {kind: len(rows) for kind, rows in data.held_out.items()},
    }
