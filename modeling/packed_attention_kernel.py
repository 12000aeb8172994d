"""Attention of packed cells on a CPU, and its gradient, block by block: no cell's weights ever exist as a whole.

Source: the memory-efficient attention of Rabe and Staats 2021 (https://arxiv.org/abs/2112.05682), with FlashAttention's
gradient (Dao et al. 2022): only queries, keys, values and output are kept, and weights are computed again. Deviation:
which weights are dropped is drawn as the gaps between them, whose distribution is geometric, so that dropout costs what
is dropped rather than what is there; torch's own attention on a CPU keeps every weight as soon as one is dropped.
Shapes: T tokens of all cells, A heads, D size of a head, C cells; n tokens of a cell, r queries of a block.
"""

import math
import zlib
from collections.abc import Iterator
from itertools import pairwise

import torch

# Weights of a block, over all heads: few enough for the cache of a core, many enough that calls cost nothing.
_BLOCK_SIZE = 2**19
# Standard deviations above its mean, for which gaps are drawn at once.
_MARGIN = 8
# Code that is loaded twice, from a package and from a folder, registers two operators.
_NAMESPACE = f"packed_attention_{zlib.crc32(__name__.encode()):08x}"


@torch.library.custom_op(f"{_NAMESPACE}::attend", mutates_args=())
def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cell_starts: torch.Tensor,
    seed: torch.Tensor,
    dropout: float,
    scale: float,
) -> torch.Tensor:
    """Softmax attention within each cell.

    Args:
        query: (T, A, D), and so `key` and `value`, of one floating dtype.
        cell_starts: (C + 1,) integer, where each cell starts, and T.
        seed: (1,) int64, of the dropped weights.
        dropout: probability with which a weight is dropped.
        scale: factor of the scores.

    Returns:
        (T, A, D).
    """
    attended = torch.empty(query.shape, dtype=query.dtype)
    with torch.autocast("cpu", enabled=False):
        query, key, value = (tokens.transpose(0, 1) for tokens in (query * scale, key, value))  # (A, T, D)
        for cell, queries, scores, weights, dropped in _blocks(query, cell_starts, seed, dropout):
            torch.bmm(query[:, queries], key[:, cell].mT, out=scores)  # (A, r, n)
            torch.softmax(scores, dim=-1, out=weights)
            weights.view(-1).index_fill_(0, dropped, 0.0)
            attended[queries] = torch.bmm(weights, value[:, cell]).transpose(0, 1)
        return attended.div_(1 - dropout)


@torch.library.custom_op(f"{_NAMESPACE}::attend_backward", mutates_args=())
def attend_backward(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cell_starts: torch.Tensor,
    seed: torch.Tensor,
    dropout: float,
    scale: float,
    attended: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of queries, keys and values, in their shapes, from that of `attended`."""
    wide = torch.promote_types(query.dtype, torch.float32)
    gradients = tuple(torch.zeros(query.shape, dtype=wide) for _ in range(3))
    with torch.autocast("cpu", enabled=False):
        # What the softmax takes from the gradient of each weight of a query, (A, T, 1).
        common = (gradient.to(wide) * attended.to(wide)).sum(-1).to(query.dtype).T.unsqueeze(-1)
        gradient = (gradient / (1 - dropout)).to(query.dtype).transpose(0, 1)
        query, key, value = (tokens.transpose(0, 1) for tokens in (query * scale, key, value))  # (A, T, D)
        to_query, to_key, to_value = (tokens.transpose(0, 1) for tokens in gradients)
        for cell, queries, scores, weights, dropped in _blocks(query, cell_starts, seed, dropout):
            torch.bmm(query[:, queries], key[:, cell].mT, out=scores)
            torch.softmax(scores, dim=-1, out=weights)
            to_scores = torch.bmm(gradient[:, queries], value[:, cell].mT, out=scores)
            to_scores.view(-1).index_fill_(0, dropped, 0.0)
            to_scores.sub_(common[:, queries]).mul_(weights)
            weights.view(-1).index_fill_(0, dropped, 0.0)
            to_query[:, queries] = torch.bmm(to_scores, key[:, cell]).to(wide)
            to_key[:, cell] += torch.bmm(to_scores.mT, query[:, queries])
            to_value[:, cell] += torch.bmm(weights.mT, gradient[:, queries])
        to_query *= scale
    return gradients[0].to(query.dtype), gradients[1].to(query.dtype), gradients[2].to(query.dtype)


def _blocks(
    query: torch.Tensor, cell_starts: torch.Tensor, seed: torch.Tensor, dropout: float
) -> Iterator[tuple[slice, slice, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Over (A, T, D): a cell, queries of it, two buffers (A, r, n), and the flat places of the dropped weights."""
    heads = query.shape[0]
    starts = cell_starts.tolist()
    longest = max((end - start for start, end in pairwise(starts)), default=0)
    buffers = torch.empty(2, max(_BLOCK_SIZE, heads * longest), dtype=query.dtype)
    generator = torch.Generator().manual_seed(int(seed))
    for start, end in pairwise(starts):
        length = end - start
        rows = max(1, _BLOCK_SIZE // (heads * max(length, 1)))
        for first in range(start, end, rows):
            last = min(first + rows, end)
            size = heads * (last - first) * length
            scores, weights = buffers[:, :size].view(2, heads, last - first, length)
            yield slice(start, end), slice(first, last), scores, weights, _dropped(size, dropout, generator)


def _dropped(size: int, dropout: float, generator: torch.Generator) -> torch.Tensor:
    """Ascending places of 0..size, each of which is there with probability `dropout`, independently of the others."""
    if not dropout:
        return torch.empty(0, dtype=torch.int64)
    parts = []
    last = -1
    while last < size - 1:
        expected = (size - 1 - last) * dropout
        gaps = torch.empty(int(expected + _MARGIN * math.sqrt(expected)) + 1, dtype=torch.int64)
        parts.append(gaps.geometric_(dropout, generator=generator).cumsum(0).add_(last))
        last = int(parts[-1][-1])
    places = torch.cat(parts)
    return places[: int(torch.searchsorted(places, size))]


@attend.register_fake
def _(query, *others):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return query.new_empty(query.shape)


@attend_backward.register_fake
def _(gradient, query, key, value, *others):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


def _save(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.dropout, ctx.scale = inputs
    ctx.save_for_backward(*tensors, output)


def _gradients(ctx, gradient):  # type: ignore[no-untyped-def]
    *tensors, attended = ctx.saved_tensors
    return *attend_backward(gradient, *tensors, ctx.dropout, ctx.scale, attended), None, None, None, None


attend.register_autograd(_gradients, setup_context=_save)
