"""Windows of Parquet against the tracks they are painted from, and their counts against the bits."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omics_transformers.data_scripts import segment_writer
from omics_transformers.data_scripts.genome_files import GenomeFiles
from omics_transformers.data_scripts.segment_windows import IntervalTracks, SplitRegion, unpack_labels
from omics_transformers.data_scripts.segment_writer import SEGMENT_SCHEMA, SegmentWriter

pieces = st.lists(st.sampled_from(["ACGT" * 6, "GATTACA", "N" * 13, "N"]), max_size=20)
spans = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 40)), max_size=6)


def tracks(**spans: list[tuple[int, int]]) -> IntervalTracks:
    return IntervalTracks(
        {
            name: pd.DataFrame([("1", start, start + size) for start, size in rows], columns=["contig", "start", "end"])
            for name, rows in spans.items()
        }
    )


def covers(rows: list[tuple[int, int]], base: int) -> bool:
    return any(start <= base < start + size for start, size in rows)


@settings(max_examples=60)
@given(
    pieces.map(lambda drawn: "".join(drawn).ljust(200, "C")[:200]),
    spans,
    spans,
    spans,
    st.integers(3, 40),
    st.integers(2, 50),
    st.sampled_from(["drop", "keep"]),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    st.integers(1, 100),
)
def test_windows_and_counts(
    sequence: str, a: list, b: list, blacklist: list, window_bp: int, step_bp: int, ends: str, most: float, group: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment_writer, "_BASES_A_GROUP", group)
        (Path(folder) / "genome.fa").write_text(f">1\n{sequence}\n")
        with GenomeFiles(Path(folder) / "genome.fa") as genome:
            writer = SegmentWriter(
                genome, tracks(a=a, b=b), tracks(blacklist=blacklist), window_bp, step_bp, ends, most
            )
            regions = [SplitRegion("train", "1", 0, 90), SplitRegion("train", "1", 100, 200)]
            counts = writer.write(Path(folder) / "x.parquet", regions)
        table = pq.read_table(Path(folder) / "x.parquet")
    assert table.schema == SEGMENT_SCHEMA
    positives, n_bases, n_masked, places = np.zeros(2, dtype=int), 0, 0, []
    for row in table.to_pylist():
        bases = range(row["start"], row["end"])
        assert row["sequence"] == sequence[row["start"] : row["end"]]
        labels = unpack_labels(row["labels"], 2, len(bases))
        assert labels.tolist() == [[int(covers(rows, base)) for base in bases] for rows in (a, b)]
        expected = [int(covers(blacklist, base) or sequence[base] == "N") for base in bases]
        ignored = unpack_labels(row["ignored"], 1, len(bases))[0] if row["ignored"] else np.zeros(len(bases), int)
        assert ignored.tolist() == expected
        assert bool(row["ignored"]) == any(expected)
        assert sum(expected) <= most * len(bases)
        positives += (labels * (1 - ignored)).sum(axis=1, dtype=int)
        n_bases, n_masked = n_bases + len(bases) - sum(expected), n_masked + sum(expected)
        places.append((row["start"], row["end"]))
        assert any(region.start <= row["start"] and row["end"] <= region.end for region in regions)
    assert places == sorted(set(places))
    assert counts.positives.tolist() == positives.tolist()
    assert (counts.windows, counts.bases, counts.masked) == (len(places), n_bases, n_masked)
    starts = [start for region in regions for start in range(region.start, region.end - window_bp + 1, step_bp)]
    whole = counts.windows + counts.dropped_n + counts.dropped_blacklisted
    assert whole == len(starts) if ends == "drop" else len(starts) <= whole <= len(starts) + 2
    too_many = [start for start in starts if sequence[start : start + window_bp].count("N") > most * window_bp]
    if ends == "drop":
        assert counts.dropped_n == len(too_many)


def test_rows_are_written_in_groups_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_writer, "_BASES_A_GROUP", 50)
    (tmp_path / "genome.fa").write_text(f">1\n{'A' * 200}\n")
    with GenomeFiles(tmp_path / "genome.fa") as genome:
        writer = SegmentWriter(genome, tracks(a=[(0, 5)]), tracks(blacklist=[(100, 100)]), 10, 10)
        counts = writer.write(tmp_path / "x.parquet", [SplitRegion("train", "1", 0, 200)])
    metadata = pq.ParquetFile(tmp_path / "x.parquet").metadata
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [5, 5]
    assert (counts.windows, counts.dropped_n, counts.dropped_blacklisted) == (10, 0, 10)


@pytest.mark.parametrize(("most", "kept"), [(0.4, [0]), (0.5, [0, 10]), (0.6, [0, 10, 20])])
def test_a_window_may_have_just_the_share_masked(most: float, kept: list[int], tmp_path: Path) -> None:
    (tmp_path / "genome.fa").write_text(f">1\n{'A' * 10 + 'A' * 5 + 'N' * 5 + 'A' * 4 + 'N' * 6}\n")
    with GenomeFiles(tmp_path / "genome.fa") as genome:
        writer = SegmentWriter(genome, tracks(a=[(0, 5)]), tracks(blacklist=[]), 10, 10, "drop", most)
        counts = writer.write(tmp_path / "x.parquet", [SplitRegion("train", "1", 0, 30)])
    assert pq.read_table(tmp_path / "x.parquet")["start"].to_pylist() == kept
    assert counts.dropped_n == 3 - len(kept)
