"""Cells to rank tokens: count matrices of single cells in, a folder of Parquet that `load_dataset` reads out.

Rank-value encoding after Theodoris et al. 2023 (https://doi.org/10.1038/s41586-023-06139-9); order of equal values and
totals as `rank_values` says. Vocabulary and medians are given, or derived from the kept cells in passes of their own.
Cells below `minimum_genes` are dropped; the default is theirs, 7, below which masking 15 % would mostly mask nothing.
"""

import dataclasses
import hashlib
import json
import logging
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from tqdm.auto import tqdm

from .cell_inputs import CellInput, InputReading, OpenInputs, genes_of_columns, read_cells, scan_inputs
from .cells_report import CellsReport, data_card, make_report
from .configuration_name import configuration_name
from .gene_identifiers import read_gene_symbols, read_json
from .gene_medians import NonZeroMedians, non_zero_medians
from .gene_ranking import (
    GeneRanking,
    checked_gene_medians,
    checked_special_tokens,
    checked_token_dictionary,
    derived_token_dictionary,
    make_ranking,
    ranking_from_corpus,
    special_in,
)
from .rank_token_folder import CARD, GENE_MEDIANS, GENE_SYMBOLS, REPORT, TOKEN_DICTIONARY, RankTokenFolder
from .rank_token_shards import ShardJob, normalised_chunks, write_shard
from .rank_values import CellValues

logger = logging.getLogger(__name__)

MINIMUM_GENES = 7
MAX_LENGTH = 2048
SPECIAL_TOKENS = ("<pad>", "<mask>")
PROBE_CELLS = 512  # of every input are checked before work begins; the rest as they are read

