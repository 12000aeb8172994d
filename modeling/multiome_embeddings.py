"""What enters a path of the multiome Performer: the token of each gene plus the embedding of its binned value.

Source: chapter 4 of the thesis, section 4.3.1. Beyond it: gene tokens made from a frozen table, such as the DNA
features of promoters, by the adapter of "Multi-modal single-cell foundation models via dynamic token adaptation".
Shapes: B cells, N genes given, V genes of the model, H hidden, F features a gene.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .configuration_multiome_performer import MultiomePerformerConfig


class MultiomeEmbeddings(nn.Module):
    """Gene tokens and values of one modality, summed."""

    def __init__(self, config: MultiomePerformerConfig) -> None:
        super().__init__()
        self.gene_embeddings: nn.Embedding | None = None
        self.gene_adapter: nn.Linear | None = None
        if config.gene_feature_size is None:
            self.gene_embeddings = nn.Embedding(config.num_genes, config.hidden_size)
        else:
            self.gene_adapter = nn.Linear(config.gene_feature_size, config.hidden_size)
        self.value_embeddings = nn.Embedding(config.num_value_bins + 2, config.hidden_size)

    def forward(
        self, values: torch.Tensor, gene_positions: torch.Tensor | None, gene_features: torch.Tensor | None
    ) -> torch.Tensor:
        """(B, N) value ids and (B, N) or (N,) gene positions, None for all in order -> (B, N, H)."""
        tokens = self._gene_tokens(gene_features)  # (V, H)
        if gene_positions is not None:
            tokens = F.embedding(gene_positions, tokens)  # (N, H) or (B, N, H)
        return tokens + self.value_embeddings(values.long())

    def _gene_tokens(self, gene_features: torch.Tensor | None) -> torch.Tensor:
        if self.gene_embeddings is not None:
            return self.gene_embeddings.weight
        assert self.gene_adapter is not None and gene_features is not None
        return F.softplus(self.gene_adapter(gene_features.to(self.gene_adapter.weight.dtype)))


class GeneFeatures(nn.Module):
    """The frozen features of all genes, which both paths read.

    Buffer `features` (genes, features) float32, each column of mean 0 and standard deviation 1 over the genes; zeros
    before they are set.
    """

    features: torch.Tensor

    def __init__(self, num_genes: int, size: int) -> None:
        super().__init__()
        self.register_buffer("features", torch.zeros(num_genes, size))
        self._is_set = False

    @torch.no_grad()
    def set(self, features: torch.Tensor, gene_ids: list[str] | None) -> None:
        """Take (genes, features), and bring each column to one scale; one that is the same for all genes is 0."""
        if features.shape != self.features.shape:
            raise ValueError(
                f"gene features have shape {tuple(features.shape)}, and the model expects (num_genes, "
                f"gene_feature_size) = {tuple(self.features.shape)}: one row a gene, in the order of the model's genes"
            )
        bad = (~features.isfinite()).any(dim=1).nonzero().flatten().tolist()
        if bad:
            names = [gene_ids[place] if gene_ids else f"gene {place}" for place in bad[:5]]
            raise ValueError(
                f"{len(bad):,} genes have features that are not finite, e.g. {', '.join(names)}: every gene of the "
                "model needs features; make them, or take these genes out of it"
            )
        features = features.double()
        deviation = features.std(dim=0, correction=0)
        centred = features - features.mean(dim=0)
        self.features.copy_(centred / torch.where(deviation > 0, deviation, torch.ones_like(deviation)))
        self._is_set = True

    def require_set(self) -> torch.Tensor:
        """(genes, features); ValueError where no features have been set or loaded."""
        if not self._is_set and not torch.compiler.is_compiling():
            self._is_set = bool(self.features.any())
            if not self._is_set:
                raise ValueError(
                    f"the model has no gene features yet: call set_gene_features(features) with a tensor of shape "
                    f"(num_genes, gene_feature_size) = {tuple(self.features.shape)}, or load a saved model; "
                    "gene_feature_size=None needs none"
                )
        return self.features
