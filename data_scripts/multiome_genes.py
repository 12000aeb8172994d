"""The genes of a multiome build: those that all RNA has, or a given list; named by ids or by symbols; with their loci.

Source: chapter 4 of the thesis: genes present in every data set, ids with several symbols left out. Genes without a
place in the annotation are left out too where there is ATAC, which could never reach them.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from ..modeling.peak_gene_rings import GeneLoci
from .annotations import read_gene_spans
from .fragment_files import shown_names
from .gene_identifiers import ENSEMBL_GENE, ResolvedGenes, read_gene_symbols, resolve_genes, strip_versions
from .genomes import contig_alias

logger = logging.getLogger(__name__)

GeneNames = Literal["ids", "symbols"]
GENE_NAMES = ("ids", "symbols")
_SYMBOL_COLUMNS = ("gene_symbols", "gene_symbol", "gene_name", "gene_names", "feature_name", "symbol", "name")
_MOSTLY = 0.5
_FEW = 0.5


@dataclass(frozen=True)
class GeneNaming:
    """What tells genes apart.

    Attributes:
        kind: "ids", or "symbols" as files and annotation write them.
        symbols: symbol -> id, for what knows symbols only; None without a table. Never with "symbols".
    """

    kind: GeneNames = "ids"
    symbols: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.kind not in GENE_NAMES:
            raise ValueError(f"gene_names is {self.kind!r}; expected one of {', '.join(GENE_NAMES)}")
        if self.kind == "symbols" and self.symbols is not None:
            raise ValueError(
                "gene_names is 'symbols' and a table of symbols and ids is given (gene_symbols); expected one of both"
            )


@dataclass(frozen=True)
class ChosenGenes:
    """The genes of a build, in order.

    Attributes:
        gene_ids: their names, by which columns are found.
        symbols: "" where unknown.
        loci: where they lie; None where there is no ATAC.
        annotated: where all genes of the annotation lie, by which peaks of another assembly are told.
        report: what was left out.
    """

    gene_ids: list[str]
    symbols: list[str]
    loci: GeneLoci | None = None
    annotated: GeneLoci | None = None
    report: dict[str, Any] = field(default_factory=dict)

    def columns_of(self, resolved: ResolvedGenes) -> np.ndarray:
        """int64 `(columns,)`: the gene of each column of a file, -1 for none."""
        return pd.Index(self.gene_ids).get_indexer(pd.Index(resolved.gene_ids, dtype=object)).astype(np.int64)


def read_symbol_table(table: str | Path | Mapping[str, str]) -> dict[str, str]:
    """Symbol -> gene id, from JSON, or from a table with a header (TSV or CSV, .gz too) of gene_id and symbol.

    A symbol of several genes goes to the first of them. ValueError, naming the file, where it is neither.
    """
    if isinstance(table, Mapping) or ".json" in Path(table).suffixes:
        return read_gene_symbols(table)
    path = Path(table)
    if not path.is_file():
        raise FileNotFoundError(f"gene symbols: {path} does not exist")
    try:
        read = pd.read_csv(path, sep=None, engine="python", dtype=str, keep_default_na=False, comment="#")
    except (OSError, EOFError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"gene symbols: {path} cannot be read as a table ({error})") from error
    symbol_column = next((name for name in _SYMBOL_COLUMNS if name in read), None)
    if "gene_id" not in read or symbol_column is None:
        raise ValueError(
            f"gene symbols: {path} has the columns {', '.join(map(str, read))}; expected gene_id and symbol, or JSON "
            "of symbol: gene id"
        )
    named = read[(read["gene_id"] != "") & (read[symbol_column] != "")].drop_duplicates(symbol_column)
    if len(named) < read[symbol_column].ne("").sum():
        logger.info("%s: symbols of several genes go to the first; %d symbols", path, len(named))
    return read_gene_symbols(dict(zip(named[symbol_column], named["gene_id"], strict=True)))


def read_gene_list(genes: str | Path | Sequence[str], naming: GeneNaming) -> list[str]:
    """Genes in order, from a sequence or a text file of one a line; symbols become ids by the table.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: for no gene, one named twice, or one that the table of symbols lacks.
    """
    if isinstance(genes, str | Path):
        path = Path(genes)
        if not path.is_file():
            raise FileNotFoundError(f"gene list: {path} does not exist")
        names, source = path.read_text(encoding="utf-8").split(), str(path)
    else:
        names, source = [str(name) for name in genes], "the gene list"
    found = strip_versions(pd.Series(names, dtype=object))
    if naming.symbols is not None:
        is_id = found.str.match(ENSEMBL_GENE).astype(bool)
        mapped = found.where(is_id, found.map(naming.symbols))
        if mapped.isna().any():
            raise ValueError(
                f"{source}: the table of symbols lacks {int(mapped.isna().sum()):,} of {len(names):,} genes, e.g. "
                f"{shown_names(list(found[mapped.isna()]))}: leave them out, or list ids"
            )
        found = mapped
    repeated = [name for name, number in Counter(found).items() if number > 1]
    if repeated or not names:
        raise ValueError(
            f"{source}: {len(repeated):,} of {len(names):,} genes are named more than once, e.g. "
            f"{shown_names(repeated)}; expected each gene once, and one or more"
            if names
            else f"{source} names no gene"
        )
    return list(found)


def resolve_columns(
    features: pd.DataFrame, naming: GeneNaming, *, vocabulary: Sequence[str] | None = None, source: str
) -> ResolvedGenes:
    """The gene of each column of an RNA matrix; ValueError, naming `source`, where none is one.

    Args:
        features: a row a column: index and columns of ids and symbols, as the file has them.
        naming: by ids or symbols.
        vocabulary: genes that are wanted, by which the column of ids is told.
    """
    if naming.kind == "ids":
        return resolve_genes(features, vocabulary=vocabulary, gene_symbols=naming.symbols, source=source)
    names = _symbol_names(features, source)
    kinds = {"feature_types": features["feature_types"].to_numpy()} if "feature_types" in features else {}
    return resolve_genes(pd.DataFrame(kinds, index=pd.Index(names)), vocabulary=vocabulary, source=source)


def choose_genes(
    files: Mapping[str, ResolvedGenes],
    naming: GeneNaming,
    *,
    gene_list: Sequence[str] | None = None,
    annotation: str | Path | None = None,
) -> ChosenGenes:
    """The genes that all files have, sorted, or those of the list, in its order.

    Args:
        files: the columns of each RNA matrix; none where all is ATAC, then all genes of the annotation are taken.
        naming: as the files were resolved.
        gene_list: genes wanted; those that a file lacks will be zero there. A gene of several symbols stays.
        annotation: GTF, GFF3 or genePred; where there is ATAC.

    Raises:
        ValueError: where files share no gene, one has none of the list, files name genes in different ways, or none of
            the genes has a place in the annotation.
    """
    _require_one_naming(files, naming)
    spans = None
    if annotation is not None:
        named_by: Literal["id", "symbol"] = "id" if naming.kind == "ids" else "symbol"
        spans = read_gene_spans(annotation, gene_symbols=naming.symbols, named_by=named_by)
    found = {name: set(resolved.gene_ids) - {""} for name, resolved in files.items()}
    report: dict[str, Any] = {"named by": naming.kind}
    several = _of_several_symbols(files) if naming.kind == "ids" else []
    if gene_list is not None:
        genes = list(gene_list)
        report |= {"genes of the list": len(genes), "of several symbols, kept since listed": len({*several} & {*genes})}
        _require_listed(found, genes)
    elif found:
        shared = set.intersection(*found.values())
        if not shared:
            raise ValueError(_nothing_shared(files))
        genes = sorted(shared - set(several))
        report |= {
            "genes in any data set": len(set.union(*found.values())),
            "not in all data sets, left out": len(set.union(*found.values()) - shared),
            "of several symbols, left out": sorted(set(several) & shared),
        }
    elif spans is not None:
        genes = sorted(spans["gene_id"])
        report["genes of the annotation"] = len(genes)
    else:
        raise ValueError("neither RNA, a list of genes nor an annotation is given: which genes are meant?")
    report["missing in a data set"] = {name: len(set(genes) - own) for name, own in found.items()}
    for name, own in found.items():
        if len(own & set(genes)) < _FEW * len(genes):
            logger.warning("%s has %d of %d genes; the others are zero there", name, len(own & set(genes)), len(genes))
    chosen = ChosenGenes(genes, _symbols_of(genes, files, naming, spans), report=report)
    if spans is not None:
        chosen = _with_loci(chosen, spans, annotation, is_listed=gene_list is not None)
    if not chosen.gene_ids:
        raise ValueError(f"no gene is left: {report}")
    report["genes"] = len(chosen.gene_ids)
    logger.info("%d genes; %s", len(chosen.gene_ids), {key: value for key, value in report.items() if key != "genes"})
    return chosen


def _symbol_names(features: pd.DataFrame, source: str) -> np.ndarray:
    """object `(columns,)`: the index, unless it holds ids: then the usual column."""
    index = features.index.to_series().astype(str)
    if not len(index) or index.str.match(ENSEMBL_GENE).mean() < _MOSTLY:
        return index.to_numpy(object)
    columns = {str(name).lower(): name for name in reversed(features.columns)}
    column = next((columns[name] for name in _SYMBOL_COLUMNS if name in columns), None)
    if column is None:
        raise ValueError(
            f"{source} names genes by ids ({shown_names(features.index)}) and has no column of symbols; it has "
            f"{', '.join(map(str, features)) or 'no column'}. Build by ids, with a table of symbols (gene_symbols) for "
            "other files"
        )
    return features[column].astype(str).to_numpy(object)


def _require_one_naming(files: Mapping[str, ResolvedGenes], naming: GeneNaming) -> None:
    if naming.kind == "symbols" or naming.symbols is not None:
        return
    shares = {name: _ensembl_share(resolved) for name, resolved in files.items()}
    by_id = [name for name, share in shares.items() if share >= _MOSTLY]
    others = [name for name in files if name not in by_id]
    if by_id and others:
        examples = shown_names(list(files[others[0]].names), 3)
        raise ValueError(
            f"{by_id[0]} names genes by Ensembl ids, {others[0]} does not ({examples}): give a table of symbols and "
            "ids (gene_symbols), or build by symbols (gene_names='symbols') where all files have them"
        )


def _ensembl_share(resolved: ResolvedGenes) -> float:
    kept = pd.Series(resolved.gene_ids[resolved.gene_ids != ""])
    return float(kept.str.match(ENSEMBL_GENE).mean()) if len(kept) else 0.0


def _of_several_symbols(files: Mapping[str, ResolvedGenes]) -> list[str]:
    """Ids for which files write more than one symbol, one file with another or a file with itself."""
    pairs = [pd.DataFrame({"gene": list(one.symbols), "symbol": list(one.symbols.values())}) for one in files.values()]
    for one in files.values():
        is_symbol = (one.gene_ids != "") & ~pd.Series(one.names).str.match(ENSEMBL_GENE).to_numpy(bool)
        pairs.append(pd.DataFrame({"gene": one.gene_ids[is_symbol], "symbol": one.names[is_symbol]}))
    table = pd.concat(pairs, ignore_index=True) if pairs else pd.DataFrame({"gene": [], "symbol": []})
    # Where nothing maps a symbol to an id, it stands for itself.
    table = table[table["gene"] != table["symbol"]].drop_duplicates()
    numbers = table.groupby("gene").size()
    return sorted(numbers.index[numbers > 1])


def _require_listed(found: Mapping[str, set[str]], genes: Sequence[str]) -> None:
    for name, own in found.items():
        if not own & set(genes):
            raise ValueError(
                f"{name} has none of the {len(genes):,} genes listed ({shown_names(list(genes), 3)}); it has "
                f"{shown_names(sorted(own), 3)}. Are both of one species and kind of name? A table of symbols "
                "(gene_symbols) makes ids of symbols"
            )


def _nothing_shared(files: Mapping[str, ResolvedGenes]) -> str:
    examples = "; ".join(f"{name}: {shown_names(list(one.gene_ids), 3)}" for name, one in files.items())
    return (
        f"no gene is in all of {len(files)} data sets ({examples}). Are they of one species and kind of name? A table "
        "of symbols (gene_symbols) makes ids of symbols; a list of genes (gene_list) leaves genes zero where they are "
        "missing"
    )


def _symbols_of(
    genes: Sequence[str], files: Mapping[str, ResolvedGenes], naming: GeneNaming, spans: pd.DataFrame | None
) -> list[str]:
    """As the first file that tells writes them, else the annotation, else the table."""
    if naming.kind == "symbols":
        return list(genes)
    known: dict[str, str] = {}
    sources = [{gene: symbol for symbol, gene in (naming.symbols or {}).items()}]
    if spans is not None:
        sources.append(dict(zip(spans["gene_id"], spans["symbol"], strict=True)))
    for source in [*sources, *(one.symbols for one in reversed(list(files.values())))]:
        known |= source
    return [known.get(gene, "") for gene in genes]


def _with_loci(
    chosen: ChosenGenes, spans: pd.DataFrame, annotation: str | Path | None, *, is_listed: bool
) -> ChosenGenes:
    row = pd.Index(spans["gene_id"]).get_indexer(chosen.gene_ids)
    is_placed = row >= 0
    if not is_placed.any():
        raise ValueError(
            f"none of {len(row):,} genes ({shown_names(chosen.gene_ids, 3)}) is in {annotation} "
            f"({shown_names(list(spans['gene_id']), 3)}). A table of symbols (gene_symbols) makes ids of symbols; "
            "gene_names='symbols' builds by symbols"
        )
    missing = [gene for gene, placed in zip(chosen.gene_ids, is_placed, strict=True) if not placed]
    if missing:
        level = logging.WARNING if is_listed else logging.INFO
        logger.log(level, "%d genes are not in %s, left out: %s", len(missing), annotation, shown_names(missing))
    report = {"annotation": spans.attrs["report"], "not in the annotation, left out": missing}
    kept = [number for number, placed in enumerate(is_placed) if placed]
    return replace(
        chosen,
        gene_ids=[chosen.gene_ids[number] for number in kept],
        symbols=[chosen.symbols[number] for number in kept],
        loci=_loci(spans.iloc[row[is_placed]]),
        annotated=_loci(spans),
        report=chosen.report | report,
    )


def _loci(places: pd.DataFrame) -> GeneLoci:
    names = {name: contig_alias(name) if name.startswith("NC_") else name for name in places["contig"].unique()}
    return GeneLoci(
        places["contig"].map(names).to_numpy(object),
        places["start"].to_numpy(np.int64),
        places["end"].to_numpy(np.int64),
        places["strand"].to_numpy(object),
    )
