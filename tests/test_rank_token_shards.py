"""Shards: order kept by threads, errors passed on, nothing half-written, empty shards readable."""

import threading
import time

import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from anndata import AnnData

from omics_transformers.data_scripts.cells import build_cells
from omics_transformers.data_scripts.rank_token_shards import Tally, in_order


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_order_and_few_are_ahead(threads):
    lock, running, started = threading.Lock(), [0], [0]

    def work(item):
        with lock:
            running[0] += 1
            started[0] += 1
            assert running[0] <= threads
        time.sleep(0.002 * (item % 3))
        with lock:
            running[0] -= 1
        return item * item

    taken = 0
    for taken, result in enumerate(in_order(work, range(40), threads), start=1):
        assert result == (taken - 1) ** 2
        assert started[0] <= taken + threads
    assert taken == 40


def test_an_error_in_a_thread_reaches_the_reader_and_ends_the_work():
    done = []

    def work(item):
        if item == 3:
            raise ValueError("damaged")
        done.append(item)

    with pytest.raises(ValueError, match="damaged"):
        list(in_order(work, range(1000), 2))
    assert len(done) < 20


def test_tallies_add_up():
    total = Tally()
    total.add(Tally(3, 2, 10, 1, 5, {"no counts": 1}))
    total.add(Tally(4, 3, 20, 0, 0, {"no counts": 0, "too few genes": 1}))
    assert total == Tally(7, 5, 30, 1, 5, {"no counts": 1, "too few genes": 1})


def test_a_shard_whose_cells_are_all_dropped_is_empty_and_does_not_disturb_the_others(tmp_path):
    counts = np.ones((30, 10), np.float32)
    obs = pd.DataFrame({"drop": np.arange(30) < 10}, index=[f"cell{i}" for i in range(30)])
    cells = AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(10)]))
    cells.write_h5ad(tmp_path / "cells.h5ad")
    build_cells(tmp_path / "cells.h5ad", tmp_path / "out", exclude="drop", cells_per_shard=10)
    sizes = [pq.read_metadata(path).num_rows for path in sorted((tmp_path / "out" / "data").iterdir())]
    assert sizes == [0, 10, 10]
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["cell_id"][:] == [f"cell{i}" for i in range(10, 30)]


def test_a_shard_with_bad_counts_leaves_no_file(tmp_path):
    counts = np.ones((1000, 10), np.float32)
    counts[900, 3] = 0.5  # beyond the cells that are checked before work begins
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(1000)])
    cells = AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(10)]))
    cells.write_h5ad(tmp_path / "cells.h5ad")
    medians = {f"g{i}": 1.0 for i in range(10)}
    with pytest.raises(ValueError, match=r"0\.5 at cell 'cell900', gene 'g3'"):
        build_cells(tmp_path / "cells.h5ad", tmp_path / "out", gene_medians=medians, chunk_cells=100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.h5ad"]
