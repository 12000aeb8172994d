"""The tables of a perturbation, from what the passes measured: each step adds its columns."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .perturbation_mixture import fit_mixture
from .perturbation_noise import NoiseFloor, add_noise_columns
from .perturbation_set_effects import add_set_effects
from .perturbation_statistics import (
    Alternative,
    ShiftMoments,
    add_intervals,
    add_rank_columns,
    add_sham_columns,
    gene_set_table,
    gene_table,
)

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableOptions:
    """How tables are made; see the call of the pipeline."""

    alternative: Alternative = "greater"
    minimum_cells: int = 1
    level: float = 0.95
    bootstraps: int = 1000
    matched_draws: int = 1000
    mixture: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.alternative not in ("greater", "less", "two-sided"):
            raise ValueError(f"alternative is {self.alternative!r}: expected greater, less or two-sided")
        if not 0 < self.level < 1:
            raise ValueError(f"level is {self.level}: give the share of an interval, between 0 and 1, such as 0.95")
        for name in ("bootstraps", "matched_draws"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number of draws, or 0 to leave them out")


class PerturbationTables(NamedTuple):
    """The tables and what else is said of the genes.

    Attributes:
        genes: of `gene_table`, with token_id and all columns that the options ask for.
        sets: of `gene_set_table` and `add_set_effects`.
        edited_gene, edited_genes, n_left_out: of `GeneTable`.
        n_above_noise: genes whose shift is above their noise floor; None where none was measured.
        mixture: of `fit_mixture`; None where it was not asked for or could not be fitted.
    """

    genes: "pd.DataFrame"
    sets: "pd.DataFrame"
    edited_gene: dict[str, Any] | None
    edited_genes: list[dict[str, Any]]
    n_left_out: int
    n_above_noise: int | None
    mixture: dict[str, Any] | None


def make_tables(
    moments: ShiftMoments,
    sham_moments: Sequence[ShiftMoments],
    noise: NoiseFloor,
    mean_ranks: np.ndarray,
    tokenizer: Any,
    gene_sets: Mapping[str, Sequence[str]],
    *,
    edited_tokens: Sequence[int],
    n_cells: int,
    options: TableOptions,
) -> PerturbationTables:
    """All tables of a perturbation.

    Args:
        moments: of the edit, by token.
        sham_moments: one a sham edit.
        noise: of the same cells without an edit.
        mean_ranks: (vocabulary,) of the genes in the edited cells.
        tokenizer: of the model.
        gene_sets: name -> gene ids or symbols.
        edited_tokens: genes that were edited.
        n_cells: that were edited.
        options: of the tables.
    """
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    found = gene_table(
        moments,
        tokens,
        tokenizer.gene_symbols,
        edited_token=edited_tokens,
        minimum_cells=options.minimum_cells,
    )
    genes = add_rank_columns(add_intervals(found.genes, level=options.level), mean_ranks, n_cells)
    n_above_noise = None
    if noise.n_cells:
        genes = add_noise_columns(genes, noise)
        n_above_noise = int(genes["above_noise"].sum())
    if sham_moments:
        genes = add_sham_columns(genes, sham_moments)
    mixture = None
    if options.mixture:
        genes, mixture = _with_mixture(genes, options.seed)
    sets = gene_set_table(genes, gene_sets, tokenizer, alternative=options.alternative)
    sets = add_set_effects(
        sets,
        genes,
        gene_sets,
        tokenizer,
        alternative=options.alternative,
        level=options.level,
        bootstraps=options.bootstraps,
        draws=options.matched_draws,
        seed=options.seed,
    )
    return PerturbationTables(
        genes, sets, found.edited_gene, found.edited_genes, found.n_left_out, n_above_noise, mixture
    )


def _with_mixture(genes: "pd.DataFrame", seed: int) -> "tuple[pd.DataFrame, dict[str, Any] | None]":
    try:
        fitted = fit_mixture(genes, seed=seed)
    except ValueError as error:
        logger.warning("no mixture: %s", error)
        return genes, None
    return fitted.genes, fitted.summary
