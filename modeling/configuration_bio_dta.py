"""Configuration of Bio-DTA: BERT's own fields plus those of the adapter from DNA features to gene tokens.

Source: "Multi-modal single-cell foundation models via dynamic token adaptation", sections "Model architecture and
training" and A.1. The defaults are the paper's; `variant_encoding="difference"` and the adapters other than `linear` go
beyond it.
"""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import BertConfig


@strict
class BioDTAConfig(BertConfig):
    """Sizes and choices of a Bio-DTA model. Fields that BERT has too keep BERT's names and meaning.

    Args:
        vocab_size: number of tokens; the first `num_special_tokens` ids are special, the others are genes.
        max_position_embeddings: the longest cell, in genes.
        dna_feature_size: numbers a gene in the table of DNA features (3,072 for Enformer's last pointwise layer).
        adapter_type: `linear` (the paper: one linear layer and a softplus), `mlp` (two layers and a softplus), or
            `none` (the paper's adapter-free model: an ordinary embedding a gene, no DNA).
        adapter_hidden_size: width of the middle layer of the `mlp` adapter; `hidden_size` where None.
        variant_encoding: `replace` (the paper: a variant's features go through the adapter in place of the reference's)
            or `difference` (the adapter of the reference plus a second linear map of the difference to the reference).
        feature_scaling: `standardize` (each feature has mean 0 and standard deviation 1 over genes) or `whiten` (so has
            each principal direction of the features, and of the differences that variants make; learns faster where
            features are much alike).
        gene_ids: the token of each id, special tokens included, `vocab_size` long; None where unknown.
        num_special_tokens: how many ids at the start of the vocabulary are special (`<pad>`, `<mask>`, ...).
        gene_features_metadata: how the DNA features were made (layer, pool, window_bp, model, assembly, ...), as in the
            features' file; a pipeline needs it to make features of mutated sequences alike.

    Raises:
        ValueError: where `gene_ids` and `vocab_size` disagree, or tied word embeddings are asked of a model with an
            adapter.
    """

    model_type = "bio-dta"

    vocab_size: int = 25_426
    hidden_size: int = 256
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    intermediate_size: int = 512
    hidden_act: str = "relu"
    hidden_dropout_prob: float | int = 0.02
    attention_probs_dropout_prob: float | int = 0.02
    max_position_embeddings: int = 2048
    type_vocab_size: int = 1
    tie_word_embeddings: bool | None = None  # type: ignore[assignment]  # None: tied where there is no adapter
    dna_feature_size: int = 3072
    adapter_type: Literal["linear", "mlp", "none"] = "linear"
    adapter_hidden_size: int | None = None
    variant_encoding: Literal["replace", "difference"] = "replace"
    feature_scaling: Literal["standardize", "whiten"] = "standardize"
    gene_ids: list[str] | None = None
    num_special_tokens: int = 2
    gene_features_metadata: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        # A vocabulary-wide embedding exists, and can be tied to the head, only without an adapter.
        if self.tie_word_embeddings is None:
            self.tie_word_embeddings = self.adapter_type == "none"
        # Copies of the pipelines' code beside the weights are for processes without the package; where this class comes
        # from the package, so do its pipelines, and transformers must not ask for trust_remote_code.
        if not __name__.startswith("transformers_modules."):
            kwargs.pop("custom_pipelines", None)
        super().__post_init__(**kwargs)

    def validate_vocabulary(self) -> None:
        if self.gene_ids is not None and len(self.gene_ids) != self.vocab_size:
            raise ValueError(
                f"gene_ids has {len(self.gene_ids):,} tokens and vocab_size is {self.vocab_size:,}: they must be "
                f"equal, the {self.num_special_tokens} special tokens included"
            )
        if not 0 < self.num_special_tokens < self.vocab_size:
            raise ValueError(
                f"num_special_tokens is {self.num_special_tokens} and vocab_size {self.vocab_size}: the special tokens "
                "are the first ids, at least <pad>, and genes must follow"
            )

    def validate_adapter(self) -> None:
        if self.tie_word_embeddings and self.adapter_type != "none":
            raise ValueError(
                f'tie_word_embeddings=True needs adapter_type="none", and it is "{self.adapter_type}": with an adapter '
                "no embedding a gene exists that the head could share"
            )


BioDTAConfig.register_for_auto_class()
