"""Clusters that do not answer, lack workers, or have other versions are refused by name before work begins."""

import socket
import sys

import pytest

from omics_transformers.data_scripts import dask_cluster
from omics_transformers.data_scripts.cells import build_cells
from omics_transformers.data_scripts.dask_cluster import dask_client, require_equal_workers

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster():
    """A scheduler without workers, in this process."""
    own_port = {"dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(
        n_workers=0, processes=False, protocol="tcp", dashboard_address=None, scheduler_kwargs=own_port
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    """With one worker, in this process."""
    cluster.scale(1)
    with distributed.Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(1)
        yield client


def test_a_scheduler_without_workers_is_named(cluster):
    address = cluster.scheduler_address
    with pytest.raises(ConnectionError, match=rf"{address} has no workers after 0\.3 s: start some"):
        dask_client(address, connection_seconds=0.3).__enter__()


def test_a_scheduler_that_does_not_answer_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=f"the Dask scheduler {address} does not answer"):
            dask_client(address, connection_seconds=0.5).__enter__()


@pytest.mark.parametrize("dask", ["ftp://host:1", "", 7])
def test_what_is_no_scheduler_is_refused(dask):
    with pytest.raises(ValueError, match=f"dask is {dask!r}; expected 'local'"):
        dask_client(dask).__enter__()


def test_a_client_stays_open_and_one_by_address_is_closed(client):
    with dask_client(client) as same:
        assert same is client
    assert client.status == "running"
    with dask_client(client.scheduler.address) as other:
        assert other.submit(sum, [1, 2]).result() == 3
    assert other.status == "closed"


def test_workers_with_the_same_versions_that_see_the_folder_are_taken(client, tmp_path):
    require_equal_workers(client, tmp_path)
    with pytest.raises(ValueError, match=r"Dask worker .* does not see .*absent: inputs and output must lie on a file"):
        require_equal_workers(client, tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "pyarrow",
            r"Dask worker .* has pyarrow .*, the process that builds has 0\.1: .*Install pyarrow==0\.1 on every",
        ),
        ("no_such_package", "Dask worker .* cannot import no_such_package, the process that builds has"),
    ],
)
def test_workers_with_other_versions_are_named(client, tmp_path, monkeypatch, name, message):
    monkeypatch.setitem(dask_cluster.VERSIONS, name, "0.1")
    with pytest.raises(ValueError, match=message):
        require_equal_workers(client, tmp_path)


def test_without_dask_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install 'omics-transformers\[dask\]'"):
        build_cells("cells.h5ad", tmp_path / "out", gene_medians={"g": 1.0}, dask="local")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dask": "local", "processes": 2}, "processes is 2 and dask 'local': with Dask, give dask_workers"),
        ({"dask_workers": 2}, "dask_workers is 2 without dask"),
        ({"dask": "local", "dask_workers": 0}, "dask_workers is 0"),
        ({"dask": "local", "retries": -1}, "retries -1; expected"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        build_cells("cells.h5ad", tmp_path / "out", **options)


def test_workers_are_counted_for_a_local_cluster_alone(client):
    with pytest.raises(ValueError, match="dask_workers is 2, but applies to dask='local' only"):
        dask_client(client, workers=2).__enter__()
