"""A run that streams its cells, stopped and resumed, against the unbroken one: the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments, set_seed

from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.training.collators import MaskedGeneCollator
from omics_transformers.training.shard_files import open_shards
from omics_transformers.training.stream_checkpoint import StreamCheckpoint
from omics_transformers.training.streamed_rows import CellPreparation
from omics_transformers.training.streaming_cells import StreamedCells
from omics_transformers.training.trainer import MaskedGeneTrainer


def make_trainer(corpus: Path, output: Path, **options: Any) -> MaskedGeneTrainer:
    set_seed(0)
    model = BioDTAForMaskedLM(
        BioDTAConfig(
            vocab_size=42,
            hidden_size=12,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            adapter_type="none",
            hidden_dropout_prob=0.1,
        )
    )
    stream = StreamedCells(
        open_shards(corpus, vocabulary_size=42), CellPreparation(42), batch_size=8, buffer_cells=64, seed=1
    )
    arguments = TrainingArguments(
        str(output),
        **{
            "max_steps": 8,
            "save_steps": 3,
            "gradient_accumulation_steps": 2,
            "ignore_data_skip": True,
            "report_to": [],
            "use_cpu": True,
            "disable_tqdm": True,
            **options,
        },
    )
    return MaskedGeneTrainer(
        model=model,
        args=arguments,
        train_dataset=stream,
        data_collator=MaskedGeneCollator(vocab_size=42),
        callbacks=[StreamCheckpoint(stream)],
    )


def checkpointing(trainer: Trainer) -> StreamCheckpoint:
    return next(one for one in trainer.callback_handler.callbacks if isinstance(one, StreamCheckpoint))


def test_a_resumed_run_ends_with_the_weights_of_the_unbroken_one(toy_corpus: Path, tmp_path: Path) -> None:
    unbroken = make_trainer(toy_corpus, tmp_path)
    unbroken.train()
    checkpoint = tmp_path / "checkpoint-3"
    assert (checkpoint / "stream_state_rank_0.json").is_file()
    resumed = make_trainer(toy_corpus, tmp_path)
    checkpointing(resumed).resume(checkpoint)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert resumed.state.global_step == 8
    for name, weights in unbroken.model.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(weights, resumed.model.state_dict()[name]), name  # type: ignore[union-attr]


def test_resuming_without_the_stream_or_with_skipping_is_refused(toy_corpus: Path, tmp_path: Path) -> None:
    make_trainer(toy_corpus, tmp_path, max_steps=1, save_steps=1).train()
    checkpoint = tmp_path / "checkpoint-1"
    with pytest.raises(ValueError, match=r"from step 1, and the stream of cells from its start: call"):
        make_trainer(toy_corpus, tmp_path).train(resume_from_checkpoint=str(checkpoint))
    skipping = make_trainer(toy_corpus, tmp_path, ignore_data_skip=False)
    checkpointing(skipping).resume(checkpoint)
    with pytest.raises(ValueError, match="ignore_data_skip is False"):
        skipping.train(resume_from_checkpoint=str(checkpoint))
    (checkpoint / "stream_state_rank_0.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no stream_state_rank_0\.json"):
        checkpointing(skipping).resume(checkpoint)
