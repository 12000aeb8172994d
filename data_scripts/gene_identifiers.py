"""Which gene each column of a count matrix stands for: Ensembl versions stripped, symbols mapped, features set apart.

An Ensembl id loses its version (`ENSG00000141510.17`) and GENCODE's `_PAR_Y`, so both copies of a pseudoautosomal gene
become one. A name that is not an Ensembl gene id is looked up in the given table of symbols; without a table it stands
for itself. Several columns may come out as one gene: whoever reads the counts sums them.
"""

import gzip
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ENSEMBL_GENE = r"ENS[A-Z]*G(?:\d{11}|R\d{10})"
_VERSIONED = re.compile(rf"^({ENSEMBL_GENE})(?:\.\d+)?(?:_PAR_Y)?$")
_IDENTIFIER_COLUMNS = ("gene_ids", "gene_id", "ensembl_id", "ensembl_ids", "ensembl", "feature_id", "ensemblid")
_SYMBOL_COLUMNS = ("gene_symbols", "gene_symbol", "gene_name", "gene_names", "feature_name", "symbol")

NOT_GENE_EXPRESSION = "not gene expression (feature_types)"
SYMBOL_NOT_IN_TABLE = "symbol not in the table of symbols"
NOT_IN_VOCABULARY = "not in the vocabulary"
UNNAMED = "no name"


@dataclass(frozen=True)
class ResolvedGenes:
    """What became of the columns of one file."""

    gene_ids: np.ndarray  # (columns,) object: gene id, "" where the column was dropped
    names: np.ndarray  # (columns,) object: as the file writes them
    drop_reasons: np.ndarray  # (columns,) object: "" where the column stands for a gene
    identifier_column: str  # column of the file's gene table that was read, or "index"
    symbols: dict[str, str]  # gene id -> symbol, as far as the file tells
    n_versions_stripped: int
    n_symbols_mapped: int


def resolve_genes(
    gene_index: pd.DataFrame,
    *,
    vocabulary: Collection[str] | None = None,
    gene_symbols: Mapping[str, str] | None = None,
    gene_id_column: str | None = None,
    source: str = "the input",
) -> ResolvedGenes:
    """Resolves every row of `gene_index` (a column of the counts) to a gene id.

    `gene_symbols` maps symbol to gene id. Without `gene_id_column` the index and the usual columns (gene_ids, ...) are
    tried, and the one that gives most vocabulary genes (without vocabulary: most Ensembl ids) is read, the index first.
    ValueError, naming `source`, where the column is missing or nothing resolves.
    """
    known = None if vocabulary is None else frozenset(vocabulary)
    candidates = [gene_id_column] if gene_id_column else _candidate_columns(gene_index)
    resolved = [_resolve_column(gene_index, column, known, gene_symbols or {}, source) for column in candidates]
    best = max(resolved, key=lambda genes: _quality(genes, known))
    if not (best.gene_ids != "").any():
        raise ValueError(_nothing_resolved(best, source, known is not None, bool(gene_symbols)))
    return best


def strip_versions(names: pd.Series) -> pd.Series:
    """Ensembl gene ids without version and `_PAR_Y`; other names as they are."""
    return names.str.replace(_VERSIONED, r"\1", regex=True)


