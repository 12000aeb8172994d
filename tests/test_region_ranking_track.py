"""Scores along a locus against windows cut by hand, N, borders, and bigWig."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omics_transformers.data_scripts.genomes import Genome, open_genome
from omics_transformers.pipelines import region_ranking_track
from omics_transformers.pipelines.region_ranking_track import (
    ScoreTrack,
    StepCounts,
    TrackSettings,
    count_steps,
    require_track_options,
    track_pieces,
)
from omics_transformers.pipelines.region_tokens import TokenLimit
from omics_transformers.pipelines.segmentation_input import Region
from omics_transformers.pipelines.segmentation_tracks import read_bigwig

LIMIT = TokenLimit(21, 6)
LETTERS = np.random.default_rng(0).choice(list("ACGT"), 1_000)
LETTERS[300:420] = "N"
SEQUENCE = "".join(LETTERS)


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Genome]:
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text(f">chr1\n{SEQUENCE}\n>chr2\nACGTGG\n")
    with open_genome(path) as opened:
        yield opened


def count_g(sequences: Sequence[bytes]) -> np.ndarray:
    return np.float32([sequence.count(b"G") - 20.0 for sequence in sequences])


def track(genome: Genome, locus: Region, steps: TrackSettings) -> np.ndarray:
    pieces = list(track_pieces(locus, genome, count_g, LIMIT, steps))
    assert pieces[0].start == locus.start
    for one, other in pairwise(pieces):
        assert one.start + len(one.values) == other.start
    return np.concatenate([piece.values for piece in pieces])


def by_hand(locus: Region, steps: TrackSettings) -> np.ndarray:
    """Base by base: the region around the middle of the base's step."""
    values = np.full(locus.end - locus.start, np.nan, dtype=np.float32)
    for place in range(locus.start, locus.end):
        middle = place // steps.step_bp * steps.step_bp + steps.step_bp // 2
        start = min(max(middle - steps.region_bp // 2, 0), 1_000 - steps.region_bp)
        region = SEQUENCE[start : start + steps.region_bp]
        if region.count("N") <= steps.maximum_unknown * len(region) and LIMIT.takes(region.encode()):
            values[place - locus.start] = region.count("G") - 20
    return values


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    st.integers(0, 900), st.integers(1, 500), st.integers(12, 114), st.integers(1, 40), st.sampled_from([0, 0.1, 0.5]),
    st.integers(1, 9),
)  # fmt: skip
def test_each_step_has_the_score_of_the_region_around_it(
    genome: Genome, start: int, length: int, region_bp: int, step_bp: int, unknown: float, steps_a_piece: int
) -> None:
    locus = Region("chr1", start, min(start + length, 1_000))
    steps = TrackSettings(region_bp - region_bp % 6, min(step_bp, region_bp - region_bp % 6), unknown)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(region_ranking_track, "_STEPS_A_PIECE", steps_a_piece)
        found = track(genome, locus, steps)
        counts = count_steps(locus, genome, LIMIT, steps)
    np.testing.assert_array_equal(found, by_hand(locus, steps))
    grid = np.arange(locus.start, locus.end) // steps.step_bp
    assert counts.steps == len(np.unique(grid)) and counts.scored == len(np.unique(grid[~np.isnan(found)]))


def test_a_locus_is_a_part_of_the_contigs_track(genome: Genome) -> None:
    steps = TrackSettings(60, 7, 0.5)
    whole = track(genome, Region("chr1", 0, 1_000), steps)
    np.testing.assert_array_equal(track(genome, Region("chr1", 123, 457), steps), whole[123:457])
    assert np.isnan(whole[330:390]).all() and not np.isnan(whole[:260]).any()


def test_a_contig_shorter_than_a_region(genome: Genome) -> None:
    assert track(genome, Region("chr2", 0, 6), TrackSettings(60, 4, 0.5)).tolist() == [-17.0] * 6


def test_steps_without_a_value_are_counted(genome: Genome) -> None:
    steps = TrackSettings(60, 60, 0.0)
    counts = count_steps(Region("chr1", 0, 600), genome, LIMIT, steps)
    assert counts == StepCounts(steps=10, rich_in_n=2)
    counts = count_steps(Region("chr1", 0, 600), genome, LIMIT, TrackSettings(60, 60, 0.9))
    assert counts == StepCounts(steps=10, rich_in_n=2) and counts.scored == 8
    counts = count_steps(Region("chr1", 280, 300), genome, LIMIT, TrackSettings(60, 20, 0.5))
    assert counts == StepCounts(steps=1, too_many_tokens=1)  # 20 N and 40 bases: 6 k-mers, 4 letters, <cls>
    assert counts.as_dict() == {
        "steps": 1, "scored_steps": 0, "steps_rich_in_n": 0, "steps_with_too_many_tokens": 1
    }  # fmt: skip


def test_bigwig_has_negative_scores(genome: Genome, tmp_path: Path) -> None:
    values = track(genome, Region("chr1", 100, 900), TrackSettings(60, 10, 0.5))
    assert (values[~np.isnan(values)] < 0).any()
    ScoreTrack(values, "chr1", 100, 1_000).to_bigwig(tmp_path / "scores.bw")
    np.testing.assert_array_equal(read_bigwig(tmp_path / "scores.bw", "chr1", 100, 900), values)
    with pytest.raises(ValueError, match="a bigWig cannot be empty"):
        ScoreTrack(values[230:280], "chr1", 330, 1_000).to_bigwig(tmp_path / "empty.bw")


def test_numbers_out_of_range() -> None:
    for step_bp in (0, 61):
        with pytest.raises(ValueError, match=f"step_bp is {step_bp}: expected 1 to 60"):
            require_track_options(TrackSettings(60, step_bp, 0.5))
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"maximum_unknown is {share}: expected a share of N from 0 to below 1"):
            require_track_options(TrackSettings(60, 10, share))
