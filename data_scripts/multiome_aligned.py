"""Counts aligned to genes, chunk by chunk, and kept on disk, from where any rows can be taken.

Each matrix is read once, in its own order; pairs of files may have theirs in different ones.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from ..modeling.peak_gene_rings import weighted_gene_sums
from .multiome_input import Input, MatrixKey, OpenMatrices
from .multiome_inputs import check_counts
from .multiome_peaks import N_FATES, OTHER_FEATURE, Alignment
from .multiome_sources import Modality
from .pseudobulk import fragments_of_reads

_COUNTS, _GENES, _ENDS = "counts.bin", "genes.bin", "ends.npy"


class AlignJob(NamedTuple):
    """Some cells of one matrix."""

    matrix: MatrixKey
    modality: Modality
    are_reads: bool  # that are made fragments
    alignment: Path  # as `save_alignment` wrote it
    start: int
    stop: int


class AlignedChunk(NamedTuple):
    """What became of some cells."""

    counts: sp.csr_matrix  # float32 (cells, genes)
    nonzero_features: np.ndarray  # (cells,) int64: genes or peaks of the file that are not zero
    by_fate: np.ndarray  # (fates,) float64: counts of the columns of each fate


class AlignedCounts:
    """Rows of `(cells, genes)` on disk, in a folder of their own. Append chunks, `finish`, then take `rows`.

    Attributes:
        n_genes: columns.
        ends: (cells + 1,) int64: where each cell's entries end, once finished.
    """

    def __init__(self, folder: Path, n_genes: int) -> None:
        self.folder = folder
        self.n_genes = n_genes
        self.ends = np.zeros(1, dtype=np.int64)
        if (folder / _ENDS).exists():
            self.ends = np.load(folder / _ENDS, mmap_mode="r")

    def append(self, counts: sp.csr_matrix) -> None:
        """Add `(cells, genes)` float32, indices sorted, behind what is there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, values in ((_COUNTS, counts.data.astype(np.float32)), (_GENES, counts.indices.astype(np.int32))):
            with (self.folder / name).open("ab") as file:
                values.tofile(file)
        self.ends = np.concatenate([self.ends, self.ends[-1] + counts.indptr[1:].astype(np.int64)])

    def finish(self) -> None:
        """Nothing will be appended any more."""
        np.save(self.folder / _ENDS, self.ends)

    def rows(self, rows: np.ndarray) -> sp.csr_matrix:
        """float32 `(rows, genes)`, a copy."""
        lengths = self.ends[rows + 1] - self.ends[rows]
        ends = np.concatenate([[0], np.cumsum(lengths)])
        if not ends[-1]:
            return sp.csr_matrix((len(rows), self.n_genes), dtype=np.float32)
        at = np.arange(ends[-1]) + np.repeat(self.ends[rows] - ends[:-1], lengths)
        counts, genes = (
            np.memmap(self.folder / name, dtype=dtype, mode="r")[at]
            for name, dtype in ((_COUNTS, np.float32), (_GENES, np.int32))
        )
        return sp.csr_matrix((np.asarray(counts), np.asarray(genes), ends), shape=(len(rows), self.n_genes))


def save_alignment(alignment: Alignment, path: Path) -> None:
    """For the processes that align."""
    sp.save_npz(path, alignment.weights, compressed=False)
    np.save(path.with_suffix(".fate.npy"), alignment.fate)


def align_jobs(one: Input, alignment: Path, *, are_reads: bool, chunk_cells: int) -> Iterator[AlignJob]:
    """A job for each chunk of a matrix, in order."""
    assert one.matrix is not None
    for start in range(0, len(one.barcodes), chunk_cells):
        stop = min(start + chunk_cells, len(one.barcodes))
        yield AlignJob(one.matrix, one.modality, are_reads, alignment, start, stop)


class Aligner:
    """Does the jobs, keeping matrices and the last alignment at hand."""

    def __init__(self, opened: OpenMatrices) -> None:
        self._opened = opened
        self._path: Path | None = None
        self._alignment: tuple[sp.csr_matrix, np.ndarray]

    def align(self, job: AlignJob) -> AlignedChunk:
        """Read, check and align; ValueError for values that are no counts."""
        if job.alignment != self._path:
            self._alignment = (sp.load_npz(job.alignment), np.load(job.alignment.with_suffix(".fate.npy")))
            self._path = job.alignment
        file = self._opened.get(job.matrix)
        counts = file.read(job.start, job.stop)
        check_counts(file, counts, job.start, job.modality)
        return aligned(counts, *self._alignment, are_reads=job.are_reads)


_aligner_here = Aligner(OpenMatrices())


def align_here(job: AlignJob) -> AlignedChunk:
    """In a worker process."""
    return _aligner_here.align(job)


def aligned(counts: sp.csr_matrix, weights: sp.csr_matrix, fate: np.ndarray, *, are_reads: bool) -> AlignedChunk:
    """Counts `(cells, columns)` to genes; see `Alignment` for `weights` and `fate`."""
    # Built anew: the file's rows may be unsorted or store an entry twice.
    counts = sp.csr_matrix((counts.data.astype(np.float64), counts.indices, counts.indptr), shape=counts.shape)
    counts.sum_duplicates()
    counts.eliminate_zeros()
    if are_reads:
        counts = fragments_of_reads(counts)
    fate_of_entry = fate[counts.indices]
    is_feature = np.concatenate([[0], np.cumsum(fate_of_entry != OTHER_FEATURE)])
    nonzero = is_feature[counts.indptr[1:]] - is_feature[counts.indptr[:-1]]
    by_fate = np.bincount(fate_of_entry, weights=counts.data, minlength=N_FATES)
    return AlignedChunk(weighted_gene_sums(counts, weights), nonzero.astype(np.int64), by_fate)


def chunk_numbers(n_rows: int, chunk_rows: int) -> Sequence[slice]:
    """Slices of at most `chunk_rows`, in order."""
    return [slice(start, min(start + chunk_rows, n_rows)) for start in range(0, n_rows, chunk_rows)]
