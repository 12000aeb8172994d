"""What trainers of a head on a Nucleotide Transformer share: evaluation by shares, and learning rates of both parts.

In evaluation each process reads its own share of the rows, each row once; what subclasses count adds up over processes.
"""

from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer, TrainingArguments

from .numbered_rows import NumberedRows
from .samplers import ShuffledLengthGroupedSampler
from .trainer import DEFAULT_MEGABATCHES, CellOrder


class EncoderTrainer(Trainer):
    """`transformers.Trainer` for models with an `encoder`, and data sets that are `NumberedRows`.

    Args:
        eval_collator: collator without augmentation.
        train_tokens: (training rows,) tokens a row, for batches of like length.
        encoder_learning_rate: peak for the encoder's weights; that of the others where None.
        others: as `transformers.Trainer` takes them.

    Attributes:
        resamples: of the metric's groups, for the next evaluation; 0 at first.
        last_result: what the metric gave at the last evaluation.

    Raises:
        ValueError: where several GPUs are visible to one process; and on resuming with other rows, batch size,
            processes or seed.
    """

    def __init__(
        self,
        *args: Any,
        eval_collator: Any,
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
        self.eval_collator = eval_collator
        self.train_tokens = train_tokens
        self.encoder_learning_rate = encoder_learning_rate
        self.resamples = 0
        self.last_result: dict[str, Any] = {}
        self._n_rows = self._n_blocks = 0  # of the evaluation under way
        self.add_callback(CellOrder())

    def get_eval_dataloader(self, eval_dataset: str | Dataset[Any] | None = None) -> DataLoader[Any]:
        """This process's share of the rows, in as many batches as every other process has."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        assert isinstance(dataset, NumberedRows) and dataset.block_of is not None
        self._n_blocks = int(dataset.block_of.max()) + 1
        self._n_rows = len(dataset)
        return DataLoader(
            dataset.share_of(self.args.process_index, self.args.world_size),
            batch_size=self.args.eval_batch_size,
            collate_fn=self.eval_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
        )

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

    def _sum_over_processes(self, counts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Every process then holds the sums of all, on the CPU."""
        if self.args.world_size == 1:
            return counts
        placed = {name: tensor.to(self.args.device) for name, tensor in counts.items()}
        return {name: tensor.cpu() for name, tensor in self.accelerator.reduce(placed, "sum").items()}
