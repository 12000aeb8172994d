"""Sorting and overlaps, against pairs compared one by one."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.disjoint_peaks import make_disjoint, natural_key

COLUMNS = ["contig", "start", "end", "name"]
rows = st.tuples(st.sampled_from(["chr1", "chr2", "chr10", "X"]), st.integers(0, 30), st.integers(1, 8))


def table_of(rows: list[tuple[str, int, int]]) -> pd.DataFrame:
    return pd.DataFrame([(c, s, s + n, f"p{i}") for i, (c, s, n) in enumerate(rows)], columns=COLUMNS)


def naive_regions(peaks: pd.DataFrame) -> list[set[int]]:
    """Sets of peaks that overlap directly or through others."""
    regions: list[set[int]] = []
    for i in range(len(peaks)):
        a = peaks.iloc[i]
        touching = [
            region
            for region in regions
            if any(
                a["contig"] == b["contig"] and a["start"] < b["end"] and b["start"] < a["end"]
                for b in (peaks.iloc[j] for j in region)
            )
        ]
        regions = [region for region in regions if region not in touching] + [{i}.union(*touching)]
    return regions


@given(st.lists(rows, min_size=1, max_size=10), st.integers(0, 2))
def test_merge_and_drop(rows: list[tuple[str, int, int]], n_types: int) -> None:
    peaks, regions = table_of(rows), naive_regions(table_of(rows))
    means = np.random.default_rng(0).integers(1, 9, (n_types, len(peaks))).astype(float)
    order = {"chr1": 0, "chr2": 1, "chr10": 2, "X": -1}
    expected = []
    for region in regions:
        part = peaks.iloc[sorted(region)].sort_values(["start", "end"], kind="stable")
        names = part["name"].tolist()
        name = ";".join([*names[:3], "..."] if len(names) > 3 else names)
        place = (part["contig"].iloc[0], int(part["start"].min()), int(part["end"].max()), name)
        expected.append((*place, means[:, sorted(region)].sum(axis=1).tolist()))
    expected.sort(key=lambda row: (order[row[0]], row[1]))
    merged, added, report = make_disjoint(peaks, means, overlapping="merge")
    assert [tuple(row) for row in merged.to_numpy().tolist()] == [row[:4] for row in expected]
    assert added.T.tolist() == [row[4] for row in expected]
    n_overlapping = sum(len(region) for region in regions if len(region) > 1)
    assert report["peaks that overlap"] == n_overlapping
    left, kept, _ = make_disjoint(peaks, means, overlapping="drop")
    alone = {next(iter(region)) for region in regions if len(region) == 1}
    assert {int(name[1:]) for name in left["name"]} == alone
    assert kept.tolist() == means[:, [int(name[1:]) for name in left["name"]]].tolist()
    if n_overlapping:
        with pytest.raises(ValueError, match=f"{n_overlapping} of {len(peaks)} peaks overlap another"):
            make_disjoint(peaks, means)
    else:
        assert make_disjoint(peaks, means)[0].equals(left)


def test_what_is_out_of_order_is_sorted_and_counted() -> None:
    peaks = table_of([("chr10", 5, 1), ("chr2", 9, 1), ("chr2", 3, 1), ("chr10", 1, 1), ("chr10", 7, 1)])
    table, means, report = make_disjoint(peaks, np.arange(5.0)[None])
    assert table["name"].tolist() == ["p2", "p1", "p3", "p0", "p4"]
    assert means.tolist() == [[2, 1, 3, 0, 4]]
    assert report == {"peaks out of order, sorted": 2, "peaks that overlap": 0}


def test_the_first_pair_is_named_and_touching_is_no_overlap() -> None:
    peaks = table_of([("chr1", 0, 5), ("chr1", 5, 5), ("chr2", 9, 5), ("chr2", 7, 3), ("chr2", 30, 1), ("chr2", 30, 1)])
    message = r"a\.bed: 4 of 6 peaks overlap another, the first 'p3' \(chr2:7-10\) and 'p2' \(chr2:9-14\); .*'merge'"
    with pytest.raises(ValueError, match=message):
        make_disjoint(peaks, np.zeros((0, 6)), source="a.bed")
    merged, means, report = make_disjoint(peaks, np.ones((1, 6)), overlapping="merge")
    assert merged["name"].tolist() == ["p0", "p1", "p3;p2", "p4;p5"]
    assert means.tolist() == [[1, 1, 2, 2]]
    assert report["peaks made of several"] == 2


def test_settings_are_checked() -> None:
    peaks = table_of([("chr1", 0, 5)])
    with pytest.raises(ValueError, match="overlapping is 'join'; expected one of error, merge, drop"):
        make_disjoint(peaks, np.zeros((0, 1)), overlapping="join")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"means has the shape \(1, 2\); expected \(types, 1\)"):
        make_disjoint(peaks, np.zeros((1, 2)))


def test_contigs_sort_as_people_sort_them() -> None:
    contigs = ["chr1", "chr2", "chr2_KI270706v1_random", "chr10", "chrM", "chrX"]
    assert sorted(sorted(contigs), key=natural_key) == contigs
