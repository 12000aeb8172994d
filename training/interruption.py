"""Ctrl-C during training: finish the step, save a checkpoint, stop."""

import logging
import signal
import threading
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

logger = logging.getLogger(__name__)


class SaveAtInterrupt(TrainerCallback):
    """Saves a checkpoint at the first Ctrl-C; a second one stops at once.

    With one process only: several would have to agree on the step, and each gets the signal at another moment. They
    stop at once, and resume from their last checkpoint.

    Attributes:
        interrupted: whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._previous: Any = None

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,  # noqa: ARG002 (transformers' signature, here and below)
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        if args.world_size == 1 and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._note)

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        if self.interrupted:
            control.should_save = control.should_training_stop = True

    def on_train_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self.restore()

    def restore(self) -> None:
        """Put the signal's former handler back; for training that an error ended, call it."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        logger.warning("interrupted: a checkpoint is saved after this step; press Ctrl-C again to stop at once")
        self.interrupted = True
        self.restore()
