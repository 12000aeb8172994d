"""What each input brings: its cells (barcodes, obs columns, those left out) and its genes, checked before any work.

Everything that can be told without reading all counts is told here: missing columns, duplicate barcodes, an obs query
that fails, values that are no counts in the first cells, genes that no vocabulary knows.
"""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from .count_files import CountFile, located, open_counts
from .count_matrices import SpooledRows
from .gene_identifiers import NOT_GENE_EXPRESSION, ResolvedGenes, resolve_genes
from .rank_values import NOT_A_GENE, NOT_IN_VOCABULARY, require_counts

logger = logging.getLogger(__name__)

OWN_COLUMNS = ("input_ids", "length", "cell_id")
DUPLICATE_CHOICES = ("error", "prefix")


@dataclass(frozen=True)
class InputReading:
    """How inputs are read; the same for every input of a build."""

    layer: str | None = None
    use_raw: bool = False
    modality: str = "rna"
    gene_id_column: str | None = None
    exclude: str | None = None
    obs_columns: tuple[str, ...] = ()
    duplicate_barcodes: str = "error"
    allow_fractional: bool = False

    def __post_init__(self) -> None:
        if self.duplicate_barcodes not in DUPLICATE_CHOICES:
            raise ValueError(f"duplicate_barcodes is {self.duplicate_barcodes!r}; expected one of {DUPLICATE_CHOICES}")
        taken = sorted(set(self.obs_columns) & set(OWN_COLUMNS))
        if taken or len(set(self.obs_columns)) != len(self.obs_columns):
            raise ValueError(
                f"obs_columns {list(self.obs_columns)} must differ from each other and from {', '.join(OWN_COLUMNS)}, "
                "which the output has anyway: rename them in obs"
            )

    def open(self, path: Path) -> CountFile:
        return open_counts(
            path,
            layer=self.layer,
            use_raw=self.use_raw,
            modality=self.modality,
            needs_column=lambda name: name in self.obs_columns or name in (self.exclude or ""),
        )


@dataclass(frozen=True)
class CellInput:
    """One checked input."""

    path: Path
    label: str  # the shortest end of the path that tells it from the other inputs
    source: str
    n_cells: int
    genes: ResolvedGenes
    schema: pa.Schema  # of the carried obs columns


class OpenInputs:
    """Keeps the inputs used last open, so that several passes need not open, or put in order, a file again.

    Relative paths are taken from `folder`, by default the one that the process is in.
    """

    def __init__(self, reading: InputReading, capacity: int = 16, folder: Path = Path()) -> None:
        self.reading = reading
        self._capacity = capacity
        self._folder = folder
        self._files: OrderedDict[Path, CountFile] = OrderedDict()

    def get(self, path: Path) -> CountFile:
        if path not in self._files:
            self._files[path] = self.reading.open(located(path, self._folder))
            if len(self._files) > self._capacity:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(path)
        return self._files[path]

    def close(self) -> None:
        while self._files:
            self._files.popitem()[1].close()


def scan_inputs(
    paths: Sequence[Path],
    opened: OpenInputs,
    *,
    vocabulary: Collection[str] | None,
    gene_symbols: Mapping[str, str] | None,
    probe_cells: int,
) -> list[CellInput]:
    """Opens and checks every input; raises on the first problem, before any output is written."""
    labels = _labels(paths)
    resolved: dict[str, ResolvedGenes] = {}  # inputs of one corpus mostly share their genes
    inputs, barcode_hashes = [], []
    for path, label in zip(paths, labels, strict=True):
        file = opened.get(path)
        key = _content_key(file.gene_index)
        if key not in resolved:
            resolved[key] = resolve_genes(
                file.gene_index,
                vocabulary=vocabulary,
                gene_symbols=gene_symbols,
                gene_id_column=opened.reading.gene_id_column,
                source=str(path),
            )
        cells, _ = read_cells(file, opened.reading, label)
        _probe_counts(file, opened.reading, resolved[key], probe_cells)
        barcode_hashes.append(pd.util.hash_array(cells["cell_id"].to_numpy(zero_copy_only=False)))
        schema = cells.drop_columns(["cell_id"]).schema
        inputs.append(CellInput(path, label, file.source, file.n_cells, resolved[key], schema))
        file.forget_obs()  # one input's annotation at a time stays in memory
    _require_unique_barcodes(inputs, barcode_hashes, opened)
    return inputs


def read_cells(file: CountFile, reading: InputReading, label: str) -> tuple[pa.Table, np.ndarray]:
    """Table of `cell_id` and the carried obs columns, a row a cell; and bool `(cells,)`: not left out by the query."""
    obs = file.obs
    duplicated = obs.index[obs.index.duplicated()]
    if len(duplicated):
        raise ValueError(
            f"{file.path}: {len(duplicated)} barcodes occur more than once, e.g. {duplicated[0]!r}: make them unique "
            "(anndata: obs_names_make_unique) so that rows can be traced back to cells"
        )
    missing = [column for column in reading.obs_columns if column not in obs]
    if missing:
        raise ValueError(f"{file.path}: obs has no column {', '.join(missing)}; it has {_listed(file.obs_columns)}")
    prefix = f"{label}:" if reading.duplicate_barcodes == "prefix" else ""
    columns = {"cell_id": pa.array(prefix + obs.index.to_series(), pa.string())}
    columns |= {column: _arrow_column(obs[column], file.path) for column in reading.obs_columns}
    return pa.table(columns), ~_excluded(file, reading.exclude)


