"""Which variants of a haplotype show in a window, and the distinct haplotypes of a window, for many donors at once.

An insertion pushes what is behind it out of the window, a deletion draws it in: whether a variant shows depends on the
others that the haplotype carries between it and the TSS. Sums along the contig answer it for all haplotypes together;
only where a variant takes or turns the TSS is a haplotype laid out by itself (`edited_windows.py`).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from .donor_variants import DonorSequenceVariants
from .edited_windows import HaplotypeLayout, placed
from .genomes import Genome
from .sequence_variants import VariantEdit

REFERENCE = -1


class WindowHaplotypes(NamedTuple):
    """The haplotypes of a window that differ from the reference.

    Attributes:
        rows: of each distinct one, the rows of the variants that show.
        of_donors: (donors x 2,) int64, which of them each donor's haplotypes are; -1 for the reference.
    """

    rows: list[np.ndarray]
    of_donors: np.ndarray


class _Window(NamedTuple):
    contig: str
    tss: int
    strand: str
    start: int
    end: int


def window_haplotypes(
    variants: DonorSequenceVariants, genes: pd.DataFrame, genome: Genome, *, window_bp: int, orient_by_strand: bool
) -> Iterator[WindowHaplotypes]:
    """For each gene the distinct haplotypes of its window.

    Args:
        variants: of donors, not overlapping on any haplotype.
        genes: columns contig (as the genome names it), tss, strand, start, end, as in `PromoterWindows`.
        genome: names contigs and knows where they end.
        window_bp, orient_by_strand: of the windows.
    """
    contigs = {name: _Contig(variants, rows) for name, rows in _rows_by_contig(variants, genome).items()}
    bits = variants.haplotypes.reshape(len(variants), 2 * len(variants.donors)).astype(bool)
    columns = (genes[name].tolist() for name in _Window._fields)
    for window in map(_Window, *columns):
        contig = contigs.get(window.contig)
        rows = np.zeros(0, dtype=np.int64) if contig is None else contig.near(window, bits)
        if not len(rows):
            yield WindowHaplotypes([], np.full(bits.shape[1], REFERENCE))
            continue
        carried, index = _distinct(bits[rows].T)
        edits = [variants.edits[row] for row in rows]
        first, last = genome.starts[window.contig], genome.contigs[window.contig]
        reached = _reached(carried, edits, window, (first, last), window_bp, orient_by_strand)
        shown, again = _distinct(reached)
        is_reference = ~shown.any(axis=1)
        numbers = np.where(is_reference, REFERENCE, np.cumsum(~is_reference) - 1)
        yield WindowHaplotypes([rows[row] for row in shown[~is_reference]], numbers[again][index])


class _Contig:
    """The variants of a contig, sorted, for quick look-up of those near a window."""

    def __init__(self, variants: DonorSequenceVariants, rows: np.ndarray) -> None:
        self.rows = rows
        self.start = variants.start[rows]
        self.end_so_far = np.maximum.accumulate(variants.end[rows])
        self.loss = np.array([variants.edits[row].drawn_in for row in rows], dtype=np.int64)

    def near(self, window: _Window, bits: np.ndarray) -> np.ndarray:
        """Rows of the variants that are in the window or may be drawn in by what some haplotype loses there."""
        margin = 0
        while True:
            first = int(np.searchsorted(self.end_so_far, window.start - margin, side="left"))
            last = int(np.searchsorted(self.start, window.end + margin, side="right"))
            losing = first + np.flatnonzero(self.loss[first:last])
            needed = int((self.loss[losing] @ bits[self.rows[losing]]).max()) if len(losing) else 0
            if needed <= margin:
                return self.rows[first:last]
            margin = needed


def _reached(
    carried: np.ndarray,
    edits: list[VariantEdit],
    window: _Window,
    bounds: tuple[int, int],
    window_bp: int,
    orient_by_strand: bool,
) -> np.ndarray:
    """(haplotypes, variants) bool: which of the variants that a haplotype carries show in its window."""
    tss = window.tss
    places = np.array([placed(edit, tss, window.strand) for edit in edits], dtype=np.int64)
    start, end = places.T
    change = np.array([edit.length_change for edit in edits], dtype=np.int64)
    is_left, is_right = end <= tss, start > tss
    moved = carried * change  # (haplotypes, variants)
    # Bases gained between a variant and the TSS, itself not counted.
    gained_left = np.cumsum((moved * is_left)[:, ::-1], axis=1)[:, ::-1] - moved * is_left
    gained_right = np.cumsum(moved * is_right, axis=1) - moved * is_right
    is_in = np.where(is_left, end - gained_left > window.start, True)
    is_in &= np.where(is_right, start + gained_right < window.end, True)
    shown = carried & is_in
    takes_tss = np.array(
        [not (left or right) and _moves_tss(edit) for edit, left, right in zip(edits, is_left, is_right, strict=True)]
    )
    for row in np.flatnonzero((carried & takes_tss).any(axis=1)):
        here = np.flatnonzero(carried[row])
        layout = HaplotypeLayout.make([edits[number] for number in here], *bounds, tss=tss, strand=window.strand)
        numbers = layout.reached(*layout.window(window_bp, orient_by_strand=orient_by_strand))
        shown[row] = False
        shown[row, here[numbers]] = True
    return shown


def _moves_tss(edit: VariantEdit) -> bool:
    """Whether an edit that covers the TSS moves it: all but a substitution of as many bases."""
    return edit.kind == "inversion" or edit.length_change != 0


def _distinct(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows of a (rows, columns) bool array, sorted, and which of them each row is."""
    packed = np.ascontiguousarray(np.packbits(bits, axis=1))
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).reshape(-1)
    _, first, index = np.unique(keys, return_index=True, return_inverse=True)
    return bits[first], index


def _rows_by_contig(variants: DonorSequenceVariants, genome: Genome) -> dict[str, np.ndarray]:
    """For each contig of the genome the rows of its variants, sorted by what they change."""
    found: dict[str, list[np.ndarray]] = {}
    for contig in dict.fromkeys(variants.contig.tolist()):
        name = genome.find(contig)
        if name is not None:
            found.setdefault(name, []).append(np.flatnonzero(variants.contig == contig))
    joined = {name: np.concatenate(rows) for name, rows in found.items()}
    return {name: rows[np.lexsort((variants.end[rows], variants.start[rows]))] for name, rows in joined.items()}
