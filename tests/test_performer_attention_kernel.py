"""Block-wise attention and its gradient: against plain formulas, whatever the blocks, and where nothing may leak."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.modeling import performer_attention_kernel
from omics_transformers.modeling.performer_attention import EPSILON, draw_random_features
from omics_transformers.modeling.performer_attention_kernel import attend


def plain_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    projection: torch.Tensor,
    mask: torch.Tensor | None,
    epsilon: float = EPSILON,
) -> torch.Tensor:
    """All features at once; autograd gives the gradient."""
    q, k, v = (states.transpose(1, 2) for states in (query, key, value))
    size = q.shape[-1]
    q_logits, k_logits = (states @ projection.to(states).T * size**-0.25 for states in (q, k))
    q_half, k_half = (states.square().sum(-1, keepdim=True) * 0.5 * size**-0.5 for states in (q, k))
    seen = torch.ones(key.shape[:2], dtype=torch.bool) if mask is None else mask
    seen = seen.to(query.device)[:, None, :, None]
    peak = k_logits.masked_fill(~seen, -torch.inf).amax((-1, -2), keepdim=True).detach()
    q_features = (q_logits - q_half - q_logits.amax(-1, keepdim=True).detach()).exp() + epsilon
    k_features = ((k_logits - k_half - peak).exp() + epsilon) * seen
    return ((q_features @ (k_features.mT @ v)) / (q_features @ k_features.sum(-2).unsqueeze(-1))).transpose(1, 2)


def make_inputs(
    dtype: torch.dtype = torch.float32, *, queries: int = 21, keys: int = 33, seed: int = 0, device: str = "cpu"
) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    sizes = (queries, keys, keys)
    states = [torch.randn(2, rows, 3, 16, generator=generator, dtype=dtype) * 1.5 for rows in sizes]
    mask = torch.rand(2, keys, generator=generator) > 0.4
    mask[1, : keys // 2] = False  # whole blocks of keys are masked
    mask[:, -1] = True
    projection = draw_random_features(40, 16, seed=(seed,))
    return (*(x.to(device).requires_grad_() for x in states), projection.to(device), mask.to(device))


@pytest.mark.parametrize("block_size", [2**18, 3000, 300, 1])
@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_output_and_gradients_are_those_of_the_plain_formula(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    block_size: int,
    is_masked: bool,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    monkeypatch.setattr(performer_attention_kernel, "_BLOCK_SIZES", {device: block_size})
    query, key, value, projection, mask = make_inputs(dtype, device=device)
    seen = mask if is_masked else None
    expected = plain_attention(query, key, value, projection, seen)
    found = attend(query, key, value, projection, seen, EPSILON)[0]
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    gradient = torch.randn(found.shape, dtype=dtype, generator=torch.Generator().manual_seed(1)).to(device)
    gradients = [torch.autograd.grad(output, (query, key, value), gradient) for output in (found, expected)]
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain, atol=tolerance * plain.abs().max().item(), rtol=0)


@pytest.mark.parametrize("is_masked", [False, True])
def test_gradients_are_finite_differences(is_masked: bool) -> None:
    """Without epsilon, of which the gradient is blind to the stabilisers' part, as in performer-pytorch."""
    query, key, value, projection, mask = make_inputs(torch.float64, queries=4, keys=5)
    seen = mask if is_masked else None
    assert torch.autograd.gradcheck(
        lambda *states: attend(*states, projection, seen, 0.0)[0], (query, key, value), fast_mode=True
    )


@given(seed=st.integers(0, 2**20), scale=st.sampled_from([1.0, 1e3, 1e8]))
def test_masked_keys_have_no_influence_at_all(seed: int, scale: float) -> None:
    query, key, value, projection, mask = make_inputs(seed=seed)
    expected = attend(query, key, value, projection, mask, EPSILON)[0]
    noise = torch.randn(key.shape, generator=torch.Generator().manual_seed(seed + 1)) * scale
    is_masked = ~mask[:, :, None, None]
    changed = [torch.where(is_masked, noise, states.detach()).requires_grad_() for states in (key, value)]
    found = attend(query, *changed, projection, mask, EPSILON)[0]
    assert torch.equal(found, expected)
    gradients = torch.autograd.grad(found.square().sum(), [query, *changed])
    for ours, plain in zip(gradients, torch.autograd.grad(expected.square().sum(), [query, key, value]), strict=True):
        assert torch.equal(ours, plain)
    for gradient in gradients[1:]:
        assert not gradient.masked_select(is_masked).any()


def test_masked_keys_may_hold_anything() -> None:
    query, key, value, projection, mask = make_inputs()
    is_masked = ~mask[:, :, None, None]
    expected = attend(query, key, value, projection, mask, EPSILON)[0]
    for content in (torch.nan, torch.inf):
        broken = [states.detach().masked_fill(is_masked, content) for states in (key, value)]
        assert torch.equal(attend(query, *broken, projection, mask, EPSILON)[0], expected)


def test_a_cell_without_a_key_is_zero() -> None:
    query, key, value, projection, mask = make_inputs()
    mask[0] = False
    found = attend(query, key, value, projection, mask, EPSILON)[0]
    assert not found[0].any() and found[1].abs().min() > 0
    gradients = torch.autograd.grad(found.sum(), (query, key, value))
    assert all(not gradient[0].any() and gradient.isfinite().all() for gradient in gradients)
    assert gradients[2][1].any()


def test_the_operator_keeps_the_promises_of_custom_operators() -> None:
    query, key, value, projection, mask = make_inputs(queries=5, keys=6)
    torch.library.opcheck(attend, (query, key, value, projection, mask, EPSILON))


def test_bfloat16_is_rounded_only_where_it_comes_in_and_goes_out() -> None:
    query, key, value, projection, mask = make_inputs()
    rounded = [states.detach().bfloat16().requires_grad_() for states in (query, key, value)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attend(*rounded, projection, mask, EPSILON)[0]
    expected = attend(*(states.float() for states in rounded), projection, mask, EPSILON)[0]
    assert found.dtype == torch.bfloat16 and torch.equal(found, expected.bfloat16())
    assert [gradient.dtype for gradient in torch.autograd.grad(found.sum(), rounded)] == [torch.bfloat16] * 3
