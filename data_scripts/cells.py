"""Cells to rank tokens: count matrices of single cells in, a folder of Parquet that `load_dataset` reads out.

Rank-value encoding after Theodoris et al. 2023 (https://doi.org/10.1038/s41586-023-06139-9); order of equal values and
totals as `rank_values` says. Vocabulary and medians are given, or derived from the kept cells in passes of their own.
Cells below `minimum_genes` are dropped; the default is theirs, 7, below which masking 15 % would mostly mask nothing.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .cell_inputs import InputReading, OpenInputs
from .cells_plan import (
    MAX_LENGTH,
    MINIMUM_GENES,
    SPECIAL_TOKENS,
    CellsPlan,
    CellsSettings,
    ShardWorkers,
    Table,
    fingerprint,
    input_paths,
    plan_cells,
    read_tables,
)
from .cells_report import CellsReport, data_card, make_report
from .configuration_name import configuration_name
from .dask_cluster import available_cores, require_dask
from .dask_shards import dask_shards
from .local_shards import LocalShards, cells_progress
from .rank_token_folder import CARD, GENE_MEDIANS, GENE_SYMBOLS, REPORT, TOKEN_DICTIONARY, RankTokenFolder

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)


def build_cells(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    token_dictionary: Table | None = None,
    gene_medians: Table | None = None,
    gene_symbols: Table | None = None,
    gene_id_column: str | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    modality: str = "rna",
    minimum_genes: int = MINIMUM_GENES,
    exclude: str | None = None,
    obs_columns: Sequence[str] = (),
    max_length: int = MAX_LENGTH,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    duplicate_barcodes: str = "error",
    allow_fractional: bool = False,
    chunk_cells: int = 4096,
    cells_per_shard: int = 65_536,
    processes: int = 1,
    threads: int | None = None,
    dask: "str | Client | None" = None,
    dask_workers: int | None = None,
    retries: int = 2,
    overwrite: bool = False,
) -> CellsReport:
    """Writes the rank tokens of all `inputs` to the folder `output`, rows in the inputs' order.

    Args:
        inputs: .h5ad, .h5mu, 10x .h5 files, 10x mtx folders and SOMA experiments: a folder, a URI, or
            census:2025-01-30/homo_sapiens for the CELLxGENE Census (`soma_input` and `census_input` add a filter).
        output: folder to make: data/*.parquet (input_ids, length, cell_id, carried columns), token_dictionary.json,
            gene_medians.json, gene_symbols.json, report.json, dropped_cells.tsv, README.md.
        token_dictionary: token -> id, as a mapping, .json or .json.gz; without it, derived: special tokens, then genes
            (those of `gene_medians`, or all that a kept cell has), by id.
        gene_medians: gene id -> non-zero median of counts / total * 10,000; without it, derived from the kept cells.
        gene_symbols: symbol -> gene id, for inputs named by symbols.
        gene_id_column: column of the genes' table that names them ("index" for its index); without it, the best one.
        layer, use_raw, modality: which matrix of .h5ad and .h5mu holds the counts; in a SOMA experiment layer (default
            raw) and modality choose X and measurement.
        minimum_genes: least number of vocabulary genes with a count that a kept cell has.
        exclude: pandas query on obs of the cells left out, e.g. "disease == 'cancer' or filter_pass == 0".
        obs_columns: obs columns carried along.
        max_length: tokens a cell at most, special ones included.
        special_tokens: special tokens of a derived dictionary, or those that a given one must have. With <cls> and
            <eos> in them each cell is put between the two.
        duplicate_barcodes: "error", or "prefix" to put each input's name before its barcodes.
        allow_fractional: take estimated counts that are not whole numbers.
        chunk_cells: cells in memory at a time, for each thread.
        cells_per_shard: cells of one Parquet file, before dropping; a killed build is resumed at the next one.
        processes: worker processes; the bytes written do not depend on it. One process with several threads uses all
            cores up to about ten; scripts that ask for more than one need the `if __name__ == "__main__"` guard.
        threads: threads in each process (default: the cores there are, shared among the processes), or in each task
            of Dask's (default: 1 where the scheduler is given).
        dask: build on Dask workers: "local" starts some here, an address (tcp://host:8786) names a scheduler, or a
            distributed.Client. The bytes are the same; workers read the inputs and write the shards themselves, so
            files lie where all see them. A lost worker's shards are done by others, a lost build is resumed.
        dask_workers: worker processes to start for dask="local" (default: as many as there are cores for `threads`).
        retries: how often a failed task is tried again by Dask workers.
        overwrite: replace an earlier build in `output`, and discard an unfinished one made with other settings.

    Raises:
        ValueError: what the input or a table has wrong, and how to mend it.
        FileExistsError: when `output` exists already.
        ImportError: when Dask is asked for and is not installed.
        ConnectionError: when the scheduler does not answer, or is lost; ChildProcessError: when a shard's workers die.
        OSError: when the disk is full; finished shards are kept, and the same call goes on from there.
    """
    reading = InputReading(
        layer, use_raw, modality, gene_id_column, exclude, tuple(obs_columns), duplicate_barcodes, allow_fractional
    )
    settings = CellsSettings(reading, minimum_genes, max_length, tuple(special_tokens), chunk_cells, cells_per_shard)
    paths = input_paths(inputs)
    tables = read_tables(token_dictionary, gene_medians, gene_symbols, settings)
    _check_workers(processes, threads, dask, dask_workers, retries)
    opened = OpenInputs(reading)
    try:
        with (
            RankTokenFolder(output, fingerprint(paths, settings, tables), overwrite=overwrite) as folder,
            _shard_workers(opened, folder, processes, threads, dask, dask_workers, retries) as workers,
        ):
            plan = plan_cells(paths, settings, tables, opened, workers=workers, folder=folder)
            _write_shards(plan, folder, workers)
            report = _write_documents(plan, folder)
            folder.publish()
    finally:
        opened.close()
    logger.info("%s: %d of %d cells written", report.output, report.n_written, report.n_cells)
    return report


def _check_workers(
    processes: int, threads: int | None, dask: "str | Client | None", dask_workers: int | None, retries: int
) -> None:
    if processes < 1 or (threads is not None and threads < 1):
        raise ValueError(f"processes is {processes} and threads {threads}; expected 1 or more of each")
    if (dask_workers is not None and dask_workers < 1) or retries < 0:
        raise ValueError(f"dask_workers is {dask_workers} and retries {retries}; expected 1 or more, and 0 or more")
    if dask is None:
        if dask_workers is not None:
            raise ValueError(f"dask_workers is {dask_workers} without dask: give dask='local', or processes")
        return
    if processes > 1:
        raise ValueError(f"processes is {processes} and dask {dask!r}: with Dask, give dask_workers instead")
    require_dask()


@contextmanager
def _shard_workers(
    opened: OpenInputs,
    folder: RankTokenFolder,
    processes: int,
    threads: int | None,
    dask: "str | Client | None",
    dask_workers: int | None,
    retries: int,
) -> Iterator[ShardWorkers]:
    if dask is None:
        yield LocalShards(opened, processes=processes, threads=threads or max(1, available_cores() // processes))
        return
    with dask_shards(dask, folder, workers=dask_workers, threads=threads, retries=retries) as workers:
        yield workers


def _write_shards(plan: CellsPlan, folder: RankTokenFolder, workers: ShardWorkers) -> None:
    """Writes the shards that are not finished yet."""
    shards = plan.shards()
    pending = [shard for shard in shards if folder.finished_shard(folder.shard_path(shard.number, len(shards))) is None]
    with cells_progress(plan, "rank tokens") as progress:
        progress.update(sum(one.n_cells for one in plan.inputs) - sum(shard.stop - shard.start for shard in pending))
        for n_cells in workers.write_shards(plan, pending, folder):
            progress.update(n_cells)


def _write_documents(plan: CellsPlan, folder: RankTokenFolder) -> CellsReport:
    """Tables, report and card; ValueError where no cell is left."""
    shards = plan.shards()
    paths = [folder.shard_path(shard.number, len(shards)) for shard in shards]
    report = make_report(
        folder.output,
        folder.fingerprint,
        plan.inputs,
        plan.ranking,
        [(shard.input_number, folder.finished_shard(paths[shard.number])) for shard in shards],
        given=[name for name, table in plan.tables._asdict().items() if table is not None],
    )
    if not report.n_written:
        folder.discard()
        raise ValueError(f"none of the {report.n_cells} cells is left: {report.dropped}")
    folder.write_json(TOKEN_DICTIONARY, plan.ranking.token_dictionary)
    folder.write_json(GENE_MEDIANS, plan.ranking.gene_medians)
    folder.write_json(GENE_SYMBOLS, plan.gene_symbols())
    folder.write_json(REPORT, report.content)
    folder.write_dropped_cells(paths)
    folder.write_text(CARD, data_card(report, plan.schema.names, configuration_name(paths)))
    return report
