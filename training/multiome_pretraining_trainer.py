"""Trainer of the multiome Performer's pre-training: one kind of input a step, exact resuming, and accuracy of bins.

Evaluation goes through whole batches of one kind, each on one process, each once; its masks are those of epoch and step
0, so that they are the same at each evaluation, and its numbers stand beside those of the most frequent bins.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from .modality_sampler import ModalityBlockSampler
from .multiome_bin_baseline import BinCounts, MostFrequentBins, count_bins, most_frequent_bins
from .multiome_data import MODALITIES, Modality
from .multiome_masking import MultiomeMaskingCollator
from .multiome_pretraining_data import NOT_COUNTED, EvaluationBatches, MultiomePretrainingData
from .trainer import CellOrder

SCORES = ("loss", "accuracy", "most_frequent_of_gene", "most_frequent_of_all")
_COLUMNS = ("cells", "cell_losses", "values", "correct", "correct_of_gene", "correct_of_all")


class MultiomePretrainingTrainer(Trainer):
    """`transformers.Trainer` for `MultiomePerformerForPreTraining`.

    Args:
        data: the cells of each use.
        collator: of training; evaluation takes its masks.
        num_value_bins: of the model.
        kind_weights, dataset_exponent: as `ModalityBlockSampler` takes them.
        others: as `transformers.Trainer` takes them.

    Attributes:
        last_result: of the last evaluation: `SCORES`, means over what was evaluated, and `kinds`, with them and the
            numbers of cells and values for each kind and modality.

    Raises:
        ValueError: where several GPUs are visible to one process; and on resuming with other cells, batch size,
            processes or seed.
    """

    def __init__(
        self,
        *,
        data: MultiomePretrainingData,
        collator: MultiomeMaskingCollator,
        num_value_bins: int,
        kind_weights: Sequence[float] | None = None,
        dataset_exponent: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_collator=collator, **kwargs)  # type: ignore[arg-type]  # takes a batch, not a list
        if self.args.n_gpu > 1:
            raise ValueError(
                f"{self.args.n_gpu} GPUs are visible to one process: start one process a GPU with `accelerate launch` "
                "or `torchrun`, or show one GPU only with CUDA_VISIBLE_DEVICES"
            )
        self.data = data
        self.collator = collator
        self.num_value_bins = num_value_bins
        self.last_result: dict[str, Any] = {}
        self._order = {"kind_weights": kind_weights, "dataset_exponent": dataset_exponent}
        self._make_sampler()  # refuses what does not fit before training begins
        self._bin_counts: dict[Modality, BinCounts] = {}
        self.add_callback(CellOrder())

    def get_eval_dataloader(self, eval_dataset: str | Dataset[Any] | None = None) -> DataLoader[Any]:
        """This process's batches, as many as every other process has."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        assert isinstance(dataset, EvaluationBatches)
        self._evaluated = dataset
        return DataLoader(
            dataset.share_of(self.args.process_index, self.args.world_size),
            batch_size=None,
            collate_fn=self.collator.for_evaluation(),  # type: ignore[arg-type]
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
        )

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Scores as metrics: means of all, and by kind and modality; in `last_result` with numbers of cells."""
        uses = self._evaluated.uses
        self._baselines = [
            {name: self._baseline(name, use.missing is not None) for name in use.predicted} for use in uses
        ]
        self._sums = torch.zeros(len(uses), len(MODALITIES), len(_COLUMNS), dtype=torch.float64)
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        sums = self._sum_over_processes(self._sums)
        kinds = {
            use.name: {name: _scores(sums[number, MODALITIES.index(name)]) for name in use.predicted}
            for number, use in enumerate(uses)
        }
        self.last_result = {**_means(kinds), "kinds": kinds}
        metrics = {f"{metric_key_prefix}_{name}": self.last_result[name] for name in SCORES}
        for use, modalities in kinds.items():
            for modality, scores in modalities.items():
                metrics |= {f"{metric_key_prefix}_{use}_{modality}_{name}": scores[name] for name in SCORES[:2]}
        known = {name: value for name, value in metrics.items() if not math.isnan(value)}
        return output._replace(metrics={**(output.metrics or {}), **known}, num_samples=self._evaluated.n_cells)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        prediction_loss_only: bool,  # noqa: ARG002 (transformers' signature, here and below)
        ignore_keys: list[str] | None = None,  # noqa: ARG002
    ) -> tuple[None, None, None]:
        """Count a batch; nothing is returned that would be gathered."""
        batch = dict(inputs)
        number = int(batch.pop("counted_as"))
        labels = {name: batch[f"{name}_labels"] for name in MODALITIES if f"{name}_labels" in batch}
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(**self._prepare_inputs(batch))
        if number == NOT_COUNTED:
            return None, None, None
        for name, of_modality in labels.items():
            logits, places = outputs[f"{name}_logits"], outputs[f"{name}_logits_indices"]
            counted = _counted(logits.float().cpu(), of_modality, places.cpu(), self._baselines[number][name])
            self._sums[number, MODALITIES.index(name)] += counted
        return None, None, None

    def count_training_bins(self) -> dict[Modality, BinCounts]:
        """Bins of the training cells; each process reads its share of the cells, once."""
        if not self._bin_counts:
            self._bin_counts = {name: self._counted_bins(name) for name in self.data.modalities}
        return self._bin_counts

    def _counted_bins(self, modality: Modality) -> BinCounts:
        rows = self.data.training_rows(modality)[self.args.process_index :: self.args.world_size]
        counts, empty = count_bins(self.data.cells, rows, modality, num_bins=self.num_value_bins)
        summed = self._sum_over_processes(torch.from_numpy(np.append(counts.ravel(), empty))).numpy()
        return BinCounts(summed[:-1].reshape(counts.shape), int(summed[-1]))

    def _baseline(self, modality: Modality, is_missing: bool) -> MostFrequentBins:
        counts = self.count_training_bins()[modality].counts
        return most_frequent_bins(counts, self.collator.label_rates(counts, is_missing=is_missing))

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[Any]:  # noqa: ARG002
        return self._make_sampler()

    def _make_sampler(self) -> ModalityBlockSampler:
        return ModalityBlockSampler(
            self.data.training,
            self.args.train_batch_size,
            world_size=self.args.world_size,
            accumulation_steps=self.args.gradient_accumulation_steps,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
            **self._order,  # type: ignore[arg-type]
        )

    def _sum_over_processes(self, counts: torch.Tensor) -> torch.Tensor:
        """Every process then holds the sums of all, on the CPU."""
        if self.args.world_size == 1:
            return counts
        return self.accelerator.reduce(counts.to(self.args.device), "sum").cpu()


def _counted(
    logits: torch.Tensor, labels: torch.Tensor, places: torch.Tensor, baseline: MostFrequentBins
) -> torch.Tensor:
    """Of one batch, (_COLUMNS,) float64: logits (labelled, bins + 1), labels (cells, genes), places (labelled,)."""
    cells, genes = places // labels.shape[1], places % labels.shape[1]
    targets = labels.reshape(-1)[places]
    losses = F.cross_entropy(logits, targets, reduction="none").double()
    values = torch.bincount(cells, minlength=len(labels))
    of_cells = losses.new_zeros(len(labels)).index_add_(0, cells, losses) / values.clamp(min=1)
    of_gene = torch.from_numpy(baseline.of_gene)[genes]
    predictions = (logits.argmax(dim=-1), of_gene, torch.full_like(targets, baseline.of_all))
    correct = [float((predicted == targets).sum()) for predicted in predictions]
    counted = [float((values > 0).sum()), float(of_cells.sum()), float(len(targets)), *correct]
    return torch.tensor(counted, dtype=torch.float64)


def _scores(sums: torch.Tensor) -> dict[str, float]:
    """(_COLUMNS,) -> scores; NaN where there is nothing to predict."""
    cells, cell_losses, values, *correct = sums.tolist()
    shares = [cell_losses / cells if cells else math.nan, *(part / values if values else math.nan for part in correct)]
    return {**dict(zip(SCORES, shares, strict=True)), "cells": int(cells), "values": int(values)}


def _means(kinds: dict[str, dict[Modality, dict[str, float]]]) -> dict[str, float]:
    """Of each score, the mean over kinds of the means over their modalities, as training weighs the loss."""
    return {
        name: float(np.mean([np.mean([scores[name] for scores in of.values()]) for of in kinds.values()]))
        for name in SCORES
    }
