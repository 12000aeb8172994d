"""Performer attention and its gradient, block by block: the features of all queries and keys never exist at once.

Source: Choromanski et al. 2021 (https://arxiv.org/abs/2009.14794), algorithm 1. Only queries, keys, values and output
are kept for the gradient, which computes the features again; a block stays in a cache. Features are computed
in float32 or wider, as powers of two, which are cheaper than those of e; the constants are part of the projection.
Shapes: B cells, N queries, K keys, A heads, D size of a head, M features; h heads and r rows of a block.
"""

import math
import zlib
from collections.abc import Iterator

import torch

# Features of a block: few enough for the cache of a CPU, many enough that threads seldom wait for one another, and to
# keep a GPU busy.
_BLOCK_SIZES = {"cpu": 2**20}
_BLOCK_SIZE = 2**26
_LOG2_E = math.log2(math.e)
# Code that is loaded twice, from a package and from a folder, registers two operators.
_NAMESPACE = f"performer_attention_{zlib.crc32(__name__.encode()):08x}"


@torch.library.custom_op(f"{_NAMESPACE}::attend", mutates_args=())
def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    projection: torch.Tensor,
    key_mask: torch.Tensor | None,
    epsilon: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Attention as `performer_attention` describes it, and what its gradient needs.

    Returns:
        attended (B, N, A, D); denominators (B, A, N); query_shifts (B, A, N) and key_shifts (B, A, K), what is
        subtracted from the logits of a row, infinite where a key is masked; contexts (B, A, M, D) and normalizers
        (B, A, M), sums over keys of features times values, and of features.
    """
    with torch.autocast(query.device.type, enabled=False):
        return _attend(query, key, value, projection, key_mask, epsilon)


@torch.library.custom_op(f"{_NAMESPACE}::attend_backward", mutates_args=())
def attend_backward(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    projection: torch.Tensor,
    key_mask: torch.Tensor | None,
    epsilon: float,
    attended: torch.Tensor,
    denominators: torch.Tensor,
    query_shifts: torch.Tensor,
    key_shifts: torch.Tensor,
    contexts: torch.Tensor,
    normalizers: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of queries, keys and values, in their shapes, from that of `attended`."""
    with torch.autocast(query.device.type, enabled=False):
        kept = (denominators, query_shifts, key_shifts, contexts, normalizers)
        return _attend_backward(gradient, query, key, value, projection, key_mask, epsilon, attended, kept)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    projection: torch.Tensor,
    key_mask: torch.Tensor | None,
    epsilon: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    outputs = _empty_outputs(query, key, projection)
    attended, denominators, query_shifts, key_shifts, contexts, normalizers = outputs
    dtype, lowest = contexts.dtype, torch.finfo(contexts.dtype).min
    directions = _directions(projection, dtype).T.contiguous() * _LOG2_E  # (D, M)
    for cell, heads, rows in _blocks(key, len(projection)):
        unseen = None if key_mask is None else ~key_mask[cell]  # (K,)
        k, v = _part(key, cell, heads, dtype, unseen), _part(value, cell, heads, dtype, unseen)  # (h, K, D)
        context, normalizer = contexts[cell, heads].zero_(), normalizers[cell, heads].zero_()
        half_norms = _half_norms(k) * _LOG2_E  # (h, K)
        peak = k.new_full((len(k), 1), lowest)  # the largest logit of the keys so far
        for part in rows:
            logits = torch.bmm(k[:, part], directions.expand(len(k), -1, -1))  # (h, r, M)
            largest = logits.amax(2)
            if unseen is not None:
                largest = largest.masked_fill(unseen[part], lowest)
            previous, peak = peak, torch.maximum(peak, largest.amax(1, keepdim=True))
            shifts = half_norms[:, part] + peak
            if unseen is not None:
                shifts = shifts.masked_fill(unseen[part], torch.inf)
            features = logits.sub_(shifts.unsqueeze(2)).exp2_()
            shrinkage = (previous - peak).exp2_()  # (h, 1)
            context.mul_(shrinkage.unsqueeze(2)).baddbmm_(features.mT, v[:, part])
            normalizer.mul_(shrinkage).add_(features.sum(1))
        shifts = half_norms + peak
        key_shifts[cell, heads] = shifts if unseen is None else shifts.masked_fill(unseen, torch.inf)
        number = k.shape[1] if unseen is None else (~unseen).sum().to(dtype)
        context.add_(v.sum(1, keepdim=True), alpha=epsilon)
        normalizer.add_(epsilon * number)
    for cell, heads, rows in _blocks(query, len(projection)):
        q = _part(query, cell, heads, dtype)  # (h, N, D)
        context, normalizer = contexts[cell, heads], normalizers[cell, heads].unsqueeze(2)
        half_norms = _half_norms(q) * _LOG2_E
        for part in rows:
            logits = torch.bmm(q[:, part], directions.expand(len(q), -1, -1))  # (h, r, M)
            shifts = half_norms[:, part] + logits.amax(2)
            features = logits.sub_(shifts.unsqueeze(2)).exp2_()
            denominator = torch.bmm(features, normalizer).add_(normalizer.sum(1, keepdim=True), alpha=epsilon)
            numerator = torch.bmm(features, context).add_(context.sum(1, keepdim=True), alpha=epsilon)
            denominator.masked_fill_(denominator == 0, torch.inf)  # in cells without a key: output and gradients are 0
            attended[cell, part, heads] = numerator.div_(denominator).transpose(0, 1)
            denominators[cell, heads, part] = denominator.squeeze(2)
            query_shifts[cell, heads, part] = shifts
    return outputs


