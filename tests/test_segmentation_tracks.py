"""bigWig files written and read back, values without rounding and with it, and errors that pybigtools only prints."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pybigtools
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omics_transformers.pipelines.segmentation_tracks import (
    TrackPiece,
    bed_line,
    colours_of,
    read_bigwig,
    require_decimals,
    rounded,
    run_starts,
    track_names,
    write_bigwig,
)

values = st.sampled_from([0.0, 0.001, 0.25, 0.999, 1.0, -1.0, -2.5, float("nan")])
pieces = st.lists(st.tuples(st.integers(0, 5), st.lists(values, max_size=20)), min_size=1, max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(pieces)
def test_what_is_written_is_read_back(tmp_path: Path, parts: list[tuple[int, list[float]]]) -> None:
    expected = np.full(400, np.nan, dtype=np.float32)
    track, place = [], 0
    for gap, numbers in parts:
        place += gap
        array = np.array(numbers, dtype=np.float32)
        expected[place : place + len(array)] = array
        track.append(TrackPiece("chr2", place, array))
        place += len(array)
    path = tmp_path / "track.bw"
    if np.isnan(expected).all():
        with pytest.raises(ValueError, match="all bases are N"):
            write_bigwig(path, {"chr2": 400}, track)
        return
    write_bigwig(path, {"chr1": 50, "chr2": 400}, track)
    np.testing.assert_array_equal(read_bigwig(path, "chr2", 0, 400), expected)
    with pybigtools.open(str(path)) as reader:
        assert reader.chroms()["chr2"] == 400
        assert reader.info()["summary"]["basesCovered"] == (~np.isnan(expected)).sum()


def test_neighbours_of_equal_value_share_an_interval(tmp_path: Path) -> None:
    array = np.float32([0.1, 0.1, np.nan, 0.1, 0.2, 0.2])
    write_bigwig(tmp_path / "t.bw", {"1": 100}, [TrackPiece("1", 10, array)])
    with pybigtools.open(str(tmp_path / "t.bw")) as reader:
        found = [(start, end, np.float32(value)) for start, end, value in reader.records("1")]
    assert found == [(10, 12, np.float32(0.1)), (13, 14, np.float32(0.1)), (14, 16, np.float32(0.2))]


def test_where_runs_begin() -> None:
    assert run_starts(np.float32([0.0, np.nan, np.nan, 0.0, 0.0, -1.0, np.nan])).tolist() == [0, 1, 3, 5, 6]
    assert run_starts(np.empty(0, dtype=np.float32)).tolist() == []


def test_contigs_in_any_order_and_the_same_bytes_again(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    track = [TrackPiece(name, 3, generator.random(5_000, dtype=np.float32)) for name in ("chr2", "chr10", "MT")]
    for name in ("one.bw", "two.bw"):
        write_bigwig(tmp_path / name, {"chr1": 9, "chr2": 6_000, "chr10": 7_000, "MT": 5_003}, iter(track))
    assert (tmp_path / "one.bw").read_bytes() == (tmp_path / "two.bw").read_bytes()
    for piece in track:
        np.testing.assert_array_equal(read_bigwig(tmp_path / "one.bw", piece.contig, 3, 5_003), piece.values)
    assert {path.name for path in tmp_path.iterdir()} == {"one.bw", "two.bw"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("good_pieces", [0, 1, 3])
def test_errors_of_the_input_are_not_swallowed(tmp_path: Path, error: type[BaseException], good_pieces: int) -> None:
    def track() -> Iterator[TrackPiece]:
        for number in range(good_pieces):
            yield TrackPiece("1", 10 * number, np.float32([0.5, 0.25]))
        raise error("stopped here")

    (tmp_path / "t.bw").write_bytes(b"what was there before")
    with pytest.raises(error, match="stopped here"):
        write_bigwig(tmp_path / "t.bw", {"1": 1_000}, track())
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"what was there before"]


def test_values_beyond_the_contig_are_an_error(tmp_path: Path) -> None:
    for array in ([0.5, 0.25], [0.5, 0.5]):
        with pytest.raises(OSError, match="value beyond the contig's length"):
            write_bigwig(tmp_path / "t.bw", {"1": 11}, [TrackPiece("1", 10, np.float32(array))])
    assert not list(tmp_path.iterdir())


@given(st.lists(st.floats(0, 1, width=32), min_size=1), st.integers(1, 6))
def test_rounding(numbers: list[float], decimals: int) -> None:
    array = np.float32(numbers)
    found = rounded(array, decimals)
    assert found.dtype == np.float32
    assert np.abs(found.astype(float) - array).max() <= 0.5 * 10**-decimals + 1e-7
    np.testing.assert_array_equal(rounded(found, decimals), found)
    assert rounded(array, None) is array
    assert np.isnan(rounded(np.float32([np.nan]), decimals)).all()


def test_decimals_out_of_range() -> None:
    require_decimals(None)
    for wrong in (0, 7):
        with pytest.raises(ValueError, match=f"decimals is {wrong}: expected 1 to 6, or None"):
            require_decimals(wrong)


def test_names_of_tracks() -> None:
    assert track_names(["5UTR", "CTCF-bound", "a/b c"]) == ["5UTR.bw", "CTCF-bound.bw", "a_b_c.bw"]
    with pytest.raises(ValueError, match="the elements a b, a_B would share a file"):
        track_names(["a b", "a_B", "c"])


def test_lines_of_bed() -> None:
    line = bed_line("chr1", 10, 20, "my exon", 0.7126, "#0072b2")
    assert line == "chr1\t10\t20\tmy_exon\t713\t.\t10\t20\t0,114,178\n"
    assert len(set(colours_of([str(number) for number in range(14)]).values())) == 14
