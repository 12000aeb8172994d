"""Variants, the windows of the genome around them with either allele, and which bases of the two correspond.

Coordinates are 0-based, half-open; `chr:position:REF>ALT` and rows of a VCF are 1-based, as the VCF specification has
it (https://samtools.github.io/hts-specs/VCFv4.3.pdf). Alleles are taken where they are written, not left-aligned.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

logger = logging.getLogger(__name__)

_WRITTEN = re.compile(r"(?P<contig>.+):(?P<position>[\d,]+):(?P<reference>[A-Za-z]+)>(?P<alternative>[A-Za-z]+)")
_SEQUENCE = re.compile(r"[ACGT]+")


@dataclass(frozen=True)
class Variant:
    """One alternative allele.

    Attributes:
        contig: as the user names it.
        start: 0-based coordinate of the reference allele's first base.
        reference, alternative: upper-case ACGT, at least one base each, as in a VCF.
        name: e.g. an rs number; "" where there is none.

    Raises:
        ValueError: on other letters, an empty allele, or a coordinate below 0.
    """

    contig: str
    start: int
    reference: str
    alternative: str
    name: str = ""

    def __post_init__(self) -> None:
        for which, allele in (("reference", self.reference), ("alternative", self.alternative)):
            if not _SEQUENCE.fullmatch(allele):
                raise ValueError(
                    f"{self}: the {which} allele is {allele!r}; expected A, C, G and T. An insertion or deletion is "
                    "written with the base in front of it, as in a VCF"
                )
        if self.start < 0:
            raise ValueError(f"{self}: positions begin with 1")

    def __str__(self) -> str:
        """`chr:position:REF>ALT`, 1-based."""
        return f"{self.contig}:{self.start + 1}:{self.reference}>{self.alternative}"

    @property
    def end(self) -> int:
        """Coordinate behind the reference allele."""
        return self.start + len(self.reference)

    def edit(self) -> tuple[int, str, str]:
        """(coordinate, bases removed, bases put there) without the bases that both alleles share at their ends.

        Shared bases at the end are taken off first, then those in front: A>AG is an insertion of G behind A.
        """
        reference, alternative = self.reference, self.alternative
        shared = _shared_length(reference[::-1], alternative[::-1])
        reference, alternative = reference[: len(reference) - shared], alternative[: len(alternative) - shared]
        shared = _shared_length(reference, alternative)
        return self.start + shared, reference[shared:], alternative[shared:]


class VariantRows(NamedTuple):
    """Variants of a VCF's rows, and how many alternative alleles were left out, by reason."""

    variants: list[Variant]
    left_out: dict[str, int]


def parse_variant(text: str) -> Variant:
    """`chr20:1000:A>G`, the position 1-based.

    Raises:
        ValueError: where it is written otherwise.
    """
    match = _WRITTEN.fullmatch(text.strip())
    if not match:
        raise ValueError(
            f"the variant {text[:80]!r} is not written chr:position:REF>ALT (1-based), e.g. chr20:1000:A>G; an "
            "insertion or deletion has the base in front of it in both alleles, e.g. chr20:1000:A>AT"
        )
    position = int(match["position"].replace(",", ""))
    return Variant(match["contig"], position - 1, match["reference"].upper(), match["alternative"].upper())


def variants_of_rows(rows: Iterable[Sequence[Any]]) -> VariantRows:
    """Variants of a VCF's rows; a row with several alternatives is several.

    Args:
        rows: (contig, 1-based position, id, REF, ALT), whatever comes behind; the id may be "." for none.

    Returns:
        Alternatives that are no sequence (<DEL>, *, ., breakends, N) are left out and counted.

    Raises:
        ValueError: on rows with too few fields, a position that is no number, or a reference that is no sequence.
    """
    variants, left_out = [], dict[str, int]()
    for number, row in enumerate(rows, start=1):
        if len(row) < 5 or not str(row[1]).isdigit():
            raise ValueError(
                f"variant {number}: found {tuple(row)!r:.100}; expected (contig, 1-based position, id, REF, ALT)"
            )
        contig, position, name, reference, alternatives = (str(field) for field in row[:5])
        for alternative in alternatives.upper().split(","):
            if not _SEQUENCE.fullmatch(alternative):
                reason = f"alternative allele {'<...>' if alternative.startswith('<') else alternative[:20]}"
                left_out[reason] = left_out.get(reason, 0) + 1
                continue
            label = "" if name == "." else name
            variants.append(Variant(contig, int(position) - 1, reference.upper(), alternative, label))
    return VariantRows(variants, left_out)


