"""The passes: how often the model is called and with what, and which embeddings are compared."""

import numpy as np
import pytest
import torch

from omics_transformers.pipelines.perturbation_cell_shift import CellShifts
from omics_transformers.pipelines.perturbation_cells import RankedCells
from omics_transformers.pipelines.perturbation_run import GeneEdit, PerturbationRun, Vocabulary

VOCABULARY = Vocabulary(size=12, num_special_tokens=2, pad_token_id=0, mask_token_id=1)
GENE = 5


class Recorder:
    """Embeddings that tell token and neighbours: one-hot of the token, and the number of tokens of the cell."""

    def __init__(self) -> None:
        self.calls: list[dict[str, torch.Tensor]] = []

    def __call__(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        self.calls.append(inputs)
        one_hot = torch.nn.functional.one_hot(inputs["input_ids"], VOCABULARY.size).float()
        length = inputs["attention_mask"].sum(dim=1)[:, None, None].expand(*inputs["input_ids"].shape, 1)
        return torch.cat([one_hot, length.float()], dim=2)


def make_cells(*cells: list[int], **parts: np.ndarray) -> RankedCells:
    tokens = np.array([token for cell in cells for token in cell])
    return RankedCells(tokens, np.r_[0, np.cumsum([len(cell) for cell in cells])], **parts)


def make_run(cells: RankedCells) -> tuple[PerturbationRun, Recorder]:
    recorder = Recorder()
    return PerturbationRun(recorder, cells, VOCABULARY, torch.device("cpu")), recorder


def expected_shift(before: int, after: int) -> float:
    """1 - cosine of (1, before) and (1, after)."""
    a, b = np.array([1.0, before]), np.array([1.0, after])
    return 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_reference_and_edit_are_one_call_longest_cells_first() -> None:
    run, recorder = make_run(make_cells([GENE, 6], [7, GENE, 6, 8], [GENE], [9, GENE, 8]))
    run.measure(np.arange(4), GeneEdit("mask", GENE), [], batch_size=2)
    assert [call["input_ids"].tolist() for call in recorder.calls] == [
        [[7, 5, 6, 8], [9, 5, 8, 0], [7, 1, 6, 8], [9, 1, 8, 0]],
        [[5, 6], [5, 0], [1, 6], [1, 0]],
    ]
    assert "variant_ids" not in recorder.calls[0]


def test_genes_are_compared_with_themselves_after_a_deletion() -> None:
    run, _ = make_run(make_cells([7, GENE, 6, 8], [GENE, 6]))
    moments, _ = run.measure(np.arange(2), GeneEdit("delete", GENE), [], batch_size=2)
    assert moments.n_cells.tolist() == [0, 0, 0, 0, 0, 0, 2, 1, 1, 0, 0, 0]
    assert moments.mean[7] == pytest.approx(expected_shift(4, 3), rel=1e-6)
    assert moments.mean[6] == pytest.approx((expected_shift(4, 3) + expected_shift(2, 1)) / 2, rel=1e-6)


def test_sham_edits_use_the_cells_that_have_their_gene() -> None:
    run, recorder = make_run(make_cells([7, GENE, 6, 8], [GENE, 6]))
    shams = [GeneEdit("delete", 7), GeneEdit("delete", 6), GeneEdit("delete", 11)]
    moments, sham_moments = run.measure(np.arange(2), GeneEdit("mask", GENE), shams, batch_size=2)
    assert len(recorder.calls) == 3  # one with both passes, two shams; gene 11 is in no cell
    assert moments.mean[6] == pytest.approx(0, abs=1e-12)
    assert sham_moments[0].n_cells.tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0]
    assert sham_moments[0].mean[8] == pytest.approx(expected_shift(4, 3), rel=1e-6)
    assert sham_moments[1].n_cells[[5, 6, 7, 8]].tolist() == [2, 0, 1, 1]
    assert sham_moments[2].n_cells.sum() == 0


def test_variants_of_donors_follow_their_tokens_and_the_edit_comes_last() -> None:
    features = np.arange(12, dtype=np.float32).reshape(4, 3)
    cells = make_cells([7, GENE, 6], [GENE, 8], variant_ids=np.array([3, -1, 1, 1, -1]), variant_features=features)
    run, recorder = make_run(cells)
    new = np.array([9.0, 9.0, 9.0], dtype=np.float32)
    run.measure(np.arange(2), GeneEdit("features", GENE, new), [], batch_size=2)
    run.measure(np.arange(2), GeneEdit("delete", GENE), [], batch_size=2)
    changed, deleted = recorder.calls
    # Only the rows in use are sent: 1 and 3, as 0 and 1.
    assert changed["variant_features"].tolist() == [*features[[1, 3]].tolist(), new.tolist()]
    assert changed["variant_ids"].tolist() == [[1, -1, 0], [0, -1, -1], [1, 2, 0], [2, -1, -1]]
    assert deleted["variant_features"].tolist() == features[[1, 3]].tolist()
    assert deleted["variant_ids"].tolist() == [[1, -1, 0], [0, -1, -1], [1, 0, -1], [-1, -1, -1]]


