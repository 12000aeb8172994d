"""The Nucleotide Transformer: a masked language model of DNA that reads 6-mers.

Source: Dalla-Torre et al. 2024 (https://doi.org/10.1038/s41592-024-02523-z) and its public JAX code. Pre-layer-norm
encoder; second version with rotary positions and SwiGLU, first version with learned positions and GELU. Beyond it:
padding is not computed where the attention allows, and outputs at padding are zero.
Shapes: B sequences, T tokens, H hidden, A heads, D size of a head, N tokens of a packed batch, V vocabulary.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_nucleotide_transformer import NucleotideTransformerConfig

# Share of tokens that the published training masked and replaced by <mask>; token dropout scales by it.
_MASKED_IN_TRAINING = 0.15 * 0.8


@dataclass
class TokenLayout:
    """How the tokens of a batch lie in memory, and what attention needs to know of it.

    Attributes:
        attention_mask: in the form that the attention implementation takes; None where every token sees all others.
        rotation: cosines and sines, broadcastable to (rows, heads, tokens, D / 2); None without rotary positions.
        lengths: tokens of each sequence where all lie behind one another in a single row, else None.
        boundaries: (sequences + 1,) int32, where sequences begin and end in that row, else None.
    """

    attention_mask: Any = None
    rotation: tuple[torch.Tensor, torch.Tensor] | None = None
    lengths: list[int] | None = None
    boundaries: torch.Tensor | None = None


class NucleotideTransformerEmbeddings(nn.Module):
    """Tokens, and positions where they are learned: (B, T) -> (B, T, H)."""

    def __init__(self, config: NucleotideTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        is_absolute = config.position_embedding_type == "absolute"
        self.position_embeddings = (
            nn.Embedding(config.max_position_embeddings, config.hidden_size, padding_idx=config.pad_token_id)
            if is_absolute
            else None
        )
        self.layer_norm = (
            nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.emb_layer_norm_before else None
        )

    def forward(
        self, input_ids: torch.Tensor | None, attention_mask: torch.Tensor | None, inputs_embeds: torch.Tensor | None
    ) -> torch.Tensor:
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        if self.config.token_dropout and input_ids is not None:
            inputs_embeds = self._drop_masked_tokens(inputs_embeds, input_ids, attention_mask)
        if self.position_embeddings is not None:
            inputs_embeds = inputs_embeds + self.position_embeddings(self._positions(inputs_embeds, attention_mask))
        if self.layer_norm is not None:
            inputs_embeds = self.layer_norm(inputs_embeds)
        if attention_mask is not None:
            inputs_embeds = inputs_embeds * attention_mask.unsqueeze(-1).to(inputs_embeds.dtype)
        return inputs_embeds

    def _drop_masked_tokens(
        self, embeddings: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        is_masked = input_ids == self.config.mask_token_id
        lengths = input_ids.shape[1] if attention_mask is None else attention_mask.sum(1)
        masked_share = is_masked.sum(1).float() / lengths  # (B,)
        scale = (1 - _MASKED_IN_TRAINING) / (1 - masked_share)
        kept = embeddings.masked_fill(is_masked.unsqueeze(-1), 0.0)
        return (kept * scale[:, None, None]).to(embeddings.dtype)

    def _positions(self, embeddings: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """(B, T): 0, 1, 2, ... counted from behind the padding id, which stands for padding."""
        shape, padding = embeddings.shape[:2], self.config.pad_token_id
        if attention_mask is None:
            attention_mask = torch.ones(shape, dtype=torch.long, device=embeddings.device)
        is_token = attention_mask.long()
        return is_token.cumsum(1) * is_token + padding


class NucleotideTransformerAttention(nn.Module):
    """Self-attention; queries and keys are turned by their positions."""

    is_causal = False

    def __init__(self, config: NucleotideTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.head_size = config.hidden_size // config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, hidden_states: torch.Tensor, layout: TokenLayout, *, output_attentions: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(rows, tokens, H) -> (rows, tokens, H) and, on request, (rows, A, tokens, tokens)."""
        query, key, value = (
            projection(hidden_states).unflatten(-1, (-1, self.head_size)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )  # (rows, A, tokens, D)
        if layout.rotation is not None:
            query, key = rotate(query, *layout.rotation), rotate(key, *layout.rotation)
        if layout.lengths is not None and self.config._attn_implementation == "sdpa":
            attended, weights = self._attend_each(query, key, value, layout.lengths), None
        else:
            attended, weights = self._attend(query, key, value, layout, output_attentions)
        return self.output(attended.flatten(2)), weights

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: TokenLayout, output_attentions: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        implementation = "eager" if output_attentions else self.config._attn_implementation
        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, _eager_attention)
        packing: dict[str, Any] = {}
        if layout.boundaries is not None and layout.lengths is not None:
            packing = {f"cu_seq_lens_{side}": layout.boundaries for side in "qk"}
            packing |= {f"max_length_{side}": max(layout.lengths) for side in "qk"}
        return attention(
            self,
            query,
            key,
            value,
            layout.attention_mask,
            scaling=self.head_size**-0.5,
            dropout=self._dropout,
            is_causal=False,
            **packing,
        )

    def _attend_each(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: list[int]
    ) -> torch.Tensor:
        """Sequences of one row, each by itself: (1, A, N, D) -> (1, N, A, D)."""
        parts = zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True)
        attended = [F.scaled_dot_product_attention(q, k, v, dropout_p=self._dropout) for q, k, v in parts]
        return torch.cat(attended, dim=2).transpose(1, 2)

    @property
    def _dropout(self) -> float:
        return float(self.config.attention_probs_dropout_prob) if self.training else 0.0


