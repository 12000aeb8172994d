"""What can be ranked: sequences, or regions of a genome; and what of each is scored.

A first pass over the bases finds what is wrong with them, how many are N, and which regions are too long, before the
model runs.
"""

import hashlib
import logging
import operator
import os
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from .region_tokens import TokenLimit, central_piece
from .segmentation_input import FastaFile, GenomeLike, Region, Sequences, find_region
from .segmentation_windows import count_tokens

logger = logging.getLogger(__name__)

LongRegions = Literal["error", "center"]


class NamedRegion(NamedTuple):
    """A region and its name, "" where it has none."""

    region: Region
    name: str


class ScoredParts(NamedTuple):
    """What of each region is scored.

    Attributes:
        starts, ends: (regions,) int64; the whole region but where it is too long.
        n_unknown: (regions,) int64, N among these bases; all of them where there is nothing to score.
        same_as: (regions,) int64, the first region that has the same sequence: itself where it is the first.
    """

    starts: np.ndarray
    ends: np.ndarray
    n_unknown: np.ndarray
    same_as: np.ndarray


def open_genome_like(genome: Any) -> tuple[GenomeLike, str]:
    """A genome, and how to call it in messages.

    Args:
        genome: path of a FASTA file, not compressed, or what the package's `open_genome` returns.

    Raises:
        FileNotFoundError, ValueError: naming what was found.
    """
    if isinstance(genome, str | os.PathLike):
        return FastaFile(genome), str(genome)
    if all(hasattr(genome, name) for name in ("fetch", "contigs", "starts")):
        return genome, str(getattr(genome, "path", "the genome"))
    raise ValueError(
        f"genome is of type {type(genome).__name__}: give the path of a FASTA file, or an object that has "
        "fetch(contig, start, end), contigs and starts"
    )


def read_regions(regions: Any, genome: Any) -> tuple[GenomeLike, list[NamedRegion]]:
    """The regions that are meant, checked against their genome.

    Args:
        regions: without a genome, sequences (str or bytes), or one. With one, a list whose members are
            `chr20:1,001-1,500` (1-based, both positions included), a contig's name, or (contig, start, end[, name])
            with 0-based, half-open coordinates; or a data frame with these columns.
        genome: as `open_genome_like` takes it, or None.

    Raises:
        ValueError: for no region at all, members that are none, unknown contigs, and regions beyond them, with the
            region's number.
    """
    members = _members(regions)
    if not members:
        raise ValueError("there is no region to rank: give at least one")
    if genome is None:
        sequences = Sequences(dict(_numbered_sequences(members)))
        return sequences, [NamedRegion(Region(name, 0, end), "") for name, end in sequences.contigs.items()]
    opened, source = open_genome_like(genome)
    return opened, [_named_region(opened, member, number, source) for number, member in enumerate(members, start=1)]


def fit_regions(
    genome: GenomeLike, regions: Sequence[NamedRegion], limit: TokenLimit, *, long_regions: LongRegions
) -> ScoredParts:
    """Read all regions once, and find what of them is scored.

    Args:
        genome: with the regions.
        regions: of `read_regions`.
        limit: of the model.
        long_regions: "error", or "center": score the piece in the middle.

    Raises:
        ValueError: for letters that are not DNA, and regions that are too long where that is an error.
    """
    if long_regions not in get_args(LongRegions):
        raise ValueError(f"long_regions is {long_regions!r}; expected {' or '.join(get_args(LongRegions))}")
    rows = np.empty((4, len(regions)), dtype=np.int64)
    too_long: list[tuple[NamedRegion, int]] = []
    first_of: dict[bytes, int] = {}
    for number, named in enumerate(regions):
        start, bases = _middle(genome, named.region, limit)
        is_unknown = not bases.strip(b"N")  # and needs not fit, as it is not scored
        first, last = (0, len(bases)) if is_unknown else central_piece(bases, limit)
        if last - first < named.region.end - named.region.start:
            too_long.append((named, max(count_tokens(bases, limit.kmer_size), _fewest_tokens(named.region, limit))))
        piece = bases[first:last]
        same_as = first_of.setdefault(hashlib.blake2b(piece, digest_size=16).digest(), number)
        rows[:, number] = start + first, start + last, piece.count(b"N"), same_as
    if too_long and long_regions == "error":
        raise _too_long(too_long, len(regions), limit)
    if too_long:
        logger.warning(
            "%d of %d regions are longer than the model takes: their middle is scored", *map(len, (too_long, regions))
        )
    return ScoredParts(*rows)


