"""The frozen DNA features of the reference, by token id, and the statistics that bring features to one scale.

Source: "Multi-modal single-cell foundation models via dynamic token adaptation"; that features are scaled, and how,
goes beyond it. Windows share most of their sequence statistics, so features of promoters vary between genes along a few
directions, and what variants change varies along a few others; `whiten` gives all of them the same weight.
Shapes: V vocabulary, F features a gene.
"""

import torch
from torch import nn

from .configuration_bio_dta import BioDTAConfig

# Directions whose variance is below this share of the largest one's hold rounding rather than sequence, and are
# dropped.
SMALLEST_VARIANCE_SHARE = 1e-4


class GeneFeatureTable(nn.Module):
    """Features of all genes, and their standardisation.

    Buffers, all float32: `features` (V, F); `mean` and `standard_deviation` (F,) over genes; `difference_scale` (1,),
    the root mean square of the variants' standardised differences to the reference, 1 where unknown. With
    `feature_scaling="whiten"` also `rotation` and `difference_rotation` (F, F): from standardised features, or
    differences, to their principal directions, each of the same variance; columns of dropped directions are zero.
    """

    features: torch.Tensor
    mean: torch.Tensor
    standard_deviation: torch.Tensor
    difference_scale: torch.Tensor
    rotation: torch.Tensor
    difference_rotation: torch.Tensor

    def __init__(self, config: BioDTAConfig) -> None:
        super().__init__()
        size = config.dna_feature_size
        self.num_special_tokens = config.num_special_tokens
        self.gene_ids = config.gene_ids
        self.whitens = config.feature_scaling == "whiten"
        self.register_buffer("features", torch.zeros(config.vocab_size, size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("standard_deviation", torch.zeros(size))  # zero: not set yet
        self.register_buffer("difference_scale", torch.ones(1))
        if self.whitens:
            self.register_buffer("rotation", torch.eye(size))
            self.register_buffer("difference_rotation", torch.eye(size))
        self._is_set = False

    def standardized(self, features: torch.Tensor) -> torch.Tensor:
        """(rows, F) raw -> (rows, F), mean 0 over the genes of the table, and as large as standard normal numbers."""
        standardized = (features.float() - self.mean.float()) / self.standard_deviation.float()
        return standardized @ self.rotation.float() if self.whitens else standardized

    def standardized_difference(self, variant_features: torch.Tensor, gene_token_ids: torch.Tensor) -> torch.Tensor:
        """(rows, F) of variants of the genes `gene_token_ids` (rows,) -> (rows, F), about 1 in size."""
        difference = variant_features.float() - self.features[gene_token_ids].float()
        difference = difference / (self.standard_deviation.float() * self.difference_scale.float())
        return difference @ self.difference_rotation.float() if self.whitens else difference

    @torch.no_grad()
    def set(self, features: torch.Tensor) -> None:
        """Take the reference's features, (V, F), and their statistics over its genes.

        Raises:
            ValueError: on another shape, or features that are not finite.
        """
        self._check(features)
        genes = features[self.num_special_tokens :].double()
        deviation = genes.std(dim=0, correction=0)
        # A feature that is the same for all genes stays 0 when standardised, and its differences keep their own unit.
        deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
        self.features.copy_(features)
        self.features[: self.num_special_tokens] = 0
        self.mean.copy_(genes.mean(dim=0))
        self.standard_deviation.copy_(deviation)
        self.difference_scale.fill_(1.0)
        if self.whitens:
            self.rotation.copy_(_whitening((genes - genes.mean(dim=0)) / deviation))
            self.difference_rotation.copy_(torch.eye(len(deviation)))
        self._is_set = True

    @torch.no_grad()
    def set_difference_scale(self, variant_features: torch.Tensor, gene_token_ids: torch.Tensor) -> None:
        """Take the size, and with whitening the directions, of variants' effects.

        Args:
            variant_features: (variants, F).
            gene_token_ids: (variants,) int64, the gene that each row is a variant of.
        """
        difference = variant_features.double() - self.features[gene_token_ids].double()
        difference = difference / self.standard_deviation.double()
        scale = difference.square().mean().sqrt()
        if not scale > 0:
            return
        self.difference_scale.fill_(scale.item())
        if self.whitens:
            self.difference_rotation.copy_(_whitening(difference / scale))

    def require_set(self) -> None:
        """Raise ValueError where no features have been set or loaded."""
        if torch.compiler.is_compiling():
            return  # a graph must not depend on what a tensor holds; without features, losses are not numbers
        if not self._is_set:
            self._is_set = bool(self.standard_deviation.any())
        if not self._is_set:
            raise ValueError(
                "the model has no gene features yet: call set_gene_features(features) with a tensor of shape "
                f"(vocabulary {self.features.shape[0]}, dna_feature_size {self.features.shape[1]}), or load a saved "
                'model; adapter_type="none" needs none'
            )

    def _check(self, features: torch.Tensor) -> None:
        if features.shape != self.features.shape:
            raise ValueError(
                f"gene features have shape {tuple(features.shape)}, and the model expects (vocabulary, "
                f"dna_feature_size) = {tuple(self.features.shape)}: one row a token id, special tokens first; make the "
                "features with the layer and vocabulary that the model's configuration names"
            )
        bad = (~features[self.num_special_tokens :].isfinite()).any(dim=1).nonzero().flatten() + self.num_special_tokens
        if len(bad):
            names = [self.gene_ids[i] if self.gene_ids else f"token {i}" for i in bad[:5].tolist()]
            raise ValueError(
                f"{len(bad):,} genes have features that are not finite, e.g. {', '.join(names)}: every gene of the "
                "vocabulary needs DNA features; make them, or take these genes out of the vocabulary"
            )


def _whitening(rows: torch.Tensor) -> torch.Tensor:
    """(rows, F) -> (F, F) by which rows become uncorrelated, of equal variance, and 1 in root mean square."""
    size = rows.shape[1]
    variances, directions = torch.linalg.eigh(rows.T @ rows / len(rows))
    kept = variances > SMALLEST_VARIANCE_SHARE * variances[-1]
    whitening = torch.zeros(size, size, dtype=rows.dtype)
    n_kept = int(kept.sum())
    whitening[:, :n_kept] = directions[:, kept] / variances[kept].sqrt() * (size / n_kept) ** 0.5
    return whitening.float()
