"""Where a stream of cells is: the place of the last batch of each data loader worker that was trained on.

Workers read ahead, so what they have handed out is not what a checkpoint knows: each batch carries its own place, and
the state keeps those of the batches that a step has used. It is a few integers, saved as JSON.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

STREAM_PLACE = "stream_place"  # key of a batch


class StreamPlace(NamedTuple):
    """Of a batch: all of it counted from 0."""

    worker: int
    epoch: int
    buffer: int
    batch: int


class StreamState:
    """The places of the batches trained on, and the settings that they belong to.

    Attributes:
        settings: all that the order depends on, as JSON takes it.
        places: worker -> its last batch that was trained on.
        next_worker: data loaders take from their workers in turn; whose turn it is.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = dict(settings)
        self.places: dict[int, StreamPlace] = {}
        self.next_worker = 0

    def trained_on(self, place: torch.Tensor | StreamPlace) -> None:
        """Note that a batch is done with; `place` is what it carries, (4,) int64."""
        done = StreamPlace(*(int(number) for number in place))
        self.places[done.worker] = done
        self.next_worker = (done.worker + 1) % int(self.settings["workers"])

    def state_dict(self) -> dict[str, Any]:
        return {
            "settings": self.settings,
            "places": [list(self.places[worker]) for worker in sorted(self.places)],
            "next_worker": self.next_worker,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from another state.

        Raises:
            ValueError: naming both values, where its settings are others.
        """
        saved = state["settings"]
        changed = [
            f"{name} was {saved.get(name)} and is {self.settings.get(name)}"
            for name in sorted({*saved, *self.settings})
            if saved.get(name) != self.settings.get(name)
        ]
        if changed:
            raise ValueError(
                f"the stream of cells cannot be resumed, since {'; '.join(changed)}: train with the same shards, "
                "batches, buffer, processes, data loader workers and seed, or start anew"
            )
        places = [StreamPlace(*place) for place in state["places"]]
        self.places = {place.worker: place for place in places}
        self.next_worker = int(state["next_worker"])


def save_stream_state(state: Mapping[str, Any], folder: Path, rank: int) -> None:
    """Write what `state_dict` gave into a checkpoint, whole or not at all."""
    path = stream_state_path(folder, rank)
    unfinished = path.with_suffix(".unfinished")
    try:
        unfinished.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def load_stream_state(folder: Path, rank: int) -> dict[str, Any]:
    """What a checkpoint holds.

    Raises:
        FileNotFoundError: where it holds none for this process.
        ValueError: where the file is no whole JSON.
    """
    path = stream_state_path(folder, rank)
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no {path.name}: it is a checkpoint of a run that did not stream cells, or had "
            "fewer processes"
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not whole JSON ({error}): go on from an earlier checkpoint") from error


def stream_state_path(folder: Path, rank: int) -> Path:
    return folder / f"stream_state_rank_{rank}.json"
