"""Losses and heads on the embeddings of the multiome Performer: reconstruction of values, and cell types.

Source: chapter 4 of the thesis, sections 4.3.2 and 4.3.3; the sizes 512 and 128 of the head are scBERT's.
Shapes: B cells, N genes, H hidden, L labelled values, V value ids without the mask's, C cell types.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .configuration_multiome_performer import MultiomePerformerConfig


def reconstruction_loss(
    logits: torch.Tensor, labels: torch.Tensor, *, cells: torch.Tensor, num_cells: int
) -> torch.Tensor:
    """Cross-entropy, averaged over the labelled values of each cell, then over the cells that have any.

    Args:
        logits: (labelled, values).
        labels: (labelled,) int64.
        cells: (labelled,) int64, the cell of each.
        num_cells: cells of the batch.

    Returns:
        Scalar float32; 0 where nothing is labelled.
    """
    losses = F.cross_entropy(logits.float(), labels, reduction="none")
    counts = torch.bincount(cells, minlength=num_cells).to(losses.dtype)  # (B,)
    weights = 1.0 / counts[cells]
    return (losses * weights).sum() / (counts > 0).sum().clamp(min=1)


def classification_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    class_weights: torch.Tensor | None = None,
    *,
    num_items: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Cross-entropy, averaged over the scored cells, each with the weight of its type.

    Args:
        logits: (cells, types).
        labels: (cells,) integers; -100 is not scored.
        class_weights: (types,); all alike where None.
        num_items: scored cells of an accumulated step; the loss is then weighted by this batch's share of them.

    Returns:
        Scalar float32; 0 where nothing is scored.
    """
    is_scored = labels != -100
    weights = torch.ones(logits.shape[1], device=logits.device) if class_weights is None else class_weights.float()
    total = F.cross_entropy(logits.float(), labels.long(), weight=weights, reduction="sum")
    weight = (weights[labels.long().clamp(min=0)] * is_scored).sum()
    loss = total / torch.where(weight > 0, weight, torch.ones_like(weight))
    return loss if num_items is None else loss * is_scored.sum() / num_items


class ConvolutionalClassifier(nn.Module):
    """One number a gene by a convolution of width 1, then three linear layers over all genes: (B, N, H) -> (B, C).

    It knows a gene by its column, so that genes must come in the order, and number, that it was trained with.
    """

    def __init__(self, config: MultiomePerformerConfig) -> None:
        super().__init__()
        assert config.num_labels is not None
        self.num_genes, self.num_labels = config.num_genes, config.num_labels
        self.convolution = nn.Conv1d(config.hidden_size, 1, kernel_size=1)
        self.first = nn.Linear(config.num_genes, 512)
        self.second = nn.Linear(512, 128)
        self.third = nn.Linear(128, self.num_labels)
        self.dropout = nn.Dropout(config.classifier_dropout)

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        self.require_all_genes(hidden_states.shape[1])
        numbers = F.gelu(self.convolution(hidden_states.mT).squeeze(1))  # (B, N); one ReLU unit can die
        if mask is not None:
            numbers = numbers.masked_fill(~mask, 0.0)
        hidden = self.dropout(F.relu(self.first(numbers)))
        hidden = self.dropout(F.relu(self.second(hidden)))
        return self.third(hidden)

    def require_all_genes(self, num_genes: int) -> None:
        """Raise ValueError where there are more or fewer genes than the model has."""
        if num_genes != self.num_genes:
            raise ValueError(
                f"{num_genes:,} genes are given, and the convolutional head takes all {self.num_genes:,} of the model: "
                'give them all and mask those that are missing, or set classification_head="linear"'
            )


class LinearClassifier(nn.Module):
    """One linear layer on the cell embedding: (B, H) -> (B, C)."""

    def __init__(self, config: MultiomePerformerConfig) -> None:
        super().__init__()
        assert config.num_labels is not None
        self.num_labels = config.num_labels
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.output = nn.Linear(config.hidden_size, self.num_labels)

    def forward(self, cell_embedding: torch.Tensor) -> torch.Tensor:
        return self.output(self.dropout(cell_embedding))
