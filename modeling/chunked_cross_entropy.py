"""Cross-entropy of a linear head that never holds all its logits: forward and gradients, some rows at a time.

Source: the fused linear cross-entropy of Liger-Kernel (Hsu et al. 2024, https://arxiv.org/abs/2410.10989), in plain
torch: gradients are computed beside the loss, while a chunk's logits are at hand, and scaled in backward. Deviations:
the softmax is at least float32 and the head's gradients add up in at least float32, whatever the dtypes; and it is one
operator to `torch.compile`, so another number of rows compiles nothing anew.
Shapes: M rows, H hidden, V vocabulary.
"""

from typing import Any

import torch
import torch.nn.functional as F

# At a vocabulary of 25,000, 25 MB of float32 logits: larger chunks gain no speed on CPU cores, and on GPUs hardly any.
CHUNK_ROWS = 256


def chunked_linear_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    *,
    chunk_rows: int | None = None,
    divisor: float | torch.Tensor | None = None,
) -> torch.Tensor:
    """`F.cross_entropy(F.linear(hidden, weight, bias), targets)` in the memory of a chunk of logits.

    Under autocast the products are in autocast's dtype. It can be differentiated once.

    Args:
        hidden: (M, H) floats.
        weight: (V, H) floats.
        bias: (V,) floats or None.
        targets: (M,) int64, each from 0 to V - 1; no row is left out.
        chunk_rows: rows whose logits exist at the same time; 256 on the CPU, 2,048 elsewhere where None.
        divisor: what the sum over the rows is divided by; M where None.

    Returns:
        Scalar, float32 (float64 of float64); 0, which still reaches every argument, where there are no rows.

    Raises:
        ValueError: where the shapes do not fit each other.
    """
    _check_shapes(hidden, weight, bias, targets)
    if chunk_rows is None:
        chunk_rows = CHUNK_ROWS if hidden.device.type == "cpu" else 8 * CHUNK_ROWS
    if chunk_rows < 1:
        raise ValueError(f"chunk_rows is {chunk_rows}: it must be at least 1")
    device_type = hidden.device.type
    autocast = torch.is_autocast_enabled(device_type)
    compute_dtype = torch.get_autocast_dtype(device_type) if autocast else hidden.dtype
    differentiable = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (hidden, weight, bias)
    )
    total = _summed_cross_entropy(hidden, weight, bias, targets, chunk_rows, compute_dtype, differentiable)[0]
    return total / (max(len(targets), 1) if divisor is None else divisor)


# Code that transformers copies beside weights is loaded under another module name, and must not replace this operator.
@torch.library.custom_op(f"omics_transformers::{__name__.replace('.', '_')}", mutates_args=())
def _summed_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    chunk_rows: int,
    compute_dtype: torch.dtype,
    with_gradients: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The sum, and its gradients to hidden, weight and bias (empty without `with_gradients`, or without a bias)."""
    total, *gradients = _empty_outputs(hidden, weight, bias, with_gradients)
    if not len(targets):
        return total, *(gradient.zero_() for gradient in gradients)  # type: ignore[return-value]
    sums = [torch.zeros_like(some, dtype=total.dtype) for some in gradients[1:]]  # of weight and bias
    with torch.autocast(hidden.device.type, enabled=False):
        head, offset = weight.to(compute_dtype), None if bias is None else bias.to(compute_dtype)
        for start in range(0, len(targets), chunk_rows):
            rows, chosen = (
                hidden[start : start + chunk_rows].to(compute_dtype),
                targets[start : start + chunk_rows, None],
            )
            logits = F.linear(rows, head, offset).to(total.dtype)  # (chunk, V)
            normalizer = logits.logsumexp(dim=1, keepdim=True)
            total += (normalizer - logits.gather(1, chosen)).sum()
            if not with_gradients:
                continue
            residual = logits.sub_(normalizer).exp_()  # the probabilities, and 1 less at the target
            residual.scatter_add_(1, chosen, residual.new_full(chosen.shape, -1.0))
            if bias is not None:
                sums[1] += residual.sum(dim=0)
            residual = residual.to(compute_dtype)
            gradients[0][start : start + chunk_rows] = residual @ head
            if compute_dtype == total.dtype:
                sums[0].addmm_(residual.T, rows)
            else:
                sums[0] += residual.T @ rows
    for gradient, summed in zip(gradients[1:], sums, strict=True):
        gradient.copy_(summed)
    return total, gradients[0], gradients[1], gradients[2]


@_summed_cross_entropy.register_fake
def _(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,  # noqa: ARG001 (the operator's signature, here and below)
    chunk_rows: int,  # noqa: ARG001
    compute_dtype: torch.dtype,  # noqa: ARG001
    with_gradients: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return _empty_outputs(hidden, weight, bias, with_gradients)


def _save_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    has_bias, with_gradients = inputs[2] is not None, inputs[-1]
    ctx.set_materialize_grads(False)  # nobody sends gradients to the gradients
    ctx.has_bias = has_bias
    if with_gradients:
        ctx.save_for_backward(*output[1:])


def _scaled_gradients(ctx: Any, of_total: torch.Tensor | None, *_: Any) -> tuple[torch.Tensor | None, ...]:
    if of_total is None:
        return (None,) * 7
    scaled = [
        gradient * of_total.to(gradient.dtype) if needed else None
        for gradient, needed in zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False)
    ]
    if not ctx.has_bias:
        scaled[2] = None
    return (*scaled, None, None, None, None)


_summed_cross_entropy.register_autograd(_scaled_gradients, setup_context=_save_gradients)


def _empty_outputs(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, with_gradients: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    total = hidden.new_zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32))
    if not with_gradients:
        return total, hidden.new_empty(0), hidden.new_empty(0), hidden.new_empty(0)
    of_bias = hidden.new_empty(0) if bias is None else torch.empty_like(bias)
    return total, torch.empty_like(hidden), torch.empty_like(weight), of_bias


def _check_shapes(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor) -> None:
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(
            f"hidden has shape {tuple(hidden.shape)} and weight {tuple(weight.shape)}: expected (rows, hidden) and "
            "(vocabulary, hidden)"
        )
    if targets.shape != hidden.shape[:1]:
        raise ValueError(f"targets have shape {tuple(targets.shape)}, expected one a row of hidden: ({len(hidden)},)")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias has shape {tuple(bias.shape)}, expected one a row of weight: ({len(weight)},)")
