"""Genes in the order of a column, and which of them are targets: what recovery is counted on.

Targets are gene ids, with or without version, or symbols that one gene of the table bears.
"""

import logging
import re
from collections.abc import Mapping, Sequence
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
    for model, table in tables.items():
        _require_genes(model, table)
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


def rank_targets(
    table: "pd.DataFrame", column: str, targets: Sequence[str], *, model: str = "model", gene_set: str = "targets"
) -> RankedTargets:
    """Order the genes of a table by a column, largest first, and mark the targets.

    Args:
        table: gene_id, `column` without missing values, and perhaps symbol.
        targets: gene ids or symbols.
        model, gene_set: names for messages.

    Raises:
        ValueError: where none of the targets, or nothing else, is in the table.
    """
    is_target = _are_targets(table, targets, model, gene_set)
    values = _numbers(table, column)
    order = np.argsort(-values, kind="stable")
    values = values[order]
    ends = np.flatnonzero(np.r_[values[1:] != values[:-1], True]) + 1
    return RankedTargets(is_target[order], values, ends.astype(np.int64))


def _are_targets(table: "pd.DataFrame", targets: Sequence[str], model: str, gene_set: str) -> npt.NDArray[np.bool_]:
    wanted = {_without_version(gene) for gene in targets}
    gene_ids = table["gene_id"].astype(str).map(_without_version)
    is_target = gene_ids.isin(wanted).to_numpy()
    if "symbol" in table:
        symbols = table["symbol"].fillna("").astype(str)
        named = (symbols.isin(wanted) & (symbols != "")).to_numpy()
        ambiguous = named & symbols.duplicated(keep=False).to_numpy()
        if ambiguous.any():
            names = sorted(set(symbols[ambiguous]))
            logger.warning("gene set %s: %s name several genes each, and are left out", gene_set, ", ".join(names[:5]))
        is_target |= named & ~ambiguous
    if not is_target.any():
        raise ValueError(
            f"none of the {len(targets):,} genes of the set {gene_set!r}, e.g. {', '.join(list(targets)[:3])}, is "
            f"among the {len(table):,} ranked genes of {model}, e.g. {', '.join(gene_ids[:3])}: give ids of the same "
            "kind, or tables with a column symbol"
        )
    if is_target.all():
        raise ValueError(
            f"all {len(table):,} ranked genes of {model} are in the set {gene_set!r}: there is none to miss"
        )
    if is_target.sum() < len(wanted):
        logger.info("gene set %s: %d of %d genes are ranked by %s", gene_set, is_target.sum(), len(wanted), model)
    return is_target


def _require_genes(model: str, table: "pd.DataFrame") -> None:
    if "gene_id" not in table:
        raise ValueError(f"the table of {model} has no column gene_id; it has {', '.join(map(str, table.columns))}")
    twice = table["gene_id"][table["gene_id"].duplicated()]
    if len(twice):
        raise ValueError(
            f"the table of {model} has {len(twice):,} genes twice, e.g. {twice.iloc[0]}: give each one row"
        )


def _numbers(table: "pd.DataFrame", column: str) -> npt.NDArray[np.float64]:
    return table[column].to_numpy(dtype=float, na_value=np.nan)


def _without_version(gene: str) -> str:
    match = _VERSION.fullmatch(gene)
    return match[1] if match else gene
