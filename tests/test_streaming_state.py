"""The state of a stream: whose turn it is, what was trained on, and settings that may not change."""

from pathlib import Path

import pytest
import torch

from omics_transformers.training.streaming_state import (
    StreamPlace,
    StreamState,
    load_stream_state,
    save_stream_state,
)

SETTINGS = {"workers": 2, "batch_size": 8, "seed": 0}


def test_keeps_the_last_place_of_each_worker_and_whose_turn_it_is() -> None:
    state = StreamState(SETTINGS)
    assert state.next_worker == 0
    for place in ([0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 3]):
        state.trained_on(torch.tensor(place))
    assert state.places == {0: StreamPlace(0, 0, 1, 3), 1: StreamPlace(1, 0, 0, 0)}
    assert state.next_worker == 1


def test_goes_through_a_checkpoint(tmp_path: Path) -> None:
    state = StreamState(SETTINGS)
    state.trained_on(StreamPlace(1, 2, 3, 4))
    save_stream_state(state.state_dict(), tmp_path, rank=1)
    again = StreamState(SETTINGS)
    again.load_state_dict(load_stream_state(tmp_path, rank=1))
    assert again.state_dict() == state.state_dict()
    assert [path.name for path in tmp_path.iterdir()] == ["stream_state_rank_1.json"]


def test_other_settings_are_refused_with_both_values() -> None:
    state = StreamState(SETTINGS).state_dict()
    with pytest.raises(
        ValueError, match=r"since batch_size was 8 and is 4; workers was 2 and is 3: train with the same"
    ):
        StreamState({**SETTINGS, "batch_size": 4, "workers": 3}).load_state_dict(state)


def test_checkpoints_without_a_whole_state_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no stream_state_rank_0\.json"):
        load_stream_state(tmp_path, rank=0)
    (tmp_path / "stream_state_rank_0.json").write_text('{"settings": ')
    with pytest.raises(ValueError, match="not whole JSON"):
        load_stream_state(tmp_path, rank=0)
