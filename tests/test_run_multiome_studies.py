"""The studies from end to end: their rows, tables and figures, going on, and bad input."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from omics_transformers.training import run_multiome_pretraining
from omics_transformers.training.multiome_study_arguments import StudyArguments
from omics_transformers.training.run_multiome_studies import main, plan_study, run_study

SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 4, "intermediate_size": 8}
RUN = {"use_cpu": True, "disable_tqdm": True, "report_to": "none"}
PRETRAINING = {**SIZES, **RUN, "max_steps": 2, "per_device_train_batch_size": 16, "save_strategy": "no"}
CLASSIFICATION = {**RUN, "num_train_epochs": 2, "minimum_steps": 4, "per_device_train_batch_size": 64}


def train_here(script: str, file: Path, run: Path) -> None:
    """In this process, in place of one of its own: the same script, and the same settings."""
    assert script == "run_multiome_pretraining"
    run_multiome_pretraining.main([str(file), "--output_dir", str(run), "--resume"])


def rebinned(toy_multiome: Path, folder: Path, strategy: str) -> Path:
    """The toy's cells, said to be binned otherwise."""
    shutil.copytree(toy_multiome, folder)
    described = json.loads((folder / "multiome.json").read_text())
    for modality in ("rna", "atac"):
        described["feature_extractor"][f"{modality}_bins"]["strategy"] = strategy
    (folder / "multiome.json").write_text(json.dumps(described))
    readme = folder / "README.md"  # datasets caches by name
    readme.write_text(readme.read_text().replace("config_name: toy_multiome", f"config_name: {strategy}"))
    return folder


@pytest.fixture
def arguments(tmp_path: Path) -> Callable[..., StudyArguments]:
    def make(study: str, *data: Path, **changes: Any) -> StudyArguments:
        for name, options in (("pretraining", PRETRAINING), ("classification", CLASSIFICATION)):
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(options))
        return StudyArguments(
            **{
                "study": study,
                "data": [str(folder) for folder in data],
                "output_dir": str(tmp_path / "out"),
                "pretraining_config": str(tmp_path / "pretraining.yaml"),
                "classification_config": str(tmp_path / "classification.yaml"),
                "seeds": [0, 1],
                **changes,
            }
        )

    return make


def refuse(script: str, file: Path, run: Path) -> None:
    raise AssertionError(f"{run} is trained again")


def test_feature_order(arguments: Callable[..., StudyArguments], toy_multiome: Path, tmp_path: Path) -> None:
    asked = arguments("feature-order", toy_multiome)
    summary = run_study(asked, launch=train_here)
    orders = ["fixed for all cells", "randomized initially", "randomized every time"]
    assert set(summary["method"]) == {"Logistic Regression (scRNA)", *orders}
    row = summary.set_index("method").loc["fixed for all cells"]
    assert row["mcc_difference"] == 0 and row["mcc_low"] <= row["mcc"] <= row["mcc_high"]
    output = tmp_path / "out"
    curves = pd.read_csv(output / "curves.tsv", sep="\t")
    assert set(curves["method"]) == set(orders) and {"training_accuracy", "validation_accuracy"} <= set(curves)
    assert curves.groupby(["method", "seed"]).size().min() >= 2
    for order in ("fixed", "per_cell", "every_step"):
        config = json.loads((output / "pretraining" / f"feature_order_{order}_seed0" / "config.json").read_text())
        assert config["feature_order"] == order
    results = pd.read_csv(output / "results.tsv", sep="\t")
    assert sorted(results["seed"].unique()) == [0, 1] and len(results) == 8
    assert all((output / "figures" / f"{name}.png").is_file() for name in ("curves", "scores"))
    said = json.loads((output / "study.json").read_text())
    assert "pre-trained with the first seed alone" in said["notes"][0] and len(said["runs"]) == 8
    # Done again, nothing is trained again, on cell types neither: seconds are as they were.
    written = (output / "results.tsv").read_bytes()
    pd.testing.assert_frame_equal(run_study(asked, launch=refuse), summary)
    assert (output / "results.tsv").read_bytes() == written


