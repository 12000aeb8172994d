"""Options of run_segmentation.py: flags, YAML, and the example file."""

from pathlib import Path

import pytest

from omics_transformers.training.segmentation_arguments import parse_segmentation_arguments

EXAMPLE = Path(__file__).parents[1] / "training" / "configs" / "segment_nt.yaml"


def test_flags_and_yaml_make_the_same_settings(tmp_path: Path) -> None:
    flags = ["--segments", "s", "--output-dir", "out", "--use-cpu", "--unet-channels", "8", "16", "--lora-rank", "4"]
    by_flags = parse_segmentation_arguments(flags)
    file = tmp_path / "run.yaml"
    file.write_text("segments: s\noutput_dir: out\nuse_cpu: true\nunet_channels: [8, 16]\nlora_rank: 4\n")
    by_file = parse_segmentation_arguments([str(file)])
    assert by_file[:2] == by_flags[:2]
    assert by_flags[0].unet_channels == [8, 16] and by_flags[0].lora_rank == 4
    assert (by_flags[2].learning_rate, by_flags[2].remove_unused_columns) == (5e-5, False)
    assert parse_segmentation_arguments([str(file), "--lora-rank", "2"])[0].lora_rank == 2


def test_the_example_holds_known_options() -> None:
    model, data, training = parse_segmentation_arguments([str(EXAMPLE), "--output-dir", "out", "--use-cpu"])
    assert model.encoder == "nucleotide-transformer" and data.segments == "segments"
    assert training.learning_rate == 5e-5
    assert training.metric_for_best_model == "mcc"
    assert training.per_device_train_batch_size * training.gradient_accumulation_steps == 256


def test_names_unknown_options(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("crop: 5\n")
    with pytest.raises(ValueError, match="unknown options in the YAML file: crop;"):
        parse_segmentation_arguments([str(tmp_path / "run.yaml")])
