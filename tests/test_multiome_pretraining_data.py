"""Cells of each use: kinds, data sets, what is held out; batches of training and of evaluation."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omics_transformers.training.modality_sampler import CellDraw
from omics_transformers.training.multiome_data import MultiomeFolder, read_multiome
from omics_transformers.training.multiome_pretraining_arguments import MultiomeDataArguments
from omics_transformers.training.multiome_pretraining_data import (
    NOT_COUNTED,
    EvaluationBatches,
    MultiomeDataset,
    MultiomePretrainingData,
    prepare_multiome_data,
    some_of,
)


@pytest.fixture(scope="module")
def folder(toy_multiome: Path) -> MultiomeFolder:
    return read_multiome(toy_multiome)


def prepare(folder: MultiomeFolder, seed: int = 0, **changes: Any) -> MultiomePretrainingData:
    return prepare_multiome_data(MultiomeDataArguments(**changes), folder, seed=seed)


def sizes(data: MultiomePretrainingData) -> dict[str, dict[str, int]]:
    return {kind: {name: len(rows) for name, rows in parts.items()} for kind, parts in data.training.items()}


def test_kinds_and_data_sets(folder: MultiomeFolder) -> None:
    data = prepare(folder, validation_share=0.0)
    assert sizes(data) == {"rna": {"rna-only": 120}, "atac": {"atac-only": 80}, "both": {"paired": 120}}
    assert data.modalities == ["rna", "atac"] and (data.validation, data.held_out) == ({}, {})
    assert sizes(prepare(folder, validation_share=0.0, split_paired="always")) == {
        "rna": {"rna-only": 120, "paired": 120},
        "atac": {"atac-only": 80, "paired": 120},
        "both": {"paired": 120},
    }
    only = prepare(folder, validation_share=0.0, kinds=["rna"])
    assert sizes(only) == {"rna": {"rna-only": 120}} and only.modalities == ["rna"]
    assert only.report["cells_not_used"] == 200
    assert list(prepare(folder, kinds=["both", "atac"]).training) == ["both", "atac"]  # in the order that is asked for
    assert only.training_rows("rna").tolist() == list(range(120))


def test_paired_cells_serve_alone_where_none_else_do(folder: MultiomeFolder) -> None:
    held_out: dict[str, Any] = {"held_out_datasets": ["rna-only"], "validation_share": 0.0}
    data = prepare(folder, **held_out)
    assert sizes(data) == {"rna": {"paired": 120}, "atac": {"atac-only": 80}, "both": {"paired": 120}}
    assert {kind: len(rows) for kind, rows in data.held_out.items()} == {"rna": 120}
    assert data.report["cells_of_held_out_datasets"] == 120
    assert list(prepare(folder, **held_out, split_paired="never").training) == ["atac", "both"]
    apart = prepare(folder, held_out_datasets=["paired"], validation_share=0.0)
    assert {kind: len(rows) for kind, rows in apart.held_out.items()} == {"rna": 120, "atac": 120}
    with pytest.raises(
        ValueError, match=r"no cells to train on of the kind both: 240 cells have RNA, 200 ATAC and 120"
    ):
        prepare(folder, held_out_datasets=["paired"], kinds=["rna", "both"])


def test_validation_cells_are_of_each_data_set_and_in_no_other_use(folder: MultiomeFolder) -> None:
    data = prepare(folder, validation_share=0.1, split_paired="always")
    validation = np.unique(np.concatenate(list(data.validation.values())))
    training = np.unique(np.concatenate([part for of in data.training.values() for part in of.values()]))
    assert not np.isin(validation, training).any() and len(validation) + len(training) == 320
    assert np.bincount(folder.cells.dataset_of[validation]).tolist() == [12, 8, 12]
    again, other = (prepare(folder, seed, validation_share=0.1, split_paired="always") for seed in (0, 1))
    assert np.array_equal(again.validation["both"], data.validation["both"])
    assert not np.array_equal(other.validation["both"], data.validation["both"])
    assert np.bincount(folder.cells.dataset_of[prepare(folder, validation_share=1e-6).validation["rna"]])[0] == 1
    fewer = some_of(data.validation, 5)
    assert {kind: len(rows) for kind, rows in fewer.items()} == {"rna": 5, "atac": 5, "both": 5}


def test_says_when_nothing_is_held_out(folder: MultiomeFolder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        prepare(folder, validation_share=0.0, kinds=["atac"])
    assert "no cells are held out" in caplog.text and "240 of 320 cells are in no use" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation_share": 1.0}, r"validation_share is 1\.0: expected a share"),
        ({"held_out_datasets": ["neurips"]}, "names neurips, and the folder has rna-only, atac-only, paired"),
        ({"kinds": ["rna", "protein"]}, "kinds are rna, protein: expected some of rna, atac, both, each once"),
        ({"kinds": ["rna", "rna"]}, "kinds are rna, rna"),
        (
            {"held_out_datasets": ["rna-only", "paired"], "kinds": ["rna"]},
            "no cells to train on of the kind rna.*choose kinds among atac",
        ),
    ],
)
def test_bad_input_is_named(folder: MultiomeFolder, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(folder, **changes)


def test_a_batch_of_draws(folder: MultiomeFolder) -> None:
    dataset = MultiomeDataset(folder.cells)
    assert len(dataset) == 320
    batch = dataset.__getitems__([CellDraw(row, "both", 2, 7) for row in (300, 210, 300)])
    assert (batch.kind, batch.epoch, batch.step, batch.missing, batch.counted_as) == ("both", 2, 7, None, None)
    assert list(batch.values) == ["rna", "atac"] and batch.rows.tolist() == [300, 210, 300]
    assert np.array_equal(batch.values["atac"], folder.cells.values([300, 210, 300], "atac"))
    assert list(dataset[CellDraw(3, "rna", 0, 0)].values) == ["rna"]
    assert list(dataset[CellDraw(250, "atac", 0, 0)].values) == ["atac"]  # of a cell with both


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_evaluation_counts_each_cell_once_over_processes(folder: MultiomeFolder, processes: int) -> None:
    rows = {"rna": np.arange(50), "both": np.arange(200, 223)}
    batches = EvaluationBatches(folder.cells, rows, 10, imputes=True)  # type: ignore[arg-type]
    assert [use.name for use in batches.uses] == ["rna", "both", "rna_to_atac", "atac_to_rna"]
    assert [use.predicted for use in batches.uses] == [("rna",), ("rna", "atac"), ("atac",), ("rna",)]
    assert (batches.n_cells, len(batches)) == (50 + 3 * 23, 5 + 3 * 3)
    shares = [batches.share_of(rank, processes) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1
    counted: dict[int, list[int]] = {}
    for share in shares:
        for index in range(len(share)):
            batch = share[index]
            assert batch.counted_as is not None
            if batch.counted_as != NOT_COUNTED:
                counted.setdefault(batch.counted_as, []).extend(batch.rows.tolist())
                assert batch.missing == (None, None, "atac", "rna")[batch.counted_as]
                assert batch.kind == ("rna", "both", "both", "both")[batch.counted_as]
    assert {number: sorted(found) for number, found in counted.items()} == {
        0: list(range(50)),
        **{number: list(range(200, 223)) for number in (1, 2, 3)},
    }
    assert len(EvaluationBatches(folder.cells, {"rna": rows["rna"]}, 10, imputes=True).uses) == 1
