"""Where peaks lie, from their names or from the columns of their table.

Names are contig:start-end, contig-start-end or contig_start_end; numbers may have commas between thousands, and contigs
may hold separators themselves (HLA-A*01, chr1_KI270706v1_random): the last two numbers are the coordinates.
Coordinates come out 0-based, half-open, which is how 10x, ArchR and BED write them; `1-based` is for tools that count
bases from 1 and include the last, as R's GRanges do.
"""

from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

Coordinates = Literal["0-based", "1-based"]
COORDINATES = ("0-based", "1-based")
PEAK_COLUMNS = ["contig", "start", "end", "name"]
PEAK_FORMS = "contig:start-end, contig-start-end or contig_start_end, such as chr1:10109-10357"

_NUMBER = r"-?(?:\d{1,3}(?:,\d{3})+|\d{1,12})"
_FORM = r"^(?P<contig>\S*[^\s:_-])(?P<first>[:_-])(?P<start>" + _NUMBER + r")(?P<second>[_-])(?P<end>" + _NUMBER + r")$"
_NAME_COLUMNS = ("interval", "peak", "peaks", "peak_name", "peak_id", "gene_ids", "gene_symbols")
_CONTIG_COLUMNS = ("chrom", "chr", "contig", "seqnames", "seqname", "chromosome")
_START_COLUMNS = ("start", "chromstart", "chrom_start")
_END_COLUMNS = ("end", "stop", "chromend", "chrom_end")


def read_peaks(
    features: pd.DataFrame, *, coordinates: Coordinates = "0-based", source: str = "the input"
) -> pd.DataFrame:
    """The peaks of a table of features: `var` of an .h5ad, the features of a 10x file.

    The index is read first, then columns that may hold names (`interval` and others), then the columns of contig
    (chrom, chr, contig, seqnames, chromosome), start and end. The first in which every peak can be read is taken.

    Args:
        features: one row a peak.
        coordinates: how the input counts.
        source: file and matrix, for messages.

    Returns:
        One row a peak, in the table's order: contig, start, end (int64, 0-based half-open), name (of the index).

    Raises:
        ValueError: where none of these gives all peaks (the first peak that fails in the index is named, with its
            row), and for peaks that start before 0 or end before they begin.
    """
    if coordinates not in COORDINATES:
        raise ValueError(f"coordinates is {coordinates!r}; expected one of {', '.join(COORDINATES)}")
    names = features.index.astype(str)
    columns = {str(column).lower(): column for column in reversed(features.columns)}
    candidates = [names, *(features[columns[name]] for name in _NAME_COLUMNS if name in columns)]
    for candidate in candidates:
        table, is_read = _parse(candidate)
        if is_read.all():
            return _checked(table, names, coordinates, source)
    placed = _placed(features, columns, source)
    if placed is not None:
        return _checked(placed, names, coordinates, source)
    _, is_read = _parse(names)
    row = int(np.flatnonzero(~is_read)[0])
    raise ValueError(
        f"{source}: {np.count_nonzero(~is_read):,} of {len(names):,} peaks have a name that tells no place, the first "
        f"{names[row]!r} (row {row + 1:,}); expected {PEAK_FORMS}, or columns chrom, start and end"
    )


def peak_names(peaks: pd.DataFrame) -> pd.Series:
    """contig:start-end of each row of a table with contig, start and end."""
    return peaks["contig"].astype(str) + ":" + peaks["start"].astype(str) + "-" + peaks["end"].astype(str)


def _parse(names: pd.Index | pd.Series) -> tuple[pd.DataFrame, np.ndarray]:
    """contig, start, end of names as written, and bool `(peaks,)`: whether a name could be read."""
    texts = pa.array(names.astype(str).to_numpy(object), pa.string())
    parts = pc.extract_regex(texts, _FORM)
    contig, first, start, second, end = (pc.struct_field(parts, [number]) for number in range(5))
    # A colon goes with a hyphen; the others with themselves.
    is_pair = pc.or_(pc.equal(first, second), pc.and_(pc.equal(first, ":"), pc.equal(second, "-")))
    is_read = pc.fill_null(is_pair, False)
    numbers = [
        pc.cast(pc.if_else(is_read, pc.replace_substring(text, ",", ""), "0"), pa.int64()).to_numpy(
            zero_copy_only=False
        )
        for text in (start, end)
    ]
    table = pd.DataFrame(
        {"contig": contig.to_numpy(zero_copy_only=False).astype(object), "start": numbers[0], "end": numbers[1]}
    )
    return table, is_read.to_numpy(zero_copy_only=False)


def _placed(features: pd.DataFrame, columns: dict[str, str], source: str) -> pd.DataFrame | None:
    """contig, start, end from columns, or None where the table lacks one of them."""
    found = [
        next((columns[name] for name in choices if name in columns), None)
        for choices in (_CONTIG_COLUMNS, _START_COLUMNS, _END_COLUMNS)
    ]
    if any(column is None for column in found):
        return None
    table = pd.DataFrame({"contig": features[found[0]].astype(str).to_numpy(object)})
    for name, column in (("start", found[1]), ("end", found[2])):
        values = pd.to_numeric(features[column].astype(object), errors="coerce").to_numpy(np.float64, na_value=np.nan)
        is_bad = ~np.isfinite(values) | (values != np.floor(values))
        if is_bad.any():
            row = int(np.flatnonzero(is_bad)[0])
            raise ValueError(
                f"{source}: the column {column!r} has {str(features[column].iloc[row])!r} for peak "
                f"{str(features.index[row])!r} (row {row + 1:,}); expected whole numbers, or names of the form "
                f"{PEAK_FORMS}"
            )
        table[name] = values.astype(np.int64)
    return table


def _checked(table: pd.DataFrame, names: pd.Index, coordinates: Coordinates, source: str) -> pd.DataFrame:
    if coordinates == "1-based":
        table["start"] -= 1
    is_bad = ((table["start"] < 0) | (table["end"] <= table["start"])).to_numpy()
    if is_bad.any():
        row = int(np.flatnonzero(is_bad)[0])
        start, end = table.loc[row, ["start", "end"]]
        counted = "read as 1-based, last base included" if coordinates == "1-based" else "read as 0-based, half-open"
        raise ValueError(
            f"{source}: {np.count_nonzero(is_bad):,} of {len(names):,} peaks begin before their contig or do not end "
            f"behind their start, the first {names[row]!r} (row {row + 1:,}), which is [{start:,}, {end:,}) when "
            f"{counted}; expected 0 <= start < end. Names are {PEAK_FORMS}"
        )
    return table.assign(name=names.to_numpy(object))[PEAK_COLUMNS]
