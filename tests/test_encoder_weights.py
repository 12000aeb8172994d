"""Encoders between models: a region ranker's into SegmentNT and back, and what does not fit."""

from pathlib import Path

import pytest
import torch

from omics_transformers.modeling.configuration_nt_region_ranker import NTRegionRankerConfig
from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.modeling.modeling_nt_region_ranker import NTRegionRanker
from omics_transformers.modeling.modeling_nucleotide_transformer import NucleotideTransformerForMaskedLM
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}


def make_ranker(seed: int = 0, **fields: object) -> NTRegionRanker:
    torch.manual_seed(seed)
    fields = {"scorer_head": "transformer", "num_tokens": 17, "cell_types": ["B", "T"], **fields}
    return NTRegionRanker(NTRegionRankerConfig(**{**SIZES, **fields}))


def make_segment_nt(seed: int = 0) -> SegmentNTForTokenClassification:
    torch.manual_seed(seed)
    return SegmentNTForTokenClassification(SegmentNTConfig(**SIZES, id2label={0: "exon"}))


def make_masked_lm(seed: int = 0) -> NucleotideTransformerForMaskedLM:
    torch.manual_seed(seed)
    return NucleotideTransformerForMaskedLM(NucleotideTransformerConfig(**SIZES))


@pytest.mark.parametrize(
    ("make_source", "make_target"),
    [(make_ranker, make_segment_nt), (make_segment_nt, make_ranker), (make_masked_lm, make_ranker)],
)
def test_an_encoder_passes_from_model_to_model(tmp_path: Path, make_source: type, make_target: type) -> None:
    source, target = make_source(seed=5), make_target()
    head = {name: tensor.clone() for name, tensor in target.state_dict().items() if not name.startswith("encoder.")}
    source.save_pretrained(tmp_path)
    target.load_encoder(tmp_path)
    for name, tensor in target.encoder.state_dict().items():
        assert torch.equal(tensor, source.encoder.state_dict()[name])
    for name, tensor in head.items():
        assert torch.equal(target.state_dict()[name], tensor)


def test_an_encoder_saved_alone_is_taken(tmp_path: Path) -> None:
    source = make_ranker(seed=5)
    source.encoder.save_pretrained(tmp_path)
    target = make_segment_nt()
    target.load_encoder(tmp_path)
    for name, tensor in target.encoder.state_dict().items():
        assert torch.equal(tensor, source.encoder.state_dict()[name])


def test_an_encoder_that_does_not_fit_is_refused_and_nothing_is_taken(tmp_path: Path) -> None:
    make_ranker(num_hidden_layers=3).save_pretrained(tmp_path / "deep")
    make_ranker(num_attention_heads=2).save_pretrained(tmp_path / "heads")
    model = make_segment_nt()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"unexpected layers\.2\.attention.*Make the model with that encoder's sizes"):
        model.load_encoder(tmp_path / "deep")
    with pytest.raises(ValueError, match=r"num_attention_heads 2 \(here 3\)"):
        model.load_encoder(tmp_path / "heads")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_freezing_leaves_the_head_to_be_trained() -> None:
    model = make_ranker()
    model.freeze_encoder()
    trained = {name.partition(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"scorer", "cell_type_embeddings"}
