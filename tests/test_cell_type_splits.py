"""Splits of cells: shares of each type, whole groups, few shots; the same cells alike in any order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omics_transformers.training.cell_type_splits import CellTypeSplit, SplitCells, seeded_hash, split_cells

NAMES = ["B", "NK", "T"]


def cells(sizes: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    types = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    return np.array([f"set\x1fcell{number}" for number in range(len(types))], dtype=object), types


def parts(split: SplitCells) -> list[np.ndarray]:
    return [split.training, split.validation, split.test]


@given(
    sizes=st.lists(st.integers(2, 60), min_size=2, max_size=5),
    seed=st.integers(0, 10**6),
    test_share=st.floats(0.05, 0.5),
    validation_share=st.sampled_from([0.0, 0.1, 0.3]),
)
@settings(max_examples=60, deadline=None)
def test_each_type_is_in_each_part_by_its_share(
    sizes: list[int], seed: int, test_share: float, validation_share: float
) -> None:
    keys, types = cells(sizes)
    names = [str(one) for one in range(len(sizes))]
    found = split_cells(CellTypeSplit("cell", test_share, validation_share), keys, types, type_names=names, seed=seed)
    assert np.array_equal(np.sort(np.concatenate(parts(found))), np.arange(len(types)))
    for kind, size in enumerate(sizes):
        training, validation, test = (int((types[part] == kind).sum()) for part in parts(found))
        assert test == min(max(round(test_share * size), 1), size - 1)
        expected = max(round(validation_share * size), 1) if validation_share else 0
        assert validation == min(expected, size - test - 1)
        assert training >= 1
    assert found.report["unseen_in_training"] == {}


def test_a_function_of_the_cells_and_the_seed_alone() -> None:
    keys, types = cells([30, 20, 10])
    split = CellTypeSplit()
    first = split_cells(split, keys, types, type_names=NAMES, seed=3)
    order = np.random.default_rng(1).permutation(len(keys))
    other = split_cells(split, keys[order], types[order], type_names=NAMES, seed=3)
    for one, another in zip(parts(first), parts(other), strict=True):
        assert set(keys[one]) == set(keys[order][another])
    with_seed_4 = split_cells(split, keys, types, type_names=NAMES, seed=4)
    assert set(keys[first.test]) != set(keys[with_seed_4.test])


def test_hashes_are_the_same_on_every_machine() -> None:
    keys = np.array(["set\x1fa", "set\x1fb"], dtype=object)
    assert seeded_hash(keys, 0).tolist() == [17928732864309130256, 1769167903534295365]
    assert seeded_hash(keys, 1).tolist() != seeded_hash(keys, 0).tolist()


def test_few_shots_are_nested_and_leave_the_test_cells_alone() -> None:
    keys, types = cells([40, 30, 12])
    by_number = {
        number: split_cells(CellTypeSplit(), keys, types, type_names=NAMES, seed=0, cells_per_type=number)
        for number in (2, 5, 20, None)
    }
    assert [np.bincount(types[by_number[number].training]).tolist() for number in (2, 5, 20)] == [
        [2, 2, 2],
        [5, 5, 5],
        [20, 20, 9],
    ]
    assert np.bincount(types[by_number[2].validation]).tolist() == [2, 2, 1]
    for fewer, more in ((2, 5), (5, 20), (20, None)):
        assert set(by_number[fewer].training) <= set(by_number[more].training)
        assert np.array_equal(by_number[fewer].test, by_number[more].test)
    assert by_number[20].report["short_of_cells_per_type"] == ["T"]
    assert by_number[5].report["short_of_cells_per_type"] == []


@pytest.mark.parametrize("seed", range(5))
def test_whole_donors_are_held_out(seed: int) -> None:
    keys, types = cells([40, 40, 20])
    donors = np.array([f"donor{number % 7}" for number in range(100)], dtype=object)
    found = split_cells(CellTypeSplit("donor", 0.3, 0.1), keys, types, donors, type_names=NAMES, seed=seed)
    of_part = [set(donors[part]) for part in parts(found)]
    assert [len(some) for some in of_part] == [4, 1, 2]
    assert len(set.union(*of_part)) == 7


def test_types_that_only_held_out_donors_have_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    keys, donors = cells([30])[0], np.repeat(["d0", "d1", "d2"], 10).astype(object)
    split = CellTypeSplit("donor", 0.3, 0.3)
    held_out = [
        name
        for name in ("d0", "d1", "d2")
        if donors[split_cells(split, keys, np.arange(30) % 2, donors, type_names=NAMES, seed=0).test[0]] == name
    ]
    types = np.where(donors == held_out[0], 2, np.arange(30) % 2)
    found = split_cells(split, keys, types, donors, type_names=NAMES, seed=0)
    assert found.report["unseen_in_training"] == {"T": 10}
    assert "types unseen in training count as wrong" in caplog.text


@pytest.mark.parametrize(
    ("sizes", "groups", "options", "message"),
    [
        (
            [20, 1, 1],
            None,
            {},
            "2 cell types have a single cell, which cannot both be learned and tested: NK, T",
        ),
        ([20, 5, 5], 2, {"by": "donor"}, "the cells are of 2 donors (g0, g1): expected 3 or more"),
        ([20, 5, 5], 1, {"by": "batch", "validation_share": 0}, "the cells are of 1 batches (g0): expected 2 or more"),
        ([20, 0, 0], None, {}, "the 14 training cells are of 1 types: expected two or more"),
        ([20, 5, 5], None, {"cells_per_type": 0}, "cells_per_type is 0: expected 1 or more"),
        ([20, 5, 5], None, {"seed": -1}, "seed is -1: expected 0 to"),
    ],
)
def test_what_cannot_be_split_is_refused(sizes: list[int], groups: int | None, options: dict, message: str) -> None:
    keys, types = cells(sizes)
    of_groups = None if groups is None else np.array([f"g{n % groups}" for n in range(len(keys))], dtype=object)
    others = {name: options.pop(name) for name in ("cells_per_type", "seed") if name in options}
    with pytest.raises(ValueError) as error:
        split_cells(CellTypeSplit(**options), keys, types, of_groups, type_names=NAMES, **({"seed": 0} | others))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "tissue"}, "split_by is 'tissue': expected one of cell, donor, batch, dataset"),
        ({"test_share": 0}, "test_share is 0 and validation_share 0.1: expected shares, the first above 0"),
        ({"test_share": 0.8, "validation_share": 0.2}, "leave no cells to train on"),
        ({"rare_classes": "keep"}, "rare_classes is 'keep': expected error or drop"),
    ],
)
def test_other_settings_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError) as error:
        CellTypeSplit(**options)
    assert message in str(error.value)
