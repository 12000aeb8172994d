"""The cells of one data set: paired by barcode, labelled, and filtered by how many genes and peaks they show.

Source: chapter 4 of the thesis: cells with at least 1 % of the genes and 1 % of the peaks non-zero. A paired cell must
pass both. A cell without any non-zero value of a gene is left out whatever the shares are.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .cell_labels import cell_types_of, find_label_column, labels_of_obs, read_labels
from .multiome_input import Input
from .multiome_sources import MODALITIES, Modality, MultiomeSource

logger = logging.getLogger(__name__)

LABELS = ("cell_type", "donor", "batch")


@dataclass(frozen=True)
class DatasetCells:
    """Cells of one data set, in the order of the RNA's file, or of the ATAC's where there is no RNA.

    Attributes:
        name: of the data set.
        modality: "rna", "atac" or "both".
        table: cell (barcode), rna_row and atac_row (rows of the files, -1 for none), cell_type, donor, batch (text,
            None where unknown).
        report: what was left out.
    """

    name: str
    modality: str
    table: pd.DataFrame
    report: dict[str, Any]


def pair_and_label(source: MultiomeSource, inputs: Mapping[Modality, Input]) -> DatasetCells:
    """The cells that all modalities of a data set have, with their labels; nothing is filtered yet.

    Raises:
        FileNotFoundError, ValueError: as `read_labels`; for a column of obs that is not there.
    """
    first = inputs[next(one for one in MODALITIES if one in inputs)]
    report: dict[str, Any] = {f"cells in the file of {one.upper()}": len(inputs[one].all_barcodes) for one in inputs}
    rows = {one: inputs[one].barcodes.get_indexer(first.barcodes) for one in inputs}
    is_in_all = np.logical_and.reduce([place >= 0 for place in rows.values()])
    if len(inputs) > 1:
        shared = int(is_in_all.sum())
        only = {one.upper(): len(inputs[one].all_barcodes) - shared for one in inputs}
        report["cells in one of the paired files only, left out"] = only
        if any(only.values()):
            logger.warning("%s: %d cells are in both files; in one only: %s", source.dataset, shared, only)
    elif first.matrix is None:
        report["barcodes that are no cells, left out"] = len(first.all_barcodes) - len(first.barcodes)
    table = pd.DataFrame({"cell": first.barcodes[is_in_all].to_numpy(object)})
    for one in MODALITIES:
        table[f"{one}_row"] = rows[one][is_in_all] if one in rows else np.full(len(table), -1)
    labels, account = _labels(source, inputs, pd.Index(table["cell"]))
    for name in LABELS:
        table[name] = labels[name]
    modality = "both" if len(inputs) > 1 else next(iter(inputs))
    return DatasetCells(source.dataset, modality, table, report | {"labels": account})


def filter_cells(
    cells: DatasetCells,
    *,
    genes_shown: Mapping[Modality, np.ndarray],
    peaks_shown: np.ndarray | None,
    n_genes: int,
    n_peaks: int,
    minimum_gene_share: float,
    minimum_peak_share: float,
) -> DatasetCells:
    """Leave out, and count, cells that show too little.

    Args:
        cells: as `pair_and_label` gives them.
        genes_shown: by modality `(cells of the file,)`: genes with an aligned value.
        peaks_shown: `(cells of the ATAC's file,)`: peaks of the file that are not zero; None without ATAC.
        n_genes, n_peaks: how many there are.
        minimum_gene_share, minimum_peak_share: least shares of them.

    Raises:
        ValueError: where no cell is left, with the counts.
    """
    table = cells.table
    is_empty, is_low = np.zeros(len(table), dtype=bool), dict.fromkeys(genes_shown, np.zeros(len(table), dtype=bool))
    for one, shown in genes_shown.items():
        of_cell = shown[table[f"{one}_row"]]
        is_empty |= of_cell == 0
        # 1e-9: a share such as 0.07 of 100 genes is 7, whatever the floating point says.
        if one == "rna":
            is_low[one] = of_cell < minimum_gene_share * n_genes - 1e-9
        elif peaks_shown is not None:
            is_low[one] = peaks_shown[table["atac_row"]] < minimum_peak_share * n_peaks - 1e-9
    report = cells.report | {"cells without a non-zero value, left out": int(is_empty.sum())}
    is_kept = ~is_empty
    for one, what, share in (("rna", "genes", minimum_gene_share), ("atac", "peaks", minimum_peak_share)):
        if one in is_low:
            low = is_low[one] & is_kept
            report[f"cells with less than {share:g} of the {what}, left out"] = int(low.sum())
            is_kept &= ~low
    report["cells kept"] = int(is_kept.sum())
    if not is_kept.any():
        left_out = {key: number for key, number in report.items() if "left out" in key}
        raise ValueError(
            f"{cells.name}: none of {len(table):,} cells is left: {left_out}. Lower minimum_gene_share or "
            "minimum_peak_share, or leave the data set out"
        )
    logger.info("%s: %d of %d cells kept", cells.name, report["cells kept"], len(table))
    return DatasetCells(cells.name, cells.modality, table[is_kept].reset_index(drop=True), report)


def _labels(
    source: MultiomeSource, inputs: Mapping[Modality, Input], barcodes: pd.Index
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Of each of LABELS, object `(cells,)`; and where it is from."""
    columns = dict(zip(LABELS, (source.label_column, source.donor_column, source.batch_column), strict=True))
    labels, account = {}, {}
    for name, column in columns.items():
        if source.labels is not None and (column is not None or name == "cell_type"):
            options = {"label_column": column, "barcode_column": source.barcode_column}
            series, account[name] = read_labels(source.labels, barcodes, **options)
        else:
            series, account[name] = _of_obs(source, inputs, name, column)
        labels[name] = _texts(series, barcodes, f"{source.path} ({account[name]})")
    return labels, account


def _of_obs(
    source: MultiomeSource, inputs: Mapping[Modality, Input], name: str, column: str | None
) -> tuple[pd.Series, Any]:
    """Of the first file that has the column."""
    for one in inputs.values():
        found = column
        if column is None and name == "cell_type":
            try:
                found = find_label_column(one.obs.columns)
            except ValueError as error:
                raise ValueError(f"{one.source}: {error}") from error
        if found is not None and found in one.obs:
            return one.obs[found], f"column {found} of obs of the {one.modality.upper()}"
    if column is not None:
        first = next(iter(inputs.values()))
        labels_of_obs(first.obs, column, source=str(source.path))
    return pd.Series(dtype=object), "unknown"


def _texts(labels: pd.Series, barcodes: pd.Index, source: str) -> np.ndarray:
    """object `(cells,)`: text, or None."""
    of_cells = labels.reindex(barcodes)
    types = cell_types_of(of_cells, source=source, minimum_types=0)
    return np.array([*types.names, None], dtype=object)[types.codes]
