"""Dask workers write the bytes of the serial build, whoever dies on the way; and what goes wrong is named."""

import os
import signal
import subprocess
import sys
import threading
import time

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts import dask_shards
from omics_transformers.data_scripts.cell_inputs import InputReading, OpenInputs
from omics_transformers.data_scripts.cells import build_cells
from omics_transformers.data_scripts.cells_plan import CellsSettings, Shard, plan_cells, read_tables
from omics_transformers.data_scripts.dask_shards import DaskShards
from omics_transformers.data_scripts.dask_tasks import write_part
from omics_transformers.data_scripts.local_shards import LocalShards
from omics_transformers.data_scripts.rank_token_folder import RankTokenFolder

distributed = pytest.importorskip("distributed")
psutil = pytest.importorskip("psutil")

N_GENES = 40
OPTIONS = {"obs_columns": ["donor"], "chunk_cells": 20, "cells_per_shard": 80, "threads": 1}


def write_cells(path, seed, n_cells):
    """Simulated counts, columns in another order in each file."""
    rng = np.random.default_rng(seed)
    counts = sp.csr_matrix(rng.poisson(rng.lognormal(0, 1, N_GENES), (n_cells, N_GENES)).astype(np.float32))
    names = [f"ENSG{number:011d}" for number in rng.permutation(N_GENES)]
    obs = pd.DataFrame(
        {"donor": pd.Categorical([f"d{seed}"] * n_cells)}, index=[f"{seed}-{number}" for number in range(n_cells)]
    )
    anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=names)).write_h5ad(path, compression="gzip")


