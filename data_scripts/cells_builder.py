"""`datasets` builder of rank tokens, for those who want a Dataset in the cache rather than a folder of Parquet.

`CellsBuilder(inputs=[...], ...).download_and_prepare(num_proc=n)`, then `as_dataset()`: the rows of `build_cells`, from
the same plan and kernels. The cache is keyed by settings, tables, and size and time of the inputs.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.builder import Key

from .cell_inputs import InputReading, OpenInputs
from .cells_plan import CellsSettings, Shard, Table, Tables, fingerprint, input_paths, plan_cells, read_tables
from .local_shards import LocalShards
from .rank_token_shards import output_schema, ranked_chunks


@dataclass
class CellsBuilderConfig(datasets.BuilderConfig):
    """Inputs, tables and settings, as `build_cells` takes them; `reading` holds how the inputs are read."""

    inputs: str | Path | Sequence[str | Path] = ()
    token_dictionary: Table | None = None
    gene_medians: Table | None = None
    gene_symbols: Table | None = None
    settings: CellsSettings | None = None
    threads: int = 1

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None) -> str:
        """A hash of what decides the rows, so that changed inputs or settings are built anew."""
        del config_kwargs, custom_features
        content = json.dumps(fingerprint(self.paths, self.checked_settings, self.tables), sort_keys=True)
        return f"{self.name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    @property
    def paths(self) -> list[Path]:
        return input_paths(self.inputs)

    @property
    def checked_settings(self) -> CellsSettings:
        return self.settings or CellsSettings(InputReading())

    @property
    def tables(self) -> Tables:
        return read_tables(self.token_dictionary, self.gene_medians, self.gene_symbols, self.checked_settings)


class CellsBuilder(datasets.ArrowBasedBuilder):
    """Rank tokens as one split `train`; a shard is a unit of work for `num_proc`."""

    BUILDER_CONFIG_CLASS = CellsBuilderConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo()  # columns are known once the inputs are read

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        del dl_manager  # nothing is downloaded
        config = self.config
        opened = OpenInputs(config.checked_settings.reading)
        try:
            workers = LocalShards(opened, threads=config.threads)
            self.plan = plan_cells(config.paths, config.checked_settings, config.tables, opened, workers=workers)
            shards = self.plan.shards()
            schema = output_schema(next(self.plan.jobs(shards, opened)))
        finally:
            opened.close()
        self.info.features = datasets.Features.from_arrow_schema(schema)
        return [datasets.SplitGenerator(datasets.Split.TRAIN, gen_kwargs={"shards": shards})]

    def _generate_tables(self, shards: list[Shard]) -> Iterator[tuple[Key, pa.Table]]:
        opened = OpenInputs(self.plan.settings.reading)  # files are not shared between processes
        try:
            for shard_number, job in enumerate(self.plan.jobs(shards, opened)):
                for number, chunk in enumerate(ranked_chunks(job, opened, threads=self.config.threads)):
                    yield Key(shard_number, number), pa.Table.from_batches([chunk.rows])
        finally:
            opened.close()
