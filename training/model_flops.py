"""Floating-point operations that training Bio-DTA needs, and the share of the hardware's peak that they come to.

Source: model FLOPs utilisation of PaLM (Chowdhery et al. 2022, appendix B): what the model needs, not what is executed,
so neither padding nor recomputation counts. Deviation: every matrix product of the model is counted for itself, since
the adapter runs once a distinct token, and the head at masked positions only. The formula is that of
`training_flops`. Only matrix products count, a multiplication and an addition as two.
"""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..modeling.configuration_bio_dta import BioDTAConfig
from .collators import IGNORED_LABEL


class BatchCounts(NamedTuple):
    """What the operations of a batch, or of several, depend on.

    Attributes:
        tokens: without padding.
        squared_lengths: sum of the squares of the cells' lengths.
        distinct_tokens: token ids that the batch holds, summed over batches; padding's is one of them.
        masked_tokens: at which logits are computed.
        variant_rows: distinct DNA variants of the batch, summed over batches.
    """

    tokens: int
    squared_lengths: int
    distinct_tokens: int
    masked_tokens: int
    variant_rows: int = 0


def training_flops(config: BioDTAConfig, counts: BatchCounts, *, gradient_checkpointing: bool = False) -> int:
    """Operations of forward and backward.

    With H hidden_size, I intermediate_size, L layers, V vocab_size, F dna_feature_size, forward takes:

        encoder    tokens * L * (8 H^2 + 4 H I)            query, key, value and output; the two feed-forward layers
        attention  squared_lengths * L * 4 H               scores, and weighted sums of values
        head       masked_tokens * (2 H^2 + 2 H V)
        adapter    distinct_tokens * 2 F H                 `mlp` of width A: 2 F A + 2 A H; `whiten` adds 2 F^2
        variants   variant_rows * (the adapter's)          `difference` adds 2 F H, and with `whiten` 2 F^2

    and backward twice as much, except where features come in: they are constants, so the first layer on them costs its
    forward once more, and whitening nothing.

    Args:
        config: of the model.
        counts: of one batch or several.
        gradient_checkpointing: add the encoder's forward once more, as it is executed then: the count is the hardware's
            and no longer the model's.
    """
    hidden, intermediate, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    encoder = counts.tokens * layers * (8 * hidden**2 + 4 * hidden * intermediate)
    encoder += counts.squared_lengths * layers * 4 * hidden
    head = counts.masked_tokens * (2 * hidden**2 + 2 * hidden * config.vocab_size)
    return (4 if gradient_checkpointing else 3) * encoder + 3 * head + _adapter_flops(config, counts)


def training_flops_a_token(
    config: BioDTAConfig,
    lengths: npt.ArrayLike,
    *,
    masked_share: float = 0.15,
    distinct_tokens: int | None = None,
    gradient_checkpointing: bool = False,
) -> float:
    """Operations a token of a batch whose cells have these `lengths`, for plans.

    Args:
        config: of the model.
        lengths: (cells,) tokens a cell.
        masked_share: of the tokens.
        distinct_tokens: of the batch; where None the most there can be.
        gradient_checkpointing: as `training_flops` takes it.
    """
    every = np.asarray(lengths, dtype=np.int64)
    tokens = int(every.sum())
    distinct = min(config.vocab_size, tokens) if distinct_tokens is None else distinct_tokens
    counts = BatchCounts(tokens, int((every**2).sum()), distinct, round(masked_share * tokens))
    return training_flops(config, counts, gradient_checkpointing=gradient_checkpointing) / max(tokens, 1)


def count_batch(inputs: Mapping[str, Any], vocab_size: int) -> torch.Tensor:
    """(5,) int64 on the batch's device, the fields of `BatchCounts` for a padded or packed batch.

    Nothing waits for the device: no number is read from it.
    """
    input_ids, labels = inputs["input_ids"], inputs["labels"]
    if "cu_seq_lens_q" in inputs:
        lengths = inputs["cu_seq_lens_q"].long().diff()
    elif inputs.get("attention_mask") is not None:
        lengths = inputs["attention_mask"].long().sum(dim=1)
    else:
        lengths = input_ids.new_full((len(input_ids),), input_ids.shape[1])
    variants = lengths.new_zeros(())
    if inputs.get("variant_ids") is not None:
        # Place 0 is the reference, -1.
        variants = _are_in(inputs["variant_ids"] + 1, len(inputs["variant_features"]) + 1)[1:].sum()
    distinct = _are_in(input_ids, vocab_size).sum()
    return torch.stack([lengths.sum(), (lengths**2).sum(), distinct, (labels != IGNORED_LABEL).sum(), variants])


