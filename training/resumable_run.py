"""What training scripts share: logs, settings as resolved, checkpoints to go on from, training that may be stopped."""

import dataclasses
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, Trainer, TrainingArguments

from .interruption import SaveAtInterrupt
from .pretraining_output import last_whole_checkpoint, require_same_model

logger = logging.getLogger(__name__)


def run_script(train: Callable[[], Any], arguments: TrainingArguments) -> None:
    """Train with a log to standard error; Ctrl-C ends with the code that shells report for it."""
    logging.basicConfig(
        level=arguments.get_process_log_level() if arguments.should_log else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("omics_transformers").setLevel(logging.INFO if arguments.should_log else logging.WARNING)
    try:
        train()
    except KeyboardInterrupt:
        sys.exit(130)


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


def checkpoint_to_resume(arguments: Any, output_dir: Path, config: PretrainedConfig) -> Path | None:
    """The checkpoint to go on from: the one that was named, or the last whole one, if the run is resumed at all.

    Raises:
        ValueError: where the checkpoint is of another model.
    """
    checkpoint = Path(arguments.resume_from_checkpoint) if arguments.resume_from_checkpoint else None
    if checkpoint is None and arguments.resume:
        checkpoint = last_whole_checkpoint(output_dir, processes=arguments.world_size)
        logger.info("resuming from %s", checkpoint or f"the start: {output_dir} has no whole checkpoint")
    if checkpoint is not None:
        require_same_model(checkpoint, config)
    return checkpoint


def train_until_done_or_stopped(trainer: Trainer, checkpoint: Path | None) -> None:
    """Train; the trainer has `SaveAtInterrupt` among its callbacks.

    Raises:
        KeyboardInterrupt: after Ctrl-C, when a checkpoint has been saved.
    """
    interrupt = next(cb for cb in trainer.callback_handler.callbacks if isinstance(cb, SaveAtInterrupt))
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        interrupt.restore()
    if interrupt.interrupted:
        logger.warning("stopped at step %d; go on with --resume", trainer.state.global_step)
        raise KeyboardInterrupt
