"""Performer attention beside performer-pytorch and softmax attention, and how random features are drawn."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from omics_transformers.modeling.performer_attention import (
    RandomFeatures,
    draw_random_features,
    performer_attention,
)


def make_states(size: int = 16, scale: float = 1.0, genes: int = 50) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, genes, 3, size, generator=generator) * scale for _ in range(3)]


def fast_attention(states: list[torch.Tensor], projection: torch.Tensor) -> torch.Tensor:
    performer_pytorch = pytest.importorskip("performer_pytorch")
    attention = performer_pytorch.FastAttention(projection.shape[1], nb_features=len(projection))
    attention.projection_matrix.copy_(projection)
    return attention(*(x.transpose(1, 2) for x in states)).transpose(1, 2)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scale", [0.1, 1.0, 2.0])
def test_the_same_as_performer_pytorch(scale: float) -> None:
    states, projection = make_states(64, scale), draw_random_features(266, 64, seed=(0,))
    found = performer_attention(*states, projection)
    torch.testing.assert_close(found, fast_attention(states, projection), atol=1e-5, rtol=0)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
def test_with_a_mask_the_same_as_performer_pytorch_on_what_is_not_masked() -> None:
    """There the stabiliser of keys is the largest over all given, so masked keys must not be given at all."""
    states, projection = make_states(), draw_random_features(44, 16, seed=(0,))
    mask = torch.rand(50, generator=torch.Generator().manual_seed(1)) > 0.5
    states[1][:, ~mask] *= 5  # the stabiliser would be another one
    found = performer_attention(*states, projection, mask.expand(2, -1))
    kept = [states[0], *(x[:, mask] for x in states[1:])]
    torch.testing.assert_close(found, fast_attention(kept, projection), atol=1e-5, rtol=0)


def test_the_error_beside_softmax_attention_falls_as_features_grow() -> None:
    """By the square root of their number, as a mean of independent draws does, and to nothing."""
    states = make_states(scale=0.4)
    expected = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in states)).transpose(1, 2)

    def error(num_features: int) -> float:
        projections = [draw_random_features(num_features, 16, seed=(draw,)) for draw in range(4)]
        found = torch.stack([performer_attention(*states, each, epsilon=0.0) for each in projections])
        return float((found - expected).square().mean().sqrt())

    errors = [error(number) for number in (32, 512, 8192)]
    for larger, smaller in pairwise(errors):
        assert 2.5 < larger / smaller < 6.5  # 4 expected
    assert errors[-1] < 0.01 < float(expected.std())


def test_features_estimate_the_softmax_kernel_without_bias_within_their_variance() -> None:
    """exp(q k) = E[exp(w q - |q|^2 / 2) exp(w k - |k|^2 / 2)]; of independent rows the variance is known."""
    generator = np.random.default_rng(0)
    query, key = generator.normal(size=(2, 8)) * 0.5
    projection = draw_random_features(80_000, 8, seed=(0,)).double().numpy()
    products = np.exp(projection @ (query + key) - (query @ query + key @ key) / 2)
    kernel, total = np.exp(query @ key), (query + key) @ (query + key)
    variance = np.exp(total) * kernel**2 - kernel**2
    assert products.mean() == pytest.approx(kernel, abs=4 * (variance / len(products)) ** 0.5)
    blocks = products.reshape(-1, 8).mean(1)
    assert blocks.var() < variance / 8  # orthogonal rows do better


def test_rows_of_a_block_are_orthogonal_and_as_long_as_normal_vectors() -> None:
    features = draw_random_features(266, 64, seed=(3, 1)).double()
    assert features.shape == (266, 64)
    for start in range(0, 266, 64):
        block = F.normalize(features[start : start + 64], dim=1)
        torch.testing.assert_close(block @ block.T, torch.eye(len(block)).double(), atol=1e-6, rtol=0)
    many = draw_random_features(6400, 64, seed=(0,)).double()
    assert float(many.square().sum(1).mean()) == pytest.approx(64, rel=0.02)
    assert float(many.mean(0).abs().max()) < 5 / 80
    assert float(many.std()) == pytest.approx(1, rel=0.01)


def test_draws_are_told_apart_by_seed_place_and_number_alone() -> None:
    def make(seed: int = 0, place: tuple[int, ...] = (0, 0)) -> RandomFeatures:
        return RandomFeatures(10, 8, seed=seed, place=place)

    assert torch.equal(make().draw(0), make().draw(0))
    others = [make().draw(1), make(seed=1).draw(0), make(place=(0, 1)).draw(0), make(place=(1, 0)).draw(0)]
    for number, other in enumerate(others):
        assert not any(torch.equal(other, earlier) for earlier in [make().draw(0), *others[:number]])
    features = make()
    features.redraw(1)
    assert torch.equal(features.projection, others[0]) and not features.projection.requires_grad
