"""Windows with their sequence and packed labels to Parquet, a stretch of the genome at a time, and their counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .genome_files import GenomeFiles
from .segment_windows import Ends, IntervalTracks, SplitRegion, lay_windows, pack_labels

SEGMENT_SCHEMA = pa.schema(
    [
        ("contig", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("sequence", pa.string()),
        ("labels", pa.binary()),
        ("ignored", pa.binary()),
    ]
)
_BASES_A_GROUP = 1 << 20  # painted together, and written as one row group: what bounds memory
_N = ord("N")


@dataclass
class SplitCounts:
    """What the windows of a split add up to.

    Attributes:
        windows: those written.
        dropped_n: windows left out because too many bases are N.
        dropped_blacklisted: windows left out because too many bases are blacklisted, or N and blacklisted together.
        bases_behind: bases behind the last window of a region.
        bases: of all windows, those scored: neither N nor blacklisted.
        masked: of all windows, the others.
        positives: (elements,) int64, scored bases with the label 1.
    """

    positives: np.ndarray
    windows: int = 0
    dropped_n: int = 0
    dropped_blacklisted: int = 0
    bases_behind: int = 0
    bases: int = 0
    masked: int = 0


@dataclass
class SegmentWriter:
    """Writes the windows of a split.

    Attributes:
        genome: where the sequence comes from.
        elements: what the labels are painted from.
        blacklist: one track of bases to be ignored.
        window_bp, step_bp, ends: as `lay_windows`.
        maximum_masked: windows with a larger share of bases that are N or blacklisted are dropped.
    """

    genome: GenomeFiles
    elements: IntervalTracks
    blacklist: IntervalTracks
    window_bp: int
    step_bp: int
    ends: Ends = "drop"
    maximum_masked: float = 0.5

    def write(self, path: Path, regions: Sequence[SplitRegion]) -> SplitCounts:
        """Write the windows of these regions, in order, to a Parquet file."""
        counts = SplitCounts(np.zeros(len(self.elements.elements), dtype=np.int64))
        windows_a_group = max(1, _BASES_A_GROUP // max(self.window_bp, self.step_bp))
        with pq.ParquetWriter(path, SEGMENT_SCHEMA, compression="zstd") as writer:
            for region in regions:
                starts, ends, behind = lay_windows(
                    region.start, region.end, window_bp=self.window_bp, step_bp=self.step_bp, ends=self.ends
                )
                counts.bases_behind += behind
                for first in range(0, len(starts), windows_a_group):
                    group = slice(first, first + windows_a_group)
                    rows = self._rows(region.contig, starts[group], ends[group], counts)
                    if rows:
                        columns = dict(zip(SEGMENT_SCHEMA.names, map(list, zip(*rows, strict=True)), strict=True))
                        writer.write_table(pa.Table.from_pydict(columns, schema=SEGMENT_SCHEMA))
        return counts

    def _rows(self, contig: str, starts: np.ndarray, ends: np.ndarray, counts: SplitCounts) -> list[tuple]:
        """Paint the stretch once, and cut the windows from it."""
        offset, last = int(starts[0]), int(ends[-1])
        sequence = self.genome.fetch(contig, offset, last)
        labels = self.elements.paint(contig, offset, last)
        is_n = np.frombuffer(sequence, dtype=np.uint8) == _N
        ignored = self.blacklist.paint(contig, offset, last).any(axis=0) | is_n
        scored = labels * ~ignored
        rows = []
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            bases = slice(start - offset, end - offset)
            masked = int(np.count_nonzero(ignored[bases]))
            most = self.maximum_masked * (end - start)
            if masked > most:
                is_because_of_n = np.count_nonzero(is_n[bases]) > most
                counts.dropped_n += int(is_because_of_n)
                counts.dropped_blacklisted += int(not is_because_of_n)
                continue
            counts.windows += 1
            counts.masked += masked
            counts.bases += end - start - masked
            counts.positives += np.count_nonzero(scored[:, bases], axis=1)
            packed = pack_labels(ignored[bases]) if masked else b""
            rows.append((contig, start, end, sequence[bases].decode(), pack_labels(labels[:, bases]), packed))
        return rows
