"""What users ask for: genes and edits in each form, and the cells in which they can be made."""

import numpy as np
import pytest

from omics_transformers.pipelines.perturbation_cells import RankedCells
from omics_transformers.pipelines.perturbation_edits import SetRank
from omics_transformers.pipelines.perturbation_request import (
    ChosenCells,
    choose_cells,
    describe_edits,
    described,
    requested_edits,
)
from omics_transformers.pipelines.perturbation_run import GeneEdit

CELLS = [[2, 5, 6, 7], [5, 6], [6, 8, 9], [2], []]  # <cls> 2


def choose(*edits: GeneEdit, require_all: bool = True, sham_edits: tuple[GeneEdit, ...] = ()) -> ChosenCells:
    starts = np.r_[0, np.cumsum([len(cell) for cell in CELLS])]
    cells = RankedCells(np.array([token for cell in CELLS for token in cell]), starts)
    names = [f"G{edit.token_id}" for edit in edits]
    return choose_cells(cells, edits, names, require_all=require_all, num_special_tokens=3, sham_edits=sham_edits)


def test_forms_of_a_request() -> None:
    assert [(name, edit.kind) for name, edit in requested_edits("A", "mask")] == [("A", "mask")]
    assert [(name, edit.kind) for name, edit in requested_edits(("A", "B"))] == [("A", "delete"), ("B", "delete")]
    pairs = requested_edits([("A", SetRank(3)), ["B", [0.5, 1.0]]])
    assert [(name, edit.kind) for name, edit in pairs] == [("A", "set-rank"), ("B", "features")]
    for wrong in ([], 3, [("A",)], ["A", ("B", "mask")], None):
        with pytest.raises(ValueError, match="expected a gene id or symbol, a list of them, or a list of pairs"):
            requested_edits(wrong)


def test_cells_with_all_or_any_of_the_genes() -> None:
    edits = GeneEdit("delete", 5), GeneEdit("delete", 6)
    assert choose(*edits).cells.tolist() == [0, 1]
    found = choose(*edits, require_all=False)
    assert found.cells.tolist() == [0, 1, 2] and found.n_with_each == [2, 3] and found.n_too_short == 0
    with pytest.raises(
        ValueError, match=r"none of the 5 cells expresses what .* \(G7 in 1, G8 in 1\).*require_all=False"
    ):
        choose(GeneEdit("mask", 7), GeneEdit("mask", 8))
    with pytest.raises(ValueError, match=r"\(G10 in 0, G11 in 0\): give cells that do$"):
        choose(GeneEdit("mask", 10), GeneEdit("mask", 11), require_all=False)


@pytest.mark.parametrize(
    ("rank", "others", "chosen"),
    [
        (0, (), [0, 1, 2]),
        (2, (), [0, 2]),
        (1, (GeneEdit("delete", 9),), [0, 2]),
        (1, (GeneEdit("mask", 9),), [0, 1, 2]),
    ],
)
def test_ranks_that_cells_have(rank: int, others: tuple[GeneEdit, ...], chosen: list[int]) -> None:
    """<cls> is no gene, and a gene that another edit takes out has no rank."""
    edits = GeneEdit("set-rank", 6, rank=rank), *others
    found = choose(*edits, require_all=False)
    assert found.cells.tolist() == chosen and found.n_too_short == 3 - len(chosen)
    sham = choose(GeneEdit("mask", 6), sham_edits=(GeneEdit("set-rank", 8, rank=rank),))
    assert set(chosen) <= set(sham.cells.tolist())


def test_no_cell_has_the_rank() -> None:
    with pytest.raises(ValueError, match=r"rank 3 lies beyond the last gene of all 3 cells.* from 0 to 2"):
        choose(GeneEdit("set-rank", 6, rank=3))


def test_descriptions_of_one_and_several() -> None:
    first, second = described(SetRank(1), "A"), described(SetRank(4), "B")
    assert describe_edits([first]) == {"kind": "set-rank", "rank": 1}
    assert describe_edits([first, second]) == {"kind": "set-rank", "edits": [first, second]}
    assert describe_edits([first, {"gene_id": "C", "kind": "mask"}])["kind"] == "several"
