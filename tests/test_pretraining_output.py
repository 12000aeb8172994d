"""The output folder: what may be resumed, and a model that is there whole or not at all."""

import json
import logging
import re
from pathlib import Path

import pytest

from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.training.pretraining_output import (
    last_whole_checkpoint,
    report_random_states,
    require_fresh_or_resumed,
    require_same_model,
    write_json,
    write_whole,
)


def make_checkpoint(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("{}")
    return folder


WHOLE = ("config.json", "trainer_state.json", "rng_state.pth")


def test_takes_the_newest_whole_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert last_whole_checkpoint(tmp_path) is None
    make_checkpoint(tmp_path / "checkpoint-20", *WHOLE)
    expected = make_checkpoint(tmp_path / "checkpoint-100", *WHOLE)
    make_checkpoint(tmp_path / "checkpoint-200", "config.json", "rng_state.pth")  # killed before its state was written
    half = make_checkpoint(tmp_path / "checkpoint-300", *WHOLE)
    (half / "trainer_state.json").write_text('{"epoch": 1')  # and in the middle of it
    make_checkpoint(tmp_path / "checkpoint-best", *WHOLE)
    assert last_whole_checkpoint(tmp_path) == expected
    (tmp_path / "checkpoint-20" / "place.json").write_text("{}")
    assert last_whole_checkpoint(tmp_path, required=["place.json"]) == tmp_path / "checkpoint-20"
    assert "checkpoint-100 is not a whole checkpoint (no place.json)" in caplog.text
    assert caplog.text.count("whole trainer_state.json") == 4


@pytest.mark.parametrize("is_noted", [True, False])
def test_a_checkpoint_has_the_random_states_of_all_that_saved_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_noted: bool
) -> None:
    """Where their number was not noted, a state of rank 2 tells of three processes."""
    names = ("config.json", "trainer_state.json", "rng_state_0.pth", "rng_state_1.pth")
    states: dict = {"stateful_callbacks": {"SaveAtInterrupt": {"args": {}, "attributes": {"processes": 3}}}}
    whole = make_checkpoint(tmp_path / "checkpoint-1", *names, "rng_state_2.pth")
    torn = make_checkpoint(tmp_path / "checkpoint-2", *names, "rng_state_2.pth")
    (torn / f"rng_state_{2 if is_noted else 1}.pth").unlink()
    for folder in (whole, torn):
        write_json(folder / "trainer_state.json", states if is_noted else {})
    assert last_whole_checkpoint(tmp_path) == whole
    assert f"no rng_state_{2 if is_noted else 1}.pth" in caplog.text


@pytest.mark.parametrize(
    ("processes", "has_dropout", "expected"),
    [
        (2, True, ""),
        (1, True, r"WARNING .*the 1 of this run, and has no rng_state.pth: dropout draws anew"),
        (1, False, r"INFO .*has no rng_state.pth: without dropout nothing depends on them"),
        (4, True, r"WARNING .*has no rng_state_2.pth, rng_state_3.pth"),
    ],
)
def test_says_which_random_states_are_lacking(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, processes: int, has_dropout: bool, expected: str
) -> None:
    caplog.set_level(logging.INFO)
    checkpoint = make_checkpoint(tmp_path / "checkpoint-1", "rng_state_0.pth", "rng_state_1.pth")
    report_random_states(checkpoint, processes=processes, has_dropout=has_dropout)
    assert re.search(expected, caplog.text) if expected else not caplog.text


def test_refuses_a_folder_with_an_earlier_run(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "model"
    assert require_fresh_or_resumed(str(folder), resume=False) == folder
    (folder / "notes.txt").write_text("")
    require_fresh_or_resumed(str(folder), resume=False)
    make_checkpoint(folder / "checkpoint-3")
    with pytest.raises(FileExistsError, match=r"earlier run \(checkpoint-3\).*--resume"):
        require_fresh_or_resumed(str(folder), resume=False)
    require_fresh_or_resumed(str(folder), resume=True)
    with pytest.raises(ValueError, match="output_dir is not set"):
        require_fresh_or_resumed(None, resume=False)


def save_model(folder: Path, *, vocab_size: int = 9) -> None:
    config = BioDTAConfig(vocab_size=vocab_size, hidden_size=8, num_hidden_layers=1, adapter_type="none")
    BioDTAForMaskedLM(config).save_pretrained(folder)


def full_disk(folder: Path) -> None:
    save_model(folder)
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("earlier", [False, True])
def test_a_write_that_fails_leaves_no_half(tmp_path: Path, earlier: bool) -> None:
    if earlier:
        write_whole(tmp_path, lambda folder: save_model(folder, vocab_size=12))
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path, full_disk)
    if earlier:
        assert BioDTAForMaskedLM.from_pretrained(tmp_path).config.vocab_size == 12
    else:
        with pytest.raises(OSError, match=r"model\.safetensors"):
            BioDTAForMaskedLM.from_pretrained(tmp_path)


def test_a_move_that_fails_half_way_leaves_no_model_that_loads(tmp_path: Path) -> None:
    write_whole(tmp_path, lambda folder: save_model(folder, vocab_size=12))
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match=r"config\.json"):
        write_whole(tmp_path, save_model)
    assert not (tmp_path / "model.safetensors").exists()


def test_a_whole_write_replaces_and_leaves_other_files(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "checkpoint-3")
    for size in (9, 10):
        write_whole(tmp_path, lambda folder, size=size: save_model(folder, vocab_size=size))
        assert BioDTAForMaskedLM.from_pretrained(tmp_path).config.vocab_size == size
    assert {path.name for path in tmp_path.iterdir()} >= {"checkpoint-3", "config.json"}
    assert not any("being-written" in path.name for path in tmp_path.iterdir())


def test_only_the_main_process_moves(tmp_path: Path) -> None:
    write_whole(tmp_path, lambda folder: folder.mkdir(), is_main_process=False)
    assert not (tmp_path / "config.json").exists()


def test_refuses_the_checkpoint_of_another_model(tmp_path: Path) -> None:
    config = BioDTAConfig(vocab_size=9, gene_features_metadata={"content_hash": "a"})
    config.use_cache = False  # as the Trainer leaves it
    config.save_pretrained(tmp_path)
    require_same_model(tmp_path, BioDTAConfig(vocab_size=9, gene_features_metadata={"content_hash": "a"}))
    with pytest.raises(ValueError, match=r"gene_features_metadata was .*a.* and is .*b.*; num_hidden_layers was 6"):
        other = BioDTAConfig(vocab_size=9, num_hidden_layers=2, gene_features_metadata={"content_hash": "b"})
        require_same_model(tmp_path, other)


def test_writes_json_with_a_last_line(tmp_path: Path) -> None:
    write_json(tmp_path / "m.json", {"a": 1, "path": tmp_path})
    assert (tmp_path / "m.json").read_text().endswith("}\n")
    assert json.loads((tmp_path / "m.json").read_text())["path"] == str(tmp_path)
