"""Tracks and called segments from blocks: the same as from the array in one go."""

from pathlib import Path

import numpy as np
import pytest

from omics_transformers.pipelines.segmentation_calls import call_segments
from omics_transformers.pipelines.segmentation_input import Region
from omics_transformers.pipelines.segmentation_tracks import read_bigwig
from omics_transformers.pipelines.segmentation_windows import Piece
from omics_transformers.segmentation_blocks import SegmentationBlocks
from omics_transformers.segmentation_files import CallOptions, FinishedBlocks, merge_segments, write_elements

CONTIGS = {"chr2": 300, "chr10": 120, "chr1": 90}
THRESHOLDS = {"exon": 0.6, "5UTR": 0.4}
# Blocks cut contigs anywhere; N lies from 100 to 110 of chr2, and chr1 is not segmented.
BLOCKS = [
    [Piece("chr2", 0, 70, ()), Piece("chr2", 70, 100, ())],
    [Piece("chr2", 110, 300, ()), Piece("chr10", 5, 50, ())],
    [Piece("chr10", 50, 120, ())],
]


@pytest.fixture
def tracks() -> dict[str, np.ndarray]:
    """Smooth enough for segments of several bp, over the whole contigs, NaN outside the pieces."""
    generator = np.random.default_rng(0)
    found = {}
    for contig, length in CONTIGS.items():
        noise = generator.random((length + 4, 2))
        values = np.full((length, 2), np.nan, dtype=np.float32)
        for block in BLOCKS:
            for piece in block:
                if piece.contig == contig:
                    inside = slice(piece.start, piece.end)
                    values[inside] = np.mean([noise[shift : shift + length] for shift in range(4)], axis=0)[inside]
        found[contig] = values
    return found


@pytest.mark.parametrize("processes", [1, 2])
def test_files_equal_what_the_arrays_give(tracks: dict[str, np.ndarray], tmp_path: Path, processes: int) -> None:
    blocks = SegmentationBlocks(tmp_path / "out", {})
    blocks.open()
    for number, block in enumerate(BLOCKS):
        blocks.write(number, block, [tracks[piece.contig][piece.start : piece.end] for piece in block])
    (tmp_path / "result" / "tracks").mkdir(parents=True)
    calls = CallOptions(THRESHOLDS, 3, 2)
    finished = FinishedBlocks(blocks.folder, len(BLOCKS), CONTIGS)
    counts = list(write_elements(finished, tmp_path / "result", calls, processes=processes))
    plotted = [Region("chr2", 110, 200), Region("chr1", 0, 90)]
    inside = merge_segments(tmp_path / "result", list(THRESHOLDS), list(CONTIGS), plotted=plotted)
    expected = []
    for contig, values in tracks.items():
        options = {"contig": contig, "minimum_length": 3, "merge_gap": 2}
        expected += call_segments(values, tuple(THRESHOLDS), THRESHOLDS, **options).to_numpy().tolist()  # type: ignore[arg-type]
        for number, name in enumerate(("exon", "5UTR")):
            if contig != "chr1":
                track = read_bigwig(tmp_path / "result" / "tracks" / f"{name}.bw", contig, 0, CONTIGS[contig])
                np.testing.assert_array_equal(track, values[:, number])
    lines = (tmp_path / "result" / "segments.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines[1:]]
    assert lines[0] == "contig\tstart\tend\telement\tmean_probability\tmax_probability"
    assert len(rows) == len(expected) > 20
    for row, wanted in zip(rows, expected, strict=True):
        assert row[:4] == [wanted[0], str(wanted[1]), str(wanted[2]), wanted[3]]
        np.testing.assert_allclose([float(value) for value in row[4:]], wanted[4:], atol=2e-6)
    bed = [line.split("\t") for line in (tmp_path / "result" / "segments.bed").read_text().splitlines()]
    assert [line[:4] for line in bed] == [row[:4] for row in rows]
    assert all(abs(int(line[4]) - 1000 * float(row[4])) <= 0.5 for line, row in zip(bed, rows, strict=True))
    drawn = [row for row in expected if row[0] == "chr2" and row[1] < 200 and row[2] > 110]
    assert [[row["start"], row["end"], row["element"]] for row in inside[0]] == [row[1:4] for row in drawn]
    assert not inside[1]
    values = np.concatenate(list(tracks.values()))
    for number, found in enumerate(counts):
        name = list(THRESHOLDS)[number]
        mine = [row for row in expected if row[3] == name]
        assert (found.segments, found.segments_bp) == (len(mine), sum(row[2] - row[1] for row in mine))
        assert found.mean_probability == pytest.approx(np.nanmean(values[:, number].astype(float)), abs=1e-6)
    assert sum(found.segments_too_short for found in counts) > 0
    assert {path.name for path in (tmp_path / "result").iterdir()} == {"tracks", "segments.bed", "segments.tsv"}
    blocks.close()
