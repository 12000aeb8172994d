"""How long the model itself works, measured without making a GPU wait for it."""

import time
from collections.abc import Callable
from typing import Any

import torch


class ModelTimer:
    """Adds up the time of calls: by CUDA events on a GPU, which are read at the end, else by the clock.

    Args:
        device: on which the calls work.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._seconds = 0.0
        self._events: list[tuple[Any, Any]] = []

    def __call__(self, call: Callable[[dict[str, torch.Tensor]], torch.Tensor], inputs: Any) -> torch.Tensor:
        """Make the call and count its time."""
        if self._is_cuda:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            states = call(inputs)
            end.record()
            self._events.append((start, end))
            return states
        started = time.perf_counter()
        states = call(inputs)
        self._seconds += time.perf_counter() - started
        return states

    def seconds(self) -> float:
        """All calls so far; waits for the last of them."""
        if self._events:
            torch.cuda.synchronize()
            self._seconds += sum(start.elapsed_time(end) for start, end in self._events) / 1000
            self._events = []
        return self._seconds
