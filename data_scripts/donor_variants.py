"""Donors' phased variants of every kind from a VCF file, plain, gzip or BGZF.

Format: VCF 4.1 and later (https://samtools.github.io/hts-specs/VCFv4.4.pdf); what an allele may be, see
`sequence_variants.py`. Two alleles that change the same bases of one haplotype cannot both be true and are refused, or
the one that begins first is taken.
"""

import difflib
import logging
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from .edited_windows import overlap_message
from .genomes import contig_alias
from .sequence_variants import SequenceVariant, VariantEdit, alleles_of_row
from .variants import MISSING, DonorVariants, VcfProblems, read_donors, read_genotypes, vcf_lines

logger = logging.getLogger(__name__)

_UNPHASED, _MISSING_GENOTYPES = "heterozygous genotypes without phase", "missing genotypes"
_OTHER, _UNSORTED = "alleles that are neither sequence nor <DEL>, <INV> or <DUP>", "lines out of order"
_FIRST_MARGIN_BP = 10_000
_CHOICES = {
    "unphased": ("error", "as_written"),
    "missing_genotypes": ("error", "reference", "drop"),
    "other_variants": ("error", "drop"),
    "overlapping": ("error", "first"),
    "unsorted": ("error", "sort"),
}


@dataclass
class DonorSequenceVariants:
    """Which variants each haplotype of each donor carries; on each contig sorted by what they change.

    Attributes:
        donors: the samples' names.
        variants: each alternative allele that some donor carries.
        haplotypes: (variants, donors, 2) int8, 1 where the haplotype carries the variant.
        report: counts of what was read, changed and left out.
        edits: what each variant does.
        contig: (variants,) str, as the VCF names them.
        start, end: (variants,) int64, 0-based, half-open: the reference's bases that the variant changes.
    """

    donors: list[str]
    variants: list[SequenceVariant]
    haplotypes: np.ndarray
    report: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.edits: list[VariantEdit] = [variant.edit() for variant in self.variants]
        self.contig = np.array([variant.contig for variant in self.variants], dtype=str)
        self.start = np.array([edit.start for edit in self.edits], dtype=np.int64)
        self.end = np.array([edit.end for edit in self.edits], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.variants)

    @classmethod
    def of_snvs(cls, snvs: DonorVariants) -> "DonorSequenceVariants":
        """The same SNVs, as variants."""
        columns = (snvs.contig.tolist(), snvs.position.tolist(), snvs.reference.tolist(), snvs.alternative.tolist())
        variants = [
            SequenceVariant(contig, position, position + 1, chr(reference), chr(alternative))
            for contig, position, reference, alternative in zip(*columns, strict=True)
        ]
        return cls(snvs.donors, variants, snvs.haplotypes, dict(snvs.report))

    def haplotype(self, donor: str, number: Literal[0, 1]) -> list[SequenceVariant]:
        """What one haplotype of a donor carries.

        Raises:
            ValueError: for a donor that is not among `donors`, naming the nearest.
        """
        (column,) = _columns([donor], self.donors, "the variants")
        return [self.variants[row] for row in np.flatnonzero(self.haplotypes[:, column, number])]


