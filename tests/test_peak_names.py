"""Names of peaks in every usual form, columns instead of names, and what is refused."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omics_transformers.data_scripts.peak_names import peak_names, read_peaks

contigs = st.from_regex(r"[A-Za-z0-9*]([A-Za-z0-9*.:_-]{0,12}[A-Za-z0-9*.])?", fullmatch=True)
peaks = st.tuples(contigs, st.integers(0, 10**9), st.integers(1, 10**7))
FORMS = {
    "colon": "{contig}:{start}-{end}",
    "hyphen": "{contig}-{start}-{end}",
    "underscore": "{contig}_{start}_{end}",
    "commas": "{contig}:{start:,}-{end:,}",
    "hyphens and commas": "{contig}-{start:,}-{end:,}",
}


def named(names: list[str], **columns: object) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.Index(names, dtype=object))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@given(rows=st.lists(peaks, min_size=1, max_size=8))
@settings(max_examples=30)
def test_what_is_written_is_read(form: str, rows: list[tuple[str, int, int]]) -> None:
    names = [form.format(contig=contig, start=start, end=start + length) for contig, start, length in rows]
    table = read_peaks(named(names))
    expected = [
        [contig, start, start + length, name] for (contig, start, length), name in zip(rows, names, strict=True)
    ]
    assert table.to_numpy().tolist() == expected
    assert table[["start", "end"]].dtypes.tolist() == ["int64", "int64"]
    assert read_peaks(named(peak_names(table).tolist())).drop(columns="name").equals(table.drop(columns="name"))


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("GL000194.1-1-20", ("GL000194.1", 1, 20)),
        ("HLA-A*01-5-10", ("HLA-A*01", 5, 10)),
        ("HLA-A*01:01:01:01:5-10", ("HLA-A*01:01:01:01", 5, 10)),
        ("chr1_KI270706v1_random_5_10", ("chr1_KI270706v1_random", 5, 10)),
        ("chr1_KI270706v1_random:5-10", ("chr1_KI270706v1_random", 5, 10)),
        ("chr1:100,200-1,000,300", ("chr1", 100_200, 1_000_300)),
        ("1-0-1", ("1", 0, 1)),
    ],
)
def test_contigs_may_hold_separators(name: str, place: tuple[str, int, int]) -> None:
    assert tuple(read_peaks(named([name])).iloc[0, :3]) == place


def test_forms_may_be_mixed_and_rows_keep_their_order() -> None:
    table = read_peaks(named(["chr2:5-9", "chr1-5-9", "chr1_1_2"]))
    assert table["contig"].tolist() == ["chr2", "chr1", "chr1"]
    assert table["name"].tolist() == ["chr2:5-9", "chr1-5-9", "chr1_1_2"]


def test_one_based_names_are_converted() -> None:
    table = read_peaks(named(["chr1:1-20", "chr1:30-30"]), coordinates="1-based")
    assert table[["start", "end"]].to_numpy().tolist() == [[0, 20], [29, 30]]
    with pytest.raises(ValueError, match=r"first 'chr1:0-5' \(row 2\), which is \[-1, 5\) when read as 1-based"):
        read_peaks(named(["chr1:1-20", "chr1:0-5"]), coordinates="1-based")
    with pytest.raises(ValueError, match="coordinates is 'one'; expected one of 0-based, 1-based"):
        read_peaks(named(["chr1:1-20"]), coordinates="one")  # type: ignore[arg-type]


def test_columns_serve_where_names_tell_no_place() -> None:
    names = ["peak1", "peak2"]
    by_interval = read_peaks(named(names, interval=["chr1:1-5", "chr1:7-9"]))
    assert by_interval.to_numpy().tolist() == [["chr1", 1, 5, "peak1"], ["chr1", 7, 9, "peak2"]]
    for contig, start, end in (
        ("chrom", "start", "end"),
        ("seqnames", "start", "end"),
        ("Chr", "chromStart", "chromEnd"),
    ):
        columns = {contig: pd.Categorical([1, 2]), start: [1.0, 7.0], end: ["5", "9"]}
        by_columns = read_peaks(named(names, **columns))
        assert by_columns.to_numpy().tolist() == [["1", 1, 5, "peak1"], ["2", 7, 9, "peak2"]]
    with pytest.raises(ValueError, match=r"column 'start' has '1\.5' for peak 'peak2' \(row 2\)"):
        read_peaks(named(names, chrom=["1", "1"], start=[1, 1.5], end=[5, 9]))
    with pytest.raises(ValueError, match=r"column 'end' has 'nan' for peak 'peak1' \(row 1\)"):
        read_peaks(named(names, chrom=["1", "1"], start=[1, 1], end=[np.nan, 9]))


@pytest.mark.parametrize(
    "name",
    ["GATA4", "chr1", "chr1:5", "chr1:5:9", "chr1-5_9", "chr1_5-9", "chr1:1,0-9", ":5-9", "5-9", "", "chr1:5-9.5"],
)
def test_other_names_are_refused_with_row_and_forms(name: str) -> None:
    message = (
        f"file.h5ad: 1 of 3 peaks have a name that tells no place, the first '{name}' (row 2); expected contig:start"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        read_peaks(named(["chr1:5-9", name, "chr1:10-12"]), source="file.h5ad")


@pytest.mark.parametrize(
    ("name", "place"),
    [("chr1:-5-9", "[-5, 9)"), ("chr1:9-9", "[9, 9)"), ("chr1_9_5", "[9, 5)"), ("chr1--5-9", "[-5, 9)")],
)
def test_places_that_cannot_be_are_refused(name: str, place: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"the first '{name}' (row 2), which is {place}")):
        read_peaks(named(["chr1:5-9", name, name]))


def test_no_peaks_are_an_empty_table() -> None:
    assert read_peaks(named([])).columns.tolist() == ["contig", "start", "end", "name"]