def _members(regions: Any) -> list[Any]:
    if isinstance(regions, os.PathLike):
        raise ValueError(
            f"regions is the path {regions}: give the intervals themselves, e.g. of pandas.read_csv, or use "
            "`omics-transformers rank --bed`"
        )
    if isinstance(regions, str | bytes):
        return [regions]
    if hasattr(regions, "columns"):
        return _rows_of_frame(regions)
    if not isinstance(regions, Iterable):
        raise ValueError(f"regions is of type {type(regions).__name__}: give a list of sequences or of regions")
    return list(regions)


def _rows_of_frame(frame: Any) -> list[Any]:
    lacking = [name for name in ("contig", "start", "end") if name not in frame]
    if lacking:
        raise ValueError(
            f"the data frame of regions has no column {', '.join(lacking)}; expected contig, start, end (0-based, "
            f"half-open) and perhaps name, found {', '.join(map(str, frame.columns))}"
        )
    columns = ["contig", "start", "end", *(["name"] if "name" in frame else [])]
    return list(frame[columns].itertuples(index=False, name=None))


def _numbered_sequences(members: Sequence[Any]) -> Iterable[tuple[str, str | bytes]]:
    for number, member in enumerate(members, start=1):
        if not isinstance(member, str | bytes) or (isinstance(member, str) and ":" in member):
            raise ValueError(
                f"region {number} is {member!r:.80}, which is no sequence: a region of a genome needs genome=, the "
                "path of a FASTA file or an opened genome"
            )
        yield f"sequence_{number}", member


def _named_region(genome: GenomeLike, member: Any, number: int, source: str) -> NamedRegion:
    region, name = (member, "") if isinstance(member, str) else _interval(member, number)
    try:
        return NamedRegion(find_region(genome, region, source), name)
    except ValueError as error:
        raise ValueError(f"region {number}: {error}") from error


def _interval(member: Any, number: int) -> tuple[Region, str]:
    try:
        contig, start, end, *names = member
        (name,) = names or [""]
        region = Region(str(contig), operator.index(start), operator.index(end))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"region {number} is {member!r:.80}: expected (contig, start, end) or (contig, start, end, name), start "
            "and end whole numbers, 0-based, half-open, or text such as chr20:1,001-1,500 (1-based)"
        ) from error
    return region, name if isinstance(name, str) else ""  # NaN where a data frame has none


def _middle(genome: GenomeLike, region: Region, limit: TokenLimit) -> tuple[int, bytes]:
    """The bases that can be scored at all: of a region of any length, no more than the model takes."""
    length = min(region.end - region.start, limit.longest_bp)
    start = region.start + (region.end - region.start - length) // 2
    return start, genome.fetch(region.contig, start, start + length)


def _fewest_tokens(region: Region, limit: TokenLimit) -> int:
    return -(-(region.end - region.start) // limit.kmer_size) + 1


def _too_long(too_long: Sequence[tuple[NamedRegion, int]], n_regions: int, limit: TokenLimit) -> ValueError:
    (region, name), n_tokens = too_long[0]
    return ValueError(
        f"{len(too_long):,} of {n_regions:,} regions have more tokens than the model takes, first {region}"
        + (f" ({name})" if name else "")
        + f", {n_tokens:,} or more, where it takes {limit.num_tokens:,}: {limit.longest_bp:,} bp without N. Cut them "
        'shorter, or score the piece in their middle with long_regions="center" (--long-regions center)'
    )
