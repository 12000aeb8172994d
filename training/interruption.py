"""Ctrl-C and SIGTERM during training: finish the step, save a checkpoint, stop; on one process or many.

Clusters send SIGTERM before they take a machine away, and SIGKILL some time later. `accelerate launch` and `torchrun`
pass both signals on to their processes, and kill them after 30 seconds; TORCH_ELASTIC_SHUTDOWN_TIMEOUT sets another
number.
"""

import logging
import signal
import threading
from types import FrameType
from typing import Any

import torch
import torch.distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingInterrupted(KeyboardInterrupt):
    """Training has stopped at a signal, and a checkpoint has been saved.

    Attributes:
        signal_number: SIGINT (Ctrl-C) or SIGTERM.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        """As shells report a process that a signal ended: 130 for Ctrl-C; 143 for SIGTERM, as schedulers expect."""
        return 128 + self.signal_number


class SaveAtInterrupt(TrainerCallback, ExportableState):
    """Saves a checkpoint at the first Ctrl-C or SIGTERM, and stops.

    With one process a second Ctrl-C stops at once. Several processes get the signal at different moments, or only one
    of them does: at the end of each step they take the maximum of what they have noted, one integer, and all stop after
    the same step. The reduction runs while the next step is computed, so that they stop one step later than one process
    would. Signals that are repeated change nothing then: a scheduler and a launcher may both send them.

    Attributes:
        signal_number: the signal that training stopped at, the same on all processes; 0 for none.
        processes: how many train together; saved in trainer_state.json.
    """

    def __init__(self) -> None:
        self.signal_number = 0
        self.processes = 1
        self._noted = 0
        self._previous: dict[int, Any] = {}
        self._reduction: _Maximum | None = None

    @property
    def interrupted(self) -> bool:
        """Whether training stopped at a signal."""
        return bool(self.signal_number)

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"processes": self.processes}}

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 (transformers' signature, here and below)
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self.processes = args.world_size
        assert isinstance(state.stateful_callbacks, dict)
        state.stateful_callbacks.setdefault(type(self).__name__, self.state())  # a checkpoint without, resumed
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        if self.processes == 1:
            self.signal_number = self._noted
        else:
            earlier, self._reduction = self._reduction, _Maximum(self._noted, args.device)
            self.signal_number = earlier.result() if earlier is not None else 0
        if self.signal_number:
            control.should_save = control.should_training_stop = True

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        """Wait for the others, so that none ends, and its launcher then all of them, while one is still saving."""
        if self.processes == 1:
            self.signal_number = self._noted
        else:
            if self._reduction is not None:
                self._reduction.result()
                self._reduction = None
            self.signal_number = _Maximum(self._noted, args.device).result()
        self.restore()

    def restore(self) -> None:
        """Put the signals' former handlers back; for training that an error ended, call it."""
        while self._previous:
            signal.signal(*self._previous.popitem())

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        first, self._noted = not self._noted, max(self._noted, number)
        if not first:
            return
        once_more = ""
        if self.processes == 1:
            signal.signal(signal.SIGINT, self._previous.pop(signal.SIGINT))
            once_more = "; press Ctrl-C again to stop at once"
        logger.warning("%s: a checkpoint is saved after this step%s", signal.Signals(number).name, once_more)


class _Maximum:
    """The largest of one integer a process, on its way while other work goes on. Every process makes one, in turn."""

    def __init__(self, number: int, device: torch.device) -> None:
        self._number = torch.full((1,), number, dtype=torch.int32, device=device)  # filled there: a copy would wait
        operation = torch.distributed.ReduceOp.MAX
        self._work = torch.distributed.all_reduce(self._number, op=operation, async_op=True)
        self._copy = self._number
        if device.type == "cuda":
            # Reading it in the stream of the training would wait for all that is queued there.
            stream = torch.cuda.Stream(device)
            with torch.cuda.stream(stream):
                self._work.wait()
                self._copy = torch.empty(1, dtype=torch.int32, pin_memory=True).copy_(self._number, non_blocking=True)
            self._work = stream.record_event()

    def result(self) -> int:
        if isinstance(self._work, torch.cuda.Event):
            self._work.synchronize()
        else:
            self._work.wait()
        return int(self._copy)
