"""Intervals from one assembly to another by a UCSC chain file (https://genome.ucsc.edu/goldenPath/help/chain.html).

Positions are lifted by the package `liftover`. Rule: the first and the last base must both have a place, on one
contig and one strand, and the length may change by the share that `minimum_match` leaves. UCSC's liftOver counts
aligned bases instead and moves an end that has no place to the nearest base that has one, so it loses slightly
fewer intervals.
"""

import gzip
import logging
import zlib
from collections import Counter
from pathlib import Path

import pandas as pd
from liftover import ChainFile

logger = logging.getLogger(__name__)

_Place = tuple[str, int, str]  # contig, position, strand


def lift_intervals(
    intervals: pd.DataFrame, chain: str | Path, *, minimum_match: float = 0.95
) -> tuple[pd.DataFrame, dict]:
    """Lift intervals.

    Args:
        intervals: columns contig, start, end (0-based half-open, of the assembly that the chain leads from); others
            are carried along.
        chain: .chain or .chain.gz, such as hg38ToHg19.over.chain.gz. Contigs with and without `chr` are the same.
        minimum_match: the shorter of old and new length must be at least this share of the longer.

    Returns:
        The intervals that have a place, in their order, on contigs as the chain names them; and a report: how many
        were lifted, how many not and why, and the share lost.

    Raises:
        FileNotFoundError: where there is no chain file.
        ValueError: for a file that is no chain, or one that has a place for none of the intervals.
    """
    if not 0 < minimum_match <= 1:
        raise ValueError(f"minimum_match is {minimum_match}; expected a share above 0, at most 1")
    chains = open_chain(Path(chain))
    outcomes: Counter[str] = Counter()
    kept: list[int] = []
    places: list[tuple[str, int, int]] = []
    columns = (intervals[name].tolist() for name in ("contig", "start", "end"))
    for row, (contig, start, end) in enumerate(zip(*columns, strict=True)):
        found = _lift(chains.query(contig, start), chains.query(contig, end - 1), end - start, minimum_match)
        if isinstance(found, str):
            outcomes[found] += 1
        else:
            kept.append(row)
            places.append(found)
    if not kept:
        contigs = ", ".join(intervals["contig"].unique()[:5])
        raise ValueError(
            f"{chain} has a place for none of {len(intervals):,} intervals (on {contigs}): {dict(outcomes)}; it "
            f"leads from {', '.join(list(chains.keys())[:5])}. Is it the chain from the intervals' "
            "assembly to the genome's?"
        )
    lifted = intervals.iloc[kept].reset_index(drop=True)
    lifted[["contig", "start", "end"]] = pd.DataFrame(places, columns=["contig", "start", "end"])
    report = {"chain": Path(chain).name, "lifted": len(kept), "lost": dict(sorted(outcomes.items()))}
    report["share lost"] = round(1 - len(kept) / len(intervals), 6)
    logger.info("%s: %s", chain, report)
    return lifted, report


def _lift(first: list[_Place], last: list[_Place], length: int, minimum_match: float) -> tuple[str, int, int] | str:
    """The one place of an interval, or why there is none."""
    if not first or not last:
        return "an end has no place"
    pairs = [(one, other) for one in first for other in last if one[0] == other[0] and one[2] == other[2]]
    if not pairs:
        return "ends on two contigs or strands"
    spans = {(one[0], min(one[1], other[1]), max(one[1], other[1]) + 1) for one, other in pairs}
    fitting = {span for span in spans if _ratio(span[2] - span[1], length) >= minimum_match}
    if not fitting:
        return "length changed"
    return fitting.pop() if len(fitting) == 1 else "several places"


def _ratio(one: int, other: int) -> float:
    return min(one, other) / max(one, other)


def open_chain(path: Path) -> ChainFile:
    """The chains of a file, whole and not empty.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: where it is damaged, no chain file, or without a chain.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no chain file at {path}")
    _check_whole(path)
    try:
        chains = ChainFile(str(path))
    except (ValueError, RuntimeError, OSError) as error:
        raise ValueError(f"{path} is not a liftOver chain file: {error}") from error
    if not len(chains):
        raise ValueError(f"{path} is not a liftOver chain file: it holds no chain")
    return chains


def _check_whole(path: Path) -> None:
    """`liftover` reads a truncated gzip file as a shorter one."""
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return
    try:
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged or truncated: {error}") from error
