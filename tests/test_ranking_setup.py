"""What a ranking run trains on, and the model: rows, cut regions, rescaling, heads, cell types, LoRA."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from peft import PeftModel

from omics_transformers.modeling.modeling_nt_region_ranker import NTRegionRanker
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.training.ranking_arguments import RankingDataArguments, RankingModelArguments
from omics_transformers.training.ranking_data import RegionFolder, RegionRankingCollator, read_regions
from omics_transformers.training.ranking_setup import (
    RankingData,
    make_ranking_config,
    make_ranking_model,
    prepare_ranking_data,
)

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TOKENIZER = NucleotideKmerTokenizer()


@pytest.fixture(scope="module")
def regions(toy_regions: Path) -> RegionFolder:
    return read_regions(toy_regions)


def prepare(regions: RegionFolder, *, num_tokens: int = 101, **changes: Any) -> RankingData:
    return prepare_ranking_data(RankingDataArguments(**changes), regions, TOKENIZER, num_tokens=num_tokens)


def test_uses_all_rows_unless_told_otherwise(regions: RegionFolder) -> None:
    data = prepare(regions, block_bp=6000)
    assert (len(data.training), len(data.validation or []), len(data.test or [])) == (256, 48, 64)
    assert data.training.block_of is None and data.test is not None and data.test.block_of is not None
    np.testing.assert_array_equal(data.test.block_of, np.arange(64) * 600 // 6000)
    fewer = prepare(regions, maximum_training_rows=100, validation_rows=3, test_rows=5)
    assert fewer.during_training is not None and fewer.test is not None
    assert fewer.during_training.numbers.tolist() == [0, 24, 47]
    assert (len(fewer.training), len(fewer.validation or []), len(fewer.test)) == (100, 48, 5)
    assert (fewer.report["train_rows"], fewer.report["train_rows_not_used"]) == (100, 156)
    for option in ("maximum_training_rows", "validation_rows", "test_rows"):
        with pytest.raises(ValueError, match=f"{option} is 0: expected a positive number, or none for all rows"):
            prepare(regions, **{option: 0})


@pytest.mark.parametrize("num_tokens", [18, 20, 24, 101])
def test_counts_the_tokens_that_are_cut(
    regions: RegionFolder, num_tokens: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        data = prepare(regions, num_tokens=num_tokens, test_rows=10)
    batch = RegionRankingCollator(TOKENIZER, 200)([data.test[number] for number in range(10)])  # type: ignore[index]
    beyond = (batch["attention_mask"].sum(2) - num_tokens).clamp(min=0)
    assert data.report["test_regions_cut"] == int((beyond > 0).sum())
    assert data.report.get("test_tokens_cut", 0) == int(beyond.sum())
    assert ("test regions have more than" in caplog.text) == (num_tokens < 101)


def test_says_which_splits_are_not_there(regions: RegionFolder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        data = prepare(RegionFolder({"train": regions.splits["train"]}, 600, regions.cell_types))
    assert (data.validation, data.test, data.during_training) == (None, None, None)
    assert "no validation rows" in caplog.text and "no test rows" in caplog.text


def test_the_configuration_describes_the_data(regions: RegionFolder) -> None:
    config = make_ranking_config(RankingModelArguments(**TINY, scorer_head="linear"), regions, TOKENIZER)
    assert (config.num_tokens, config.span_bp, config.cell_types) == (101, 600, None)
    assert config.region_bp == int(np.median(regions.splits["train"].region_lengths())) in range(105, 116)
    assert (config.scorer_head, config.ranking_loss, config.rescaling_factor) == ("linear", "softmax", None)
    conditioned = RankingModelArguments(**TINY, condition_on_cell_type=True, num_tokens=30, ranking_labels="ranks")
    config = make_ranking_config(conditioned, regions, TOKENIZER)
    assert (config.num_tokens, config.cell_types, config.ranking_labels) == (30, ["alpha", "beta"], "ranks")


def test_long_spans_rescale_positions(regions: RegionFolder) -> None:
    """30 kb spans have 5,001 tokens, and the encoder was trained with 2,048."""
    config = make_ranking_config(RankingModelArguments(**TINY), RegionFolder(regions.splits, 30_000, ["a"]), TOKENIZER)
    assert (config.num_tokens, config.rescaling_factor) == (5001, 5001 / 2048)


def test_refuses_heads_and_losses_that_do_not_fit(regions: RegionFolder) -> None:
    with pytest.raises(StrictDataclassClassValidationError, match="num_tokens 9: the convolutional head pools"):
        make_ranking_config(RankingModelArguments(**TINY, num_tokens=9), regions, TOKENIZER)
    with pytest.raises(StrictDataclassClassValidationError, match="poisson"):
        arguments = RankingModelArguments(**TINY, ranking_loss="poisson", ranking_labels="ranks")
        make_ranking_config(arguments, regions, TOKENIZER)


def test_lora_trains_the_whole_head_and_cell_types(regions: RegionFolder) -> None:
    arguments = RankingModelArguments(**TINY, lora_rank=2, condition_on_cell_type=True, scorer_head="transformer")
    model = make_ranking_model(arguments, make_ranking_config(arguments, regions, TOKENIZER))
    assert isinstance(model, PeftModel)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    parts = {part for name in trained for part in ("scorer", "cell_type_embeddings", "lora_A") if part in name}
    assert parts == {"scorer", "cell_type_embeddings", "lora_A"}


def test_composed_embeddings_by_seed(regions: RegionFolder) -> None:
    def embeddings(seed: int, **changes: Any) -> torch.Tensor:
        torch.manual_seed(0)
        arguments = RankingModelArguments(**TINY, **changes)
        model = make_ranking_model(arguments, make_ranking_config(arguments, regions, TOKENIZER), seed=seed)
        assert isinstance(model, NTRegionRanker)
        return model.encoder.embeddings.word_embeddings.weight[6:4102].detach()

    assert torch.equal(embeddings(1), embeddings(1)) and not torch.equal(embeddings(1), embeddings(2))
    assert torch.equal(embeddings(1, initial_embeddings="random"), embeddings(2, initial_embeddings="random"))
