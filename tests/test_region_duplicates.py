"""No base in two regions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.region_duplicates import first_seen

regions = st.lists(
    st.lists(st.tuples(st.integers(1000, 1200), st.integers(1, 30)), min_size=3, max_size=3), max_size=30
)


@given(regions, st.randoms())
def test_against_sets_of_bases(rows: list[list[tuple[int, int]]], random) -> None:  # type: ignore[no-untyped-def]
    order = list(range(len(rows)))
    random.shuffle(order)
    places = np.array(rows, dtype=np.int64).reshape(-1, 3, 2)
    kept = first_seen(places[..., 0], places.sum(axis=2), np.array(order, dtype=np.int64))
    seen: set[int] = set()
    for row in order:
        bases = {base for start, length in rows[row] for base in range(start, start + length)}
        assert kept[row] == (not bases & seen)
        if kept[row]:
            seen |= bases
