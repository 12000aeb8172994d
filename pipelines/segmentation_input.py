"""What can be segmented: a sequence, a contig of an opened genome, or a FASTA file, read through one small interface.

Regions are written as genome browsers write them, contig:first-last with 1-based positions, both included; inside they
are 0-based, half-open.
"""

import hashlib
import logging
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from .segmentation_windows import N, Stretch, find_stretches

logger = logging.getLogger(__name__)

SEQUENCE_NAME = "sequence"
_CHUNK_BP = 1 << 22
_IUPAC = b"RYSWKMBDHV"
_TO_DNA = bytes.maketrans(b"U" + _IUPAC, b"T" + b"N" * len(_IUPAC))
_COMPLEMENT = bytes.maketrans(b"ACGTN", b"TGCAN")
_POSITION = r"[1-9]\d*|[1-9]\d{0,2}(?:,\d{3})+"
_REGION = re.compile(rf"(?P<contig>.+):(?P<first>{_POSITION})-(?P<last>{_POSITION})")


class GenomeLike(Protocol):
    """What is asked of a genome; `data_scripts.genomes.Genome` has it.

    Attributes:
        contigs: name -> the coordinate behind the contig's last base.
        starts: name -> the coordinate of its first base, 0 but for pieces of contigs.
    """

    @property
    def contigs(self) -> Mapping[str, int]: ...

    @property
    def starts(self) -> Mapping[str, int]: ...

    def fetch(self, contig: str, start: int, end: int) -> bytes:
        """The bases of [start, end), upper-case ACGTN."""


class Region(NamedTuple):
    """Part of a contig, 0-based, half-open."""

    contig: str
    start: int
    end: int

    def __str__(self) -> str:
        """As genome browsers write it."""
        return f"{self.contig}:{self.start + 1:,}-{self.end:,}"


class RegionScan(NamedTuple):
    """What one pass over a region's bases finds: its stretches, how many bases are N, and a hash of all bases."""

    stretches: list[Stretch]
    n_unknown: int
    sha256: str


class Sequences:
    """Sequences as a genome with a contig each.

    Args:
        sequences: name -> (bases,) letters of DNA in any case; U is read as T, and IUPAC letters such as R as N, as the
            tokenizer reads them.

    Raises:
        ValueError: where one is empty, or naming the first letter that is not DNA and its 1-based position.
    """

    def __init__(self, sequences: Mapping[str, str | bytes]) -> None:
        self._sequences = {name: clean_sequence(sequence, name) for name, sequence in sequences.items()}
        for name, sequence in sequences.items():
            _warn_of_ambiguous(sequence, name)
        self.contigs: dict[str, int] = {name: len(sequence) for name, sequence in self._sequences.items()}
        self.starts: dict[str, int] = dict.fromkeys(self.contigs, 0)

    def fetch(self, contig: str, start: int, end: int) -> bytes:
        """The bases of [start, end), upper-case ACGTN."""
        return self._sequences[contig][start:end]


