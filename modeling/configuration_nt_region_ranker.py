"""Configuration of the region ranker: a Nucleotide Transformer and a head that scores accessibility.

Source: "Region Ranking on scATAC", chapter 3 and appendix A. Beyond it: three more ranking losses and the Poisson
regression that it rejected, scores that depend on the cell type, and lists and inputs of any size.
"""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_nucleotide_transformer import NucleotideTransformerConfig

# Two poolings by 4 leave nothing of a shorter side.
_SMALLEST_IMAGE = 16


@strict
class NTRegionRankerConfig(NucleotideTransformerConfig):
    """The encoder's fields, and those of the head.

    Args:
        scorer_head: `linear`, `transformer`, `unet` or `convolutional` (the best of the publication).
        num_tokens: the longest region that the head takes, in tokens, <cls> included: span_bp // 6 + 1.
        ranking_loss: name in `RANKING_LOSSES`: `softmax` (the publication's), `pairwise_logistic`, `listmle`,
            `approx_ndcg`, or `poisson`, a regression on counts.
        ranking_labels: what the loss takes as labels: `counts` as they are, or dense `ranks` within the list, from 0,
            equal counts sharing one.
        cell_types: names, in the order of `cell_type_ids`: scores depend on the cell type, by a vector that is added to
            the encoder's output at each token. A linear head sees this as a shift that depends on nothing of a region
            but where its tokens lie: choose another head with it. None: the same scores for all cell types.
        region_bp: typical length of the regions trained on, in bp; None where unknown.
        span_bp: length of the spans trained on, in bp; None where unknown.

    Raises:
        ValueError: where head and sizes, loss and labels, or the names of cell types do not fit.
    """

    model_type = "nt-region-ranker"

    scorer_head: Literal["linear", "transformer", "unet", "convolutional"] = "convolutional"
    num_tokens: int = 501
    ranking_loss: Literal["softmax", "pairwise_logistic", "listmle", "approx_ndcg", "poisson"] = "softmax"
    ranking_labels: Literal["counts", "ranks"] = "counts"
    cell_types: list[str] | None = None
    region_bp: int | None = None
    span_bp: int | None = None

    def validate_num_tokens(self) -> None:
        if self.num_tokens < 2:
            raise ValueError(f"num_tokens is {self.num_tokens}: expected <cls> and at least one token of a region")
        if self.num_tokens > self.max_tokens and self.rescaling_factor is None:
            raise ValueError(
                f"num_tokens is {self.num_tokens:,}, and the encoder was trained with at most {self.max_tokens:,}: "
                f"rank shorter regions, or rescale rotary positions with rescaling_factor="
                f"{self.num_tokens / self.max_tokens:.3f}"
            )

    def validate_scorer_head(self) -> None:
        sides = {"num_tokens": self.num_tokens, "hidden_size": self.hidden_size}
        small = [f"{name} {size}" for name, size in sides.items() if size < _SMALLEST_IMAGE]
        if self.scorer_head == "convolutional" and small:
            raise ValueError(
                f"{' and '.join(small)}: the convolutional head pools both by {_SMALLEST_IMAGE}, and needs at least "
                f'that; make it larger, or take scorer_head="linear", "transformer" or "unet"'
            )

    def validate_ranking(self) -> None:
        if self.ranking_loss == "poisson" and self.ranking_labels != "counts":
            raise ValueError(
                f'ranking_loss "poisson" is a regression on counts, and ranking_labels is "{self.ranking_labels}": set '
                'ranking_labels="counts"'
            )

    def validate_cell_types(self) -> None:
        names = self.cell_types
        if names is not None and (not names or "" in names or len(set(names)) < len(names)):
            raise ValueError(
                f"cell_types is {names}: expected one or more names, each once; None where scores do not depend on the "
                "cell type"
            )

    def validate_lengths(self) -> None:
        for name in ("region_bp", "span_bp"):
            length = getattr(self, name)
            if length is not None and length < 1:
                raise ValueError(f"{name} is {length}: expected a positive number of bp, or None where it is unknown")


NTRegionRankerConfig.register_for_auto_class()
