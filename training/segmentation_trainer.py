"""Trainer of SegmentNT: evaluation that streams into the metric, and learning rates of encoder and head.

transformers would gather the logits of all windows, 28 numbers a base. Here each process counts its own windows, each
window once, and only the counts are added up over processes.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from .samplers import ShuffledLengthGroupedSampler
from .segmentation_data import IGNORED_LABEL, NOT_COUNTED, SegmentationCollator, SegmentationDataset
from .segmentation_metric import SCORES, SegmentationMetric, Thresholds
from .trainer import DEFAULT_MEGABATCHES, CellOrder


class SegmentationTrainer(Trainer):
    """`transformers.Trainer` for `SegmentNTForTokenClassification` and `SegmentationDataset`.

    Args:
        elements: names, in the order of the labels.
        eval_collator: collator of whole windows, without augmentation.
        train_tokens: (training windows,) tokens a window, for batches of like length.
        encoder_learning_rate: peak for the encoder's weights; that of the others where None.
        others: as `transformers.Trainer` takes them.

    Attributes:
        thresholds: of the metric, for the next evaluation; "best" at first.
        resamples: of the metric's blocks, for the next evaluation; 0 at first.
        last_result: what the metric gave at the last evaluation, by element too.

    Raises:
        ValueError: where several GPUs are visible to one process; and on resuming with other windows, batch size,
            processes or seed.
    """

    def __init__(
        self,
        *args: Any,
        elements: list[str],
        eval_collator: SegmentationCollator,
        train_tokens: Any,
        encoder_learning_rate: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if self.args.n_gpu > 1:
            raise ValueError(
                f"{self.args.n_gpu} GPUs are visible to one process: start one process a GPU with `accelerate launch` "
                "or `torchrun`, or show one GPU only with CUDA_VISIBLE_DEVICES"
            )
        self.elements = elements
        self.eval_collator = eval_collator
        self.train_tokens = train_tokens
        self.encoder_learning_rate = encoder_learning_rate
        self.thresholds: Thresholds = "best"
        self.resamples = 0
        self.last_result: dict[str, Any] = {}
        self.add_callback(CellOrder())

    def get_eval_dataloader(self, eval_dataset: str | Dataset[Any] | None = None) -> DataLoader[Any]:
        """This process's share of the windows, in as many batches as every other process has."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        assert isinstance(dataset, SegmentationDataset) and dataset.block_of is not None
        self._n_blocks = int(dataset.block_of.max()) + 1
        self._n_windows = len(dataset)
        return DataLoader(
            dataset.share_of(self.args.process_index, self.args.world_size),
            batch_size=self.args.eval_batch_size,
            collate_fn=self.eval_collator,
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
        return output._replace(metrics={**(output.metrics or {}), **prefixed}, num_samples=self._n_windows)

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

    def get_optimizer_cls_and_kwargs(  # type: ignore[override]  # static there; called on the instance
        self, args: TrainingArguments, model: Any = None
    ) -> tuple[Any, dict[str, Any]]:
        """The hook for parameter groups: those of the encoder get their own learning rate."""
        kind, options = super().get_optimizer_cls_and_kwargs(args, model)
        model = self.model if model is None else model
        if self.encoder_learning_rate is not None:
            assert isinstance(model, nn.Module)
            options["params"] = self._parameter_groups(model)
        return kind, options

    def _parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        decayed = set(self.get_decay_parameter_names(model))
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                groups.setdefault((".encoder." in f".{name}", name in decayed), []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": self.encoder_learning_rate if is_encoder else self.args.learning_rate,
                "weight_decay": self.args.weight_decay if is_decayed else 0.0,
            }
            for (is_encoder, is_decayed), parameters in sorted(groups.items(), key=lambda group: group[0])
        ]

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int]:  # noqa: ARG002
        block = self.args.train_batch_size * self.args.world_size
        return ShuffledLengthGroupedSampler(
            self.train_tokens,
            self.args.train_batch_size,
            megabatch_size=DEFAULT_MEGABATCHES * block,
            world_size=self.args.world_size,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
        )

    def _add_up_processes(self) -> torch.Tensor:
        """Every process then holds the counts of all; (2,) summed loss and scored labels."""
        if self.args.world_size == 1:
            return self._loss_and_labels
        state = self._metric.state(block_ids=range(self._n_blocks))
        blocks = state.pop("blocks")
        counts = {name: torch.from_numpy(array).to(self.args.device) for name, array in state.items()}
        counts["loss"] = self._loss_and_labels.to(self.args.device)
        summed = {name: tensor.cpu() for name, tensor in self.accelerator.reduce(counts, "sum").items()}
        self._metric.reset()
        self._metric.merge({"blocks": blocks, **{name: summed[name].numpy() for name in state}})
        return summed["loss"]
