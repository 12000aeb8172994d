"""Models with LoRA as they are written: merged, with the adapter beside them, and told whole in checkpoints."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from omics_transformers.modeling.configuration_nt_region_ranker import NTRegionRankerConfig
from omics_transformers.modeling.modeling_nt_region_ranker import NTRegionRanker
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.training.encoder_arguments import EncoderArguments
from omics_transformers.training.encoder_output import (
    ConfigInCheckpoint,
    TrainedModel,
    require_whole_model_for_lora,
)
from omics_transformers.training.encoder_setup import prepare_encoder

SIZES: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16
}  # fmt: skip
CONFIG = NTRegionRankerConfig(**SIZES, num_tokens=16, scorer_head="linear")


def trained(folder: Path, arguments: EncoderArguments) -> TrainedModel:
    model: Any = prepare_encoder(NTRegionRanker(CONFIG), arguments, head=["scorer"])
    options = TrainingArguments(str(folder / "training"), use_cpu=True, report_to="none")
    return TrainedModel(Trainer(model=model, args=options, processing_class=NucleotideKmerTokenizer()), arguments)


@pytest.mark.parametrize("save_adapter", [False, True])
def test_lora_is_merged(tmp_path: Path, save_adapter: bool) -> None:
    model = trained(tmp_path, EncoderArguments(lora_rank=2, save_adapter=save_adapter))
    whole = sum(parameter.numel() for parameter in NTRegionRanker(CONFIG).parameters())
    head = sum(parameter.numel() for parameter in NTRegionRanker(CONFIG).scorer.parameters())
    assert model.trained_parameters == head + 2 * 2 * 2 * 16  # query and value, A and B
    model.merge(tmp_path / "model")
    model.write(tmp_path / "model")
    assert model.parameters == whole
    assert (tmp_path / "model" / "adapter").is_dir() == save_adapter
    loaded = NTRegionRanker.from_pretrained(tmp_path / "model").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.model.state_dict().items())
    assert (tmp_path / "model" / "vocab.txt").is_file()


def test_nothing_is_pickled(tmp_path: Path) -> None:
    model = trained(tmp_path, EncoderArguments())
    model.merge(tmp_path / "model")
    model.write(tmp_path / "model")
    assert model.trained_parameters == model.parameters
    assert load_file(tmp_path / "model" / "model.safetensors").keys() == model.model.state_dict().keys()
    assert not list((tmp_path / "model").glob("*.bin"))


def test_checkpoints_of_lora_tell_the_model(tmp_path: Path) -> None:
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    state = TrainerState(global_step=3, is_world_process_zero=True)
    ConfigInCheckpoint(CONFIG).on_save(arguments, state, TrainerControl())
    assert NTRegionRankerConfig.from_pretrained(tmp_path / "checkpoint-3").scorer_head == "linear"


def test_refuses_to_merge_split_weights() -> None:
    split: Any = SimpleNamespace(is_fsdp_enabled=True, is_deepspeed_enabled=False)
    require_whole_model_for_lora(split, EncoderArguments())
    with pytest.raises(ValueError, match="lora_rank is set under FSDP or DeepSpeed"):
        require_whole_model_for_lora(split, EncoderArguments(lora_rank=2))
