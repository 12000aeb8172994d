"""The window around a transcription start site on a haplotype that carries variants of any kind.

A haplotype is laid out as pieces: stretches of the reference, kept, copied or turned round, and new bases. The window
is cut out of the pieces around the TSS, so that it keeps its length after an indel, refilled from the reference on both
sides, and the TSS stays at base `window_bp // 2`. Nothing is read but what the window shows.
"""

import logging
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

from .genomes import Genome, reverse_complement
from .sequence_variants import SequenceVariant, VariantEdit, check_variants

logger = logging.getLogger(__name__)

KEPT = -1  # in Piece.edit


@dataclass(frozen=True)
class EditedWindow:
    """A window with and without variants.

    Attributes:
        sequence, reference: `window_bp` upper-case letters ACGTN, N beyond the contig's ends.
        applied: variants that change the window, in the contig's order.
        out_of_reach: variants that do not: on other contigs, or too far from the TSS on this haplotype.
        left_out: variants that overlap an earlier one, with overlapping="first".
        anchor: reference coordinate of the base at `window_bp // 2` of `sequence`: the TSS, or where `tss_is_kept` is
            false the nearest kept base downstream.
        tss_is_kept: false where a deletion, or a substitution by another length, takes the TSS.
        tss_shift: how far the anchor lies from the TSS's coordinate on the edited contig.
        strand: the gene's on the edited contig: the other one where an inversion holds the TSS.
    """

    sequence: str
    reference: str
    applied: list[SequenceVariant]
    out_of_reach: list[SequenceVariant]
    left_out: list[SequenceVariant]
    anchor: int
    tss_is_kept: bool
    tss_shift: int
    strand: str


def apply_variants(
    genome: Genome,
    variants: Sequence[SequenceVariant],
    *,
    contig: str,
    tss: int,
    strand: str = "+",
    window_bp: int = 196_608,
    orient_by_strand: bool = False,
    overlapping: Literal["error", "first"] = "error",
) -> EditedWindow:
    """The window of a haplotype that carries all these variants.

    A duplication that holds the TSS leaves it in the copy that runs on into the gene. Variants at one place: an
    insertion is in front of what begins there and behind what ends there.

    Args:
        genome: from `open_genome`.
        variants: of one haplotype, in any order, from `parse_variant`, `read_sequence_variants` or a donor's
            `haplotype`; each is held against the genome.
        contig: of the gene, by any of its names.
        tss: 0-based.
        strand: + or -.
        window_bp: length of the window.
        orient_by_strand: reverse-complement the window of a gene on the minus strand, as `promoter_windows`.
        overlapping: what to do with variants that change the same bases: raise, or take the one that begins first.

    Raises:
        ValueError: for a variant outside its contig, a reference allele that the genome does not have, overlapping
            variants, a TSS outside the contig, or one that is deleted with all that is downstream.
    """
    _check_settings(window_bp, strand, overlapping)
    name = genome.resolve(contig)
    first, last = genome.starts[name], genome.contigs[name]
    if not first <= tss < last:
        raise ValueError(f"the TSS {name}:{tss + 1:,} (1-based) is outside the contig, {first + 1:,}-{last:,}")
    check_variants(variants, genome)
    here = [variant for variant in variants if genome.find(variant.contig) == name]
    here, left_out = separate_overlapping(sort_variants(here), overlapping=overlapping)
    layout = HaplotypeLayout.make([variant.edit() for variant in here], first, last, tss=tss, strand=strand)
    begin, end = layout.window(window_bp, orient_by_strand=orient_by_strand)
    reached = set(layout.reached(begin, end))
    untouched = HaplotypeLayout.make([], first, last, tss=tss, strand=strand)
    kept = {id(variant) for number, variant in enumerate(here) if number in reached}
    dropped = {id(variant) for variant in left_out}
    return EditedWindow(
        _read(genome, name, layout, window_bp, orient_by_strand),
        _read(genome, name, untouched, window_bp, orient_by_strand),
        [variant for variant in here if id(variant) in kept],
        [variant for variant in variants if id(variant) not in kept | dropped],
        left_out,
        layout.anchor,
        layout.taken_by == KEPT,
        layout.anchor_place - tss,
        layout.strand,
    )


def haplotype_sequence(
    genome: Genome,
    edits: Sequence[VariantEdit],
    *,
    contig: str,
    tss: int,
    strand: str,
    window_bp: int,
    orient_by_strand: bool,
) -> bytes:
    """As `apply_variants`, for edits that are sorted, checked and do not overlap: the sequence alone."""
    layout = HaplotypeLayout.make(edits, genome.starts[contig], genome.contigs[contig], tss=tss, strand=strand)
    return _read(genome, contig, layout, window_bp, orient_by_strand).encode()


