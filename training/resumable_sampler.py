"""What samplers share whose order is a function of seed, epoch and settings: their place, saved and taken up."""

import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

Item = TypeVar("Item")


class ResumableSampler(Sampler[Item]):
    """A sampler that goes on in the middle of an epoch.

    A data loader draws items before they are trained on: its own count of batches is then the one to resume by, and
    `settings` are what must not change.

    Attributes:
        epoch: whose order is next.
        keep_alike: what a user has to keep, for the error where a run is resumed with something else.
    """

    keep_alike: ClassVar[str]

    def __init__(self) -> None:
        self.epoch = 0
        self._position = 0

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What the order depends on, besides the epoch, as JSON takes it."""

    @abstractmethod
    def _items_of_epoch(self) -> Sequence[Item]:
        """All items of `epoch`, in order."""

    def __iter__(self) -> Iterator[Item]:
        items = self._items_of_epoch()
        start, self._position = self._position, 0
        for place in range(start, len(items)):
            self._position = place + 1
            yield items[place]
        self._position = 0

    def set_epoch(self, epoch: int) -> None:
        """Order the items as in this epoch; another epoch than before starts at its beginning."""
        if epoch != self.epoch:
            self.epoch = epoch
            self._position = 0

    def state_dict(self) -> dict[str, Any]:
        """The settings, the epoch and how many of its items have been handed out, as JSON takes them."""
        return {**self.settings(), "epoch": self.epoch, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, in the middle of its epoch if need be.

        Raises:
            ValueError: where a setting, or the cells, are not those that the state was made with.
        """
        self.require_settings(state)
        self.epoch, self._position = int(state["epoch"]), int(state["position"])

    def require_settings(self, state: Mapping[str, Any]) -> None:
        """Raise ValueError, naming both values, where `state` was made with other settings."""
        changed = [
            f"{name} was {state.get(name)} and is {value}"
            for name, value in self.settings().items()
            if state.get(name) != value
        ]
        if changed:
            raise ValueError(
                f"the order of the cells cannot be resumed, since {'; '.join(changed)}: train with the same "
                f"{self.keep_alike}, or start anew"
            )


def checksum_of(numbers: npt.NDArray[np.integer[Any]], before: int = 0) -> int:
    """By which other cells, or cells in another order, are told apart; `before` is the checksum of earlier ones."""
    return zlib.crc32(np.ascontiguousarray(numbers, dtype=np.int64).tobytes(), before)
