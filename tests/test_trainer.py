"""The trainer on the CPU: order, exact resume, and metrics a masked token."""

import importlib.util
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import TrainerCallback, TrainingArguments

import omics_transformers.training
from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.training.collators import MaskedGeneCollator
from omics_transformers.training.masked_gene_data import MaskedGeneDataset, read_tokenised_cells
from omics_transformers.training.packed_cells import PackedGeneCollator
from omics_transformers.training.samplers import ShuffledLengthGroupedSampler
from omics_transformers.training.trainer import MaskedGeneTrainer


class StopAfter(TrainerCallback):
    """Saves and stops at a step, as a killed run would leave its last checkpoint."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            control.should_save = control.should_training_stop = True


def make_trainer(
    folder: Path,
    corpus: Path,
    callbacks: list[TrainerCallback] | None = None,
    *,
    packed: bool = False,
    token_budget: int | None = None,
    length_group: int | None = None,
    **changes: Any,
) -> Any:
    torch.manual_seed(0)
    model = BioDTAForMaskedLM(
        BioDTAConfig(
            vocab_size=42, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            adapter_type="none", max_position_embeddings=16, hidden_dropout_prob=0.1,
        )
    )  # fmt: skip
    cells = read_tokenised_cells(corpus)
    arguments = TrainingArguments(
        **{
            "output_dir": str(folder),
            "use_cpu": True,
            "per_device_train_batch_size": 20,
            "per_device_eval_batch_size": 7,
            "num_train_epochs": 3,
            "learning_rate": 1e-2,
            "save_strategy": "no",
            "disable_tqdm": True,
            "report_to": "none",
            **changes,
        }
    )
    return MaskedGeneTrainer(
        model=model,
        args=arguments,
        data_collator=(PackedGeneCollator if packed else MaskedGeneCollator)(vocab_size=42, seed=arguments.seed),
        train_dataset=MaskedGeneDataset(cells, np.arange(100)),  # 5 steps an epoch
        eval_dataset=MaskedGeneDataset(cells, np.arange(100, 150), fixed_masks=True),
        megabatch_size=60,
        token_budget=token_budget,
        length_group=length_group,
        callbacks=callbacks,
    )


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


@pytest.mark.parametrize(
    ("stop", "changes"),
    [
        (3, {}),
        (5, {}),
        (7, {}),
        (8, {"dataloader_num_workers": 1}),
        (2, {"gradient_accumulation_steps": 2}),
        (4, {"packed": True}),
        (4, {"packed": True, "token_budget": 160}),
    ],
)
def test_resumes_to_the_weights_of_an_unbroken_run(
    tmp_path: Path, toy_corpus: Path, stop: int, changes: dict[str, Any]
) -> None:
    """In the first epoch, at its end, and in the middle of the second, bit for bit, with dropout."""
    unbroken = make_trainer(tmp_path / "unbroken", toy_corpus, **changes)
    unbroken.train()
    stopped = make_trainer(tmp_path / "stopped", toy_corpus, [StopAfter(stop)], **changes)
    stopped.train()
    assert stopped.state.global_step == stop
    resumed = make_trainer(tmp_path / "stopped", toy_corpus, seed=42, **changes)
    resumed.train(resume_from_checkpoint=str(tmp_path / "stopped" / f"checkpoint-{stop}"))
    assert resumed.state.global_step == unbroken.state.global_step
    for name, expected in weights(unbroken).items():
        assert torch.equal(resumed.model.state_dict()[name], expected), name
    assert not torch.equal(next(stopped.model.parameters()), next(unbroken.model.parameters()))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"per_device_train_batch_size": 10}, "cells_per_step was 20 and is 10"),
        ({"seed": 7}, "seed was 42 and is 7"),
    ],
)
def test_refuses_to_resume_in_another_order(
    tmp_path: Path, toy_corpus: Path, changes: dict[str, Any], named: str
) -> None:
    make_trainer(tmp_path, toy_corpus, [StopAfter(2)]).train()
    with pytest.raises(ValueError, match=named):
        make_trainer(tmp_path, toy_corpus, **changes).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_trains_in_the_order_of_the_sampler_with_new_masks_each_epoch(tmp_path: Path, toy_corpus: Path) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    trainer = make_trainer(tmp_path, toy_corpus, num_train_epochs=2)
    trainer.model.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append((kwargs["input_ids"], kwargs["labels"])), with_kwargs=True
    )
    trainer.train()
    sampler = ShuffledLengthGroupedSampler(trainer.train_dataset.lengths, 20, megabatch_size=60, seed=42)
    masks = {}
    for epoch in range(2):
        sampler.set_epoch(epoch)
        order = np.array(list(sampler)).reshape(5, 20)
        for batch, (input_ids, labels) in zip(order, seen[epoch * 5 : epoch * 5 + 5], strict=True):
            restored = torch.where(labels == -100, input_ids, labels)
            for number, row in zip(batch.tolist(), restored.tolist(), strict=True):
                assert [token for token in row if token] == trainer.train_dataset[number].input_ids.tolist()
            masks[epoch, tuple(batch)] = labels
    first, second = ({tuple(sorted(order)) for at, order in masks if at == epoch} for epoch in range(2))
    assert first != second


def test_packed_cells_and_split_steps_train_as_padded_ones_do(tmp_path: Path, toy_corpus: Path) -> None:
    """The same losses step by step, and the same evaluation; without dropout."""
    changes = {"num_train_epochs": 2, "logging_steps": 1}
    runs = {
        "padded": {},
        "packed": {"packed": True},
        "accumulated": {"per_device_train_batch_size": 10, "gradient_accumulation_steps": 2, "length_group": 20},
    }
    losses, evaluated = {}, {}
    for name, change in runs.items():
        trainer = make_trainer(tmp_path / name, toy_corpus, **changes, **change)
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        trainer.train()
        losses[name] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        evaluated[name] = trainer.evaluate()["eval_loss"]
    assert len(losses["padded"]) == 10
    for name in ("packed", "accumulated"):
        assert losses[name] == pytest.approx(losses["padded"], abs=2e-4)
        assert evaluated[name] == pytest.approx(evaluated["padded"], abs=1e-4)


def test_batches_by_tokens_hold_each_cell_once_within_the_budget(tmp_path: Path, toy_corpus: Path) -> None:
    trainer = make_trainer(tmp_path, toy_corpus, packed=True, token_budget=100)
    batches = list(trainer.get_train_dataloader())
    assert max(batch["input_ids"].shape[1] for batch in batches) <= 100
    assert sum(len(batch["cu_seq_lens_q"]) - 1 for batch in batches) == 100
    assert sum(batch["input_ids"].shape[1] for batch in batches) == trainer.train_dataset.lengths.sum()
    assert trainer.accelerator.dataloader_config.even_batches
    with pytest.raises(ValueError, match="token_budget is 100, and the collator pads its batches"):
        make_trainer(tmp_path, toy_corpus, token_budget=100)


def test_metrics_are_means_over_masked_tokens(tmp_path: Path, toy_corpus: Path) -> None:
    trainer = make_trainer(tmp_path, toy_corpus)
    found = trainer.evaluate()
    batch = trainer.data_collator(trainer.eval_dataset.__getitems__(range(50)))
    labels = batch.pop("labels")
    with torch.no_grad():
        logits = trainer.model.eval()(**batch).logits[labels != -100]
    targets = labels[labels != -100]
    expected = F.cross_entropy(logits, targets).item()
    assert found["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert found["eval_perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)
    assert found["eval_accuracy"] == pytest.approx((logits.argmax(1) == targets).double().mean().item())
    assert found["eval_masked_tokens"] == len(targets)
    assert trainer.evaluate()["eval_loss"] == found["eval_loss"]  # the same masks each time


def test_refuses_to_split_batches_over_gpus_in_one_process(
    tmp_path: Path, toy_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingArguments, "n_gpu", 2)
    with pytest.raises(ValueError, match="2 GPUs are visible to one process"):
        make_trainer(tmp_path, toy_corpus)


def test_no_file_of_the_folder_bears_the_name_of_a_library() -> None:
    """Launched by path, the folder heads sys.path."""
    folder = Path(omics_transformers.training.__file__).parent
    names = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
    assert "run_mlm" in names
    # A fresh process outside the repository sees installed packages and the standard library only.
    code = f"import importlib.util as u; print([n for n in {names!r} if u.find_spec(n)])"
    found = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert found.stdout.strip() == "[]"
    assert importlib.util.find_spec("transformers") is not None