def sort_variants(variants: Sequence[SequenceVariant]) -> list[SequenceVariant]:
    """By what they change; insertions come before what begins at their place."""
    return sorted(variants, key=lambda variant: variant.edit()[:2])


def separate_overlapping(
    variants: Sequence[SequenceVariant], *, overlapping: Literal["error", "first"] = "error"
) -> tuple[list[SequenceVariant], list[SequenceVariant]]:
    """Those of a haplotype's sorted variants that do not overlap, and those that overlap an earlier one.

    Raises:
        ValueError: with overlapping="error", naming the first two.
    """
    kept: list[SequenceVariant] = []
    left_out: list[SequenceVariant] = []
    for variant in variants:
        if kept and overlap(kept[-1].edit(), variant.edit()):
            if overlapping == "error":
                raise ValueError(overlap_message(kept[-1], variant))
            left_out.append(variant)
        else:
            kept.append(variant)
    if left_out:
        logger.warning("%d variants overlap an earlier one and are left out, first %s", len(left_out), left_out[0])
    return kept, left_out


def overlap(one: VariantEdit, other: VariantEdit) -> bool:
    """Whether two edits, `one` the earlier, change the same bases, or insert at the same place."""
    return other.start < one.end or one[:2] == other[:2]


def overlap_message(one: SequenceVariant, other: SequenceVariant, whose: str = "") -> str:
    """What an error says of variants that overlap."""
    return (
        f"{one} and {other} overlap on one haplotype{whose}: both change the same bases, or insert at the same place. "
        'Leave one out, write them as one variant, or pass overlapping="first" to take the one that begins first'
    )


class Piece(NamedTuple):
    """A stretch of a haplotype: reference bases [start, end), or new `bases`. `edit` is what put it there, or KEPT."""

    start: int
    end: int
    bases: str | None
    is_inverted: bool
    edit: int

    @property
    def length(self) -> int:
        return self.end - self.start if self.bases is None else len(self.bases)