def _attend_backward(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    projection: torch.Tensor,
    key_mask: torch.Tensor | None,
    epsilon: float,
    attended: torch.Tensor,
    kept: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    denominators, query_shifts, key_shifts, contexts, normalizers = kept
    d_query, d_key, d_value = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (query, key, value))
    d_contexts, d_normalizers = torch.zeros_like(contexts), torch.zeros_like(normalizers)
    dtype = contexts.dtype
    plain = _directions(projection, dtype)  # (M, D)
    directions, inverse_root = plain.T.contiguous() * _LOG2_E, query.shape[-1] ** -0.5
    for cell, heads, rows in _blocks(query, len(projection)):
        q, out, d_out = (_part(x, cell, heads, dtype) for x in (query, attended, gradient))  # (h, N, D)
        context, normalizer = contexts[cell, heads], normalizers[cell, heads].unsqueeze(1)  # (h, M, D), (h, 1, M)
        denominator = denominators[cell, heads].unsqueeze(2)
        d_numerator = d_out / denominator
        d_denominator = -(d_numerator * out).sum(2, keepdim=True)  # (h, N, 1)
        # Features times their gradients cancel over a row, but for epsilon.
        row_sums = d_numerator @ context.sum(1).unsqueeze(2) + d_denominator * normalizer.sum(2, keepdim=True)
        d_context, d_normalizer = d_contexts[cell, heads], d_normalizers[cell, heads].unsqueeze(2)
        for part in rows:
            features = torch.bmm(q[:, part], directions.expand(len(q), -1, -1))
            features.sub_(query_shifts[cell, heads, part].unsqueeze(2)).exp2_()  # (h, r, M)
            d_context.baddbmm_(features.mT, d_numerator[:, part])
            d_normalizer.baddbmm_(features.mT, d_denominator[:, part])
            d_features = torch.bmm(d_numerator[:, part], context.mT)
            d_logits = d_features.addcmul_(d_denominator[:, part], normalizer).mul_(features)
            d_q = torch.bmm(d_logits, plain.expand(len(q), -1, -1))
            d_q.addcmul_(q[:, part], row_sums[:, part], value=epsilon * inverse_root)
            d_query[cell, part, heads] = d_q.transpose(0, 1).to(query.dtype)
        d_context.add_(d_numerator.sum(1, keepdim=True), alpha=epsilon)
        d_normalizer.add_(d_denominator.sum(1, keepdim=True), alpha=epsilon)
    for cell, heads, rows in _blocks(key, len(projection)):
        unseen = None if key_mask is None else ~key_mask[cell]
        k, v = _part(key, cell, heads, dtype, unseen), _part(value, cell, heads, dtype, unseen)  # (h, K, D)
        d_context, d_normalizer = d_contexts[cell, heads], d_normalizers[cell, heads].unsqueeze(1)
        for part in rows:
            features = torch.bmm(k[:, part], directions.expand(len(k), -1, -1))
            features.sub_(key_shifts[cell, heads, part].unsqueeze(2)).exp2_()  # (h, r, M)
            d_v = torch.bmm(features, d_context).add_(d_context.sum(1, keepdim=True), alpha=epsilon)
            if unseen is not None:
                d_v = d_v.masked_fill_(unseen[part].unsqueeze(1), 0.0)
            d_value[cell, part, heads] = d_v.transpose(0, 1).to(value.dtype)
            d_logits = torch.bmm(v[:, part], d_context.mT).add_(d_normalizer).mul_(features)
            d_k = torch.bmm(d_logits, plain.expand(len(k), -1, -1))
            d_k.addcmul_(k[:, part], d_logits.sum(2, keepdim=True), value=-inverse_root)
            d_key[cell, part, heads] = d_k.transpose(0, 1).to(key.dtype)
    return d_query, d_key, d_value


