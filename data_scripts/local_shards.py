"""Shards written, and medians derived, on this machine: by threads of this process, or by several processes."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from .cell_inputs import InputReading, OpenInputs
from .cells_plan import CellsPlan, Shard
from .gene_medians import NonZeroMedians, non_zero_medians
from .rank_token_folder import RankTokenFolder
from .rank_token_shards import ShardJob, normalised_chunks, write_shard
from .rank_values import CellValues


class LocalShards:
    """A `ShardWorkers` of this machine. Inputs are read through `opened`, and by other processes on their own."""

    def __init__(self, opened: OpenInputs, *, processes: int = 1, threads: int = 1) -> None:
        self._opened = opened
        self._processes = processes
        self._threads = threads

    def medians(self, plan: CellsPlan) -> NonZeroMedians:
        """Of every gene of the plan's ranking, over the kept cells of all inputs; in this process."""
        n_genes = len(plan.ranking.genes)
        whole_inputs = plan.shards(cells_per_shard=max(1, *(one.n_cells for one in plan.inputs)))

        def one_pass() -> Iterator[CellValues]:
            with cells_progress(plan, "medians") as progress:
                for job in plan.jobs(whole_inputs, self._opened):
                    yield from normalised_chunks(job, self._opened, n_genes=n_genes, threads=self._threads)
                    progress.update(job.stop - job.start)

        return non_zero_medians(one_pass, n_genes)

    def write_shards(self, plan: CellsPlan, shards: Sequence[Shard], folder: RankTokenFolder) -> Iterator[int]:
        """Writes the shards; yields the cells of each as it is finished."""
        n_shards = len(plan.shards())
        jobs = plan.jobs(shards, self._opened)
        if self._processes > 1:
            yield from self._write_in_processes(jobs, n_shards, folder)
            return
        for job in jobs:
            path = folder.shard_path(job.number, n_shards)
            write_shard(job, path, self._opened, threads=self._threads, unfinished_folder=folder.unfinished)
            yield job.stop - job.start

    def _write_in_processes(self, jobs: Iterator[ShardJob], n_shards: int, folder: RankTokenFolder) -> Iterator[int]:
        """Keeps every process busy with at most one job waiting."""
        running: dict[Future[None], int] = {}
        # Processes are spawned: forking a process that has threads may lock up.
        with ProcessPoolExecutor(self._processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                for job in jobs:
                    path = folder.shard_path(job.number, n_shards)
                    future = pool.submit(_write_shard_here, job, path, folder.unfinished, self._threads)
                    running[future] = job.stop - job.start
                    while len(running) > self._processes:
                        yield from _reap(running)
                while running:
                    yield from _reap(running)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def cells_progress(plan: CellsPlan, what: str) -> "tqdm[Any]":
    """A bar over the cells of all inputs on a terminal, nothing elsewhere and where it has no name."""
    n_cells = sum(one.n_cells for one in plan.inputs)
    return tqdm(desc=what, total=n_cells, unit=" cells", disable=None if what else True)


def _reap(running: dict[Future[None], int]) -> Iterator[int]:
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        future.result()
        yield running.pop(future)


_opened_here: dict[InputReading, OpenInputs] = {}


def _write_shard_here(job: ShardJob, path: Path, unfinished_folder: Path, threads: int) -> None:
    """In a worker process: writes a shard, keeping inputs open between jobs."""
    opened = _opened_here.setdefault(job.reading, OpenInputs(job.reading))
    write_shard(job, path, opened, threads=threads, unfinished_folder=unfinished_folder)
