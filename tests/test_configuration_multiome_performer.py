"""What the multiome Performer's configuration holds, keeps and refuses."""

from pathlib import Path

import pytest

from omics_transformers.modeling.configuration_multiome_performer import MultiomePerformerConfig


def test_the_defaults_are_the_publications() -> None:
    config = MultiomePerformerConfig()
    assert (config.num_genes, config.hidden_size, config.num_hidden_layers) == (10_733, 128, 6)
    assert (config.num_attention_heads, config.head_dim, config.num_random_features) == (10, 64, 266)
    assert (config.modalities, config.num_value_bins, config.mask_value_id) == (["rna", "atac"], 5, 6)
    assert (config.attention_type, config.pooling, config.joint_embedding) == ("performer", "mean", "mean")


def test_configurations_share_no_list() -> None:
    MultiomePerformerConfig().modalities.append("protein")
    assert MultiomePerformerConfig().modalities == ["rna", "atac"]


def test_scbert_is_a_preset_that_can_be_changed() -> None:
    config = MultiomePerformerConfig.scbert()
    assert (config.num_genes, config.hidden_size, config.intermediate_size) == (16_906, 200, 800)
    assert (config.num_hidden_layers, config.num_attention_heads, config.head_dim) == (6, 10, 64)
    assert (config.modalities, config.num_random_features, config.feature_redraw_interval) == (["rna"], 266, 1000)
    assert MultiomePerformerConfig.scbert(num_genes=50, hidden_size=16).num_genes == 50


def test_all_fields_survive_save_and_load(tmp_path: Path) -> None:
    fields = {
        "num_genes": 3,
        "gene_ids": ["a", "b", "c"],
        "modalities": ["atac", "rna"],
        "num_value_bins": 7,
        "head_dim": 8,
        "num_random_features": 11,
        "feature_redraw_interval": None,
        "feature_seed": 4,
        "attention_type": "sdpa",
        "pooling": "cls",
        "joint_embedding": "cross_attention",
        "gene_feature_size": 5,
        "classification_head": "linear",
        "classifier_dropout": 0.25,
        "num_labels": 2,
        "class_weights": [1.0, 2.5],
        "feature_order": "every_step",
    }
    MultiomePerformerConfig(**fields).save_pretrained(tmp_path)
    loaded = MultiomePerformerConfig.from_pretrained(tmp_path)
    assert {name: getattr(loaded, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_genes": 0}, "num_genes is 0: expected at least 1"),
        ({"head_dim": 1}, "head_dim is 1: expected at least 2"),
        ({"num_random_features": 0}, "num_random_features is 0: expected a positive number, or None"),
        ({"feature_redraw_interval": 0}, "feature_redraw_interval is 0"),
        ({"gene_ids": ["a"]}, "gene_ids has 1 genes and num_genes is 10,733"),
        ({"gene_ids": ["a", "b", "a"], "num_genes": 3}, "more than once, e.g. a"),
        ({"modalities": []}, 'expected "rna", "atac" or both'),
        ({"modalities": ["rna", "rna"]}, 'expected "rna", "atac" or both'),
        ({"modalities": ["protein"]}, 'expected "rna", "atac" or both'),
        ({"modalities": ["rna"], "joint_embedding": "cross_attention"}, "needs both modalities"),
        ({"class_weights": [1.0], "num_labels": 2}, "class_weights has 1 numbers and the model 2 labels"),
        ({"class_weights": [-1.0, 1.0]}, "expected finite numbers of at least 0"),
        ({"class_weights": [float("inf"), 1.0]}, "expected finite numbers of at least 0"),
        ({"attention_type": "flash"}, "attention_type"),
        ({"pooling": "max"}, "pooling"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(Exception, match=message):
        MultiomePerformerConfig(**fields)