def _blocks(rows: torch.Tensor, num_features: int) -> Iterator[tuple[int, slice, list[slice]]]:
    """Cell, heads, and rows of each block of (B, rows, A, D); blocks of one cell and the same heads come together."""
    num_cells, num_rows, num_heads, _ = rows.shape
    size = _BLOCK_SIZES.get(rows.device.type, _BLOCK_SIZE)
    heads_of_block = max(1, min(num_heads, size // max(1, num_rows * num_features)))
    num_parts = max(1, -(-num_rows * heads_of_block * num_features // size))
    length = max(1, -(-num_rows // num_parts))
    parts = [slice(start, start + length) for start in range(0, num_rows, length)]
    for cell in range(num_cells):
        for head in range(0, num_heads, heads_of_block):
            yield cell, slice(head, head + heads_of_block), parts


def _part(
    states: torch.Tensor, cell: int, heads: slice, dtype: torch.dtype, unseen: torch.Tensor | None = None
) -> torch.Tensor:
    """(B, rows, A, D) -> (h, rows, D) of a cell, zero at rows that are unseen."""
    part = states[cell, :, heads].transpose(0, 1).to(dtype)
    return part if unseen is None else part.masked_fill(unseen.unsqueeze(1), 0.0)


def _directions(projection: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(M, D) random features by which queries and keys become logits."""
    return projection.to(dtype) * projection.shape[1] ** -0.25


def _half_norms(states: torch.Tensor) -> torch.Tensor:
    """(h, rows, D) -> (h, rows), half the squared length of scaled queries or keys."""
    return states.square().sum(2) * (0.5 * states.shape[2] ** -0.5)


def _empty_outputs(
    query: torch.Tensor, key: torch.Tensor, projection: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    (cells, queries, heads, size), keys, features = query.shape, key.shape[1], len(projection)
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    shapes = [(queries,), (queries,), (keys,), (features, size), (features,)]
    first, second, third, fourth, fifth = (query.new_empty(cells, heads, *shape, dtype=wide) for shape in shapes)
    return query.new_empty(cells, queries, heads, size), first, second, third, fourth, fifth


@attend.register_fake
def _(query, key, value, projection, key_mask, epsilon):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return _empty_outputs(query, key, projection)


@attend_backward.register_fake
def _(gradient, query, key, value, *others):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (query, key, value))


def _keep(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    query, key, value, projection, key_mask, ctx.epsilon = inputs
    ctx.save_for_backward(query, key, value, projection, key_mask, *output)


def _backward(ctx, gradient, *unused):  # type: ignore[no-untyped-def]  # noqa: ARG001
    query, key, value, projection, key_mask, *output = ctx.saved_tensors
    found = attend_backward(gradient, query, key, value, projection, key_mask, ctx.epsilon, *output)
    return (*found, None, None, None)


attend.register_autograd(_backward, setup_context=_keep)