class FastaFile:
    """A FASTA file, not compressed, through pyfaidx, for processes without this package.

    The index is kept in a temporary folder, never beside the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            import pyfaidx
        except ImportError as error:
            raise ImportError("FASTA files are read through pyfaidx: pip install pyfaidx") from error
        self._path = Path(path)
        if not self._path.is_file():
            raise FileNotFoundError(f"no FASTA file at {self._path}")
        if _is_gzip(self._path):
            raise ValueError(
                f"{self._path} is compressed: decompress it (gunzip), or open it with the package's open_genome and "
                "give the genome"
            )
        folder = tempfile.mkdtemp(prefix="fasta-")
        self._finalizer = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        try:
            self._fasta = pyfaidx.Fasta(str(self._path), indexname=str(Path(folder) / "index.fai"), as_raw=True)
        except (pyfaidx.FastaIndexingError, ValueError) as error:
            raise ValueError(f"{self._path} is not a FASTA file that can be indexed: {error}") from error
        weakref.finalize(self, self._fasta.close)
        if not self._fasta.keys():
            raise ValueError(f"{self._path} holds no sequence: expected lines `>name` followed by bases")
        self.contigs: dict[str, int] = {name: len(record) for name, record in self._fasta.items()}
        self.starts: dict[str, int] = dict.fromkeys(self.contigs, 0)
        self._with_ambiguous: set[str] = set()

    def resolve(self, contig: str) -> str:
        """The name itself; a ValueError that names the contigs there are where it is none of them."""
        return find_contig(self, contig, str(self._path))

    def fetch(self, contig: str, start: int, end: int, *, pad: bool = False) -> bytes:
        """The bases of [start, end), upper-case ACGTN; with `pad` N where that lies outside the contig."""
        if pad:
            last = self.contigs[self.resolve(contig)]
            inner_start, inner_end = min(max(start, 0), last), max(min(end, last), 0)
            inner = self.fetch(contig, inner_start, max(inner_start, inner_end))
            front = min(max(-start, 0), end - start)
            return b"N" * front + inner + b"N" * (end - start - front - len(inner))
        if start == end:
            return b""
        letters = str(self._fasta[contig][start:end])
        name = f"{self._path}, {contig}"
        if contig not in self._with_ambiguous and _warn_of_ambiguous(letters, name, start):
            self._with_ambiguous.add(contig)
        return clean_sequence(letters, name, start)


def open_input(inputs: Any) -> tuple[GenomeLike, str]:
    """A genome, and how to call it in messages.

    Args:
        inputs: a sequence (str or bytes), a list of them, the path of a FASTA file (a path object, or text with a dot
            or a slash, which no sequence has), or a genome as `GenomeLike`.

    Raises:
        FileNotFoundError, ValueError: naming what was found.
    """
    if isinstance(inputs, os.PathLike) or (isinstance(inputs, str) and re.search(r"[./\\]", inputs)):
        return FastaFile(inputs), str(inputs)
    if isinstance(inputs, str | bytes):
        return Sequences({SEQUENCE_NAME: inputs}), "the sequence"
    if isinstance(inputs, list | tuple):
        if not inputs or not all(isinstance(sequence, str | bytes) for sequence in inputs):
            raise ValueError(
                f"a {type(inputs).__name__} of {sorted({type(item).__name__ for item in inputs}) or 'nothing'} cannot "
                "be segmented: give a list of sequences, str or bytes each"
            )
        named = {f"{SEQUENCE_NAME}_{number}": sequence for number, sequence in enumerate(inputs, start=1)}
        return Sequences(named), "the sequences"
    if all(hasattr(inputs, name) for name in ("fetch", "contigs", "starts")):
        return inputs, str(getattr(inputs, "path", "the genome"))
    raise ValueError(
        f"input of type {type(inputs).__name__} cannot be segmented: give a sequence (str or bytes), the path of "
        "a FASTA file, or a genome that has fetch(contig, start, end), contigs and starts"
    )


def find_region(genome: GenomeLike, region: str | Region | None, source: str) -> Region:
    """The region that is meant, checked against the genome.

    Args:
        genome: as `open_input` returns it.
        region: `chr20:1,000-2,000` (1-based, both positions included; with or without commas), a contig's name for all
            of it, or None for the only contig.
        source: what to call the genome in messages.

    Raises:
        ValueError: for text that is neither, an unknown contig, positions the wrong way round, or beyond the contig.
    """
    if region is None:
        if len(genome.contigs) > 1:
            raise ValueError(
                f"{source} has {len(genome.contigs):,} contigs ({_shown(list(genome.contigs))}): name one of them, or "
                'a part as in region="chr20:1,000-2,000"'
            )
        region = next(iter(genome.contigs))
    if isinstance(region, Region):
        contig, start, end = find_contig(genome, region.contig, source), region.start, region.end
    elif (name := _find_contig(genome, region)) is not None:
        return Region(name, genome.starts[name], genome.contigs[name])
    else:
        contig, start, end = _parse_region(genome, region, source)
    first, last = genome.starts[contig], genome.contigs[contig]
    if not first <= start < end <= last:
        raise ValueError(
            f"the region {Region(contig, start, end)} is not within {Region(contig, first, last)}, all that {source} "
            "has of that contig"
        )
    return Region(contig, start, end)


def find_contig(genome: GenomeLike, contig: str, source: str) -> str:
    """The genome's own name of a contig; a ValueError that names those there are where it has none."""
    name = _find_contig(genome, contig)
    if name is None:
        raise ValueError(f"no contig {contig!r} in {source}, which has {_shown(list(genome.contigs))}")
    return name


