"""Evaluation against a pass over all rows at once, by cell type too; learning rates of encoder and head."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omics_transformers.modeling.modeling_nt_region_ranker import NTRegionRanker
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.training.ranking_arguments import (
    RankingArguments,
    RankingDataArguments,
    RankingModelArguments,
)
from omics_transformers.training.ranking_data import RegionRankingCollator, read_regions
from omics_transformers.training.ranking_metric import SCORES, RegionRankingMetric
from omics_transformers.training.ranking_setup import (
    RankingData,
    make_ranking_config,
    make_ranking_model,
    prepare_ranking_data,
)
from omics_transformers.training.ranking_trainer import RankingTrainer

TINY: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16
}  # fmt: skip
TOKENIZER = NucleotideKmerTokenizer()


def make(
    toy_regions: Path,
    output: Path,
    *,
    condition: bool = False,
    encoder_learning_rate: float | None = None,
    **options: Any,
) -> tuple[RankingTrainer, RankingData]:
    regions = read_regions(toy_regions)
    arguments = RankingModelArguments(**TINY, condition_on_cell_type=condition, scorer_head="linear", num_tokens=30)
    config = make_ranking_config(arguments, regions, TOKENIZER)
    torch.manual_seed(0)
    data = prepare_ranking_data(RankingDataArguments(block_bp=6000), regions, TOKENIZER, num_tokens=30)
    collator = RegionRankingCollator(TOKENIZER, 30, with_cell_types=condition)
    trainer = RankingTrainer(
        model=make_ranking_model(arguments, config),
        args=RankingArguments(output_dir=str(output), use_cpu=True, report_to="none", disable_tqdm=True, **options),
        data_collator=collator,
        train_dataset=data.training,
        eval_dataset=data.validation,
        processing_class=TOKENIZER,
        cell_types=regions.cell_types,
        eval_collator=collator.for_evaluation(),
        train_tokens=[30] * len(data.training),
        encoder_learning_rate=encoder_learning_rate,
    )
    return trainer, data


@pytest.mark.parametrize(("batch", "condition"), [(5, False), (64, True)])
def test_streamed_evaluation_is_that_of_all_rows_at_once(
    toy_regions: Path, tmp_path: Path, batch: int, condition: bool
) -> None:
    """64 rows in 7 groups; in the last batch of 5 there are 4."""
    trainer, data = make(toy_regions, tmp_path, condition=condition, per_device_eval_batch_size=batch, seed=3)
    assert data.test is not None and data.test.block_of is not None
    everything = trainer.eval_collator([data.test[number] for number in range(64)])
    blocks, cell_types = everything.pop("blocks"), everything["cell_type_ids"]
    model = trainer.model
    assert isinstance(model, NTRegionRanker)
    if model.cell_type_embeddings is None:
        del everything["cell_type_ids"]
    else:
        torch.nn.init.normal_(model.cell_type_embeddings.weight)
    with torch.no_grad():
        outputs = model.eval()(**everything)
    expected = RegionRankingMetric(seed=3).compute(
        predictions=outputs.scores, references=everything["labels"], groups=blocks, resamples=20
    )
    trainer.resamples = 20
    logged = trainer.evaluate(data.test, metric_key_prefix="test")
    found, by_type = trainer.last_result, trainer.last_result.pop("cell_types")
    assert found.pop("loss") == pytest.approx(outputs.loss.item(), rel=1e-5)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6), name
    assert (found["lists"], found["groups"]) == (64, 7)
    for number, name in enumerate(("alpha", "beta")):
        is_type = cell_types == number
        alone = RegionRankingMetric().compute(
            predictions=outputs.scores[is_type], references=everything["labels"][is_type]
        )
        assert by_type[name]["exact_order"] == pytest.approx(alone["exact_order"]) and by_type[name]["lists"] == 32
    for score in SCORES:
        assert logged[f"test_{score}"] == found[score]


def test_rows_that_fill_up_the_processes_do_not_count(toy_regions: Path, tmp_path: Path) -> None:
    """Of 63 rows on two processes the second computes one that it does not count."""
    trainer, data = make(toy_regions, tmp_path, per_device_eval_batch_size=8)
    assert data.test is not None
    rows = data.test.some_of(np.arange(63))
    trainer.evaluate(rows)
    expected = trainer.last_result
    shares = []
    for rank in range(2):
        loader = torch.utils.data.DataLoader(rows.share_of(rank, 2), batch_size=8, collate_fn=trainer.eval_collator)
        trainer.get_eval_dataloader = lambda dataset, loader=loader: loader  # type: ignore[method-assign, assignment, misc]
        trainer.evaluate(rows)
        shares.append(trainer.last_result)
    assert [share["lists"] for share in shares] == [32, 31]
    for name in ("loss", *SCORES):
        both = (32 * shares[0][name] + 31 * shares[1][name]) / 63
        assert both == pytest.approx(expected[name], rel=1e-5), name


def test_encoder_and_head_have_their_own_learning_rates(toy_regions: Path, tmp_path: Path) -> None:
    trainer, _ = make(
        toy_regions, tmp_path, encoder_learning_rate=1e-4, learning_rate=1e-2, max_steps=1, save_strategy="no",
        lr_scheduler_type="constant", warmup_steps=0,
    )  # fmt: skip
    trainer.train()
    rates = {id(parameter): group["lr"] for group in trainer.optimizer.param_groups for parameter in group["params"]}
    for name, parameter in trainer.model.named_parameters():  # type: ignore[union-attr]
        assert rates[id(parameter)] == (1e-4 if name.startswith("encoder.") else 1e-2), name
