"""Files of RNA, ATAC or both, opened and checked before any work: what they hold, cells, features, fragments.

A file is told by its content: an .h5mu by its modalities, a matrix by its feature types or by names that are places,
fragments by their first line.
"""

import logging
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from .count_files import FORMATS, CountFile
from .count_matrices import SpooledRows
from .fragment_files import FRAGMENT_LINE, is_fragments
from .multiome_fragments import CellReading, fragments_input
from .multiome_input import Input, MatrixKey, OpenMatrices, require_shared_barcodes, require_unique_barcodes
from .multiome_sources import MODALITIES, Modality, MultiomeSource
from .peak_names import read_peaks
from .rank_values import require_counts

logger = logging.getLogger(__name__)

PROBE_CELLS = 512  # of every matrix are checked before work begins; the rest as they are read
_PEAK_NAME_COLUMNS = ("interval", "peak", "peaks", "peak_name", "peak_id")
_NAMES_LOOKED_AT = 1000


def open_inputs(source: MultiomeSource, opened: OpenMatrices, reading: CellReading) -> dict[Modality, Input]:
    """What a data set has, by modality.

    Args:
        source: its file or files.
        opened: where matrices stay open.
        reading: which cells of fragments, and how many barcodes pairs share at least.

    Raises:
        FileNotFoundError: where a file is missing.
        ValueError: for a file that is neither counts nor fragments, lacks the modality asked for, has no cell, repeats
            a barcode, holds values that are no counts in its first cells; and for pairs whose barcodes differ.
    """
    if source.atac is None:
        found = _inputs_of(source, Path(source.path), source.modality, opened, None, reading)
    else:
        found = _inputs_of(source, Path(source.path), "rna", opened, None, reading)
        found |= _inputs_of(source, Path(source.atac), "atac", opened, found["rna"].barcodes, reading)
    if len(found) > 1:
        files = f"{source.path} and {source.atac}" if source.atac is not None else str(source.path)
        require_shared_barcodes(
            found["rna"].all_barcodes, found["atac"].all_barcodes, reading.minimum_shared_barcodes, files
        )
    return found


def check_counts(file: CountFile, counts: sp.csr_matrix, start: int, modality: Modality) -> None:
    """`require_counts` with the file's names; `start` is the first cell."""
    others = ", ".join(file.other_matrices)
    require_counts(
        counts,
        source=file.source,
        cell_ids=file.obs.index[start : start + counts.shape[0]],
        genes=file.gene_index.index,
        allow_fractional=False,
        advice=f"The file also has {others}: choose the one with counts (layer)." if others else "",
        feature="gene" if modality == "rna" else "peak",
        if_estimated="round them if so",
    )


def _inputs_of(
    source: MultiomeSource,
    path: Path,
    modality: str | None,
    opened: OpenMatrices,
    barcodes: pd.Index | None,
    reading: CellReading,
) -> dict[Modality, Input]:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected {FORMATS}, or fragments.tsv")
    if not (path.is_dir() or h5py.is_hdf5(path)):
        if not is_fragments(path):
            raise ValueError(
                f"{path} is neither a matrix of counts nor a fragments file; expected {FORMATS}, or {FRAGMENT_LINE}"
            )
        if modality not in (None, "atac"):
            raise ValueError(f"{path} holds fragments, which are ATAC; asked for is {modality!r}")
        return {"atac": fragments_input(source, path, barcodes, reading)}
    if source.atac is None or path == Path(source.atac):
        given = [name for name, value in (("peaks", source.peaks), ("tiles", source.tile_bp)) if value is not None]
        if given:
            raise ValueError(f"{path} holds counts of its own columns; {given[0]} are for fragments.tsv only")
    held = _modalities_held(path, source, opened)
    wanted: tuple[Modality, ...] = tuple(one for one in MODALITIES if modality in (one, "both") or modality is None)
    if modality is None:
        wanted = tuple(one for one in wanted if one in held)
    elif not set(wanted) <= set(held) and len(held) > 1:
        raise ValueError(f"{path} holds {' and '.join(held)}; asked for is {modality!r}")
    elif modality == "both" and len(held) < 2:
        raise ValueError(
            f"{path} holds {' and '.join(held)} only; asked for is both: name the ATAC's file (:atac=PATH)"
        )
    return {one: _matrix_input(source, held.get(one) or next(iter(held.values())), one, opened) for one in wanted}


def _modalities_held(path: Path, source: MultiomeSource, opened: OpenMatrices) -> dict[Modality, MatrixKey]:
    """What to open for each modality that the file seems to hold."""
    if not path.is_dir():
        with h5py.File(path, "r") as handle:
            parts = set(handle["mod"]) if "mod" in handle else None
        if parts is not None:
            held: dict[Modality, MatrixKey] = {
                one: MatrixKey(path, source.layer, one) for one in MODALITIES if one in parts
            }
            if not held:
                raise ValueError(f"{path} has the modalities {', '.join(sorted(parts))}; expected rna, atac or both")
            return held
    key = MatrixKey(path, source.layer, "rna")
    features = opened.get(key).gene_index
    if "feature_types" in features:
        kinds = set(features["feature_types"].astype(str))
        by_type: dict[Modality, str] = {"rna": "Gene Expression", "atac": "Peaks"}
        held = {one: key for one, kind in by_type.items() if kind in kinds}
        if held:
            return held
    return {"atac" if _names_are_places(features) else "rna": key}


def _names_are_places(features: pd.DataFrame) -> bool:
    few = features.iloc[:_NAMES_LOOKED_AT]
    try:
        # Not the columns of contig, start and end: genes may have them too.
        read_peaks(few[[name for name in few if str(name).lower() in _PEAK_NAME_COLUMNS]])
    except ValueError:
        return False
    return len(few) > 0


def _matrix_input(source: MultiomeSource, key: MatrixKey, modality: Modality, opened: OpenMatrices) -> Input:
    file = opened.get(key)
    if not file.n_cells or not len(file.gene_index):
        raise ValueError(f"{file.source} holds {file.n_cells:,} cells and {len(file.gene_index):,} columns")
    require_unique_barcodes(file.obs.index, file.source)
    if not isinstance(file.matrix, SpooledRows):
        check_counts(file, file.read(0, min(PROBE_CELLS, file.n_cells)), 0, modality)
    features = file.gene_index
    is_feature = _is_of_type(features, "Gene Expression" if modality == "rna" else "Peaks")
    peaks = None
    if modality == "atac":
        peaks = read_peaks(features[is_feature], coordinates=source.coordinates, source=file.source)
        peaks["column"] = np.flatnonzero(is_feature)
    cells = file.obs.index
    return Input(modality, file.source, cells, features, is_feature, file.obs, key, peaks, None, False, {}, cells)


def _is_of_type(features: pd.DataFrame, kind: str) -> np.ndarray:
    if "feature_types" not in features:
        return np.ones(len(features), dtype=bool)
    is_kind = (features["feature_types"].astype(str) == kind).to_numpy()
    return is_kind if is_kind.any() else np.ones(len(features), dtype=bool)
