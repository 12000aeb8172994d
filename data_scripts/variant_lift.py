"""Variants from one assembly to another by a UCSC chain file, such as hg19 to hg38.

Positions are lifted by the package `liftover`. A variant is lifted where all of its reference allele has one place,
unbroken, and the target genome has that allele there; on the other strand alleles are reverse-complemented. A variant
whose alternative is the target's reference is not turned round. What is not lifted is counted by reason.
"""

import gzip
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from liftover import ChainFile

from .genomes import Genome, contig_alias, reverse_complement
from .interval_lift import open_chain
from .sequence_variants import SequenceVariant

logger = logging.getLogger(__name__)

OTHER_REFERENCE = "another reference allele in the target genome"
SWAPPED = "the target genome's reference is the alternative allele"


class LiftedVariants(NamedTuple):
    """Variants on the target genome.

    Attributes:
        variants: those that have a place, in their order, on contigs as the genome names them.
        rows: (lifted,) int64, which of the variants given each is.
        not_lifted: the others, each with the reason.
        report: chain, lifted, turned (to the other strand), lost (by reason), share lost.
    """

    variants: list[SequenceVariant]
    rows: np.ndarray
    not_lifted: list[tuple[SequenceVariant, str]]
    report: dict


def lift_variants(
    variants: Sequence[SequenceVariant], chain: str | Path, *, genome: Genome, minimum_match: float = 0.95
) -> LiftedVariants:
    """Lift variants.

    Args:
        variants: on the assembly that the chain leads from.
        chain: .chain or .chain.gz, such as hg19ToHg38.over.chain.gz. Contigs with and without `chr` are the same.
        genome: the assembly that it leads to, or a piece of it.
        minimum_match: for symbolic alleles the shorter of old and new length must be at least this share of the longer;
            other alleles keep their length.

    Raises:
        FileNotFoundError: where there is no chain file.
        ValueError: for a file that is no chain; one of other assemblies: its contigs have other lengths than the
            genome's, or most alleles differ from the genome's; or one that has a place for no variant.
    """
    if not 0 < minimum_match <= 1:
        raise ValueError(f"minimum_match is {minimum_match}; expected a share above 0, at most 1")
    path = Path(chain)
    chains = open_chain(path)
    _check_lengths(path, genome)
    lifted: list[SequenceVariant] = []
    rows: list[int] = []
    not_lifted: list[tuple[SequenceVariant, str]] = []
    turned = 0
    for row, variant in enumerate(variants):
        place = _place(variant, chains, minimum_match)
        found = place if isinstance(place, str) else _on_genome(variant, place, genome)
        if isinstance(found, str):
            not_lifted.append((variant, found))
        else:
            assert not isinstance(place, str)
            lifted.append(found)
            rows.append(row)
            turned += place.is_turned
    lost = Counter(reason for _, reason in not_lifted)
    _check_outcome(path, genome, variants, lifted, lost)
    report = {"chain": path.name, "lifted": len(lifted), "turned": turned, "lost": dict(sorted(lost.items()))}
    report["share lost"] = round(len(not_lifted) / max(len(variants), 1), 6)
    logger.info("%s: %s", path, report)
    return LiftedVariants(lifted, np.array(rows, dtype=np.int64), not_lifted, report)


class _Place(NamedTuple):
    contig: str
    start: int
    end: int
    is_turned: bool


def _place(variant: SequenceVariant, chains: ChainFile, minimum_match: float) -> _Place | str:
    """Where a variant's bases are, or why nowhere."""
    length = variant.end - variant.start
    first = chains.query(variant.contig, variant.start)
    last = chains.query(variant.contig, variant.end - 1)
    if not first or not last:
        return "an end has no place" if length > 1 else "no place"
    spans = {
        _Place(one[0], min(one[1], other[1]), max(one[1], other[1]) + 1, one[2] == "-")
        for one in first
        for other in last
        if (one[0], one[2]) == (other[0], other[2])
    }
    if not spans:
        return "ends on two contigs or strands"
    share = minimum_match if variant.is_symbolic else 1.0
    fitting = [span for span in spans if _ratio(span.end - span.start, length) >= share]
    if not fitting:
        return "length changed"
    return fitting[0] if len(fitting) == 1 else "several places"


