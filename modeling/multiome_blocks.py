"""The encoder of one modality in the multiome Performer, and the layer by which two encoders attend to one another.

Source: chapter 4 of the thesis, section 4.3.1; blocks are those of performer-pytorch, with layer norm in front and the
residual around. The layer between encoders goes beyond the thesis, which names it as future work.
Shapes: B cells, N genes given, K genes attended to, H hidden, A heads, D size of a head.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_multiome_performer import MODALITIES, MultiomePerformerConfig
from .multiome_embeddings import MultiomeEmbeddings
from .performer_attention import RandomFeatures, performer_attention


class MultiomePerformerPath(nn.Module):
    """The encoder of one modality: its own gene tokens, values and blocks."""

    def __init__(self, config: MultiomePerformerConfig, modality: str) -> None:
        super().__init__()
        number = MODALITIES.index(modality)
        self.embeddings = MultiomeEmbeddings(config)
        self.cls_token = nn.Parameter(torch.empty(config.hidden_size)) if config.pooling == "cls" else None
        self.layers = nn.ModuleList(
            MultiomePerformerLayer(config, (number, layer)) for layer in range(config.num_hidden_layers)
        )
        self.final_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self,
        values: torch.Tensor,
        key_mask: torch.Tensor | None,
        gene_positions: torch.Tensor | None,
        gene_features: torch.Tensor | None,
        *,
        keeps_states: bool = False,
    ) -> list[torch.Tensor]:
        """Embeddings of genes.

        Args:
            values: (B, N) value ids.
            key_mask: (B, N) bool, False where no gene attends to; with pooling by <cls> (B, 1 + N).
            gene_positions: (N,) or (B, N); all genes in order where None.
            gene_features: (genes, features), where gene tokens are made from them.
            keeps_states: also return the embeddings and each layer's output.

        Returns:
            (B, N, H) tensors, the last one behind the final norm; with pooling by <cls> (B, 1 + N, H), its token first.
        """
        hidden_states = self.embeddings(values, gene_positions, gene_features)
        if self.cls_token is not None:
            first = self.cls_token.to(hidden_states.dtype).expand(len(hidden_states), 1, -1)
            hidden_states = torch.cat([first, hidden_states], dim=1)
        states = []
        for layer in self.layers:
            if keeps_states:
                states.append(hidden_states)
            hidden_states = layer(hidden_states, key_mask)
        return [*states, self.final_norm(hidden_states)]


class MultiomePerformerLayer(GradientCheckpointingLayer):
    """Layer norm before each half, and the residual around it."""

    def __init__(self, config: MultiomePerformerConfig, place: tuple[int, int]) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = MultiomePerformerAttention(config, place)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = MultiomePerformerFeedForward(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor, key_mask: torch.Tensor | None) -> torch.Tensor:
        normed = self.attention_norm(hidden_states)
        hidden_states = hidden_states + self.dropout(self.attention(normed, normed, key_mask))
        return hidden_states + self.dropout(self.feed_forward(self.feed_forward_norm(hidden_states)))


class MultiomePerformerAttention(nn.Module):
    """Attention of all genes to all genes, approximated or exact by `config.attention_type`.

    The random features are kept under exact attention too, so that a checkpoint is the same for both.
    """

    def __init__(self, config: MultiomePerformerConfig, place: tuple[int, int]) -> None:
        super().__init__()
        assert config.num_random_features is not None
        width = config.num_attention_heads * config.head_dim
        self.is_exact = config.attention_type == "sdpa"
        self.num_heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, width, bias=config.attention_bias)
        self.key = nn.Linear(config.hidden_size, width, bias=config.attention_bias)
        self.value = nn.Linear(config.hidden_size, width, bias=config.attention_bias)
        self.output = nn.Linear(width, config.hidden_size)
        self.random_features = RandomFeatures(
            config.num_random_features, config.head_dim, seed=config.feature_seed, place=place
        )

    def forward(
        self, hidden_states: torch.Tensor, context: torch.Tensor, key_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """(B, N, H) attends to context (B, K, H) where key_mask (B, K) is True -> (B, N, H)."""
        query, key, value = (
            states.unflatten(-1, (self.num_heads, -1))
            for states in (self.query(hidden_states), self.key(context), self.value(context))
        )  # (B, N, A, D)
        if self.is_exact:
            attended = F.scaled_dot_product_attention(
                query.transpose(1, 2),
                key.transpose(1, 2),
                value.transpose(1, 2),
                attn_mask=None if key_mask is None else key_mask[:, None, None],
            ).transpose(1, 2)
        else:
            attended = performer_attention(query, key, value, self.random_features.projection, key_mask)
        return self.output(attended.flatten(2))


class MultiomePerformerFeedForward(nn.Module):
    """Two linear layers around an activation."""

    def __init__(self, config: MultiomePerformerConfig) -> None:
        super().__init__()
        self.input = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = nn.GELU() if config.hidden_act == "gelu" else nn.ReLU()
        self.output = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.output(self.activation(self.input(hidden_states)))


class MultiomePerformerCrossLayer(GradientCheckpointingLayer):
    """A path attends to the other's output, with the residual around it."""

    def __init__(self, config: MultiomePerformerConfig, place: tuple[int, int]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.context_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = MultiomePerformerAttention(config, place)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, hidden_states: torch.Tensor, context: torch.Tensor, context_mask: torch.Tensor | None
    ) -> torch.Tensor:
        attended = self.attention(self.norm(hidden_states), self.context_norm(context), context_mask)
        return hidden_states + self.dropout(attended)
