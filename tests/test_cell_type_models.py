"""Models of arms: their configuration, weights, and what of them is trained; and folders that do not fit."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from sklearn.utils.class_weight import compute_class_weight

from omics_transformers.modeling.configuration_multiome_performer import MultiomePerformerConfig
from omics_transformers.modeling.feature_extraction_multiome import MultiomeFeatureExtractor
from omics_transformers.modeling.modeling_multiome_performer import MultiomePerformerForPreTraining
from omics_transformers.training.cell_type_arms import ModelArm
from omics_transformers.training.cell_type_models import (
    balanced_weights,
    make_config,
    make_model,
    require_fitting_model,
    unwrapped,
)
from omics_transformers.training.multiome_data import MultiomeFolder, read_multiome

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 32}
TYPES = ["type0", "type1", "type2"]


@pytest.fixture(scope="module")
def folder(toy_multiome: Path) -> MultiomeFolder:
    return read_multiome(toy_multiome)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, folder: MultiomeFolder) -> Path:
    """A pre-trained model with its feature extractor."""
    path = tmp_path_factory.mktemp("pretrained") / "model"
    torch.manual_seed(1)
    config = MultiomePerformerConfig(num_genes=40, gene_ids=folder.gene_ids, pooling="nonzero_mean", **SIZES)  # type: ignore[arg-type]
    MultiomePerformerForPreTraining(config).save_pretrained(path)
    MultiomeFeatureExtractor(**folder.feature_extractor).save_pretrained(path)
    return path


def test_the_encoder_is_the_pretrained_and_the_head_is_new(folder: MultiomeFolder, pretrained: Path) -> None:
    arm = ModelArm("a", "both", model=pretrained, classification_head="linear", feature_order="per_cell")
    config = make_config(arm, folder, TYPES, [1.0, 2.0, 3.0])
    assert (config.hidden_size, config.pooling, config.num_labels) == (16, "nonzero_mean", 3)
    assert (config.classification_head, config.feature_order, config.class_weights) == ("linear", "per_cell", [1, 2, 3])
    assert config.id2label == dict(enumerate(TYPES)) and config.label2id["type2"] == 2
    model: Any = make_model(arm, config)
    before = MultiomePerformerForPreTraining.from_pretrained(pretrained).performer.state_dict()
    after = model.performer.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert model.classifier.output.weight.shape == (3, 16)
    assert model.class_weights.tolist() == [1, 2, 3]


def test_a_classifier_of_other_types_gives_its_encoder(
    folder: MultiomeFolder, pretrained: Path, tmp_path: Path
) -> None:
    arm = ModelArm("a", model=pretrained)
    make_model(arm, make_config(arm, folder, ["x", "y", "z", "w"])).save_pretrained(tmp_path / "other")
    again = dataclasses.replace(arm, model=tmp_path / "other")
    model: Any = make_model(again, make_config(again, folder, TYPES))
    assert model.classifier.third.weight.shape[0] == 3
    expected = MultiomePerformerForPreTraining.from_pretrained(pretrained).performer.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.performer.state_dict().items())


def test_random_weights_have_the_data_s_genes(folder: MultiomeFolder) -> None:
    config = make_config(ModelArm("a", "atac", config=SIZES), folder, TYPES)
    assert (config.num_genes, config.modalities, config.gene_ids) == (40, ["atac"], folder.gene_ids)
    assert config.num_value_bins == folder.num_value_bins
    scbert = make_config(ModelArm("a", preset="scbert", config={"num_hidden_layers": 1}), folder, TYPES)
    assert (scbert.num_genes, scbert.hidden_size, scbert.num_hidden_layers) == (40, 200, 1)


def test_frozen_trains_the_head_alone(folder: MultiomeFolder, pretrained: Path) -> None:
    arm = ModelArm("a", model=pretrained, tuning="frozen")
    model: Any = make_model(arm, make_config(arm, folder, TYPES))
    trained = {name.split(".")[0] for name, one in model.named_parameters() if one.requires_grad}
    assert trained == {"classifier"}


@pytest.mark.parametrize("head", ["linear", "convolutional"])
def test_lora_trains_adapters_and_head_and_merges_to_the_same(
    folder: MultiomeFolder, pretrained: Path, head: Any
) -> None:
    arm = ModelArm("a", "both", model=pretrained, tuning="lora", lora_rank=2, classification_head=head)
    model: Any = make_model(arm, make_config(arm, folder, TYPES))
    assert isinstance(model, PeftModel)
    trained = [name for name, one in model.named_parameters() if one.requires_grad]
    assert trained and all("lora_" in name or ".classifier." in name for name in trained)
    adapted = {name.split(".lora_")[0].rpartition(".")[2] for name in trained if "lora_" in name}
    assert adapted == {"query", "value"} and any(".classifier." in name for name in trained)
    with torch.no_grad():
        for name, one in model.named_parameters():
            if "lora_B" in name:
                one.normal_()
    values = torch.from_numpy(folder.cells.values(np.arange(200, 204), "rna"))
    model.eval()
    with torch.no_grad():
        before = model(rna_values=values).logits
        merged = unwrapped(model)
        assert type(merged).__name__ == "MultiomePerformerForCellTypeClassification"
        assert torch.allclose(merged(rna_values=values).logits, before, atol=1e-4)


def test_balanced_weights_are_scikit_learn_s() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2])
    assert balanced_weights(labels, 3) == pytest.approx(
        compute_class_weight("balanced", classes=np.arange(3), y=labels)
    )


def other_bins(folder: MultiomeFolder, **changes: Any) -> MultiomeFolder:
    extractor = {**folder.feature_extractor, "rna_bins": {**folder.feature_extractor["rna_bins"], **changes}}
    return dataclasses.replace(folder, feature_extractor=extractor)


def test_bins_of_other_cells_are_warned_of(
    folder: MultiomeFolder, pretrained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arm = ModelArm("a", model=pretrained)
    require_fitting_model(arm, folder)
    assert not caplog.text
    require_fitting_model(arm, other_bins(folder, edges=[1.0, 2.0, 3.0, 4.0]))
    assert "bins of RNA were fitted on other cells" in caplog.text


def test_models_that_do_not_fit_the_folder_are_refused(folder: MultiomeFolder, pretrained: Path) -> None:
    fitted = {"model": pretrained}
    genes = dataclasses.replace(folder, gene_ids=[*folder.gene_ids[:-2], "ENSG9", "ENSG8"])
    fewer = dataclasses.replace(folder, gene_ids=folder.gene_ids[:-2])
    cases: list[tuple[dict[str, Any], MultiomeFolder, str]] = [
        (fitted, genes, "2 of 40 genes of"),
        (fitted, genes, "first gene 38: ENSG00000000038 and ENSG9; build it with the model's genes"),
        (fitted, fewer, "has 40 genes and"),
        (fitted, other_bins(folder, strategy="absolute"), "reads RNA binned as quartile"),
        (fitted | {"config": {"gene_ids": []}}, folder, "sets gene_ids, which follow from the data"),
        (fitted | {"config": {"width": 3}}, folder, "sets width, which are no fields of MultiomePerformerConfig"),
        ({"preset": "scbert"}, folder, "scBERT reads values binned as scbert"),
        (
            {"config": {"modalities": ["atac"]}},
            folder,
            "shows rna, and its model has no RNA: choose modality 'atac'",
        ),
        ({"config": {"num_value_bins": 7}}, folder, "the model has 7 bins of values, and"),
    ]
    for options, where, message in cases:
        with pytest.raises(ValueError) as error:
            require_fitting_model(ModelArm("a", **options), where)
        assert message in str(error.value)


def test_sizes_beside_a_pretrained_model_are_refused(folder: MultiomeFolder, pretrained: Path) -> None:
    arm = ModelArm("a", model=pretrained, config={"hidden_size": 32})
    with pytest.raises(ValueError, match=r"lacks \d+ weights of the encoder, e.g. performer\."):
        make_model(arm, make_config(arm, folder, TYPES))


def test_a_model_that_does_not_name_its_genes_is_warned_of(
    folder: MultiomeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    MultiomePerformerForPreTraining(MultiomePerformerConfig(num_genes=40, **SIZES)).save_pretrained(tmp_path)  # type: ignore[arg-type]
    arm = ModelArm("a", model=tmp_path)
    require_fitting_model(arm, folder)
    assert "does not say which genes it has" in caplog.text
    assert make_config(arm, folder, TYPES).gene_ids == folder.gene_ids