def _ratio(one: int, other: int) -> float:
    return min(one, other) / max(one, other)


def _on_genome(variant: SequenceVariant, place: _Place, genome: Genome) -> SequenceVariant | str:
    """The variant as the target genome has it, or why it cannot be."""
    contig = genome.find(place.contig)
    if contig is None:
        return "on a contig that the genome lacks"
    first, last = genome.starts[contig], genome.contigs[contig]
    if place.start < first or place.end > last:
        return "outside the genome's piece of the contig"
    if variant.is_symbolic:
        base = genome.fetch(contig, place.start - 1, place.start).decode() if place.start > first else ""
        has_base = bool(variant.base_before) and base in ("A", "C", "G", "T")
        return replace(variant, contig=contig, start=place.start, end=place.end, base_before=base if has_base else "")
    reference, alternative = variant.reference, variant.alternative
    if place.is_turned:
        reference, alternative = (reverse_complement(one.encode()).decode() for one in (reference, alternative))
    if genome.fetch(contig, place.start, place.end).decode() != reference:
        start = place.end - len(alternative) if place.is_turned else place.start  # where the base in front stays
        there = genome.fetch(contig, start, start + len(alternative), pad=True).decode()
        return SWAPPED if there == alternative else OTHER_REFERENCE
    moved = SequenceVariant(contig, place.start, place.end, reference, alternative, name=variant.name)
    return _with_base_in_front(moved, genome) if place.is_turned else moved


def _with_base_in_front(variant: SequenceVariant, genome: Genome) -> SequenceVariant:
    """An insertion or deletion written as a VCF has it; what was in front is behind on the other strand."""
    edit = variant.edit()
    first = genome.starts[variant.contig]
    if edit.kind not in ("insertion", "deletion") or variant.start < edit.start or edit.start == first:
        return variant
    context = genome.fetch(variant.contig, edit.start - 1, edit.end).decode()
    if not set(context) <= set("ACGT"):
        return variant
    return replace(variant, start=edit.start - 1, end=edit.end, reference=context, alternative=context[0] + edit.bases)


def _check_lengths(path: Path, genome: Genome) -> None:
    """A genome's contig may be a piece, but it is no longer than the chain's, nor as long as on the other side."""
    before, after = _contig_lengths(path)
    for contig, end in genome.contigs.items():
        alias = contig_alias(contig)
        expected, other = after.get(alias), before.get(alias)
        is_whole = genome.starts[contig] == 0
        if expected is not None and (end > expected or (is_whole and end == other != expected)):
            side = " as in the assembly that the chain leads from" if end == other else ""
            raise ValueError(
                f"{path} leads to a contig {contig} of {expected:,} bp; in {genome.path} it ends at {end:,}{side}. "
                "It is not the chain from the variants' assembly to the genome's"
            )


def _contig_lengths(path: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Length of each contig, by alias, in the assemblies that a chain leads from and to."""
    before: dict[str, int] = {}
    after: dict[str, int] = {}
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rt") if is_gzip else path.open() as text:
        for line in text:
            if line.startswith("chain"):
                fields = line.split()
                before[contig_alias(fields[2])] = int(fields[3])
                after[contig_alias(fields[7])] = int(fields[8])
    return before, after


def _check_outcome(
    path: Path,
    genome: Genome,
    variants: Sequence[SequenceVariant],
    lifted: Sequence[SequenceVariant],
    lost: Mapping[str, int],
) -> None:
    agreeing = sum(not variant.is_symbolic for variant in lifted)
    differing = lost.get(OTHER_REFERENCE, 0) + lost.get(SWAPPED, 0)
    if differing > agreeing:  # in a wrong place one SNV in four agrees by chance
        raise ValueError(
            f"{path}: {differing:,} of {differing + agreeing:,} lifted variants have another reference allele than "
            f"{genome.path} ({dict(lost)}). Is it the chain from the variants' assembly to the genome's?"
        )
    if variants and not lifted:
        contigs = ", ".join(dict.fromkeys(variant.contig for variant in variants))
        raise ValueError(
            f"{path} has a place for none of {len(variants):,} variants (on {contigs[:80]}): {dict(lost)}. Is it the "
            "chain from the variants' assembly to the genome's?"
        )