def scan_region(genome: GenomeLike, region: Region, *, split_at_n: int) -> RegionScan:
    """Read a region once, in chunks, and find its stretches.

    Args:
        genome: with the region.
        region: what to read.
        split_at_n: as `find_stretches`.

    Raises:
        ValueError: naming the place of the first letter that is not DNA.
    """
    digest = hashlib.sha256()
    n_unknown = 0

    def chunks() -> Iterator[bytes]:
        nonlocal n_unknown
        for start in range(region.start, region.end, _CHUNK_BP):
            chunk = genome.fetch(region.contig, start, min(start + _CHUNK_BP, region.end))
            digest.update(chunk)
            n_unknown += int((np.frombuffer(chunk, dtype=np.uint8) == N).sum())
            yield chunk

    stretches = list(find_stretches(chunks(), region.contig, region.start, split_at_n=split_at_n))
    return RegionScan(stretches, n_unknown, digest.hexdigest())


def clean_sequence(sequence: str | bytes, name: str, start: int = 0) -> bytes:
    """Upper-case ACGTN of a sequence; U becomes T, IUPAC letters become N.

    Args:
        sequence: letters in any case.
        name: of the sequence, for messages.
        start: where it begins, for messages.

    Raises:
        ValueError: where it is empty, or naming the first letter that is not DNA and its 1-based position.
    """
    raw = sequence.encode("latin-1", "replace") if isinstance(sequence, str) else bytes(sequence)
    if not raw:
        raise ValueError(f"{name} is empty: give at least one base")
    bases = raw.upper().translate(_TO_DNA)
    wrong = np.flatnonzero(~_IS_BASE[np.frombuffer(bases, dtype=np.uint8)])
    if len(wrong):
        found = sequence[wrong[0]] if isinstance(sequence, str) else chr(raw[wrong[0]])
        raise ValueError(
            f"{name}: the letter {found!r} at position {start + wrong[0] + 1:,} (1-based) is not DNA"
            + (f", nor are {len(wrong) - 1:,} others" if len(wrong) > 1 else "")
            + "; expected ACGTN, U or an IUPAC letter, upper or lower case"
        )
    return bases


def reverse_complement(bases: bytes) -> bytes:
    """Of upper-case ACGTN."""
    return bases.translate(_COMPLEMENT)[::-1]


_IS_BASE = np.zeros(256, dtype=bool)
_IS_BASE[list(b"ACGTN")] = True


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _warn_of_ambiguous(sequence: str | bytes, name: str, start: int = 0) -> bool:
    raw = sequence.encode("latin-1", "replace") if isinstance(sequence, str) else sequence
    found = np.isin(np.frombuffer(raw.upper(), dtype=np.uint8), np.frombuffer(_IUPAC, dtype=np.uint8))
    if found.any():
        first = start + int(found.argmax()) + 1
        logger.warning("%s: IUPAC letters become N, the first at position %d (1-based)", name, first)
    return bool(found.any())


def _find_contig(genome: GenomeLike, contig: str) -> str | None:
    """Genomes may know aliases (20 for chr20) through a method `find`."""
    if contig in genome.contigs:
        return contig
    find = getattr(genome, "find", None)
    return None if find is None else find(contig)


def _parse_region(genome: GenomeLike, text: str, source: str) -> Region:
    match = _REGION.fullmatch(text)
    if match is None:
        if ":" not in text:
            find_contig(genome, text, source)
        raise ValueError(
            f"{text!r} is no region: expected contig:first-last with 1-based positions, both included, such as "
            "chr20:1,000-2,000, or the name of a contig alone"
        )
    contig = find_contig(genome, match["contig"], source)
    first, last = (int(match[name].replace(",", "")) for name in ("first", "last"))
    if first > last:
        raise ValueError(f"the region {text!r} begins at {first:,}, behind its end {last:,}: swap the two")
    return Region(contig, first - 1, last)


def _shown(names: list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f", ... ({len(names) - limit:,} more)" if len(names) > limit else "")
