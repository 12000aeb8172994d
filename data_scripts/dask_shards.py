"""Shards written, and medians derived, by Dask workers: one task a shard, the bytes of the serial build.

Workers read counts and annotation themselves and put their shards in the output's staging folder, where they count as
finished from then on. The ranking and each list of genes are results of tasks of their own: Dask sends them to a worker
once, and computes them again where the worker that held them is lost. A pass for the medians is a task for each run of
consecutive shards, whose histograms are added up in a tree; two passes serve, since one would have to keep every value.
"""

import dataclasses
import itertools
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .cells_plan import CellsPlan, Shard, Tables
from .dask_cluster import (
    SHARED_FILES,
    VERSIONS,
    available_cores,
    dask_client,
    require_equal_workers,
)
from .dask_tasks import (
    ShardPart,
    SharedPlan,
    as_it_is,
    bytes_of_input,
    close_readers,
    collect_values,
    count_values,
    write_part,
)
from .gene_medians import (
    MedianBounds,
    NonZeroMedians,
    ValueHistogram,
    ValuesWithin,
    medians_by_passes,
    merged_histograms,
)
from .local_shards import cells_progress
from .rank_token_folder import RankTokenFolder, finished_shard

if TYPE_CHECKING:
    from distributed import Client, Future

logger = logging.getLogger(__name__)

Held = TypeVar("Held")

RUNS_PER_SLOT = 4  # of shards, in a pass for medians: few enough that their histograms fit, enough to even out
FAN_IN = 4  # histograms that one task adds up
ASK_SECONDS = 5.0  # between two looks whether there are workers
NO_WORKERS_SECONDS = 300.0  # that a cluster may take to replace its last worker
VISIBLE_SECONDS = 60.0  # that a network file system may take to show a file written by another machine


