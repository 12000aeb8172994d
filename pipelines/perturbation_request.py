"""What a user asks of a perturbation: which edit at which gene, and in which of the cells it can be made."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .perturbation_cells import RankedCells
from .perturbation_edits import Edit, describe, parse_edit
from .perturbation_run import GeneEdit

logger = logging.getLogger(__name__)


def requested_edits(gene: Any, edit: Any = "delete") -> list[tuple[str, Edit]]:
    """The edits asked for, each with the name of its gene, in the order in which they are made.

    Args:
        gene: a gene; several, which all get `edit`; or pairs of a gene and its edit.
        edit: as `parse_edit`; left alone where `gene` holds pairs.

    Raises:
        ValueError: on no genes, on neither names nor pairs, or on pairs together with `edit`.
    """
    if isinstance(gene, str):
        return [(gene, parse_edit(edit))]
    items = list(gene) if isinstance(gene, Sequence | np.ndarray) else []
    if items and all(isinstance(item, str) for item in items):
        parsed = parse_edit(edit)
        return [(str(item), parsed) for item in items]
    if items and all(isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], str) for item in items):
        if not (isinstance(edit, str) and edit == "delete"):
            raise ValueError("each gene was given with its edit, and edit as well: leave edit out, or give genes alone")
        return [(name, parse_edit(of_gene)) for name, of_gene in items]
    raise ValueError(
        f"gene is {str(gene)[:80]!r}: expected a gene id or symbol, a list of them, or a list of pairs (gene, edit)"
    )


def require_distinct(names: Sequence[str], token_ids: Sequence[int]) -> None:
    """Raises ValueError where two names are one gene."""
    first: dict[int, str] = {}
    for name, token_id in zip(names, token_ids, strict=True):
        if token_id in first:
            raise ValueError(
                f"the same gene is to be edited twice, as {first[token_id]} and as {name}: give each gene once"
            )
        first[token_id] = name


class ChosenCells(NamedTuple):
    """The cells in which the edit is made.

    Attributes:
        cells: (chosen,) int64, ascending.
        n_with_each: of all cells, how many have each edited gene.
        n_too_short: cells left out because they have no such rank as is to be set.
    """

    cells: np.ndarray
    n_with_each: list[int]
    n_too_short: int


def choose_cells(
    cells: RankedCells,
    edits: Sequence[GeneEdit],
    names: Sequence[str],
    *,
    require_all: bool,
    num_special_tokens: int,
    sham_edits: Sequence[GeneEdit] = (),
) -> ChosenCells:
    """The cells that have all of the edited genes, or any of them, and the ranks that edits set.

    Args:
        cells: all cells.
        edits: one a gene.
        names: of the genes, for messages.
        require_all: leave out cells that lack any of the genes; else those that lack all.
        num_special_tokens: tokens below are no genes.
        sham_edits: edits whose ranks cells must have as well.

    Raises:
        ValueError: where no cell is left, or a cell has a gene more than once.
    """
    has = cells.cells_with_each([edit.token_id for edit in edits])  # (edits, cells)
    for edit, name, row in zip(edits, names, has, strict=True):
        times = int(np.count_nonzero(cells.tokens == edit.token_id))
        if times > row.sum():
            raise ValueError(f"{name} is {times:,} times in {row.sum():,} cells: a cell must have each gene once")
    chosen = np.flatnonzero(has.all(axis=0) if require_all else has.any(axis=0))
    n_with_each = [int(count) for count in has.sum(axis=1)]
    if len(chosen) == 0:
        raise ValueError(_nothing_chosen(len(cells), names, n_with_each))
    if len(chosen) < len(cells):
        lacking = "any of " if len(names) > 1 and require_all else ""
        left_out = len(cells) - len(chosen)
        logger.info("%d of %d cells lack %s%s and are left out", left_out, len(cells), lacking, ", ".join(names))
    return _with_ranks(cells, chosen, n_with_each, edits, sham_edits, num_special_tokens)


def describe_edits(edits: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One description of one or several: of several, the kind that all share or "several", and each by itself.

    Args:
        edits: of `describe`, each with the gene_id.
    """
    if len(edits) == 1:
        return {key: value for key, value in edits[0].items() if key != "gene_id"}
    kinds = {edit["kind"] for edit in edits}
    return {"kind": kinds.pop() if len(kinds) == 1 else "several", "edits": list(edits)}


def described(edit: Edit, gene_id: str) -> dict[str, Any]:
    """`describe` with the gene's id."""
    return {"gene_id": gene_id} | describe(edit)


def _with_ranks(
    cells: RankedCells,
    chosen: np.ndarray,
    n_with_each: list[int],
    edits: Sequence[GeneEdit],
    sham_edits: Sequence[GeneEdit],
    num_special_tokens: int,
) -> ChosenCells:
    ranks = [edit.rank for edit in (*edits, *sham_edits) if edit.kind == "set-rank"]
    if not ranks:
        return ChosenCells(chosen, n_with_each, 0)
    n_genes = cells.genes_a_cell(num_special_tokens)[chosen] - sum(edit.kind == "delete" for edit in edits)
    long_enough = n_genes > max(ranks)
    n_too_short = int((~long_enough).sum())
    if n_too_short == len(chosen):
        raise ValueError(
            f"rank {max(ranks):,} lies beyond the last gene of all {len(chosen):,} cells, of which the longest has "
            f"{n_genes.max():,} genes: give a rank from 0 to {n_genes.max() - 1:,}"
        )
    if n_too_short:
        logger.warning("%d of %d cells have no rank %d and are left out", n_too_short, len(chosen), max(ranks))
    return ChosenCells(chosen[long_enough], n_with_each, n_too_short)


def _nothing_chosen(n_cells: int, names: Sequence[str], n_with_each: Sequence[int]) -> str:
    if len(names) == 1:
        return (
            f"none of the {n_cells:,} cells expresses {names[0]} (among the genes that the model takes): give cells "
            "that do, e.g. another cell type"
        )
    counts = ", ".join(f"{name} in {count:,}" for name, count in zip(names, n_with_each, strict=True))
    hint = "; require_all=False edits those genes that a cell has" if any(n_with_each) else ""
    return f"none of the {n_cells:,} cells expresses what is to be edited ({counts}): give cells that do{hint}"
