"""Intervals from BED files (BED3 and wider: narrowPeak, broadPeak) and from feature lines of GTF and GFF3.

Source: the BED specification v1 (https://github.com/samtools/hts-specs/blob/master/BEDv1.pdf). BED is 0-based and
half-open itself; GTF and GFF3 are converted. Deviation: columns are separated by tabs, never by spaces.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .annotation_formats import feature_lines, tabbed_lines
from .source_text import path_and_options

INTERVAL_COLUMNS = ["contig", "start", "end", "name", "line"]
_HEADERS = ("track", "browser")


@dataclass(frozen=True)
class BedSource:
    """Where intervals come from.

    Attributes:
        path: BED, or GTF or GFF3 (recognised by the content), plain or gzip.
        name: keep the intervals of this name only: column 4 of BED, column 3 (the feature) of GTF and GFF3.
        chain: liftOver chain file from the file's assembly to the genome's; none where they are the same.
    """

    path: str | Path
    name: str | None = None
    chain: str | Path | None = None

    @classmethod
    def from_text(cls, text: str) -> "BedSource":
        """Of `PATH[:name=NAME][:chain=PATH]`, as on the command line.

        Raises:
            ValueError: for another option than name and chain.
        """
        path, chosen = path_and_options(text, ("name", "chain"), expected="PATH[:name=NAME][:chain=PATH]")
        return cls(path, **chosen)


def beds_from_text(texts: Iterable[str]) -> dict[str, list[BedSource]]:
    """Of several `ELEMENT=PATH[:name=NAME][:chain=PATH]`; an element may come several times.

    Raises:
        ValueError: for a text without an element, and as `BedSource.from_text`.
    """
    beds: dict[str, list[BedSource]] = {}
    for text in texts:
        element, separator, source = text.partition("=")
        if not element or not separator:
            raise ValueError(f"{text!r} names no element; expected ELEMENT=PATH[:name=NAME][:chain=PATH]")
        beds.setdefault(element, []).append(BedSource.from_text(source))
    return beds


def tissue_beds_from_text(texts: Iterable[str]) -> dict[str, dict[str, BedSource]]:
    """Of several `KIND:TISSUE=PATH[:name=NAME][:chain=PATH]`, such as promoter:heart=heart.bed.gz.

    Raises:
        ValueError: for a text without kind or tissue, a tissue twice, and as `BedSource.from_text`.
    """
    beds: dict[str, dict[str, BedSource]] = {}
    for text in texts:
        names, separator, source = text.partition("=")
        kind, _, tissue = names.partition(":")
        if not kind or not tissue or not separator:
            raise ValueError(f"{text!r}: expected KIND:TISSUE=PATH[:name=NAME][:chain=PATH]")
        if tissue in beds.setdefault(kind, {}):
            raise ValueError(f"{text!r}: {kind} has a file for {tissue} already; expected one file a tissue")
        beds[kind][tissue] = BedSource.from_text(source)
    return beds


def read_bed(source: BedSource | str | Path) -> tuple[pd.DataFrame, dict]:
    """The intervals of a file, in its order and its own assembly: `chain` is not applied here.

    Returns:
        One row an interval: contig (as in the file), start, end (int64, 0-based half-open), name ("" where the file has
        none), line (from 1). And counts: intervals in the file, those of another name, those of length zero, left
        out.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: for a damaged file, a line that is not BED (named), a file without intervals, a name it lacks.
    """
    source = source if isinstance(source, BedSource) else BedSource(source)
    path = Path(source.path)
    if not path.is_file():
        raise FileNotFoundError(f"no BED file at {path}")
    rows = _feature_rows(path) if _holds_features(path) else _bed_rows(path)
    table = pd.DataFrame(rows, columns=INTERVAL_COLUMNS).astype({"start": "int64", "end": "int64"})
    if table.empty:
        raise ValueError(f"{path} is empty: it holds no interval; expected lines of contig, start and end")
    report = {"intervals in the file": len(table)}
    if source.name is not None:
        table = _of_name(path, table, source.name, report)
    is_empty = table["start"] == table["end"]
    if is_empty.any():
        report["intervals of length zero, left out"] = int(is_empty.sum())
        table = table[~is_empty]
    if table.empty:
        raise ValueError(f"{path} holds intervals of length zero only; expected start < end")
    return table.reset_index(drop=True), report


def _bed_rows(path: Path) -> Iterator[tuple[str, int, int, str, int]]:
    for number, fields in tabbed_lines(path):
        if fields[0].split(" ", 1)[0] in _HEADERS:
            continue
        try:
            start, end = int(fields[1]), int(fields[2])
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"{path}, line {number}: expected at least 3 tab-separated columns, contig, start and end, 2 and 3 "
                f"whole numbers; found {'|'.join(fields)[:80]!r}. Begin header lines with # to have them skipped"
            ) from error
        if not 0 <= start <= end:
            raise ValueError(f"{path}, line {number}: start {start:,} and end {end:,}; expected 0 <= start <= end")
        yield fields[0], start, end, fields[3] if len(fields) > 3 else "", number


def _holds_features(path: Path) -> bool:
    for _, fields in tabbed_lines(path):
        # Column 4 of BED is a name and column 3 a number; in GTF and GFF3 it is the other way round.
        return len(fields) == 9 and fields[3].isdigit() and fields[4].isdigit() and not fields[2].isdigit()
    return False


def _feature_rows(path: Path) -> Iterator[tuple[str, int, int, str, int]]:
    for number, contig, kind, start, end, _, _ in feature_lines(path):
        if not 0 <= start < end:
            raise ValueError(f"{path}, line {number}: columns 4 and 5 are {start + 1:,} and {end:,}; expected 4 <= 5")
        yield contig, start, end, kind, number


def _of_name(path: Path, table: pd.DataFrame, name: str, report: dict) -> pd.DataFrame:
    is_named = table["name"] == name
    if not is_named.any():
        names = table["name"].value_counts()
        shown = ", ".join(f"{name or 'no name'} ({count:,})" for name, count in names.head(8).items())
        raise ValueError(f"{path} holds no interval named {name!r}; it has {shown}")
    report["intervals of another name, left out"] = int((~is_named).sum())
    return table[is_named]
