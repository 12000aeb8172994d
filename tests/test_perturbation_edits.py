"""Edits of batches against the same edits on plain lists, and what users may write for an edit."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.pipelines.perturbation_edits import (
    Batch,
    DeleteGene,
    EditedBatch,
    RandomMutations,
    ReplaceFeatures,
    ReplaceHaplotypes,
    ReplaceSequence,
    SetRank,
    describe,
    edit_batch,
    follow,
    parse_edit,
)

PAD, MASK, CLS, GENE = 0, 1, 2, 7


def plain_edit(kind: str, cell: list[int], gene: int = GENE, rank: int = 0) -> list[int]:
    """The edit as its definition reads, one cell at a time."""
    if gene not in cell:
        return cell
    if kind == "mask":
        return [MASK if token == gene else token for token in cell]
    others = [token for token in cell if token != gene]
    if kind == "delete":
        return others
    if kind in ("overexpress", "set-rank"):
        front = rank + (1 if cell[0] == CLS else 0)
        return [*others[:front], gene, *others[front:]]
    return cell


@st.composite
def cells(draw: st.DrawFn) -> list[list[int]]:
    found = []
    for _ in range(draw(st.integers(1, 4))):
        others = draw(st.lists(st.integers(8, 30), unique=True, max_size=6))
        place = draw(st.integers(0, len(others)))
        found.append([CLS] * draw(st.booleans()) + [*others[:place], GENE, *others[place:]])
    return found


def make_batch(cells: list[list[int]]) -> Batch:
    longest = max(map(len, cells))
    input_ids = torch.tensor([cell + [PAD] * (longest - len(cell)) for cell in cells])
    attention_mask = torch.tensor([[1] * len(cell) + [0] * (longest - len(cell)) for cell in cells])
    # Each token carries its own id as a variant, so that tests see where variants go.
    return Batch(input_ids, attention_mask, torch.where(attention_mask.bool(), input_ids, -1))


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["delete", "mask", "overexpress", "features"])
@given(cells=cells())
def test_equals_the_edit_of_plain_lists(kind: str, cells: list[list[int]]) -> None:
    batch = make_batch(cells)
    edited, place = edit_batch(kind, batch, GENE, mask_token_id=MASK, num_special_tokens=3, variant_id=99)
    for row, cell in enumerate(cells):
        expected = plain_edit(kind, cell)
        assert edited.input_ids[row, : len(expected)].tolist() == expected
        assert edited.attention_mask[row].tolist() == [1] * len(expected) + [0] * (
            batch.input_ids.shape[1] - len(expected)
        )
        for column, token in enumerate(cell):
            where = int(place[row, column])
            if token == GENE and kind in ("delete", "mask"):
                assert where == -1
            else:
                assert expected[where] == token
                variant = 99 if token == GENE and kind == "features" else token
                assert edited.variant_ids[row, where] == variant


@pytest.mark.parity
@given(cells=cells(), data=st.data())
def test_ranks_equal_those_of_plain_lists(cells: list[list[int]], data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, min(len(cell) - (cell[0] == CLS) for cell in cells) - 1))
    batch = make_batch(cells)
    edited, place = edit_batch("set-rank", batch, GENE, mask_token_id=MASK, num_special_tokens=3, rank=rank)
    for row, cell in enumerate(cells):
        expected = plain_edit("set-rank", cell, rank=rank)
        assert edited.input_ids[row, : len(cell)].tolist() == expected
        assert edited.variant_ids[row, : len(cell)].tolist() == expected
        assert [expected[where] for where in place[row, : len(cell)].tolist()] == cell
        genes = [token for token in expected if token >= 3]
        assert genes[rank] == GENE
    assert torch.equal(edited.attention_mask, batch.attention_mask)


@pytest.mark.parity
@given(cells=cells(), kinds=st.lists(st.sampled_from(["delete", "mask", "overexpress", "set-rank"]), max_size=4))
def test_several_edits_are_made_one_after_the_other(cells: list[list[int]], kinds: list[str]) -> None:
    """Each of another gene, which a cell may lack; what a cell lacks changes nothing in it."""
    batch = make_batch(cells)
    columns = torch.arange(batch.input_ids.shape[1]).expand_as(batch.input_ids)
    edited, expected = EditedBatch(batch, columns), cells
    for gene, kind in zip((GENE, 8, 9, 10), kinds, strict=False):
        step = edit_batch(kind, edited.batch, gene, mask_token_id=MASK, num_special_tokens=3)
        edited = follow(edited, step)
        expected = [plain_edit(kind, cell, gene) for cell in expected]
    for row, (before, after) in enumerate(zip(cells, expected, strict=True)):
        assert edited.batch.input_ids[row, : len(after)].tolist() == after
        assert int(edited.batch.attention_mask[row].sum()) == len(after)
        for column, token in enumerate(before):
            where = int(edited.place[row, column])
            assert where == (after.index(token) if token in after else -1)


def test_a_token_deleted_in_place_is_hidden_and_moves_no_other() -> None:
    batch = make_batch([[8, GENE, 9], [8, 9]])
    edited, place = edit_batch("delete-in-place", batch, GENE, mask_token_id=MASK, num_special_tokens=2)
    assert edited.input_ids.tolist() == [[8, PAD, 9], [8, 9, PAD]]
    assert edited.attention_mask.tolist() == [[1, 0, 1], [1, 1, 0]]
    assert edited.variant_ids.tolist() == [[8, -1, 9], [8, 9, -1]]
    assert place.tolist() == [[0, -1, 2], [0, 1, 2]]


def test_a_deleted_token_leaves_padding_behind() -> None:
    edited, place = edit_batch("delete", make_batch([[8, GENE, 9]]), GENE, mask_token_id=MASK, num_special_tokens=2)
    assert edited.input_ids.tolist() == [[8, 9, PAD]]
    assert edited.attention_mask.tolist() == [[1, 1, 0]]
    assert edited.variant_ids.tolist() == [[8, 9, -1]]
    assert place.tolist() == [[0, -1, 1]]


def test_the_given_batch_is_left_alone() -> None:
    batch = make_batch([[8, GENE, 9]])
    before = [tensor.clone() for tensor in batch]
    for kind in ("delete", "delete-in-place", "mask", "overexpress", "set-rank", "features"):
        edit_batch(kind, batch, GENE, mask_token_id=MASK, num_special_tokens=2, variant_id=3)
    assert all(torch.equal(old, new) for old, new in zip(before, batch, strict=True))


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("delete", "delete"),
        ("mask", "mask"),
        ("overexpress", "overexpress"),
        (DeleteGene(), "delete"),
        ("ACGTNacgtn" * 3, "sequence"),
        ([0.5, 1.0], "features"),
        (np.ones(3), "features"),
        (torch.ones(3, dtype=torch.bfloat16), "features"),
        ({"kind": "random-mutations", "reference_sequence": "ACGT" * 9, "count": 2}, "random-mutations"),
        ({"kind": "features", "features": [1.0, 2.0]}, "features"),
        ("delete-in-place", "delete-in-place"),
        (SetRank(3), "set-rank"),
        ({"kind": "set-rank", "rank": 0}, "set-rank"),
        ({"kind": "haplotypes", "sequences": ["ACGT", "ACGA"], "reference_sequence": "ACGT"}, "haplotypes"),
    ],
)
def test_what_a_user_may_give(given: object, kind: str) -> None:
    edit = parse_edit(given)
    assert edit.kind == kind
    if kind == "features":
        assert edit.features.dtype == np.float32


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("delet", "unknown edit 'delet'.*did you mean 'delete'"),
        ("features", "unknown edit 'features'"),
        (3, "unknown edit '3'"),
        ({"kind": "mutate"}, "unknown edit 'mutate'"),
        ({"kind": "delete", "count": 2}, "does not take these fields.*count"),
        ("set-rank", "unknown edit 'set-rank'"),
        ({"kind": "set-rank"}, "does not take these fields.*rank"),
        ({"kind": "set-rank", "rank": -1}, "the rank to set is -1: give a whole number from 0"),
        ({"kind": "set-rank", "rank": 1.5}, "the rank to set is 1.5"),
        (
            {"kind": "haplotypes", "sequences": ["A"], "reference_sequence": "A"},
            "1 sequences were given for haplotypes",
        ),
    ],
)
def test_what_is_no_edit(given: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_edit(given)


def test_described_without_what_is_long() -> None:
    assert describe(ReplaceFeatures(np.ones(3072, dtype=np.float32))) == {
        "kind": "features",
        "features": "3,072 numbers",
    }
    assert describe(ReplaceSequence("ACGT" * 500)) == {"kind": "sequence", "sequence": "2,000 bp"}
    assert describe(SetRank(7)) == {"kind": "set-rank", "rank": 7}
    assert describe(ReplaceHaplotypes(("ACGT", "AC"), "ACG"))["sequences"] == "4 bp and 2 bp"
    assert describe(RandomMutations("ACGT", count=3, window_bp=2, seed=5)) == {
        "kind": "random-mutations",
        "reference_sequence": "4 bp",
        "count": 3,
        "window_bp": 2,
        "seed": 5,
    }
