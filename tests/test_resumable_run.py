"""Settings as resolved, and the checkpoint to go on from; stopping and resuming run in the tests of the scripts."""

import dataclasses
import json
from pathlib import Path

import pytest

from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.training.interruption import TrainingInterrupted
from omics_transformers.training.resumable_run import (
    checkpoint_to_resume,
    has_dropout,
    is_resumed,
    run_script,
    settings_of,
)
from omics_transformers.training.segmentation_arguments import (
    SegmentationArguments,
    SegmentationDataArguments,
    SegmentationModelArguments,
)

CONFIG = SegmentNTConfig(hidden_size=16, num_attention_heads=2)


def arguments(folder: Path, **changes: object) -> SegmentationArguments:
    return SegmentationArguments(output_dir=str(folder), use_cpu=True, report_to="none", **changes)


def write_checkpoint(folder: Path, config: SegmentNTConfig = CONFIG) -> Path:
    config.save_pretrained(folder)
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json", "rng_state.pth"):
        (folder / name).write_text("{}")
    return folder


def test_settings_can_be_written_and_leave_out_what_is_not_set(tmp_path: Path) -> None:
    settings = settings_of(SegmentationModelArguments(), SegmentationDataArguments(), arguments(tmp_path, seed=7))
    assert json.loads(json.dumps(settings, default=str))["training"]["seed"] == 7
    assert settings["model"] == dataclasses.asdict(SegmentationModelArguments())
    assert (settings["processes"], settings["device"]) == (1, "cpu")
    assert "hub_model_id" not in settings["training"]


def test_a_run_goes_on_only_where_it_is_told_to(tmp_path: Path) -> None:
    last = write_checkpoint(tmp_path / "checkpoint-20")
    assert not is_resumed(arguments(tmp_path)) and is_resumed(arguments(tmp_path, resume=True))
    assert is_resumed(arguments(tmp_path, resume_from_checkpoint=str(last)))
    assert checkpoint_to_resume(arguments(tmp_path), tmp_path, CONFIG) is None


def test_the_last_whole_checkpoint_or_the_one_that_was_named(tmp_path: Path) -> None:
    first, last = (write_checkpoint(tmp_path / f"checkpoint-{step}") for step in (5, 20))
    broken = write_checkpoint(tmp_path / "checkpoint-30")
    (broken / "trainer_state.json").unlink()
    assert checkpoint_to_resume(arguments(tmp_path, resume=True), tmp_path, CONFIG) == last
    assert checkpoint_to_resume(arguments(tmp_path, resume_from_checkpoint=str(first)), tmp_path, CONFIG) == first
    assert checkpoint_to_resume(arguments(tmp_path, resume=True), tmp_path / "checkpoint-5", CONFIG) is None


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint-20", SegmentNTConfig(hidden_size=32, num_attention_heads=2))
    with pytest.raises(ValueError, match="hidden_size"):
        checkpoint_to_resume(arguments(tmp_path, resume=True), tmp_path, CONFIG)


def test_a_checkpoint_of_another_number_of_processes_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    two = write_checkpoint(tmp_path / "checkpoint-20")
    (two / "rng_state.pth").unlink()
    for rank in (0, 1):
        (two / f"rng_state_{rank}.pth").write_text("")
    config = SegmentNTConfig(hidden_size=16, num_attention_heads=2, hidden_dropout_prob=0.1)
    config.save_pretrained(two)
    assert checkpoint_to_resume(arguments(tmp_path, resume=True), tmp_path, config) == two
    assert "has no rng_state.pth: dropout draws anew" in caplog.text


@pytest.mark.parametrize(("share", "expected"), [(0.0, False), (0.1, True)])
def test_dropout_is_seen_in_any_of_its_fields(share: float, expected: bool) -> None:
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        others = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        assert has_dropout(BioDTAConfig(vocab_size=9, **{**others, name: share})) is expected


@pytest.mark.parametrize(
    ("stop", "code"), [(TrainingInterrupted(2), 130), (TrainingInterrupted(15), 143), (KeyboardInterrupt(), 130)]
)
def test_exit_codes_are_those_of_the_signals(tmp_path: Path, stop: BaseException, code: int) -> None:
    def train() -> None:
        raise stop

    with pytest.raises(SystemExit) as found:
        run_script(train, arguments(tmp_path))
    assert found.value.code == code
