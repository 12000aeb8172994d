"""The chunked loss against the plain formula: value, gradients, dtypes, and compiled."""

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounter

from omics_transformers.modeling import chunked_cross_entropy
from omics_transformers.modeling.chunked_cross_entropy import chunked_linear_cross_entropy


def make_inputs(
    rows: int = 21, *, dtype: torch.dtype = torch.float32, bias: bool = True, device: str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """(rows, 8) hidden, a head of 30 tokens, and targets; the floats are leaves."""
    random = torch.Generator().manual_seed(rows)
    hidden, weight, offset = (torch.randn(size, generator=random) for size in ((rows, 8), (30, 8), (30,)))
    hidden, weight, offset = (some.to(device, dtype).requires_grad_() for some in (hidden * 2, weight, offset))
    targets = torch.randint(30, (rows,), generator=random).to(device)
    return hidden, weight, offset if bias else None, targets


def gradients(loss: torch.Tensor, *inputs: torch.Tensor | None) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, [some for some in inputs if some is not None]))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("chunk_rows", [1, 7, 21, 100, None])
def test_equals_the_plain_formula(chunk_rows: int | None, bias: bool, device: str) -> None:
    hidden, weight, offset, targets = make_inputs(bias=bias, device=device)
    found = chunked_linear_cross_entropy(hidden, weight, offset, targets, chunk_rows=chunk_rows)
    expected = F.cross_entropy(F.linear(hidden, weight, offset), targets)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    for some, plain in zip(
        gradients(3 * found, hidden, weight, offset), gradients(3 * expected, hidden, weight, offset), strict=True
    ):
        torch.testing.assert_close(some, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("divisor", [40.0, torch.tensor(40)])
def test_divides_the_sum_by_what_it_is_given(divisor: float | torch.Tensor) -> None:
    hidden, weight, offset, targets = make_inputs()
    found = chunked_linear_cross_entropy(hidden, weight, offset, targets, divisor=divisor)
    expected = F.cross_entropy(F.linear(hidden, weight, offset), targets, reduction="sum") / 40
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(found, weight), gradients(expected, weight))


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_of_finite_differences(bias: bool) -> None:
    random = torch.Generator().manual_seed(0)
    hidden, weight, offset = (
        torch.randn(size, generator=random, dtype=torch.float64, requires_grad=True) for size in ((5, 3), (4, 3), (4,))
    )
    targets, floats = torch.tensor([3, 0, 2, 2, 1]), (hidden, weight, offset if bias else None)
    assert torch.autograd.gradcheck(
        lambda *floats: chunked_linear_cross_entropy(*floats, targets, chunk_rows=2), floats
    )


def test_what_needs_no_gradient_gets_none() -> None:
    hidden, weight, offset, targets = make_inputs()
    loss = chunked_linear_cross_entropy(hidden, weight.detach(), offset, targets)
    loss.backward()
    expected = F.cross_entropy(F.linear(hidden, weight, offset), targets)
    torch.testing.assert_close(hidden.grad, gradients(expected, hidden)[0])
    with torch.no_grad():
        evaluated = chunked_linear_cross_entropy(hidden, weight, offset, targets)
    assert not evaluated.requires_grad
    torch.testing.assert_close(evaluated, loss.detach())


def test_no_rows_is_a_loss_of_zero_that_reaches_every_parameter() -> None:
    hidden, weight, offset, targets = make_inputs(0)
    loss = chunked_linear_cross_entropy(hidden, weight, offset, targets)
    assert loss.item() == 0
    assert all((gradient == 0).all() for gradient in gradients(loss, hidden, weight, offset))


def test_half_precision_has_the_softmax_in_float32(device: str) -> None:
    hidden, weight, offset, targets = make_inputs(500, dtype=torch.bfloat16, device=device)
    found = chunked_linear_cross_entropy(hidden, weight, offset, targets, chunk_rows=100)
    assert found.dtype == torch.float32
    expected = F.cross_entropy(F.linear(hidden, weight, offset).float(), targets)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    doubles = [some.detach().double().requires_grad_() for some in (hidden, weight, offset)]
    exact = gradients(F.cross_entropy(F.linear(*doubles), targets), *doubles)
    for some, plain in zip(gradients(found, hidden, weight, offset), exact, strict=True):
        assert some.dtype == torch.bfloat16
        assert (some.double() - plain).norm() < 0.02 * plain.norm()


