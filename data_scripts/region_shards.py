"""The rows of one region of the genome, of all samples, cell types and tilings, and their Parquet file.

Regions are worked on one by one and know nothing of each other, so the bytes do not depend on how many processes share
them. Memory is that of one contig's peaks and rows; sequences are fetched and written some thousand rows at a time.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .interval_regions import merge_intervals
from .region_duplicates import first_seen
from .region_rows import REGION_SCHEMA, REGIONS_A_ROW
from .region_spans import Integers, Pieces, Tiling, cut_into_spans, tilings
from .region_triplets import NO_PEAK, CutContig, TripletRules, choose_triplets
from .segment_windows import SplitRegion

Padding = Literal["end", "random"]
Duplicates = Literal["keep", "drop"]

_ROWS_A_GROUP = 8_192
_STRETCH_BP = 1 << 24  # of sequence in memory at once, unless a group's rows reach further
_N = ord("N")
# What a random draw is for, so that one seed serves all of them.
_CHOICE, _ORDER, _PADDING = 1, 2, 3


class Fetcher(Protocol):
    """What is asked of a genome."""

    def fetch(self, contig: str, start: int, end: int) -> bytes:
        """The bases of [start, end), upper-case ACGTN."""


@dataclass(frozen=True)
class ShardSettings:
    """Choices that all regions share; those of `build_regions`."""

    span_bp: int = 3_000
    shift_factor: int = 10
    padding: Padding = "end"
    duplicates: Duplicates = "keep"
    maximum_n: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class ContigSample:
    """The peaks of one sample on one contig.

    Attributes:
        name: of the sample.
        cell_types: their names.
        start, end: (peaks,) int64, sorted and disjoint.
        peak_names: (peaks,) as the input names them.
        means: (cell types, peaks) float64, mean fragments a cell, zero below the floor.
        rules: of the choice, with the sample's lengths.
    """

    name: str
    cell_types: list[str]
    start: Integers
    end: Integers
    peak_names: pa.StringArray
    means: npt.NDArray[np.float64]
    rules: TripletRules


@dataclass(frozen=True)
class RegionJob:
    """All that one region's rows are made of.

    Attributes:
        number: of the region, by which its draws differ from other regions'.
        region: where spans must lie.
        blocked: blacklisted intervals of the contig, contig, start, end.
        samples: with peaks on the contig.
        settings: see there.
        path: of the Parquet file.
    """

    number: int
    region: SplitRegion
    blocked: pd.DataFrame
    samples: Sequence[ContigSample]
    settings: ShardSettings
    path: Path


@dataclass
class ShardAccount:
    """What became of the spans of a region.

    Attributes:
        spans: reason -> number, over samples, cell types and tilings.
        rows: (sample, cell type) -> rows written.
        region_bp: sum of the lengths of the regions written.
        peaks_cut: pieces of peaks beyond one a peak, over tilings: how often the end of a span cut a peak.
    """

    spans: Counter[str] = field(default_factory=Counter)
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    region_bp: int = 0
    peaks_cut: int = 0

    @property
    def n_rows(self) -> int:
        return sum(self.rows.values())

    def add(self, other: "ShardAccount") -> None:
        self.spans.update(other.spans)
        self.rows.update(other.rows)
        self.region_bp += other.region_bp
        self.peaks_cut += other.peaks_cut


class RegionTable(NamedTuple):
    """R rows, numbers only. `peak` counts within the sample's peaks of the contig, NO_PEAK where there is none."""

    span_start: Integers  # (R,)
    tiling: Integers  # (R,)
    sample: Integers  # (R,)
    cell_type: Integers  # (R,)
    peak: Integers  # (R, 3)
    start: Integers  # (R, 3)
    end: Integers  # (R, 3)
    counts: npt.NDArray[np.float64]  # (R, 3)

    def take(self, rows: npt.NDArray[Any]) -> "RegionTable":
        """Those rows, by number or by mask."""
        columns: list[Any] = [column[rows] for column in self]
        return RegionTable(*columns)


def write_region(job: RegionJob, genome: Fetcher) -> ShardAccount:
    """Choose the rows of a region and write them, sorted by span, tiling, sample and cell type."""
    account = ShardAccount()
    runs_of_n = _runs_of_n(genome, job.region)
    table = _choose(job, pd.concat([job.blocked[["start", "end"]], runs_of_n]), account)
    table = _without_n(table, runs_of_n, job.settings.maximum_n, account)
    if job.settings.duplicates == "drop":
        order = np.random.default_rng([job.settings.seed, job.number, _ORDER]).permutation(len(table.tiling))
        is_kept = first_seen(table.start, table.end, order)
        account.spans["left out: a region was seen already"] += int((~is_kept).sum())
        table = table.take(is_kept)
    table = table.take(np.lexsort((table.cell_type, table.sample, table.tiling, table.span_start)))
    _write(job, table, genome)
    account.region_bp = int((table.end - table.start).sum())
    account.rows.update(_rows_by_type(job, table))
    return account


