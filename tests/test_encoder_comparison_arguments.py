"""Flags of a comparison, and what its runs' YAML files may hold."""

from pathlib import Path
from typing import Any

import pytest

from omics_transformers.training.encoder_comparison_arguments import (
    HEADS,
    ComparisonArguments,
    parse_comparison_arguments,
    read_run_options,
)

REQUIRED = ["--regions", "r", "--segments", "s", "--output-dir", "out"]


def arguments(**changes: Any) -> ComparisonArguments:
    return ComparisonArguments(**{"regions": "r", "segments": "s", "output_dir": "out", **changes})


def test_flags() -> None:
    parsed = parse_comparison_arguments([*REQUIRED, "--encoder", "none", "--seeds", "3", "4", "--heads", "unet"])
    assert (parsed.encoder, parsed.seeds, parsed.heads, parsed.transfer_head) == (None, [3, 4], ["unet"], None)
    defaults = parse_comparison_arguments([*REQUIRED, "--skip-heads"])
    assert (defaults.seeds, tuple(defaults.heads), defaults.transfer_head) == ([0, 1, 2], HEADS, "convolutional")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"regions": None, "output_dir": None}, "regions, output_dir not set: give --regions, --output_dir"),
        ({"seeds": [1, 1]}, r"seeds are \[1, 1\]"),
        ({"heads": []}, r"heads are \[\]"),
        ({"heads": ["perceptron"]}, "expected some of linear, transformer, unet, convolutional, each once"),
    ],
)
def test_refuses_what_cannot_be_compared(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        arguments(**changes)


def test_reads_options_of_runs(tmp_path: Path) -> None:
    ranking, segmentation = tmp_path / "ranking.yaml", tmp_path / "segmentation.yaml"
    ranking.write_text("hidden_size: 32\nnum_train_epochs: 2\n")
    segmentation.write_text("unet_channels: [8]\nlearning_rate: 1e-3\n")
    options = read_run_options(arguments(ranking_config=str(ranking), segmentation_config=str(segmentation)))
    assert options.ranking == {"hidden_size": 32, "num_train_epochs": 2}
    assert options.segmentation == {"unet_channels": [8], "learning_rate": "1e-3"}
    assert read_run_options(arguments()) == ({}, {})


@pytest.mark.parametrize(
    ("kind", "text", "encoder", "error"),
    [
        ("ranking_config", "head: unet\n", None, "unknown options in .*: head"),
        ("ranking_config", "seed: 3\nscorer_head: unet\n", None, "sets scorer_head, seed, which the comparison sets"),
        ("ranking_config", "hidden_size: 3\n", "e", "sets hidden_size: all encoders take their sizes from e"),
        ("segmentation_config", "hidden_size: 3\n", None, "sets hidden_size: .* from the region rankers"),
        ("segmentation_config", "crop: 3\n", None, "unknown options in .*: crop"),
    ],
)
def test_refuses_options_of_runs(tmp_path: Path, kind: str, text: str, encoder: str | None, error: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=error):
        read_run_options(arguments(encoder=encoder, **{kind: str(file)}))
