"""Writes cells, aligned and binned, as Parquet: values of each modality, counts beside them, labels.

Rows are written in groups of one length, so the bytes depend neither on the chunks that were read nor on processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from ..modeling.value_bins import ValueBins
from .multiome_aligned import AlignedCounts, chunk_numbers
from .multiome_cells import LABELS
from .multiome_sources import MODALITIES, Modality

ROWS_A_GROUP = 1024


@dataclass(frozen=True)
class ShardJob:
    """Consecutive cells, of one data set or several.

    Attributes:
        path: Parquet file to write.
        cells: dataset (number), cell, rna_row, atac_row, cell_type, donor, batch.
        dataset_names: by number.
        folders: of each data set by modality, where its aligned counts are.
        bins: by modality.
        n_genes: of the build.
        keep_counts: whether counts are written beside the bins.
    """

    path: Path
    cells: pd.DataFrame
    dataset_names: list[str]
    folders: list[dict[Modality, Path]]
    bins: dict[Modality, ValueBins]
    n_genes: int
    keep_counts: bool


def multiome_schema(n_genes: int, *, keep_counts: bool) -> pa.Schema:
    """The columns of a shard."""
    fields: dict[str, pa.DataType] = {"dataset": pa.string(), "cell": pa.string()}
    for modality in MODALITIES:
        fields[f"{modality}_values"] = pa.list_(pa.uint8(), n_genes)
        fields[f"{modality}_total"] = pa.float32()
        if keep_counts:
            fields |= {f"{modality}_genes": pa.list_(pa.int32()), f"{modality}_counts": pa.list_(pa.float32())}
    return pa.schema(fields | dict.fromkeys(LABELS, pa.string()))


def write_shard(job: ShardJob) -> dict[Modality, np.ndarray]:
    """Write a shard; int64 `(bins + 1,)` by modality: how many values are in each bin, zero being the first."""
    schema = multiome_schema(job.n_genes, keep_counts=job.keep_counts)
    occupancy = {modality: np.zeros(bins.num_bins + 1, dtype=np.int64) for modality, bins in job.bins.items()}
    with pq.ParquetWriter(job.path, schema, compression="zstd") as writer:
        for chunk in chunk_numbers(len(job.cells), ROWS_A_GROUP):
            cells = job.cells.iloc[chunk]
            columns: dict[str, pa.Array] = {
                "dataset": pa.array([job.dataset_names[number] for number in cells["dataset"]], pa.string()),
                **{name: pa.array(cells[name].to_numpy(object), pa.string()) for name in ("cell", *LABELS)},
            }
            for modality in MODALITIES:
                columns |= _columns(job, cells, modality, occupancy)
            writer.write_table(pa.table([columns[name] for name in schema.names], schema=schema))
    return occupancy


def rows_of(
    cells: pd.DataFrame, folders: Sequence[dict[Modality, Path]], modality: Modality, n_genes: int
) -> sp.csr_matrix:
    """float32 `(cells, genes)`: counts of cells that all have the modality, of consecutive data sets."""
    numbers, rows = cells["dataset"].to_numpy(np.int64), cells[f"{modality}_row"].to_numpy(np.int64)
    parts = [
        AlignedCounts(folders[number][modality], n_genes).rows(rows[numbers == number]) for number in np.unique(numbers)
    ]
    return sp.vstack(parts, format="csr") if parts else sp.csr_matrix((0, n_genes), dtype=np.float32)


def _columns(
    job: ShardJob, cells: pd.DataFrame, modality: Modality, occupancy: dict[Modality, np.ndarray]
) -> dict[str, pa.Array]:
    has = (cells[f"{modality}_row"] >= 0).to_numpy()
    lacks = pa.array(~has)
    counts = rows_of(cells[has], job.folders, modality, job.n_genes)
    values = np.zeros((len(cells), job.n_genes), dtype=np.uint8)
    totals = np.zeros(len(cells), dtype=np.float32)
    if has.any():
        values[has] = job.bins[modality].bin(counts)
        totals[has] = counts.astype(np.float64) @ np.ones(job.n_genes)
        occupancy[modality] += np.bincount(values[has].ravel(), minlength=len(occupancy[modality]))
    columns = {
        f"{modality}_values": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), job.n_genes, mask=lacks),
        f"{modality}_total": pa.array(totals, mask=~has),
    }
    if job.keep_counts:
        lengths = np.zeros(len(cells), dtype=np.int32)
        lengths[has] = np.diff(counts.indptr)
        ends = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        for name, entries in (("genes", counts.indices.astype(np.int32)), ("counts", counts.data)):
            columns[f"{modality}_{name}"] = pa.ListArray.from_arrays(ends, pa.array(entries), mask=lacks)
    return columns
