"""Pipeline: chromatin accessibility of genes from RNA, or expression from ATAC, and how well where both were measured.

Source: "Developing a Multimodal Single-Cell Foundation Model with scATAC", chapter 4, whose two reconstruction heads
read one joint embedding; asking one head for a modality that was not given is this project's. A model says something
of zeros as far as zeros of the other modality were among its labels in pre-training.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from transformers import AutoModelForPreTraining

from .aligned_cells import CountChoice, MultiomeCells, read_multiome_cells
from .imputation_result import ImputationResult
from .imputation_scores import correlate_columns, correlate_rows, describe_correlations
from .multiome_pipeline import MultiomePipeline
from .multiome_run import count_cells, value_batches

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

TASK = "multiome-imputation"
MODEL_CLASS = AutoModelForPreTraining
DIRECTIONS = {"atac_from_rna": ("rna", "atac"), "rna_from_atac": ("atac", "rna")}


class MultiomeImputationPipeline(MultiomePipeline):
    """`pipeline("multiome-imputation", model=folder)("rna.h5ad").anndata()`."""

    _head = "ForPreTraining"

    def __call__(  # type: ignore[override]
        self,
        inputs: Any,
        *,
        direction: str | None = None,
        modality: str | None = None,
        genes: Sequence[str] | None = None,
        reference: Any = None,
        counts_layer: Any = None,
        use_raw: bool = False,
        gene_id_column: str | None = None,
        counts_are: str = "reads",
        batch_size: int | None = None,
        progress: bool = False,
    ) -> ImputationResult:
        """Impute one modality from the other.

        Args:
            inputs: as the classification pipeline takes them. Of cells in both modalities, the one that is imputed is
                held out and compared with.
            direction: "atac_from_rna" or "rna_from_atac"; where None, from what is given, and from RNA where both are.
            modality: what an AnnData holds; told by its `var` where None.
            genes: ids or symbols of the genes to give values of; all of the model's where None.
            reference: measured values of the imputed modality in other cells (e.g. those the model was trained on), as
                `inputs`, or their mean log(1 + normalised count), (genes of the model,): for the gene-mean predictor
                that the model's correlations stand beside. Where None, the means of the compared cells themselves,
                which favours that predictor.
            counts_layer, use_raw, gene_id_column, counts_are, batch_size, progress: as the classification pipeline.

        Returns:
            ImputationResult: `.probabilities`, `.expected`, `.genes`, `.cell_scores`, `.anndata()`, `.summary`.

        Raises:
            ValueError: before the model runs, for cells that cannot be read or are not of the model's genes, a
                direction that there is no input for, a model without one of the modalities, and genes that it lacks.
        """
        cells_a_batch = self.cells_a_batch(batch_size)
        known = list(self.model.config.modalities)
        if len(known) < 2:
            raise ValueError(f"the model knows {known[0]} only: imputation needs a model of rna and atac")
        columns = self._columns_of(genes)
        choice = CountChoice(counts_layer, use_raw, gene_id_column, counts_are)
        cells = self.preprocess(inputs, modality, choice)
        given, imputed = DIRECTIONS[_direction(direction, tuple(cells.counts))]
        if not cells.has_values(given).any():
            raise ValueError(f"none of the {len(cells):,} cells has a count of {given} on the model's genes")
        held_out = self._held_out(cells, imputed, columns)
        means = self._reference_means(reference, imputed, columns, choice)
        probabilities, expected = self._impute(cells, given, imputed, columns, cells_a_batch, progress)
        is_run = cells.has_values(given)
        genes_table = self._genes_table(columns, probabilities[is_run], expected[is_run])
        summary: dict[str, Any] = {
            "model": self.model.name_or_path,
            "direction": f"{imputed}_from_{given}",
            **count_cells(cells, (given,)),
            "genes": len(columns),
            "input": dict(cells.report),
        }
        cell_scores = genes_table.iloc[:0, :0].reindex(cells.obs.index)
        if held_out is not None:
            compared = is_run & cells.has_values(imputed)
            scored = _score(genes_table, cell_scores, held_out, expected, compared, means)
            genes_table, cell_scores = scored.genes, scored.cells
            summary["comparison"] = {
                "gene_mean_of": "these cells" if means is None else "reference",
                "cells_not_compared": int((~compared).sum()),
                **scored.summary,
            }
        return ImputationResult(probabilities, expected, genes_table, cell_scores, cells, summary, held_out)

    def _impute(
        self, cells: MultiomeCells, given: str, imputed: str, columns: np.ndarray, batch_size: int, progress: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Probability of a value that is not zero, and expected values, (cells, columns) float32 each."""
        found = [np.full((len(cells), len(columns)), np.nan, dtype=np.float32) for _ in range(2)]
        batches = value_batches(
            cells, self.feature_extractor, batch_size=batch_size, modalities=(given,), progress=progress
        )
        for places, values in batches:
            logits = self.run_model(self.model, values)[f"{imputed}_logits"]
            probabilities = logits.float().softmax(-1).cpu().numpy()
            found[0][places] = 1 - probabilities[:, columns, 0]
            found[1][places] = self.feature_extractor.expected_values(probabilities, imputed)[:, columns]
        return found[0], found[1]

    def _held_out(self, cells: MultiomeCells, imputed: str, columns: np.ndarray) -> np.ndarray | None:
        """(cells, columns) float32 measured values; None where there are none."""
        if imputed not in cells.counts:
            return None
        return self._log_values(cells.counts[imputed], imputed)[:, columns].toarray()

    def _log_values(self, counts: sp.csr_matrix, modality: str) -> sp.csr_matrix:
        """log(1 + normalised count), csr (cells, genes) float32, in the unit of expected values."""
        totals = np.asarray(counts.sum(axis=1)).ravel()
        bins = getattr(self.feature_extractor, f"{modality}_bins")
        target = bins["target_total"]
        scale = np.divide(target, totals, out=np.zeros_like(totals), where=totals > 0)
        values = sp.csr_matrix(sp.diags(scale) @ counts, dtype=np.float32)
        values.data = np.log1p(values.data)
        return values

    def _reference_means(
        self, reference: Any, imputed: str, columns: np.ndarray, choice: CountChoice
    ) -> np.ndarray | None:
        """(columns,) float64, or None."""
        if reference is None:
            return None
        if isinstance(reference, np.ndarray | list | tuple):
            means = np.asarray(reference, dtype=np.float64)
            if means.shape != (self.model.config.num_genes,) or not np.isfinite(means).all():
                raise ValueError(
                    f"reference has shape {means.shape}; expected a finite mean for each of the model's "
                    f"{self.model.config.num_genes:,} genes, or measured cells"
                )
            return means[columns]
        try:
            cells = read_multiome_cells(reference, self.feature_extractor, modality=imputed, choice=choice)
        except ValueError as error:
            raise ValueError(f"the reference's {error}") from error
        is_measured = cells.has_values(imputed)
        if not is_measured.any():
            raise ValueError(f"none of the reference's {len(cells):,} cells has a count of {imputed}")
        values = self._log_values(cells.counts[imputed][is_measured], imputed)
        return np.asarray(values.mean(axis=0)).ravel()[columns]

    def _columns_of(self, genes: Sequence[str] | None) -> np.ndarray:
        ids, symbols = list(self.feature_extractor.gene_ids), self.feature_extractor.gene_symbols
        if genes is None:
            return np.arange(len(ids))
        if isinstance(genes, str):
            raise ValueError(f"genes is the text {genes!r}: give a list, such as [{genes!r}]")
        places = {symbol: number for number, symbol in enumerate(symbols or []) if symbol}
        places |= {gene: number for number, gene in enumerate(ids)}
        missing = [gene for gene in genes if gene not in places]
        if missing or not len(genes):
            raise ValueError(
                f"{len(missing):,} of {len(genes):,} genes are not among the model's {len(ids):,}"
                + (f", e.g. {', '.join(map(repr, missing[:3]))}" if missing else "")
                + ": give ids or symbols that are"
            )
        return np.array(list(dict.fromkeys(places[gene] for gene in genes)))

    def _genes_table(self, columns: np.ndarray, probabilities: np.ndarray, expected: np.ndarray) -> "pd.DataFrame":
        import pandas as pd

        ids = list(self.feature_extractor.gene_ids)
        symbols = list(self.feature_extractor.gene_symbols or [""] * len(ids))
        return pd.DataFrame(
            {
                "symbol": [symbols[column] for column in columns],
                "mean_probability": probabilities.mean(axis=0),
                "mean_expected": expected.mean(axis=0),
            },
            index=pd.Index([ids[column] for column in columns], name="gene_id"),
        )


