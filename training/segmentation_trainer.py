"""Trainer of SegmentNT: evaluation that streams into the metric.

transformers would gather the logits of all windows, 28 numbers a base. Here each process counts its own windows, each
window once, and only the counts are added up over processes.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput

from .encoder_trainer import EncoderTrainer
from .numbered_rows import NOT_COUNTED
from .segmentation_data import IGNORED_LABEL
from .segmentation_metric import SCORES, SegmentationMetric, Thresholds


class SegmentationTrainer(EncoderTrainer):
    """`transformers.Trainer` for `SegmentNTForTokenClassification` and `SegmentationDataset`.

    Args:
        elements: names, in the order of the labels.
        others: as `EncoderTrainer` takes them.

    Attributes:
        thresholds: of the metric, for the next evaluation; "best" at first.
    """

    def __init__(self, *args: Any, elements: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.elements = elements
        self.thresholds: Thresholds = "best"

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Average scores as metrics, with the focal loss and each element's MCC; all of it in `last_result`."""
        self._metric = SegmentationMetric(self.elements, self.thresholds, seed=self.args.seed)
        self._loss_and_labels = torch.zeros(2, dtype=torch.float64)
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        loss, labels = self._add_up_processes().tolist()
        self.last_result = {"loss": loss / max(labels, 1), **self._metric.compute(resamples=self.resamples)}
        metrics = {name: self.last_result[name] for name in ("loss", *SCORES)}
        by_element = {f"mcc_{name}": scores["mcc"] for name, scores in self.last_result["elements"].items()}
        metrics |= {name: value for name, value in by_element.items() if not math.isnan(value)}
        prefixed = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        return output._replace(metrics={**(output.metrics or {}), **prefixed}, num_samples=self._n_rows)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        prediction_loss_only: bool,  # noqa: ARG002 (transformers' signature, here and below)
        ignore_keys: list[str] | None = None,  # noqa: ARG002
    ) -> tuple[None, None, None]:
        """Count a batch; nothing is returned that would be gathered."""
        blocks, labels = inputs["blocks"], inputs["labels"].clone()
        labels[blocks == NOT_COUNTED] = IGNORED_LABEL
        batch = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"], "labels": labels}
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(**self._prepare_inputs(batch))
        logits = outputs.logits.float()
        probabilities = torch.sigmoid(logits[..., 1] - logits[..., 0]).cpu()
        counted = blocks != NOT_COUNTED
        self._metric.add_batch(
            predictions=probabilities[counted], references=labels[counted], blocks=blocks[counted].numpy()
        )
        scored = int((labels != IGNORED_LABEL).sum())
        self._loss_and_labels += torch.tensor([outputs.loss.double().item() * scored, scored], dtype=torch.float64)
        return None, None, None

    def _add_up_processes(self) -> torch.Tensor:
        """Every process then holds the counts of all; (2,) summed loss and scored labels."""
        if self.args.world_size == 1:
            return self._loss_and_labels
        state = self._metric.state(block_ids=range(self._n_blocks))
        blocks = state.pop("blocks")
        counts = {name: torch.from_numpy(array) for name, array in state.items()}
        summed = self._sum_over_processes({**counts, "loss": self._loss_and_labels})
        self._metric.reset()
        self._metric.merge({"blocks": blocks, **{name: summed[name].numpy() for name in state}})
        return summed["loss"]
