"""Cells in RNA, ATAC or both, as a user has them, to counts on the model's genes.

Taken are an AnnData of one modality (told by its `var`), one of both (10x, told by `feature_types`), a mapping
{"rna": AnnData, "atac": AnnData}, a MuData, and paths of .h5ad and .h5mu. Of a pair, the cells that both have are
kept, matched by barcode in the order of the RNA.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import scipy.sparse as sp

from .peak_intervals import read_peak_intervals, share_of_peak_names

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

Modality = Literal["rna", "atac"]
MODALITIES: tuple[str, ...] = get_args(Modality)
FEATURE_TYPES = {"rna": "Gene Expression", "atac": "Peaks"}
SMALLEST_SHARED = 0.5
_GENE_COLUMNS = ("gene_ids", "ensembl_id", "feature_id", "gene_id", "gene_symbols", "feature_name", "gene_name")
_ASSEMBLIES = {"hg38": "grch38", "hg19": "grch37", "b37": "grch37", "mm10": "grcm38", "mm39": "grcm39"}


class CountChoice(NamedTuple):
    """Which numbers of an AnnData are the raw counts.

    Attributes:
        counts_layer: a layer's name, or a mapping of modality to one; `X` where None.
        use_raw: take `raw`.
        gene_id_column: column of the RNA's `var` that names genes; found by itself where None.
        counts_are: what peaks' counts are, "reads" or "fragments", as the feature extractor's `align_atac` takes it.
    """

    counts_layer: str | Mapping[str, str] | None = None
    use_raw: bool = False
    gene_id_column: str | None = None
    counts_are: str = "reads"


@dataclass(frozen=True)
class MultiomeCells:
    """Cells aligned with a model's genes.

    Attributes:
        counts: modality -> csr (cells, genes) float32, of counts or of fragments' weighted sums.
        obs: annotation of the cells, one row a cell, index = barcodes; a pair's columns of both, the RNA's first.
        sources: modality -> the AnnData that it was read from.
        rows: modality -> (cells,) int64 rows of the source.
        report: what was found and what was left out.
    """

    counts: Mapping[str, sp.csr_matrix]
    obs: "pd.DataFrame"
    sources: Mapping[str, Any]
    rows: Mapping[str, np.ndarray]
    report: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.obs)

    def has_values(self, modality: str) -> np.ndarray:
        """(cells,) bool: whether a cell has any non-zero count on the model's genes."""
        if modality not in self.counts:
            return np.zeros(len(self), dtype=bool)
        return np.diff(self.counts[modality].indptr) > 0

    def require_column(self, column: str) -> None:
        """Raise ValueError where `obs` has no such column."""
        if column not in self.obs:
            has = ", ".join(map(str, self.obs.columns)) or "none"
            raise ValueError(f"obs has no column {column!r}; its columns are: {has}")

    def annotated(self, *, inplace: bool) -> Any:
        """The AnnData that results are written to: the RNA's where there is one, else the ATAC's.

        Args:
            inplace: the one that was given, with all its cells; else a copy of the cells that were read.
        """
        modality = next(iter(self.counts))
        source = self.sources[modality]
        if not inplace:
            return source[self.rows[modality]].copy()
        if source.is_view:
            raise ValueError("inplace=True, and the AnnData is a view of another: use inplace=False, or give a copy")
        return source


def read_multiome_cells(
    cells: Any,
    feature_extractor: Any,
    *,
    modality: str | None = None,
    choice: CountChoice | None = None,
) -> MultiomeCells:
    """Read cells and align them with the feature extractor's genes.

    Args:
        cells: as the module's docstring says.
        feature_extractor: a MultiomeFeatureExtractor.
        modality: "rna" or "atac": what an AnnData of one modality holds, or which of both to read.
        choice: of the counts.

    Raises:
        ValueError: on input that is none of these; counts that are not raw; genes or peaks that are not the model's;
            barcodes that repeat, or that fewer than half of the smaller of a pair share.
        FileNotFoundError: on a path where nothing is.
    """
    if modality is not None and modality not in MODALITIES:
        raise ValueError(f"modality is {modality!r}; expected {' or '.join(MODALITIES)}, or None to find out")
    choice = choice or CountChoice()
    parts = dict(_parts_of(cells, modality))
    for name, part in parts.items():
        _require_distinct_cells(part, name)
    barcodes, rows, report = _shared_cells(parts)
    counts: dict[str, sp.csr_matrix] = {}
    for name, part in parts.items():
        counts[name], report[name] = _align(part, rows[name], name, feature_extractor, choice)
    obs = _joined_obs(cells, parts).reindex(barcodes)
    return MultiomeCells(counts, obs, parts, rows, report)


