"""Pipeline: one vector a cell, from RNA, ATAC or both, into `AnnData.obsm`.

Source: "Developing a Multimodal Single-Cell Foundation Model with scATAC", section 4.3.1: of cells in both modalities,
the joint embedding. Beyond the source: a map of the cells, and whether neighbours have the same label.
"""

from typing import Any

import numpy as np
from transformers import AutoModel, AutoModelForPreTraining, AutoModelForSequenceClassification

from .aligned_cells import CountChoice
from .cell_embedding_result import CellEmbeddingResult, neighbour_agreement
from .multiome_pipeline import MultiomePipeline
from .multiome_run import count_cells, gather, value_batches

TASK = "cell-embedding"
MODEL_CLASS = AutoModel
# The first that a folder's configuration knows is loaded: without the package, that is the class that was saved.
MODEL_CLASSES = (AutoModel, AutoModelForPreTraining, AutoModelForSequenceClassification)


class CellEmbeddingPipeline(MultiomePipeline):
    """`pipeline("cell-embedding", model=folder)("cells.h5mu").anndata().obsm["X_multiome_performer"]`."""

    def __call__(  # type: ignore[override]
        self,
        inputs: Any,
        *,
        modality: str | None = None,
        labels: str | None = None,
        neighbours: int = 15,
        counts_layer: Any = None,
        use_raw: bool = False,
        gene_id_column: str | None = None,
        counts_are: str = "reads",
        batch_size: int | None = None,
        progress: bool = False,
    ) -> CellEmbeddingResult:
        """Embed cells.

        Args:
            inputs: as the classification pipeline takes them.
            modality: "rna" or "atac": what an AnnData holds, or which of both to read.
            labels: column of `obs`: how far neighbours share it goes into the summary.
            neighbours: nearest cells that are looked at for that.
            counts_layer, use_raw, gene_id_column, counts_are, batch_size, progress: as the classification pipeline.

        Returns:
            CellEmbeddingResult: `.embeddings`, `.anndata()`, `.umap()`, `.umap_figure()`, `.summary`. Cells without any
            count on the model's genes have NaN.

        Raises:
            ValueError: before the model runs, for cells that cannot be read or are not of the model's genes, counts
                that are not raw, a modality that the model lacks, and a column that is not there.
        """
        if neighbours < 1:
            raise ValueError(f"neighbours is {neighbours}; expected 1 or more")
        cells_a_batch = self.cells_a_batch(batch_size)
        choice = CountChoice(counts_layer, use_raw, gene_id_column, counts_are)
        cells = self.preprocess(inputs, modality, choice)
        if labels is not None:
            cells.require_column(labels)
        batches = value_batches(cells, self.feature_extractor, batch_size=cells_a_batch, progress=progress)
        embeddings = gather(cells, batches, self._embed, self.model.config.hidden_size)
        summary: dict[str, Any] = {
            "model": self.model.name_or_path,
            "modalities": list(cells.counts),
            **count_cells(cells),
            "hidden_size": self.model.config.hidden_size,
            "input": dict(cells.report),
        }
        if labels is not None:
            agreement = neighbour_agreement(embeddings, cells.obs[labels], neighbours)
            summary["neighbour_agreement"] = {"labels": labels, **agreement}
        return CellEmbeddingResult(embeddings, cells, summary)

    def _embed(self, values: dict[str, np.ndarray]) -> np.ndarray:
        return self.run_model(self.model.base_model, values).cell_embedding.float().cpu().numpy()


# So that saving the pipeline saves its code, also where nobody has registered the task.
CellEmbeddingPipeline._registered_impl = {
    TASK: {"impl": CellEmbeddingPipeline, "pt": MODEL_CLASSES, "type": "multimodal"}
}
