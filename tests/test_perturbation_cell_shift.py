"""Means of cells, their shifts and moves by plain numpy, and the table of cells."""

import numpy as np
import pytest
import torch

from omics_transformers.pipelines.perturbation_cell_shift import CellShifts, Goal, cell_means, cell_table
from omics_transformers.pipelines.perturbation_edits import Batch


def test_means_are_over_genes_alone() -> None:
    input_ids = torch.tensor([[2, 5, 6, 0], [7, 5, 1, 8], [5, 0, 0, 0]])  # <cls> 2, <mask> 1, <pad> 0
    batch = Batch(input_ids, (input_ids > 0).long(), torch.full_like(input_ids, -1))
    states = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = cell_means(states, batch, torch.tensor([5, 8]), 3).numpy()
    plain = states.double().numpy()
    expected = [(plain[0, 1:3], plain[0, 2:3]), (plain[1, [0, 1, 3]], plain[1, :1]), (plain[2, :1], plain[2, :0])]
    for row, groups in enumerate(expected):
        for column, group in enumerate(groups):
            if len(group):
                np.testing.assert_allclose(found[row, column], group.mean(axis=0), rtol=1e-12)
            else:
                assert np.isnan(found[row, column]).all()


def test_shifts_and_moves_in_any_order_of_batches() -> None:
    generator = np.random.default_rng(0)
    before, after = generator.normal(size=(2, 6, 2, 4))
    way = generator.normal(size=4)
    shifts = CellShifts(torch.from_numpy(way))
    for cells in ([4, 0, 5], [2, 3], [1]):
        shifts.add(np.array(cells), torch.from_numpy(before[cells]), torch.from_numpy(after[cells]))
    found = shifts.result()
    assert found.cells.tolist() == list(range(6))
    lengths = np.linalg.norm(before, axis=2) * np.linalg.norm(after, axis=2)
    np.testing.assert_allclose(found.shifts, 1 - (before * after).sum(axis=2) / lengths)
    np.testing.assert_allclose(found.projections, (after - before) @ way / (way @ way))
    whole = CellShifts(torch.from_numpy(way))
    whole.add(np.arange(6), torch.from_numpy(before), torch.from_numpy(before + way))
    np.testing.assert_allclose(whole.result().projections, 1)  # the whole way


def test_the_table_names_cells_and_their_state() -> None:
    shifts = CellShifts(torch.tensor([1.0, 0.0]))
    shifts.add(np.array([3, 1]), torch.ones(2, 2, 2), torch.tensor([[[1.5, 1.0]] * 2, [[1.0, 1.0]] * 2]))
    n_genes, names = np.array([4, 5, 6, 7]), np.array(["a", "b", "c", "d"])
    masks = np.array([False, True, False, False]), np.array([True, False, False, False])
    goal = Goal(torch.tensor([1.0, 0.0]), *masks)
    table = cell_table(shifts.result(), n_genes, names, noise_floor=0.25, goal=goal)
    assert table["cell"].tolist() == [1, 3] and table["name"].tolist() == ["b", "d"]
    assert table["n_genes"].tolist() == [5, 7] and table["state"].tolist() == ["start", ""]
    assert table["toward_goal"].tolist() == [0, 0.5] and (table["noise_floor"] == 0.25).all()
    plain = cell_table(shifts.result(), n_genes, None)
    assert plain["name"].tolist() == ["1", "3"] and "state" not in plain
    assert plain["shift"][0] == pytest.approx(0, abs=1e-12) and plain["shift"][1] > 0


def test_no_cells_at_all() -> None:
    found = CellShifts().result()
    assert len(found.cells) == 0 and found.shifts.shape == found.projections.shape == (0, 2)
