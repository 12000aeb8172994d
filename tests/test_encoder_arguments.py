"""Options of the encoder that exclude each other, for runs of every head."""

from pathlib import Path

import pytest

from omics_transformers.training.encoder_arguments import EncoderArguments, EncoderTrainingArguments


def test_no_encoder_by_name() -> None:
    assert EncoderArguments(encoder="none").encoder is None
    assert EncoderArguments(encoder="folder", random_weights=True).encoder == "folder"


def test_refuses_what_excludes_each_other() -> None:
    with pytest.raises(ValueError, match="random_weights is set without encoder"):
        EncoderArguments(encoder="none", random_weights=True)
    with pytest.raises(ValueError, match="freeze_encoder and lora_rank are both set"):
        EncoderArguments(freeze_encoder=True, lora_rank=2)


def test_training_goes_on_only_where_asked(tmp_path: Path) -> None:
    arguments = EncoderTrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    assert not arguments.resume and not arguments.remove_unused_columns and arguments.encoder_learning_rate is None
