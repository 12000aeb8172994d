"""Pipeline: which type each cell is of, from RNA, ATAC or both, with how sure the model is.

Source: "Developing a Multimodal Single-Cell Foundation Model with scATAC", section 4.3.3. Beyond the source:
confidence, entropy, an "unknown" threshold, and a comparison with labels where the cells have some.
"""

import math
from typing import Any

import numpy as np
from transformers import AutoModelForSequenceClassification

from .aligned_cells import CountChoice
from .cell_type_agreement import compare_with_labels
from .cell_type_result import CellTypeResult, cell_type_table
from .multiome_pipeline import MultiomePipeline
from .multiome_run import count_cells, gather, value_batches

TASK = "cell-type-classification"
MODEL_CLASS = AutoModelForSequenceClassification


class CellTypeClassificationPipeline(MultiomePipeline):
    """`pipeline("cell-type-classification", model=folder)("cells.h5ad").table`."""

    _head = "ForCellTypeClassification"

    def __call__(  # type: ignore[override]
        self,
        inputs: Any,
        *,
        modality: str | None = None,
        unknown_threshold: float = 0.0,
        labels: str | None = None,
        counts_layer: Any = None,
        use_raw: bool = False,
        gene_id_column: str | None = None,
        counts_are: str = "reads",
        batch_size: int | None = None,
        progress: bool = False,
    ) -> CellTypeResult:
        """Classify cells.

        Args:
            inputs: an AnnData of RNA or ATAC (told by its `var`) or of both (10x), {"rna": AnnData, "atac": AnnData}, a
                MuData, or the path of a .h5ad or .h5mu. Raw counts.
            modality: "rna" or "atac": what an AnnData holds, or which of both to read.
            unknown_threshold: cells whose best type has a lower probability are "unknown", and counted.
            labels: column of `obs` to compare with; missing labels and types that the model does not know are counted.
            counts_layer: layer with raw counts, or a mapping of modality to layer; `X` where None.
            use_raw: take the AnnData's `raw`.
            gene_id_column: column of the RNA's `var` that names genes; found by itself where None.
            counts_are: what counts in peaks are: "reads" (cut sites, as 10x writes them) or "fragments".
            batch_size: cells a model call; 8 where None.
            progress: show a progress bar.

        Returns:
            CellTypeResult: `.table`, `.probabilities`, `.anndata()`, `.confusion`, `.figures()`, `.summary`. Cells
            without any count on the model's genes are "unknown", with NaN as confidence.

        Raises:
            ValueError: before the model runs, for cells that cannot be read or are not of the model's genes, counts
                that are not raw, a modality that the model lacks, a threshold that is no probability, and a column that
                is not there.
        """
        if not 0 <= unknown_threshold <= 1:
            raise ValueError(f"unknown_threshold is {unknown_threshold}; expected a probability, 0 to 1")
        cells_a_batch = self.cells_a_batch(batch_size)
        choice = CountChoice(counts_layer, use_raw, gene_id_column, counts_are)
        cells = self.preprocess(inputs, modality, choice)
        if labels is not None:
            cells.require_column(labels)
        batches = value_batches(cells, self.feature_extractor, batch_size=cells_a_batch, progress=progress)
        probabilities = gather(cells, batches, self._probabilities, len(self.cell_types))
        table = cell_type_table(probabilities, self.cell_types, cells.obs.index, unknown_threshold)
        summary = {
            "model": self.model.name_or_path,
            "modalities": list(cells.counts),
            **count_cells(cells),
            "unknown_threshold": unknown_threshold,
            "unknown": int(table["is_unknown"].sum()),
            "cells_of_type": table["cell_type"].value_counts().to_dict(),
            "mean_confidence": float(np.nanmean(table["confidence"])),
            "mean_entropy": float(np.nanmean(table["entropy"])),
            "largest_entropy": math.log(len(self.cell_types)),
            "input": dict(cells.report),
        }
        comparison = None
        if labels is not None:
            comparison = compare_with_labels(table["cell_type"], cells.obs[labels], self.cell_types)
            summary["comparison"] = {"labels": labels, **comparison.summary}
        confusion = None if comparison is None else comparison.confusion
        return CellTypeResult(table, probabilities, self.cell_types, cells, summary, confusion)

    @property
    def cell_types(self) -> list[str]:
        """Names of the types, in the order of the probabilities."""
        names = self.model.config.id2label
        return [str(names[number]) for number in range(len(names))]

    def _probabilities(self, values: dict[str, np.ndarray]) -> np.ndarray:
        return self.run_model(self.model, values).logits.float().softmax(-1).cpu().numpy()


# So that saving the pipeline saves its code, also where nobody has registered the task.
CellTypeClassificationPipeline._registered_impl = {
    TASK: {"impl": CellTypeClassificationPipeline, "pt": (MODEL_CLASS,), "type": "multimodal"}
}
