"""Rows of several processes brought together, and the way back of their gradients."""

import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed

from omics_transformers.training.gathered_rows import gathered_rows, rank, world_size


def test_one_process_has_all_rows() -> None:
    rows = torch.randn(2, 3, requires_grad=True)
    assert (rank(), world_size()) == (0, 1)
    assert gathered_rows(rows) is rows


def test_two_processes_add_up_their_gradients(tmp_path: Path) -> None:
    if torch.cuda.is_initialized():
        pytest.skip("a process that holds a GPU cannot be forked")
    processes = [multiprocessing.get_context("fork").Process(target=_gather, args=(r, tmp_path)) for r in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    weights = [torch.arange(12.0).reshape(4, 3) * (r + 1) for r in (0, 1)]
    for r in (0, 1):
        gathered, gradient = torch.load(tmp_path / f"{r}.pt", weights_only=True)
        torch.testing.assert_close(gathered, torch.tensor([1.0, 1.0, 2.0, 2.0])[:, None].expand(4, 3))
        torch.testing.assert_close(gradient, (weights[0] + weights[1])[2 * r : 2 * r + 2])


def _gather(r: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=r, world_size=2)
    rows = torch.full((2, 3), r + 1.0, requires_grad=True)
    gathered = gathered_rows(rows)
    (gathered * torch.arange(12.0).reshape(4, 3) * (r + 1)).sum().backward()
    torch.save((gathered.detach(), rows.grad), folder / f"{r}.pt")
    torch.distributed.destroy_process_group()
