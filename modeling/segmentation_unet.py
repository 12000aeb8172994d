"""The one-dimensional U-Net of SegmentNT.

Source: the public JAX code of SegmentNT. Blocks of convolutions of kernel 3 with SiLU after each; average pooling by 2
on the way down; transposed convolutions, then nearest up-sampling, on the way up; the skip is added after the block.
Deviation: any length is taken, and what lies behind a sequence's end is held at zero on every level, so that a sequence
has the same result alone and in a padded batch.
Shapes: B sequences, L tokens, H hidden, C channels of a level.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn


class SegmentationUNet(nn.Module):
    """(sequences, tokens, hidden) -> (sequences, tokens, hidden).

    Args:
        hidden_size: channels that come in and go out.
        channels: of each level, from the finest; every level but none halves the length once.
        convolutions: of each block.
    """

    def __init__(self, hidden_size: int, channels: list[int], convolutions: int = 2) -> None:
        super().__init__()
        self.length_multiple = 2 ** len(channels)
        down = [hidden_size, *channels]
        up = [channels[-1], *reversed(channels)]
        self.down = nn.ModuleList(ConvolutionBlock(*pair, convolutions) for pair in pairwise(down))
        self.up = nn.ModuleList(ConvolutionBlock(*pair, convolutions, is_transposed=True) for pair in pairwise(up))
        self.final = ConvolutionBlock(channels[0], hidden_size, convolutions, has_last_activation=False)

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Args:
        hidden_states: (sequences, tokens, hidden).
        mask: (sequences, tokens) bool, False behind a sequence's end; None where all tokens count.
        """
        length = hidden_states.shape[1]
        missing = -length % self.length_multiple
        if missing and mask is None:
            mask = hidden_states.new_ones(hidden_states.shape[:2], dtype=torch.bool)
        x = F.pad(hidden_states.transpose(1, 2), (0, missing))  # (B, H, L)
        masks = self._masks(None if mask is None else F.pad(mask, (0, missing)))
        if masks[0] is not None:
            x = x * masks[0]
        skips = []
        for block, level_mask in zip(self.down, masks, strict=False):
            skips.append(block(x, level_mask))  # (B, C, L / 2^level)
            x = F.avg_pool1d(skips[-1], 2)
        for level in reversed(range(len(self.down))):
            x = self.up[-1 - level](x, masks[level + 1])
            x = x.repeat_interleave(2, dim=2) + skips[level]
            if masks[level] is not None:
                x = x * masks[level]
        return self.final(x, masks[0])[:, :, :length].transpose(1, 2)

    def _masks(self, mask: torch.Tensor | None) -> list[torch.Tensor | None]:
        """(B, 1, length) a level, the coarsest too: True where any token beneath counts."""
        masks: list[torch.Tensor | None] = [None if mask is None else mask.unsqueeze(1)]
        for _ in self.down:
            finer = masks[-1]
            masks.append(None if finer is None else finer[..., ::2] | finer[..., 1::2])
        return masks


class ConvolutionBlock(nn.Module):
    """Convolutions of kernel 3 that keep the length, each followed by SiLU, the last one only if asked."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        convolutions: int,
        *,
        is_transposed: bool = False,
        has_last_activation: bool = True,
    ) -> None:
        super().__init__()
        kind: Callable[..., nn.Module] = nn.ConvTranspose1d if is_transposed else nn.Conv1d
        widths = [channels_in] + [channels_out] * convolutions
        self.convolutions = nn.ModuleList(kind(*pair, kernel_size=3, padding=1) for pair in pairwise(widths))
        self.has_last_activation = has_last_activation

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """(B, C, L) and (B, 1, L) -> (B, C, L)."""
        for number, convolution in enumerate(self.convolutions, start=1):
            x = convolution(x)
            if self.has_last_activation or number < len(self.convolutions):
                x = F.silu(x)
            if mask is not None:
                x = x * mask
        return x
