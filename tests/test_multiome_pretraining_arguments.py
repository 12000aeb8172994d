"""Options of run_multiome_pretraining.py: flags, YAML, the example file, and the thesis' defaults."""

from pathlib import Path

import pytest

from omics_transformers.training.multiome_pretraining_arguments import parse_multiome_arguments

EXAMPLE = Path(__file__).parents[1] / "training" / "configs" / "multiome_performer.yaml"


def test_flags_and_yaml_make_the_same_settings(tmp_path: Path) -> None:
    flags = ["--data", "m", "--output-dir", "out", "--use-cpu", "--kinds", "rna", "both", "--kind-weights", "2", "1"]
    by_flags = parse_multiome_arguments(flags)
    file = tmp_path / "run.yaml"
    file.write_text("data: m\noutput_dir: out\nuse_cpu: true\nkinds: [rna, both]\nkind_weights: [2, 1]\n")
    assert parse_multiome_arguments([str(file)])[:2] == by_flags[:2]
    assert (by_flags[1].kinds, by_flags[1].kind_weights) == (["rna", "both"], [2.0, 1.0])
    assert parse_multiome_arguments([str(file), "--mask-share", "0.3"])[1].mask_share == 0.3


def test_the_defaults_are_the_thesis_and_scberts() -> None:
    model, data, training = parse_multiome_arguments(["--output-dir", "out", "--use-cpu"])
    assert (training.learning_rate, training.weight_decay, training.per_device_train_batch_size) == (5e-5, 1e-4, 256)
    assert training.optim.startswith("adamw") and training.remove_unused_columns is False
    assert (data.mask_share, data.mask_replace_share, data.zero_share, data.feature_order) == (0.15, 0.9, 0.0, "fixed")
    assert (model.preset, model.model, data.missing_modality_share) == ("thesis", None, 0.0)


def test_the_example_holds_known_options() -> None:
    model, data, training = parse_multiome_arguments([str(EXAMPLE), "--output-dir", "out", "--use-cpu"])
    assert data.kinds == ["rna", "atac", "both"] and (model.hidden_size, model.attention_type) == (128, "performer")
    assert (training.learning_rate, training.weight_decay) == (5e-5, 1e-4)
    assert training.per_device_train_batch_size * training.gradient_accumulation_steps == 256


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--lora-rank", "2"], "lora_rank is set without model"),
        (["--model", "m", "--hidden-size", "8"], "hidden_size and model are both given"),
        (["--model", "m", "--gene2vec", "g"], "gene2vec and model are both given"),
        (["--dna-features", "d", "--gene2vec", "g"], "dna_features and gene2vec are both given"),
    ],
)
def test_refuses_options_that_exclude_each_other(flags: list[str], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        parse_multiome_arguments(["--output-dir", "out", "--use-cpu", *flags])


def test_names_unknown_options(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("regime: mixed\n")
    with pytest.raises(ValueError, match="unknown options in the YAML file: regime;"):
        parse_multiome_arguments([str(tmp_path / "run.yaml")])
