"""Cells of RNA, ATAC or both, aligned and binned, as `build multiome` wrote them.

Bins stay on disk, where Arrow maps them: processes of one machine share them, and a batch is one copy of its rows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.sparse as sp

from .parquet_folder import encode_names, load_splits, read_description, require_columns

MULTIOME_FILE = "multiome.json"
BUILDER = "build multiome"
UNKNOWN = -1  # code of a cell without a label

Modality = Literal["rna", "atac"]
MODALITIES: tuple[Modality, ...] = ("rna", "atac")
LABELS = ("cell_type", "donor", "batch", "dataset")
_NEEDED = ("dataset", "cell", "rna_values", "atac_values", "cell_type", "donor", "batch")


@dataclass(frozen=True)
class MultiomeFolder:
    """What a folder holds.

    Attributes:
        folder: that was read.
        description: multiome.json.
        gene_ids, gene_symbols: of the columns of values and counts; a symbol is "" where unknown.
        feature_extractor: keyword arguments of `MultiomeFeatureExtractor`, which aligns and bins further cells alike.
        cells: all cells.
    """

    folder: Path
    description: dict[str, Any]
    gene_ids: list[str]
    gene_symbols: list[str]
    feature_extractor: dict[str, Any]
    cells: "MultiomeCells"

    @property
    def num_value_bins(self) -> int:
        """Bins of the non-zero values."""
        bins = [self.feature_extractor.get(f"{modality}_bins") for modality in MODALITIES]
        return max(int(one["num_bins"]) for one in bins if one is not None)


def read_multiome(folder: str | Path) -> MultiomeFolder:
    """Open a folder.

    Raises:
        FileNotFoundError: where there is no such folder, or it is no builder's.
        ValueError: where files in it are not as `build multiome` writes them.
    """
    folder = Path(folder)
    description = read_description(folder, MULTIOME_FILE, BUILDER)
    missing = [key for key in ("gene_ids", "gene_symbols", "feature_extractor") if key not in description]
    if missing:
        raise ValueError(f"{folder / MULTIOME_FILE} lacks {', '.join(missing)}: `{BUILDER}` again")
    splits = load_splits(folder, BUILDER)
    if list(splits) != ["train"]:
        raise ValueError(f"{folder} has the splits {', '.join(splits)}; expected all cells in one, train")
    require_columns(splits["train"], _NEEDED, source=f"train of {folder}", builder=BUILDER)
    cells = MultiomeCells(splits["train"].data.table, len(description["gene_ids"]), source=str(folder))
    return MultiomeFolder(
        folder,
        description,
        description["gene_ids"],
        description["gene_symbols"],
        description["feature_extractor"],
        cells,
    )


class MultiomeCells:
    """Cells in the order of their rows.

    Args:
        table: columns as `build multiome` writes them.
        n_genes: length of each cell's values.
        source: folder, for messages.

    Attributes:
        n_genes: genes of a cell.
        has_rna, has_atac: (cells,) bool, whether a cell has values of the modality.
        dataset_of: (cells,) int64, places in `dataset_names`.
        dataset_names: in order of first appearance.
        cell_names: (cells,) object, barcodes as their files write them.
        has_counts: whether counts were kept beside the bins.

    Raises:
        ValueError: where values have another length than there are genes, or a cell has no modality.
    """

    def __init__(self, table: pa.Table, n_genes: int, *, source: str) -> None:
        self.n_genes = n_genes
        self._source = source
        self._table = table
        self._values = {name: _ValuesColumn(table.column(f"{name}_values"), n_genes, source) for name in MODALITIES}
        self.has_rna, self.has_atac = (self._values[name].is_present for name in MODALITIES)
        if not (self.has_rna | self.has_atac).all():
            row = int(np.flatnonzero(~(self.has_rna | self.has_atac))[0])
            raise ValueError(f"{source}: row {row:,} has neither RNA nor ATAC: `{BUILDER}` again")
        self.dataset_of, self.dataset_names = encode_names(table.column("dataset"))
        self.cell_names = np.asarray(table.column("cell").to_pylist(), dtype=object)
        self.has_counts = "rna_counts" in table.column_names or "atac_counts" in table.column_names

    def __len__(self) -> int:
        return self._table.num_rows

    def has(self, modality: Modality) -> npt.NDArray[np.bool_]:
        """(cells,) bool."""
        return self._values[modality].is_present

    def values(self, rows: npt.ArrayLike, modality: Modality) -> npt.NDArray[np.uint8]:
        """(rows, genes) uint8 bins, 0 for zero.

        Raises:
            ValueError: where a cell lacks the modality.
        """
        numbers = np.asarray(rows, dtype=np.int64)
        self._require(numbers, modality)
        return self._values[modality].rows(numbers)

    def counts(self, rows: npt.ArrayLike, modality: Modality) -> sp.csr_matrix:
        """(rows, genes) float32: counts of RNA, weighted sums of fragments of ATAC.

        Raises:
            ValueError: where counts were not kept, or a cell lacks the modality.
        """
        numbers = np.asarray(rows, dtype=np.int64)
        if f"{modality}_counts" not in self._table.column_names:
            raise ValueError(f"{self._source} holds bins and no counts: `{BUILDER}` with keep_counts")
        self._require(numbers, modality)
        genes = self._table.column(f"{modality}_genes").take(pa.array(numbers)).combine_chunks()
        counts = self._table.column(f"{modality}_counts").take(pa.array(numbers)).combine_chunks()
        lengths = genes.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
        return sp.csr_matrix(
            (
                counts.flatten().to_numpy(zero_copy_only=False).astype(np.float32),
                genes.flatten().to_numpy(zero_copy_only=False).astype(np.int32),
                np.concatenate([[0], np.cumsum(lengths)]),
            ),
            shape=(len(numbers), self.n_genes),
        )

    def labels(self, column: str) -> tuple[npt.NDArray[np.int64], list[str]]:
        """Codes (cells,) of cell_type, donor, batch or dataset, -1 where unknown; and the names, sorted.

        Raises:
            ValueError: for another column.
        """
        if column not in LABELS:
            raise ValueError(f"{column!r} is no label of cells; expected one of {', '.join(LABELS)}")
        encoded = self._table.column(column).dictionary_encode().combine_chunks()
        names = encoded.dictionary.to_pylist()
        order = sorted(range(len(names)), key=lambda place: names[place])
        rank = np.empty(len(names) + 1, dtype=np.int64)
        rank[order], rank[-1] = np.arange(len(names)), UNKNOWN
        codes = encoded.indices.fill_null(len(names)).to_numpy(zero_copy_only=False).astype(np.int64)
        return rank[codes], [names[place] for place in order]

    def _require(self, rows: npt.NDArray[np.int64], modality: Modality) -> None:
        is_absent = ~self.has(modality)[rows]
        if is_absent.any():
            row = int(rows[is_absent.argmax()])
            raise ValueError(
                f"{self._source}: {int(is_absent.sum()):,} of {len(rows):,} cells have no {modality.upper()}, the "
                f"first {self.cell_names[row]} of {self.dataset_names[self.dataset_of[row]]}"
            )


class _ValuesColumn:
    """Bins of one modality, chunk by chunk as Arrow maps them."""

    def __init__(self, column: pa.ChunkedArray, n_genes: int, source: str) -> None:
        if not pa.types.is_fixed_size_list(column.type) or column.type.list_size != n_genes:
            raise ValueError(
                f"{source}: values are of type {column.type}; expected lists of {n_genes:,} uint8, as many as genes"
            )
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._chunks = [_bins(chunk, n_genes) for chunk in chunks]
        self._first_rows = np.cumsum([0, *(len(chunk) for chunk in chunks)])
        self._n_genes = n_genes
        present = [chunk.is_valid().to_numpy(zero_copy_only=False) for chunk in chunks]
        self.is_present: npt.NDArray[np.bool_] = np.concatenate(present) if present else np.zeros(0, dtype=bool)

    def rows(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """(rows, genes), a copy."""
        taken = np.empty((len(numbers), self._n_genes), dtype=np.uint8)
        chunk_of = np.searchsorted(self._first_rows, numbers, side="right") - 1
        for chunk in np.unique(chunk_of):
            is_here = chunk_of == chunk
            taken[is_here] = self._chunks[chunk][numbers[is_here] - self._first_rows[chunk]]
        return taken


def _bins(chunk: pa.FixedSizeListArray, n_genes: int) -> npt.NDArray[np.uint8]:
    """(rows, genes), without a copy; what stands where a cell lacks the modality says nothing."""
    values = chunk.values
    first = (chunk.offset * n_genes) + values.offset
    buffer = values.buffers()[1]
    if buffer is None:  # no cell has the modality
        return np.zeros((len(chunk), n_genes), dtype=np.uint8)
    flat = np.frombuffer(buffer, dtype=np.uint8, count=len(chunk) * n_genes, offset=first)
    return flat.reshape(len(chunk), n_genes)
