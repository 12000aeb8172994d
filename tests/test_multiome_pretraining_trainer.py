"""The trainer: what it counts in evaluation beside plain loops, the order of steps, resuming with other settings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import TrainerCallback

from omics_transformers.modeling.configuration_multiome_performer import MultiomePerformerConfig
from omics_transformers.modeling.modeling_multiome_performer import MultiomePerformerForPreTraining
from omics_transformers.training.multiome_data import read_multiome
from omics_transformers.training.multiome_masking import CellBatch, MultiomeMaskingCollator
from omics_transformers.training.multiome_pretraining_arguments import (
    MultiomeDataArguments,
    MultiomePretrainingArguments,
)
from omics_transformers.training.multiome_pretraining_data import (
    EvaluationBatches,
    MultiomeDataset,
    prepare_multiome_data,
)
from omics_transformers.training.multiome_pretraining_trainer import SCORES, MultiomePretrainingTrainer

CONFIG = MultiomePerformerConfig(
    num_genes=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, head_dim=8, intermediate_size=16
)


class KindsOfSteps(TrainerCallback):
    """Notes what each forward pass is given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, ...]] = []

    def hook(self, module: Any, arguments: Any, keywords: dict[str, Any], output: Any) -> None:
        if module.training:
            self.seen.append(tuple(name for name in ("rna", "atac") if f"{name}_values" in keywords))


def make_trainer(
    toy_multiome: Path, output: Path, *, imputes: bool = False, collator: dict[str, Any] | None = None, **changes: Any
) -> MultiomePretrainingTrainer:
    folder = read_multiome(toy_multiome)
    data = prepare_multiome_data(MultiomeDataArguments(validation_share=0.2), folder)
    torch.manual_seed(0)
    settings = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no", "max_steps": 2}
    arguments = MultiomePretrainingArguments(
        output_dir=str(output), **{"per_device_train_batch_size": 16, **settings, **changes}
    )
    return MultiomePretrainingTrainer(
        model=MultiomePerformerForPreTraining(CONFIG),
        args=arguments,
        data=data,
        collator=MultiomeMaskingCollator(6, **(collator or {})),
        num_value_bins=5,
        train_dataset=MultiomeDataset(data.cells),
        eval_dataset=EvaluationBatches(data.cells, data.validation, 10, imputes=imputes),
    )


def test_evaluation_counts_as_plain_loops_do(toy_multiome: Path, tmp_path: Path) -> None:
    """Of masked values, masked zeros and a missing modality; batches of 10 beside cells one by one."""
    trainer = make_trainer(toy_multiome, tmp_path, imputes=True, collator={"zero_share": 0.1})
    metrics = trainer.evaluate()
    result, data, model = trainer.last_result, trainer.data, trainer.model.eval()  # type: ignore[union-attr]
    assert list(result["kinds"]) == ["rna", "atac", "both", "rna_to_atac", "atac_to_rna"]
    assert metrics["eval_loss"] == result["loss"]
    for kind, missing, modality in (("rna", None, "rna"), ("both", None, "atac"), ("both", "rna", "rna")):
        losses: list[float] = []
        hits: list[list[bool]] = []
        of_training = data.cells.values(data.training_rows(modality), modality)  # type: ignore[arg-type]
        counts = np.stack([(of_training == value).sum(axis=0) for value in range(6)], axis=1).astype(float)
        if missing is None:
            weighed = counts * [0.1, *[0.15] * 5]
        else:
            weighed = counts * [counts[:, 1:].sum() / counts[:, 0].sum(), *[1.0] * 5]
        for row in data.validation[kind]:  # type: ignore[index]
            names = ("rna", "atac") if kind == "both" else (kind,)
            values = {name: data.cells.values([row], name) for name in names}  # type: ignore[arg-type]
            batch = trainer.collator(CellBatch(np.array([row]), kind, values, missing=missing))  # type: ignore[arg-type]
            labels = batch.pop(f"{modality}_labels")
            batch = {name: tensor for name, tensor in batch.items() if name.endswith("_values")}
            with torch.no_grad():
                logits = model(**batch)[f"{modality}_logits"][0]
            places = torch.nonzero(labels[0] != -100)[:, 0]
            targets = labels[0, places]
            losses.append(F.cross_entropy(logits[places], targets).item())
            for place, target in zip(places.tolist(), targets.tolist(), strict=True):
                guesses = (logits[place].argmax().item(), weighed[place].argmax(), weighed.sum(axis=0).argmax())
                hits.append([guess == target for guess in guesses])
        found = result["kinds"][kind if missing is None else "atac_to_rna"][modality]
        assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
        assert [found[name] for name in SCORES[1:]] == pytest.approx(np.mean(hits, axis=0).tolist())
        assert (found["cells"], found["values"]) == (len(losses), len(hits))


