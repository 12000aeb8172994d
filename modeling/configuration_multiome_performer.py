"""Configuration of the multiome Performer: RNA, ATAC or both of a cell, one token a gene.

Source: "Developing a Multimodal Single-Cell Foundation Model with scATAC", chapter 4 and appendix B. The hidden size is
the 128 of its text (table B.2 says 256; neither divides by its ten heads, so `head_dim` is a size of its own). Beyond
it: exact attention, joint embeddings by cross-attention, other poolings and heads, gene tokens made from DNA.
"""

import math
from dataclasses import field
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

MODALITIES = ("rna", "atac")


@strict
class MultiomePerformerConfig(PreTrainedConfig):
    """Sizes and choices of a multiome Performer.

    Args:
        num_genes: genes that the model knows, one token each.
        gene_ids: their ids, `num_genes` long; None where unknown.
        modalities: which paths the model has, of `rna` and `atac`.
        num_value_bins: bins of non-zero values; value ids are 0 for zero, 1 to `num_value_bins`, and `mask_value_id`.
        head_dim: numbers a head; independent of `hidden_size` and `num_attention_heads`.
        attention_bias: whether the projections to queries, keys and values have biases.
        intermediate_size: width of the feed-forward network.
        hidden_act: its activation, `gelu` or `relu`.
        hidden_dropout_prob: dropout of what each half of a block adds to the residual stream.
        attention_type: `performer` (softmax attention approximated by random features, linear in genes) or `sdpa`
            (exact, quadratic). Weights are the same: either opens the other's checkpoints.
        num_random_features: a layer; `int(head_dim * ln head_dim)` where None, 266 for 64.
        feature_redraw_interval: random features are drawn anew after every so many batches of training; None: never.
        feature_seed: of the random features.
        pooling: cell embedding by the `mean` over genes, by the mean over genes whose value is not zero
            (`nonzero_mean`; over all genes in cells without any), or by an additional token a path (`cls`).
        joint_embedding: of paired cells: `mean` of both paths (the publication), or `cross_attention`, where each path
            attends to the other's output before the mean.
        gene_feature_size: numbers a gene in a frozen table, e.g. of DNA features, from which gene tokens are made by
            one linear layer and a softplus; None: an ordinary embedding a gene.
        classification_head: `convolutional` (the publication: one number a gene, then three linear layers) or `linear`
            on the cell embedding.
        classifier_dropout: dropout in that head.
        class_weights: of the classification loss, one a label; None: all alike.
        feature_order: order of the genes that the model was trained with: `fixed`, `per_cell`, or `every_step`.
            Recorded only; whoever makes the batches acts on it.

    Raises:
        ValueError: where sizes and names do not fit one another.
    """

    model_type = "multiome-performer"

    num_genes: int = 10_733
    gene_ids: list[str] | None = None
    modalities: list[str] = field(default_factory=lambda: list(MODALITIES))
    num_value_bins: int = 5
    hidden_size: int = 128
    num_hidden_layers: int = 6
    num_attention_heads: int = 10
    head_dim: int = 64
    attention_bias: bool = True
    intermediate_size: int = 512
    hidden_act: Literal["gelu", "relu"] = "gelu"
    hidden_dropout_prob: float | int = 0.0
    layer_norm_eps: float | int = 1e-5
    initializer_range: float | int = 0.02
    attention_type: Literal["performer", "sdpa"] = "performer"
    num_random_features: int | None = None
    feature_redraw_interval: int | None = 1000
    feature_seed: int = 0
    pooling: Literal["mean", "nonzero_mean", "cls"] = "mean"
    joint_embedding: Literal["mean", "cross_attention"] = "mean"
    gene_feature_size: int | None = None
    classification_head: Literal["convolutional", "linear"] = "convolutional"
    classifier_dropout: float | int = 0.0
    class_weights: list[float] | None = None
    feature_order: Literal["fixed", "per_cell", "every_step"] = "fixed"

    def __post_init__(self, **kwargs: Any) -> None:
        if self.num_random_features is None and self.head_dim > 1:
            self.num_random_features = int(self.head_dim * math.log(self.head_dim))
        # Copies of the pipelines' code beside the weights are for processes without the package; where this class comes
        # from the package, so do its pipelines, and transformers must not ask for trust_remote_code.
        if not __name__.startswith("transformers_modules."):
            kwargs.pop("custom_pipelines", None)
        super().__post_init__(**kwargs)

    @classmethod
    def scbert(cls, **overrides: Any) -> "MultiomePerformerConfig":
        """scBERT's sizes: 16,906 genes and one token of 200 numbers each, RNA only; `overrides` come first."""
        sizes = {
            "num_genes": 16_906,
            "modalities": ["rna"],
            "hidden_size": 200,
            "attention_bias": False,
            "intermediate_size": 800,
        }
        return cls(**{**sizes, **overrides})

    @property
    def mask_value_id(self) -> int:
        """The value id of masked and of missing values."""
        return self.num_value_bins + 1

    def validate_sizes(self) -> None:
        for name in ("num_genes", "num_value_bins", "hidden_size", "num_hidden_layers", "num_attention_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at least 1")
        if self.head_dim < 2:
            raise ValueError(f"head_dim is {self.head_dim}: expected at least 2")
        for name in ("num_random_features", "feature_redraw_interval", "gene_feature_size"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ValueError(f"{name} is {size}: expected a positive number, or None")

    def validate_genes(self) -> None:
        if self.gene_ids is None:
            return
        if len(self.gene_ids) != self.num_genes:
            raise ValueError(
                f"gene_ids has {len(self.gene_ids):,} genes and num_genes is {self.num_genes:,}: they must be equal"
            )
        if len(set(self.gene_ids)) < self.num_genes:
            twice = sorted({name for name in self.gene_ids if self.gene_ids.count(name) > 1})
            raise ValueError(f"gene_ids names genes more than once, e.g. {', '.join(twice[:5])}: expected each once")

    def validate_modalities(self) -> None:
        names = self.modalities
        if not names or len(set(names)) < len(names) or not set(names) <= set(MODALITIES):
            raise ValueError(f'modalities is {names}: expected "rna", "atac" or both, each once')
        if self.joint_embedding == "cross_attention" and len(names) < 2:
            raise ValueError(
                f'joint_embedding "cross_attention" needs both modalities, and the model has {names}: set '
                'joint_embedding="mean", or modalities=["rna", "atac"]'
            )

    def validate_class_weights(self) -> None:
        weights = self.class_weights
        if weights is None:
            return
        if len(weights) != self.num_labels:
            raise ValueError(
                f"class_weights has {len(weights)} numbers and the model {self.num_labels} labels: give one a label"
            )
        if min(weights) < 0 or max(weights) <= 0 or not all(map(math.isfinite, weights)):
            raise ValueError(f"class_weights are {weights}: expected finite numbers of at least 0, one of them above 0")


MultiomePerformerConfig.register_for_auto_class()
