"""A plan cuts every input's cells into shards, each once, and its jobs carry the annotation of their own cells."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from omics_transformers.data_scripts.cell_inputs import InputReading, OpenInputs
from omics_transformers.data_scripts.cells_plan import CellsSettings, fingerprint, plan_cells, read_tables
from omics_transformers.data_scripts.local_shards import LocalShards


@pytest.fixture
def paths(tmp_path):
    for name, n_cells in (("a", 25), ("b", 10)):
        obs = pd.DataFrame({"age": np.arange(n_cells)}, index=[f"{name}{number}" for number in range(n_cells)])
        var = pd.DataFrame(index=[f"g{number}" for number in range(12)])
        counts = sp.csr_matrix(np.ones((n_cells, 12), np.float32))
        anndata.AnnData(counts, obs=obs, var=var).write_h5ad(tmp_path / f"{name}.h5ad")
    return [tmp_path / "a.h5ad", tmp_path / "b.h5ad"]


def test_shards_hold_every_cell_once_with_its_annotation(paths):
    settings = CellsSettings(InputReading(obs_columns=("age",), exclude="age == 3"), cells_per_shard=10)
    tables = read_tables(None, {f"g{number}": 1.0 for number in range(12)}, None, settings)
    opened = OpenInputs(settings.reading)
    plan = plan_cells(paths, settings, tables, opened, workers=LocalShards(opened))
    assert [(shard.input_number, shard.start, shard.stop) for shard in plan.shards()] == [
        (0, 0, 10),
        (0, 10, 20),
        (0, 20, 25),
        (1, 0, 10),
    ]
    jobs = list(plan.jobs(plan.shards(), opened))
    opened.close()
    cells = [cell for job in jobs for cell in job.cells["cell_id"].to_pylist()]
    assert cells == [f"a{number}" for number in range(25)] + [f"b{number}" for number in range(10)]
    assert jobs[2].cells["age"].to_pylist() == [20, 21, 22, 23, 24]
    assert [np.flatnonzero(~job.candidates).tolist() for job in jobs] == [[3], [], [], [3]]


def test_relative_inputs_are_opened_from_the_folder_that_is_told(paths, tmp_path):
    opened = OpenInputs(InputReading(), folder=tmp_path)
    assert opened.get(paths[0].relative_to(tmp_path)).n_cells == 25
    opened.close()


def test_the_fingerprint_changes_with_the_inputs_and_the_settings(paths):
    def of(**options):
        settings = CellsSettings(**options)
        return fingerprint(paths, settings, read_tables(None, None, None, settings))

    assert of() == of()
    assert of(max_length=7) != of()
    before = of()
    paths[1].write_bytes(paths[1].read_bytes() + b"x")
    assert of() != before
