"""Jobs done here or by several processes; their results come in the jobs' order, a few at a time in memory."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Workers:
    """Where jobs are done: `None` for this process."""

    def __init__(self, pool: ProcessPoolExecutor | None, processes: int) -> None:
        self._pool = pool
        self._processes = processes

    def results(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """`function` of each job, in order; it and its jobs go to other processes, if there are any."""
        if self._pool is None:
            yield from map(function, jobs)
            return
        running: deque[Future[Result]] = deque()
        for job in jobs:
            running.append(self._pool.submit(function, job))
            if len(running) > 2 * self._processes:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


@contextmanager
def start_workers(processes: int) -> Iterator[Workers]:
    """Processes are spawned: forking a process that has threads may lock up."""
    if processes == 1:
        yield Workers(None, 1)
        return
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield Workers(pool, processes)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
