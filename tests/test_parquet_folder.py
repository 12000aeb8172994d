"""Columns seen as arrays against Arrow's own values, over chunks and slices; folders that cannot be read."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.training.parquet_folder import (
    COMPLEMENT,
    BytesColumn,
    BytesListColumn,
    NumberListColumn,
    encode_names,
    evenly_spaced,
    load_splits,
    read_description,
)

texts = st.text("ACGTN", min_size=1, max_size=9)
lists = st.lists(st.lists(texts, min_size=1, max_size=4), min_size=1, max_size=12)


def chunked(values: list, kind: pa.DataType, at: int) -> pa.ChunkedArray:
    """Two chunks, the second a slice that does not begin at the start of its buffers."""
    at = min(at, len(values))
    whole = pa.array([*values, *values], kind)
    return pa.chunked_array([whole[:at], whole[at : len(values)]], kind)


@given(st.lists(texts, min_size=1, max_size=12), st.integers(0, 12), st.sampled_from([pa.string(), pa.large_string()]))
def test_strings_are_those_of_arrow(values: list[str], at: int, kind: pa.DataType) -> None:
    column = BytesColumn(chunked(values, kind, at))
    assert [column[row].tobytes().decode() for row in range(len(values))] == values
    assert column.lengths().tolist() == [len(value) for value in values]
    assert column.count_of(ord("N")).tolist() == [value.count("N") for value in values]


@given(lists, st.integers(0, 12), st.sampled_from([pa.list_(pa.string()), pa.large_list(pa.large_string())]))
def test_lists_of_strings_are_those_of_arrow(values: list[list[str]], at: int, kind: pa.DataType) -> None:
    column = BytesListColumn(chunked(values, kind, at))
    assert [[one.tobytes().decode() for one in column[row]] for row in range(len(values))] == values
    assert column.sizes().tolist() == [len(value) for value in values]
    assert column.lengths().tolist() == [len(text) for value in values for text in value]
    assert column.count_of(ord("N")).tolist() == [text.count("N") for value in values for text in value]


@given(st.lists(st.lists(st.integers(-9, 9), max_size=4), min_size=1, max_size=12), st.integers(0, 12))
def test_lists_of_numbers_are_those_of_arrow(values: list[list[int]], at: int) -> None:
    column = NumberListColumn(chunked(values, pa.list_(pa.float32()), at))
    assert [column[row].tolist() for row in range(len(values))] == values
    assert column.sizes().tolist() == [len(value) for value in values]
    assert column.values().tolist() == [number for value in values for number in value]
    assert column.values().dtype == np.float32


def test_missing_values_are_refused() -> None:
    with pytest.raises(ValueError, match="1 windows have no value in a column of type string"):
        BytesColumn(pa.chunked_array([["A", None]]))
    for values in ([["A"], None], [["A", None]]):
        with pytest.raises(ValueError, match="1 rows have no value"):
            BytesListColumn(pa.chunked_array([values]))


def test_names_are_numbered_over_chunks() -> None:
    numbers, names = encode_names(pa.chunked_array([["b", "a"], ["a", "c"]]))
    assert [names[number] for number in numbers] == ["b", "a", "a", "c"]


def test_complement_turns_letters_and_leaves_others() -> None:
    assert COMPLEMENT[np.frombuffer(b"ACGTNacgtn", dtype=np.uint8)].tobytes() == b"TGCANtgcan"


@given(st.integers(1, 50), st.integers(1, 60))
def test_evenly_spaced_numbers_reach_from_end_to_end(many: int, most: int) -> None:
    chosen = evenly_spaced(np.arange(many), most, option="test_rows")
    assert len(chosen) == min(many, most) == len(set(chosen.tolist()))
    assert chosen[0] == 0 and (most == 1 or chosen[-1] == many - 1)
    steps = np.diff(chosen)
    assert not len(steps) or steps.max() - steps.min() <= 1


def test_none_is_all_and_nought_is_refused() -> None:
    np.testing.assert_array_equal(evenly_spaced(np.arange(5), None, option="test_rows"), np.arange(5))
    with pytest.raises(ValueError, match="test_rows is 0: expected a positive number, or none for all rows"):
        evenly_spaced(np.arange(5), 0, option="test_rows")


def test_says_what_a_folder_lacks(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder of regions at .*absent: expected one that `build regions`"):
        read_description(tmp_path / "absent", "regions.json", "build regions")
    with pytest.raises(FileNotFoundError, match=r"has no regions\.json"):
        read_description(tmp_path, "regions.json", "build regions")
    (tmp_path / "regions.json").write_text("{")
    with pytest.raises(ValueError, match=r"regions\.json is no JSON"):
        read_description(tmp_path, "regions.json", "build regions")
    (tmp_path / "regions.json").write_text(json.dumps({"a": 1}))
    assert read_description(tmp_path, "regions.json", "build regions") == {"a": 1}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-00000-of-00001.parquet").write_bytes(b"no Parquet")
    with pytest.raises(ValueError, match=r"cannot be read .*: `build regions` again"):
        load_splits(tmp_path, "build regions")


def test_folders_of_one_name_and_folders_that_change_are_told_apart(tmp_path: Path) -> None:
    for place, numbers in (("one", [1, 2]), ("two", [3]), ("one", [4, 5, 6])):
        data = tmp_path / place / "same_name" / "data"
        data.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"number": numbers}), data / "train-00000-of-00001.parquet")
        assert list(load_splits(data.parent, "build segments")["train"]["number"]) == numbers