def genes_of_columns(genes: ResolvedGenes, positions: Mapping[str, int]) -> np.ndarray:
    """int32 `(columns,)`: the position of each column's gene, NOT_IN_VOCABULARY or NOT_A_GENE."""
    found = pd.Series(genes.gene_ids).map(positions).fillna(NOT_IN_VOCABULARY).to_numpy(np.int32)
    return np.where(genes.drop_reasons == NOT_GENE_EXPRESSION, np.int32(NOT_A_GENE), found)


def _excluded(file: CountFile, query: str | None) -> np.ndarray:
    """bool `(cells,)`: True where the query holds."""
    obs, path = file.obs, file.path
    if query is None:
        return np.zeros(len(obs), bool)
    try:
        answer = obs.eval(query, engine="python")
    except Exception as error:
        raise ValueError(
            f"{path}: the query {query!r} for cells to leave out fails ({error}); obs has {_listed(file.obs_columns)}. "
            "Expected a pandas query, e.g. \"disease == 'cancer' or filter_pass == 0\""
        ) from error
    answer = pd.Series(answer, index=obs.index) if np.ndim(answer) else answer
    if not isinstance(answer, pd.Series) or not pd.api.types.is_bool_dtype(answer):
        raise ValueError(f"{path}: the query {query!r} for cells to leave out gives no yes or no for each cell")
    return answer.fillna(False).to_numpy(bool)


def _arrow_column(column: pd.Series, path: Path) -> pa.Array:
    try:
        array = pa.array(column)
    except pa.ArrowException as error:
        raise ValueError(f"{path}: obs column {column.name!r} mixes types ({error}): make it of one type") from error
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(pa.string()) if pa.types.is_large_string(array.type) else array


def _probe_counts(file: CountFile, reading: InputReading, genes: ResolvedGenes, n_cells: int) -> None:
    """Checks the first cells; a matrix that is not stored by cell is checked as it is read."""
    if not isinstance(file.matrix, SpooledRows) and file.n_cells:
        n_cells = min(n_cells, file.n_cells)
        check_counts(file, reading, file.read(0, n_cells), pa.array(file.obs.index[:n_cells]), genes)


def check_counts(file: CountFile, reading: InputReading, counts, cell_ids: pa.Array, genes: ResolvedGenes) -> None:  # type: ignore[no-untyped-def]
    """`require_counts` with this file's names, and the advice which other matrices it holds."""
    others = ", ".join(file.other_matrices)
    advice = f"The file also has {others}: choose the one with counts (layer, use_raw)." if others else ""
    require_counts(
        counts,
        source=file.source,
        cell_ids=cell_ids,
        genes=genes.names,
        allow_fractional=reading.allow_fractional,
        advice=advice,
    )


def _require_unique_barcodes(inputs: list[CellInput], hashes: list[np.ndarray], opened: OpenInputs) -> None:
    """Raises where two inputs share a barcode; 8 bytes a cell are held, and equal hashes are compared as text."""
    values = np.concatenate(hashes)
    order = np.argsort(values, kind="stable")
    equal = np.flatnonzero(np.diff(values[order].view(np.int64)) == 0)
    starts = np.cumsum([0, *(len(one) for one in hashes)])
    for at in equal[:1000]:
        places = []
        for cell in (order[at], order[at + 1]):
            number = int(np.searchsorted(starts, cell, side="right")) - 1
            file = opened.get(inputs[number].path)
            places.append((inputs[number], str(file.obs.index[cell - starts[number]])))
        (first, barcode), (second, other) = places
        if barcode == other and opened.reading.duplicate_barcodes == "error":
            raise ValueError(
                f"{len(equal)} barcodes are in several inputs, e.g. {barcode!r} in {first.path} and {second.path}. "
                "Different cells: tell them apart by input (duplicate_barcodes='prefix'). The same: give each once"
            )


def _labels(paths: Sequence[Path]) -> list[str]:
    """The shortest equally long path ends that differ between inputs; ValueError where an input is given twice."""
    resolved = [path.resolve() for path in paths]
    repeated = {path for path in resolved if resolved.count(path) > 1}
    if repeated:
        raise ValueError(f"given more than once: {', '.join(sorted(map(str, repeated)))}; give each input once")
    for n_parts in range(1, max(len(path.parts) for path in resolved) + 1):
        labels = ["/".join(path.parts[-n_parts:]) for path in resolved]
        if len(set(labels)) == len(labels):
            break
    return labels


def _content_key(frame: pd.DataFrame) -> str:
    digest = hashlib.sha256(repr(list(frame.columns)).encode())
    digest.update(pd.util.hash_pandas_object(frame.astype(str)).to_numpy().tobytes())
    return digest.hexdigest()


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns) or "no columns"