def _parts_of(cells: Any, modality: str | None) -> Iterator[tuple[str, Any]]:
    """(modality, AnnData), the RNA first."""
    if isinstance(cells, str | PathLike):
        cells = read_file(Path(cells))
    if hasattr(cells, "mod"):
        others = [name for name in cells.mod if name not in MODALITIES]
        if others:
            logger.warning("the modalities %s are not read: the model knows rna and atac", ", ".join(others))
        known = {name: cells.mod[name] for name in MODALITIES if name in cells.mod}
        yield from _parts_of_mapping(known or dict(cells.mod), modality)
    elif isinstance(cells, Mapping):
        yield from _parts_of_mapping(cells, modality)
    elif hasattr(cells, "obs") and hasattr(cells, "var"):
        yield from _parts_of_anndata(cells, modality)
    else:
        raise ValueError(
            f"cells are of type {type(cells).__name__}: expected an AnnData, a mapping "
            '{"rna": AnnData, "atac": AnnData}, a MuData, or the path of a .h5ad or .h5mu'
        )


def read_file(path: Path) -> Any:
    """The AnnData of a .h5ad, or the MuData of a .h5mu.

    Raises:
        ValueError: for another kind of file, or one that cannot be read.
        FileNotFoundError: where nothing is.
    """
    if not path.exists():
        raise FileNotFoundError(f"no cells at {path}: expected a .h5ad or .h5mu file")
    if path.suffix not in (".h5ad", ".h5mu"):
        raise ValueError(
            f"{path} is neither .h5ad nor .h5mu: read it into an AnnData, or use the commands `omics-transformers "
            "classify`, `impute` and `embed-cells`, which also take the files of 10x Genomics and fragments"
        )
    try:
        if path.suffix == ".h5mu":
            import mudata

            with mudata.set_options(pull_on_update=False):  # else it warns; modalities' own columns are read anyway
                return mudata.read_h5mu(path)
        import anndata

        return anndata.read_h5ad(path)
    except Exception as error:  # h5py raises many kinds for files that are cut off or no HDF5
        raise ValueError(f"{path} cannot be read as {path.suffix}: {error}") from error


def _parts_of_mapping(given: Mapping[str, Any], modality: str | None) -> Iterator[tuple[str, Any]]:
    strange = [name for name in given if name not in MODALITIES]
    chosen = [name for name in MODALITIES if name in given and modality in (None, name)]
    if strange or not chosen:
        raise ValueError(
            f"cells have the modalities {', '.join(map(repr, given)) or 'none'}; expected "
            f"{repr(modality) if modality else 'rna, atac or both'}"
        )
    for name in chosen:
        part = given[name]
        if isinstance(part, str | PathLike):
            part = read_file(Path(part))
        if not (hasattr(part, "obs") and hasattr(part, "var")) or hasattr(part, "mod"):
            raise ValueError(f"the cells' {name} is of type {type(part).__name__}: expected an AnnData or its path")
        yield name, part


def _parts_of_anndata(cells: Any, modality: str | None) -> Iterator[tuple[str, Any]]:
    kinds = set(cells.var["feature_types"].astype(str)) if "feature_types" in cells.var else set()
    found = [name for name in MODALITIES if FEATURE_TYPES[name] in kinds]
    if found and len(kinds) > 1:
        if modality is not None and modality not in found:
            raise ValueError(f"var has no feature of the type {FEATURE_TYPES[modality]!r}; it has {sorted(kinds)}")
        for name in found:
            if modality in (None, name):
                yield name, cells[:, (cells.var["feature_types"] == FEATURE_TYPES[name]).to_numpy()]
    elif modality is not None:
        yield modality, cells
    elif found:
        yield found[0], cells
    else:
        share = share_of_peak_names(cells.var_names)
        logger.info("%.0f %% of the names of var tell a place: taken as %s", 100 * share, _told(share))
        yield _told(share), cells


def _told(share: float) -> str:
    return "atac" if share >= 0.5 else "rna"


def _require_distinct_cells(part: Any, modality: str) -> None:
    if part.n_obs == 0:
        raise ValueError(f"the AnnData of {modality} has no cells")
    repeated = part.obs_names[part.obs_names.duplicated()]
    if len(repeated):
        raise ValueError(
            f"{len(repeated):,} barcodes of {modality} occur more than once, e.g. {repeated[0]!r}: make them unique "
            "(anndata: obs_names_make_unique)"
        )


def _shared_cells(parts: Mapping[str, Any]) -> tuple["pd.Index", dict[str, np.ndarray], dict[str, Any]]:
    """Barcodes of all parts in the order of the first, their rows in each, and a report."""
    names = [part.obs_names for part in parts.values()]
    barcodes = names[0]
    report: dict[str, Any] = {f"cells of {name}": part.n_obs for name, part in parts.items()}
    if len(names) == 2:
        barcodes = names[0][names[0].isin(names[1])]
        smaller = min(map(len, names))
        if len(barcodes) < SMALLEST_SHARED * smaller or not len(barcodes):
            raise ValueError(
                f"of {len(names[0]):,} barcodes of rna and {len(names[1]):,} of atac, {len(barcodes):,} are the same, "
                f"fewer than {SMALLEST_SHARED:.0%} of the smaller: rna has e.g. {names[0][0]!r}, atac {names[1][0]!r}. "
                "Give both the same barcodes (prefix and suffix such as -1 too), or read one with modality="
            )
        report |= {
            "cells of both": len(barcodes),
            "cells of one only, left out": sum(map(len, names)) - 2 * len(barcodes),
        }
        if len(barcodes) < max(map(len, names)):
            logger.warning("%d cells have rna and atac; the others are left out: %s", len(barcodes), report)
    rows = {name: part.obs_names.get_indexer(barcodes) for name, part in parts.items()}
    return barcodes, rows, report