def read_json(table: str | Path | Mapping[str, Any], what: str) -> dict[str, Any]:
    """A JSON object from a .json or .json.gz file, or a mapping as it is; else ValueError, saying `what`."""
    if isinstance(table, Mapping):
        return dict(table)
    path = Path(table)
    if not path.is_file():
        raise FileNotFoundError(f"{what}: {path} does not exist")
    try:
        content = json.loads(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{what}: {path} is not JSON ({error}); expected an object, .json or .json.gz") from error
    if not isinstance(content, dict):
        raise ValueError(f"{what}: {path} holds a {type(content).__name__}; expected an object of names and values")
    return content


def read_gene_symbols(table: str | Path | Mapping[str, str]) -> dict[str, str]:
    """Symbol -> gene id. A table the other way round (gene id -> symbol, as a build writes it) is turned.

    Turned, a symbol of several genes goes to the first of them.
    """
    symbols = {str(key): str(value) for key, value in read_json(table, "gene symbols").items()}
    if not symbols:
        raise ValueError(f"gene symbols: {table} is empty; expected symbol -> gene id")
    if _n_ensembl(symbols.keys()) > _n_ensembl(symbols.values()):
        symbols = {symbol: gene_id for gene_id, symbol in reversed(symbols.items())}
    stripped = strip_versions(pd.Series(list(symbols.values()), dtype=object))
    return dict(zip(symbols, stripped, strict=True))


def _n_ensembl(names: Collection[str]) -> int:
    return sum(_VERSIONED.match(name) is not None for name in names)


def _candidate_columns(gene_index: pd.DataFrame) -> list[str]:
    usual = [str(column) for column in gene_index if str(column).lower() in _IDENTIFIER_COLUMNS]
    return ["index", *usual]


def _quality(genes: ResolvedGenes, known: frozenset[str] | None) -> int:
    kept = genes.gene_ids[genes.gene_ids != ""]
    return len(kept) if known is not None else _n_ensembl(kept)


def _resolve_column(
    gene_index: pd.DataFrame, column: str, known: frozenset[str] | None, gene_symbols: Mapping[str, str], source: str
) -> ResolvedGenes:
    names = _named(gene_index, column, source)
    gene_ids = strip_versions(names)
    is_ensembl = names.str.match(_VERSIONED)
    mapped = gene_ids.map(gene_symbols).where(~is_ensembl)
    if gene_symbols:
        # A vocabulary may hold names that are not Ensembl ids: those stand for themselves.
        stands_alone = is_ensembl | gene_ids.isin(known or ())
        gene_ids = mapped.where(~stands_alone, gene_ids).fillna("")
    reasons = pd.Series("", index=names.index, dtype=object)
    reasons[gene_ids == ""] = SYMBOL_NOT_IN_TABLE
    if known is not None:
        reasons[(gene_ids != "") & ~gene_ids.isin(known)] = NOT_IN_VOCABULARY
    reasons[names == ""] = UNNAMED
    reasons[_not_gene_expression(gene_index)] = NOT_GENE_EXPRESSION
    return ResolvedGenes(
        gene_ids=gene_ids.where(reasons == "", "").to_numpy(object),
        names=names.to_numpy(object),
        drop_reasons=reasons.to_numpy(object),
        identifier_column=column,
        symbols=_symbols(gene_index, gene_ids),
        n_versions_stripped=int((is_ensembl & (names != gene_ids)).sum()),
        n_symbols_mapped=int((mapped.notna() & (mapped == gene_ids) & (reasons == "")).sum()),
    )


def _named(gene_index: pd.DataFrame, column: str, source: str) -> pd.Series:
    if column != "index" and column not in gene_index:
        raise ValueError(f"{source} has no gene column {column!r}; it has index, {', '.join(map(str, gene_index))}")
    values = gene_index.index.to_series() if column == "index" else gene_index[column]
    return values.astype(object).where(values.notna(), "").astype(str).astype(object).reset_index(drop=True)


def _not_gene_expression(gene_index: pd.DataFrame) -> np.ndarray:
    """True for antibodies, peaks and the like of a multimodal 10x matrix."""
    if "feature_types" not in gene_index:
        return np.zeros(len(gene_index), bool)
    is_gene = (gene_index["feature_types"] == "Gene Expression").to_numpy()
    return ~is_gene if is_gene.any() else np.zeros(len(gene_index), bool)


def _symbols(gene_index: pd.DataFrame, gene_ids: pd.Series) -> dict[str, str]:
    """Symbol of each gene: from the usual column, else from an index that is not the ids themselves."""
    column = next((column for column in gene_index if str(column).lower() in _SYMBOL_COLUMNS), None)
    symbols = (gene_index.index.to_series() if column is None else gene_index[column]).astype(str)
    pairs = zip(gene_ids[::-1], symbols[::-1], strict=True)  # reversed: the first column of a gene names it
    return {gene_id: symbol for gene_id, symbol in pairs if gene_id and symbol and not _VERSIONED.match(symbol)}


def _nothing_resolved(genes: ResolvedGenes, source: str, has_vocabulary: bool, has_symbols: bool) -> str:
    examples = ", ".join(repr(name) for name in genes.names[:3])
    expected = "none is in the vocabulary" if has_vocabulary else "none names a gene"
    remedy = (
        "Check that species and kind of identifier agree"
        if has_symbols
        else "If these are symbols, pass a table of symbols (gene_symbols); if the ids are in another column of the "
        "gene table, name it (gene_id_column)"
    )
    return f"{source}: of {len(genes.names)} genes ({examples}, ...) {expected}. {remedy}."