class NucleotideTransformerFeedForward(nn.Module):
    """SwiGLU: silu(first half) * second half; or an ordinary layer with GELU."""

    def __init__(self, config: NucleotideTransformerConfig) -> None:
        super().__init__()
        self.is_gated = config.hidden_act == "swiglu"
        width = config.intermediate_size * (2 if self.is_gated else 1)
        self.input = nn.Linear(config.hidden_size, width, bias=config.mlp_bias)
        self.output = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = self.input(hidden_states)
        if not self.is_gated:
            return self.output(F.gelu(hidden_states))
        gate, values = hidden_states.chunk(2, dim=-1)
        return self.output(F.silu(gate) * values)


class NucleotideTransformerLayer(GradientCheckpointingLayer):
    """Layer norm before each half, and the residual around it."""

    def __init__(self, config: NucleotideTransformerConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = NucleotideTransformerAttention(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = NucleotideTransformerFeedForward(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, hidden_states: torch.Tensor, layout: TokenLayout, output_attentions: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        attended, weights = self.attention(
            self.attention_norm(hidden_states), layout, output_attentions=output_attentions
        )
        hidden_states = hidden_states + self.dropout(attended)
        return hidden_states + self.dropout(self.feed_forward(self.feed_forward_norm(hidden_states))), weights


class NucleotideTransformerPreTrainedModel(PreTrainedModel):
    """Weight initialisation, and what the models share."""

    config: NucleotideTransformerConfig
    config_class = NucleotideTransformerConfig
    base_model_prefix = "encoder"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["NucleotideTransformerEmbeddings", "NucleotideTransformerLayer"]  # noqa: RUF012 (HF's form)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d, nn.Conv2d)):
            # He's rule: ten convolutions without norms would let weights of 0.02 vanish.
            fan_in = module.in_channels * math.prod(module.kernel_size)
            init.normal_(module.weight, mean=0.0, std=(2.0 / fan_in) ** 0.5)

    def save_pretrained(self, save_directory: Any, *arguments: Any, **keywords: Any) -> None:
        """As in transformers, and saved code of the encoder answers to both Auto classes, whichever class was saved."""
        if self.config.model_type == NucleotideTransformerConfig.model_type:
            module = __name__.rpartition(".")[2]
            models = {
                "AutoModel": f"{module}.NucleotideTransformerModel",
                "AutoModelForMaskedLM": f"{module}.NucleotideTransformerForMaskedLM",
            }
            self.config.auto_map = {**(getattr(self.config, "auto_map", None) or {}), **models}
        super().save_pretrained(save_directory, *arguments, **keywords)


class NucleotideTransformerModel(NucleotideTransformerPreTrainedModel):
    """The encoder.

    A batch with padding is packed: its tokens lie behind one another in one row, and only attention sees sequences. So
    padding costs nothing in all but attention, and nothing there either with FlashAttention, or with SDPA on the CPU.
    Other attention implementations, `output_attentions`, and compiled models compute the padded batch.
    """

    _keys_to_ignore_on_load_unexpected = [  # noqa: RUF012 (HF's form)
        r"^lm_head\.",
        r"^unet\.",
        r"^classifier\.",
        r"^scorer\.",
        r"^cell_type_embeddings\.",
    ]

    def __init__(self, config: NucleotideTransformerConfig) -> None:
        super().__init__(config)
        self.embeddings = NucleotideTransformerEmbeddings(config)
        self.layers = nn.ModuleList(NucleotideTransformerLayer(config) for _ in range(config.num_hidden_layers))
        self.final_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        assert isinstance(value, nn.Embedding)
        self.embeddings.word_embeddings = value

    @torch.no_grad()
    def compose_kmer_embeddings(self, seed: int = 0) -> None:
        """Begin training from k-mer embeddings that are sums of random vectors, one for each base at each place.

        K-mers that share bases are then alike, and a layer can read a base at a place by one projection. Independent
        vectors have to be learned k-mer by k-mer, which takes more sequence than a small run sees. Not in the
        publication; the scale stays that of the configuration's `initializer_range`.

        Args:
            seed: of the random vectors.
        """
        config = self.config
        assert config.kmer_token_ids is not None
        size = config.kmer_size
        weight = self.embeddings.word_embeddings.weight
        generator = torch.Generator().manual_seed(seed)
        vectors = torch.randn(size, 4, config.hidden_size, generator=generator) * config.initializer_range / size**0.5
        kmers = torch.arange(4**size)
        digits = [kmers // 4 ** (size - 1 - place) % 4 for place in range(size)]
        composed = sum((vectors[place][digit] for place, digit in enumerate(digits)), torch.zeros(()))
        weight[slice(*config.kmer_token_ids)] = composed.to(weight)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs: Any,  # noqa: ARG002 (what the Trainer passes to every model)
    ) -> BaseModelOutput:
        """Contextual embeddings of tokens.

        Args:
            input_ids: (sequences, tokens) int64, <cls> first.
            attention_mask: (sequences, tokens), 1 for tokens and 0 for padding; from the padding id where None.
            inputs_embeds: (sequences, tokens, hidden), in place of `input_ids`.
            output_hidden_states: also return the embeddings and each layer's output, the last one normed.
            output_attentions: also return (sequences, heads, tokens, tokens) of each layer; computes them eagerly.

        Returns:
            `last_hidden_state` (sequences, tokens, hidden), zero at padding.

        Raises:
            ValueError: for inputs beyond the trained length without `rescaling_factor`, and where not exactly one of
                input_ids and inputs_embeds is given.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds, and not both")
        output_attentions = bool(self.config.output_attentions if output_attentions is None else output_attentions)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if attention_mask is None and input_ids is not None:
            attention_mask = (input_ids != self.config.pad_token_id).long()
        given = inputs_embeds if input_ids is None else input_ids
        assert given is not None
        self._check_length(given.shape[1])
        x = self.embeddings(input_ids, attention_mask, inputs_embeds)  # (B, T, H)
        places = self._places_to_pack(attention_mask, output_attentions)
        layout = self._layout(x, attention_mask, places, output_attentions)
        shape = x.shape
        if places is not None:
            x = x.flatten(0, 1)[places].unsqueeze(0)  # (1, N, H)
        states, attentions = [x], []
        for layer in self.layers:
            x, weights = layer(x, layout, output_attentions)
            states.append(x)
            attentions.append(weights)
        states[-1] = self.final_norm(x)
        wanted = states if output_hidden_states else states[-1:]
        unpacked = tuple(self._unpack(state, places, shape, attention_mask) for state in wanted)
        return BaseModelOutput(
            last_hidden_state=unpacked[-1],
            hidden_states=unpacked if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )

    def _places_to_pack(self, attention_mask: torch.Tensor | None, output_attentions: bool) -> torch.Tensor | None:
        """(N,) places of the tokens among the flattened B x T, or None where the batch is to be computed as it is."""
        if attention_mask is None or output_attentions or torch.compiler.is_compiling():
            return None
        implementation = self.config._attn_implementation
        is_packable = implementation.startswith("flash") or (implementation == "sdpa" and not attention_mask.is_cuda)
        if not is_packable or bool(attention_mask.all()):
            return None
        return attention_mask.flatten().nonzero().squeeze(1)

    def _layout(
        self,
        embeddings: torch.Tensor,
        attention_mask: torch.Tensor | None,
        places: torch.Tensor | None,
        output_attentions: bool,
    ) -> TokenLayout:
        rotation = None
        if self.config.position_embedding_type == "rotary":
            rotation = self._rotation(embeddings)
        if places is None or attention_mask is None:
            config = self.config
            if output_attentions and config._attn_implementation != "eager":
                mask: Any = _additive_mask(attention_mask, embeddings.dtype)
            else:
                mask = create_bidirectional_mask(config=config, inputs_embeds=embeddings, attention_mask=attention_mask)
            return TokenLayout(attention_mask=mask, rotation=rotation)
        lengths = attention_mask.sum(1)
        lengths = lengths[lengths > 0]
        if rotation is not None:
            columns = places % embeddings.shape[1]
            rotation = rotation[0][columns], rotation[1][columns]
        boundaries = F.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
        return TokenLayout(rotation=rotation, lengths=lengths.tolist(), boundaries=boundaries)

    def _rotation(self, embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines (T, D / 2) of the angles position x frequency."""
        size = self.config.hidden_size // self.config.num_attention_heads
        base = self.config.rope_theta
        if self.config.rescaling_factor is not None:
            base = base * self.config.rescaling_factor ** (size / (size - 2))
        exponents = torch.arange(0, size, 2, dtype=torch.float32, device=embeddings.device) / size
        positions = torch.arange(embeddings.shape[1], dtype=torch.float32, device=embeddings.device)
        angles = positions[:, None] / base**exponents
        return angles.cos(), angles.sin()

    def _unpack(
        self,
        states: torch.Tensor,
        places: torch.Tensor | None,
        shape: torch.Size,
        attention_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        if places is not None:
            padded = states.new_zeros(shape[0] * shape[1], shape[2])
            return padded.index_copy(0, places, states.squeeze(0)).view(shape)
        return states if attention_mask is None else states * attention_mask.unsqueeze(-1).to(states.dtype)

    def _check_length(self, tokens: int) -> None:
        config = self.config
        longest = config.max_tokens
        if tokens <= longest or config.rescaling_factor is not None:
            return
        found = f"an input has {tokens:,} tokens with <cls>, and the model was trained with at most {longest:,}"
        if config.position_embedding_type == "absolute":
            raise ValueError(f"{found}: learned positions end there, so cut the sequence")
        raise ValueError(
            f"{found}: cut the sequence, or rescale the rotary positions with config.rescaling_factor = tokens / "
            f"{longest:,} (here {tokens / longest:.3f})"
        )


class NucleotideTransformerLMHead(nn.Module):
    """Hidden states to logits of tokens."""

    def __init__(self, config: NucleotideTransformerConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.layer_norm(F.gelu(self.dense(hidden_states))))


class NucleotideTransformerForMaskedLM(NucleotideTransformerPreTrainedModel):
    """The encoder with the head that names masked tokens."""

    _tied_weights_keys = {"lm_head.decoder.weight": "encoder.embeddings.word_embeddings.weight"}  # noqa: RUF012

    def __init__(self, config: NucleotideTransformerConfig) -> None:
        super().__init__(config)
        self.encoder = NucleotideTransformerModel(config)
        self.lm_head = NucleotideTransformerLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        self.lm_head.decoder = new_embeddings

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Arguments as `NucleotideTransformerModel.forward`, and:

        Args:
            labels: (sequences, tokens) int64, the token id at masked positions and -100 elsewhere.
            num_items_in_batch: masked tokens of an accumulated step, by which the summed loss is divided.

        Returns:
            `logits` (sequences, tokens, vocabulary), and with labels `loss`, the mean cross-entropy.
        """
        outputs = self.encoder(input_ids, attention_mask, inputs_embeds, **kwargs)
        logits = self.lm_head(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits.flatten(0, 1), labels.flatten(), self.config.vocab_size, num_items_in_batch=num_items_in_batch
            )
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


def rotate(states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Turn the pairs (i, i + D / 2) of (..., tokens, D) by the angles of their positions, (tokens, D / 2) float32."""
    first, second = states.chunk(2, dim=-1)
    turned = torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1)
    return turned.to(states.dtype)


def _eager_attention(
    module: nn.Module,  # noqa: ARG001 (transformers' signature)
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,  # noqa: ARG001
) -> tuple[torch.Tensor, torch.Tensor]:
    scores = query @ key.transpose(2, 3) * scaling  # (B, A, T, T)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    return (F.dropout(weights, dropout) @ value).transpose(1, 2), weights


def _additive_mask(attention_mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """(B, T) of 1 and 0 -> (B, 1, 1, T) of 0 and the lowest number."""
    if attention_mask is None:
        return None
    return (1 - attention_mask[:, None, None, :].to(dtype)) * torch.finfo(dtype).min


NucleotideTransformerModel.register_for_auto_class("AutoModel")
NucleotideTransformerForMaskedLM.register_for_auto_class("AutoModelForMaskedLM")
