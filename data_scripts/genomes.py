"""Random access to the sequence of a genome in a FASTA file: plain, gzip or BGZF, whatever its contigs are called.

Reading goes through pyfaidx. Compressed files are decompressed once to a temporary folder, or to a cache that outlives
the process; an index is never written beside the input, which may be read-only.
"""

import contextlib
import gzip
import hashlib
import logging
import os
import re
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyfaidx

logger = logging.getLogger(__name__)

_BASES = np.full(256, ord("!"), dtype=np.uint8)  # "!" marks what is no letter of DNA
for _letter in "ACGTN":
    _BASES[[ord(_letter), ord(_letter.lower())]] = ord(_letter)
for _letter in "RYSWKMBDHV":
    _BASES[[ord(_letter), ord(_letter.lower())]] = ord("?")  # two or three bases are possible: becomes N
_COMPLEMENT = bytes.maketrans(b"ACGTN", b"TGCAN")
_REGION = re.compile(r":\d+-\d+$")  # how samtools and UCSC name a cut-out piece: chr22:20000001-21000000


def open_genome(
    fasta: str | Path, *, offsets: Mapping[str, int] | None = None, cache_folder: str | Path | None = None
) -> "Genome":
    """Open a FASTA file.

    Args:
        fasta: plain, gzip or BGZF.
        offsets: for contigs of which the file holds a piece only, the 0-based coordinate of the piece's first base,
            e.g. {"22": 20_000_000}. A name such as `22:20000001-21000000` then counts as 22.
        cache_folder: where decompressed sequence and index are kept for the next time; a temporary folder by default.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is not a FASTA file, is cut short, or holds two contigs of one name.
    """
    fasta = Path(fasta)
    if not fasta.is_file():
        raise FileNotFoundError(f"no FASTA file at {fasta}")
    if cache_folder is None:
        folder = Path(tempfile.mkdtemp(prefix="genome-"))
    else:
        folder = Path(cache_folder) / _fingerprint(fasta)
        folder.mkdir(parents=True, exist_ok=True)
    try:
        return Genome(fasta, folder, dict(offsets or {}), is_temporary=cache_folder is None)
    except BaseException:
        if cache_folder is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise


class Genome:
    """The contigs of a FASTA file. Coordinates are 0-based, half-open.

    Attributes:
        contigs: name of each contig -> the coordinate behind its last base.
        starts: name of each contig -> the coordinate of its first base: 0 unless given an offset.
        ambiguous_letters: name of each contig -> how many of the distinct bases fetched are IUPAC letters such as R or
            Y in the file; they are read as N.
    """

    contigs: dict[str, int]
    starts: dict[str, int]
    ambiguous_letters: dict[str, int]

    def __init__(self, fasta: Path, folder: Path, offsets: dict[str, int], *, is_temporary: bool) -> None:
        self.path = fasta
        self._folder = folder
        self._fasta = _open_indexed(fasta, folder)
        self._finalizer = weakref.finalize(self, _close, self._fasta, folder if is_temporary else None)
        self._records = self._name_contigs(offsets)
        self.starts = {name: offsets.get(name, 0) for name in self._records}
        self.contigs = {name: self.starts[name] + len(self._fasta[record]) for name, record in self._records.items()}
        self._by_alias: dict[str, list[str]] = {}
        for name in self._records:
            self._by_alias.setdefault(contig_alias(name), []).append(name)
        self._ambiguous: dict[str, set[int]] = {}
        self.ambiguous_letters = {}

    def close(self) -> None:
        """Close the file and remove the temporary folder; also done when the object goes away."""
        self._finalizer()

    def __enter__(self) -> "Genome":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def find(self, contig: str) -> str | None:
        """The file's name for a contig (`chr20` and `20`, `chrM` and `MT` are the same), or None."""
        if contig in self.contigs:
            return contig
        names = self._by_alias.get(contig_alias(contig), [])
        if len(names) > 1:
            raise ValueError(f"{self.path} holds both {' and '.join(names)}: which of them is {contig}?")
        return names[0] if names else None

    def resolve(self, contig: str) -> str:
        """As `find`, and a ValueError that names the contigs there are where it finds none."""
        name = self.find(contig)
        if name is None:
            raise ValueError(
                f"no contig {contig!r} in {self.path}, which has {_shown(list(self.contigs))}. A piece of a contig "
                'needs its offset, e.g. offsets={"22": 20_000_000}'
            )
        return name

    def fetch(self, contig: str, start: int, end: int, *, pad: bool = False) -> bytes:
        """The bases of [start, end): upper-case ACGTN.

        Args:
            contig: any of its names.
            start, end: 0-based, half-open.
            pad: fill with N what lies outside the contig, where otherwise there is an error.

        Raises:
            ValueError: for an unknown contig, a range outside it, or letters that are not DNA.
        """
        name = self.resolve(contig)
        first, last = self.starts[name], self.contigs[name]
        if end < start or (not pad and (start < first or end > last)):
            raise ValueError(f"{name}:{start:,}-{end:,} is not within the contig, which spans {first:,}-{last:,}")
        inner_start, inner_end = min(max(start, first), last), max(min(end, last), first)
        if inner_end <= inner_start:
            return b"N" * (end - start)
        record = self._fasta[self._records[name]]
        bases = self._clean(name, inner_start, str(record[inner_start - first : inner_end - first]))
        return b"N" * (inner_start - start) + bases + b"N" * (end - inner_end)

    def _clean(self, name: str, start: int, text: str) -> bytes:
        letters = np.frombuffer(text.encode("latin-1", "replace"), dtype=np.uint8)
        bases = _BASES[letters]
        if (bases < ord("A")).any():  # "!" and "?" come before the letters
            bad = np.flatnonzero(bases == ord("!"))
            if len(bad):
                raise ValueError(
                    f"{self.path}: the letter {text[bad[0]]!r} at {name}:{start + bad[0] + 1:,} (1-based) is not DNA; "
                    "expected ACGTN or an IUPAC letter, upper or lower case"
                )
            ambiguous = np.flatnonzero(bases == ord("?"))
            bases[ambiguous] = ord("N")
            self._count_ambiguous(name, start + ambiguous)
        return bases.tobytes()

    def _count_ambiguous(self, name: str, positions: np.ndarray) -> None:
        if name not in self._ambiguous:
            logger.warning(
                "%s: IUPAC letters on contig %s, the first at %d, become N", self.path, name, positions[0] + 1
            )
        self._ambiguous.setdefault(name, set()).update(positions.tolist())
        self.ambiguous_letters[name] = len(self._ambiguous[name])

    def _name_contigs(self, offsets: dict[str, int]) -> dict[str, str]:
        """Contig name -> record of the file, with the offsets' names for pieces."""
        records = {}
        for record in self._fasta.keys():  # noqa: SIM118, not a dict
            piece_of = _REGION.sub("", record)
            matches = [name for name in offsets if contig_alias(name) in (contig_alias(piece_of), contig_alias(record))]
            records[matches[0] if matches else record] = record
        unused = [name for name in offsets if name not in records]
        if unused:
            raise ValueError(f"offsets name {_shown(unused)}; {self.path} has {_shown(list(self._fasta.keys()))}")
        return records


