"""Resuming a run that streams its cells: every process goes on from the place that its trainer saved."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .streaming_cells import StreamedCells
from .streaming_state import load_stream_state


class StreamCheckpoint(TrainerCallback):
    """Takes up the state of a stream that `MaskedGeneTrainer` saved into a checkpoint, one file a process.

    The Trainer must not skip data on its own (`ignore_data_skip=True`): the stream begins where the checkpoint ended.

    Args:
        stream: of this process.
    """

    def __init__(self, stream: StreamedCells) -> None:
        self._stream = stream
        self._resumed = False

    def resume(self, checkpoint: Path) -> None:
        """Take up the state that a checkpoint holds; before training begins.

        Raises:
            FileNotFoundError, ValueError: where there is none, or its settings are others, naming both values.
        """
        self._stream.load_state_dict(load_stream_state(checkpoint, self._stream.rank))
        self._resumed = True

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 (transformers' signature, here and below)
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        if state.global_step and not self._resumed:
            raise ValueError(
                f"training goes on from step {state.global_step}, and the stream of cells from its start: call "
                "StreamCheckpoint.resume with the checkpoint first"
            )
        if state.global_step and not args.ignore_data_skip:
            raise ValueError(
                "ignore_data_skip is False: the Trainer would skip cells that the resumed stream has left behind; set "
                "it (--ignore-data-skip)"
            )
