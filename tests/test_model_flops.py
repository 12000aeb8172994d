"""The formula against what torch counts, the counts of batches, and what the Trainer logs."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.training.cell_block import Cell
from omics_transformers.training.collators import DonorVariants, MaskedGeneCollator
from omics_transformers.training.masked_gene_data import MaskedGeneDataset, read_tokenised_cells
from omics_transformers.training.model_flops import (
    BatchCounts,
    ModelFlopsCallback,
    count_batch,
    training_flops,
    training_flops_a_token,
)
from omics_transformers.training.packed_cells import PackedGeneCollator
from omics_transformers.training.trainer import MaskedGeneTrainer

VOCABULARY = 42


def make_config(**changes: Any) -> BioDTAConfig:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    features = {"vocab_size": VOCABULARY, "dna_feature_size": 10, "max_position_embeddings": 64}
    return BioDTAConfig(**{**sizes, **features, "attn_implementation": "eager", **changes})


def make_model(config: BioDTAConfig) -> BioDTAForMaskedLM:
    model = BioDTAForMaskedLM(config)
    if config.adapter_type != "none":
        model.set_gene_features(torch.randn(VOCABULARY, 10))
    return model


def make_batch(lengths: list[int], *, packed: bool = False, variants: bool = False) -> dict[str, Any]:
    random = np.random.default_rng(0)
    rows = np.full((2, VOCABULARY), -1, dtype=np.int32)
    rows[0, 2::3] = np.arange(14)
    kind = PackedGeneCollator if packed else MaskedGeneCollator
    collator = kind(VOCABULARY, donor_variants=DonorVariants(rows, torch.randn(20, 10)) if variants else None)
    return collator([Cell(random.permutation(40)[:length] + 2, at, 0, at % 3 - 1) for at, length in enumerate(lengths)])


def counts_of(batch: dict[str, Any]) -> BatchCounts:
    return BatchCounts(*count_batch(batch, VOCABULARY).tolist())


@pytest.mark.parametrize(
    ("changes", "variants"),
    [
        ({"adapter_type": "none"}, False),
        ({}, True),
        ({"adapter_type": "mlp", "adapter_hidden_size": 12, "feature_scaling": "whiten"}, False),
        ({"variant_encoding": "difference", "feature_scaling": "whiten", "adapter_type": "mlp"}, True),
    ],
)
def test_is_what_torch_counts(changes: dict[str, Any], variants: bool) -> None:
    """Exactly, for cells of one length, so that padding takes nothing."""
    config = make_config(**changes)
    model, batch = make_model(config), make_batch([30, 30, 30, 30], variants=variants)
    with FlopCounterMode(display=False) as counter:
        model(**batch).loss.backward()
    assert (counts_of(batch).variant_rows > 0) == variants
    assert training_flops(config, counts_of(batch)) == counter.get_total_flops()


def test_recomputed_activations_cost_the_encoder_s_forward() -> None:
    config = make_config()
    model, batch = make_model(config), make_batch([30, 30])
    model.train().activation_checkpointing_enable()
    with FlopCounterMode(display=False) as counter:
        model(**batch).loss.backward()
    # The last product of a layer is not needed again, and torch stops before it.
    last = counts_of(batch).tokens * config.num_hidden_layers * 2 * config.hidden_size * config.intermediate_size
    expected = training_flops(config, counts_of(batch), gradient_checkpointing=True)
    assert counter.get_total_flops() in (expected, expected - last)


@pytest.mark.parametrize("packed", [False, True])
def test_counts_of_a_batch_are_without_padding(packed: bool) -> None:
    batch = make_batch([5, 40, 12], packed=packed, variants=True)
    found = counts_of(batch)
    ids = batch["variant_ids"]
    assert found.tokens == 57
    assert found.squared_lengths == 25 + 1600 + 144
    assert found.distinct_tokens == len(batch["input_ids"].unique())
    assert found.masked_tokens == (batch["labels"] != -100).sum()
    assert found.variant_rows == len(ids[ids >= 0].unique()) > 0
    without_mask = {name: batch[name] for name in ("input_ids", "labels")} if not packed else batch
    assert counts_of(without_mask).tokens == (57 if packed else 120)


def test_operations_a_token_are_those_of_the_batch() -> None:
    config = make_config()
    counts = BatchCounts(tokens=40, squared_lengths=1000, distinct_tokens=30, masked_tokens=6)
    found = training_flops_a_token(config, [30, 10], distinct_tokens=30)
    assert found == training_flops(config, counts) / 40
    assert training_flops_a_token(config, [30, 10]) == training_flops_a_token(config, [30, 10], distinct_tokens=40)
    checkpointed = training_flops_a_token(config, [30, 10], distinct_tokens=30, gradient_checkpointing=True)
    assert checkpointed == training_flops(config, counts, gradient_checkpointing=True) / 40


class CountingTrainer(MaskedGeneTrainer):
    flops: ModelFlopsCallback

    def training_step(self, model: Any, inputs: Any, *others: Any, **named: Any) -> torch.Tensor:
        self.flops.count(inputs)
        return super().training_step(model, inputs, *others, **named)


class Listener(TrainerCallback):
    """What other callbacks see."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append(dict(kwargs["logs"]))