def check_alleles(variants: Sequence[Variant], genome: Any) -> None:
    """Hold each reference allele against the genome.

    Args:
        genome: has `fetch(contig, start, end, pad=) -> bytes` of ACGTN, such as `open_genome` returns.

    Raises:
        ValueError: naming how many differ, the first of them and what the genome has; or an unknown contig.
    """
    wrong = []
    for variant in variants:
        found = genome.fetch(variant.contig, variant.start, variant.end, pad=True).decode("ascii")
        if found != variant.reference:
            wrong.append((variant, found))
    if wrong:
        variant, found = wrong[0]
        raise ValueError(
            f"{len(wrong):,} of {len(variants):,} variants have another reference allele than the genome, first "
            f"{variant} (1-based), where the genome has {found[:60]}: are both of one assembly, and is the position "
            "1-based?"
        )


def warn_of_shifted_kmers(variants: Sequence[Variant], phases: int, kmer_size: int) -> None:
    """Say of indels that they shift k-mers, where not all first bases are averaged over."""
    shifting = sum((len(variant.alternative) - len(variant.reference)) % kmer_size != 0 for variant in variants)
    if shifting and phases < kmer_size:
        logger.warning(
            "%d variants change the length by no multiple of %d and shift the k-mers behind them, which alone changes "
            "the model's answer: phases=%d averages over all first bases",
            shifting,
            kmer_size,
            kmer_size,
        )


class VariantWindow(NamedTuple):
    """A window of the genome with either allele.

    Attributes:
        start: coordinate of the window's first base.
        reference, alternative: the two sequences, ACGTN.
        edit_start: the base of `reference` from which `removed` bases are replaced by `inserted` ones.
        removed, inserted: numbers of bases, those that both alleles share not among them.
    """

    start: int
    reference: str
    alternative: str
    edit_start: int
    removed: int
    inserted: int

    def pairs(self) -> np.ndarray:
        """(pairs, 2) int64: places of the bases that correspond, in `reference` and in `alternative`.

        All but the edited ones; these too where as many come as go. Inserted and deleted bases, and those of a
        replacement by another length, have no counterpart.
        """
        places = np.arange(len(self.reference))
        edit_end = self.edit_start + self.removed
        if self.removed != self.inserted:
            places = places[(places < self.edit_start) | (places >= edit_end)]
        return np.stack((places, places + (self.inserted - self.removed) * (places >= edit_end)), axis=1)

    def distances(self) -> np.ndarray:
        """(bases of reference,) int64, bp from the edit: 0 within it, 1 next to it."""
        places = np.arange(len(self.reference))
        before, behind = self.edit_start - places, places - (self.edit_start + self.removed) + 1
        return np.maximum(np.maximum(before, behind), 0)


def variant_window(variant: Variant, genome: Any, window_bp: int) -> VariantWindow:
    """The window centred on a variant; see `window_around`.

    Args:
        variant: checked by `check_alleles`.
        genome: has `resolve(contig)`, `starts`, `contigs` and `fetch`, such as `open_genome` returns.
        window_bp: the longer of the two sequences has at most so many bases.

    Raises:
        ValueError: where the alleles alone are longer than the window.
    """
    position, removed, inserted = variant.edit()
    length = window_bp - max(len(inserted) - len(removed), 0)
    if length <= len(removed):
        raise ValueError(f"{str(variant)[:80]}: the alleles do not fit a window of {window_bp:,} bp: take a longer one")
    start, sequence = window_around(genome, variant.contig, position, position + len(removed), length)
    place = position - start
    alternative = sequence[:place] + inserted + sequence[place + len(removed) :]
    return VariantWindow(start, sequence, alternative, place, len(removed), len(inserted))


def window_around(genome: Any, contig: str, start: int, end: int, length: int) -> tuple[int, str]:
    """A window with [start, end) in its middle, shifted at its contig's ends, and shortened where that is all there is.

    N at the window's ends are cut off, though not within [start, end): they say nothing, and each is a token by itself.

    Args:
        genome: has `resolve(contig)`, `starts`, `contigs` and `fetch`, such as `open_genome` returns.
        contig: any of its names.
        start, end: within the contig, 0-based, half-open, and at most `length` apart.
        length: of the window, in bp.

    Returns:
        Coordinate of the window's first base, and its sequence.
    """
    name = genome.resolve(contig)
    first, last = genome.starts[name], genome.contigs[name]
    begin = max(min((start + end) // 2 - length // 2, last - length), first)
    sequence = genome.fetch(name, begin, min(begin + length, last)).decode("ascii")
    front = min(len(sequence) - len(sequence.lstrip("N")), start - begin)
    kept = max(len(sequence.rstrip("N")), end - begin)
    return begin + front, sequence[front:kept]


def _shared_length(first: str, second: str) -> int:
    """How many letters two strings begin with in common."""
    for number, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return number
    return min(len(first), len(second))
