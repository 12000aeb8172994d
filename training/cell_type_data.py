"""Labelled cells of one or several folders, and the batches that classifiers are trained on.

Arms of a comparison may read folders that bin the same cells otherwise: all see the cells that every folder has, with
the modalities that any arm needs. Order of genes: the thesis' feature ordering study (4.4.1), with positions drawn by a
hash of seed, cell and gene, so that they do not depend on workers or processes.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch.utils.data import Dataset

from .cell_type_arms import FeatureOrder
from .cell_type_splits import CellTypeSplit, Rows, rare_types, seeded_hash
from .multiome_data import UNKNOWN, Modality, MultiomeCells, MultiomeFolder

logger = logging.getLogger(__name__)

IGNORED_LABEL = -100  # of a cell whose type the model cannot name
_BETWEEN = "\x1f"  # data set and cell name


@dataclass(frozen=True)
class LabelledCells:
    """Cells that can be compared on.

    Attributes:
        keys: (cells,) object, data set and name, sorted.
        types: (cells,) int64, places in `type_names`.
        type_names: sorted.
        groups: (cells,) object, what the split holds out whole; None in splits by cell.
        rows: folder, as the arms name it -> (cells,) int64, rows of its `MultiomeCells`.
        report: cells that were left out, and why.
    """

    keys: npt.NDArray[Any]
    types: Rows
    type_names: list[str]
    groups: npt.NDArray[Any] | None
    rows: dict[str, Rows]
    report: dict[str, Any]

    def __len__(self) -> int:
        return len(self.types)


def labelled_cells(
    folders: Mapping[str, MultiomeFolder], modalities: Mapping[str, set[Modality]], split: CellTypeSplit
) -> LabelledCells:
    """Cells with a type, and a group where the split is by one, in every folder, with the modalities needed there.

    Args:
        folders: name -> folder.
        modalities: name -> what its arms show.
        split: what is held out.

    Raises:
        ValueError: where a folder has two cells of one name, folders disagree on a cell's type, or no cell is left.
    """
    tables, report = {}, {}
    for name, folder in folders.items():
        tables[name], report[name] = _usable(name, folder.cells, modalities[name], split)
    shared = None
    for table in tables.values():
        shared = table.index if shared is None else shared.intersection(table.index)
    assert shared is not None
    shared = shared.sort_values()
    for name, table in tables.items():
        report[name]["not_in_all_folders"] = len(table) - len(shared)
    if not len(shared):
        raise ValueError(
            f"no cell is in all of {', '.join(folders)} under the same data set and name: give builds of the same cells"
        )
    first = next(iter(tables))
    labels = tables[first].loc[shared]
    _require_same_types(tables, shared, labels, first)
    labels, dropped = _without_rare(labels, split)
    type_names = sorted(labels["type"].unique().tolist())
    types = pd.Categorical(labels["type"], categories=type_names).codes.astype(np.int64)
    rows = {name: table.loc[labels.index, "row"].to_numpy(np.int64) for name, table in tables.items()}
    whole: dict[str, Any] = {"cells": len(labels), "cell_types": len(type_names), "rare_types_dropped": dropped}
    for name, of_folder in report.items():
        logger.info("%s: %d cells to compare on; left out: %s", name, len(labels), of_folder)
    groups = None if split.by == "cell" else labels["group"].to_numpy(object)
    return LabelledCells(labels.index.to_numpy(object), types, type_names, groups, rows, {**whole, "left_out": report})


def _usable(
    name: str, cells: MultiomeCells, modalities: set[Modality], split: CellTypeSplit
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows, types and groups by key, and how many cells were left out for what."""
    codes, names = cells.labels("cell_type")
    has_type = codes != UNKNOWN
    has_modalities = np.logical_and.reduce([cells.has(modality) for modality in sorted(modalities)])
    is_usable = has_type & has_modalities
    group_codes, group_names = np.zeros(len(cells), dtype=np.int64), [""]
    report = {"without_cell_type": int((~has_type).sum()), "without_modality": int((has_type & ~has_modalities).sum())}
    if split.by != "cell":
        group_codes, group_names = cells.labels(split.by)
        report[f"without_{split.by}"] = int((is_usable & (group_codes == UNKNOWN)).sum())
        is_usable &= group_codes != UNKNOWN
    if not is_usable.any():
        needed = " or ".join(modality.upper() for modality in sorted(modalities))
        raise ValueError(
            f"no cell of {name} can be used: of {len(cells):,}, {report['without_cell_type']:,} have no cell_type, "
            f"{report['without_modality']:,} of the others lack {needed}"
            + (f", and {report[f'without_{split.by}']:,} have no {split.by}" if split.by != "cell" else "")
            + "; build with labels (build multiome), or choose another modality or split"
        )
    rows = np.flatnonzero(is_usable)
    datasets = np.asarray(cells.dataset_names, dtype=object)[cells.dataset_of[rows]]
    table = pd.DataFrame(
        {
            "row": rows,
            "type": np.asarray(names, dtype=object)[codes[rows]],
            "group": np.asarray(group_names, dtype=object)[group_codes[rows]],
        },
        index=pd.Index(datasets + _BETWEEN + cells.cell_names[rows]),
    )
    is_twice = table.index.duplicated()
    if is_twice.any():
        example = table.index[is_twice.argmax()].replace(_BETWEEN, ": ")
        raise ValueError(
            f"{name} has {int(is_twice.sum()):,} cells whose data set and name another cell has, e.g. {example}: cells "
            "are split by their names; give them, or their data sets, names of their own (build multiome)"
        )
    return table, report


