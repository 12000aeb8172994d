"""What the multiome Performer's classes return.

Shapes name their axes; `labelled` counts the values that have a label, over all cells of a batch.
"""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class MultiomePerformerOutput(ModelOutput):
    """What `MultiomePerformerModel` returns.

    Attributes:
        last_hidden_state: (cells, genes, hidden); of paired cells the mean of both paths.
        cell_embedding: (cells, hidden); of paired cells the mean of the next two.
        rna_cell_embedding: (cells, hidden) of the RNA path; None where no RNA is given.
        atac_cell_embedding: (cells, hidden) of the ATAC path; None where no ATAC is given.
        hidden_states: embeddings and each layer's output, (cells, genes, hidden) each, the last one normed; of paired
            cells the means of both paths.
    """

    last_hidden_state: torch.Tensor | None = None
    cell_embedding: torch.Tensor | None = None
    rna_cell_embedding: torch.Tensor | None = None
    atac_cell_embedding: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


@dataclass
class MultiomePerformerForPreTrainingOutput(ModelOutput):
    """What `MultiomePerformerForPreTraining` returns.

    Attributes:
        loss: mean of the losses of the modalities that have labels, scalar; only with labels.
        rna_loss: cross-entropy, averaged over the labelled values of a cell, then over cells; only with RNA labels.
        atac_loss: likewise.
        rna_logits: (cells, genes, value bins + 1) without any labels; (labelled, value bins + 1) with RNA labels; None
            with labels of ATAC only.
        atac_logits: likewise.
        rna_logits_indices: (labelled,) int64, each row's place in the flattened (cells x genes); only with RNA labels.
        atac_logits_indices: likewise.
        cell_embedding: (cells, hidden).
        hidden_states: as of `MultiomePerformerOutput`.
    """

    loss: torch.Tensor | None = None
    rna_loss: torch.Tensor | None = None
    atac_loss: torch.Tensor | None = None
    rna_logits: torch.Tensor | None = None
    atac_logits: torch.Tensor | None = None
    rna_logits_indices: torch.Tensor | None = None
    atac_logits_indices: torch.Tensor | None = None
    cell_embedding: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


@dataclass
class MultiomePerformerForCellTypeClassificationOutput(ModelOutput):
    """What `MultiomePerformerForCellTypeClassification` returns.

    Attributes:
        loss: cross-entropy, scalar; only with labels.
        logits: (cells, num_labels).
        cell_embedding: (cells, hidden).
        hidden_states: as of `MultiomePerformerOutput`.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    cell_embedding: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
