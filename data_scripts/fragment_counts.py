"""Fragments in intervals: a fragments file to a sparse matrix, cells x intervals.

Intervals are peaks or tiles of one length, disjoint and in order on each contig, so two binary searches tell all that a
fragment overlaps. Counting rules: "fragment" counts a fragment once in each interval that it overlaps (Signac's
FeatureMatrix, SnapATAC2's `fragment` strategy); "insertion" counts each of its two ends, the first and the last base,
where the transposase cut (ArchR, SnapATAC2's `insertion`). How often a fragment was read (column 5) does not matter.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .fragment_files import BLOCK_BYTES, FragmentBlock, fragment_blocks, shown_names
from .genomes import contig_alias
from .peak_names import PEAK_COLUMNS, peak_names

logger = logging.getLogger(__name__)

FragmentRule = Literal["fragment", "insertion"]
FRAGMENT_RULES = ("fragment", "insertion")
ENTRIES_PENDING = 4_000_000  # counted entries that wait to be added up, at least


class FragmentCounts(NamedTuple):
    """What `count_fragments` returns."""

    matrix: sp.csr_matrix  # (cells, intervals) int32
    fragments_of_cell: np.ndarray  # (cells,) int64: all its fragments in the file, in an interval or not
    report: dict


def count_fragments(
    path: str | Path,
    intervals: pd.DataFrame,
    barcodes: Sequence[str] | pd.Index,
    *,
    rule: FragmentRule = "fragment",
    block_bytes: int = BLOCK_BYTES,
) -> FragmentCounts:
    """Count the fragments of cells in intervals.

    Memory: a block of text, and 12 bytes for each entry of the matrix, twice while entries are added up.

    Args:
        path: fragments.tsv, plain, gzip or BGZF; in any order.
        intervals: contig, start, end (0-based, half-open), disjoint, each contig's in order of start. `chr20` and `20`
            are the same contig.
        barcodes: the cells, which are the rows.
        rule: "fragment" or "insertion", as above.
        block_bytes: text in memory at a time.

    Returns:
        Counts and a report: fragments in the file, of other barcodes, on contigs without an interval, and outside the
        intervals; barcodes without a fragment.

    Raises:
        FileNotFoundError, ValueError: as `fragment_blocks`; for intervals that overlap or are out of order, a barcode
            given twice, a file without a fragment of the barcodes, or on a contig of the intervals.
    """
    if rule not in FRAGMENT_RULES:
        raise ValueError(f"rule is {rule!r}; expected one of {', '.join(FRAGMENT_RULES)}")
    cells = pd.Index(barcodes).astype(str)
    if not cells.is_unique:
        raise ValueError(f"barcode {cells[cells.duplicated()][0]!r} is given twice; expected each cell once")
    line = _IntervalLine(intervals)
    entries = _EntrySums()
    tally = _Tally(np.zeros(len(cells), dtype=np.int64))
    for block in fragment_blocks(path, block_bytes=block_bytes):
        cell, contig = tally.sift(block, cells, line)
        is_used = (cell >= 0) & (contig >= 0)
        fragment, interval = line.find(contig[is_used], block.starts[is_used], block.ends[is_used], rule)
        tally.n_outside += int(np.count_nonzero(is_used)) - len(np.unique(fragment))
        entries.add(cell[is_used][fragment] * len(intervals) + interval)
    tally.check(Path(path), cells, line)
    report = tally.report(rule)
    logger.info("%s: %s", path, report)
    return FragmentCounts(entries.matrix((len(cells), len(intervals))), tally.fragments_of_cell, report)


def tiles(contig_lengths: Mapping[str, int], tile_bp: int) -> pd.DataFrame:
    """Intervals of `tile_bp` side by side over contigs, from base 0; the last of each contig ends with it.

    Returns:
        contig, start, end (int64), name (contig:start-end), contigs in the order given.

    Raises:
        ValueError: for a length below 1 of a tile or contig.
    """
    if tile_bp < 1:
        raise ValueError(f"tile_bp is {tile_bp}; expected 1 or more")
    if not contig_lengths or min(contig_lengths.values()) < 1:
        raise ValueError(f"contigs have the lengths {dict(contig_lengths)}; expected one or more, each at least 1 long")
    lengths = np.array(list(contig_lengths.values()), dtype=np.int64)
    n_tiles = -(-lengths // tile_bp)
    number = np.arange(n_tiles.sum()) - np.repeat(np.cumsum(n_tiles) - n_tiles, n_tiles)
    table = pd.DataFrame(
        {
            "contig": np.repeat(np.array(list(contig_lengths), dtype=object), n_tiles),
            "start": number * tile_bp,
            "end": np.minimum((number + 1) * tile_bp, np.repeat(lengths, n_tiles)),
        }
    )
    return table.assign(name=peak_names(table))[PEAK_COLUMNS]


class _IntervalLine:
    """Intervals of all contigs laid behind one another on one line, so that one binary search serves them all."""

    def __init__(self, intervals: pd.DataFrame) -> None:
        codes, contigs = pd.factorize(intervals["contig"])
        starts, ends = (intervals[name].to_numpy(np.int64) for name in ("start", "end"))
        self.contigs = [str(contig) for contig in contigs]
        self.extents = np.zeros(len(contigs), dtype=np.int64)
        np.maximum.at(self.extents, codes, ends)
        self._shifts = np.cumsum(self.extents + 1) - (self.extents + 1)
        self._order = np.argsort(codes, kind="stable")
        self._starts, self._ends = ((place + self._shifts[codes])[self._order] for place in (starts, ends))
        is_bad = self._starts[1:] < self._ends[:-1]
        if is_bad.any() or (ends <= starts).any():
            at = int(np.flatnonzero(is_bad)[0]) + 1 if is_bad.any() else int(np.flatnonzero(ends <= starts)[0])
            row = intervals.iloc[self._order[at] if is_bad.any() else at]
            raise ValueError(
                f"the interval {row['contig']}:{row['start']:,}-{row['end']:,} is empty, or begins before the one in "
                "front of it ends; expected disjoint intervals in order of start"
            )
        self._codes = {name: code for code, name in enumerate(self.contigs)}
        self._by_alias: dict[str, list[int]] = {}
        for name, code in self._codes.items():
            self._by_alias.setdefault(contig_alias(name), []).append(code)

    def contig_code(self, name: str) -> int:
        """Of a contig under any of its names; -1 without an interval there."""
        if name in self._codes:
            return self._codes[name]
        found = self._by_alias.get(contig_alias(name), [])
        if len(found) > 1:
            names = " and ".join(self.contigs[code] for code in found)
            raise ValueError(f"the intervals are on both {names}: on which of them are the fragments of {name}?")
        return found[0] if found else -1

    def find(
        self, contig: np.ndarray, starts: np.ndarray, ends: np.ndarray, rule: FragmentRule
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (fragment, interval), int64 each: a pair for each count."""
        shift, extent = self._shifts[contig], self.extents[contig]
        if rule == "insertion":
            places = [np.minimum(place, extent) + shift for place in (starts, ends - 1)]
            return self._containing(np.concatenate(places), len(starts))
        first = np.searchsorted(self._ends, np.minimum(starts, extent) + shift, side="right")
        behind = np.searchsorted(self._starts, np.minimum(ends, extent) + shift, side="left")
        n_intervals = np.maximum(behind - first, 0)
        fragment = np.repeat(np.arange(len(starts)), n_intervals)
        within = np.arange(len(fragment)) - np.repeat(np.cumsum(n_intervals) - n_intervals, n_intervals)
        return fragment, self._order[first[fragment] + within]

    def _containing(self, places: np.ndarray, n_fragments: int) -> tuple[np.ndarray, np.ndarray]:
        at = np.searchsorted(self._ends, places, side="right")
        is_inside = at < len(self._ends)
        is_inside[is_inside] = self._starts[at[is_inside]] <= places[is_inside]
        return np.flatnonzero(is_inside) % n_fragments, self._order[at[is_inside]]


class _EntrySums:
    """Adds up entries of a sparse matrix as they come; key = row * columns + column."""

    def __init__(self) -> None:
        self._keys, self._counts = np.zeros(0, np.int64), np.zeros(0, np.int32)
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, keys: np.ndarray) -> None:
        distinct, counts = np.unique(keys, return_counts=True)
        self._pending.append((distinct, counts.astype(np.int32)))
        # Waiting for as many as are there already keeps the work linear in the number of fragments.
        if sum(len(one) for one, _ in self._pending) > max(ENTRIES_PENDING, len(self._keys)):
            self._add_up()

    def matrix(self, shape: tuple[int, int]) -> sp.csr_matrix:
        self._add_up()
        rows, columns = np.divmod(self._keys, max(1, shape[1]))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
        return sp.csr_matrix((self._counts, columns.astype(np.int32), indptr), shape=shape)

    def _add_up(self) -> None:
        keys = np.concatenate([self._keys, *(one for one, _ in self._pending)])
        counts = np.concatenate([self._counts, *(one for _, one in self._pending)])
        self._pending.clear()
        order = np.argsort(keys, kind="stable")
        keys, counts = keys[order], counts[order]
        first = np.flatnonzero(np.append(True, np.diff(keys) > 0)) if len(keys) else np.zeros(0, np.int64)
        self._keys = keys[first]
        self._counts = np.add.reduceat(counts, first) if len(first) else counts


class _Tally:
    """Accounts for every fragment."""

    def __init__(self, fragments_of_cell: np.ndarray) -> None:
        self.fragments_of_cell = fragments_of_cell  # (cells,) int64
        self.n_fragments = self.n_other_barcode = self.n_other_contig = self.n_on_contigs = self.n_outside = 0
        self.other_barcode = ""
        self.contigs: dict[str, int] = {}  # the file's name -> the intervals' number, -1 for none

    def sift(self, block: FragmentBlock, cells: pd.Index, line: _IntervalLine) -> tuple[np.ndarray, np.ndarray]:
        """int64 `(fragments,)` each: the cell and the intervals' contig of a fragment, -1 for none."""
        row_of_barcode = cells.get_indexer(pd.Index(block.barcodes, dtype=object))
        for name in block.contigs:
            if name not in self.contigs:
                self.contigs[name] = line.contig_code(name)
        cell = row_of_barcode[block.barcode_codes]
        contig = np.array([self.contigs[name] for name in block.contigs], dtype=np.int64)[block.contig_codes]
        is_cell = cell >= 0
        self.n_fragments += len(cell)
        self.n_other_barcode += int(np.count_nonzero(~is_cell))
        self.n_on_contigs += int(np.count_nonzero(contig >= 0))
        self.n_other_contig += int(np.count_nonzero(is_cell & (contig < 0)))
        self.fragments_of_cell += np.bincount(cell[is_cell], minlength=len(cells))
        self.other_barcode = self.other_barcode or block.barcodes[0]
        return cell, contig

    def check(self, path: Path, cells: pd.Index, line: _IntervalLine) -> None:
        if self.n_other_barcode == self.n_fragments:
            raise ValueError(
                f"{path}: none of {self.n_fragments:,} fragments has one of the {len(cells):,} barcodes asked for; its "
                f"first is {self.other_barcode!r}, asked for are {shown_names(cells)}. Are they of this sample, with "
                "the same prefix and suffix (such as -1)?"
            )
        if not self.n_on_contigs:
            raise ValueError(
                f"{path}: none of {self.n_fragments:,} fragments is on a contig of the intervals; it is on "
                f"{shown_names(self.contigs)}, the intervals are on {shown_names(line.contigs)}. Are both of one "
                "genome?"
            )

    def report(self, rule: FragmentRule) -> dict:
        return {
            "counting rule": rule,
            "fragments in the file": self.n_fragments,
            "fragments of other barcodes, left out": self.n_other_barcode,
            "fragments on contigs without an interval, left out": self.n_other_contig,
            "fragments outside the intervals, left out": self.n_outside,
            "barcodes without a fragment": int(np.count_nonzero(self.fragments_of_cell == 0)),
        }