def read_donor_variants(
    vcf: str | Path,
    *,
    donors: Sequence[str] | None = None,
    windows: pd.DataFrame | None = None,
    unphased: Literal["error", "as_written"] = "error",
    missing_genotypes: Literal["error", "reference", "drop"] = "error",
    other_variants: Literal["error", "drop"] = "error",
    overlapping: Literal["error", "first"] = "error",
    unsorted: Literal["error", "sort"] = "error",
) -> DonorSequenceVariants:
    """Read the variants that some donor carries.

    A haploid genotype (`1`, as on a male X) counts for both haplotypes. Homozygous genotypes need no phase.

    Args:
        vcf: plain, gzip or BGZF, with genotypes (GT).
        donors: only these samples, in this order; all by default.
        windows: columns contig, start, end (0-based, half-open): only variants that may show in one of them are kept
            or checked: within it, or as near as the bases that a haplotype's deletions draw in. Where deletions are
            longer than 10 kb in sum, the file is read again for what is further away.
        unphased: what to do with heterozygous genotypes written `0/1`: raise, or take the order as written.
        missing_genotypes: what to do with `.`: raise, take the reference allele, or leave out the line for all donors.
        other_variants: what to do with alleles that are neither sequence nor <DEL>, <INV> or <DUP>: raise, or leave
            them out (a donor that carries one counts as reference there).
        overlapping: what to do with two variants of one haplotype that change the same bases: raise, or take the one
            that begins first.
        unsorted: what to do with lines that are not in the order of their positions, contig by contig: raise, or sort.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: on a broken line, a file without samples, a donor whom it lacks (naming the nearest), or what the
            policies above refuse; says how many there are and which come first.
    """
    vcf = Path(vcf)
    if not vcf.is_file():
        raise FileNotFoundError(f"no VCF file at {vcf}")
    policies = {
        "unphased": unphased,
        "missing_genotypes": missing_genotypes,
        "other_variants": other_variants,
        "overlapping": overlapping,
        "unsorted": unsorted,
    }
    for name, value in policies.items():
        if value not in _CHOICES[name]:
            raise ValueError(f"{name} is {value!r}; expected {' or '.join(_CHOICES[name])}")
    margin = _FIRST_MARGIN_BP
    while True:
        found = _read(vcf, donors, windows, margin, policies)
        needed = 0 if windows is None else _drawn_in(found, windows, margin)
        if needed <= margin:
            break
        logger.info("%s: deletions and inversions draw in %d bp: reading again", vcf, needed)
        margin = needed
    logger.info("%s: %d donors, %s", vcf, len(found.donors), found.report)
    return found


def _read(
    vcf: Path, donors: Sequence[str] | None, windows: pd.DataFrame | None, margin: int, policies: Mapping[str, str]
) -> DonorSequenceVariants:
    lines = vcf_lines(vcf)
    samples = read_donors(vcf, lines)
    columns = np.arange(len(samples)) if donors is None else _columns(donors, samples, str(vcf))
    problems = VcfProblems(
        vcf,
        {
            _UNPHASED: (policies["unphased"] == "error", 'unphased="as_written"'),
            _MISSING_GENOTYPES: (
                policies["missing_genotypes"] == "error",
                'missing_genotypes="reference" or missing_genotypes="drop"',
            ),
            _OTHER: (policies["other_variants"] == "error", 'other_variants="drop"'),
            _UNSORTED: (policies["unsorted"] == "error", 'unsorted="sort"'),
        },
    )
    reader = _Reader(vcf, len(samples), columns, _in_reach(windows, margin), problems, policies["missing_genotypes"])
    variants: list[SequenceVariant] = []
    carried: list[np.ndarray] = []
    for variant, haplotypes in reader.read(lines):
        variants.append(variant)
        carried.append(haplotypes)
    problems.raise_or_log()
    contigs = {name: number for number, name in enumerate(dict.fromkeys(contig_alias(one.contig) for one in variants))}
    keys = [(contigs[contig_alias(one.contig)], *one.edit()[:2], one.alternative) for one in variants]
    order = sorted(range(len(variants)), key=keys.__getitem__)
    stacked = np.stack([carried[row] for row in order]) if order else np.zeros((0, len(columns), 2), dtype=np.int8)
    found = DonorSequenceVariants([samples[column] for column in columns], [variants[row] for row in order], stacked)
    left_out = _separate_overlapping(vcf, found, policies["overlapping"])
    found.report = {**problems.report, **left_out, "variants": len(found)}
    return found


