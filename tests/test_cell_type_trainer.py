"""The trainer of cell type classifiers: its evaluation against the model's own answers, its steps, and what is kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.trainer_utils import IntervalStrategy

from omics_transformers.modeling.configuration_multiome_performer import MultiomePerformerConfig
from omics_transformers.modeling.modeling_multiome_performer import MultiomePerformerForCellTypeClassification
from omics_transformers.training.cell_type_arguments import CellTypeTrainingArguments
from omics_transformers.training.cell_type_data import IGNORED_LABEL, CellTypeDataset
from omics_transformers.training.cell_type_metric import SCORES, CellTypeMetric, selection_score
from omics_transformers.training.cell_type_trainer import CellTypeTrainer, arguments_of_run, spread
from omics_transformers.training.multiome_data import read_multiome

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 32}
NAMES = ["type0", "type1", "type2", "type3", "other"]
SEEN = np.arange(4)


def arguments(folder: Path, **options: Any) -> CellTypeTrainingArguments:
    options = {"minimum_steps": 20, "num_train_epochs": 1, "per_device_train_batch_size": 32} | options
    return CellTypeTrainingArguments(output_dir=str(folder), use_cpu=True, disable_tqdm=True, **options)


def dataset(folder: Path, rows: np.ndarray, *, unseen: int = 0) -> CellTypeDataset:
    types = rows % 4
    labels = types.copy()
    types[:unseen], labels[:unseen] = 4, IGNORED_LABEL
    keys = rows.astype(str).astype(object)
    cells = read_multiome(folder).cells
    return CellTypeDataset(cells, rows, types=types, labels=labels, keys=keys, modalities=("rna",))


def trainer_of(toy_multiome: Path, folder: Path, *, is_frozen: bool = False, **options: Any) -> CellTypeTrainer:
    torch.manual_seed(0)
    config = MultiomePerformerConfig(num_genes=40, modalities=["rna"], num_labels=4, **SIZES)  # type: ignore[arg-type]
    model = MultiomePerformerForCellTypeClassification(config)
    if is_frozen:
        model.performer.requires_grad_(False)
    run = arguments_of_run(
        arguments(folder, **options), output_dir=folder, seed=0, training_cells=96, has_validation=True
    )
    return CellTypeTrainer(
        model,
        run,
        train_dataset=dataset(toy_multiome, np.arange(96)),
        eval_dataset=dataset(toy_multiome, np.arange(200, 223), unseen=2),
        cell_types=NAMES,
        seen=SEEN,
        is_frozen=is_frozen,
    )


def test_it_learns_and_keeps_the_best_step(toy_multiome: Path, tmp_path: Path) -> None:
    trainer = trainer_of(toy_multiome, tmp_path, learning_rate=1e-3, minimum_steps=60)
    trainer.train()
    history = trainer.history
    assert [entry["step"] for entry in history] == list(range(3, 3 * len(history) + 1, 3))
    assert history[-1]["training_accuracy"] > 0.9 > history[0]["training_accuracy"]
    scores = [selection_score(entry["validation_mcc"], entry["validation_loss"]) for entry in history]
    assert trainer.state.best_global_step == history[int(np.argmax(scores))]["step"]
    trainer.predict(trainer.eval_dataset)  # type: ignore[arg-type]
    assert trainer.last_result["mcc"] == pytest.approx(history[int(np.argmax(scores))]["validation_mcc"])


def test_scores_are_those_of_the_model_s_own_answers(toy_multiome: Path, tmp_path: Path) -> None:
    trainer = trainer_of(toy_multiome, tmp_path, per_device_eval_batch_size=7)
    trainer.evaluate()
    data = dataset(toy_multiome, np.arange(200, 223), unseen=2)
    values = torch.from_numpy(data.__getitems__(range(23))["rna_values"])
    with torch.no_grad():
        assert trainer.model is not None
        probabilities = torch.softmax(trainer.model.eval()(rna_values=values).logits, dim=1).numpy()
    expected = CellTypeMetric(NAMES).compute(predictions=spread(probabilities, SEEN, 5), references=data.types)
    for name in SCORES:
        assert trainer.last_result[name] == pytest.approx(expected[name], abs=1e-5)
    assert trainer.last_result["by_cell_type"]["other"] == {"precision": None, "recall": 0.0, "f1": 0.0, "cells": 2}


def test_a_frozen_encoder_stays_as_it_is(toy_multiome: Path, tmp_path: Path) -> None:
    trainer = trainer_of(toy_multiome, tmp_path, is_frozen=True, learning_rate=0.01)
    model: Any = trainer.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer.train()
    after = model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items() if name.startswith("performer."))
    assert not torch.equal(before["classifier.third.weight"], after["classifier.third.weight"])


def test_it_stops_early(toy_multiome: Path, tmp_path: Path) -> None:
    trainer = trainer_of(toy_multiome, tmp_path, learning_rate=0.0, minimum_steps=90, early_stopping_patience=2)
    trainer.train()
    assert trainer.state.global_step == 3 * 5  # a first evaluation, and two without a better one


@pytest.mark.parametrize(
    ("cells", "options", "steps", "interval"),
    [
        (96, {}, 20, 3),  # a pass is 3 steps
        (3200, {}, 100, 100),
        (3200, {"num_train_epochs": 2.5}, 250, 100),
        (10, {"minimum_steps": 300}, 300, 15),
        (96, {"max_steps": 2}, 2, 2),
        (96, {"gradient_accumulation_steps": 3}, 20, 1),
    ],
)
def test_steps_follow_from_the_cells(tmp_path: Path, cells: int, options: dict, steps: int, interval: int) -> None:
    given = arguments(tmp_path, **options)
    run = arguments_of_run(given, output_dir=tmp_path / "run", seed=7, training_cells=cells, has_validation=True)
    assert (run.max_steps, run.eval_steps, run.save_steps, run.seed) == (steps, interval, interval, 7)
    assert run.eval_strategy == IntervalStrategy.STEPS and run.load_best_model_at_end
    assert (given.max_steps, given.output_dir) == (options.get("max_steps", -1), str(tmp_path))
    without = arguments_of_run(given, output_dir=tmp_path, seed=7, training_cells=cells, has_validation=False)
    assert without.eval_strategy == IntervalStrategy.NO and not without.load_best_model_at_end
