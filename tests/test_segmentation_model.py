"""Opening a saved SegmentNT: what it gives, and what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.modeling.modeling_nucleotide_transformer import NucleotideTransformerModel
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.segmentation_model import open_segmentation_model

TINY = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    SegmentNTForTokenClassification(SegmentNTConfig(**TINY)).to(torch.bfloat16).save_pretrained(tmp_path)
    NucleotideKmerTokenizer().save_pretrained(tmp_path)
    return tmp_path


def test_weights_are_widened_to_float32(folder: Path) -> None:
    opened = open_segmentation_model(folder, device="cpu")
    assert opened.model.dtype == torch.float32 and not opened.model.training
    saved = load_file(folder / "model.safetensors")
    for name, tensor in opened.model.state_dict().items():
        assert torch.equal(tensor, saved[name].float())
    assert opened.tokenizer.encode_bases("ACGTACG").tolist()[0] == opened.model.config.cls_token_id


def test_a_model_that_lacks_its_head(folder: Path) -> None:
    state = {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if "unet" not in name}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks \d+ tensors, e\.g\. unet\."):
        open_segmentation_model(folder)


def test_another_kind_of_model(tmp_path: Path) -> None:
    NucleotideTransformerModel(NucleotideTransformerConfig(**TINY)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a nucleotide-transformer, which has no segmentation head"):
        open_segmentation_model(tmp_path)


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        open_segmentation_model(tmp_path / "absent")
