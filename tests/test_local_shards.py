"""Shards on this machine: the same on threads and processes, and finished ones counted as they come."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from omics_transformers.data_scripts.cell_inputs import OpenInputs
from omics_transformers.data_scripts.cells_plan import CellsSettings, plan_cells, read_tables
from omics_transformers.data_scripts.local_shards import LocalShards
from omics_transformers.data_scripts.rank_token_folder import RankTokenFolder


@pytest.mark.parity
@pytest.mark.parametrize("threads", [1, 3])
def test_medians_are_numpys_and_every_shard_is_written(tmp_path, threads):
    counts = np.random.default_rng(0).poisson(2.0, (50, 12)).astype(np.float32)
    obs = pd.DataFrame(index=[f"cell{number}" for number in range(50)])
    var = pd.DataFrame(index=[f"g{number}" for number in range(12)])
    anndata.AnnData(sp.csr_matrix(counts), obs=obs, var=var).write_h5ad(tmp_path / "cells.h5ad")
    settings = CellsSettings(minimum_genes=1, cells_per_shard=20, chunk_cells=6)
    opened = OpenInputs(settings.reading)
    workers = LocalShards(opened, threads=threads)
    tables = read_tables(None, None, None, settings)
    with RankTokenFolder(tmp_path / "out", {}) as folder:
        plan = plan_cells([tmp_path / "cells.h5ad"], settings, tables, opened, workers=workers, folder=folder)
        values = counts.astype(np.float64) / counts.astype(np.float64).sum(axis=1, keepdims=True) * 10_000
        for gene, column in zip(var.index, values.T, strict=True):
            assert plan.ranking.gene_medians[gene] == np.median(column[column > 0])
        assert list(workers.write_shards(plan, plan.shards()[1:], folder)) == [20, 10]
        finished = [folder.finished_shard(folder.shard_path(number, 3)) for number in range(3)]
        assert [record and record["tally"]["n_written"] for record in finished] == [None, 20, 10]
        assert not list(folder.unfinished.iterdir())
    opened.close()
