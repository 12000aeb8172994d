"""The CPU kernel for packed cells against torch's own attention a cell, and its dropout against its distribution."""

from itertools import pairwise

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

from omics_transformers.modeling import packed_attention_kernel
from omics_transformers.modeling.packed_attention_kernel import _dropped, attend

HEADS, SIZE, SCALE = 2, 4, 0.3


def make_heads(lengths: list[int], seed: int = 0, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(sum(lengths), HEADS, SIZE, generator=generator, dtype=dtype).requires_grad_() for _ in range(3)]


def starts_of(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def attend_a_cell(heads: list[torch.Tensor], cell_starts: torch.Tensor) -> torch.Tensor:
    cells = []
    for start, end in pairwise(cell_starts.tolist()):
        query, key, value = (tokens[start:end].transpose(0, 1) for tokens in heads)
        cells.append(F.scaled_dot_product_attention(query, key, value, scale=SCALE).transpose(0, 1))
    return torch.cat(cells)


@pytest.mark.parity
@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    block=st.sampled_from([8, 100, 2**19]),
    seed=st.integers(0, 9),
)
def test_output_and_gradients_equal_attention_a_cell(lengths: list[int], block: int, seed: int) -> None:
    heads, cell_starts = make_heads(lengths, seed), starts_of(lengths)
    expected = attend_a_cell(heads, cell_starts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_attention_kernel, "_BLOCK_SIZE", block)
        found = attend(*heads, cell_starts, torch.zeros(1, dtype=torch.int64), 0.0, SCALE)
        weights = torch.randn(expected.shape, dtype=torch.float64)
        gradients = torch.autograd.grad((found * weights).sum(), heads)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * weights).sum(), heads))


def test_gradients_with_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_attention_kernel, "_BLOCK_SIZE", 16)
    heads, cell_starts = make_heads([5, 1, 3]), starts_of([5, 1, 3])
    seed = torch.tensor([4])
    assert not torch.equal(attend(*heads, cell_starts, seed, 0.3, SCALE), attend(*heads, cell_starts, seed, 0.0, SCALE))
    torch.autograd.gradcheck(lambda *heads: attend(*heads, cell_starts, seed, 0.3, SCALE), heads)


@pytest.mark.parametrize("dropout", [0.02, 0.5])
def test_dropped_weights_are_zero_and_the_others_grow(dropout: float) -> None:
    """With the identity as values, the output is the weights themselves."""
    genes = 200
    query, key = torch.randn(2, genes, 1, genes, dtype=torch.float64).unbind()
    value = torch.eye(genes, dtype=torch.float64).unsqueeze(1)
    cell_starts = starts_of([genes])
    kept = attend(query, key, value, cell_starts, torch.tensor([1]), 0.0, SCALE)
    found = attend(query, key, value, cell_starts, torch.tensor([1]), dropout, SCALE)
    dropped = found == 0
    torch.testing.assert_close(found[~dropped], kept[~dropped] / (1 - dropout))
    deviation = (dropout * (1 - dropout) / dropped.numel()) ** 0.5
    assert abs(dropped.double().mean() - dropout) < 5 * deviation


@pytest.mark.parametrize("dropout", [0.02, 0.3, 0.9])
def test_places_are_dropped_independently_and_alike(dropout: float) -> None:
    size, draws = 50, 4_000
    generator = torch.Generator().manual_seed(0)
    drops = torch.zeros(draws, size, dtype=torch.float64)
    for row in drops:
        row[_dropped(size, dropout, generator)] = 1
    deviation = (dropout * (1 - dropout) / draws) ** 0.5
    assert (drops.mean(0) - dropout).abs().max() < 5 * deviation
    correlations = torch.corrcoef(drops.T) - torch.eye(size)
    assert correlations.abs().max() < 6 * draws**-0.5
    both = drops.sum(1).var()
    assert abs(both / (size * dropout * (1 - dropout)) - 1) < 0.2


def test_a_margin_that_is_too_small_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_attention_kernel, "_MARGIN", 0)
    generator = torch.Generator().manual_seed(0)
    counts, lasts = [], []
    for _ in range(50):
        places = _dropped(10_000, 0.05, generator)
        assert (places.diff() > 0).all() and places[0] >= 0 and places[-1] < 10_000
        counts.append(len(places))
        lasts.append(9_999 - int(places[-1]))
    deviation = (10_000 * 0.05 * 0.95 / 50) ** 0.5
    assert abs(sum(counts) / 50 - 500) < 5 * deviation
    assert sum(lasts) / 50 < 60  # the last 20 places hold one on average: none are left without


def test_same_seed_same_bytes_whatever_the_threads() -> None:
    heads, cell_starts = make_heads([60, 40], dtype=torch.float32), starts_of([60, 40])
    found = attend(*heads, cell_starts, torch.tensor([7]), 0.1, SCALE)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(threads, 2))
        assert torch.equal(attend(*heads, cell_starts, torch.tensor([7]), 0.1, SCALE), found)
    finally:
        torch.set_num_threads(threads)
    assert not torch.equal(attend(*heads, cell_starts, torch.tensor([8]), 0.1, SCALE), found)


def test_half_precision_is_close() -> None:
    heads, cell_starts = make_heads([30, 9]), starts_of([30, 9])
    expected = attend_a_cell(heads, cell_starts)
    halves = [tokens.detach().bfloat16().requires_grad_() for tokens in heads]
    found = attend(*halves, cell_starts, torch.zeros(1, dtype=torch.int64), 0.0, SCALE)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, atol=0.03, rtol=0.03)
    for half, exact in zip(
        torch.autograd.grad(found.sum(), halves), torch.autograd.grad(expected.sum(), heads), strict=True
    ):
        torch.testing.assert_close(half.double(), exact, atol=0.05, rtol=0.05)


def test_it_is_a_proper_operator() -> None:
    heads, cell_starts = make_heads([3, 5]), starts_of([3, 5])
    torch.library.opcheck(
        attend,
        (*heads, cell_starts, torch.tensor([1]), 0.2, SCALE),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )
