"""A genome with peaks, and cells whose chromatin is as open there as planted motifs say: known truth for rankings.

A contig is a row of spans. Each span holds peaks that carry copies of two motifs, a CTCF-like and a GATA-like one, and
mostly one that carries none; a peak's expected fragments a cell grow with its copies, and the copies of a span's peaks
differ, so that DNA alone tells their order. Lengths, places, base composition and what lies around motifs tell nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from .simulated_genome import BASES

CELL_TYPES = ("alpha", "beta")
# Of at least eleven bases: wherever the 6-mers of a sequence begin, one lies wholly within. One is rich in GC, one not.
MOTIFS = {"CTCF": b"CCACCAGGGGGCGC", "GATA": b"AGATAAGATAAG"}
FLOOR = 0.1  # fragments a cell; the thesis takes means below for zero
MARGIN_BP = 12  # on either side of a peak, where fragments may end that begin in it
SHORTEST_FRAGMENT_BP = 30
_PEAKS_AT_A_TIME = 4_096  # of which all cells are drawn
_COMPLEMENT = np.arange(256, dtype=np.uint8)
_COMPLEMENT[list(b"ACGT")] = list(b"TGCA")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class AccessibilitySettings:
    """Sizes and strengths of a simulated world of accessibility.

    Attributes:
        span_bp: length of a span; contigs are whole spans.
        region_bp: mean length of a peak.
        region_bp_spread: peaks are as much as this shorter or longer, every length as likely.
        copies: motif copies of the peaks that a span has beside its closed one, in random places: one peak each.
        closed_share: share of the spans that also hold a peak without a motif, which is closed in all cells.
        gc_share: of the sequence between motifs.
        both_strands: half of the copies stand on the minus strand.
        decoys: every peak has as many sites as the one with the most copies; those that are not motifs hold a motif's
            letters in random order, so that base composition tells nothing.
        specificity: 0, each motif opens both cell types alike; 1, alpha cells read CTCF only and beta cells GATA only.
        cells_per_type: cells of each of the two types.
        closed_mean: expected fragments a cell in a peak without copies; below 0.1, or it would not count as closed.
        mean_per_copy: more of them with each copy.
        depth_spread: standard deviation of the logarithm of a cell's depth.
        one_end_share: share of the peaks of a cell, among those with fragments, in which one fragment has its other
            end outside, so that its reads are odd.
    """

    span_bp: int = 600
    region_bp: int = 150
    region_bp_spread: int = 20
    copies: tuple[int, ...] = (1, 3)
    closed_share: float = 0.8
    gc_share: float = 0.42
    both_strands: bool = True
    decoys: bool = True
    specificity: float = 0.0
    cells_per_type: int = 60
    closed_mean: float = 0.03
    mean_per_copy: float = 0.3
    depth_spread: float = 0.2
    one_end_share: float = 0.2

    def __post_init__(self) -> None:
        for name in ("closed_share", "gc_share", "specificity", "one_end_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected a share from 0 to 1")
        if len(self.copies) < 2 or min(self.copies) < 1 or len(set(self.copies)) < len(self.copies):
            raise ValueError(f"copies is {self.copies}: expected two different numbers or more, none below 1")
        if not 0 <= self.closed_mean < FLOOR or self.closed_mean + self.mean_per_copy * min(self.copies) <= FLOOR:
            raise ValueError(
                f"closed_mean is {self.closed_mean} and mean_per_copy {self.mean_per_copy}: a peak without copies must "
                f"have a mean below {FLOOR} fragments a cell, and one with {min(self.copies)} copies a higher one"
            )
        if self.cells_per_type < 1 or self.depth_spread < 0:
            raise ValueError(
                f"cells_per_type is {self.cells_per_type} and depth_spread {self.depth_spread}: expected a cell or "
                "more, and no spread below 0"
            )
        self._check_lengths()

    def _check_lengths(self) -> None:
        shortest, longest = self.region_bp - self.region_bp_spread, self.region_bp + self.region_bp_spread
        needed = max(max(self.copies) * SLOT_BP, SHORTEST_FRAGMENT_BP)
        if self.region_bp_spread < 0 or shortest < needed:
            raise ValueError(
                f"peaks are {shortest} to {longest} bp long, and {max(self.copies)} copies need {needed} bp: raise "
                "region_bp, or lower region_bp_spread or copies"
            )
        if longest + 2 * MARGIN_BP > self.place_bp:
            raise ValueError(
                f"span_bp is {self.span_bp}, so each of {len(self.copies) + 1} peaks has {self.place_bp} bp, and needs "
                f"{longest + 2 * MARGIN_BP}: raise span_bp, or lower region_bp"
            )

    @property
    def place_bp(self) -> int:
        """Length of the part of a span that one peak lies in."""
        return self.span_bp // (len(self.copies) + 1)


SLOT_BP = max(map(len, MOTIFS.values()))


@dataclass
class AccessibleWorld:
    """What is true in the simulated world. Coordinates are 0-based, half-open.

    Attributes:
        contigs: name -> (bases,) uint8 letters.
        peaks: peak (contig:start-end), contig, start, end, span (number, over all contigs), copies_<motif> and
            expected_<cell type> (fragments a cell); a row a peak, in the order of the genome.
        fragments: (cells, peaks) int32 CSR, fragments of each cell in each peak.
        reads: (cells, peaks) int32 CSR, ends of fragments within each peak: two a fragment, or one less.
        type_of_cell: (cells,) int64, places in `CELL_TYPES`.
        order_kept: share of the spans, in each cell type, in which the means over cells keep the expected order of all
            the span's peaks: no model can be expected to order more.
    """

    contigs: dict[str, Array]
    peaks: pd.DataFrame
    fragments: sparse.csr_matrix
    reads: sparse.csr_matrix
    type_of_cell: Array
    order_kept: float

    @property
    def cells(self) -> list[str]:
        return [f"cell{number:06d}" for number in range(len(self.type_of_cell))]


def draw_accessibility(settings: AccessibilitySettings, contigs: Mapping[str, int], *, seed: int) -> AccessibleWorld:
    """Draw a world in memory, contigs of so many spans; the same seed gives the same one."""
    if not contigs or min(contigs.values()) < 1:
        raise ValueError(f"contigs is {dict(contigs)}: expected names of contigs and the spans of each, at least one")
    generator = np.random.default_rng(seed)
    shares = [(1 - settings.gc_share) / 2, *[settings.gc_share / 2] * 2, (1 - settings.gc_share) / 2]
    genome = generator.choice(BASES, size=sum(contigs.values()) * settings.span_bp, p=shares)
    peaks, starts = _draw_peaks(settings, contigs, generator)
    _plant(settings, genome, starts, peaks, generator)
    ends = np.cumsum([spans * settings.span_bp for spans in contigs.values()])
    by_contig = dict(zip(contigs, np.split(genome, ends[:-1]), strict=True))
    type_of_cell = np.repeat(np.arange(len(CELL_TYPES)), settings.cells_per_type)
    fragments = _draw_fragments(settings, peaks, type_of_cell, generator)
    has_one_end_outside = generator.random(fragments.nnz) < settings.one_end_share
    reads = fragments.copy()
    reads.data = 2 * fragments.data - has_one_end_outside.astype(np.int32)
    order_kept = _order_kept(peaks, fragments, type_of_cell)
    return AccessibleWorld(by_contig, peaks, fragments, reads, type_of_cell, order_kept)


def _draw_peaks(
    settings: AccessibilitySettings, contigs: Mapping[str, int], generator: np.random.Generator
) -> tuple[pd.DataFrame, Array]:
    """Peaks with their copies and expected means, and their starts in all contigs one behind the other."""
    spans, places = sum(contigs.values()), len(settings.copies) + 1
    copies = generator.permuted(np.tile([0, *settings.copies], (spans, 1)), axis=1)  # (spans, places)
    length = settings.region_bp + generator.integers(
        -settings.region_bp_spread, settings.region_bp_spread, size=copies.shape, endpoint=True
    )
    room = settings.place_bp - length - 2 * MARGIN_BP
    shift = MARGIN_BP + generator.integers(0, room, endpoint=True)
    start = settings.span_bp * np.arange(spans)[:, None] + settings.place_bp * np.arange(places) + shift
    is_there = (copies > 0) | (generator.random((spans, 1)) < settings.closed_share)
    span = np.nonzero(is_there)[0]
    contig = np.repeat(np.array(list(contigs)), list(contigs.values()))[span]
    first = np.repeat(np.cumsum([0, *contigs.values()])[:-1], list(contigs.values()))[span] * settings.span_bp
    starts, lengths, copies = start[is_there], length[is_there], copies[is_there]
    peaks = pd.DataFrame({"contig": contig, "start": starts - first, "end": starts - first + lengths, "span": span})
    peaks.insert(0, "peak", peaks.contig + ":" + peaks.start.astype(str) + "-" + peaks.end.astype(str))
    of_first = generator.binomial(copies, 0.5)
    by_motif = np.stack([of_first, copies - of_first])  # (motifs, peaks)
    for name, number in zip(MOTIFS, by_motif, strict=True):
        peaks[f"copies_{name}"] = number
    weights = np.where(np.eye(2, dtype=bool), 1.0, 1 - settings.specificity)  # (cell types, motifs)
    means = settings.closed_mean + settings.mean_per_copy * (weights @ by_motif)
    for name, mean in zip(CELL_TYPES, means, strict=True):
        peaks[f"expected_{name}"] = mean.round(9)
    return peaks, starts


def _plant(
    settings: AccessibilitySettings, genome: Array, starts: Array, peaks: pd.DataFrame, generator: np.random.Generator
) -> None:
    """Write motifs and decoys into the peaks, as many in each, in random order and places, without overlap."""
    number, lengths = max(settings.copies), (peaks.end - peaks.start).to_numpy()
    room = (lengths - number * SLOT_BP)[:, None]
    free = np.sort(generator.integers(0, room, size=(len(peaks), number), endpoint=True), axis=1)
    at = starts[:, None] + free + SLOT_BP * np.arange(number)  # (peaks, slots)
    copies = peaks[[f"copies_{name}" for name in MOTIFS]].to_numpy()
    is_copy = np.arange(number) < copies.sum(axis=1, keepdims=True)
    is_second = np.where(is_copy, np.arange(number) >= copies[:, :1], generator.random(at.shape) < 0.5)
    order = generator.permuted(np.tile(np.arange(number), (len(peaks), 1)), axis=1)
    is_copy, is_second = (np.take_along_axis(flags, order, axis=1) for flags in (is_copy, is_second))
    is_minus = settings.both_strands & (generator.random(at.shape) < 0.5)
    for which, motif in enumerate(np.frombuffer(motif, dtype=np.uint8) for motif in MOTIFS.values()):
        is_this, slot = is_second == which, np.arange(len(motif))
        for minus, letters in enumerate((motif, _COMPLEMENT[motif[::-1]])):
            genome[at[is_this & is_copy & (is_minus == minus)][:, None] + slot] = letters
        if settings.decoys:
            places = at[is_this & ~is_copy]
            letters = np.where(is_minus[is_this & ~is_copy][:, None], _COMPLEMENT[motif], motif)
            genome[places[:, None] + slot] = generator.permuted(letters, axis=1)


def _draw_fragments(
    settings: AccessibilitySettings, peaks: pd.DataFrame, type_of_cell: Array, generator: np.random.Generator
) -> sparse.csr_matrix:
    """(cells, peaks) Poisson counts around the mean of the cell's type times the cell's depth."""
    depth = np.exp(generator.normal(0.0, settings.depth_spread, len(type_of_cell)))
    for number in range(len(CELL_TYPES)):
        depth[type_of_cell == number] /= depth[type_of_cell == number].mean()
    means = peaks[[f"expected_{name}" for name in CELL_TYPES]].to_numpy().T  # (cell types, peaks)
    blocks = []
    for first in range(0, len(peaks), _PEAKS_AT_A_TIME):
        rates = means[type_of_cell, first : first + _PEAKS_AT_A_TIME] * depth[:, None]
        blocks.append(sparse.csr_matrix(generator.poisson(rates).astype(np.int32)))
    return sparse.hstack(blocks, format="csr", dtype=np.int32)


def _order_kept(peaks: pd.DataFrame, fragments: sparse.csr_matrix, type_of_cell: Array) -> float:
    """Share of spans x cell types in which no two peaks of different expectation have means in another order."""
    spans = peaks.span.to_numpy()
    first = np.flatnonzero(np.concatenate([[True], spans[1:] != spans[:-1]]))
    place = np.arange(len(spans)) - np.repeat(first, np.diff([*first, len(spans)]))
    _, row = np.unique(spans, return_inverse=True)
    kept = []
    for number, name in enumerate(CELL_TYPES):
        observed = np.asarray(fragments[type_of_cell == number].mean(axis=0)).ravel()
        values = np.full((2, len(first), place.max() + 1), np.nan)  # observed and expected; (spans, peaks)
        values[0, row, place] = np.where(observed < FLOOR, 0.0, observed)
        values[1, row, place] = peaks[f"expected_{name}"].where(lambda mean: mean >= FLOOR, 0.0)
        above = values[:, :, :, None] > values[:, :, None, :]
        kept.append((above[0] | ~above[1]).all(axis=(1, 2)))
    return float(np.mean(kept))
