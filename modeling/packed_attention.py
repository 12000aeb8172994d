"""Attention of packed cells: several cells laid end to end in one row without padding, each of which sees itself only.

`PackedSelfAttention` is BERT's self-attention that also takes packed cells where attention is `sdpa`; BERT's own takes
them for the other implementations. On a GPU the kernels for variable lengths of FlashAttention (half precision) or of
memory-efficient attention run, as torch calls them for nested tensors; on a CPU `packed_attention_kernel`; elsewhere
cells are padded for the attention only.
Shapes: T tokens of all cells, A heads, D size of a head, C cells, L tokens of the longest cell.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from transformers.configuration_utils import PreTrainedConfig
from transformers.masking_utils import create_bidirectional_mask, packed_sequence_mask_function
from transformers.models.bert.modeling_bert import BertEncoder, BertSelfAttention
from transformers.utils.generic import is_flash_attention_requested

from .packed_attention_kernel import attend

# Kernels for variable lengths take heads of these sizes without padding them.
_HEAD_MULTIPLE, _LARGEST_HEAD = 8, 256
_FLASH_CAPABILITY = (8, 0)  # CUDA compute capability, from which FlashAttention runs


def take_packed_cells(encoder: BertEncoder) -> None:
    """Let the layers of BERT's encoder take packed cells; parameters keep their names and values."""
    for layer in encoder.layer:
        attention: Any = layer.attention
        attention.self = PackedSelfAttention(attention.self)


class PackedSelfAttention(BertSelfAttention):
    """BERT's self-attention, which also takes packed cells with `sdpa`."""

    def __init__(self, attention: BertSelfAttention) -> None:
        torch.nn.Module.__init__(self)  # BERT's own would draw random weights, only to be replaced
        self.__dict__.update(attention.__dict__)

    def forward(  # type: ignore[override]
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, ...]:
        """(cells, genes, hidden), or (1, T, hidden) with `cu_seq_lens_q` and `max_length_q` -> the same shape."""
        if kwargs.get("cu_seq_lens_q") is None or self.config._attn_implementation != "sdpa":
            return super().forward(hidden_states, attention_mask, past_key_values, **kwargs)
        tokens = hidden_states.squeeze(0)  # (T, hidden)
        query, key, value = (
            projection(tokens).unflatten(-1, (self.num_attention_heads, self.attention_head_size))  # (T, A, D)
            for projection in (self.query, self.key, self.value)
        )
        heads = packed_attention(
            query,
            key,
            value,
            kwargs["cu_seq_lens_q"],
            longest=kwargs["max_length_q"],
            dropout=self.dropout.p if self.training else 0.0,
            scale=self.scaling,
        )
        no_weights: Any = None  # as BERT's own
        return heads.reshape(hidden_states.shape), no_weights


def packed_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cell_starts: torch.Tensor,
    *,
    longest: int,
    dropout: float = 0.0,
    scale: float,
) -> torch.Tensor:
    """Scaled dot-product attention within each cell.

    Args:
        query: (T, A, D), and so `key` and `value`.
        cell_starts: (C + 1,) integer, where each cell starts, and T.
        longest: L.
        dropout: probability with which an attention weight is dropped.
        scale: factor of the scores.

    Returns:
        (T, A, D).
    """
    if query.device.type == "cpu":
        # Drawn out here, so that the kernel is a function of its arguments and a recomputation drops the same weights.
        seed = torch.randint(2**62, (1,)) if dropout else torch.zeros(1, dtype=torch.int64)
        return attend(query, key, value, cell_starts, seed, dropout, scale)
    if _has_cuda_kernel(query):
        return _cuda_attention(query, key, value, cell_starts.int(), longest, dropout, scale)
    return _padded_attention(query, key, value, cell_starts, longest, dropout, scale)


def _has_cuda_kernel(query: torch.Tensor) -> bool:
    size = query.shape[-1]
    if query.device.type != "cuda" or size % _HEAD_MULTIPLE or size > _LARGEST_HEAD:
        return False
    # torch 2.13 cannot trace the gradient of memory-efficient attention.
    return _takes_flash(query) or not torch.compiler.is_compiling()


def _takes_flash(query: torch.Tensor) -> bool:
    halves = query.dtype in (torch.float16, torch.bfloat16)
    return halves and torch.cuda.get_device_capability(query.device) >= _FLASH_CAPABILITY


def _cuda_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cell_starts: torch.Tensor,
    longest: int,
    dropout: float,
    scale: float,
) -> torch.Tensor:
    cells = (cell_starts, cell_starts, longest, longest)  # of queries and of keys
    if _takes_flash(query):
        causal = debug_mask = False
        flash = torch.ops.aten._flash_attention_forward
        attended: torch.Tensor = flash(query, key, value, *cells, dropout, causal, debug_mask, scale=scale)[0]
        return attended
    bias, no_mask, for_gradients = None, 0, True
    efficient = torch.ops.aten._efficient_attention_forward
    one_row = (tokens.unsqueeze(0) for tokens in (query, key, value))
    attended = efficient(*one_row, bias, *cells, dropout, no_mask, for_gradients, scale=scale)[0]
    return attended.squeeze(0)


