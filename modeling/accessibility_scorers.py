"""Heads that give a region one number for its accessibility.

Source: "Region Ranking on scATAC", section 3.3.2 and table A.3, whose layouts were derived from the numbers of
parameters. The publication names neither activations nor the place of norms: SiLU behind convolutions as in the U-Net,
GELU and norms in front as in the encoder.
Shapes: B regions, T tokens, H hidden.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import nn

from .segmentation_unet import SegmentationUNet


class AccessibilityScorer(nn.Module, ABC):
    """(regions, tokens, hidden) -> (regions,).

    A head takes `num_tokens` tokens. Fewer are scored as if padding followed, and padding enters as zeros, wherever it
    lies and whatever the encoder left there.

    Args:
        hidden_size: of the encoder.
        num_tokens: <cls> included.
    """

    def __init__(self, hidden_size: int, num_tokens: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.num_tokens = num_tokens

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Scores, float32; the lower, the less accessible.

        Args:
            hidden_states: (regions, tokens, hidden), <cls> first.
            mask: (regions, tokens) bool, False at padding.

        Raises:
            ValueError: for more tokens than `num_tokens`.
        """
        missing = self.num_tokens - hidden_states.shape[1]
        if missing < 0:
            raise ValueError(
                f"regions have {hidden_states.shape[1]:,} tokens with <cls>, and this scorer takes num_tokens = "
                f"{self.num_tokens:,}: cut the regions, or make the model with a larger num_tokens"
            )
        states = hidden_states.masked_fill(~mask.unsqueeze(2), 0.0)
        return self.score(F.pad(states, (0, 0, 0, missing)), F.pad(mask, (0, missing)))

    @abstractmethod
    def score(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, num_tokens, H), zero at padding, and (B, num_tokens) -> (B,)."""


class LinearScorer(AccessibilityScorer):
    """A weight for each number of each token."""

    def __init__(self, hidden_size: int, num_tokens: int) -> None:
        super().__init__(hidden_size, num_tokens)
        self.readout = Readout(num_tokens * hidden_size)

    def score(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        return self.readout(states.flatten(1))


class TransformerScorer(AccessibilityScorer):
    """Learned positions, two blocks of attention with one head, then a weight for each number."""

    def __init__(self, hidden_size: int, num_tokens: int) -> None:
        super().__init__(hidden_size, num_tokens)
        self.position_embeddings = nn.Embedding(num_tokens, hidden_size)
        self.blocks = nn.ModuleList(ScorerBlock(hidden_size) for _ in range(2))
        self.readout = Readout(num_tokens * hidden_size)

    def score(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states = states + self.position_embeddings.weight
        for block in self.blocks:
            states = block(states, mask)
        return self.readout(states.masked_fill(~mask.unsqueeze(2), 0.0).flatten(1))


class ScorerBlock(nn.Module):
    """Attention with one head and a feed-forward network of a quarter of the width, each with its norm and residual."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.feed_forward_norm = nn.LayerNorm(hidden_size)
        self.feed_forward = nn.Sequential(
            nn.Linear(hidden_size, hidden_size // 4), nn.GELU(), nn.Linear(hidden_size // 4, hidden_size)
        )

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, H) and (B, T) -> (B, T, H)."""
        # A region without a token would see nothing, and a softmax over nothing is NaN.
        is_seen = (mask | ~mask.any(1, keepdim=True)).unsqueeze(1)  # (B, 1, T)
        normed = self.attention_norm(states)
        attended = F.scaled_dot_product_attention(
            self.query(normed), self.key(normed), self.value(normed), attn_mask=is_seen
        )
        states = states + self.output(attended)
        return states + self.feed_forward(self.feed_forward_norm(states))


class UNetScorer(AccessibilityScorer):
    """SegmentNT's U-Net on the tokens behind <cls>, then a weight for each number."""

    def __init__(self, hidden_size: int, num_tokens: int) -> None:
        super().__init__(hidden_size, num_tokens)
        self.unet = SegmentationUNet(hidden_size, [hidden_size, 2 * hidden_size])
        self.readout = Readout((num_tokens - 1) * hidden_size)

    def score(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.readout(self.unet(states[:, 1:], mask[:, 1:]).flatten(1))


class ConvolutionalScorer(AccessibilityScorer):
    """Tokens x hidden, <cls> included, as an image of one channel: two convolutions with pooling, two linear layers."""

    def __init__(self, hidden_size: int, num_tokens: int) -> None:
        super().__init__(hidden_size, num_tokens)
        self.first = nn.Conv2d(1, 4, kernel_size=5, padding=2)
        self.second = nn.Conv2d(4, 8, kernel_size=5, padding=2)
        self.dense = nn.Linear(8 * (num_tokens // 16) * (hidden_size // 16), 256)
        self.readout = Readout(256)

    def score(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        image = states.unsqueeze(1)  # (B, 1, T, H)
        for convolution in (self.first, self.second):
            image = F.avg_pool2d(F.silu(convolution(image)), 4)  # (B, channels, T / 4, H / 4), then both / 16
        return self.readout(F.silu(self.dense(image.flatten(1))))


class Readout(nn.Linear):
    """(regions, numbers) -> (regions,), float32 also under autocast: bfloat16 would tie scores that differ by 1 %."""

    def __init__(self, size: int) -> None:
        super().__init__(size, 1)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        with torch.autocast(numbers.device.type, enabled=False):
            return F.linear(numbers.float(), self.weight.float(), self.bias.float()).squeeze(1)


SCORERS: dict[str, type[AccessibilityScorer]] = {
    "linear": LinearScorer,
    "transformer": TransformerScorer,
    "unet": UNetScorer,
    "convolutional": ConvolutionalScorer,
}


def make_scorer(head: str, hidden_size: int, *, num_tokens: int) -> AccessibilityScorer:
    """The head of that name in `SCORERS`."""
    return SCORERS[head](hidden_size, num_tokens)
