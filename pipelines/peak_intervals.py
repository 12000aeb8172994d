"""Where peaks lie, from the `var` of an AnnData: names, or columns of contig, start and end.

Names are contig:start-end, contig-start-end or contig_start_end, numbers perhaps with commas between thousands; the
last two numbers are the coordinates, so that contigs may hold separators themselves. They are taken as 0-based,
half-open: a tool that counts from 1 shifts every peak by one base, which is nothing beside rings of 10,000.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

PEAK_FORMS = "contig:start-end, contig-start-end or contig_start_end, such as chr1:10109-10357"
_NUMBER = r"(\d{1,3}(?:,\d{3})+|\d{1,12})"
_FORM = rf"^(\S*[^\s:_-])(?::{_NUMBER}-{_NUMBER}|([_-]){_NUMBER}\4{_NUMBER})$"
_NAME_COLUMNS = ("interval", "peak", "peaks", "peak_name", "peak_id", "gene_ids")
_PLACE_COLUMNS = (
    ("chrom", "chr", "contig", "seqnames", "seqname", "chromosome"),
    ("start", "chromstart", "chrom_start"),
    ("end", "stop", "chromend", "chrom_end"),
)


class PeakIntervals(NamedTuple):
    """Peaks in the order of the table.

    Attributes:
        contig: (peaks,) object.
        start: (peaks,) int64, 0-based.
        end: (peaks,) int64, excluded.
    """

    contig: np.ndarray
    start: np.ndarray
    end: np.ndarray


def share_of_peak_names(names: "pd.Index") -> float:
    """The share of names that tell a place; 0 without names."""
    return float(_parse(names.to_series())[1].mean()) if len(names) else 0.0


def read_peak_intervals(features: "pd.DataFrame", source: str) -> PeakIntervals:
    """Read peaks from the first of index, name columns and place columns in which every one can be read.

    Args:
        features: one row a peak.
        source: what to call the input in messages.

    Raises:
        ValueError: where none of these gives all peaks, with the first name that fails and its row; for peaks that end
            before they begin.
    """
    columns = {str(column).lower(): column for column in reversed(features.columns)}
    candidates = [features.index.to_series(), *(features[columns[name]] for name in _NAME_COLUMNS if name in columns)]
    for candidate in candidates:
        peaks, is_read = _parse(candidate)
        if is_read.all():
            return _checked(peaks, features, source)
    placed = [next((columns[name] for name in names if name in columns), None) for names in _PLACE_COLUMNS]
    if None not in placed:
        return _checked(_from_columns(features, placed, source), features, source)
    is_read = _parse(candidates[0])[1]
    row = int(np.flatnonzero(~is_read)[0])
    raise ValueError(
        f"{source}: {np.count_nonzero(~is_read):,} of {len(features):,} peaks have a name that tells no place, the "
        f"first {str(features.index[row])!r} (row {row + 1:,}); expected {PEAK_FORMS}, or columns chrom, start and end"
    )


def _parse(names: "pd.Series") -> tuple[PeakIntervals, np.ndarray]:
    parts = names.astype(str).str.extract(_FORM)
    is_read = parts[0].notna().to_numpy(bool)
    pairs = ((parts[1], parts[4]), (parts[2], parts[5]))  # with a colon, without
    texts = (first.where(first.notna(), second) for first, second in pairs)
    numbers = [text.where(is_read, "0").str.replace(",", "").to_numpy(object).astype(np.int64) for text in texts]
    return PeakIntervals(parts[0].to_numpy(object), *numbers), is_read


def _from_columns(features: "pd.DataFrame", columns: list, source: str) -> PeakIntervals:
    try:
        start, end = (features[column].to_numpy().astype(np.float64) for column in columns[1:])
        is_whole = (start == np.floor(start)).all() and (end == np.floor(end)).all()
    except (TypeError, ValueError):
        is_whole = False
    if not is_whole:
        raise ValueError(f"{source}: columns {columns[1]} and {columns[2]} hold other things than whole numbers")
    return PeakIntervals(features[columns[0]].astype(str).to_numpy(object), start.astype(int), end.astype(int))


def _checked(peaks: PeakIntervals, features: "pd.DataFrame", source: str) -> PeakIntervals:
    is_bad = (peaks.start < 0) | (peaks.end <= peaks.start)
    if is_bad.any():
        row = int(np.flatnonzero(is_bad)[0])
        raise ValueError(
            f"{source}: {np.count_nonzero(is_bad):,} peaks end before they begin, the first "
            f"{str(features.index[row])!r} (row {row + 1:,}), from {peaks.start[row]} to {peaks.end[row]}"
        )
    return peaks
