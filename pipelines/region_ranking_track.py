"""Scores along a locus: each step of a grid has the score of the region that is centred on it.

The grid is that of the contig, so a step's value does not depend on where the locus begins. (The mean of all windows
that cover a step would be smoother, and a peak twice as wide.) At a contig's ends the region is shifted inwards.
Windows are read and scored piece by piece, in bounded memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .region_ranking_run import Score
from .region_tokens import TokenLimit
from .segmentation_input import GenomeLike, Region
from .segmentation_tracks import TrackPiece, write_bigwig

_PIECE_BP = 1 << 18
_STEPS_A_PIECE = 2_048


class TrackSettings(NamedTuple):
    """How a locus is scored.

    Attributes:
        region_bp: length of the region around each step.
        step_bp: bases that share a value.
        maximum_unknown: regions with a larger share of N have no value.
    """

    region_bp: int
    step_bp: int
    maximum_unknown: float


@dataclass
class StepCounts:
    """Steps of a locus; those without a value are too rich in N, or have too many tokens for the model by their N."""

    steps: int = 0
    rich_in_n: int = 0
    too_many_tokens: int = 0

    @property
    def scored(self) -> int:
        """Steps with a value."""
        return self.steps - self.rich_in_n - self.too_many_tokens

    def as_dict(self) -> dict[str, int]:
        """For a summary."""
        return {
            "steps": self.steps,
            "scored_steps": self.scored,
            "steps_rich_in_n": self.rich_in_n,
            "steps_with_too_many_tokens": self.too_many_tokens,
        }


@dataclass(frozen=True)
class ScoreTrack:
    """Scores along a locus.

    Attributes:
        values: (bases,) float32, NaN where there is none.
        contig: its name.
        start: where the first base lies, 0-based.
        contig_length: coordinate behind the contig's last base, in bp.
        summary: how it was made, and how many steps have no value.
    """

    values: np.ndarray
    contig: str
    start: int
    contig_length: int
    summary: dict[str, Any] = field(default_factory=dict)

    def to_bigwig(self, path: Any) -> None:
        """Write a bigWig; a ValueError where no base has a value, since the format has no empty files."""
        write_bigwig(path, {self.contig: self.contig_length}, [TrackPiece(self.contig, self.start, self.values)])


class _Step(NamedTuple):
    start: int
    end: int
    region_start: int
    region_end: int


def require_track_options(settings: TrackSettings) -> None:
    """Raise ValueError for numbers out of range."""
    if not 1 <= settings.step_bp <= settings.region_bp:
        raise ValueError(
            f"step_bp is {settings.step_bp:,}: expected 1 to {settings.region_bp:,}, the length of the region around "
            "each step, so that no base is left out"
        )
    if not 0 <= settings.maximum_unknown < 1:
        raise ValueError(f"maximum_unknown is {settings.maximum_unknown}: expected a share of N from 0 to below 1")


def count_steps(locus: Region, genome: GenomeLike, limit: TokenLimit, settings: TrackSettings) -> StepCounts:
    """Read a locus once: how many steps there are, and how many have no value."""
    counts = StepCounts()
    for steps in _pieces_of_steps(locus, genome, settings):
        _read(steps, locus, genome, limit, settings, counts)
    return counts


def track_pieces(
    locus: Region, genome: GenomeLike, score: Score, limit: TokenLimit, settings: TrackSettings
) -> Iterator[TrackPiece]:
    """Scores of a locus, piece by piece.

    Args:
        locus: within the genome.
        genome: that holds it.
        score: upper-case ACGTN sequences -> (sequences,) float32.
        limit: what the model takes; the regions without N are within it.
        settings: checked by `require_track_options`.

    Yields:
        Pieces in order that cover the locus; NaN where there is no value.
    """
    for steps in _pieces_of_steps(locus, genome, settings):
        values = np.full(len(steps), np.nan, dtype=np.float32)
        regions = _read(steps, locus, genome, limit, settings, StepCounts())
        values[list(regions)] = score(list(regions.values()))
        lengths = [step.end - step.start for step in steps]
        yield TrackPiece(locus.contig, steps[0].start, np.repeat(values, lengths))


def _read(
    steps: list[_Step],
    locus: Region,
    genome: GenomeLike,
    limit: TokenLimit,
    settings: TrackSettings,
    counts: StepCounts,
) -> dict[int, bytes]:
    """The bases of the steps' regions that are scored, by the step's number; the others are counted."""
    begin = steps[0].region_start
    bases = genome.fetch(locus.contig, begin, steps[-1].region_end)
    regions = {}
    for number, step in enumerate(steps):
        region = bases[step.region_start - begin : step.region_end - begin]
        if region.count(b"N") > settings.maximum_unknown * len(region):
            counts.rich_in_n += 1
        elif not limit.takes(region):
            counts.too_many_tokens += 1
        else:
            regions[number] = region
    counts.steps += len(steps)
    return regions


def _pieces_of_steps(locus: Region, genome: GenomeLike, settings: TrackSettings) -> Iterator[list[_Step]]:
    step_bp = settings.step_bp
    first, last = genome.starts[locus.contig], genome.contigs[locus.contig]
    grid = range(locus.start - locus.start % step_bp, locus.end, step_bp)
    steps_a_piece = max(1, min(_STEPS_A_PIECE, _PIECE_BP // step_bp))
    for begin in range(0, len(grid), steps_a_piece):
        steps = []
        for start in grid[begin : begin + steps_a_piece]:
            region_start = start + step_bp // 2 - settings.region_bp // 2
            region_start = max(min(region_start, last - settings.region_bp), first)
            region_end = min(region_start + settings.region_bp, last)
            steps.append(_Step(max(start, locus.start), min(start + step_bp, locus.end), region_start, region_end))
        yield steps