def _padded_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cell_starts: torch.Tensor,
    longest: int,
    dropout: float,
    scale: float,
) -> torch.Tensor:
    starts, lengths = cell_starts[:-1, None], cell_starts.diff()[:, None]
    ranks = torch.arange(longest, device=query.device)
    filled = ranks < lengths  # (C, L)
    places = torch.where(filled, starts + ranks, 0)
    query_rows, key_rows, value_rows = (
        tokens[places].transpose(1, 2) for tokens in (query, key, value)
    )  # (C, A, L, D)
    rows = F.scaled_dot_product_attention(
        query_rows, key_rows, value_rows, attn_mask=filled[:, None, None], dropout_p=dropout, scale=scale
    )
    cells = cells_of_tokens(cell_starts, len(query))  # (T,)
    ranks_of_tokens = ranks_within_cells(cell_starts, len(query))
    return rows[cells, :, ranks_of_tokens]


def cells_of_tokens(cell_starts: torch.Tensor, tokens: int) -> torch.Tensor:
    """(C + 1,) -> (T,) int64, the cell that each token is of."""
    places = torch.arange(tokens, device=cell_starts.device, dtype=cell_starts.dtype)
    return torch.bucketize(places, cell_starts[1:], right=True)


def ranks_within_cells(cell_starts: torch.Tensor, tokens: int) -> torch.Tensor:
    """(C + 1,) -> (T,) int64, each token's place in its cell."""
    places = torch.arange(tokens, device=cell_starts.device)
    return places - cell_starts[cells_of_tokens(cell_starts, tokens)]


def packed_mask(config: PreTrainedConfig, embeddings: torch.Tensor, cell_starts: torch.Tensor) -> Any:
    """The block-diagonal mask, in the form that the attention implementation takes; None where it needs none."""
    if config._attn_implementation == "sdpa" or is_flash_attention_requested(config):
        return None
    cells = cells_of_tokens(cell_starts, embeddings.shape[1])
    return create_bidirectional_mask(
        config=config,
        inputs_embeds=embeddings,
        attention_mask=None,
        and_mask_function=packed_sequence_mask_function(cells.unsqueeze(0)),
    )


def require_packed(
    embeddings: torch.Tensor, attention_mask: torch.Tensor | None, packing: Mapping[str, torch.Tensor | int | None]
) -> None:
    """Check what comes with packed cells.

    Args:
        embeddings: (1, T, hidden).
        attention_mask: None: nothing is padded.
        packing: `cu_seq_lens_q`, `cu_seq_lens_k`, `max_length_q` and `max_length_k`.

    Raises:
        ValueError: where one of them is missing, or they do not describe cells laid end to end in one row.
    """
    missing = [name for name, value in packing.items() if value is None]
    if missing:
        raise ValueError(f"packed cells come with {', '.join(packing)}, and {', '.join(missing)} are missing: pass all")
    rows, tokens = embeddings.shape[:2]
    if rows != 1:
        raise ValueError(
            f"packed cells come in {rows} rows: lay the cells end to end in one row, of shape (1, tokens), or pad them "
            "and leave cu_seq_lens_q out"
        )
    if attention_mask is not None:
        raise ValueError("packed cells come with an attention_mask: nothing is padded, so leave it out")
    starts, key_starts = packing["cu_seq_lens_q"], packing["cu_seq_lens_k"]
    assert isinstance(starts, torch.Tensor) and isinstance(key_starts, torch.Tensor)
    if starts.ndim != 1 or starts.shape != key_starts.shape or packing["max_length_q"] != packing["max_length_k"]:
        raise ValueError(
            f"cu_seq_lens_q has shape {tuple(starts.shape)} and cu_seq_lens_k {tuple(key_starts.shape)}, max_length_q "
            f"is {packing['max_length_q']} and max_length_k {packing['max_length_k']}: genes attend to the genes of "
            "their own cell, so both must be the same, (cells + 1,) starts"
        )
    if not torch.compiler.is_compiling() and starts.device.type == "cpu":
        _require_starts(starts, key_starts, packing["max_length_q"], tokens)


def _require_starts(starts: torch.Tensor, key_starts: torch.Tensor, longest: Any, tokens: int) -> None:
    lengths = starts.diff()
    if not torch.equal(starts, key_starts) or not len(lengths) or starts[0] != 0 or starts[-1] != tokens:
        raise ValueError(
            f"cu_seq_lens_q is {starts.tolist()[:5]}... to {starts.tolist()[-1:]}, for {tokens:,} tokens: expected the "
            "places where cells start, from 0, and the number of tokens, and the same as cu_seq_lens_k"
        )
    if lengths.min() < 1 or lengths.max() != longest:
        raise ValueError(
            f"the packed cells have {int(lengths.min()):,} to {int(lengths.max()):,} tokens, and max_length_q is "
            f"{longest:,}: it must be the longest cell's, and no cell may be empty"
        )
