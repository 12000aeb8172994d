"""Arms of a comparison: what they may say, and how they are read from YAML."""

import pytest

from omics_transformers.training.cell_type_arms import BaselineArm, ModelArm, arm_from_options, modalities_of


def test_arms_are_told_apart_by_their_options() -> None:
    assert arm_from_options({"name": "a", "modality": "both", "tuning": "lora"}) == ModelArm("a", "both", tuning="lora")
    assert arm_from_options({"baseline": "pca_knn"}) == BaselineArm("pca_knn", "rna", name="pca_knn")
    assert arm_from_options({"baseline": "pca_knn", "name": "neighbours"}).name == "neighbours"


def test_both_needs_both() -> None:
    assert [modalities_of(one) for one in ("rna", "atac", "both")] == [("rna",), ("atac",), ("rna", "atac")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "a", "modality": "dna"}, "modality of arm 'a' is 'dna': expected one of rna, atac, both"),
        ({"name": "a", "tuning": "half"}, "tuning of arm 'a' is 'half': expected one of full, frozen, lora, zero_shot"),
        ({"name": "a", "preset": "scbert", "model": "m"}, "preset and model are both given"),
        ({"name": "a", "preset": "scbert", "modality": "both"}, "scBERT reads RNA alone, and modality is 'both'"),
        ({"name": "a", "neighbours": 0}, "neighbours is 0: expected 1 or more"),
        ({"name": "a", "epochs": 3}, "unknown options of an arm: epochs; expected some of name, modality"),
        ({"modality": "rna"}, "an arm of a model has no name"),
        ({"baseline": "forest"}, "baseline of arm '' is 'forest': expected one of logistic_regression"),
        ({"baseline": "majority", "tuning": "full"}, "unknown options of an arm: tuning"),
    ],
)
def test_other_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError) as error:
        arm_from_options(options)
    assert message in str(error.value)
