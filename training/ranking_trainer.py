"""Trainer of region rankers: evaluation that streams into the metric, of all rows and of each cell type's."""

import math
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput

from .encoder_trainer import EncoderTrainer
from .numbered_rows import NOT_COUNTED
from .ranking_data import IGNORED_LABEL
from .ranking_metric import SCORES, RegionRankingMetric


class RankingTrainer(EncoderTrainer):
    """`transformers.Trainer` for `NTRegionRanker` and `RegionRankingDataset`.

    Args:
        cell_types: names, in the order of the rows' numbers.
        others: as `EncoderTrainer` takes them; the collators give cell types' numbers.
    """

    def __init__(self, *args: Any, cell_types: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cell_types = cell_types
        self._is_conditioned = getattr(self.accelerator.unwrap_model(self.model).config, "cell_types", None) is not None

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Scores as metrics, with the loss; in `last_result` with chances, and by `cell_types`.

        The loss is the mean of batches, each weighted by its rows.
        """
        self._metric = RegionRankingMetric()  # of groups that are a cell type's part of a group each
        self._loss_and_rows = torch.zeros(2, dtype=torch.float64)
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        sums, (loss, rows) = self._add_up_processes()
        self.last_result = {"loss": loss / max(rows, 1), **self._scores(sums.sum(axis=0))}
        self.last_result["cell_types"] = {
            name: self._scores(of_type) for name, of_type in zip(self.cell_types, sums, strict=True) if of_type.any()
        }
        metrics = {name: self.last_result[name] for name in ("loss", *SCORES)}
        prefixed = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items() if not math.isnan(value)}
        return output._replace(metrics={**(output.metrics or {}), **prefixed}, num_samples=self._n_rows)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        prediction_loss_only: bool,  # noqa: ARG002 (transformers' signature, here and below)
        ignore_keys: list[str] | None = None,  # noqa: ARG002
    ) -> tuple[None, None, None]:
        """Count a batch; nothing is returned that would be gathered."""
        batch = dict(inputs)
        blocks, cell_types, counts = batch.pop("blocks"), batch["cell_type_ids"], batch["labels"]
        if not self._is_conditioned:
            del batch["cell_type_ids"]
        is_counted = blocks != NOT_COUNTED
        batch["labels"] = counts.masked_fill(~is_counted[:, None], IGNORED_LABEL)
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(**self._prepare_inputs(batch))
        self._metric.add_batch(
            predictions=outputs.scores.float().cpu()[is_counted],
            references=counts[is_counted],
            region_mask=batch["region_mask"][is_counted],
            groups=(cell_types * self._n_blocks + blocks)[is_counted],
        )
        rows = int(is_counted.sum())
        self._loss_and_rows += torch.tensor([outputs.loss.double().item() * rows, rows], dtype=torch.float64)
        return None, None, None

    def _add_up_processes(self) -> tuple[np.ndarray, list[float]]:
        """Of all processes: (cell types, groups, columns) sums of the metric; summed loss and rows."""
        state = self._metric.state(group_ids=range(len(self.cell_types) * self._n_blocks))
        counts = {"sums": torch.from_numpy(state["sums"]), "loss": self._loss_and_rows}
        summed = self._sum_over_processes(counts)
        sums = summed["sums"].numpy().reshape(len(self.cell_types), self._n_blocks, -1)
        return sums, summed["loss"].tolist()

    def _scores(self, sums: np.ndarray) -> dict[str, Any]:
        """What the metric makes of (groups, columns)."""
        metric = RegionRankingMetric(seed=self.args.seed)
        metric.merge({"groups": np.arange(len(sums)), "sums": sums})
        return metric.compute(resamples=self.resamples if sums.any(axis=1).sum() > 1 else 0)
