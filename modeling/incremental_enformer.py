"""Enformer for many edits of one window: convolutions are computed anew only where an edit reaches.

The reference goes through the convolutions once, and each block's input is kept. Of an edited window only positions
that an edit can reach (kernels, pooling by two) are recomputed, from the kept activations around them, and laid into
the reference's output; the transformer, which mixes all positions, runs in full. In evaluation mode every other
operation of the convolutions looks at one position, so the result is that of the whole pass up to rounding.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

# Edits that reach more of the tower's output than this go through the whole tower, which then costs less.
LARGEST_SHARE = 0.5


class IncrementalEnformer:
    """`gene_features` and `predicted_expression` of edits of one reference window.

    It holds the activations of the reference: 0.65 GB in float32 for the published model and its window of 196,608 bp
    (`memory_bytes`). They are the model's at the time: make another one after weights, device or dtype have changed.

    Args:
        model: EnformerForGeneFeatures, in evaluation mode.
        reference: one window: ACGTN, or one-hot (bases, 4) or (1, bases, 4).

    Raises:
        ValueError: on a model in training mode, or a window that it cannot take.
    """

    def __init__(self, model: Any, reference: torch.Tensor | str) -> None:
        if model.training:
            raise ValueError("the model is in training mode, where positions depend on one another: call eval() first")
        if isinstance(reference, torch.Tensor) and reference.ndim == 2:
            reference = reference[None]
        one_hot = model.one_hot([reference] if isinstance(reference, str) else reference)
        model.check_window(one_hot)
        if len(one_hot) != 1:
            raise ValueError(f"{len(one_hot):,} reference windows are given; expected one")
        self.model = model
        self.reference = one_hot  # (1, bases, 4)
        self._levels, self._tower = _run_reference(model, one_hot)
        self._full_positions = self._recomputed_positions = 0

    @property
    def recomputed_share(self) -> float:
        """Of the convolutions' output positions, the share that was computed in all calls so far; a full pass has 1."""
        return self._recomputed_positions / max(self._full_positions, 1)

    @property
    def memory_bytes(self) -> int:
        """What the kept activations take."""
        kept = [self._tower, *(level.inputs for level in self._levels)]
        return sum(states.numel() * states.element_size() for states in kept)

    @torch.no_grad()
    def gene_features(
        self,
        sequences: torch.Tensor | Sequence[str],
        *,
        layer: Literal["final_pointwise", "transformer", "conv_tower"] = "final_pointwise",
        pool: Literal["all"] | int = "all",
    ) -> torch.Tensor:
        """As the model's own, (sequences, size) float32; the sequences are as long as the reference."""
        self.model.feature_size(layer)  # refuses unknown ones
        one_hot = self._checked(sequences, pool)
        tower = self.run_tower(one_hot)
        states = tower if layer == "conv_tower" else self.model.transformer(tower)
        return self.model.features_from(states, layer=layer, pool=pool)

    @torch.no_grad()
    def predicted_expression(
        self,
        sequences: torch.Tensor | Sequence[str],
        *,
        tracks: Sequence[int],
        head: str = "human",
        centre_bins: int = 3,
    ) -> torch.Tensor:
        """As the model's own, (sequences, tracks) float32; the sequences are as long as the reference."""
        one_hot = self._checked(sequences)
        self._check_tracks(tracks, head, centre_bins)
        hidden = self.model.transformer(self.run_tower(one_hot))
        return self.model.expression_from(hidden, tracks=tracks, head=head, centre_bins=centre_bins)

    @torch.no_grad()
    def features_and_expression(
        self,
        sequences: torch.Tensor | Sequence[str],
        *,
        tracks: Sequence[int],
        head: str = "human",
        centre_bins: int = 3,
        layer: Literal["final_pointwise", "transformer", "conv_tower"] = "final_pointwise",
        pool: Literal["all"] | int = "all",
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both, (sequences, size) and (sequences, tracks), from one pass of the transformer."""
        self.model.feature_size(layer)
        one_hot = self._checked(sequences, pool)
        self._check_tracks(tracks, head, centre_bins)
        tower = self.run_tower(one_hot)
        hidden = self.model.transformer(tower)
        features = self.model.features_from(tower if layer == "conv_tower" else hidden, layer=layer, pool=pool)
        return features, self.model.expression_from(hidden, tracks=tracks, head=head, centre_bins=centre_bins)

    @torch.no_grad()
    def run_tower(self, one_hot: torch.Tensor) -> torch.Tensor:
        """The convolutions' output for edited windows: (windows, bases, 4) to (windows, positions, dim)."""
        tower = self._tower.repeat(len(one_hot), 1, 1)
        pieces = self._pieces(one_hot)
        positions = tower.shape[1]
        covered = np.bincount(pieces.window, weights=pieces.out_end - pieces.out_start, minlength=len(one_hot))
        is_whole = covered > LARGEST_SHARE * positions
        whole = torch.as_tensor(np.flatnonzero(is_whole), device=one_hot.device)
        if len(whole):
            tower[whole] = self.model.run_tower(one_hot[whole]).to(tower.dtype)
        chosen = np.flatnonzero(~is_whole[pieces.window])
        sizes = np.frexp(pieces.out_end[chosen] - pieces.out_start[chosen])[1]
        for size in np.unique(sizes):  # pieces are padded to the longest of their group, less than twice their length
            self._splice(tower, one_hot, pieces.take(chosen[sizes == size]))
        level_positions = sum(level.positions for level in self._levels)
        self._full_positions += len(one_hot) * level_positions
        self._recomputed_positions += int(is_whole.sum()) * level_positions
        return tower

    def _pieces(self, one_hot: torch.Tensor) -> "_Pieces":
        """The changed bases, gathered where what they reach overlaps: other pieces do not touch one another."""
        changed = (one_hot != self.reference).any(dim=2).nonzero().cpu().numpy()  # (changes, 2), sorted
        window, base = changed[:, 0], changed[:, 1]
        out_start, out_end = _pooled(self._reach(base, base + 1)[-1])
        is_first = np.ones(len(window), dtype=bool)
        is_first[1:] = (window[1:] != window[:-1]) | (out_start[1:] >= out_end[:-1])
        is_last = np.ones(len(window), dtype=bool)
        is_last[:-1] = is_first[1:]
        return _Pieces(window[is_first], base[is_first], base[is_last] + 1, out_start[is_first], out_end[is_last])

    def _reach(self, start: np.ndarray, end: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each block, the outputs of its convolution that the bases [start, end) reach, in whole pooled pairs."""
        spans = []
        for level in self._levels:
            first = np.maximum(start - level.halo, 0) // 2 * 2
            last = -(-np.minimum(end + level.halo, level.positions) // 2) * 2
            spans.append((first, last))
            start, end = _pooled((first, last))
        return spans

    def _splice(self, tower: torch.Tensor, one_hot: torch.Tensor, pieces: "_Pieces") -> None:
        """Recompute these pieces, all at once, and lay them into the tower's output."""
        device = one_hot.device
        windows = torch.as_tensor(pieces.window, device=device)[:, None]
        values, values_start = one_hot, np.zeros(1, dtype=np.int64)
        for number, (level, (start, end)) in enumerate(
            zip(self._levels, self._reach(pieces.start, pieces.end), strict=True)
        ):
            length = int((end - start).max())
            start = np.minimum(start, level.positions - length)  # pieces near the end: more of what lies before
            places = start[:, None] + np.arange(-level.halo, length + level.halo)  # (pieces, length + 2 halo)
            is_inside = torch.as_tensor((places >= 0) & (places < level.positions), device=device)
            known = torch.as_tensor(places.clip(0, level.positions - 1), device=device)
            if number == 0:
                inputs = one_hot[windows, known]
            else:
                inputs = _overlay(level.inputs[known], values, torch.as_tensor(places - values_start, device=device))
            values, values_start = level.compute(inputs, is_inside), start[:, None] // 2
            self._recomputed_positions += places.shape[0] * length
        places = values_start + np.arange(values.shape[1])  # (pieces, longest)
        is_reached = (places >= pieces.out_start[:, None]) & (places < pieces.out_end[:, None])
        piece, column = (torch.as_tensor(index, device=device) for index in np.nonzero(is_reached))
        positions = torch.as_tensor(places[is_reached], device=device)
        tower[windows[piece, 0], positions] = values[piece, column].to(tower.dtype)

    def _checked(self, sequences: torch.Tensor | Sequence[str], pool: Literal["all"] | int = "all") -> torch.Tensor:
        one_hot = self.model.one_hot(sequences)
        self.model.check_window(one_hot, pool)
        if one_hot.shape[1] != self.reference.shape[1]:
            raise ValueError(
                f"the edited windows have {one_hot.shape[1]:,} bp and the reference {self.reference.shape[1]:,}: "
                "expected windows of one length"
            )
        return one_hot

    def _check_tracks(self, tracks: Sequence[int], head: str, centre_bins: int) -> None:
        positions = self._tower.shape[1]
        self.model.check_tracks(tracks, head=head, centre_bins=centre_bins, positions=positions)


class _Pieces(NamedTuple):
    """Stretches to recompute, one entry a piece: window of the batch, bases, and positions of the tower's output."""

    window: np.ndarray
    start: np.ndarray
    end: np.ndarray
    out_start: np.ndarray
    out_end: np.ndarray

    def take(self, rows: np.ndarray) -> "_Pieces":
        return _Pieces(*(values[rows] for values in self))


class _Level(NamedTuple):
    """A block of the tower (convolution, residual, pooling by two) and the reference's input (positions, channels)."""

    before: nn.Sequential
    convolution: nn.Conv1d
    after: nn.Sequential
    inputs: torch.Tensor

    @classmethod
    def make(cls, block: Any, inputs: torch.Tensor) -> "_Level":
        first = block[0]
        parts = [first] if isinstance(first, nn.Conv1d) else list(first)  # the stem begins with its convolution
        return cls(nn.Sequential(*parts[:-1]), parts[-1], block[1:], inputs)

    @property
    def positions(self) -> int:
        return self.inputs.shape[0]

    @property
    def halo(self) -> int:
        """Inputs on either side that an output of the convolution depends on."""
        return self.convolution.kernel_size[0] // 2

    def compute(self, inputs: torch.Tensor, is_inside: torch.Tensor) -> torch.Tensor:
        """(pieces, length + 2 halo, channels) to (pieces, length / 2, channels); the convolution pads with zeros."""
        states = self.before(inputs.transpose(1, 2)).masked_fill(~is_inside[:, None], 0)
        states = F.conv1d(states, self.convolution.weight, self.convolution.bias)
        return self.after(states).transpose(1, 2)


@torch.no_grad()
def _run_reference(model: Any, one_hot: torch.Tensor) -> tuple[list[_Level], torch.Tensor]:
    """Each block with the reference's input, and the tower's output (1, positions, dim)."""
    levels, states = [], one_hot.transpose(1, 2)
    for block in (model.stem, *model.conv_tower):
        levels.append(_Level.make(block, states[0].t().contiguous()))
        states = block(states)
    return levels, states.transpose(1, 2).contiguous()


def _pooled(span: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return span[0] // 2, span[1] // 2


def _overlay(inputs: torch.Tensor, values: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Put `values` (pieces, length, channels) over `inputs` (pieces, width, channels) where `columns` name one."""
    is_new = (columns >= 0) & (columns < values.shape[1])
    chosen = columns.clamp(0, values.shape[1] - 1)[:, :, None].expand(-1, -1, values.shape[2])
    return torch.where(is_new[:, :, None], values.gather(1, chosen), inputs)
