"""Merged intervals and regions across files against bioframe and against sets of bases."""

import bioframe
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.interval_regions import cluster_intervals, merge_intervals, regions_across

interval = st.tuples(st.sampled_from(["2", "10", "X"]), st.integers(0, 60), st.integers(1, 12))


def make_table(rows: list[tuple[str, int, int]]) -> pd.DataFrame:
    table = pd.DataFrame([(contig, start, start + length) for contig, start, length in rows])
    return table.set_axis(["contig", "start", "end"], axis=1)


@pytest.mark.parity
@given(st.lists(interval, min_size=1, max_size=25))
def test_merging_agrees_with_bioframe(rows: list[tuple[str, int, int]]) -> None:
    table = make_table(rows)
    found = merge_intervals(table)
    expected = bioframe.merge(table, min_dist=None, cols=("contig", "start", "end"))
    expected = expected.sort_values(["contig", "start"])[["contig", "start", "end"]]
    assert found.to_numpy().tolist() == expected.to_numpy().tolist()


@given(st.lists(st.lists(interval, min_size=1, max_size=8), min_size=1, max_size=4))
def test_regions_count_the_files_present(files: list[list[tuple[str, int, int]]]) -> None:
    """Regions grown by joining sets of bases until nothing more joins."""
    bases = [
        (contig, set(range(start, start + length)), {number})
        for number, rows in enumerate(files)
        for contig, start, length in rows
    ]
    merged: list[tuple[str, set[int], set[int]]] = []
    for contig, covered, present in bases:
        joined = [one for one in merged if one[0] == contig and one[1] & covered]
        merged = [one for one in merged if one not in joined]
        for _, others, files_of_others in joined:
            covered, present = covered | others, present | files_of_others
        merged.append((contig, covered, present))
    expected = sorted((contig, min(one), max(one) + 1, len(present)) for contig, one, present in merged)
    found = regions_across([make_table(rows) for rows in files])
    assert list(found.itertuples(index=False, name=None)) == expected


@given(st.lists(interval, min_size=1, max_size=25))
def test_each_interval_lies_in_its_region(rows: list[tuple[str, int, int]]) -> None:
    table = make_table(rows)
    region, regions = cluster_intervals(table)
    own = regions.iloc[region].reset_index(drop=True)
    assert (own["contig"] == table["contig"]).all()
    assert ((own["start"] <= table["start"]) & (table["end"] <= own["end"])).all()
    assert set(region) == set(range(len(regions)))


def test_touching_intervals_are_two_regions() -> None:
    table = make_table([("1", 0, 5), ("1", 5, 5)])
    assert len(merge_intervals(table)) == 2


def test_no_intervals() -> None:
    assert merge_intervals(make_table([("1", 0, 5)])[:0]).empty
    assert regions_across([make_table([("1", 0, 5)])[:0]]).empty
