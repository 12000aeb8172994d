"""Configuration of Enformer, with the fields of enformer_pytorch's own, so that published folders load unchanged.

Source: https://github.com/lucidrains/enformer-pytorch (config_enformer.py); sizes: "Effective gene expression
prediction from sequence by integrating long-range interactions", Avsec et al. 2021. It is written again here because
importing enformer_pytorch costs seconds, which reading a configuration should not.
"""

from dataclasses import field

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class EnformerConfig(PreTrainedConfig):
    """Sizes of an Enformer. The defaults are the published model's.

    Args:
        dim: channels of the transformer; the last pointwise layer has twice as many.
        depth: transformer layers.
        heads: attention heads; `dim / heads` must be a multiple of 6, for the six kinds of relative position.
        output_heads: tracks predicted, by species.
        target_length: positions kept at the centre; -1 keeps all. A window with fewer positions is kept whole.
        attn_dim_key: size of a head's queries and keys.
        dropout_rate: share of activations dropped in training, likewise `attn_dropout` and `pos_dropout`.
        use_checkpointing: recompute the transformer's activations in the backward pass, to save memory.
        num_downsamples: halvings of the sequence: 7 give one position each 128 bp.
        dim_divisible_by: channels of the convolution tower are multiples of this.
        use_tf_gamma: use the relative positions of the official TensorFlow weights, which exist for 1,536 positions
            (196,608 bp) only. `EleutherAI/enformer-official-rough` needs it.
        weights_origin: where the weights came from, e.g. "random, seed 0"; None where unknown.

    Raises:
        StrictDataclassError: of huggingface_hub, where `dim` does not fit `heads` or `dim_divisible_by`.
    """

    model_type = "enformer"

    dim: int = 1536
    depth: int = 11
    heads: int = 8
    output_heads: dict[str, int] = field(default_factory=lambda: {"human": 5313, "mouse": 1643})
    target_length: int = 896
    attn_dim_key: int = 64
    dropout_rate: float | int = 0.4
    attn_dropout: float | int = 0.05
    pos_dropout: float | int = 0.01
    use_checkpointing: bool = False
    num_downsamples: int = 7
    dim_divisible_by: int = 128
    use_tf_gamma: bool = False
    weights_origin: str | None = None

    def validate_sizes(self) -> None:
        if self.dim % self.heads or (self.dim // self.heads) % 6:
            raise ValueError(
                f"dim {self.dim} with {self.heads} heads: dim / heads must be a multiple of 6, e.g. dim 384 with 4"
            )
        if self.dim % self.dim_divisible_by:
            raise ValueError(f"dim {self.dim} must be a multiple of dim_divisible_by, {self.dim_divisible_by}")


EnformerConfig.register_for_auto_class()
