"""Genes in the order of a column, and which of them are targets: what recovery is counted on.

Targets are gene ids, with or without version, or symbols that one gene bears in the tables. A symbol that one table
knows names the gene in all of them, so that all models have the same targets.
"""

import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

_VERSION = re.compile(r"(ENS[A-Z]*\d+)\.\d+(?:_PAR_Y)?")


@dataclass(frozen=True)
class RankedTargets:
    """A ranking, its first gene first.

    Attributes:
        is_target: (genes,) bool.
        values: (genes,) float64 that the genes are ranked by, descending.
        group_ends: (groups of equal values,) int64, how many genes are in each group and above it.
    """

    is_target: npt.NDArray[np.bool_]
    values: npt.NDArray[np.float64]
    group_ends: npt.NDArray[np.int64]

    @property
    def n_genes(self) -> int:
        return len(self.is_target)

    @property
    def n_targets(self) -> int:
        return int(self.is_target.sum())

    def hits_at(self, k: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """(numbers,) how many targets are among the first k genes, on average over the orders of equal values."""
        hits = np.cumsum(self.is_target)[self.group_ends - 1]
        return np.interp(k, np.r_[0, self.group_ends], np.r_[0, hits])


def tables_of_shared_genes(
    tables: Mapping[str, "pd.DataFrame"], columns: Mapping[str, Sequence[str]], *, restrict: bool
) -> dict[tuple[str, str], "pd.DataFrame"]:
    """(model, column) -> its table, of the genes that have a value there and, with `restrict`, in all the others.

    Raises:
        ValueError: on a table without gene_id, with a gene twice, or with none of its columns, and where no gene is
            left.
    """
    chosen: dict[tuple[str, str], pd.DataFrame] = {}
    for model, given in tables.items():
        table = with_bare_ids(model, given)
        usable = [name for name in columns[model] if name in table and np.isfinite(_numbers(table, name)).any()]
        if not usable:
            raise ValueError(
                f"the table of {model} has no value in {' or '.join(columns[model])}; its columns are "
                f"{', '.join(map(str, table.columns))}: name one to rank by (ranked_by)"
            )
        for name in usable:
            chosen[model, name] = table[np.isfinite(_numbers(table, name))]
    if not restrict:
        return chosen
    shared = set.intersection(*(set(table["gene_id"]) for table in chosen.values()))
    if not shared:
        raise ValueError(
            f"no gene has a value in all of {', '.join(tables)}: give tables with the same kind of gene ids, or "
            'universe="own"'
        )
    restricted = {}
    for key, table in chosen.items():
        restricted[key] = table[table["gene_id"].isin(shared)]
        if len(shared) < len(table):
            logger.info("%s by %s: %d of %d genes are ranked by all models", *key, len(shared), len(table))
    return restricted


def with_bare_ids(model: str, table: "pd.DataFrame") -> "pd.DataFrame":
    """The table with gene ids without versions.

    Raises:
        ValueError: where it has no gene_id, or a gene twice.
    """
    if "gene_id" not in table:
        raise ValueError(f"the table of {model} has no column gene_id; it has {', '.join(map(str, table.columns))}")
    bare = table.assign(gene_id=table["gene_id"].astype(str).map(_without_version))
    twice = bare["gene_id"][bare["gene_id"].duplicated()]
    if len(twice):
        raise ValueError(
            f"the table of {model} has {len(twice):,} genes twice, e.g. {twice.iloc[0]}: give each one row"
        )
    return bare


def target_ids(tables: Iterable["pd.DataFrame"], gene_sets: Mapping[str, Sequence[str]]) -> dict[str, frozenset[str]]:
    """Each set as gene ids without versions, symbols resolved by whichever table knows them.

    Args:
        tables: gene_id without versions, and perhaps symbol.
        gene_sets: name -> gene ids or symbols.
    """
    bearers: dict[str, set[str]] = {}
    known: set[str] = set()
    for table in tables:
        known.update(table["gene_id"])
        if "symbol" in table:
            for symbol, gene_id in zip(table["symbol"].fillna("").astype(str), table["gene_id"], strict=True):
                bearers.setdefault(symbol, set()).add(gene_id)
    bearers.pop("", None)
    resolved = {}
    for name, genes in gene_sets.items():
        bare = [_without_version(gene) for gene in genes]
        named = {gene: bearers[gene] for gene in bare if gene not in known and gene in bearers}
        ambiguous = sorted(gene for gene, ids in named.items() if len(ids) > 1)
        if ambiguous:
            logger.warning("gene set %s: %s name several genes each, and are left out", name, ", ".join(ambiguous[:5]))
        resolved[name] = frozenset(bare) | {next(iter(ids)) for ids in named.values() if len(ids) == 1}
    return resolved


def rank_targets(
    table: "pd.DataFrame", column: str, targets: Collection[str], *, model: str = "model", gene_set: str = "targets"
) -> RankedTargets:
    """Order the genes of a table by a column, largest first, and mark the targets.

    Args:
        table: gene_id, and `column` without missing values.
        targets: gene ids, as the table has them.
        model, gene_set: names for messages.

    Raises:
        ValueError: where none of the targets, or nothing else, is in the table.
    """
    is_target = table["gene_id"].isin(targets).to_numpy()
    if not is_target.any():
        raise ValueError(
            f"none of the genes of the set {gene_set!r}, e.g. {', '.join(sorted(targets)[:3])}, is among the "
            f"{len(table):,} ranked genes of {model}, e.g. {', '.join(table['gene_id'][:3])}: give ids of the same "
            "kind, or tables with a column symbol"
        )
    if is_target.all():
        raise ValueError(
            f"all {len(table):,} ranked genes of {model} are in the set {gene_set!r}: there is none to miss"
        )
    values = _numbers(table, column)
    order = np.argsort(-values, kind="stable")
    values = values[order]
    ends = np.flatnonzero(np.r_[values[1:] != values[:-1], True]) + 1
    return RankedTargets(is_target[order], values, ends.astype(np.int64))


def _numbers(table: "pd.DataFrame", column: str) -> npt.NDArray[np.float64]:
    return table[column].to_numpy(dtype=float, na_value=np.nan)


def _without_version(gene: str) -> str:
    match = _VERSION.fullmatch(gene)
    return match[1] if match else gene
