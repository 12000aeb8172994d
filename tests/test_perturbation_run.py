"""The passes: how often the model is called and with what, and which embeddings are compared."""

import numpy as np
import pytest
import torch

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
