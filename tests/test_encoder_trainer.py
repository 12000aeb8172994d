"""What trainers of all heads share; evaluation and learning rates run in the tests of each."""

from pathlib import Path

import numpy as np
import pytest
import torch

from omics_transformers.modeling.configuration_nt_region_ranker import NTRegionRankerConfig
from omics_transformers.modeling.modeling_nt_region_ranker import NTRegionRanker
from omics_transformers.training.encoder_arguments import EncoderTrainingArguments
from omics_transformers.training.encoder_trainer import EncoderTrainer
from omics_transformers.training.numbered_rows import NumberedRows
from omics_transformers.training.samplers import ShuffledLengthGroupedSampler


def trainer(output: Path, arguments: type = EncoderTrainingArguments, **options: object) -> EncoderTrainer:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return EncoderTrainer(
        model=NTRegionRanker(NTRegionRankerConfig(**sizes, num_tokens=16, scorer_head="linear")),
        args=arguments(output_dir=str(output), use_cpu=True, report_to="none", disable_tqdm=True, seed=4, **options),
        eval_collator=list,
        train_tokens=[3, 1, 2] * 10,
        encoder_learning_rate=1e-4,
    )


def test_order_depends_on_the_seed(tmp_path: Path) -> None:
    sampler = trainer(tmp_path, per_device_train_batch_size=5)._get_train_sampler()
    assert isinstance(sampler, ShuffledLengthGroupedSampler)
    assert (sampler.seed, sampler.batch_size, len(sampler)) == (4, 5, 30)
    other = trainer(tmp_path, per_device_train_batch_size=5, data_seed=9)._get_train_sampler()
    assert list(sampler) != list(other)


def test_groups_of_parameters_hold_each_once(tmp_path: Path) -> None:
    model_trainer = trainer(tmp_path, learning_rate=1e-2, weight_decay=0.1)
    groups = model_trainer.create_optimizer().param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        (1e-2, 0.0), (1e-2, 0.1), (1e-4, 0.0), (1e-4, 0.1)
    ]  # fmt: skip
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model_trainer.model.parameters())  # type: ignore[union-attr]


def test_evaluates_shares_of_rows_in_blocks(tmp_path: Path) -> None:
    rows = Numbers(np.arange(11), block_of=np.arange(11) // 4)
    model_trainer = trainer(tmp_path, per_device_eval_batch_size=4)
    assert list(model_trainer.get_eval_dataloader(rows)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert (model_trainer._n_rows, model_trainer._n_blocks) == (11, 3)


def test_sums_of_one_process_are_its_own(tmp_path: Path) -> None:
    counts = {"a": torch.tensor([1.0, 2.0])}
    assert trainer(tmp_path)._sum_over_processes(counts) is counts


def test_refuses_several_gpus_in_one_process(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 GPUs are visible to one process: start one process a GPU"):
        trainer(tmp_path, TwoGPUs)


class Numbers(NumberedRows[int]):
    def __getitem__(self, index: int) -> int:
        return int(self.rows[int(self.numbers[index])])


class TwoGPUs(EncoderTrainingArguments):
    @property
    def n_gpu(self) -> int:
        return 2
