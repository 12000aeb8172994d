"""Rows that processes computed apart, brought together in all of them, with gradients back to whoever computed them."""

from typing import Any

import torch
import torch.distributed


def world_size() -> int:
    """Processes that train together; 1 without a process group."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process among them."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def gathered_rows(rows: torch.Tensor) -> torch.Tensor:
    """(rows, size) of each process -> (processes * rows, size), in the order of the ranks.

    All processes call it with as many rows. In the backward pass the gradients of all processes are added up.
    """
    return rows if world_size() == 1 else _GatheredRows.apply(rows)


class _GatheredRows(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, rows: torch.Tensor) -> torch.Tensor:
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        torch.distributed.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]