def test_autocast_computes_in_its_dtype_and_leaves_gradients_in_the_parameters_own(device: str) -> None:
    hidden, weight, offset, targets = make_inputs(500, device=device)
    with torch.autocast(device, torch.bfloat16):
        found = chunked_linear_cross_entropy(hidden, weight, offset, targets, chunk_rows=100)
        expected = F.cross_entropy(F.linear(hidden, weight, offset).float(), targets)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    exact = gradients(F.cross_entropy(F.linear(hidden, weight, offset), targets), hidden, weight, offset)
    for some, plain in zip(gradients(found, hidden, weight, offset), exact, strict=True):
        assert some.dtype == torch.float32
        assert (some - plain).norm() < 0.02 * plain.norm()


def test_no_tensor_of_all_logits_is_ever_made() -> None:
    """The largest tensor of forward and backward, as the profiler sees what is allocated."""
    hidden, weight, targets = torch.randn(4096, 4), torch.randn(2000, 4), torch.randint(2000, (4096,))
    hidden.requires_grad_()
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        chunked_linear_cross_entropy(hidden, weight, None, targets, chunk_rows=64).backward()
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert 0 < largest < 8 * 64 * 2000 * 4 < 4096 * 2000 * 4


def test_compiles_without_a_break_or_another_compilation_for_other_rows() -> None:
    graphs = CompileCounter()
    torch._dynamo.reset()

    @torch.compile(backend=graphs, fullgraph=True, dynamic=True)
    def step(hidden: torch.Tensor, weight: torch.Tensor, offset: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return chunked_linear_cross_entropy(hidden * 2, weight, offset, targets, chunk_rows=8)

    for rows in (9, 21, 40):
        hidden, weight, offset, targets = make_inputs(rows)
        assert offset is not None
        found = step(hidden, weight, offset, targets)
        expected = F.cross_entropy(F.linear(hidden * 2, weight, offset), targets)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(gradients(found, hidden, weight), gradients(expected, hidden, weight))
    assert graphs.frame_count == 1


def test_the_operator_keeps_torch_s_rules() -> None:
    hidden, weight, offset, targets = make_inputs(6)
    torch.library.opcheck(
        chunked_cross_entropy._summed_cross_entropy, (hidden, weight, offset, targets, 4, torch.float32, True)
    )


def test_a_copy_under_another_name_leaves_this_one_alone() -> None:
    """As transformers loads the code that lies beside weights."""
    spec = importlib.util.spec_from_file_location(
        "transformers_modules.copy.chunked", Path(chunked_cross_entropy.__file__)
    )
    assert spec is not None and spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    hidden, weight, offset, targets = make_inputs()
    found = [
        module.chunked_linear_cross_entropy(hidden, weight, offset, targets) for module in (chunked_cross_entropy, copy)
    ]
    assert torch.equal(*found)
    spec.loader.exec_module(copy)  # as where the copy has changed
    assert torch.equal(copy.chunked_linear_cross_entropy(hidden, weight, offset, targets), found[0])
    assert torch.equal(chunked_linear_cross_entropy(hidden, weight, offset, targets), found[0])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden": torch.zeros(3, 7)}, r"hidden has shape \(3, 7\) and weight \(30, 8\)"),
        ({"targets": torch.zeros(4, dtype=torch.int64)}, r"targets have shape \(4,\), expected .*\(3,\)"),
        ({"bias": torch.zeros(29)}, r"bias has shape \(29,\)"),
        ({"chunk_rows": 0}, "chunk_rows is 0"),
    ],
)
def test_refuses_shapes_that_do_not_fit(change: dict, named: str) -> None:
    arguments = {
        "hidden": torch.zeros(3, 8),
        "weight": torch.zeros(30, 8),
        "bias": None,
        "targets": torch.zeros(3, dtype=torch.int64),
    }
    with pytest.raises(ValueError, match=named):
        chunked_linear_cross_entropy(**{**arguments, **change})
