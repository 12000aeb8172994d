"""What a build of rank tokens will do: settings, checked inputs, the ranking to apply, and how the cells are cut.

A plan is all that is needed to write the shards in any order, here or on other machines; who does that, and who derives
the medians, is a `ShardWorkers`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from .cell_inputs import CellInput, InputReading, OpenInputs, genes_of_columns, read_cells, scan_inputs
from .count_files import FORMATS, input_files
from .gene_identifiers import read_gene_symbols, read_json
from .gene_medians import NonZeroMedians
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
from .rank_token_folder import RankTokenFolder
from .rank_token_shards import ShardJob
from .soma_addresses import is_uri

MINIMUM_GENES = 7
MAX_LENGTH = 2048
SPECIAL_TOKENS = ("<pad>", "<mask>")
PROBE_CELLS = 512  # of every input are checked before work begins; the rest as they are read

Table = str | Path | Mapping[str, Any]


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


class AnnotatedInput(NamedTuple):
    """One input with the annotation of all its cells."""

    input: CellInput
    cells: pa.Table  # cell_id and the carried obs columns
    candidates: np.ndarray  # (cells,) bool: not left out by the obs query
    gene_of_column: np.ndarray  # (columns,) int32


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
        current = -1
        for shard in shards:
            if shard.input_number != current:
                current = shard.input_number
                annotated = self.annotated(self.inputs[current], opened)
            yield self.job(shard, annotated)

    def annotated(self, one: CellInput, opened: OpenInputs) -> "AnnotatedInput":
        """Reads the annotation of one input's cells."""
        positions = {gene: position for position, gene in enumerate(self.ranking.genes)}
        file = opened.get(one.path)
        cells, candidates = read_cells(file, self.settings.reading, one.label)
        file.forget_obs()
        cells = cells.cast(pa.schema([cells.schema.field("cell_id"), *self.schema]))
        return AnnotatedInput(one, cells, candidates, genes_of_columns(one.genes, positions))

    def job(self, shard: Shard, annotated: "AnnotatedInput") -> ShardJob:
        """What one shard takes."""
        return ShardJob(
            number=shard.number,
            input=annotated.input,
            reading=self.settings.reading,
            start=shard.start,
            stop=shard.stop,
            cells=annotated.cells.slice(shard.start, shard.stop - shard.start),
            candidates=annotated.candidates[shard.start : shard.stop],
            gene_of_column=annotated.gene_of_column,
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


class ShardWorkers(Protocol):
    """Whoever does the work of a plan; the result does not depend on who."""

    def medians(self, plan: CellsPlan) -> NonZeroMedians:
        """Of every gene of the plan's ranking, over the kept cells of all inputs."""

    def write_shards(self, plan: CellsPlan, shards: Sequence[Shard], folder: RankTokenFolder) -> Iterator[int]:
        """Writes the shards; yields the cells of each as it is finished, in any order."""


def input_paths(inputs: str | Path | Sequence[str | Path]) -> list[Path]:
    """The inputs as a list of paths; ValueError where there is none."""
    paths = [Path(inputs)] if isinstance(inputs, str | Path) else [Path(path) for path in inputs]
    if not paths:
        raise ValueError(f"no input is given; expected one or more of {FORMATS}")
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
    """What a resumed build must agree in: settings, tables, and size and time of every input's files."""
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
    workers: ShardWorkers,
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
    found = NonZeroMedians.from_json(earlier) if earlier else workers.medians(unranked)
    ranking = ranking_from_corpus(unranked.ranking.genes, found, tokens, special_tokens)
    if folder and not earlier:
        folder.keep("medians", found.to_json())
    return dataclasses.replace(unranked, ranking=ranking)


def _common_schema(inputs: Sequence[CellInput]) -> pa.Schema:
    try:
        schema = pa.unify_schemas([one.schema for one in inputs], promote_options="permissive")
    except pa.ArrowException as error:
        types = {str(one.path): {field.name: str(field.type) for field in one.schema} for one in inputs}
        raise ValueError(f"obs columns have types that do not go together ({error}): {types}") from error
    return schema.remove_metadata()


def _file_state(path: Path) -> dict[str, Any]:
    state = [(name, one.stat().st_size, one.stat().st_mtime_ns) for name, one in input_files(path).items()]
    return {"path": str(path if is_uri(path) else path.resolve()), "files": state}