def test_the_trainer_logs_speed_and_utilisation_beside_the_loss(tmp_path: Path, toy_corpus: Path) -> None:
    cells = read_tokenised_cells(toy_corpus)
    arguments = TrainingArguments(
        str(tmp_path), use_cpu=True, per_device_train_batch_size=20, max_steps=2, logging_steps=1, save_strategy="no",
        eval_strategy="steps", eval_steps=2, disable_tqdm=True, report_to="none",
    )  # fmt: skip
    config, listener = make_config(adapter_type="none", num_hidden_layers=1), Listener()
    trainer = CountingTrainer(
        model=BioDTAForMaskedLM(config),
        args=arguments,
        data_collator=MaskedGeneCollator(VOCABULARY),
        train_dataset=MaskedGeneDataset(cells, np.arange(100)),
        eval_dataset=MaskedGeneDataset(cells, np.arange(100, 120), fixed_masks=True),
        callbacks=[listener],
    )
    trainer.flops = ModelFlopsCallback(config, peak_flops=1e9)
    trainer.callback_handler.callbacks.insert(0, trainer.flops)
    trainer.train()
    history = trainer.state.log_history
    assert [("loss" in entry, "eval_loss" in entry, "train_loss" in entry) for entry in history] == [
        (True, False, False), (True, False, False), (False, True, False), (False, False, True)
    ]  # fmt: skip
    for entry, seen in zip(history, listener.seen, strict=True):
        assert ("tokens_per_second" in entry) == ("eval_loss" not in entry)
        assert entry == {**seen, "step": entry["step"]}
    speeds = [entry["tokens_per_second"] for entry in history if "tokens_per_second" in entry]
    assert min(speeds[:2]) <= speeds[2] <= max(speeds[:2])  # the whole run's
    for entry in (history[0], history[3]):
        assert entry["model_flops_utilisation"] == pytest.approx(entry["model_flops_per_second"] / 1e9)


def test_time_is_that_of_steps_and_data_and_not_of_evaluations_and_saves() -> None:
    """Real sleeps, and bounds that hold on a busy machine."""
    config, batch = make_config(), make_batch([20, 11])
    callback = ModelFlopsCallback(config)
    arguments, state, control = TrainingArguments(), TrainerState(), TrainerControl()
    for run in range(2):  # another run begins anew
        callback.on_train_begin(arguments, state, control)
        took = 0.0
        for pause in (callback.on_evaluate, callback.on_save):
            start = time.perf_counter()
            for _ in range(2):
                callback.on_step_begin(arguments, state, control)
                callback.count(batch)
                callback.count(batch)  # two are accumulated
                time.sleep(0.01)
                callback.on_step_end(arguments, state, control)
                time.sleep(0.01)  # for data
            logs = {"loss": 1.0}
            callback.on_log(arguments, state, control, logs=logs)
            since_log = time.perf_counter() - start
            took += since_log
            assert 4 * 31 / since_log < logs["tokens_per_second"] < 4 * 31 / 0.03
            time.sleep(0.3)
            pause(arguments, state, control)
        logs = {"train_loss": 1.0}
        callback.on_log(arguments, state, control, logs=logs)
        assert 8 * 31 / took < logs["tokens_per_second"] < 8 * 31 / 0.06, run
        flops = training_flops(config, counts_of(batch))
        assert logs["model_flops_per_second"] == pytest.approx(flops / 31 * logs["tokens_per_second"])
        assert "model_flops_utilisation" not in logs  # no peak is known