def test_the_loss_that_is_counted_is_the_one_that_is_trained(toy_multiome: Path, tmp_path: Path) -> None:
    trainer = make_trainer(toy_multiome, tmp_path)
    trainer.evaluate()
    data, kinds = trainer.data, trainer.last_result["kinds"]
    losses = []
    for kind, rows in data.validation.items():
        values = {name: data.cells.values(rows, name) for name in kinds[kind]}
        with torch.no_grad():
            loss = trainer.model.eval()(**trainer.collator(CellBatch(rows, kind, values))).loss  # type: ignore
        losses.append(loss.item())
        assert np.mean([scores["loss"] for scores in kinds[kind].values()]) == pytest.approx(loss.item(), rel=1e-5)
    assert trainer.last_result["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_each_step_has_one_kind_whatever_is_accumulated(toy_multiome: Path, tmp_path: Path) -> None:
    trainer = make_trainer(toy_multiome, tmp_path, max_steps=7, gradient_accumulation_steps=2)
    kinds = KindsOfSteps()
    trainer.model.register_forward_hook(kinds.hook, with_kwargs=True)  # type: ignore[union-attr]
    trainer.train()
    in_turn = [("rna",), ("rna",), ("atac",), ("atac",), ("rna", "atac"), ("rna", "atac")]
    assert kinds.seen == (in_turn * 3)[:14]


def test_a_step_of_one_modality_leaves_the_others_weights(toy_multiome: Path, tmp_path: Path) -> None:
    trainer = make_trainer(toy_multiome, tmp_path, max_steps=1, learning_rate=0.1, warmup_steps=0)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}  # type: ignore[union-attr]
    trainer.train()
    for name, tensor in trainer.model.state_dict().items():  # type: ignore[union-attr]
        if "atac" in name:
            assert torch.equal(tensor, before[name]), name
        elif name in ("rna_head.weight", "performer.paths.rna.embeddings.value_embeddings.weight"):
            assert not torch.equal(tensor, before[name]), name


def test_other_settings_do_not_resume(toy_multiome: Path, tmp_path: Path) -> None:
    steps: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2}
    make_trainer(toy_multiome, tmp_path, **steps).train()
    checkpoint = str(tmp_path / "checkpoint-2")
    with pytest.raises(ValueError, match=r"cannot be resumed, since batch_size was 16 and is 8"):
        make_trainer(toy_multiome, tmp_path, max_steps=4, per_device_train_batch_size=8).train(checkpoint)


def test_bad_weights_are_refused_before_training(toy_multiome: Path, tmp_path: Path) -> None:
    trainer = make_trainer(toy_multiome, tmp_path)
    with pytest.raises(
        ValueError, match="kind_weights are 1, 2: expected a positive number for each of rna, atac, both"
    ):
        MultiomePretrainingTrainer(
            model=trainer.model,
            args=trainer.args,
            data=trainer.data,
            collator=trainer.collator,
            num_value_bins=5,
            kind_weights=[1, 2],
        )
