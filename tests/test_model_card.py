"""The card of a model: valid metadata, and the numbers of the run."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.configuration_nt_region_ranker import NTRegionRankerConfig
from omics_transformers.training.model_card import write_model_card, write_ranking_card
from omics_transformers.training.pretraining_arguments import DataArguments
from omics_transformers.training.ranking_arguments import RankingDataArguments, RankingModelArguments
from omics_transformers.training.ranking_metric import SCORES


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


def ranking_card(folder: Path, **changes: Any) -> str:
    config = NTRegionRankerConfig(cell_types=changes.pop("cell_types", None), region_bp=500, span_bp=3000)
    scores = dict.fromkeys(SCORES, 0.25) | {f"{name}_chance": 1 / 6 for name in SCORES}
    values: dict[str, Any] = {
        "model_name": "ranker",
        "config": config,
        "parameters": 12345,
        "trained_parameters": 345,
        "model_arguments": RankingModelArguments(encoder="nt", lora_rank=4),
        "data_arguments": RankingDataArguments(),
        "report": {"train_rows": 1000, "train_regions_cut": 0},
        "steps": 50,
        "rows_a_step": 64,
        "learning_rate": 5e-5,
        "weight_decay": 1e-3,
        "results": {"test": {**scores, "lists": 2000, "exact_order_interval": [0.2, 0.3], "ndcg": None}},
    }
    write_ranking_card(folder, **{**values, **changes})
    card = ModelCard.load(folder / "README.md")
    assert "nt-region-ranker" in card.data.tags and "{{" not in card.text and "{%" not in card.text
    return card.text


def test_a_region_ranker_says_how_it_ranks_beside_chance(tmp_path: Path) -> None:
    text = ranking_card(tmp_path)
    for expected in (
        "| test | 2,000 | exact order | 0.250 | 0.200 to 0.300 | 0.167 |",
        "| test | 2,000 | ndcg | - | - | 0.167 |",
        "from nt, adapted by LoRA of rank 4",
        "12,345, of which 345 trained",
        "the same scores for all",
        "| train rows | 1,000 |",
    ):
        assert expected in text
    assert "train regions cut" not in text and "cell_type_ids" not in text
    conditioned = ranking_card(tmp_path, cell_types=["T", "B"], results={})
    assert "scores depend on it: T, B" in conditioned and "cell_type_ids" in conditioned
    assert "import torch" in conditioned and "No rows were held out" in conditioned