def _rows_by_type(job: RegionJob, table: RegionTable) -> dict[tuple[str, str], int]:
    pairs, numbers = np.unique(np.stack([table.sample, table.cell_type]), axis=1, return_counts=True)
    names = [(job.samples[sample].name, job.samples[sample].cell_types[kind]) for sample, kind in pairs.T.tolist()]
    return dict(zip(names, numbers.tolist(), strict=True))


def _choose(job: RegionJob, blocked: pd.DataFrame, account: ShardAccount) -> RegionTable:
    """Triplets of every sample, tiling and cell type."""
    tables = [_no_rows()]
    for number, sample in enumerate(job.samples):
        occupied = _union(sample, blocked)
        for tiling in tilings(job.settings.span_bp, job.settings.shift_factor):
            contig = _cut(sample, occupied, job.region, tiling)
            account.peaks_cut += len(contig.pieces) - len(np.unique(contig.pieces.interval))
            for cell_type in range(len(sample.cell_types)):
                draw = [job.settings.seed, job.number, _CHOICE, number, cell_type, tiling.number]
                counts = _shared_counts(sample, sample.means[cell_type], contig.pieces)
                chosen = choose_triplets(contig, counts, sample.rules, np.random.default_rng(draw), account.spans)
                same = [np.full(len(chosen.span), value) for value in (tiling.number, number, cell_type)]
                columns: list[Any] = [tiling.starts(chosen.span), *same, *chosen[1:]]
                tables.append(RegionTable(*columns))
    columns = [np.concatenate(parts) for parts in zip(*tables, strict=True)]
    return RegionTable(*columns)


def _union(sample: ContigSample, blocked: pd.DataFrame) -> tuple[Integers, Integers]:
    """All that no zero region may be placed on, as sorted, disjoint intervals."""
    peaks = pd.DataFrame({"start": sample.start, "end": sample.end})
    merged = merge_intervals(pd.concat([peaks, blocked[["start", "end"]]], ignore_index=True).assign(contig=""))
    return merged["start"].to_numpy(np.int64), merged["end"].to_numpy(np.int64)


def _cut(sample: ContigSample, occupied: tuple[Integers, Integers], region: SplitRegion, tiling: Tiling) -> CutContig:
    whole = tiling.whole_spans(region.start, region.end)
    pieces = cut_into_spans(sample.start, sample.end, tiling).within(*whole)
    return CutContig(pieces, cut_into_spans(*occupied, tiling).within(*whole), tiling)


def _shared_counts(sample: ContigSample, means: npt.NDArray[np.float64], pieces: Pieces) -> npt.NDArray[np.float64]:
    """(pieces,) counts of the peaks, each shared among its pieces by their lengths."""
    length = (sample.end - sample.start)[pieces.interval]
    return means[pieces.interval] * ((pieces.end - pieces.start) / length)


def _without_n(table: RegionTable, runs: pd.DataFrame, maximum_n: float, account: ShardAccount) -> RegionTable:
    """Rows none of whose regions has a larger share of N."""
    starts, ends = runs["start"].to_numpy(np.int64), runs["end"].to_numpy(np.int64)
    n_bases = _bases_in(starts, ends, table.end) - _bases_in(starts, ends, table.start)
    is_kept = np.all(n_bases <= maximum_n * (table.end - table.start), axis=1)
    account.spans["left out: N in a region"] += int((~is_kept).sum())
    return table.take(is_kept)


def _bases_in(starts: Integers, ends: Integers, positions: Integers) -> Integers:
    """How many bases in front of each position lie in sorted, disjoint intervals."""
    before = np.concatenate([[0], np.cumsum(ends - starts)])
    passed = np.searchsorted(starts, positions)
    # The last interval that begins in front of a position may reach beyond it.
    beyond = np.maximum(np.concatenate([[0], ends])[passed] - positions, 0)
    return before[passed] - np.where(passed > 0, beyond, 0)


