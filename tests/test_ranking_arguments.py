"""Options of run_region_ranking.py: flags, YAML, the example file, and the publication's defaults."""

from pathlib import Path

import pytest

from omics_transformers.training.ranking_arguments import parse_ranking_arguments

EXAMPLE = Path(__file__).parents[1] / "training" / "configs" / "nt_region_ranker.yaml"


def test_flags_and_yaml_make_the_same_settings(tmp_path: Path) -> None:
    flags = ["--regions", "r", "--output-dir", "out", "--use-cpu", "--scorer-head", "unet", "--lora-rank", "4"]
    by_flags = parse_ranking_arguments(flags)
    file = tmp_path / "run.yaml"
    file.write_text("regions: r\noutput_dir: out\nuse_cpu: true\nscorer_head: unet\nlora_rank: 4\n")
    assert parse_ranking_arguments([str(file)])[:2] == by_flags[:2]
    assert by_flags[0].scorer_head == "unet" and by_flags[2].remove_unused_columns is False
    assert parse_ranking_arguments([str(file), "--lora-rank", "2"])[0].lora_rank == 2


def test_the_defaults_are_the_publications() -> None:
    model, data, training = parse_ranking_arguments(["--output-dir", "out", "--use-cpu", "--encoder", "none"])
    assert (model.scorer_head, model.ranking_loss, model.freeze_encoder) == ("convolutional", "softmax", False)
    assert model.encoder is None
    assert (training.learning_rate, training.per_device_train_batch_size, training.weight_decay) == (5e-5, 64, 1e-3)
    assert training.optim.startswith("adamw")
    assert (data.padding, data.reverse_complement) == ("stored", 0.0)


def test_the_example_holds_known_options() -> None:
    model, data, training = parse_ranking_arguments([str(EXAMPLE), "--output-dir", "out", "--use-cpu"])
    assert model.encoder == "nucleotide-transformer" and data.regions == "regions"
    assert (training.learning_rate, training.weight_decay) == (5e-5, 1e-3)
    assert (training.metric_for_best_model, training.greater_is_better) == ("exact_order", True)
    assert training.per_device_train_batch_size * training.gradient_accumulation_steps == 64


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--freeze-encoder", "--lora-rank", "2"], "freeze_encoder and lora_rank are both set"),
        (["--random-weights"], "random_weights is set without encoder"),
        (["--early-stopping-patience", "2"], "early_stopping_patience is set without load_best_model_at_end"),
    ],
)
def test_refuses_options_that_exclude_each_other(flags: list[str], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        parse_ranking_arguments(["--output-dir", "out", "--use-cpu", *flags])


def test_names_unknown_options_and_heads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.yaml").write_text("head: unet\n")
    with pytest.raises(ValueError, match="unknown options in the YAML file: head;"):
        parse_ranking_arguments([str(tmp_path / "run.yaml")])
    with pytest.raises(SystemExit):
        parse_ranking_arguments(["--scorer-head", "perceptron"])
    assert "invalid choice: 'perceptron'" in capsys.readouterr().err