class ModelFlopsCallback(TrainerCallback):
    """Adds the speed of training to the Trainer's logs.

    `tokens_per_second`, without padding; `model_flops_per_second`; and, where a peak is known,
    `model_flops_utilisation`, their share of the peak of all devices. In a log of a loss they are since the log before,
    in the last log over the whole run. Time goes from step to step, data included; evaluations and saves are left out.
    Tokens are counted on this process and multiplied by the number of processes. The trainer calls `count` with each
    batch that it trains on; put the callback first (`trainer.callback_handler.callbacks.insert(0, ...)`), so that the
    others see what it adds.

    Args:
        config: of the model.
        peak_flops: operations per second of one process's device, as `peak_flops.peak_flops` gives it.
    """

    def __init__(self, config: BioDTAConfig, peak_flops: float | None = None) -> None:
        self.config = config
        self.peak_flops = peak_flops
        self._restart()

    def _restart(self) -> None:
        self._since_log: torch.Tensor | None = None  # (5,) counts
        self._whole_run = np.zeros(5, dtype=np.int64)
        self._seconds, self._seconds_of_run = 0.0, 0.0
        self._mark: float | None = None  # until when time is counted; None: from the next step on

    def count(self, inputs: Mapping[str, Any]) -> None:
        """Take note of a batch that is trained on."""
        counts = count_batch(inputs, self.config.vocab_size)
        self._since_log = counts if self._since_log is None else self._since_log + counts

    def on_train_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002 (transformers' signature, here and below)
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self._restart()

    def on_step_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        if self._mark is None:
            self._mark = time.perf_counter()

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self._take_time()

    def on_evaluate(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self._mark = None

    def on_save(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self._mark = None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,
    ) -> None:
        logs = kwargs["logs"]
        if "loss" not in logs and "train_loss" not in logs:
            return  # an evaluation's
        counts = self._counts_since_log()
        self._take_time()  # after the device has caught up
        seconds = self._seconds
        self._whole_run += counts
        self._seconds_of_run += seconds
        self._seconds = 0.0
        if "train_loss" in logs:
            counts, seconds = self._whole_run, self._seconds_of_run
        rates = self._rates(counts, seconds, args.world_size)
        logs.update(rates)
        if state.log_history:
            state.log_history[-1].update(rates)  # a copy of the logs, made before

    def _rates(self, counts: npt.NDArray[np.int64], seconds: float, processes: int) -> dict[str, float]:
        if not seconds:
            return {}
        per_second = training_flops(self.config, BatchCounts(*counts.tolist())) / seconds
        rates = {
            "tokens_per_second": int(counts[0]) * processes / seconds,
            "model_flops_per_second": per_second * processes,
        }
        return rates | ({"model_flops_utilisation": per_second / self.peak_flops} if self.peak_flops else {})

    def _counts_since_log(self) -> npt.NDArray[np.int64]:
        counts, self._since_log = self._since_log, None
        return np.zeros(5, dtype=np.int64) if counts is None else counts.cpu().numpy()

    def _take_time(self) -> None:
        if self._mark is not None:
            now = time.perf_counter()
            self._seconds += now - self._mark
            self._mark = now


def _adapter_flops(config: BioDTAConfig, counts: BatchCounts) -> int:
    if config.adapter_type == "none":
        return 0
    hidden, features = config.hidden_size, config.dna_feature_size
    rotation = 2 * features**2 if config.feature_scaling == "whiten" else 0  # forward alone
    if config.adapter_type == "linear":
        adapter = 2 * (2 * features * hidden)
    else:
        middle = config.adapter_hidden_size or hidden
        adapter = 2 * (2 * features * middle) + 3 * (2 * middle * hidden)
    rows = counts.distinct_tokens + counts.variant_rows
    flops = rows * (rotation + adapter)
    if config.variant_encoding == "difference":
        flops += counts.variant_rows * (rotation + 2 * (2 * features * hidden))
    return flops


def _are_in(ids: torch.Tensor, size: int) -> torch.Tensor:
    """(size,) bool, which of the integers below `size` are among `ids`; unlike torch.unique without a wait."""
    return torch.zeros(size, dtype=torch.bool, device=ids.device).index_fill_(0, ids.reshape(-1), True)