class _Scores(NamedTuple):
    genes: "pd.DataFrame"
    cells: "pd.DataFrame"
    summary: dict[str, Any]


def _direction(direction: str | None, given: tuple[str, ...]) -> str:
    if direction is not None and direction not in DIRECTIONS:
        raise ValueError(f"direction is {direction!r}; expected {' or '.join(DIRECTIONS)}, or None to find out")
    chosen = direction or ("atac_from_rna" if "rna" in given else "rna_from_atac")
    if DIRECTIONS[chosen][0] not in given:
        raise ValueError(f"direction is {chosen!r}, and the cells have {' and '.join(given)} only")
    if direction is None and len(given) == 2:
        logger.info("the cells have rna and atac: atac is imputed from rna and compared with what was measured")
    return chosen


def _score(
    genes: "pd.DataFrame",
    cells: "pd.DataFrame",
    observed: np.ndarray,
    expected: np.ndarray,
    compared: np.ndarray,
    means: np.ndarray | None,
) -> _Scores:
    """Tables with the correlations of the compared cells, and what a summary says of them."""
    import pandas as pd

    measured, imputed = observed[compared], expected[compared]
    if means is None:
        means = measured.mean(axis=0) if len(measured) else np.zeros(len(genes))
    by_gene = correlate_columns(measured, imputed)
    by_cell = correlate_rows(measured, imputed)
    by_mean = correlate_rows(measured, np.broadcast_to(means, measured.shape))
    mean_observed = measured.mean(axis=0) if len(measured) else np.full(len(genes), np.nan)
    table = genes.assign(mean_observed=mean_observed, pearson=by_gene.pearson, spearman=by_gene.spearman)
    scores = pd.DataFrame(
        {
            "pearson": by_cell.pearson,
            "spearman": by_cell.spearman,
            "gene_mean_pearson": by_mean.pearson,
            "gene_mean_spearman": by_mean.spearman,
        },
        index=cells.index[compared],
    )
    summary = {
        "cells_compared": int(compared.sum()),
        "of_genes_across_cells": describe_correlations(by_gene, "genes"),
        "of_cells_across_genes": describe_correlations(by_cell, "cells"),
        "of_cells_across_genes_by_the_gene_mean": describe_correlations(by_mean, "cells"),
        "mean_squared_error": _mean_squared_error(measured, imputed),
        "mean_squared_error_of_the_gene_mean": _mean_squared_error(measured, means),
    }
    return _Scores(table, scores.reindex(cells.index), summary)


def _mean_squared_error(measured: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.square(measured - predicted).mean(dtype=np.float64)) if measured.size else float("nan")


# So that saving the pipeline saves its code, also where nobody has registered the task.
MultiomeImputationPipeline._registered_impl = {
    TASK: {"impl": MultiomeImputationPipeline, "pt": (MODEL_CLASS,), "type": "multimodal"}
}
