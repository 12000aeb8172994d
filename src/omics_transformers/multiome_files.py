"""Files of cells in any format to what the multiome pipelines take: an AnnData, or one of RNA and one of ATAC."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

    from .data_scripts.count_files import CountFile

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CellFiles:
    """Where cells are; attributes as the arguments of `classify_cells`."""

    cells: str | Path
    atac: str | Path | None = None
    peaks: str | Path | None = None
    modality: str | None = None
    counts_layer: str | None = None
    use_raw: bool = False
    counts_are: str = "reads"
    minimum_fragments: int = 1000


class ReadCells(NamedTuple):
    """What `read_cell_files` returns.

    Attributes:
        cells: AnnData, or modality -> AnnData; raw counts in X.
        modality: of the AnnData where it is known, or which of both to read; else None.
        counts_are: what the counts of peaks are.
        report: files, and fragments that were left out.
    """

    cells: Any
    modality: str | None
    counts_are: str
    report: dict[str, Any]

    def require_column(self, column: str) -> None:
        """Raise ValueError where no `obs` has such a column."""
        parts = self.cells.values() if isinstance(self.cells, dict) else [self.cells]
        columns = list(dict.fromkeys(str(name) for part in parts for name in part.obs))
        if column not in columns:
            raise ValueError(f"obs has no column {column!r}; its columns are: {', '.join(columns) or 'none'}")


def read_cell_files(files: CellFiles) -> ReadCells:
    """Read cells into memory, sparse.

    Raises:
        FileNotFoundError: naming the file.
        ValueError: for files of no known format, fragments without peaks, and files that do not go together.
    """
    from .pipelines.aligned_cells import MODALITIES

    if files.modality is not None and files.modality not in MODALITIES:
        raise ValueError(f"modality is {files.modality!r}; expected {' or '.join(MODALITIES)}, or None to find out")
    report: dict[str, Any] = {"cells": str(files.cells)}
    if _is_fragments(files.cells):
        if files.atac is not None or files.modality == "rna":
            raise ValueError(f"{files.cells} holds fragments, which are ATAC: give the file of RNA first, as CELLS")
        counted, report["fragments"] = _count(files, Path(files.cells), None)
        return ReadCells(counted, "atac", "fragments", report)
    if files.atac is None:
        if files.peaks is not None:
            raise ValueError(f"peaks are for fragments, and {files.cells} holds counts: leave {files.peaks} out")
        return ReadCells(_read_counts(files.cells, files), files.modality, files.counts_are, report)
    if files.modality is not None:
        raise ValueError(f"modality is {files.modality!r}, and a file of ATAC is given beside CELLS: leave one out")
    rna = _one_modality(files.cells, "rna", files)
    report["atac"] = str(files.atac)
    if _is_fragments(files.atac):
        counted, report["fragments"] = _count(files, Path(files.atac), rna.obs_names)
        return ReadCells({"rna": rna, "atac": counted}, None, "fragments", report)
    if files.peaks is not None:
        raise ValueError(f"peaks are for fragments, and {files.atac} holds counts: leave {files.peaks} out")
    atac = _one_modality(files.atac, "atac", files)
    return ReadCells({"rna": rna, "atac": atac}, None, files.counts_are, report)


def _is_fragments(path: str | Path) -> bool:
    import h5py

    from .data_scripts.count_files import FORMATS
    from .data_scripts.fragment_files import FRAGMENT_LINE, is_fragments

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected {FORMATS}, or fragments.tsv")
    if path.is_dir() or h5py.is_hdf5(path):
        return False
    if is_fragments(path):
        return True
    raise ValueError(
        f"{path} is neither a matrix of counts nor a fragments file; expected {FORMATS}, or {FRAGMENT_LINE}"
    )


def _read_counts(path: str | Path, files: CellFiles) -> Any:
    """An AnnData; of an .h5mu modality -> AnnData."""
    modalities = _modalities_of(Path(path))
    if not modalities:
        return _read_file(path, "rna", files)
    chosen = [name for name in modalities if files.modality in (None, name)]
    if not chosen:
        raise ValueError(f"{path} has no modality {files.modality or 'rna or atac'!r}; it has {', '.join(modalities)}")
    return {name: _read_file(path, name, files) for name in chosen}


def _one_modality(path: str | Path, modality: str, files: CellFiles) -> Any:
    from .pipelines.aligned_cells import FEATURE_TYPES

    if modality in _modalities_of(Path(path)) or not _modalities_of(Path(path)):
        read = _read_file(path, modality, files)
        kinds = read.var.get("feature_types")
        if kinds is None or not (kinds == FEATURE_TYPES[modality]).any():
            return read
        return read[:, (kinds == FEATURE_TYPES[modality]).to_numpy()].copy()
    raise ValueError(f"{path} has no modality {modality!r}; it has {', '.join(_modalities_of(Path(path)))}")


def _modalities_of(path: Path) -> list[str]:
    """Of an .h5mu those that the model may know, of one without any all; nothing of other formats."""
    import h5py

    if path.is_dir() or not h5py.is_hdf5(path):
        return []
    with h5py.File(path, "r") as handle:
        names = sorted(handle["mod"]) if "mod" in handle else []
    known = [name for name in ("rna", "atac") if name in names]
    if known and len(known) < len(names):
        logger.warning("%s: of the modalities %s, only %s can be read", path, ", ".join(names), ", ".join(known))
    return known or names


def _read_file(path: str | Path, modality: str, files: CellFiles) -> Any:
    from .data_scripts.count_files import open_counts

    options: dict[str, Any] = {"layer": files.counts_layer, "use_raw": files.use_raw, "modality": modality}
    with open_counts(path, **options) as file:
        return _as_anndata(file)


def _as_anndata(file: "CountFile") -> Any:
    import anndata

    if not file.n_cells:
        raise ValueError(f"{file.source} holds no cell")
    features = file.gene_index
    var = features.set_axis(features.index.astype(str), axis=0)
    logger.info("%s: %d cells, %d columns", file.source, file.n_cells, len(var))
    return anndata.AnnData(file.read(0, file.n_cells), obs=file.obs, var=var)


def _count(files: CellFiles, path: Path, barcodes: "pd.Index | None") -> tuple[Any, dict[str, Any]]:
    """Fragments in peaks, of the barcodes at hand or of those with enough fragments, and a report."""
    import anndata
    import numpy as np
    import pandas as pd

    from .data_scripts.bed_files import read_bed
    from .data_scripts.disjoint_peaks import make_disjoint
    from .data_scripts.fragment_counts import count_fragments
    from .data_scripts.fragment_files import survey_fragments
    from .data_scripts.peak_names import peak_names

    if files.peaks is None:
        raise ValueError(f"{path} holds fragments: give the peaks to count them in, a BED file (peaks, --peaks)")
    table, counts = read_bed(files.peaks)
    table["name"] = peak_names(table)
    peaks, _, overlaps = make_disjoint(
        table, np.zeros((0, len(table))), overlapping="merge", source=str(files.peaks)
    )  # so that no fragment counts twice in peaks that overlap
    report: dict[str, Any] = {"peaks": str(files.peaks), **counts, **overlaps}
    if barcodes is None:
        at_hand = survey_fragments(path).fragments_of_barcode
        barcodes = at_hand.index[at_hand >= files.minimum_fragments]
        report["barcodes with fewer fragments, left out"] = len(at_hand) - len(barcodes)
        if not len(barcodes):
            raise ValueError(
                f"{path}: none of {len(at_hand):,} barcodes has {files.minimum_fragments:,} fragments or more; the "
                f"most is {at_hand.max():,}. Lower minimum_fragments (--minimum-fragments)"
            )
    counted = count_fragments(path, peaks, barcodes)
    var = peaks[["contig", "start", "end"]].set_axis(pd.Index(peak_names(peaks)), axis=0)
    obs = pd.DataFrame(index=pd.Index(barcodes).astype(str))
    has_any = counted.fragments_of_cell > 0
    cells = anndata.AnnData(counted.matrix.astype(np.float32), obs=obs, var=var)
    # Cells of the RNA that the file has no fragment of were not measured here.
    return cells if has_any.all() else cells[has_any].copy(), report | counted.report
