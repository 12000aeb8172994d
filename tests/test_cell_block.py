"""A block of cells reads as the list of its cells, and becomes the same block again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.training.cell_block import Cell, CellBlock

cells = st.lists(
    st.builds(
        lambda tokens, number, epoch, donor: Cell(np.array(tokens, dtype=np.uint16), number, epoch, donor),
        st.lists(st.integers(0, 2**16 - 1), max_size=9),
        st.integers(0, 2**40),
        st.integers(0, 5),
        st.integers(-1, 3),
    ),
    min_size=1,
    max_size=6,
)


def contents(some: list[Cell]) -> list[tuple]:
    return [(np.asarray(cell.input_ids).tolist(), *cell[1:]) for cell in some]


@given(cells)
def test_a_block_is_the_list_of_its_cells(cells: list[Cell]) -> None:
    block = CellBlock.of(cells)
    assert len(block) == len(cells)
    assert contents(list(block)) == contents([block[place] for place in range(len(cells))]) == contents(cells)
    assert contents(block[1:]) == contents(cells[1:])
    assert contents([block[-1]]) == contents(cells[-1:])
    assert CellBlock.of(block) is block
    assert block.tokens.dtype == np.uint16 or not len(block.tokens)
    with pytest.raises(IndexError):
        block[len(cells)]


def test_columns_are_cells() -> None:
    block = CellBlock.of([{"input_ids": [4, 5], "length": 2, "epoch": 3}, {"input_ids": []}])
    assert contents(list(block)) == [([4, 5], None, 3, -1), ([], None, 0, -1)]
    assert np.issubdtype(block.tokens.dtype, np.integer)
    with pytest.raises(ValueError, match="has the columns tokens and lacks input_ids"):
        CellBlock.of([{"tokens": [1]}])


def test_a_block_with_a_cell_without_a_number_has_none() -> None:
    assert CellBlock.of([Cell([1], 0), Cell([2])]).numbers is None
