"""Trainer of masked-gene models: the shuffled length-grouped order, an exact resume, and perplexity a masked token.

It overrides the sampler hook, and `prediction_step`: transformers averages the losses of batches, which is not the loss
of the masked tokens, and would gather vocabulary-wide logits to compute anything else.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import EvalPrediction, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from .collators import IGNORED_LABEL
from .masked_gene_data import MaskedGeneDataset
from .samplers import ShuffledLengthGroupedSampler

DEFAULT_MEGABATCHES = 50  # blocks a megabatch, as in transformers' own length-grouped sampler


class MaskedGeneTrainer(Trainer):
    """`transformers.Trainer` for `BioDTAForMaskedLM` and data sets whose `lengths` are known.

    Args:
        megabatch_size: cells that are sorted by length together; by default 50 steps' worth.
        others: as `transformers.Trainer` takes them.

    Raises:
        ValueError: where several GPUs are visible to one process: donors' variants and masked positions cannot be
            split by `DataParallel`; and on resuming with other data, batch size, processes or seed.
    """

    def __init__(self, *args: Any, megabatch_size: int | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("compute_metrics", masked_token_metrics)
        super().__init__(*args, **kwargs)
        if self.args.n_gpu > 1:
            raise ValueError(
                f"{self.args.n_gpu} GPUs are visible to one process: start one process a GPU with `accelerate launch` "
                "or `torchrun`, or show one GPU only with CUDA_VISIBLE_DEVICES"
            )
        self.megabatch_size = megabatch_size
        self.add_callback(CellOrder())

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int]:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        assert isinstance(dataset, MaskedGeneDataset)
        block = self.args.train_batch_size * self.args.world_size
        return ShuffledLengthGroupedSampler(
            dataset.lengths,
            self.args.train_batch_size,
            megabatch_size=self.megabatch_size or DEFAULT_MEGABATCHES * block,
            world_size=self.args.world_size,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
        )

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,  # noqa: ARG002 (transformers' signature)
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """The loss; and a cell its summed loss and correct genes, (cells, 2), and its masked tokens, (cells,)."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(**inputs)
        if prediction_loss_only:
            return outputs.loss.detach(), None, None
        labels = inputs["labels"]
        targets = labels.reshape(-1)[outputs.logits_indices]
        scores = torch.stack(
            [
                F.cross_entropy(outputs.logits.float(), targets, reduction="none"),
                (outputs.logits.argmax(dim=-1) == targets).float(),
            ],
            dim=1,
        )
        cells = outputs.logits_indices // labels.shape[1]
        sums = scores.new_zeros(len(labels), 2, dtype=torch.float64).index_add_(0, cells, scores.double())
        return outputs.loss.detach(), sums, (labels != IGNORED_LABEL).sum(dim=1)


def masked_token_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """What `MaskedGeneTrainer.prediction_step` gives -> loss and perplexity a masked token, and accuracy."""
    sums, masked = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    loss, accuracy = (sums.sum(axis=0) / max(int(masked.sum()), 1)).tolist()
    perplexity = math.exp(loss) if loss < 700 else math.inf
    return {"loss": loss, "perplexity": perplexity, "accuracy": accuracy, "masked_tokens": float(masked.sum())}


class CellOrder(TrainerCallback, ExportableState):
    """Keeps the order of the cells exact: tells sampler and data set the epoch, and checks the first on resuming.

    Accelerate passes the epoch on to most samplers and data sets, but not to the data set with several processes, and
    not to the sampler where such a run is resumed in mid-epoch. The sampler's settings are saved in trainer_state.json.
    """

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"settings": self.settings}}

    def on_train_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002 (transformers' signature, here and below)
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,
    ) -> None:
        sampler = _sampler_of(kwargs["train_dataloader"])
        saved = state.stateful_callbacks
        assert isinstance(saved, dict)
        if state.global_step and type(self).__name__ in saved:
            sampler.require_settings(saved[type(self).__name__]["attributes"]["settings"])
        self.settings = sampler.settings()

    def on_epoch_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,
    ) -> None:
        epoch, dataset = int(state.epoch or 0), kwargs["train_dataloader"].dataset
        _sampler_of(kwargs["train_dataloader"]).set_epoch(epoch)
        if hasattr(dataset, "set_epoch"):
            dataset.set_epoch(epoch)


def _sampler_of(dataloader: DataLoader[Any]) -> Any:
    """This package's sampler under the batch samplers that torch and accelerate wrap it in."""
    sampler: Any = dataloader.batch_sampler
    while not hasattr(sampler, "require_settings"):
        sampler = getattr(sampler, "batch_sampler", None) or sampler.sampler
    return sampler
