"""The Dask workers a build runs on: spawned here, behind a scheduler's address, or behind a client that is at hand.

https://distributed.dask.org. Needs the extra `dask`, imported when asked for. Tasks travel as Python objects: connect
only to schedulers that you would let run code as you. Workers must see inputs and output under the same paths, and have
the same versions as this process, or their bytes would differ; that is checked before work begins, and by every task.
"""

import importlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ..version import __version__

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

CONNECTION_SECONDS = 20
SHARED_FILES = "inputs and output must lie on a file system that all workers share, under the same paths"
VERSIONS: dict[str, str | None] = {"omics_transformers": __version__, "pyarrow": pa.__version__}


@contextmanager
def dask_client(
    dask: "str | Client",
    *,
    workers: int | None = None,
    threads: int = 1,
    connection_seconds: float = CONNECTION_SECONDS,
) -> Iterator["Client"]:
    """The client of a cluster with one worker or more; what was started or connected here ends with the context.

    Args:
        dask: "local", the address of a scheduler, or a client, which is left open.
        workers: processes of a local cluster (default: the cores there are, shared among `threads`).
        threads: threads that each of them is going to use within its one task at a time.
        connection_seconds: how long the scheduler may take to answer, and its first worker to appear.

    Raises:
        ImportError: without Dask.
        ConnectionError: when the scheduler does not answer or has no worker.
        ValueError: when `dask` is none of the three, or `workers` is given for another than "local".
    """
    distributed = require_dask()
    if dask != "local" and workers is not None:
        raise ValueError(f"dask_workers is {workers}, but applies to dask='local' only: this scheduler has its own")
    if isinstance(dask, distributed.Client):
        if dask.asynchronous:
            raise ValueError("the Dask client is asynchronous; expected one made without asynchronous=True")
        yield dask
    elif dask == "local":
        workers = workers or max(1, available_cores() // threads)
        local = {"processes": True, "threads_per_worker": 1, "dashboard_address": None}
        own_port = {"dashboard_address": "127.0.0.1:0"}  # for the status page, which begins without bokeh and any port
        with (
            distributed.LocalCluster(n_workers=workers, scheduler_kwargs=own_port, **local) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            yield client
    elif isinstance(dask, str) and dask:
        with _connected(distributed, dask, connection_seconds) as client:
            yield client
    else:
        raise ValueError(f"dask is {dask!r}; expected 'local', a scheduler's address or a distributed.Client")


def require_dask() -> Any:
    """The module `distributed`; ImportError, saying what to install, where it is not there."""
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise ImportError(
            "building on Dask workers needs dask and distributed: pip install 'omics-transformers[dask]'"
        ) from error


def require_equal_workers(client: "Client", folder: Path) -> None:
    """ValueError unless every worker there is has the versions of this process and sees `folder`."""
    found = client.run(_worker_probe(), list(VERSIONS), str(folder), on_error="return")
    for address, state in found.items():
        if isinstance(state, BaseException):
            raise ValueError(f"Dask worker {address} cannot be asked for its versions ({state!r})") from state
        versions, sees_folder = state
        require_equal_versions(address, versions, VERSIONS)
        if not sees_folder:
            raise ValueError(f"Dask worker {address} does not see {folder}: {SHARED_FILES}")


def require_equal_versions(address: str, found: Mapping[str, str | None], expected: Mapping[str, str | None]) -> None:
    """ValueError where a worker's versions are not those of the process that builds."""
    for name, version in expected.items():
        if found[name] != version:
            has = f"cannot import {name}" if found[name] is None else f"has {name} {found[name]}"
            raise ValueError(
                f"Dask worker {address} {has}, the process that builds has {version}: the bytes would not be the same. "
                f"Install {name.replace('_', '-')}=={version} on every worker"
            )


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _connected(distributed: Any, address: str, seconds: float) -> Iterator["Client"]:
    try:
        client = distributed.Client(address, timeout=seconds, set_as_default=False)
    except OSError as error:
        raise ConnectionError(
            f"the Dask scheduler {address} does not answer ({error}): is it running, and its port open to this machine?"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"dask is {address!r}; expected 'local' or an address such as tcp://host:8786 ({error})"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=seconds)
        except TimeoutError as error:
            raise ConnectionError(
                f"the Dask scheduler {address} has no workers after {seconds:g} s: start some (dask worker {address})"
            ) from error
        yield client


def _worker_probe() -> Callable[[list[str], str], tuple[dict[str, str | None], bool]]:
    """A function that travels as code, so that it runs on workers that lack this package too."""

    def probe(names: list[str], folder: str) -> tuple[dict[str, str | None], bool]:
        import importlib
        from pathlib import Path

        versions: dict[str, str | None] = {}
        for name in names:
            try:
                versions[name] = importlib.import_module(name).__version__
            except ImportError:
                versions[name] = None
        return versions, Path(folder).is_dir()

    return probe
