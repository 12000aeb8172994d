"""Places of peaks from names and columns: against the parser of data_scripts, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.peak_names import read_peaks
from omics_transformers.pipelines.peak_intervals import read_peak_intervals, share_of_peak_names

CONTIGS = st.sampled_from(["chr1", "1", "chrX", "chr1_KI270706v1_random", "HLA-A*01", "GL000194.1"])
PLACES = st.tuples(CONTIGS, st.integers(0, 2**31), st.integers(1, 10_000), st.sampled_from([":-", "--", "__", ",:-"]))


@pytest.mark.parity
@given(st.lists(PLACES, min_size=1, max_size=8))
def test_equals_the_parser_of_data_scripts(places: list[tuple[str, int, int, str]]) -> None:
    names = []
    for contig, start, length, form in places:
        numbers = [f"{number:,}" if form[0] == "," else str(number) for number in (start, start + length)]
        names.append(f"{contig}{form[-2]}{numbers[0]}{form[-1]}{numbers[1]}")
    found = read_peak_intervals(pd.DataFrame(index=names), "peaks")
    expected = read_peaks(pd.DataFrame(index=names))
    assert found.contig.tolist() == expected["contig"].tolist() == [contig for contig, *_ in places]
    np.testing.assert_array_equal(found.start, expected["start"])
    np.testing.assert_array_equal(found.end, expected["end"])
    assert share_of_peak_names(pd.Index(names)) == 1.0


def test_columns_where_names_tell_nothing() -> None:
    named = pd.DataFrame({"interval": ["chr2:1-5", "chr3:7-9"]}, index=["peak1", "peak2"])
    assert read_peak_intervals(named, "peaks").contig.tolist() == ["chr2", "chr3"]
    placed = pd.DataFrame({"Chrom": ["chr2"], "chromStart": [1.0], "END": [5]}, index=["peak1"])
    found = read_peak_intervals(placed, "peaks")
    assert (found.contig[0], found.start[0], found.end[0]) == ("chr2", 1, 5) and found.start.dtype == np.int64


def test_share_of_names() -> None:
    assert share_of_peak_names(pd.Index(["chr1:1-2", "GATA4", "HLA-A", "AC007325.4"])) == 0.25
    assert share_of_peak_names(pd.Index([])) == 0.0
    assert share_of_peak_names(pd.Index(["chr1:1_2", "chr1-1_2", "chr1:1-", "-1-2"])) == 0.0


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (pd.DataFrame(index=["chr1:1-5", "GATA4"]), r"1 of 2 peaks have a name .* first 'GATA4' \(row 2\)"),
        (
            pd.DataFrame(index=["chr1:5-5"]),
            r"1 peaks end before they begin, the first 'chr1:5-5' \(row 1\), from 5 to 5",
        ),
        (pd.DataFrame({"chr": ["1"], "start": [1.5], "end": [3]}, index=["p"]), "columns start and end hold other"),
        (pd.DataFrame({"chr": ["1"], "start": ["x"], "end": [3]}, index=["p"]), "columns start and end hold other"),
    ],
)
def test_what_is_refused(features: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=f"^here: .*{message}|{message}"):
        read_peak_intervals(features, "here")
