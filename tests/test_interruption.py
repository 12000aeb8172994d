"""Signals: noted once, a checkpoint asked for, agreed on by all processes, and the former handlers put back.

The whole way: test_run_mlm.py with one process, test_run_mlm_processes.py with two.
"""

import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from omics_transformers.training.interruption import SaveAtInterrupt, TrainingInterrupted, _Maximum


@pytest.fixture
def former_handlers() -> Iterator[list]:
    """Handlers that are not Python's own: a second SIGTERM must not end the tests."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def begin(folder: Path) -> tuple[SaveAtInterrupt, tuple[TrainingArguments, TrainerState, TrainerControl]]:
    callback = SaveAtInterrupt()
    what = TrainingArguments(output_dir=str(folder), use_cpu=True), TrainerState(), TrainerControl()
    callback.on_train_begin(*what)
    return callback, what


def test_first_interrupt_saves_and_second_stops(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, former_handlers: list
) -> None:
    callback, what = begin(tmp_path)
    control = what[2]
    callback.on_step_end(*what)
    assert not control.should_training_stop
    os.kill(os.getpid(), signal.SIGINT)
    assert "SIGINT" in caplog.text and "press Ctrl-C again" in caplog.text
    assert not callback.interrupted  # until the step has ended
    callback.on_step_end(*what)
    assert control.should_save and control.should_training_stop and callback.signal_number == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is former_handlers[0]
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    callback.restore()


def test_sigterm_saves_and_may_be_repeated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, former_handlers: list
) -> None:
    callback, what = begin(tmp_path)
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGTERM)
    callback.on_step_end(*what)
    assert what[2].should_save and what[2].should_training_stop
    assert caplog.text.count("SIGTERM: a checkpoint is saved") == 1
    callback.on_train_end(*what)
    assert TrainingInterrupted(callback.signal_number).exit_code == 143


def test_a_signal_after_the_last_step_still_stops_the_run(tmp_path: Path, former_handlers: list) -> None:
    callback, what = begin(tmp_path)
    callback.on_step_end(*what)
    os.kill(os.getpid(), signal.SIGINT)
    callback.on_train_end(*what)
    assert TrainingInterrupted(callback.signal_number).exit_code == 130


@pytest.mark.parametrize("ended", [True, False])
def test_gives_the_handlers_back_without_an_interrupt(tmp_path: Path, ended: bool, former_handlers: list) -> None:
    callback, what = begin(tmp_path)
    assert signal.getsignal(signal.SIGTERM) is not former_handlers[1]
    if ended:
        callback.on_train_end(*what)
    else:
        callback.restore()
    assert signal.getsignal(signal.SIGTERM) is former_handlers[1]


def test_a_checkpoint_that_does_not_know_the_callback_can_be_resumed(tmp_path: Path, former_handlers: list) -> None:
    callback, (_, state, _) = begin(tmp_path)
    assert state.stateful_callbacks["SaveAtInterrupt"] == callback.state()
    callback.restore()


def _five_steps(rank: int, folder: Path) -> None:
    """Rank 1 gets SIGTERM in the third step, and rank 0 nothing."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    callback, what = begin(folder)
    callback.processes = 2
    stopped = []
    for step in range(5):
        if (rank, step) == (1, 2):
            os.kill(os.getpid(), signal.SIGTERM)
        what[2].should_training_stop = False
        callback.on_step_end(*what)
        stopped.append(what[2].should_training_stop)
    callback.on_train_end(*what)
    torch.distributed.destroy_process_group()
    (folder / f"{rank}.json").write_text(json.dumps([stopped, callback.signal_number]))


def test_processes_stop_after_the_same_step_though_one_was_told(tmp_path: Path) -> None:
    """A step later than one process: the reduction of the third step is read at the end of the fourth."""
    processes = [multiprocessing.get_context("fork").Process(target=_five_steps, args=(r, tmp_path)) for r in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert seen[0] == seen[1] == [[False, False, False, True, True], signal.SIGTERM]


@pytest.mark.gpu
def test_the_maximum_comes_from_the_device(tmp_path: Path) -> None:
    torch.distributed.init_process_group("nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        assert _Maximum(15, torch.device("cuda", 0)).result() == 15
    finally:
        torch.distributed.destroy_process_group()