class _Reader:
    """Goes through a VCF's rows, and counts what the policies are about."""

    def __init__(
        self,
        vcf: Path,
        n_samples: int,
        columns: np.ndarray,
        in_reach: Callable[[str, int, int], bool],
        problems: VcfProblems,
        missing_genotypes: str,
    ) -> None:
        self.vcf, self.n_samples, self.columns = vcf, n_samples, columns
        self.in_reach, self.problems, self.missing_genotypes = in_reach, problems, missing_genotypes
        self._contigs: set[str] = set()
        self._contig, self._position = "", 0

    def read(self, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[SequenceVariant, np.ndarray]]:
        """Variants that some donor carries, each with its haplotypes (donors, 2) int8."""
        report = self.problems.report
        for number, line in lines:
            report["lines"] = report.get("lines", 0) + 1
            fields = line.split("\t", 9)
            if len(fields) < 10 or not fields[1].isdigit():
                raise ValueError(
                    f"{self.vcf}, line {number}: expected {9 + self.n_samples} tab-separated columns, the second a "
                    "position"
                )
            self._check_order(fields[0], int(fields[1]))
            start = int(fields[1]) - 1
            if "<" not in fields[4] and not self.in_reach(fields[0], start, start + len(fields[3])):
                report["lines outside every window"] = report.get("lines outside every window", 0) + 1
                continue
            yield from self._variants(number, fields)

    def _check_order(self, contig: str, position: int) -> None:
        if contig != self._contig:
            if contig in self._contigs:
                self.problems.count(_UNSORTED, f"{contig}:{position} behind {self._contig}:{self._position}")
            self._contigs.add(contig)
        elif position < self._position:
            self.problems.count(_UNSORTED, f"{contig}:{position} behind {self._contig}:{self._position}")
        self._contig, self._position = contig, position

    def _variants(self, number: int, fields: list[str]) -> Iterator[tuple[SequenceVariant, np.ndarray]]:
        where = f"{fields[0]}:{fields[1]} {fields[3][:40]}>{fields[4][:40]}"
        alleles = alleles_of_row(fields, f"{self.vcf}, line {number}")
        ranges = [(one.start, one.end) for one in alleles if isinstance(one, SequenceVariant)]
        start = int(fields[1]) - 1
        if not any(self.in_reach(fields[0], *span) for span in (ranges or [(start, start + len(fields[3]))])):
            self.problems.count("lines outside every window", where)
            return
        genotypes, is_phased = read_genotypes(self.vcf, number, fields[8], fields[9], self.n_samples)
        genotypes, is_phased = genotypes[self.columns], is_phased[self.columns]
        if genotypes.max(initial=0) > len(alleles):
            raise ValueError(f"{self.vcf}, line {number}: a genotype names an allele that {where} does not have")
        missing = (genotypes == MISSING).any(axis=1).sum()
        self.problems.count(_MISSING_GENOTYPES, where, missing)
        if missing and self.missing_genotypes == "drop":
            self.problems.count("lines left out for missing genotypes", where)
            return
        self.problems.count(_UNPHASED, where, ((genotypes[:, 0] != genotypes[:, 1]) & ~is_phased).sum())
        for index, allele in enumerate(alleles, 1):
            haplotypes = (genotypes == index).astype(np.int8)
            if allele is None or not haplotypes.any():
                self.problems.count("alternative alleles that no donor carries", where)
            elif isinstance(allele, str):
                self.problems.count(_OTHER, f"{fields[0]}:{fields[1]} has {allele}")
            else:
                yield allele, haplotypes


def _separate_overlapping(vcf: Path, found: DonorSequenceVariants, overlapping: str) -> dict[str, int]:
    """Take later variants from the haplotypes that carry an earlier one at the same place; drop what nobody carries."""
    number = 0
    for row, later in _overlapping_rows(found):
        both = found.haplotypes[later] & found.haplotypes[row]
        if not both.any():
            continue
        if overlapping == "error":
            which, donor, haplotype = np.argwhere(both)[0]
            whose = f" of {found.donors[donor]} ({'first' if haplotype == 0 else 'second'})"
            raise ValueError(f"{vcf}: {overlap_message(found.variants[row], found.variants[later[which]], whose)}")
        found.haplotypes[later] &= ~both
        number += int(both.sum())
    if not number:
        return {}
    logger.warning("%s: %d times a haplotype carries a variant that overlaps an earlier one: left out", vcf, number)
    rows = np.flatnonzero(found.haplotypes.any(axis=(1, 2)))
    found.variants, found.haplotypes = [found.variants[row] for row in rows], found.haplotypes[rows]
    found.__post_init__()
    return {"variants of a haplotype that overlap an earlier one": number}