Table = str | Path | Mapping[str, Any]


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
    overwrite: bool = False,
) -> CellsReport:
    """Writes the rank tokens of all `inputs` to the folder `output`, rows in the inputs' order.

    Args:
        inputs: .h5ad, .h5mu, 10x .h5 files and 10x mtx folders.
        output: folder to make: data/*.parquet (input_ids, length, cell_id, carried columns), token_dictionary.json,
            gene_medians.json, gene_symbols.json, report.json, dropped_cells.tsv, README.md.
        token_dictionary: token -> id, as a mapping, .json or .json.gz; without it, derived: special tokens, then genes
            (those of `gene_medians`, or all that a kept cell has), by id.
        gene_medians: gene id -> non-zero median of counts / total * 10,000; without it, derived from the kept cells.
        gene_symbols: symbol -> gene id, for inputs named by symbols.
        gene_id_column: column of the genes' table that names them ("index" for its index); without it, the best one.
        layer, use_raw, modality: which matrix of .h5ad and .h5mu holds the counts.
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
        threads: threads in each process (default: the cores there are, shared among the processes).
        overwrite: replace an earlier build in `output`, and discard an unfinished one made with other settings.

    Raises:
        ValueError: what the input or a table has wrong, and how to mend it.
        FileExistsError: when `output` exists already.
        OSError: when the disk is full; finished shards are kept, and the same call goes on from there.
    """
    reading = InputReading(
        layer, use_raw, modality, gene_id_column, exclude, tuple(obs_columns), duplicate_barcodes, allow_fractional
    )
    settings = CellsSettings(reading, minimum_genes, max_length, tuple(special_tokens), chunk_cells, cells_per_shard)
    paths = input_paths(inputs)
    tables = read_tables(token_dictionary, gene_medians, gene_symbols, settings)
    if processes < 1 or (threads is not None and threads < 1):
        raise ValueError(f"processes is {processes} and threads {threads}; expected 1 or more of each")
    threads = threads or max(1, _available_cores() // processes)
    opened = OpenInputs(reading)
    try:
        with RankTokenFolder(output, fingerprint(paths, settings, tables), overwrite=overwrite) as folder:
            plan = plan_cells(paths, settings, tables, opened, threads=threads, folder=folder)
            _write_shards(plan, folder, opened, processes=processes, threads=threads)
            report = _write_documents(plan, folder)
            folder.publish()
    finally:
        opened.close()
    logger.info("%s: %d of %d cells written", report.output, report.n_written, report.n_cells)
    return report


@dataclass(frozen=True)
class CellsSettings:
    """Everything besides inputs and tables that decides what is written."""

    reading: InputReading = dataclasses.field(default_factory=InputReading)
    minimum_genes: int = MINIMUM_GENES
    max_length: int = MAX_LENGTH
    special_tokens: tuple[str, ...] = SPECIAL_TOKENS
    chunk_cells: int = 4096
    cells_per_shard: int = 65_536

    def __post_init__(self) -> None:
        checked_special_tokens(self.special_tokens)
        for name, least in (("minimum_genes", 1), ("max_length", 4), ("chunk_cells", 1), ("cells_per_shard", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected {least} or more")


class Tables(NamedTuple):
    """Given vocabulary, medians and symbols, checked; None where not given."""

    token_dictionary: dict[str, int] | None
    gene_medians: dict[str, float] | None
    gene_symbols: dict[str, str] | None  # symbol -> gene id


class Shard(NamedTuple):
    """Consecutive cells of one input that one Parquet file takes."""

    number: int
    input_number: int
    start: int
    stop: int


@dataclass(frozen=True)
class CellsPlan:
    """Checked inputs and the ranking to apply: all that is needed to write the shards, in any order."""

    settings: CellsSettings
    inputs: list[CellInput]
    ranking: GeneRanking
    schema: pa.Schema  # of the carried obs columns, over all inputs
    tables: Tables

    def shards(self, cells_per_shard: int | None = None) -> list[Shard]:
        size = cells_per_shard or self.settings.cells_per_shard
        ranges = [
            (number, start, min(start + size, one.n_cells))
            for number, one in enumerate(self.inputs)
            for start in range(0, one.n_cells, size)
        ]
        return [Shard(number, *cut) for number, cut in enumerate(ranges)]

    def jobs(self, shards: Sequence[Shard], opened: OpenInputs) -> Iterator[ShardJob]:
        """One job a shard; the annotation of one input at a time is held."""
        positions = {gene: position for position, gene in enumerate(self.ranking.genes)}
        current = -1
        for shard in shards:
            one = self.inputs[shard.input_number]
            if shard.input_number != current:
                current = shard.input_number
                file = opened.get(one.path)
                cells, candidates = read_cells(file, self.settings.reading, one.label)
                file.forget_obs()
                cells = cells.cast(pa.schema([cells.schema.field("cell_id"), *self.schema]))
                gene_of_column = genes_of_columns(one.genes, positions)
            yield ShardJob(
                number=shard.number,
                input=one,
                reading=self.settings.reading,
                start=shard.start,
                stop=shard.stop,
                cells=cells.slice(shard.start, shard.stop - shard.start),
                candidates=candidates[shard.start : shard.stop],
                gene_of_column=gene_of_column,
                ranking=self.ranking,
                minimum_genes=self.settings.minimum_genes,
                max_length=self.settings.max_length,
                chunk_cells=self.settings.chunk_cells,
            )

    def gene_symbols(self) -> dict[str, str]:
        """Gene id -> symbol for genes of the vocabulary: as the inputs name them, else as the given table does."""
        symbols = {gene: symbol for symbol, gene in reversed((self.tables.gene_symbols or {}).items())}
        for one in reversed(self.inputs):
            symbols |= one.genes.symbols
        return {gene: symbols[gene] for gene in self.ranking.genes if gene in symbols}


def input_paths(inputs: str | Path | Sequence[str | Path]) -> list[Path]:
    """The inputs as a list of paths; ValueError where there is none."""
    paths = [Path(inputs)] if isinstance(inputs, str | Path) else [Path(path) for path in inputs]
    if not paths:
        raise ValueError("no input is given; expected one or more .h5ad, .h5mu, 10x .h5 files or 10x mtx folders")
    return paths


def read_tables(
    token_dictionary: Table | None, gene_medians: Table | None, gene_symbols: Table | None, settings: CellsSettings
) -> Tables:
    """Reads and checks the given tables."""
    medians = None if gene_medians is None else checked_gene_medians(read_json(gene_medians, "gene medians"))
    tokens = None
    if token_dictionary is not None:
        tokens = checked_token_dictionary(read_json(token_dictionary, "token dictionary"), settings.special_tokens)
    elif medians is not None:
        tokens = derived_token_dictionary(list(medians), settings.special_tokens)
    return Tables(tokens, medians, None if gene_symbols is None else read_gene_symbols(gene_symbols))


def fingerprint(paths: Sequence[Path], settings: CellsSettings, tables: Tables) -> dict[str, Any]:
    """What a resumed build must agree in: settings, tables, and size and time of every input file."""
    values = dataclasses.asdict(settings)
    reading = values.pop("reading")
    hashes = {
        name: None if table is None else hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()
        for name, table in tables._asdict().items()
    }
    return {"inputs": [_file_state(path) for path in paths]} | reading | values | hashes


def plan_cells(
    paths: Sequence[Path],
    settings: CellsSettings,
    tables: Tables,
    opened: OpenInputs,
    *,
    threads: int,
    folder: RankTokenFolder | None = None,
) -> CellsPlan:
    """Checks all inputs, and derives medians and vocabulary where they are not given."""
    special_tokens = settings.special_tokens
    tokens = tables.token_dictionary
    vocabulary = None if tokens is None else set(tokens) - set(special_in(tokens))
    inputs = scan_inputs(
        paths,
        opened,
        vocabulary=vocabulary,
        gene_symbols=tables.gene_symbols,
        probe_cells=min(settings.chunk_cells, PROBE_CELLS),
    )
    schema = _common_schema(inputs)
    if tokens is not None and tables.gene_medians is not None:
        return CellsPlan(settings, inputs, make_ranking(tokens, tables.gene_medians, special_tokens), schema, tables)
    if tokens is None:
        genes = sorted({gene for one in inputs for gene in one.genes.gene_ids if gene})
        all_tokens = derived_token_dictionary(genes, special_tokens)
    else:
        all_tokens = tokens
    unit_medians = dict.fromkeys(all_tokens, 1.0)
    unranked = CellsPlan(settings, inputs, make_ranking(all_tokens, unit_medians, special_tokens), schema, tables)
    earlier = folder.kept("medians") if folder else None
    found = NonZeroMedians.from_json(earlier) if earlier else _derive_medians(unranked, opened, threads)
    ranking = ranking_from_corpus(unranked.ranking.genes, found, tokens, special_tokens)
    if folder and not earlier:
        folder.keep("medians", found.to_json())
    return dataclasses.replace(unranked, ranking=ranking)


def _derive_medians(plan: CellsPlan, opened: OpenInputs, threads: int) -> NonZeroMedians:
    """Medians over the kept cells of all inputs."""
    n_genes = len(plan.ranking.genes)
    whole_inputs = plan.shards(cells_per_shard=max(1, *(one.n_cells for one in plan.inputs)))

    def one_pass() -> Iterator[CellValues]:
        with _progress(plan, "medians") as progress:
            for job in plan.jobs(whole_inputs, opened):
                yield from normalised_chunks(job, opened, n_genes=n_genes, threads=threads)
                progress.update(job.stop - job.start)

    return non_zero_medians(one_pass, n_genes)


def _write_shards(
    plan: CellsPlan, folder: RankTokenFolder, opened: OpenInputs, *, processes: int, threads: int
) -> None:
    """Writes the shards that are not finished yet, in this process or in several."""
    shards = plan.shards()
    paths = [folder.shard_path(shard.number, len(shards)) for shard in shards]
    pending = [shard for shard in shards if folder.finished_shard(paths[shard.number]) is None]
    with _progress(plan, "rank tokens") as progress:
        progress.update(sum(one.n_cells for one in plan.inputs) - sum(shard.stop - shard.start for shard in pending))
        jobs = plan.jobs(pending, opened)
        if processes == 1:
            for job in jobs:
                write_shard(job, paths[job.number], opened, threads=threads)
                progress.update(job.stop - job.start)
        else:
            for n_cells in _write_in_processes(jobs, paths, processes, threads):
                progress.update(n_cells)


def _write_in_processes(jobs: Iterator[ShardJob], paths: list[Path], processes: int, threads: int) -> Iterator[int]:
    """Keeps every process busy with at most one job waiting; yields the cells of each finished shard."""
    running: dict[Future[None], int] = {}
    # Processes are spawned: forking a process that has threads may lock up.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            for job in jobs:
                running[pool.submit(_write_shard_here, job, paths[job.number], threads)] = job.stop - job.start
                while len(running) > processes:
                    yield from _reap(running)
            while running:
                yield from _reap(running)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _reap(running: dict[Future[None], int]) -> Iterator[int]:
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        future.result()
        yield running.pop(future)


_opened_here: dict[InputReading, OpenInputs] = {}


def _write_shard_here(job: ShardJob, path: Path, threads: int) -> None:
    """In a worker process: writes a shard, keeping inputs open between jobs."""
    opened = _opened_here.setdefault(job.reading, OpenInputs(job.reading))
    write_shard(job, path, opened, threads=threads)


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


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _common_schema(inputs: Sequence[CellInput]) -> pa.Schema:
    try:
        schema = pa.unify_schemas([one.schema for one in inputs], promote_options="permissive")
    except pa.ArrowException as error:
        types = {str(one.path): {field.name: str(field.type) for field in one.schema} for one in inputs}
        raise ValueError(f"obs columns have types that do not go together ({error}): {types}") from error
    return schema.remove_metadata()


def _file_state(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    files = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
    state = [(one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in files]
    return {"path": str(path.resolve()), "files": state}


def _progress(plan: CellsPlan, what: str) -> "tqdm[Any]":
    """A bar on a terminal, nothing elsewhere."""
    return tqdm(desc=what, total=sum(one.n_cells for one in plan.inputs), unit=" cells", disable=None)
