"""Regions, windows and painted labels against plain Python."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.genome_files import GenomeFiles
from omics_transformers.data_scripts.segment_windows import (
    IntervalTracks,
    SplitRegion,
    lay_windows,
    pack_labels,
    split_regions,
    unpack_labels,
)


@given(
    st.integers(0, 50), st.integers(0, 80), st.integers(1, 20), st.integers(1, 30), st.sampled_from(["drop", "keep"])
)
def test_windows_tile_the_region(start: int, length: int, window_bp: int, step_bp: int, ends: str) -> None:
    found_starts, found_ends, behind = lay_windows(
        start, start + length, window_bp=window_bp, step_bp=step_bp, ends=ends
    )
    expected, place, covered = [], start, start
    while place + window_bp <= start + length:
        expected.append((place, place + window_bp))
        covered = place + window_bp
        place += step_bp
    if ends == "keep" and covered < start + length and place < start + length:
        expected.append((place, start + length))
        covered = start + length
    assert list(zip(found_starts.tolist(), found_ends.tolist(), strict=True)) == expected
    assert behind == start + length - covered
    if step_bp == window_bp:
        assert behind + sum(end - start for start, end in expected) == length
        assert behind == 0 or ends == "drop"


@pytest.mark.parametrize("options", [{"window_bp": 0}, {"step_bp": 0}])
def test_windows_of_no_length(options: dict) -> None:
    with pytest.raises(ValueError, match="expected positive numbers of bp"):
        lay_windows(0, 10, **{"window_bp": 5, "step_bp": 5, **options})
    with pytest.raises(ValueError, match='"drop" or "keep"'):
        lay_windows(0, 10, window_bp=5, step_bp=5, ends="cut")  # type: ignore[arg-type]


intervals = st.lists(st.tuples(st.sampled_from(["1", "2"]), st.integers(0, 60), st.integers(1, 15)), max_size=10)


@given(st.lists(intervals, min_size=1, max_size=3), st.integers(0, 70), st.integers(1, 30))
def test_painted_and_packed_labels_agree_with_base_after_base(files: list, start: int, length: int) -> None:
    tables = {
        f"e{number}": pd.DataFrame(
            [(contig, first, first + size) for contig, first, size in rows], columns=["contig", "start", "end"]
        )
        for number, rows in enumerate(files)
    }
    tracks = IntervalTracks(tables)
    assert tracks.elements == list(tables)
    for contig in ("1", "2", "3"):
        labels = tracks.paint(contig, start, start + length)
        expected = [
            [
                int(any(own == contig and first <= base < first + size for own, first, size in rows))
                for base in range(start, start + length)
            ]
            for rows in files
        ]
        assert labels.dtype == np.uint8
        assert labels.tolist() == expected
        packed = pack_labels(labels)
        bits = ["".join(map(str, row)).ljust(-(-length // 8) * 8, "0") for row in expected]
        assert packed == b"".join(int(row, 2).to_bytes(len(row) // 8, "big") for row in bits)
        assert unpack_labels(packed, len(files), length).tolist() == expected


def test_packed_labels_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"6 bytes of labels; expected 3 elements x 3 bytes \(17 bases\)"):
        unpack_labels(bytes(6), 3, 17)


@pytest.fixture
def genome() -> Iterator[GenomeFiles]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "genome.fa"
        path.write_text(f">20\n{'A' * 100}\n>X\n{'A' * 50}\n>22:11-30\n{'A' * 20}\n")
        with GenomeFiles(path, offsets={"22": 10}) as genome:
            yield genome


def test_contigs_and_regions_of_splits(genome: GenomeFiles) -> None:
    found = split_regions(
        genome,
        {"test": ["chr20:1-40", ("20", 60, 100)], "train": ["X", "chr22"], "validation": [("20", 40, 60)]},
    )
    assert found == [
        SplitRegion("train", "X", 0, 50),
        SplitRegion("train", "22", 10, 30),
        SplitRegion("validation", "20", 40, 60),
        SplitRegion("test", "20", 0, 40),
        SplitRegion("test", "20", 60, 100),
    ]
    assert str(found[-1]) == "20:61-100"


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({}, "no split has a contig"),
        ({"train": []}, "no split has a contig"),
        ({"dev": ["20"]}, "unknown splits dev"),
        ({"train": ["7"]}, "no contig '7' in"),
        ({"train": ["20"], "test": ["chr20"]}, "train 20:1-100 and test 20:1-100 .* share bases"),
        ({"train": ["20", "20:5-9"]}, "train 20:1-100 and train 20:5-9 .* share bases"),
        ({"train": ["20:1-50"], "test": ["20:50-100"]}, "share bases"),
        ({"train": ["20:1-50"], "test": ["20:55-100"]}, "4 bp lie between train 20:1-50 and test 20:55-100"),
        ({"train": ["20:50-101"]}, "train region 20:50-101 .* spans 1-100"),
        ({"train": ["20:50-49"]}, "train region 20:50-49"),
        ({"train": ["22:5-20"]}, "train region 22:5-20 .* spans 11-30"),
    ],
)
def test_splits_that_are_refused(splits: dict, message: str, genome: GenomeFiles) -> None:
    with pytest.raises(ValueError, match=message):
        split_regions(genome, splits, gap_bp=5)