def _overlapping_rows(found: DonorSequenceVariants) -> Iterator[tuple[int, np.ndarray]]:
    """Each row with the later rows that change some of its bases, or insert where it inserts."""
    aliases = np.array([contig_alias(contig) for contig in found.contig.tolist()], dtype=str)
    changes = np.flatnonzero(aliases[1:] != aliases[:-1]) + 1
    for first, last in zip([0, *changes], [*changes, len(found)], strict=True):
        start, end = found.start[first:last], found.end[first:last]
        number = np.arange(len(start))
        behind = np.searchsorted(start, end, side="left")  # the first row that begins where this one ends, or later
        is_insertion = start == end
        runs = np.searchsorted(start * 2 + ~is_insertion, start * 2, side="right")  # insertions before the others
        behind = np.where(is_insertion, runs, behind)
        for row in np.flatnonzero(behind > number + 1):
            yield first + int(row), first + np.arange(row + 1, behind[row])


def _drawn_in(found: DonorSequenceVariants, windows: pd.DataFrame, margin: int) -> int:
    """How many bases beyond a window one haplotype's deletions and inversions there can draw in, at most."""
    loss = np.array([edit.drawn_in for edit in found.edits], dtype=np.int64)
    rows = np.flatnonzero(loss)
    aliases = np.array([contig_alias(contig) for contig in found.contig[rows].tolist()], dtype=str)
    most = 0
    for contig, group in windows.groupby(windows["contig"].map(contig_alias)):
        here = rows[aliases == contig]
        if not len(here):
            continue
        reach = np.maximum.accumulate(found.end[here])
        firsts = np.searchsorted(reach, group["start"].to_numpy() - margin, side="left")
        lasts = np.searchsorted(found.start[here], group["end"].to_numpy() + margin, side="right")
        for first, last in {*zip(firsts.tolist(), lasts.tolist(), strict=True)}:
            near = here[first:last]
            if len(near):
                carried = found.haplotypes[near].reshape(len(near), -1)
                most = max(most, int((loss[near] @ carried).max()))
    return most


def _in_reach(windows: pd.DataFrame | None, margin: int) -> Callable[[str, int, int], bool]:
    """Whether bases [start, end) touch a window or its margin, by any name of the contig."""
    if windows is None:
        return lambda *_: True
    merged: dict[str, tuple[list[int], list[int]]] = {}
    for contig, group in windows.groupby(windows["contig"].map(contig_alias)):
        group = group.sort_values("start", kind="stable")
        ends = np.maximum.accumulate(group["end"].to_numpy()) + margin
        merged[contig] = (group["start"].to_numpy() - margin).tolist(), ends.tolist()

    def in_reach(contig: str, start: int, end: int) -> bool:
        starts, ends = merged.get(contig_alias(contig), ([], []))
        number = bisect_right(starts, end) - 1
        return number >= 0 and start <= ends[number]

    return in_reach


def _columns(wanted: Sequence[str], samples: Sequence[str], where: str) -> np.ndarray:
    """(donors,) int64: where each donor is among the samples."""
    if len(set(wanted)) < len(wanted) or not wanted:
        raise ValueError(f"donors are {', '.join(wanted) or 'none'}; expected one or more names, each once")
    places = {name: number for number, name in enumerate(samples)}
    absent = [name for name in wanted if name not in places]
    if absent:
        near = difflib.get_close_matches(absent[0], samples, n=3, cutoff=0.5) or list(samples[:3])
        raise ValueError(
            f"{len(absent)} donors are not among the {len(samples):,} samples of {where}, first {absent[0]!r}: did you "
            f"mean {' or '.join(near)}?"
        )
    return np.array([places[name] for name in wanted], dtype=np.int64)