def _joined_obs(cells: Any, parts: Mapping[str, Any]) -> "pd.DataFrame":
    tables = [part.obs for part in parts.values()] + ([cells.obs] if hasattr(cells, "mod") else [])
    joined = tables[0]
    for table in tables[1:]:
        joined = joined.join(table[[column for column in table if column not in joined]])
    return joined


def _align(
    part: Any, rows: np.ndarray, modality: str, feature_extractor: Any, choice: CountChoice
) -> tuple[sp.csr_matrix, dict[str, Any]]:
    counts, var, name = _counts_of(part, modality, choice)
    if len(rows) != part.n_obs or (rows != np.arange(len(rows))).any():
        counts = counts[rows]
    try:
        if modality == "rna":
            genes = _gene_names(var, feature_extractor, choice.gene_id_column)
            aligned = feature_extractor.align_rna(counts, genes)
        else:
            _require_same_assembly(var, feature_extractor)
            peaks = read_peak_intervals(var, "peaks")
            aligned = feature_extractor.align_atac(counts, *peaks, counts_are=choice.counts_are)
    except ValueError as error:
        raise ValueError(f"{modality} ({name}): {error}{_advice(part, name)}") from error
    matrix = sp.csr_matrix(aligned.counts)
    matrix.eliminate_zeros()
    return matrix, {"matrix": name, **aligned.report}


def _counts_of(part: Any, modality: str, choice: CountChoice) -> tuple[Any, "pd.DataFrame", str]:
    layer = choice.counts_layer
    if isinstance(layer, Mapping):
        layer = layer.get(modality)
    if choice.use_raw and layer is not None:
        raise ValueError(f"counts_layer={layer!r} and use_raw=True exclude each other: name one")
    if getattr(part, "isbacked", False):
        part = part.to_memory()
    if choice.use_raw:
        if part.raw is None:
            raise ValueError(f"use_raw=True, and the AnnData of {modality} has no `raw`")
        return part.raw.X, part.raw.var, "raw.X"
    if layer is None:
        if part.X is None:
            raise ValueError(f"the AnnData of {modality} has no X{_advice(part, 'X')}")
        return part.X, part.var, "X"
    if layer not in part.layers:
        has = ", ".join(part.layers) or "none"
        raise ValueError(f"the AnnData of {modality} has no layer {layer!r}; its layers are: {has}")
    return part.layers[layer], part.var, f"layer {layer}"


def _advice(part: Any, name: str) -> str:
    others = [f"layer {layer}" for layer in part.layers if name != f"layer {layer}"]
    others += ["raw.X"] if part.raw is not None and name != "raw.X" else []
    return f". There is also {', '.join(others)} (counts_layer, use_raw)" if others else ""


def _gene_names(var: "pd.DataFrame", feature_extractor: Any, column: str | None) -> np.ndarray:
    """(columns,) object: the names of var, or the usual column of it with most of the model's genes."""
    if column is not None:
        if column not in var:
            raise ValueError(f"var has no column {column!r}; it has: {', '.join(map(str, var.columns)) or 'none'}")
        return var[column].astype(str).to_numpy(object)
    known = {*feature_extractor.gene_ids, *(symbol for symbol in feature_extractor.gene_symbols or () if symbol)}
    candidates = [var.index.to_series(), *(var[name] for name in _GENE_COLUMNS if name in var)]
    texts = [candidate.astype(str) for candidate in candidates]
    found = [int((text.isin(known) | text.str.replace(r"\.\d+$", "", regex=True).isin(known)).sum()) for text in texts]
    return texts[int(np.argmax(found))].to_numpy(object)


def _require_same_assembly(var: "pd.DataFrame", feature_extractor: Any) -> None:
    """10x files say in `genome` what peaks were called on."""
    expected = getattr(feature_extractor, "assembly", None)
    genomes = set(var["genome"].dropna().astype(str)) - {""} if "genome" in var else set()
    if expected is None or len(genomes) != 1:
        return
    (found,) = genomes
    if _plain(found) in {*_ASSEMBLIES, *_ASSEMBLIES.values()} and _plain(found) != _plain(expected):
        raise ValueError(
            f"the peaks are of the assembly {found} (column genome of var), the model's genes of {expected}: lift them "
            "over, or count fragments in peaks of that assembly"
        )


def _plain(assembly: str) -> str:
    name = assembly.lower().split("_")[0].split("-")[0].split(".")[0]
    return _ASSEMBLIES.get(name, name)
