"""Configuration of the Nucleotide Transformer: rotary positions and SwiGLU, or learned positions and GELU.

Source: Dalla-Torre et al. 2024 (https://doi.org/10.1038/s41592-024-02523-z) and the configurations published with the
weights, whose field names are kept. The defaults are those of the 50 M parameter model of the second version.
"""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class NucleotideTransformerConfig(PreTrainedConfig):
    """Sizes and choices of a Nucleotide Transformer.

    Args:
        vocab_size: number of tokens.
        intermediate_size: width of the feed-forward network; with `swiglu` its first matrix is twice as wide.
        hidden_act: `swiglu` (second version) or `gelu` (first).
        mlp_bias: whether the feed-forward network has biases (first version: yes).
        position_embedding_type: `rotary` (second version) or `absolute`, learned positions (first).
        max_position_embeddings: the longest input that the model was trained with, counted as in the published
            configurations: that many tokens, <cls> included, plus `pad_token_id` plus 1.
        rescaling_factor: s in the rotary base `rope_theta * s^(d / (d - 2))`, d the size of a head: tokens with <cls>
            divided by the longest trained input. None: no rescaling, and longer inputs are an error.
        emb_layer_norm_before: layer norm on the embeddings (some of the first version).
        token_dropout: masked tokens enter as zeros, and the others are scaled up (first version).
        kmer_size: bases of a k-mer token.
        kmer_token_ids: first id of the k-mers, and the id behind the last.
        letter_token_ids: first id of the single letters A, T, C, G, N, and the id behind the last.
        n_token_id: the letter N.

    Raises:
        ValueError: where hidden_size does not divide by num_attention_heads, a head has an odd size under rotary
            positions, or the token ids do not fit into the vocabulary.
    """

    model_type = "nucleotide-transformer"

    vocab_size: int = 4107
    hidden_size: int = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 16
    intermediate_size: int = 2048
    hidden_act: Literal["swiglu", "gelu"] = "swiglu"
    mlp_bias: bool = False
    position_embedding_type: Literal["rotary", "absolute"] = "rotary"
    max_position_embeddings: int = 2050
    rope_theta: float | int = 10_000.0
    rescaling_factor: float | int | None = None
    emb_layer_norm_before: bool = False
    token_dropout: bool = False
    layer_norm_eps: float | int = 1e-12
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    initializer_range: float | int = 0.02
    tie_word_embeddings: bool = False
    pad_token_id: int = 1
    mask_token_id: int = 2
    cls_token_id: int = 3
    kmer_size: int = 6
    kmer_token_ids: list[int] | None = None
    letter_token_ids: list[int] | None = None
    n_token_id: int = 4106

    def __post_init__(self, **kwargs: Any) -> None:
        self.kmer_token_ids = self.kmer_token_ids or [6, 4102]
        self.letter_token_ids = self.letter_token_ids or [4102, 4107]
        # Copies of the pipelines' code beside the weights are for processes without the package; where this class comes
        # from the package, so do its pipelines, and transformers must not ask for trust_remote_code.
        if not __name__.startswith("transformers_modules."):
            kwargs.pop("custom_pipelines", None)
        super().__post_init__(**kwargs)

    @property
    def max_tokens(self) -> int:
        """The longest input that the model was trained with before any rescaling, in tokens, <cls> included."""
        return self.max_position_embeddings - self.pad_token_id - 1

    def validate_heads(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is no multiple of num_attention_heads {self.num_attention_heads}"
            )
        head_size = self.hidden_size // self.num_attention_heads
        if self.position_embedding_type == "rotary" and (head_size % 2 or head_size < 4):
            raise ValueError(
                f"a head has {head_size} numbers (hidden_size / num_attention_heads): rotary positions turn pairs, and "
                "need an even number of at least 4"
            )

    def validate_rescaling(self) -> None:
        if self.rescaling_factor is not None and self.rescaling_factor <= 0:
            raise ValueError(f"rescaling_factor is {self.rescaling_factor}: expected a positive number or None")
        if self.rescaling_factor is not None and self.position_embedding_type != "rotary":
            raise ValueError(
                f'rescaling_factor {self.rescaling_factor} needs position_embedding_type="rotary": learned positions '
                "cannot be rescaled"
            )

    def validate_token_ids(self) -> None:
        for name in ("kmer_token_ids", "letter_token_ids"):
            ids = getattr(self, name)
            if ids is not None and (len(ids) != 2 or not 0 <= ids[0] < ids[1]):
                raise ValueError(f"{name} is {ids}: expected the first id and the one behind the last")
            if ids is not None and ids[1] > self.vocab_size:
                raise ValueError(
                    f"{name} {ids} reach beyond the vocabulary of {self.vocab_size} tokens: set them to the ids of the "
                    "checkpoint's vocab.txt"
                )


NucleotideTransformerConfig.register_for_auto_class()
