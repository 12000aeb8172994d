"""Counts of cells with the genes' ids and symbols, from an AnnData or a .h5ad, columns of one gene summed."""

import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from ..modeling.tokenization_gene_rank import strip_version
from ..pipelines.perturbation_cells import GENE_ID_COLUMNS
from ..pipelines.perturbation_gene_sets import close_names

logger = logging.getLogger(__name__)

# Columns of `var` that hold symbols in the files of 10x Genomics, CELLxGENE and scanpy.
SYMBOL_COLUMNS = ("symbol", "gene_symbol", "gene_symbols", "feature_name", "gene_name", "gene_names")


class CellCounts(NamedTuple):
    """Counts and their genes.

    Attributes:
        counts: (cells, genes), sparse or dense.
        gene_ids: (genes,), each once.
        gene_symbols: (genes,), "" where unknown.
    """

    counts: Any
    gene_ids: Sequence[str]
    gene_symbols: Sequence[str]

    def column_of(self, gene: str) -> int:
        """The column of a gene id, with or without version, or of a symbol that one gene bears.

        Raises:
            ValueError: where none, or several, have the name.
        """
        bare = strip_version(gene)
        found = [number for number, name in enumerate(self.gene_ids) if strip_version(name) == bare]
        found = found or [number for number, symbol in enumerate(self.gene_symbols) if symbol == gene]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(
                f"{len(found)} genes have the symbol {gene}: "
                f"{', '.join(self.gene_ids[number] for number in found)}; give one of these ids"
            )
        close = close_names(gene, [*self.gene_symbols, *self.gene_ids])
        raise ValueError(
            f"the gene {gene!r} is not among the {len(self.gene_ids):,} genes of the cells, e.g. "
            f"{', '.join(list(self.gene_ids)[:3])}" + (f"; did you mean {' or '.join(close)}?" if close else "")
        )


def read_counts(
    cells: Any, *, counts_layer: str | None = None, use_raw: bool = False, gene_id_column: str | None = None
) -> CellCounts:
    """The counts of an AnnData or a path of a .h5ad; options and errors as the perturbation pipeline's."""
    if isinstance(cells, str | PathLike):
        cells = _opened(Path(cells))
    if not (hasattr(cells, "obs") and hasattr(cells, "var")):
        raise ValueError(
            f"cells are of type {type(cells).__name__}: expected an AnnData of raw counts, or a path of a .h5ad file "
            "(a tokenised folder holds ranks, and no counts)"
        )
    counts, var = _chosen(cells, counts_layer, use_raw)
    gene_ids = _gene_ids(var, gene_id_column)
    symbols = next((var[name] for name in SYMBOL_COLUMNS if name in var.columns), None)
    if symbols is None and gene_ids != var.index.astype(str).tolist():
        symbols = var.index  # as scanpy reads 10x: symbols name the rows, ids are a column
    known = [""] * len(gene_ids) if symbols is None else ["" if one != one else str(one) for one in symbols]
    return _one_column_a_gene(CellCounts(counts, gene_ids, known))


def _opened(path: Path) -> Any:
    import anndata

    if not path.is_file() or path.suffix != ".h5ad":
        kind = "a folder" if path.is_dir() else "no .h5ad file" if path.exists() else "nothing"
        raise (ValueError if path.exists() else FileNotFoundError)(
            f"{path} is {kind}: expected a .h5ad file of raw counts (a tokenised folder holds ranks, and no counts)"
        )
    try:
        return anndata.read_h5ad(path)
    except Exception as error:  # anndata and h5py raise many kinds for files that are cut off or no HDF5
        raise ValueError(f"{path} cannot be read as .h5ad: {error}") from error


def _chosen(cells: Any, counts_layer: str | None, use_raw: bool) -> tuple[Any, Any]:
    if use_raw:
        if cells.raw is None:
            raise ValueError("use_raw=True, and the AnnData has no `raw`")
        return cells.raw.X, cells.raw.var
    if counts_layer is None:
        return cells.X, cells.var
    if counts_layer not in cells.layers:
        raise ValueError(f"the AnnData has no layer {counts_layer!r}; it has: {', '.join(cells.layers) or 'none'}")
    return cells.layers[counts_layer], cells.var


def _gene_ids(var: Any, gene_id_column: str | None) -> list[str]:
    if gene_id_column is not None and gene_id_column not in var.columns:
        raise ValueError(
            f"`var` has no column {gene_id_column!r}; it has: {', '.join(map(str, var.columns)) or 'none'}"
        )
    if gene_id_column is None and not _are_ensembl(var.index):
        gene_id_column = next((name for name in GENE_ID_COLUMNS if name in var.columns), None)
    return (var.index if gene_id_column is None else var[gene_id_column]).astype(str).tolist()


def _are_ensembl(names: Any) -> bool:
    return bool(len(names)) and sum(str(name).startswith("ENS") for name in names) > len(names) / 2


def _one_column_a_gene(read: CellCounts) -> CellCounts:
    """Sum the columns of one id, as the tokenizer does."""
    names = [strip_version(name) for name in read.gene_ids]
    distinct = list(dict.fromkeys(names))
    if len(distinct) == len(names):
        return read
    logger.info("%d columns name genes that other columns name too: they are summed", len(names) - len(distinct))
    row_of = {name: number for number, name in enumerate(distinct)}
    target = np.fromiter((row_of[name] for name in names), dtype=np.int64, count=len(names))
    gather = sp.csr_matrix((np.ones(len(names)), (np.arange(len(names)), target)), shape=(len(names), len(distinct)))
    symbols = dict(zip(reversed(names), reversed(list(read.gene_symbols)), strict=True))
    return CellCounts(sp.csr_matrix(read.counts) @ gather, distinct, [symbols[name] for name in distinct])