@pytest.mark.slow
def test_binning(arguments: Callable[..., StudyArguments], toy_multiome: Path, tmp_path: Path) -> None:
    absolute = rebinned(toy_multiome, tmp_path / "absolute", "absolute")
    asked = arguments("binning", toy_multiome, absolute, pretrain_each_seed=True, cells_per_type=[5])
    summary = run_study(asked, launch=train_here).set_index("method")
    performer = [f"multiome Performer, {strategy}" for strategy in ("quartile", "absolute")]
    logistic = [f"Logistic Regression, {strategy}" for strategy in ("quartile", "absolute")]
    assert set(summary.index) == {*performer, *logistic, "Logistic Regression (scRNA)"}
    assert set(summary["cells_per_type"]) == {5} and set(summary["seeds"]) == {2}
    # The same values under another name: the same cells, splits and scores.
    assert summary.loc[logistic[0], "mcc"] == summary.loc[logistic[1], "mcc"]
    bins = pd.read_csv(tmp_path / "out" / "bins.tsv", sep="\t")
    assert set(bins["strategy"]) == {"quartile", "absolute"} and len(bins) == 2 * 2 * 6
    runs = {path.name for path in (tmp_path / "out" / "pretraining").iterdir() if path.is_dir()}
    assert runs == {f"binning_{strategy}_seed{seed}" for strategy in ("quartile", "absolute") for seed in (0, 1)}
    assert all((tmp_path / "out" / "figures" / f"{name}.png").is_file() for name in ("bins", "scores"))


def test_modality_is_the_six_rows_of_table_4_3(
    arguments: Callable[..., StudyArguments], toy_multiome: Path, tmp_path: Path
) -> None:
    scbert = rebinned(toy_multiome, tmp_path / "scbert", "scbert")
    summary = run_study(arguments("modality", toy_multiome, scbert_data=str(scbert), seeds=[0]), launch=train_here)
    assert len(summary) == 6 and summary["mcc"].notna().all()
    assert set(summary.loc[summary["modality"] == "both", "method"]) == {
        "Logistic Regression (multiome)",
        "multiome Performer (mixed & multiome)",
    }
    runs = tmp_path / "out" / "pretraining"
    modalities = {
        name: json.loads((runs / f"modality_{name}_seed0" / "config.json").read_text())["modalities"]
        for name in ("rna", "mixed", "scbert")
    }
    assert modalities == {"rna": ["rna"], "mixed": ["rna", "atac"], "scbert": ["rna"]}


def test_without_scbert_its_row_is_left_out_and_said(
    arguments: Callable[..., StudyArguments], toy_multiome: Path
) -> None:
    arms, notes = plan_study(arguments("modality", toy_multiome))
    assert len(arms) == 5 and any("the row of scBERT is left out" in note for note in notes)


def test_bad_input(arguments: Callable[..., StudyArguments], toy_multiome: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        run_study(arguments("modality", tmp_path / "absent"))
    with pytest.raises(ValueError, match=r"quartile.*each binned otherwise"):
        run_study(arguments("binning", toy_multiome, toy_multiome))
    other = rebinned(toy_multiome, tmp_path / "other", "absolute")
    with pytest.raises(ValueError, match=r"the bins of RNA of .* are not those of"):
        run_study(arguments("feature-order", toy_multiome, pretraining_data=[str(other)]))
    with pytest.raises(ValueError, match="is binned as absolute: scBERT needs"):
        run_study(arguments("modality", toy_multiome, scbert_data=str(other)))
    described = json.loads((other / "multiome.json").read_text())
    described["feature_extractor"]["rna_bins"] = None
    (other / "multiome.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="holds no RNA"):
        run_study(arguments("feature-order", other))
    assert not (tmp_path / "out").exists()


def test_it_is_not_launched_on_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="start it with plain Python"):
        main(["--study", "modality"])