def contents(output):
    return {str(file.relative_to(output)): file.read_bytes() for file in output.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    paths = [folder / f"{number}.h5ad" for number in range(6)]
    for number, path in enumerate(paths):
        write_cells(path, number, 500)
    return paths


@pytest.fixture(scope="module")
def serial(inputs, tmp_path_factory):
    output = tmp_path_factory.mktemp("serial") / "out"
    build_cells(inputs, output, **OPTIONS)
    return contents(output)


@pytest.fixture(scope="module")
def cluster():
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    own_port = {"dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(scheduler_kwargs=own_port, **settings) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2)
        yield client


def kill(client, n_workers):
    """SIGKILL, as the system kills what takes too much memory."""
    for process_id in list(client.run(os.getpid).values())[:n_workers]:
        os.kill(process_id, signal.SIGKILL)


def kill_after_shards(client, output, n_shards, seen):
    """Kills one worker once so many shards are there, and notes how many there were."""
    (process_id, *_) = client.run(os.getpid).values()

    def watch():
        progress = output.with_name(output.name + ".partial") / "progress"
        while len(found := list(progress.glob("train-*.json"))) < n_shards:
            time.sleep(0.002)
        os.kill(process_id, signal.SIGKILL)
        seen.append(len(found))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_the_bytes_are_the_serial_ones_though_a_worker_is_killed_in_the_middle(
    inputs, serial, cluster, client, tmp_path
):
    seen = []
    thread = kill_after_shards(client, tmp_path / "out", 5, seen)
    build_cells(inputs, tmp_path / "out", dask=cluster.scheduler_address, **OPTIONS)
    thread.join()
    assert contents(tmp_path / "out") == serial
    assert seen[0] < len([name for name in serial if name.endswith(".parquet")])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_medians_survive_the_loss_of_all_workers_between_two_passes(inputs, serial, client, tmp_path, monkeypatch):
    passes = dask_shards.medians_by_passes

    def killed_between(count, collect, n_genes):
        def then_killed(bounds):
            found = count(bounds)
            kill(client, 2)
            return found

        return passes(then_killed, collect, n_genes)

    monkeypatch.setattr(dask_shards, "medians_by_passes", killed_between)
    build_cells(inputs, tmp_path / "out", dask=client, **OPTIONS)
    assert contents(tmp_path / "out") == serial
    assert client.status == "running"  # it is not ours to close


def test_relative_paths_are_those_of_the_process_that_builds(inputs, cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(inputs[0].parent)
    build_cells("0.h5ad", tmp_path / "serial", minimum_genes=27, **OPTIONS)
    build_cells("0.h5ad", tmp_path / "out", minimum_genes=27, dask=cluster.scheduler_address, **OPTIONS)
    assert contents(tmp_path / "out") == contents(tmp_path / "serial")
    assert (tmp_path / "out" / "dropped_cells.tsv").read_text().count("\n0.h5ad\t") > 1


def test_a_damaged_file_is_named_and_the_other_shards_are_kept(inputs, cluster, tmp_path):
    damaged = tmp_path / "damaged.h5ad"
    write_cells(damaged, 9, 1500)
    with h5py.File(damaged) as file:
        values = file["X/data"]
        assert values.id.get_num_chunks() > 2
        last = values.id.get_chunk_info(values.id.get_num_chunks() - 1)
    with damaged.open("r+b") as file:
        file.seek(last.byte_offset)
        file.write(bytes(last.size))
    medians = {f"ENSG{number:011d}": 1.0 for number in range(N_GENES)}
    build = {"gene_medians": medians, "dask": cluster.scheduler_address, "retries": 1, **OPTIONS}
    with pytest.raises(ValueError, match=r"cells \d+ to \d+ of .*damaged.h5ad: failed 2 times on Dask .* is damaged"):
        build_cells([*inputs[:2], damaged], tmp_path / "out", **build)
    assert not (tmp_path / "out").exists()
    kept = list((tmp_path / "out.partial" / "folder" / "data").glob("*.parquet"))
    assert len(kept) > 5
    assert not list((tmp_path / "out.partial").glob("unfinished-*"))


def failing_until():
    """A task that travels as code, since workers do not know this file; it leaves a mark at each attempt."""

    def fail_until(path, n_attempts, error):
        path.write_text(path.read_text() + "x" if path.exists() else "x")
        if len(path.read_text()) < n_attempts:
            raise error
        return "done"

    return fail_until


def test_a_failed_task_is_tried_again_as_often_as_told(client, tmp_path):
    error = OSError(5, "the disk of the network blinked")
    patient = DaskShards(client, retries=2)
    future = patient._submit(failing_until(), "try", tmp_path / "patient", 3, error)
    assert patient._result(future, "cells 0 to 9 of a.h5ad") == "done"
    hasty = DaskShards(client, retries=1)
    future = hasty._submit(failing_until(), "try", tmp_path / "hasty", 3, error)
    with pytest.raises(OSError, match=r"cells 0 to 9 of a.h5ad: failed 2 times on Dask .*the network blinked"):
        hasty._result(future, "cells 0 to 9 of a.h5ad")
    future = hasty._submit(failing_until(), "try", tmp_path / "odd", 3, TypeError("a mistake of ours"))
    with pytest.raises(TypeError, match="a mistake of ours") as raised:
        hasty._result(future, "cells 0 to 9 of a.h5ad")
    assert "cells 0 to 9 of a.h5ad: failed 2 times" in raised.value.__notes__[0]


def test_cells_that_their_workers_die_of_are_named(cluster, client, monkeypatch):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    shards = DaskShards(client)
    future = shards._submit(os._exit, "exit", 1)
    with pytest.raises(ChildProcessError, match=r"cells 0 to 9 of a.h5ad: 1 Dask workers died at it, at last tcp://"):
        shards._result(future, "cells 0 to 9 of a.h5ad")


def test_inputs_that_workers_see_otherwise_are_named(inputs, client, tmp_path, monkeypatch):
    monkeypatch.setattr(dask_shards, "bytes_of_input", lambda path: 7)
    with pytest.raises(ValueError, match=r"Dask worker tcp://.* sees another .*0.h5ad, of \d+ bytes instead of 7"):
        build_cells(inputs[0], tmp_path / "out", dask=client, retries=0, **OPTIONS)
    here = tmp_path / "here.h5ad"
    here.write_bytes(inputs[0].read_bytes())
    monkeypatch.setattr(dask_shards, "bytes_of_input", lambda path: path.unlink(missing_ok=True))
    with pytest.raises(OSError, match=r"Dask worker tcp://.* does not see .*here.h5ad.*all workers share"):
        build_cells(here, tmp_path / "out", dask=client, retries=0, **OPTIONS)


def test_a_worker_of_an_earlier_start_cannot_put_its_shard_among_those_of_this_one(inputs, client, tmp_path):
    """Its folder is gone, although the output's own is there."""
    with RankTokenFolder(tmp_path / "out", {}) as folder:
        path = folder.shard_path(0, 1)
        earlier = folder.partial / "unfinished-of-an-earlier-start"
        plan = plan_of(inputs[0])
        shards = DaskShards(client, retries=0)
        shared, genes = shards._hold_plan(plan)
        (part,) = dask_shards._parts(plan, plan.shards()[:1])
        late = shards._submit(write_part, "late", shared, part, genes[0], path, earlier)
        with pytest.raises(OSError, match=r"does not see .*unfinished-of-an-earlier-start: the build has ended"):
            shards._result(late, "cells")
        assert not path.exists()
        on_time = shards._submit(write_part, "on-time", shared, part, genes[0], path, folder.unfinished)
        assert shards._result(on_time, "cells") == 80
        written = path.stat().st_mtime_ns
        again = shards._submit(write_part, "again", shared, part, genes[0], path, folder.unfinished)
        assert shards._result(again, "cells") == 80
        assert path.stat().st_mtime_ns == written  # a task that is run once more finds its work done
        shards._let_go()

        def n_readers():
            from omics_transformers.data_scripts.dask_tasks import _readers

            return len(_readers)

        assert set(client.run(n_readers).values()) == {0}


def plan_of(path):
    settings = CellsSettings(InputReading(obs_columns=("donor",)), chunk_cells=20, cells_per_shard=80)
    tables = read_tables(None, {f"ENSG{number:011d}": 1.0 for number in range(N_GENES)}, None, settings)
    opened = OpenInputs(settings.reading)
    try:
        return plan_cells([path], settings, tables, opened, workers=LocalShards(opened))
    finally:
        opened.close()


def test_a_cluster_that_loses_its_workers_for_good_is_named(monkeypatch):
    monkeypatch.setattr(dask_shards, "ASK_SECONDS", 0.05)
    monkeypatch.setattr(dask_shards, "NO_WORKERS_SECONDS", 0.3)
    own_port = {"dashboard_address": "127.0.0.1:0"}
    settings = {"n_workers": 0, "processes": False, "dashboard_address": None, "scheduler_kwargs": own_port}
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster, set_as_default=False) as client:
        shards = DaskShards(client)
        with pytest.raises(ConnectionError, match=r"has had no workers for 0 s. Finished shards are kept"):
            list(shards._as_done([shards._submit(sum, "sum", [1])]))


@given(n_cells=st.lists(st.integers(1, 50), min_size=1, max_size=30), n_runs=st.integers(1, 12))
def test_runs_hold_every_shard_once_in_order(n_cells, n_runs):
    shards = [Shard(number, number, 0, n) for number, n in enumerate(n_cells)]
    runs = dask_shards._runs(shards, n_runs)
    assert [shard for run in runs for shard in run] == shards
    assert len(runs) <= n_runs
    assert all(sum(shard.stop for shard in run) < sum(n_cells) / n_runs + 2 * max(n_cells) for run in runs)


def test_workers_of_a_local_cluster_are_gone_when_the_build_ends(inputs, serial, tmp_path):
    children = psutil.Process().children(recursive=True)
    build_cells(inputs, tmp_path / "out", dask="local", dask_workers=1, **OPTIONS)
    assert contents(tmp_path / "out") == serial
    left = [child for child in psutil.Process().children(recursive=True) if child not in children]
    assert not [child for child in left if "resource_tracker" not in " ".join(child.cmdline())]


@pytest.mark.slow
def test_shards_outlive_the_process_that_builds_and_its_workers_do_not(inputs, serial, tmp_path):
    script = tmp_path / "build.py"
    script.write_text(
        "import sys\n"
        "from omics_transformers.data_scripts.cells import build_cells\n"
        "if __name__ == '__main__':\n"
        f"    build_cells(sys.argv[2:], sys.argv[1], dask='local', dask_workers=2, **{OPTIONS})\n"
    )
    output = tmp_path / "built" / "out"
    process = subprocess.Popen([sys.executable, str(script), str(output), *map(str, inputs)])
    try:
        progress = output.with_name("out.partial") / "progress"
        deadline = time.monotonic() + 120
        while len(list(progress.glob("train-*.json"))) < 5:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.002)
        workers = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        process.wait()
    assert not output.exists()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert workers and not alive
    build_cells(inputs, output, **OPTIONS)
    assert contents(output) == serial
    assert [path.name for path in output.parent.iterdir()] == ["out"]
