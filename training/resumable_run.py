"""What training scripts share: logs, settings as resolved, checkpoints to go on from, training that may be stopped."""

import dataclasses
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .interruption import SaveAtInterrupt, TrainingInterrupted
from .pretraining_output import last_whole_checkpoint, report_random_states, require_same_model

logger = logging.getLogger(__name__)


def run_script(train: Callable[[], Any], arguments: TrainingArguments) -> None:
    """Train with a log to standard error; a signal ends it with the code that shells report: 130 Ctrl-C, 143 SIGTERM.

    Schedulers start a job that ended with 143 again. A launcher of several processes that got the signal itself ends
    with a code of its own, 1.
    """
    logging.basicConfig(
        level=arguments.get_process_log_level() if arguments.should_log else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("omics_transformers").setLevel(logging.INFO if arguments.should_log else logging.WARNING)
    try:
        train()
        _leave_together()
    except TrainingInterrupted as interrupted:
        sys.exit(interrupted.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def _leave_together() -> None:
    """A process that ends while another still talks to it takes that one down."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def settings_of(model_arguments: Any, data_arguments: Any, training_arguments: TrainingArguments) -> dict[str, Any]:
    """All settings of a run as they were resolved, for the log and arguments.json; the first two are data classes."""
    given = training_arguments.to_dict()
    return {
        "model": dataclasses.asdict(model_arguments),
        "data": dataclasses.asdict(data_arguments),
        "training": {name: value for name, value in given.items() if value not in (None, "", [], {})},
        "processes": training_arguments.world_size,
        "device": str(training_arguments.device),
    }


def is_resumed(arguments: Any) -> bool:
    """Whether the run goes on with an earlier one, if there is one; arguments have a field `resume`."""
    return arguments.resume or arguments.resume_from_checkpoint is not None


def checkpoint_to_resume(
    arguments: Any, output_dir: Path, config: PretrainedConfig, *, required: Sequence[str] = ()
) -> Path | None:
    """The checkpoint to go on from: the one that was named, or the last whole one, if the run is resumed at all.

    It may be of another number of processes; what that changes is logged. Files of the names `required` belong to a
    whole one too.

    Raises:
        ValueError: where the checkpoint is of another model.
    """
    checkpoint = Path(arguments.resume_from_checkpoint) if arguments.resume_from_checkpoint else None
    if checkpoint is None and arguments.resume:
        checkpoint = last_whole_checkpoint(output_dir, required=required)
        logger.info("resuming from %s", checkpoint or f"the start: {output_dir} has no whole checkpoint")
    if checkpoint is not None:
        require_same_model(checkpoint, config)
        report_random_states(checkpoint, processes=arguments.world_size, has_dropout=has_dropout(config))
    return checkpoint


def has_dropout(config: PretrainedConfig) -> bool:
    """Whether a model draws random numbers while it trains, by the shares of dropout in its configuration."""
    values = config.to_dict()
    return any(isinstance(value, float | int) and value > 0 for name, value in values.items() if "dropout" in name)


def train_until_done_or_stopped(trainer: Trainer, checkpoint: Path | None) -> None:
    """Train; the trainer has `SaveAtInterrupt` among its callbacks.

    Raises:
        TrainingInterrupted: a KeyboardInterrupt, on all processes, after Ctrl-C or SIGTERM to any of them, when a
            checkpoint has been saved.
    """
    trainer.add_callback(_StopWhereDone())
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except _NothingLeftError:
        logger.info("%s is of the last step: nothing is left to train", checkpoint)
        trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
    finally:
        interrupt = _interrupt_of(trainer)
        interrupt.restore()
    if interrupt.interrupted:
        logger.warning("stopped at step %d; go on with --resume", trainer.state.global_step)
        raise TrainingInterrupted(interrupt.signal_number)


class _NothingLeftError(Exception):
    """All steps were trained before the run was stopped."""


class _StopWhereDone(TrainerCallback):
    """transformers would train one step too many where a run is resumed from the checkpoint of its last step."""

    def on_epoch_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002 (transformers' signature, here and below)
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        if state.global_step >= state.max_steps:
            raise _NothingLeftError


def _interrupt_of(trainer: Trainer) -> SaveAtInterrupt:
    """Looked up after training, since a resumed trainer may have put another one in its place."""
    return next(found for found in trainer.callback_handler.callbacks if isinstance(found, SaveAtInterrupt))
