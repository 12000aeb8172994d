"""Performer attention: softmax attention approximated by positive random features, linear in the number of keys.

Source: Choromanski et al. 2021 (https://arxiv.org/abs/2009.14794), with the stabilisers and the epsilon of
performer-pytorch. Unlike there, masked keys count nowhere: neither in values, nor normaliser, nor stabiliser.
Shapes: B cells, N queries, K keys, A heads, D size of a head, M random features.
"""

import numpy as np
import torch
from torch import nn

from .performer_attention_kernel import attend

# That of performer-pytorch.
EPSILON = 1e-4


def performer_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    projection: torch.Tensor,
    key_mask: torch.Tensor | None = None,
    *,
    epsilon: float = EPSILON,
) -> torch.Tensor:
    """Approximates softmax(query key^T / sqrt(D)) value.

    Args:
        query: (cells, queries, heads, D).
        key: (cells, keys, heads, D).
        value: (cells, keys, heads, D).
        projection: (features, D) random features, see `draw_random_features`.
        key_mask: (cells, keys) bool, False where a key has no part; None: all have.
        epsilon: added to every feature, so that a query which no key resembles attends to all alike.

    Returns:
        (cells, queries, heads, D); 0 for cells without a key.
    """
    return attend(query, key, value, projection, key_mask, epsilon)[0]


class RandomFeatures(nn.Module):
    """The random features of one layer, kept with the model, so that a cell has one answer.

    Buffer `projection` (features, head size) float32.

    Args:
        num_features: rows.
        head_dim: columns.
        seed: of all layers.
        place: what tells layers apart, such as (path, layer).
    """

    projection: torch.Tensor

    def __init__(self, num_features: int, head_dim: int, *, seed: int, place: tuple[int, ...]) -> None:
        super().__init__()
        self.seed = seed
        self.place = place
        self.register_buffer("projection", torch.empty(num_features, head_dim))
        if not self.projection.is_meta:
            self.redraw(0)

    def draw(self, number: int) -> torch.Tensor:
        """The features of that draw, (features, head size) float32 on the CPU; the same on every process."""
        return draw_random_features(*self.projection.shape, seed=(self.seed, *self.place, number))

    @torch.no_grad()
    def redraw(self, number: int) -> None:
        """Take the features of that draw."""
        self.projection.copy_(self.draw(number))


def draw_random_features(num_features: int, head_dim: int, *, seed: tuple[int, ...]) -> torch.Tensor:
    """(features, head size) float32: blocks of orthogonal rows, each as long as a standard normal vector.

    Orthogonal rows make the approximation's variance smaller than independent ones, and each row alone is standard
    normal, which keeps it unbiased.
    """
    random = np.random.default_rng(seed)
    blocks = -(-num_features // head_dim)
    directions, triangles = np.linalg.qr(random.standard_normal((blocks, head_dim, head_dim)))
    directions *= np.sign(np.diagonal(triangles, axis1=1, axis2=2))[:, None, :]  # all rotations equally likely
    rows = directions.transpose(0, 2, 1).reshape(-1, head_dim)[:num_features]
    lengths = np.linalg.norm(random.standard_normal((num_features, head_dim)), axis=1)
    return torch.from_numpy((rows * lengths[:, None]).astype(np.float32))