def _runs_of_n(genome: Fetcher, region: SplitRegion) -> pd.DataFrame:
    """start, end of the runs of N of a region, sorted; a run may be told in two parts that touch."""
    starts, ends = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for first in range(region.start, region.end, _STRETCH_BP):
        sequence = genome.fetch(region.contig, first, min(first + _STRETCH_BP, region.end))
        is_n = np.frombuffer(sequence, dtype=np.uint8) == _N
        changes = np.flatnonzero(np.diff(is_n, prepend=False, append=False)) + first
        starts.append(changes[::2])
        ends.append(changes[1::2])
    return pd.DataFrame({"start": np.concatenate(starts), "end": np.concatenate(ends)})


def _write(job: RegionJob, table: RegionTable, genome: Fetcher) -> None:
    random = np.random.default_rng([job.settings.seed, job.number, _PADDING])
    shares = np.zeros(table.start.shape, dtype=np.float32)
    if job.settings.padding == "random":
        shares = random.random(table.start.shape, dtype=np.float32)
    with pq.ParquetWriter(job.path, REGION_SCHEMA, compression="zstd") as writer:
        for rows in _groups(table):
            writer.write_table(_arrow_table(job, table.take(rows), shares[rows], genome))


def _groups(table: RegionTable) -> Iterator[npt.NDArray[np.int64]]:
    """Consecutive rows, at most `_ROWS_A_GROUP`, that begin within one stretch of the genome."""
    number = np.arange(len(table.span_start))
    start = 0
    while start < len(number):
        within = int(np.searchsorted(table.span_start, table.span_start[start] + _STRETCH_BP))
        stop = min(start + _ROWS_A_GROUP, within)
        yield number[start:stop]
        start = stop


def _arrow_table(job: RegionJob, rows: RegionTable, shares: npt.NDArray[np.float32], genome: Fetcher) -> pa.Table:
    """One row group, from buffers."""
    n_rows = len(rows.tiling)
    samples = pa.array([sample.name for sample in job.samples])
    columns = {
        "contig": pa.repeat(job.region.contig, n_rows),
        "span_start": rows.span_start,
        "span_end": rows.span_start + job.settings.span_bp,
        "tiling": rows.tiling.astype(np.int32),
        "sample": samples.take(pa.array(rows.sample)),
        "cell_type": _cell_type_names(job, rows),
        "starts": _listed(rows.start),
        "ends": _listed(rows.end),
        "counts": _listed(rows.counts),
        "peaks": _as_lists(_names_of_peaks(job, rows)),
        "sequences": _as_lists(_sequences(job.region.contig, rows, genome)),
        "padding_share": _listed(shares),
    }
    return pa.table(columns, schema=REGION_SCHEMA)


def _cell_type_names(job: RegionJob, rows: RegionTable) -> pa.StringArray:
    firsts = np.cumsum([0, *(len(sample.cell_types) for sample in job.samples)])[:-1]
    names = pa.array([name for sample in job.samples for name in sample.cell_types], pa.string())
    return names.take(pa.array(firsts[rows.sample] + rows.cell_type))


def _names_of_peaks(job: RegionJob, rows: RegionTable) -> pa.StringArray:
    """(rows x 3,) the inputs' names, empty where a zero region is no peak."""
    firsts = np.cumsum([0, *(len(sample.start) for sample in job.samples)])[:-1]
    names = pa.concat_arrays([pa.array([""]), *(sample.peak_names for sample in job.samples)])
    numbers = np.where(rows.peak == NO_PEAK, 0, 1 + firsts[rows.sample][:, None] + rows.peak)
    return names.take(pa.array(numbers.ravel()))


def _sequences(contig: str, rows: RegionTable, genome: Fetcher) -> pa.StringArray:
    """(rows x 3,) bases of the regions, gathered from one stretch."""
    first, last = int(rows.start.min()), int(rows.end.max())
    stretch = np.frombuffer(genome.fetch(contig, first, last), dtype=np.uint8)
    starts, lengths = rows.start.ravel() - first, (rows.end - rows.start).ravel()
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    bases = stretch[np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)]
    buffers = [pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(bases)]
    return pa.StringArray.from_buffers(len(lengths), *buffers)


def _listed(values: npt.NDArray[np.generic]) -> pa.ListArray:
    return _as_lists(pa.array(values.ravel()))


def _as_lists(values: pa.Array) -> pa.ListArray:
    offsets = np.arange(0, len(values) + 1, REGIONS_A_ROW, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _no_rows() -> RegionTable:
    one, three = np.zeros(0, np.int64), np.zeros((0, REGIONS_A_ROW), np.int64)
    return RegionTable(one, one, one, one, three, three, three, three.astype(np.float64))
