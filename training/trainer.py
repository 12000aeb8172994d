"""Trainer of masked-gene models: the order of the cells, an exact resume, and perplexity a masked token.

It overrides the hooks for batches: cells of like length, or packed batches of a token budget, or a stream; the loss,
for which no logits are kept; and `prediction_step`: transformers averages the losses of batches, which is not the loss
of the masked tokens, and would gather vocabulary-wide logits to compute anything else.
"""

import math
from pathlib import Path
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
from .model_flops import ModelFlopsCallback
from .packed_cells import PackedGeneCollator
from .samplers import ShuffledLengthGroupedSampler
from .sharded_precision import keep_inputs_in_float32
from .streaming_cells import StreamedCells, data_loader
from .streaming_state import STREAM_PLACE, save_stream_state
from .token_budget_sampler import TokenBudgetBatchSampler

DEFAULT_MEGABATCHES = 50  # blocks a megabatch, as in transformers' own length-grouped sampler


class MaskedGeneTrainer(Trainer):
    """`transformers.Trainer` for `BioDTAForMaskedLM`, and data sets whose `lengths` are known or `StreamedCells`.

    With a `PackedGeneCollator` cells are trained on in packed batches, and evaluated in padded ones. The cells of an
    optimizer step, and their order, do not depend on how many processes, cells a batch and accumulated batches they are
    split over.

    Args:
        megabatch_size: cells that are sorted by length together; by default 50 steps' worth, or one's where packed.
        length_group: neighbours in length that stay together; by default the cells of a batch of all processes, or of
            those that a resumed run began with.
        token_budget: with a packed collator: batches by tokens in place of cells, in random order.
        others: as `transformers.Trainer` takes them.

    Raises:
        ValueError: where several GPUs are visible to one process: donors' variants and masked positions cannot be
            split by `DataParallel`; for a token budget without packing; and on resuming with other data, cells a step
            or seed.
    """

    def __init__(
        self,
        *args: Any,
        megabatch_size: int | None = None,
        length_group: int | None = None,
        token_budget: int | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("compute_metrics", masked_token_metrics)
        super().__init__(*args, **kwargs)
        if token_budget is not None and not isinstance(self.data_collator, PackedGeneCollator):
            raise ValueError(
                f"token_budget is {token_budget:,}, and the collator pads its batches: batches by tokens are packed "
                "ones (--packed true)"
            )
        if self.args.n_gpu > 1:
            raise ValueError(
                f"{self.args.n_gpu} GPUs are visible to one process: start one process a GPU with `accelerate launch` "
                "or `torchrun`, or show one GPU only with CUDA_VISIBLE_DEVICES"
            )
        keep_inputs_in_float32(self)
        self.megabatch_size = megabatch_size
        self.length_group = length_group
        self.token_budget = token_budget
        if not isinstance(self.train_dataset, StreamedCells):
            self.add_callback(CellOrder(keeps_length_group=length_group is None))

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Of a stream, by a token budget, or as transformers makes it, with this trainer's sampler."""
        if isinstance(self.train_dataset, StreamedCells):
            return data_loader(  # each process has its own cells: nothing is left for accelerate to share out
                self.train_dataset,
                self.data_collator,  # type: ignore[arg-type]  # transformers' own name for more kinds of collators
                num_workers=self.args.dataloader_num_workers,
                pin_memory=self.args.dataloader_pin_memory,
                prefetch_factor=self.args.dataloader_prefetch_factor,
            )
        return super().get_train_dataloader() if self.token_budget is None else self._dataloader_of_budget()

    def get_eval_dataloader(self, eval_dataset: str | Dataset[Any] | None = None) -> DataLoader[Any]:
        """Of padded batches: metrics are gathered cell by cell."""
        collator = self.data_collator
        if not isinstance(collator, PackedGeneCollator):
            return super().get_eval_dataloader(eval_dataset)
        try:
            self.data_collator = collator.padded()
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = collator

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor | Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        place = inputs.pop(STREAM_PLACE, None)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, ModelFlopsCallback):
                callback.count(inputs)
        loss = super().training_step(model, inputs, num_items_in_batch)
        if place is not None:
            assert isinstance(self.train_dataset, StreamedCells)
            self.train_dataset.trained_on(place)
        return loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        if model.training and not return_outputs:
            inputs = {**inputs, "return_logits": False}
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def _save_rng_state(self, output_dir: str) -> None:
        """Also the place in the stream: before the file without which no checkpoint is whole."""
        super()._save_rng_state(output_dir)
        if isinstance(self.train_dataset, StreamedCells):
            save_stream_state(self.train_dataset.state_dict(), Path(output_dir), self.train_dataset.rank)

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int]:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        assert isinstance(dataset, MaskedGeneDataset)
        cells_per_step = self.args.train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps
        return ShuffledLengthGroupedSampler(
            dataset.lengths,
            self.args.train_batch_size,
            megabatch_size=self.megabatch_size or self._default_megabatch(cells_per_step),
            world_size=self.args.world_size,
            cells_per_step=cells_per_step,
            length_group=self.length_group,
            complete_last_step=len(dataset) >= cells_per_step,
            seed=self._data_seed,
        )

    def _default_megabatch(self, cells_per_step: int) -> int:
        """Without padding nothing is gained by grouping cells, so packed ones come in fully random order."""
        return (
            cells_per_step
            if isinstance(self.data_collator, PackedGeneCollator)
            else DEFAULT_MEGABATCHES * cells_per_step
        )

    def _dataloader_of_budget(self) -> DataLoader[Any]:
        """As `Trainer._get_dataloader` makes it, but for a batch sampler."""
        dataset = self.train_dataset
        assert isinstance(dataset, MaskedGeneDataset) and self.token_budget is not None
        sampler = TokenBudgetBatchSampler(
            dataset.lengths,
            self.token_budget,
            world_size=self.args.world_size,
            accumulation=self.args.gradient_accumulation_steps,
            seed=self._data_seed,
        )
        loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )
        options = self.accelerator.dataloader_config
        evens_batches = options.even_batches
        try:
            options.even_batches = False  # accelerate cannot even out batches of no fixed size; these need it not
            return self.accelerator.prepare(loader)
        finally:
            options.even_batches = evens_batches

    @property
    def _data_seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

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

    Args:
        keeps_length_group: take a resumed run's groups of like length, so that its steps may be split otherwise.
    """

    def __init__(self, *, keeps_length_group: bool = False) -> None:
        self.keeps_length_group = keeps_length_group
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
            settings = saved[type(self).__name__]["attributes"]["settings"]
            if self.keeps_length_group and isinstance(sampler, ShuffledLengthGroupedSampler):
                sampler.length_group = settings.get("length_group", sampler.length_group)
            sampler.require_settings(settings)
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
