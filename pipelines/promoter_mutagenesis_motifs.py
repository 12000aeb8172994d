"""Motifs put into a promoter, or taken out of it.

A motif's instance takes the place of as many bases, so that the window keeps its length and its TSS. A hit is taken out
by shuffling it, with more of its flanks the longer no shuffle does: neighbouring pairs of bases are kept by default. No
shuffle may bring a hit that was not there. Needs memelite for hits: pip install "omics-transformers[interpret]".
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from .motif_hits import BASES, Motif, find_hits
from .promoter_mutagenesis_edit import PromoterEdit, bases_around, checked_reference
from .promoter_mutagenesis_shuffle import SHUFFLES, Shuffle, shuffle_bases, shuffle_dinucleotides

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

Strand = Literal["+", "-"]
_COMPLEMENT = str.maketrans("ACGTN", "TGCAN")
# Bases on either side of a hit that are shuffled with it, tried in this order.
FLANKS_BP = (0, 2, 5, 10, 20)


def insert_motif(
    reference: str | bytes,
    motif: Motif,
    *,
    offset: int,
    strand: Strand = "+",
    gene_strand: Strand = "+",
    instance: Literal["best", "sampled"] = "best",
    seed: int = 0,
) -> PromoterEdit:
    """Put an instance of a motif in the place of as many bases.

    Args:
        reference: the window, ACGTN, the TSS at its middle base.
        motif: of `read_jaspar`.
        offset: of the motif's first base from the TSS, in the gene's direction: -50 is upstream.
        strand: of the motif, relative to the gene.
        gene_strand: "-" for a gene on the minus strand in a window that lies as on the plus strand.
        instance: "best", the most frequent base at each place (A before C, G, T where equal); "sampled", each base
            drawn by its frequency.
        seed: of the draw.

    Raises:
        ValueError: where the motif would reach beyond the window, or its instance is there already.
    """
    text = checked_reference(reference)
    for name, given in (("strand", strand), ("gene_strand", gene_strand)):
        if given not in ("+", "-"):
            raise ValueError(f'{name} is {given!r}; expected "+" or "-"')
    if instance not in ("best", "sampled"):
        raise ValueError(f'instance is {instance!r}; expected "best" or "sampled"')
    tss = len(text) // 2
    start = tss + offset if gene_strand == "+" else tss - offset - motif.width + 1
    end = start + motif.width
    if start < 0 or end > len(text):
        raise ValueError(
            f"the motif {motif.name}, {motif.width} bp at {offset:+,} from the TSS, reaches beyond the window of "
            f"{len(text):,} bp"
        )
    letters = best_instance(motif) if instance == "best" else sampled_instance(motif, np.random.default_rng(seed))
    window_strand = "+" if strand == gene_strand else "-"
    placed = letters if window_strand == "+" else reverse_complement(letters)
    replaced = text[start:end]
    if placed == replaced:
        raise ValueError(f"the window holds {placed} at {offset:+,} from the TSS already: nothing would change")
    return PromoterEdit(
        text[:start] + placed + text[end:],
        text,
        {
            "how": "motif insertion",
            "motif": motif.name,
            "matrix_id": motif.matrix_id,
            "instance": letters,
            "chosen": instance,
            "seed": seed if instance == "sampled" else None,
            "offset": offset,
            "strand": strand,
            "gene_strand": gene_strand,
            "start": start,
            "end": end,
            "window_strand": window_strand,
            "replaced": replaced,
            "n_mutations": sum(one != other for one, other in zip(placed, replaced, strict=True)),
        },
    )


def delete_motif(
    reference: str | bytes,
    motifs: Motif | Sequence[Motif],
    *,
    window_bp: int = 1000,
    offset: int = 0,
    threshold: float = 1e-4,
    method: Shuffle = "dinucleotide_shuffle",
    keep_out: Sequence[Motif] = (),
    seed: int = 0,
    attempts: int = 50,
) -> PromoterEdit:
    """Shuffle every hit of a motif, on either strand, until none is left and no new one has come.

    Args:
        reference: the window, ACGTN, the TSS at its middle base.
        motifs: one or several, of `read_jaspar`; hits that overlap are shuffled together.
        window_bp: hits that lie wholly in these bases are taken out.
        offset: of their middle from the TSS.
        threshold: p-value below which a place is a hit, as `find_hits`.
        method: "dinucleotide_shuffle" keeps counts of neighbouring pairs, "shuffle" of bases. A hit that has no fitting
            shuffle is shuffled with 2, 5, 10 and 20 bp on either side.
        keep_out: motifs of which no new hit may arise either; losing one is allowed.
        seed: the same seed gives the same edit.
        attempts: shuffles tried with each width of flanks.

    Raises:
        ImportError: without memelite.
        ValueError: where there is no hit, or one that no shuffle takes out without bringing another.
    """
    text = checked_reference(reference)
    motifs = [motifs] if isinstance(motifs, Motif) else list(motifs)
    if method not in SHUFFLES:
        raise ValueError(f"method is {method!r}; expected {' or '.join(SHUFFLES)}")
    if attempts < 1:
        raise ValueError(f"attempts is {attempts}: expected at least 1")
    start, end = bases_around(text, window_bp, offset)
    hits = find_hits(text[start:end], motifs, threshold=threshold)
    names = ", ".join(motif.name for motif in motifs)
    if hits.empty:
        raise ValueError(
            f"no hit of {names} with a p-value below {threshold} lies in the {window_bp:,} bp around the base "
            f"{offset:+,} from the TSS: give a higher threshold or a larger window_bp"
        )
    hits = hits.assign(start=hits["start"] + start, end=hits["end"] + start)
    places = _joined(hits)
    remover = _Remover(motifs, [*keep_out], threshold, method, attempts, np.random.default_rng(seed))
    edited, shuffled = text, []
    for first, last in places:
        edited, span = remover.remove(edited, first, last)
        shuffled.append(list(span))
    differing = sum(one != other for one, other in zip(text, edited, strict=True))
    return PromoterEdit(
        edited,
        text,
        {
            "how": "motif deletion",
            "motif": names,
            "matrix_id": ", ".join(motif.matrix_id for motif in motifs),
            "method": method,
            "threshold": threshold,
            "window_bp": window_bp,
            "offset": offset,
            "seed": seed,
            "n_hits": len(hits),
            "hits": [[int(row.start), int(row.end), str(row.strand)] for row in hits.itertuples()],
            "shuffled": shuffled,
            "n_mutations": differing,
        },
    )


def best_instance(motif: Motif) -> str:
    """The most frequent base at each place."""
    return "".join(BASES[row] for row in motif.counts.argmax(axis=0))


def sampled_instance(motif: Motif, generator: np.random.Generator) -> str:
    """Each base drawn by its frequency, without pseudocounts."""
    frequencies = motif.counts / motif.counts.sum(axis=0)
    return "".join(BASES[int(generator.choice(4, p=column))] for column in frequencies.T)


def reverse_complement(sequence: str) -> str:
    return sequence.translate(_COMPLEMENT)[::-1]


class _Remover:
    """Takes one hit at a time out of a window."""

    def __init__(
        self,
        motifs: list[Motif],
        keep_out: list[Motif],
        threshold: float,
        method: str,
        attempts: int,
        generator: np.random.Generator,
    ) -> None:
        watched = {motif.matrix_id: motif for motif in (*motifs, *keep_out)}
        self.watched = list(watched.values())
        self.removed = {motif.matrix_id for motif in motifs}
        self.threshold, self.method, self.attempts, self.generator = threshold, method, attempts, generator
        self.margin = max(motif.width for motif in self.watched) - 1

    def remove(self, sequence: str, start: int, end: int) -> tuple[str, tuple[int, int]]:
        """The window without the hits in [start, end), and the bases that were shuffled.

        Hits that were there, elsewhere, may be there afterwards; no others. Where an earlier removal's flanks have
        taken these hits out already, the window stays as it is.
        """
        for flank in FLANKS_BP:
            first, last = _known_flanks(sequence, start - flank, end + flank, start, end)
            context_start = max(first - self.margin, 0)
            before, after = sequence[context_start:first], sequence[last : last + self.margin]
            found = self._hits_of_each([before + sequence[first:last] + after])[0]
            to_remove = {
                hit
                for hit in found
                if hit[0] in self.removed and hit[1] + context_start < end and hit[2] + context_start > start
            }
            if not to_remove:
                return sequence, (start, end)
            for shuffled in self._shuffles(sequence[first:last], before, after, found - to_remove):
                return sequence[:first] + shuffled + sequence[last:], (first, last)
        raise ValueError(
            f"no {self.method} of the hit at bases {start:,}-{end:,}, with up to {FLANKS_BP[-1]} bp on either side, "
            f"takes it out without bringing another hit ({self.attempts} tried at each of {len(FLANKS_BP)} widths): "
            "give another method or seed, more attempts, or a lower threshold"
        )

    def _shuffles(self, part: str, before: str, after: str, allowed: set) -> Iterator[str]:
        """Distinct shuffles after which only `allowed` hits are there."""
        make: Callable[[str, np.random.Generator], str] = (
            shuffle_bases if self.method == "shuffle" else shuffle_dinucleotides
        )
        tried = dict.fromkeys(make(part, self.generator) for _ in range(self.attempts))
        tried.pop(part, None)
        contexts = [before + shuffled + after for shuffled in tried]
        for shuffled, hits in zip(tried, self._hits_of_each(contexts), strict=True):
            if hits <= allowed:
                yield shuffled

    def _hits_of_each(self, contexts: list[str]) -> list[set]:
        """Hits as (matrix_id, start, end, strand) of equally long sequences, all scanned at once behind one another."""
        if not contexts:
            return []
        period = len(contexts[0]) + 1  # an N between them: what reaches over it is no hit
        table = find_hits("N".join(contexts), self.watched, threshold=self.threshold)
        found: list[set] = [set() for _ in contexts]
        for row in table.itertuples():
            number, start = divmod(int(row.start), period)
            found[number].add((row.matrix_id, start, int(row.end) - number * period, row.strand))
        return found


def _joined(hits: "pd.DataFrame") -> list[tuple[int, int]]:
    """Overlapping hits as one place each, by start."""
    places: list[tuple[int, int]] = []
    for start, end in hits[["start", "end"]].sort_values("start").itertuples(index=False):
        if places and start < places[-1][1]:
            places[-1] = (places[-1][0], max(places[-1][1], int(end)))
        else:
            places.append((int(start), int(end)))
    return places


def _known_flanks(sequence: str, first: int, last: int, start: int, end: int) -> tuple[int, int]:
    """[first, last) cut where an N, or the window's end, comes before it, as seen from [start, end)."""
    first, last = max(first, 0), min(last, len(sequence))
    gap = sequence.rfind("N", first, start)
    first = first if gap < 0 else gap + 1
    gap = sequence.find("N", end, last)
    return first, last if gap < 0 else gap
