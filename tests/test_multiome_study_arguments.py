"""Flags of the studies, and what the YAML files of their runs may hold."""

from pathlib import Path
from typing import Any

import pytest

from omics_transformers.training.multiome_study_arguments import (
    StudyArguments,
    parse_study_arguments,
    read_study_options,
)


def arguments(**changes: Any) -> StudyArguments:
    return StudyArguments(**{"study": "modality", "data": ["d"], "output_dir": "out", **changes})


def test_flags() -> None:
    parsed = parse_study_arguments(
        [
            *("--study", "binning", "--data", "one", "two", "--output-dir", "out", "--seeds", "3", "4"),
            "--pretrain-each-seed",
        ]
    )
    assert (parsed.study, parsed.data, parsed.seeds, parsed.pretrain_each_seed) == (
        "binning",
        ["one", "two"],
        [3, 4],
        True,
    )
    defaults = parse_study_arguments(["--study", "modality", "--data", "d", "--output_dir", "out"])
    assert (defaults.seeds, defaults.cells_per_type, defaults.scbert_data) == ([0, 1, 2, 3, 4], [], None)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"study": None, "data": []}, "study, data not set: give --study, --data"),
        ({"study": "sizes"}, "study is 'sizes': expected one of feature-order, binning, modality"),
        ({"data": ["one", "two"]}, "the study of modality takes one folder"),
        ({"pretraining_data": ["one", "two"]}, "pretraining_data are 2 folders and data 1"),
        ({"study": "feature-order", "scbert_data": "s"}, "scBERT is compared in the study of modality"),
        ({"scbert_pretraining_data": "s"}, "without scbert_data"),
        ({"seeds": [1, 1]}, r"seeds are \[1, 1\]"),
        ({"seeds": []}, r"seeds are \[\]"),
        ({"cells_per_type": [5, 5]}, r"cells_per_type are \[5, 5\]"),
    ],
)
def test_refuses_what_cannot_be_studied(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        arguments(**changes)


def test_reads_options_of_runs(tmp_path: Path) -> None:
    pretraining, classification = tmp_path / "pretraining.yaml", tmp_path / "classification.yaml"
    pretraining.write_text("hidden_size: 32\nmax_steps: 2\n")
    classification.write_text("learning_rate: 1e-3\nuse_cpu: true\n")
    given = {"pretraining_config": str(pretraining), "classification_config": str(classification)}
    options = read_study_options(arguments(**given))
    assert options.pretraining == {"hidden_size": 32, "max_steps": 2}
    assert options.classification.learning_rate == 1e-3
    assert Path(str(options.classification.output_dir)) == Path("out/cell_types")


def test_curves_of_feature_orders_are_not_cut_unless_asked(tmp_path: Path) -> None:
    file = tmp_path / "classification.yaml"
    file.write_text("use_cpu: true\n")
    found = {
        study: read_study_options(arguments(study=study, classification_config=str(file))).classification
        for study in ("feature-order", "modality")
    }
    assert found["feature-order"].early_stopping_patience is None and found["modality"].early_stopping_patience == 5
    file.write_text("use_cpu: true\nearly_stopping_patience: 3\n")
    asked = read_study_options(arguments(study="feature-order", classification_config=str(file)))
    assert asked.classification.early_stopping_patience == 3


@pytest.mark.parametrize(
    ("kind", "text", "error"),
    [
        ("pretraining_config", "depth: 3\n", "unknown options in .*: depth"),
        ("pretraining_config", "seed: 3\nkinds: [rna]\n", "sets kinds, seed, which the study sets"),
        ("classification_config", "width: 3\n", "unknown options in .*: width"),
        ("classification_config", "seed: 3\n", "sets seed, which the study sets"),
    ],
)
def test_refuses_options_of_runs(tmp_path: Path, kind: str, text: str, error: str) -> None:
    (tmp_path / "options.yaml").write_text(text)
    with pytest.raises(ValueError, match=error):
        read_study_options(arguments(**{kind: str(tmp_path / "options.yaml")}))
