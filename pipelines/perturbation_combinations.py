"""All combinations of genes, one after another: does editing them together do more than each alone?

Source: combined in silico deletions of Theodoris et al. 2023 (GATA4 with TBX5). Deviation: each combination is set
beside its own genes edited alone in the very same cells, those that express all of them, and over the same genes.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np

from .perturbation_preparation import EditPreparation
from .perturbation_result import PerturbationResult

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CombinationResult:
    """What combinations of genes did.

    Attributes:
        table: one row a combination, the largest excess first: gene_ids and symbols (joined by "+"), n_cells, n_genes
            (that all edits of the row share), shift_mean (over those genes), shift_singles (sum of the mean shifts of
            its genes edited alone), excess (the first less the second; below 0 where edits overlap), cell_shift and
            cell_shift_singles (of `shift_without_edited`, likewise).
        results: gene ids of a combination -> its PerturbationResult.
        skipped: combinations that no cell expresses, as their gene ids.
    """

    table: "pd.DataFrame"
    results: dict[tuple[str, ...], PerturbationResult]
    skipped: list[tuple[str, ...]]


def perturb_combinations(
    pipe: Any,
    cells: Any,
    genes: Sequence[str],
    *,
    edit: Any = "delete",
    size: int = 2,
    reading: dict[str, Any] | None = None,
    **options: Any,
) -> CombinationResult:
    """Edit every combination of `size` of the genes, in the cells that express all of it.

    Args:
        pipe: a GeneEmbeddingPerturbationPipeline.
        cells: as the pipeline takes them; ranked once.
        genes: ids or symbols, each once.
        edit: made at each gene of a combination.
        size: genes a combination.
        reading: options of `read_cells` (counts_layer, use_raw, gene_id_column, donor_column, gene_features).
        options: of the pipeline, for each combination; the single edits take `layer` and `batch_size` of them.

    Raises:
        ValueError: on a size that is not 2 or more and at most the number of genes, a gene given twice or unknown, or
            genes of which no combination is expressed together; and as the pipeline.
    """
    import pandas as pd

    if not 2 <= size <= len(genes):
        raise ValueError(f"size is {size}, and {len(genes)} genes were given: give 2 up to that number")
    if "require_all" in options:
        raise ValueError("combinations are always edited in cells that have all their genes: leave require_all out")
    token_ids = EditPreparation(pipe.model, pipe.tokenizer).token_ids_of(genes)
    label_column = _label_column(options.get("goal"))
    ranked = pipe.preprocess(cells, **(reading or {}), label_column=label_column)
    has = ranked.cells_with_each(token_ids)
    alone = {key: value for key, value in options.items() if key in ("layer", "batch_size", "dna_model", "progress")}
    alone |= {"noise_cells": 0, "edit": edit}
    rows, results, skipped = [], {}, []
    gene_ids = pipe.tokenizer.convert_ids_to_tokens(token_ids)
    logger.info("%d combinations of %d genes", comb(len(genes), size), len(genes))
    for chosen in combinations(range(len(genes)), size):
        members = tuple(gene_ids[number] for number in chosen)
        together = np.flatnonzero(has[list(chosen)].all(axis=0))
        if len(together) == 0:
            skipped.append(members)
            continue
        part = ranked.select(together)
        result = pipe(ranked, gene=list(members), edit=edit, **options)
        singles = [pipe(part, gene=gene, **alone) for gene in members]
        rows.append(_row(members, result, singles))
        results[members] = result
    if not rows:
        raise ValueError(f"no cell expresses {size} of {', '.join(genes)} together: give genes that share cells")
    if skipped:
        logger.warning("%d combinations are expressed by no cell and are left out", len(skipped))
    table = pd.DataFrame(rows).sort_values(["excess", "gene_ids"], ascending=[False, True], ignore_index=True)
    return CombinationResult(table, results, skipped)


def _row(members: tuple[str, ...], result: PerturbationResult, singles: Sequence[PerturbationResult]) -> dict[str, Any]:
    shifts = [one.genes.set_index("gene_id")["shift"] for one in (result, *singles)]
    shared = [gene for gene in shifts[0].index if all(gene in one.index for one in shifts) and gene not in members]
    means = [float(one.loc[shared].mean()) for one in shifts]
    of_cells = [float(one.cells["shift_without_edited"].mean()) for one in (result, *singles)]
    return {
        "gene_ids": "+".join(members),
        "symbols": result.summary["symbol"],
        "n_cells": result.summary["n_cells_with_gene"],
        "n_genes": len(shared),
        "shift_mean": means[0],
        "shift_singles": sum(means[1:]),
        "excess": means[0] - sum(means[1:]),
        "cell_shift": of_cells[0],
        "cell_shift_singles": sum(of_cells[1:]),
    }


def _label_column(goal: Any) -> str | None:
    return goal.get("column") if hasattr(goal, "get") else getattr(goal, "column", None)
