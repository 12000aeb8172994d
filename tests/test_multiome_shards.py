"""A shard holds what its cells have, in any mix of data sets and modalities."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from omics_transformers.data_scripts import multiome_shards
from omics_transformers.data_scripts.multiome_aligned import AlignedCounts
from omics_transformers.data_scripts.multiome_shards import ShardJob, multiome_schema, rows_of, write_shard
from omics_transformers.data_scripts.multiome_sources import Modality
from omics_transformers.modeling.value_bins import ValueBins

N_GENES = 5
BINS = ValueBins("quartile", np.array([7.0, 7.5, 8.0, 8.5]), np.array([0, 6, 7.2, 7.7, 8.2, 9.0]))


@pytest.fixture
def job(tmp_path: Path) -> ShardJob:
    random = np.random.default_rng(0)
    folders: list[dict[Modality, Path]] = []
    for number, modalities in enumerate([("rna",), ("rna", "atac")]):
        folders.append({})
        for modality in modalities:
            folder = tmp_path / f"{number}-{modality}"
            counts = AlignedCounts(folder, N_GENES)
            counts.append(sp.csr_matrix(random.poisson(2, (6, N_GENES)).astype(np.float32)))
            counts.finish()
            folders[-1][modality] = folder  # type: ignore[index]
    cells = pd.DataFrame(
        {
            "dataset": [0, 0, 1, 1, 1],
            "cell": ["a", "b", "c", "d", "e"],
            "rna_row": [4, 0, 1, -1, 3],
            "atac_row": [-1, -1, 5, 2, 0],
            "cell_type": ["T", None, "B", "T", None],
            "donor": None,
            "batch": "L1",
        }
    )
    bins: dict[Modality, ValueBins] = {"rna": BINS, "atac": BINS}
    return ShardJob(tmp_path / "shard.parquet", cells, ["first", "second"], folders, bins, N_GENES, True)


def test_a_shard_holds_its_cells(job: ShardJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiome_shards, "ROWS_A_GROUP", 2)
    occupancy = write_shard(job)
    table = pq.read_table(job.path)
    assert table.schema == multiome_schema(N_GENES, keep_counts=True) and pq.ParquetFile(job.path).num_row_groups == 3
    rows = table.to_pylist()
    assert [row["dataset"] for row in rows] == ["first"] * 2 + ["second"] * 3
    assert [row["cell_type"] for row in rows] == ["T", None, "B", "T", None] and rows[0]["donor"] is None
    total = np.zeros(6, dtype=np.int64)
    for modality, lacking in (("rna", {3}), ("atac", {0, 1})):
        for number, row in enumerate(rows):
            values = [row[f"{modality}_{name}"] for name in ("values", "total", "genes", "counts")]
            if number in lacking:
                assert values == [None] * 4
                continue
            at = job.cells.iloc[number]
            counts = AlignedCounts(job.folders[at["dataset"]][modality], N_GENES).rows(  # type: ignore[index]
                np.array([at[f"{modality}_row"]])
            )
            assert values[0] == BINS.bin(counts)[0].tolist() and values[1] == counts.sum()
            assert values[2] == counts.indices.tolist() and values[3] == counts.data.tolist()
            total += np.bincount(values[0], minlength=6)
    np.testing.assert_array_equal(occupancy["rna"] + occupancy["atac"], total)


def test_counts_can_be_left_out(job: ShardJob) -> None:
    job = ShardJob(job.path, job.cells, job.dataset_names, job.folders, job.bins, N_GENES, False)
    write_shard(job)
    assert pq.read_table(job.path).schema == multiome_schema(N_GENES, keep_counts=False)


def test_rows_of_no_cells_are_none(job: ShardJob) -> None:
    assert rows_of(job.cells[:0], job.folders, "rna", N_GENES).shape == (0, N_GENES)