@contextmanager
def dask_shards(
    dask: "str | Client", folder: RankTokenFolder, *, workers: int | None, threads: int | None, retries: int
) -> Iterator["DaskShards"]:
    """Connects to the workers, starting them for "local", and holds them against this process before work begins."""
    if threads is None:
        threads = max(1, available_cores() // workers) if dask == "local" and workers else 1
    with dask_client(dask, workers=workers, threads=threads) as client:
        require_equal_workers(client, folder.unfinished)
        yield DaskShards(client, threads=threads, retries=retries)


class DaskShards:
    """A `ShardWorkers` of the workers behind `client`; a task that fails is tried `retries` times more.

    `threads` are used within each task. Errors: ValueError and OSError say which cells could not be done and why,
    ChildProcessError that workers died of them, ConnectionError that the scheduler is gone. Finished shards are kept.
    """

    def __init__(self, client: "Client", *, threads: int = 1, retries: int = 2) -> None:
        self._client = client
        self._threads = threads
        self._retries = retries
        self._session = uuid.uuid4().hex[:12]
        self._numbers = itertools.count()
        self._futures: dict[Future, None] = {}  # whose results are wanted

    def medians(self, plan: CellsPlan) -> NonZeroMedians:
        """Of every gene of the plan's ranking, over the kept cells of all inputs."""
        shared, genes = self._hold_plan(plan)
        runs = _runs(plan.shards(), RUNS_PER_SLOT * sum(self._client.nthreads().values()))

        def over_runs(function: Callable[..., Any], bounds: MedianBounds) -> dict["Future", list[Shard]]:
            held = self._hold(bounds, "bounds")
            futures = {}
            for run in runs:
                genes_of_run = [genes[shard.input_number] for shard in run]
                futures[self._submit(function, "medians", shared, held, _parts(plan, run), genes_of_run)] = run
            return futures

        def count(bounds: MedianBounds) -> ValueHistogram:
            futures = over_runs(count_values, bounds)
            total = self._add_up(list(futures))
            for future, what in self._finished(plan, futures, "medians, counting"):
                if future.status != "finished":
                    self._result(future, what)  # raises; a histogram is not fetched, only their sum
            (total,) = self._as_done([total])
            found: ValueHistogram = self._result(total, "adding up histograms")
            self._drop(total)
            return found

        def collect(bounds: MedianBounds) -> Iterator[ValuesWithin]:
            for future, what in self._finished(plan, over_runs(collect_values, bounds), "medians, collecting"):
                yield self._result(future, what)

        n_genes = len(plan.ranking.genes)
        if not runs:
            return NonZeroMedians(np.full(n_genes, np.nan), np.zeros(n_genes, np.int64))
        try:
            return medians_by_passes(count, collect, n_genes)
        finally:
            self._let_go()

    def write_shards(self, plan: CellsPlan, shards: Sequence[Shard], folder: RankTokenFolder) -> Iterator[int]:
        """Writes the shards; yields the cells of each as it is finished."""
        shared, genes = self._hold_plan(plan)
        n_shards = len(plan.shards())
        paths = [folder.shard_path(shard.number, n_shards) for shard in shards]
        futures = {}
        for shard, part, path in zip(shards, _parts(plan, shards), paths, strict=True):
            where = path, folder.unfinished
            future = self._submit(write_part, "rank-tokens", shared, part, genes[shard.input_number], *where)
            futures[future] = [shard]
        try:
            for future, what in self._finished(plan, futures):
                yield self._result(future, what)
        finally:
            self._let_go()
        _wait_until_visible(paths)

    def _hold_plan(self, plan: CellsPlan) -> tuple["Future", list["Future"]]:
        """What the tasks have in common, and the genes of each input; inputs with the same genes share one."""
        key = f"{self._session}-{next(self._numbers)}"
        bare = dataclasses.replace(plan, inputs=[], tables=Tables(None, None, None))
        shared = SharedPlan(self._session, key, bare, Path.cwd(), VERSIONS, self._threads)
        distinct = {id(one.genes): one.genes for one in plan.inputs}
        held = {number: self._hold(genes, "genes") for number, genes in distinct.items()}
        return self._hold(shared, "plan"), [held[id(one.genes)] for one in plan.inputs]

    def _hold(self, content: Any, name: str) -> "Future":
        """As the result of a task: what is scattered is gone with the worker that has it."""
        return self._submit(as_it_is, name, content)

    def _submit(self, function: Callable[..., Any], name: str, *arguments: Any) -> "Future":
        key = f"{name}-{self._session}-{next(self._numbers)}"
        future = self._client.submit(function, *arguments, key=key, pure=False, retries=self._retries)
        self._futures[future] = None
        return future

    def _add_up(self, histograms: list["Future"]) -> "Future":
        """The sum of histograms, added up in a tree on the workers."""
        level = histograms
        while level is histograms or len(level) > 1:
            merged = [
                self._submit(merged_histograms, "merge", level[start : start + FAN_IN])
                for start in range(0, len(level), FAN_IN)
            ]
            if level is not histograms:
                for future in level:
                    self._drop(future)
            level = merged
        return level[0]

    def _finished(
        self, plan: CellsPlan, futures: Mapping["Future", Sequence[Shard]], progress_name: str = ""
    ) -> Iterator[tuple["Future", str]]:
        """The futures and what they were for, as they are done or have failed; each is dropped once it is taken."""
        with cells_progress(plan, progress_name) as progress:
            for future in self._as_done(list(futures)):
                shards = futures[future]
                yield future, _described(plan, shards)
                self._drop(future)
                progress.update(sum(shard.stop - shard.start for shard in shards))

    def _as_done(self, futures: list["Future"]) -> Iterator["Future"]:
        """The futures as they are done or have failed; ConnectionError where nobody is left to do them."""
        from distributed import as_completed

        completed = as_completed(futures, loop=self._client.loop)
        seen = asked = time.monotonic()
        while completed.count():
            if completed.has_ready():
                yield next(completed)
                continue
            time.sleep(0.02)
            if time.monotonic() - asked > ASK_SECONDS:
                asked = time.monotonic()
                seen = asked if self._n_workers() else seen
                if asked - seen > NO_WORKERS_SECONDS:
                    raise ConnectionError(
                        f"the Dask scheduler {getattr(self._client.scheduler, 'address', '')} has had no workers for "
                        f"{asked - seen:.0f} s. Finished shards are kept: start workers, then run the same build again"
                    )

    def _n_workers(self) -> int:
        try:
            return len(self._client.nthreads())
        except (OSError, RuntimeError) as error:
            raise ConnectionError(
                f"the Dask scheduler was lost ({error}). Finished shards are kept: run the same build again"
            ) from error

    def _result(self, future: "Future", what: str) -> Any:
        from distributed import CancelledError
        from distributed.scheduler import KilledWorker

        attempts = f"{what}: failed {self._retries + 1} times on Dask workers, at last with: "
        try:
            return future.result()
        except KilledWorker as error:
            raise ChildProcessError(
                f"{what}: {error.allowed_failures + 1} Dask workers died at it, at last {error.last_worker.address}. "
                "Out of memory? Try a smaller chunk_cells or fewer threads. Finished shards are kept"
            ) from error
        except CancelledError as error:
            raise ConnectionError(
                f"{what}: the Dask scheduler was lost ({error}). Finished shards are kept: run the same build again"
            ) from error
        except ValueError as error:
            raise ValueError(f"{attempts}{error}") from error
        except OSError as error:
            raise OSError(*([] if error.errno is None else [error.errno]), f"{attempts}{error}") from error
        except Exception as error:
            error.add_note(f"{attempts}this")
            raise

    def _drop(self, future: "Future") -> None:
        self._futures.pop(future)
        future.release()

    def _let_go(self) -> None:
        """Nothing is wanted any more: tasks not begun are not begun, and workers close the inputs."""
        for future in list(self._futures):
            self._drop(future)
        try:
            self._client.run(close_readers, self._session, on_error="ignore")
        except (OSError, RuntimeError) as error:  # the scheduler is gone; so are its tasks
            logger.info("Dask workers could not be told that the build has ended: %s", error)


def _runs(shards: Sequence[Shard], n_runs: int) -> list[list[Shard]]:
    """Consecutive shards, in at most `n_runs` runs of about as many cells."""
    n_cells = sum(shard.stop - shard.start for shard in shards)
    runs: dict[int, list[Shard]] = {}
    done = 0
    for shard in shards:
        runs.setdefault(done * n_runs // n_cells, []).append(shard)
        done += shard.stop - shard.start
    return list(runs.values())


def _parts(plan: CellsPlan, shards: Sequence[Shard]) -> list[ShardPart]:
    sizes = {number: bytes_of_input(plan.inputs[number].path) for number in {shard.input_number for shard in shards}}
    parts = []
    for shard in shards:
        one = plan.inputs[shard.input_number]
        size = sizes[shard.input_number]
        parts.append(ShardPart(shard, one.path, size, one.label, one.source, one.n_cells, one.schema))
    return parts


def _described(plan: CellsPlan, shards: Sequence[Shard]) -> str:
    first, last = shards[0], shards[-1]
    start, stop = plan.inputs[first.input_number].path, plan.inputs[last.input_number].path
    if start == stop:
        return f"cells {first.start} to {last.stop} of {start}"
    return f"cells from {first.start} of {start} to {last.stop} of {stop}"


def _wait_until_visible(paths: Sequence[Path]) -> None:
    """Network file systems show another machine's new files late."""
    deadline = time.monotonic() + VISIBLE_SECONDS
    for path in paths:
        while finished_shard(path) is None:
            if time.monotonic() > deadline:
                raise OSError(f"a Dask worker has written {path}, but it is not to be seen here: {SHARED_FILES}")
            time.sleep(0.2)
