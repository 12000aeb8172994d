"""The card of a model: valid metadata, and the numbers of the run."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.training.model_card import write_model_card
from omics_transformers.training.pretraining_arguments import DataArguments


def write(folder: Path, **changes: Any) -> str:
    values: dict[str, Any] = {
        "model_name": "heart",
        "adapter_type": "linear",
        "config": BioDTAConfig(vocab_size=602),
        "parameters": 12345,
        "gene_features_metadata": {"assembly": "hg19", "layer": "final_pointwise"},
        "data_arguments": DataArguments(),
        "report": {"training_cells": 900, "held_out_cells": 100, "cells_cut": 0, "tokens_dropped": 7},
        "donors": 3,
        "steps": 50,
        "cells_a_step": 48,
        "learning_rate": 0.001,
        "metrics": {"perplexity": 12.3456, "gene_frequency_perplexity": 300.0},
    }
    write_model_card(folder, **{**values, **changes})
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "transformers"
    assert "{{" not in card.text and "{%" not in card.text
    return card.text


def test_says_what_the_model_is_and_how_well_it_does(tmp_path: Path) -> None:
    text = write(tmp_path)
    for expected in (
        'from_pretrained("heart")',
        "600 genes and 2 special tokens",
        "linear, from 3072 DNA features; variants by replace",
        "| DNA features: assembly | hg19 |",
        "900 cells of 3 donors",
        "50 steps of 48 cells",
        "| tokens dropped | 7 |",
        "| perplexity | 12.35 |",
        "| gene frequency perplexity | 300 |",
    ):
        assert expected in text
    assert "cells cut" not in text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"metrics": {}}, "No cells were held out."),
        ({"adapter_type": "none", "gene_features_metadata": {}}, "which reads no DNA"),
    ],
)
def test_says_what_is_not_there(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    assert expected in write(tmp_path, **changes)
