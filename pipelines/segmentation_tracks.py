"""Files that genome browsers read: one bigWig an element through pybigtools, called segments as BED.

bigWig: Kent et al. 2010 (https://doi.org/10.1093/bioinformatics/btq351); BED:
https://samtools.github.io/hts-specs/BEDv1.pdf. Neighbouring bases of equal value share an interval, so rounding
makes files smaller; bases without a value (N) are in none. Both are written piece by piece, in bounded memory.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# Of Okabe and Ito first, then others that keep apart on white, in the order of elements.
COLOURS = (
    "#0072b2",
    "#999999",
    "#d55e00",
    "#56b4e9",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#882255",
    "#117733",
    "#aa4499",
    "#b8860b",
    "#ddcc77",
    "#c0392b",
    "#f1948a",
)
LARGEST_NUMBER_OF_DECIMALS = 6

Interval = tuple[str, int, int, float]  # contig, start, end, value


class TrackPiece(NamedTuple):
    """Values of neighbouring bases: contig, 0-based start, (bases,) float32 with NaN where there is none."""

    contig: str
    start: int
    values: np.ndarray


def write_bigwig(path: str | os.PathLike[str], contigs: Mapping[str, int], pieces: Iterable[TrackPiece]) -> None:
    """Write one track; the file is there whole or not at all.

    Args:
        path: of the file to write.
        contigs: name -> length in bp, of the assembly.
        pieces: values in the order of `contigs`, ascending and not overlapping within a contig.

    Raises:
        ValueError: where there is no value at all: the format has no empty files; or where pybigtools refuses them.
        ImportError: where pybigtools is not installed.
    """
    pybigtools = _import_pybigtools()
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part.bw")  # pybigtools asks for this ending
    n_values = 0

    def intervals_of_pieces() -> Iterator[Iterator[Interval]]:
        nonlocal n_values
        for piece in pieces:
            n_values += int((~np.isnan(piece.values)).sum())
            yield _intervals(piece)

    watched = _Watched(intervals_of_pieces())
    intervals = chain.from_iterable(watched)
    first = next(intervals, None)
    if watched.error is not None:
        raise watched.error
    if first is None:
        raise ValueError(f"{path}: all bases are N, and a bigWig cannot be empty: segment sequence with A, C, G or T")
    try:
        pybigtools.open(str(partial), "w").write(dict(contigs), chain([first], intervals))
        if watched.error is not None:
            raise watched.error
        _require_bases(partial, n_values)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_bigwig(path: str | os.PathLike[str], contig: str, start: int, end: int) -> np.ndarray:
    """(bases,) float32 of [start, end), NaN where there is no value."""
    pybigtools = _import_pybigtools()
    with pybigtools.open(str(path)) as reader:
        return reader.values(contig, start, end, fillna=None).astype(np.float32)


def run_starts(values: np.ndarray) -> np.ndarray:
    """(runs,) int64: where runs of equal values begin; NaN counts as one value."""
    if not len(values):
        return np.empty(0, dtype=np.int64)
    numbers, is_known = np.nan_to_num(values), ~np.isnan(values)  # NaN is not equal to itself
    changes = (numbers[1:] != numbers[:-1]) | (is_known[1:] != is_known[:-1])
    return np.flatnonzero(np.concatenate(([True], changes)))


def rounded(probabilities: np.ndarray, decimals: int | None) -> np.ndarray:
    """float32 with this many decimals; as they are where None."""
    if decimals is None:
        return probabilities
    scale = 10.0**decimals
    scaled = np.multiply(probabilities, scale, dtype=np.float64)
    np.rint(scaled, out=scaled)
    return np.divide(scaled, scale, out=np.empty(scaled.shape, np.float32), casting="same_kind")


def require_decimals(decimals: int | None) -> None:
    """Raise ValueError for decimals that float32 does not have."""
    if decimals is not None and not 1 <= decimals <= LARGEST_NUMBER_OF_DECIMALS:
        raise ValueError(f"decimals is {decimals}: expected 1 to {LARGEST_NUMBER_OF_DECIMALS}, or None for no rounding")


def track_names(elements: Sequence[str]) -> list[str]:
    """Names of the elements' bigWigs; characters that file systems may refuse become underscores.

    Raises:
        ValueError: where two elements would share a file.
    """
    names = [re.sub(r"[^\w.+-]", "_", element) + ".bw" for element in elements]
    folded = [name.lower() for name in names]
    twice = sorted({elements[place] for place, name in enumerate(folded) if folded.count(name) > 1})
    if twice:
        raise ValueError(f"the elements {', '.join(twice)} would share a file: rename them in the model's id2label")
    return names


def bed_line(contig: str, start: int, end: int, element: str, mean: float, colour: str) -> str:
    """A line of BED9: the score is the mean probability x 1,000; strand "." since the elements carry none."""
    red_green_blue = ",".join(str(int(colour[place : place + 2], 16)) for place in (1, 3, 5))
    name = re.sub(r"\s", "_", element)
    return f"{contig}\t{start}\t{end}\t{name}\t{round(1000 * mean)}\t.\t{start}\t{end}\t{red_green_blue}\n"


def colours_of(elements: Sequence[str]) -> dict[str, str]:
    """A colour for each element, the same in BED files and figures."""
    return {element: COLOURS[number % len(COLOURS)] for number, element in enumerate(elements)}


def _intervals(piece: TrackPiece) -> Iterator[Interval]:
    """(contig, start, end, value) of the piece's runs of equal values."""
    begins = run_starts(piece.values)
    ends = np.append(begins[1:], len(piece.values))[: len(begins)]
    known = ~np.isnan(piece.values[begins])
    starts, ends = begins[known] + piece.start, ends[known] + piece.start
    return zip(repeat(piece.contig), starts.tolist(), ends.tolist(), piece.values[begins[known]].tolist(), strict=False)


class _Watched:
    """Iterates over something and keeps its error: pybigtools prints errors of its input and goes on as if at an end.

    Ctrl-C is among them.
    """

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = iter(items)
        self.error: BaseException | None = None

    def __iter__(self) -> "_Watched":
        return self

    def __next__(self) -> Any:
        if self.error is not None:
            raise StopIteration
        try:
            return next(self._items)
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            raise StopIteration from None


def _require_bases(path: Path, n_values: int) -> None:
    """pybigtools prints its errors too, and returns."""
    pybigtools = _import_pybigtools()
    try:
        with pybigtools.open(str(path)) as reader:
            found = reader.info()["summary"]["basesCovered"]
    except pybigtools.BBIReadError as error:
        raise OSError(
            f"{path} could not be written: is the disk full, or a value beyond the contig's length? The message of "
            "pybigtools is above"
        ) from error
    if found != n_values:
        raise OSError(f"{path} has {found:,} of {n_values:,} values: the message of pybigtools is above")


def _import_pybigtools() -> Any:
    try:
        import pybigtools
    except ImportError as error:
        raise ImportError("bigWig files are written through pybigtools: pip install pybigtools") from error
    return pybigtools