def test_a_batch_without_any_variant_sends_none() -> None:
    features = np.ones((1, 3), dtype=np.float32)
    cells = make_cells([7, GENE], variant_ids=np.array([-1, -1]), variant_features=features)
    run, recorder = make_run(cells)
    run.measure(np.arange(1), GeneEdit("delete", GENE), [], batch_size=2)
    assert "variant_ids" not in recorder.calls[0]


def test_several_genes_are_edited_together_and_each_gets_its_own_features() -> None:
    run, recorder = make_run(make_cells([7, GENE, 6, 8], [9, 6]))
    first, second = np.full(3, 1, dtype=np.float32), np.full(3, 2, dtype=np.float32)
    edits = [GeneEdit("features", GENE, first), GeneEdit("features", 6, second), GeneEdit("delete", 9)]
    run.measure(np.arange(2), edits, [], batch_size=2)
    (call,) = recorder.calls
    assert call["input_ids"].tolist() == [[7, 5, 6, 8], [9, 6, 0, 0], [7, 5, 6, 8], [6, 0, 0, 0]]
    assert call["variant_features"].tolist() == [[1, 1, 1], [2, 2, 2]]
    assert call["variant_ids"][2:].tolist() == [[-1, 0, 1, -1], [1, -1, -1, -1]]


def test_sham_edits_of_several_genes_need_all_or_any() -> None:
    run, recorder = make_run(make_cells([7, GENE, 6, 8], [GENE, 6]))
    sham = [GeneEdit("delete", 7), GeneEdit("delete", 6)]
    for need_all, cells_edited in ((True, 1), (False, 2)):
        recorder.calls.clear()
        _, (moments,) = run.measure(np.arange(2), GeneEdit("mask", GENE), [sham], batch_size=2, need_all=need_all)
        assert len(recorder.calls[1]["input_ids"]) == cells_edited
        assert moments.n_cells[[5, 6, 7, 8]].tolist() == [cells_edited, 0, 0, 1]


def test_cell_shifts_come_with_their_cells() -> None:
    cells = [[7, GENE, 6, 8], [GENE, 6], [GENE]]
    run, _ = make_run(make_cells(*cells))
    shifts = CellShifts()
    run.measure(np.array([2, 0, 1]), GeneEdit("delete", GENE), [], batch_size=2, cell_shifts=shifts)
    found = shifts.result()
    assert found.cells.tolist() == [0, 1, 2]
    for row, cell in enumerate(cells[:2]):
        states = np.zeros((2, len(cell), VOCABULARY.size + 1))
        for number, tokens in enumerate((cell, [token for token in cell if token != GENE])):
            states[number, np.arange(len(tokens)), tokens] = 1
            states[number, :, -1] = len(tokens)
        before, without = states[0].mean(axis=0), states[0, np.array(cell) != GENE].mean(axis=0)
        after = states[1, : len(cell) - 1].mean(axis=0)
        for column, reference in enumerate((before, without)):
            cosine = reference @ after / np.linalg.norm(reference) / np.linalg.norm(after)
            assert found.shifts[row, column] == pytest.approx(1 - cosine, rel=1e-9)
    assert np.isnan(found.shifts[2]).all()  # no gene is left


def test_without_noise_the_floor_is_zero_and_batches_differ() -> None:
    run, recorder = make_run(make_cells([7, GENE, 6, 8], [GENE, 6], [9, 8]))
    noise = run.measure_noise(np.array([0, 1]), 2, max_length=6)
    assert [call["input_ids"].tolist() for call in recorder.calls] == [
        [[7, 5, 6, 8], [5, 6, 0, 0]] * 2,
        [[5, 6, 0, 0, 0, 0], [7, 5, 6, 8, 0, 0]],
    ]
    assert noise.of_genes(np.arange(12)).max() == 0 and noise.of_cells() == 0 and noise.n_cells == 2


def test_the_mean_embedding_of_cells() -> None:
    run, recorder = make_run(make_cells([7, 6], [6], []))
    found = run.mean_embedding(np.arange(3), 1)
    expected = np.zeros(13)
    expected[[6, 7, 12]] = 0.75, 0.25, 1.5
    np.testing.assert_allclose(found, expected)
    assert run.model_seconds() > 0 and len(recorder.calls) == 1