def _require_same_types(tables: Mapping[str, pd.DataFrame], shared: pd.Index, labels: pd.DataFrame, first: str) -> None:
    for name, table in tables.items():
        is_other = (table.loc[shared, ["type", "group"]] != labels[["type", "group"]]).any(axis=1).to_numpy()
        if is_other.any():
            key = shared[is_other.argmax()]
            raise ValueError(
                f"{int(is_other.sum()):,} cells have other types or groups in {name} than in {first}, e.g. "
                f"{key.replace(_BETWEEN, ': ')}: {table.loc[key, 'type']} and {labels.loc[key, 'type']}; build both "
                "with the same labels"
            )


def _without_rare(labels: pd.DataFrame, split: CellTypeSplit) -> tuple[pd.DataFrame, list[str]]:
    if split.by != "cell" or split.rare_classes != "drop":
        return labels, []
    codes, names = pd.factorize(labels["type"], sort=True)
    rare = [str(names[one]) for one in rare_types(codes.astype(np.int64), len(names))]
    if rare:
        logger.warning("types with a single cell are left out: %s", ", ".join(rare))
    return labels[~labels["type"].isin(rare)], rare


class CellTypeDataset(Dataset[Any]):
    """Cells of one part; a batch is one copy of their rows.

    Args:
        cells: of a folder.
        rows: (cells,) int64, of these cells.
        types: (cells,) int64, among all types of the comparison.
        labels: (cells,) int64, among the model's types; `IGNORED_LABEL` where it has not learned the cell's.
        keys: (cells,) object, for orders of genes.
        modalities: that are shown.
        feature_order: "fixed"; "per_cell", an order a cell that stays; "every_step", an order a batch.
        seed: of orders.
    """

    def __init__(
        self,
        cells: MultiomeCells,
        rows: Rows,
        *,
        types: Rows,
        labels: Rows,
        keys: npt.NDArray[Any],
        modalities: Sequence[Modality],
        feature_order: FeatureOrder = "fixed",
        seed: int = 0,
    ) -> None:
        self.cells, self.rows, self.types, self.labels = cells, rows, types, labels
        self.modalities, self.feature_order = modalities, feature_order
        self._hashes = seeded_hash(keys, seed) if feature_order != "fixed" else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, npt.NDArray[Any]]:
        return self.__getitems__([number])

    def __getitems__(self, numbers: Sequence[int]) -> dict[str, npt.NDArray[Any]]:
        """What PyTorch asks for a whole batch at once: `<modality>_values` (cells, genes) uint8, `labels` (cells,)
        int64, and `gene_positions` (cells, genes) int64 unless the order is fixed."""
        chosen = np.asarray(numbers, dtype=np.int64)
        batch: dict[str, npt.NDArray[Any]] = {
            f"{modality}_values": self.cells.values(self.rows[chosen], modality) for modality in self.modalities
        }
        if self._hashes is not None:
            positions = self._orders(self._hashes[chosen])
            for modality in self.modalities:
                values = batch[f"{modality}_values"]
                batch[f"{modality}_values"] = np.take_along_axis(values, positions, axis=1)
            batch["gene_positions"] = positions
        batch["labels"] = self.labels[chosen]
        return batch

    def _orders(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """(cells, genes); of "every_step" a hash of the batch's cells stands for the step: batches are shuffled."""
        if self.feature_order == "every_step":
            hashes = np.full_like(hashes, hashes.sum(dtype=np.uint64))
        return hashed_orders(hashes, self.cells.n_genes)


def hashed_orders(hashes: npt.NDArray[np.uint64], n_genes: int) -> npt.NDArray[np.int64]:
    """(cells, genes) int64: an order of the genes for each (cells,) uint64, by SplitMix64 of its sum with the gene."""
    genes = np.arange(1, n_genes + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = hashes[:, None] + genes[None]
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(mixed ^ (mixed >> np.uint64(31)), axis=1)


class CellTypeCollator:
    """Tensors of a batch that the data set has put together."""

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(array) for name, array in batch.items()}
