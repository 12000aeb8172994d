"""The model of a run: presets and sizes, gene tokens from vectors and DNA, pre-trained models, LoRA, and refusals."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from omics_transformers.data_scripts.gene_features import GeneFeatures, write_gene_features
from omics_transformers.modeling.modeling_multiome_performer import MultiomePerformerForPreTraining
from omics_transformers.training.multiome_data import Modality, MultiomeFolder, read_multiome
from omics_transformers.training.multiome_pretraining_arguments import MultiomeModelArguments
from omics_transformers.training.multiome_pretraining_model import make_multiome_model

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "head_dim": 8,
    "intermediate_size": 16,
}
BOTH: list[Modality] = ["rna", "atac"]


@pytest.fixture(scope="module")
def folder(toy_multiome: Path) -> MultiomeFolder:
    return read_multiome(toy_multiome)


def make(folder: MultiomeFolder, modalities: list[Modality] = BOTH, **changes: Any) -> Any:
    return make_multiome_model(MultiomeModelArguments(**changes), folder, modalities, seed=3)


@pytest.fixture(scope="module")
def pretrained(folder: MultiomeFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pretrained") / "model"
    make(folder, **TINY).save_pretrained(path)
    return path


def test_sizes_are_the_presets_or_those_that_are_given(folder: MultiomeFolder) -> None:
    thesis = make(folder, feature_redraw_interval=0).config
    assert (thesis.hidden_size, thesis.num_hidden_layers, thesis.num_attention_heads, thesis.head_dim) == (
        128,
        6,
        10,
        64,
    )
    assert (thesis.num_genes, thesis.gene_ids, thesis.modalities) == (40, folder.gene_ids, BOTH)
    assert (thesis.num_value_bins, thesis.feature_redraw_interval, thesis.feature_seed) == (5, None, 3)
    tiny = make(folder, ["atac"], **TINY, attention_type="sdpa", pooling="cls", feature_redraw_interval=7).config
    assert {name: getattr(tiny, name) for name in TINY} == TINY
    assert (tiny.modalities, tiny.attention_type, tiny.pooling) == (["atac"], "sdpa", "cls")
    assert tiny.feature_redraw_interval == 7


def test_scbert_reads_rna_alone(folder: MultiomeFolder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        config = make(folder, ["rna"], preset="scbert", num_hidden_layers=1).config
    assert (config.hidden_size, config.intermediate_size, config.num_hidden_layers) == (200, 800, 1)
    assert "binned by quartile, not as scBERT's are" in caplog.text
    with pytest.raises(ValueError, match="preset scbert reads RNA alone, and the kinds of batches have rna, atac"):
        make(folder, preset="scbert")


@pytest.mark.parametrize("train", [False, True])
def test_gene_tokens_start_from_vectors(folder: MultiomeFolder, tmp_path: Path, train: bool) -> None:
    random = np.random.default_rng(0).normal(size=(39, 16)).round(3)
    file = tmp_path / "gene2vec.txt"
    lines = [f"GENE{gene} {' '.join(map(str, row))}" for gene, row in enumerate(random)]
    file.write_text("\n".join(lines))
    model = make(folder, **TINY, gene2vec=str(file), train_gene2vec=train)
    for path in model.performer.paths.values():
        weight = path.embeddings.gene_embeddings.weight
        torch.testing.assert_close(weight[:39].detach(), torch.from_numpy(random).float())
        assert weight.requires_grad is train and 0 < weight[39].abs().max() < 0.2  # the last stays random


def test_gene_tokens_from_dna_are_aligned_by_gene(folder: MultiomeFolder, tmp_path: Path) -> None:
    ids, features = [*folder.gene_ids[::-1], "ENSG_other"], np.random.default_rng(0).normal(size=(41, 3))
    write_gene_features(tmp_path / "dna.safetensors", GeneFeatures(ids, features.astype(np.float32)))
    model = make(folder, **TINY, dna_features=str(tmp_path / "dna.safetensors"))
    own = features[:40][::-1]
    expected = (own - own.mean(axis=0)) / own.std(axis=0)
    np.testing.assert_allclose(model.performer.gene_features.features.numpy(), expected, atol=1e-5)
    assert model.config.gene_feature_size == 3
    write_gene_features(tmp_path / "few.safetensors", GeneFeatures(ids[2:], features[2:].astype(np.float32)))
    with pytest.raises(ValueError, match="2 genes of the vocabulary have no DNA features"):
        make(folder, **TINY, dna_features=str(tmp_path / "few.safetensors"))


def test_goes_on_from_a_pretrained_model(folder: MultiomeFolder, pretrained: Path) -> None:
    model = make(folder, ["rna"], model=str(pretrained), hidden_dropout_prob=0.1)
    expected = MultiomePerformerForPreTraining.from_pretrained(pretrained).state_dict()
    assert model.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    assert (model.config.hidden_dropout_prob, model.config.modalities) == (0.1, BOTH)


def test_lora_trains_attention_and_heads(folder: MultiomeFolder, pretrained: Path) -> None:
    model = make(folder, model=str(pretrained), lora_rank=2)
    assert isinstance(model, PeftModel) and model.config.feature_redraw_interval is None
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    heads = {name for name in trained if "_head." in name}
    assert len(heads) == 4 and all(".attention." in name and "lora_" in name for name in trained - heads)
    assert len(trained - heads) == 8  # two matrices of query and value of each path


def test_models_that_do_not_fit_are_refused(folder: MultiomeFolder, pretrained: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(folder, gene_ids=[*folder.gene_ids[:37], "ENSGa", "ENSGb", "ENSGc"])
    with pytest.raises(ValueError, match="3 of its 40 are not there, 3 are new; build the folder with the model's"):
        make(other, model=str(pretrained))
    with pytest.raises(ValueError, match="0 are new, and the order is another"):
        make(dataclasses.replace(folder, gene_ids=folder.gene_ids[::-1]), model=str(pretrained))
    bins = {name: {**folder.feature_extractor[name], "num_bins": 7} for name in ("rna_bins", "atac_bins")}
    with pytest.raises(ValueError, match=r"has 5 bins of values and .* 7: build the folder with as many"):
        make(dataclasses.replace(folder, feature_extractor=bins), model=str(pretrained))
    make(folder, ["rna"], **TINY).save_pretrained(tmp_path / "rna")
    with pytest.raises(ValueError, match="reads rna only, and the kinds of batches have atac: choose kinds"):
        make(folder, model=str(tmp_path / "rna"))
    nameless = make(folder, **TINY)
    nameless.config.gene_ids = None
    nameless.save_pretrained(tmp_path / "nameless")
    with pytest.raises(ValueError, match="does not say which genes it has"):
        make(folder, model=str(tmp_path / "nameless"))