@dataclass(frozen=True)
class HaplotypeLayout:
    """A contig with edits, as pieces. A place is a coordinate on the edited contig.

    Attributes:
        pieces: in order; a deletion is an empty piece.
        places: where each piece begins.
        anchor_place: of the base that windows are centred on.
        anchor, strand: as in EditedWindow.
        taken_by: the edit that takes the TSS, or KEPT.
    """

    pieces: list[Piece]
    places: list[int]
    anchor_place: int
    anchor: int
    strand: str
    taken_by: int

    @classmethod
    def make(cls, edits: Sequence[VariantEdit], first: int, last: int, *, tss: int, strand: str) -> "HaplotypeLayout":
        """Lay out a contig that spans [first, last); edits are sorted and do not overlap."""
        pieces, position = [], first
        for number, edit in enumerate(edits):
            start, end = placed(edit, tss, strand)
            pieces.append(Piece(position, start, None, False, KEPT))
            is_copy = edit.kind in ("inversion", "duplication")
            source_start, source_end = (edit.start, edit.end) if is_copy else (start, end)
            bases = None if is_copy else edit.bases
            pieces.append(Piece(source_start, source_end, bases, edit.kind == "inversion", number))
            position = end
        pieces.append(Piece(position, last, None, False, KEPT))
        places = list(accumulate((piece.length for piece in pieces[:-1]), initial=first))
        number, offset, taken_by = _anchor(pieces, edits, tss, strand)
        piece = pieces[number]
        is_turned = piece.is_inverted and taken_by == KEPT
        anchor = piece.end - 1 - offset if piece.is_inverted else piece.start + offset
        new_strand = {"+": "-", "-": "+"}[strand] if is_turned else strand
        return cls(pieces, places, places[number] + offset, anchor, new_strand, taken_by)

    def window(self, window_bp: int, *, orient_by_strand: bool) -> tuple[int, int]:
        """Where the window begins and ends."""
        is_turned = orient_by_strand and self.strand == "-"
        begin = self.anchor_place - (window_bp - 1 - window_bp // 2 if is_turned else window_bp // 2)
        return begin, begin + window_bp

    def reached(self, begin: int, end: int) -> list[int]:
        """Numbers of the edits that change what is between two places."""
        reached = [
            piece.edit
            for piece, place in zip(self.pieces, self.places, strict=True)
            if piece.edit != KEPT and place < end and place + piece.length > begin
        ]
        if self.taken_by != KEPT:  # it moves the window, with what lies between it and the anchor
            anchored = bisect_right(self.places, self.anchor_place) - 1
            taken = next(number for number, piece in enumerate(self.pieces) if piece.edit == self.taken_by)
            between = self.pieces[min(anchored, taken) : max(anchored, taken) + 1]
            reached += [piece.edit for piece in between if piece.edit != KEPT]
        return sorted(set(reached))

    def between(self, begin: int, end: int) -> list[Piece]:
        """The pieces between two places, cut to fit."""
        found = []
        number = max(bisect_right(self.places, begin) - 1, 0)
        while number < len(self.pieces) and self.places[number] < end:
            piece, place = self.pieces[number], self.places[number]
            front, back = max(begin - place, 0), max(place + piece.length - end, 0)
            if front < piece.length:
                found.append(_cut(piece, front, back))
            number += 1
        return found


def placed(edit: VariantEdit, tss: int, strand: str) -> tuple[int, int]:
    """The reference bases that give way. A duplication's copy is put at the end away from the TSS: none do.

    Where a duplication holds the TSS, the copy is put upstream, so that the one with the TSS runs on into the gene.
    """
    if edit.kind != "duplication":
        return edit.start, edit.end
    holds_tss = edit.start <= tss < edit.end
    is_left = strand == "+" if holds_tss else edit.end <= tss
    point = edit.start if is_left else edit.end
    return point, point


def _anchor(pieces: Sequence[Piece], edits: Sequence[VariantEdit], tss: int, strand: str) -> tuple[int, int, int]:
    """Number of the piece that holds the anchor, the anchor's offset within it, and the edit that takes the TSS."""
    for number, piece in enumerate(pieces):
        if piece.edit == KEPT:
            if piece.start <= tss < piece.end:
                return number, tss - piece.start, KEPT
            continue
        start, end = placed(edits[piece.edit], tss, strand)
        if not start <= tss < end:
            continue
        if piece.is_inverted:
            return number, piece.end - 1 - tss, KEPT
        if piece.length == end - start:
            return number, tss - start, KEPT
        return *_downstream(pieces, edits, number, strand, tss), piece.edit
    raise AssertionError("the TSS is within the contig")


def _downstream(
    pieces: Sequence[Piece], edits: Sequence[VariantEdit], number: int, strand: str, tss: int
) -> tuple[int, int]:
    """The nearest base behind a piece, in the direction of transcription, that is one of the reference's bases still.

    Kept, copied, turned round, or another letter in its place, but none that was inserted.
    """
    numbers = range(number + 1, len(pieces)) if strand == "+" else range(number - 1, -1, -1)
    for other in numbers:
        piece = pieces[other]
        if piece.length and (piece.bases is None or not edits[piece.edit].length_change):
            return other, 0 if strand == "+" else piece.length - 1
    raise ValueError(f"the TSS at {tss + 1:,} (1-based) is deleted together with all of the contig downstream of it")


def _cut(piece: Piece, front: int, back: int) -> Piece:
    """A piece less some of its bases at either end."""
    if piece.bases is not None:
        return piece._replace(bases=piece.bases[front : len(piece.bases) - back])
    if piece.is_inverted:
        front, back = back, front
    return piece._replace(start=piece.start + front, end=piece.end - back)


def _read(genome: Genome, contig: str, layout: HaplotypeLayout, window_bp: int, orient_by_strand: bool) -> str:
    begin, end = layout.window(window_bp, orient_by_strand=orient_by_strand)
    pieces = layout.between(begin, end)
    from_genome = [piece for piece in pieces if piece.bases is None]
    low = min((piece.start for piece in from_genome), default=0)
    high = max((piece.end for piece in from_genome), default=0)
    span = genome.fetch(contig, low, high) if high - low <= 2 * window_bp else None  # one look-up for many pieces
    texts = []
    for piece in pieces:
        if piece.bases is not None:
            texts.append(piece.bases.encode())
            continue
        bases = (
            genome.fetch(contig, piece.start, piece.end) if span is None else span[piece.start - low : piece.end - low]
        )
        texts.append(reverse_complement(bases) if piece.is_inverted else bases)
    last = layout.places[-1] + layout.pieces[-1].length
    left, right = min(max(layout.places[0] - begin, 0), window_bp), min(max(end - last, 0), window_bp)
    sequence = b"N" * left + b"".join(texts) + b"N" * right
    assert len(sequence) == window_bp
    return (reverse_complement(sequence) if orient_by_strand and layout.strand == "-" else sequence).decode()


def _check_settings(window_bp: int, strand: str, overlapping: str) -> None:
    if window_bp < 1:
        raise ValueError(f"window_bp is {window_bp}; expected a positive number of base pairs")
    if strand not in ("+", "-"):
        raise ValueError(f"strand is {strand!r}; expected + or -")
    if overlapping not in ("error", "first"):
        raise ValueError(f'overlapping is {overlapping!r}; expected "error" or "first"')
