"""Opening a saved model whole and in float32, or not at all."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from omics_transformers.modeling.configuration_nt_region_ranker import NTRegionRankerConfig
from omics_transformers.modeling.modeling_nt_region_ranker import NTRegionRanker
from omics_transformers.saved_model import open_saved_model

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "num_tokens": 21}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    NTRegionRanker(NTRegionRankerConfig(**TINY, scorer_head="linear")).to(torch.bfloat16).save_pretrained(tmp_path)
    return tmp_path


def anything(config: Any, name: str) -> None:
    pass


def test_weights_are_widened_to_float32(folder: Path) -> None:
    model = open_saved_model(folder, NTRegionRanker, check=anything, device="cpu")
    assert model.dtype == torch.float32 and not model.training
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert torch.equal(model.state_dict()[name], tensor.float())


def test_a_model_that_lacks_its_head(folder: Path) -> None:
    state = {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if "scorer" not in name}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 2 tensors, e\.g\. scorer\..* it is no whole nt-region-ranker"):
        open_saved_model(folder, NTRegionRanker, check=anything)


def test_the_check_comes_before_the_weights(folder: Path) -> None:
    def refuse(config: Any, name: str) -> None:
        raise ValueError(f"{name} is a {config.model_type}")

    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=f"{folder} is a nt-region-ranker"):
        open_saved_model(folder, NTRegionRanker, check=refuse)
    with pytest.raises(OSError):
        open_saved_model(folder, NTRegionRanker, check=anything)