def reverse_complement(bases: bytes) -> bytes:
    """Of upper-case ACGTN."""
    return bases.translate(_COMPLEMENT)[::-1]


def contig_alias(name: str) -> str:
    """What the names of one contig have in common: chr20, Chr20, 20 and NC_000020.11 (human) -> 20; chrM, MT -> M."""
    human = re.fullmatch(r"NC_0000(\d\d)\.\d+", name)
    if human and 1 <= int(human[1]) <= 24:
        return {23: "X", 24: "Y"}.get(int(human[1]), str(int(human[1])))
    if re.fullmatch(r"NC_012920\.\d+", name):
        return "M"
    short = re.sub(r"^chr", "", name, flags=re.IGNORECASE)
    return "M" if short in ("MT", "Mt", "mt") else short


def _open_indexed(fasta: Path, folder: Path) -> pyfaidx.Fasta:
    plain = _decompress(fasta, folder) if _is_gzip(fasta) else fasta
    index = folder / "genome.fai"
    with contextlib.suppress(OSError):
        beside = fasta.with_name(fasta.name + ".fai")
        if plain is fasta and not index.exists() and beside.stat().st_mtime >= fasta.stat().st_mtime:
            shutil.copyfile(beside, index)
    try:
        genome = pyfaidx.Fasta(str(plain), indexname=str(index), as_raw=True)
    except (pyfaidx.FastaIndexingError, pyfaidx.FastaNotFoundError, ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{fasta} is not a FASTA file that can be indexed: {error}") from error
    if not genome.keys():
        raise ValueError(f"{fasta} holds no sequence: expected lines `>name` followed by bases")
    return genome


def _decompress(fasta: Path, folder: Path) -> Path:
    """BGZF is a kind of gzip; both are read from front to back, in pieces."""
    plain = folder / "genome.fa"
    if plain.exists():
        return plain
    logger.info("decompressing %s to %s", fasta, plain)
    partial = folder / f"genome.fa.{os.getpid()}.part"
    try:
        with gzip.open(fasta) as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        partial.unlink(missing_ok=True)
        raise ValueError(f"{fasta} is a damaged or truncated gzip file: {error}") from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(plain)
    return plain


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _fingerprint(path: Path) -> str:
    """Changes with the file's place, size and time."""
    status = path.stat()
    text = f"{path.resolve()}\n{status.st_size}\n{status.st_mtime_ns}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _close(fasta: pyfaidx.Fasta, folder: Path | None) -> None:
    fasta.close()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _shown(names: list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f", ... ({len(names) - limit:,} more)" if len(names) > limit else "")
