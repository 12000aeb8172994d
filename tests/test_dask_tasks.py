"""What a worker keeps between tasks: one build's inputs in each thread, closed when it ends or another begins."""

import pytest

from omics_transformers.data_scripts import dask_tasks
from omics_transformers.data_scripts.cells_plan import CellsPlan, CellsSettings, Tables
from omics_transformers.data_scripts.dask_cluster import VERSIONS
from omics_transformers.data_scripts.dask_tasks import SharedPlan, close_readers
from omics_transformers.data_scripts.gene_ranking import make_ranking


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """Of a build named by its session."""
    monkeypatch.setattr(dask_tasks, "_address", lambda: "tcp://worker:1")  # no worker is needed
    ranking = make_ranking({"<pad>": 0, "<mask>": 1, "g": 2}, {"g": 1.0}, ("<pad>", "<mask>"))
    plan = CellsPlan(CellsSettings(), [], ranking, None, Tables(None, None, None))
    return lambda session, versions=VERSIONS: SharedPlan(session, f"{session}-0", plan, tmp_path, versions, 1)


def test_a_reader_stays_for_its_build_and_gives_way_to_the_next(shared):
    with dask_tasks._reading(shared("first")) as first:
        pass
    with dask_tasks._reading(shared("first")) as again:
        assert again is first
    with dask_tasks._reading(shared("second")) as second:
        assert second is not first
        close_readers("second")  # the build has ended while this task still runs
        assert second.ended
    close_readers("first")
    assert not dask_tasks._readers


def test_a_worker_with_another_version_refuses(shared):
    with (
        pytest.raises(ValueError, match=r"Dask worker tcp://worker:1 has pyarrow .*, the process that builds has 0\.1"),
        dask_tasks._reading(shared("first", {**VERSIONS, "pyarrow": "0.1"})),
    ):
        pass
    assert not dask_tasks._readers


def test_a_folder_of_files_counts_with_all_its_bytes(tmp_path):
    (tmp_path / "matrix.mtx").write_bytes(b"12345")
    (tmp_path / "genes.tsv").write_bytes(b"123")
    assert dask_tasks.bytes_of_input(tmp_path) == 8
    assert dask_tasks.bytes_of_input(tmp_path / "genes.tsv") == 3
