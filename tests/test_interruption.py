"""Ctrl-C: noted once, a checkpoint asked for, and the former handler put back. The whole way: test_run_mlm.py."""

import os
import signal
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from omics_transformers.training.interruption import SaveAtInterrupt


def test_first_interrupt_saves_and_second_stops(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = signal.getsignal(signal.SIGINT)
    callback, control, state = SaveAtInterrupt(), TrainerControl(), TrainerState()
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    callback.on_train_begin(arguments, state, control)
    callback.on_step_end(arguments, state, control)
    assert not control.should_training_stop
    os.kill(os.getpid(), signal.SIGINT)
    assert callback.interrupted
    assert "press Ctrl-C again" in caplog.text
    callback.on_step_end(arguments, state, control)
    assert control.should_save and control.should_training_stop
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_gives_the_handler_back_when_training_ends(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    callback, arguments = SaveAtInterrupt(), TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    callback.on_train_begin(arguments, TrainerState(), TrainerControl())
    assert signal.getsignal(signal.SIGINT) is not before
    callback.on_train_end(arguments, TrainerState(), TrainerControl())
    assert signal.getsignal(signal.SIGINT) is before


def test_restores_the_handler_without_an_interrupt(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    callback = SaveAtInterrupt()
    callback.on_train_begin(TrainingArguments(output_dir=str(tmp_path), use_cpu=True), TrainerState(), TrainerControl())
    assert signal.getsignal(signal.SIGINT) is not before
    callback.restore()
    assert signal.getsignal(signal.SIGINT) is before
