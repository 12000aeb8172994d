"""Flags and YAML files."""

from pathlib import Path

import pytest

from omics_transformers.training.pretraining_arguments import parse_arguments


def test_flags_and_defaults_of_the_paper() -> None:
    model, data, training, _ = parse_arguments(
        ["--cells", "folder", "--output-dir", "out", "--resume", "--donor-column", "donor", "--use-cpu"]
    )
    assert (model.hidden_size, model.num_hidden_layers, model.max_position_embeddings) == (256, 6, 2048)
    assert (data.cells, data.donor_column, data.mlm_probability) == ("folder", "donor", 0.15)
    assert (training.output_dir, training.resume, training.num_train_epochs) == ("out", True, 3.0)


def test_a_yaml_file_and_flags_that_override_it(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "cells: folder\noutput_dir: out\nuse_cpu: true\nlearning_rate: 1e-4\nseed: 5\nhidden_size: 64\n"
        "lr_scheduler_kwargs: {num_cycles: 2}\n"
    )
    model, data, training, _ = parse_arguments([str(tmp_path / "run.yaml"), "--hidden-size", "32", "--seed=6"])
    assert (model.hidden_size, data.cells, training.output_dir) == (32, "folder", "out")
    assert (training.learning_rate, training.seed, training.use_cpu) == (1e-4, 6, True)
    assert training.lr_scheduler_kwargs == {"num_cycles": 2}


def test_the_example_file_names_known_options() -> None:
    example = Path(__file__).parents[1] / "training" / "configs" / "bio_dta.yaml"
    model, data, training, dna_encoder = parse_arguments([str(example), "--output-dir", "out", "--use-cpu"])
    assert (model.intermediate_size, data.missing_gene_features) == (512, "drop")
    assert (training.warmup_steps, training.learning_rate) == (10_000, 1e-3)
    assert dna_encoder.tune_dna_model == "none"


@pytest.mark.parametrize(
    ("content", "error", "named"),
    [
        ("cells: a\nlerning_rate: 1\n", ValueError, "unknown options in the YAML file: lerning_rate"),
        ("- cells\n", ValueError, "holds a list"),
        (None, FileNotFoundError, "no YAML file"),
    ],
)
def test_refuses_files_with_other_content(
    tmp_path: Path, content: str | None, error: type[Exception], named: str
) -> None:
    if content is not None:
        (tmp_path / "run.yaml").write_text(content)
    with pytest.raises(error, match=named):
        parse_arguments([str(tmp_path / "run.yaml")])


@pytest.mark.parametrize("flags", [["--adapter-type", "conv"], ["--lerning-rate", "1"], ["--hidden-size", "wide"]])
def test_refuses_unknown_flags_and_choices(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((SystemExit, ValueError)):
        parse_arguments(["--output-dir", "out", "--use-cpu", *flags])
