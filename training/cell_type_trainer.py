"""Trainer of cell type classifiers: evaluation by `CellTypeMetric`, training accuracy, stopping, best steps.

Types that training cells do not have cannot be predicted: their probability is 0, and their cells count as wrong.
"""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel
from scipy.special import softmax
from torch import nn
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput, IntervalStrategy, SaveStrategy

from .cell_type_arguments import CellTypeTrainingArguments
from .cell_type_data import CellTypeCollator, CellTypeDataset
from .cell_type_metric import SCORES, CellTypeMetric, selection_score
from .cell_type_splits import Rows
from .encoder_output import ConfigInCheckpoint
from .interruption import SaveAtInterrupt

_EVALUATIONS = 20  # of minimum_steps


class CellTypeTrainer(Trainer):
    """`transformers.Trainer` for `MultiomePerformerForCellTypeClassification` and `CellTypeDataset`.

    Args:
        model: to train.
        args: from `arguments_of_run`.
        train_dataset, eval_dataset: cells; there may be none to evaluate on.
        cell_types: names of all types of the comparison.
        seen: (types of the model,) int64, their places in `cell_types`.
        is_frozen: whether the encoder stays as it is, dropout and random features included.

    Attributes:
        history: a dictionary an evaluation: `step`, `epoch`, `training_accuracy` and `training_loss` of the batches
            since the last one, and `validation_<score>`, `validation_loss`.
        last_result: what the metric gave at the last evaluation.

    Raises:
        ValueError: where several GPUs are visible to one process, or weights would be split over processes.
    """

    def __init__(
        self,
        model: nn.Module,
        args: CellTypeTrainingArguments,
        *,
        train_dataset: CellTypeDataset,
        eval_dataset: CellTypeDataset | None,
        cell_types: Sequence[str],
        seen: Rows,
        is_frozen: bool = False,
    ) -> None:
        callbacks: list[TrainerCallback] = [SaveAtInterrupt()]
        if isinstance(model, PeftModel):
            callbacks.append(ConfigInCheckpoint(model.config))
        if eval_dataset is not None and args.early_stopping_patience is not None:
            callbacks.append(EarlyStoppingCallback(args.early_stopping_patience))
        super().__init__(
            model=model,
            args=args,
            data_collator=CellTypeCollator(),  # type: ignore[arg-type]  # of whole batches
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)  # history has the same
        if args.n_gpu > 1:
            raise ValueError(
                f"{args.n_gpu} GPUs are visible to one process: start one process a GPU with `accelerate launch` or "
                "`torchrun`, or show one GPU only with CUDA_VISIBLE_DEVICES"
            )
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError("FSDP and DeepSpeed split the weights: compare classifiers with a whole model a process")
        self.cell_types, self.seen, self.is_frozen = list(cell_types), seen, is_frozen
        self.history: list[dict[str, Any]] = []
        self.last_result: dict[str, Any] = {}
        self._forget_batches()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The model's, and the accuracy of the batch is noted."""
        if self.is_frozen and model.training:
            self.accelerator.unwrap_model(model).base_model.eval()
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if model.training:
            labels = inputs["labels"]
            self._batches += torch.stack(
                [
                    (outputs.logits.detach().argmax(1) == labels).sum().double(),
                    torch.tensor(float(len(labels)), dtype=torch.float64, device=labels.device),
                    loss.detach().double() * len(labels),
                ]
            ).to(self._batches.device)
        return (loss, outputs) if return_outputs else loss

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,  # noqa: ARG002 (transformers' signature)
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Scores as metrics; all of them in `last_result`, and with those of training in `history`."""
        output = super().evaluation_loop(dataloader, description, False, ignore_keys, metric_key_prefix)
        types = _dataset_of(dataloader).types
        probabilities = self.probabilities(np.asarray(output.predictions))
        self.last_result = CellTypeMetric(self.cell_types).compute(predictions=probabilities, references=types)
        found = dict(output.metrics or {})
        found |= {f"{metric_key_prefix}_{name}": self.last_result[name] for name in SCORES}
        if metric_key_prefix == "eval":
            found["eval_selection"] = selection_score(self.last_result["mcc"], found["eval_loss"])
            self._note({name: self.last_result[name] for name in SCORES}, found.get("eval_loss"))
        return output._replace(metrics=found)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        prediction_loss_only: bool,  # noqa: ARG002 (transformers' signature, here and below)
        ignore_keys: list[str] | None = None,  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Loss, logits and labels; embeddings are not gathered."""
        prepared = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(**prepared)
        return outputs.loss.detach().float(), outputs.logits.float(), prepared["labels"]

    def probabilities(self, logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """(cells, types of the model) -> (cells, all types)."""
        return spread(softmax(logits.astype(np.float64), axis=1), self.seen, len(self.cell_types))

    def _note(self, scores: dict[str, float], loss: float | None) -> None:
        right, cells, summed_loss = self._summed_batches()
        entry: dict[str, Any] = {"step": self.state.global_step, "epoch": self.state.epoch}
        if cells:
            entry |= {"training_accuracy": right / cells, "training_loss": summed_loss / cells}
        entry |= {f"validation_{name}": value for name, value in scores.items()} | {"validation_loss": loss}
        self.history.append(entry)
        self._forget_batches()

    def _summed_batches(self) -> list[float]:
        batches = self._batches
        if self.args.world_size > 1:
            batches = self.accelerator.reduce(batches.float().to(self.args.device), "sum").cpu()
        return batches.tolist()

    def _forget_batches(self) -> None:
        self._batches = torch.zeros(3, dtype=torch.float64)  # cells predicted right, cells, summed loss


def arguments_of_run(
    training: CellTypeTrainingArguments,
    *,
    output_dir: Path,
    seed: int,
    training_cells: int,
    has_validation: bool,
    learning_rate: float | None = None,
) -> CellTypeTrainingArguments:
    """Arguments of one training: its folder and seed, and steps that follow from the number of cells.

    Evaluation, and a checkpoint, come once a pass, or where passes are short once in a twentieth of `minimum_steps`;
    the weights that are best on the validation cells, by `selection_score`, are kept.
    """
    run = copy.copy(training)
    run.output_dir, run.seed, run.data_seed = str(output_dir), seed, seed
    if learning_rate is not None:
        run.learning_rate = learning_rate
    a_step = run.train_batch_size * run.world_size * run.gradient_accumulation_steps
    a_pass = max(math.ceil(training_cells / a_step), 1)
    if run.max_steps <= 0:
        run.max_steps = max(math.ceil(run.num_train_epochs * a_pass), run.minimum_steps)
    interval = min(max(a_pass, math.ceil(run.minimum_steps / _EVALUATIONS), 1), run.max_steps)
    run.eval_steps = run.save_steps = run.logging_steps = interval
    run.logging_strategy = IntervalStrategy.STEPS
    run.eval_strategy = IntervalStrategy.STEPS if has_validation else IntervalStrategy.NO
    run.save_strategy = SaveStrategy.STEPS if has_validation else SaveStrategy.NO
    run.load_best_model_at_end = has_validation
    run.metric_for_best_model, run.greater_is_better = ("eval_selection", True) if has_validation else (None, None)
    return run


def spread(probabilities: npt.NDArray[Any], seen: Rows, n_types: int) -> npt.NDArray[np.float64]:
    """(cells, types seen) -> (cells, types), 0 for the others."""
    whole = np.zeros((len(probabilities), n_types))
    whole[:, seen] = probabilities
    return whole


def _dataset_of(dataloader: DataLoader[Any]) -> CellTypeDataset:
    dataset = dataloader.dataset
    assert isinstance(dataset, CellTypeDataset)
    return dataset
