"""The datasets builder gives the rows of `build_cells`, on one process and on two, and notices changed inputs."""

import datasets
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from omics_transformers.data_scripts.cell_inputs import InputReading
from omics_transformers.data_scripts.cells import CellsSettings, build_cells
from omics_transformers.data_scripts.cells_builder import CellsBuilder


@pytest.fixture
def path(tmp_path):
    write_cells(tmp_path / "cells.h5ad", seed=0)
    return tmp_path / "cells.h5ad"


def write_cells(path, seed):
    counts = np.random.default_rng(seed).poisson(1.0, (100, 30)).astype(np.float32)
    obs = pd.DataFrame({"donor": [f"d{i % 3}" for i in range(100)]}, index=[f"cell{i}" for i in range(100)])
    AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(30)])).write_h5ad(path)


@pytest.mark.parametrize("num_proc", [None, 2])
def test_rows_equal_those_of_build_cells(path, tmp_path, num_proc):
    settings = CellsSettings(InputReading(obs_columns=("donor",)), cells_per_shard=30, chunk_cells=8)
    builder = CellsBuilder(cache_dir=str(tmp_path / "cache"), inputs=str(path), settings=settings)
    builder.download_and_prepare(num_proc=num_proc)
    built = builder.as_dataset("train")
    build_cells(path, tmp_path / "out", obs_columns=["donor"], cells_per_shard=30, chunk_cells=8)
    expected = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert built.features == expected.features
    assert built.to_dict() == expected.to_dict()


def test_a_changed_input_is_built_anew(path, tmp_path):
    first = CellsBuilder(cache_dir=str(tmp_path / "cache"), inputs=str(path))
    assert CellsBuilder(cache_dir=str(tmp_path / "cache"), inputs=str(path)).cache_dir == first.cache_dir
    write_cells(path, seed=1)
    assert CellsBuilder(cache_dir=str(tmp_path / "cache"), inputs=str(path)).cache_dir != first.cache_dir
