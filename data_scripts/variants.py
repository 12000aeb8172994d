"""Donors' phased single-nucleotide variants from a VCF file, plain, gzip or BGZF.

Format: VCF 4.1 and later (https://samtools.github.io/hts-specs/VCFv4.3.pdf). SNVs only: for donors' variants of every
kind see `donor_variants.py`. Positions are 0-based here, 1-based in the file.
"""

import gzip
import logging
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from .genomes import Genome, contig_alias

logger = logging.getLogger(__name__)

_FIXED_COLUMNS = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"]
MISSING = -1


@dataclass
class DonorVariants:
    """Which alternative alleles each haplotype of each donor carries; sorted by contig and position.

    Attributes:
        donors: the samples' names.
        contig: (variants,) str, as the VCF names them.
        position: (variants,) int64, 0-based.
        reference: (variants,) uint8, the base's ASCII code.
        alternative: (variants,) uint8, likewise. A site with several alternatives is several variants.
        haplotypes: (variants, donors, 2) int8, 1 where the haplotype carries the alternative.
        report: counts of what was read, changed and left out.
    """

    donors: list[str]
    contig: np.ndarray
    position: np.ndarray
    reference: np.ndarray
    alternative: np.ndarray
    haplotypes: np.ndarray
    report: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.position)

    def take(self, rows: np.ndarray) -> "DonorVariants":
        """The variants of these rows, with the same donors."""
        return DonorVariants(
            self.donors,
            self.contig[rows],
            self.position[rows],
            self.reference[rows],
            self.alternative[rows],
            self.haplotypes[rows],
            dict(self.report),
        )


def read_phased_snvs(
    vcf: str | Path,
    *,
    windows: pd.DataFrame | None = None,
    unphased: Literal["error", "as_written"] = "error",
    missing_genotypes: Literal["error", "reference"] = "error",
    other_variants: Literal["error", "drop"] = "error",
) -> DonorVariants:
    """Read the SNVs that some donor carries.

    A haploid genotype (`1`, as on a male X) counts for both haplotypes. Homozygous genotypes need no phase.

    Args:
        vcf: plain, gzip or BGZF, with genotypes (GT).
        windows: columns contig, start, end (0-based, half-open): only variants within one of them are kept or checked.
        unphased: what to do with heterozygous genotypes written `0/1`: raise, or take the order as written.
        missing_genotypes: what to do with `.`: raise, or take the reference allele.
        other_variants: what to do with insertions, deletions, symbolic and longer alleles: raise, or leave them out
            (a donor that carries one counts as reference there).

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: on a broken line, a file without samples, two different alleles at one place of a haplotype, or what
            the policies above refuse; says how many there are and which come first.
    """
    vcf = Path(vcf)
    if not vcf.is_file():
        raise FileNotFoundError(f"no VCF file at {vcf}")
    _check_policies(unphased, missing_genotypes, other_variants)
    lines = vcf_lines(vcf)
    donors = read_donors(vcf, lines)
    problems = VcfProblems(
        vcf,
        {
            "heterozygous genotypes without phase": (unphased == "error", 'unphased="as_written"'),
            "missing genotypes": (missing_genotypes == "error", 'missing_genotypes="reference"'),
            "alleles that are no SNVs": (other_variants == "error", 'other_variants="drop"'),
        },
    )
    in_reach = _in_reach(windows)
    sites = [site for number, line in lines for site in _parse_line(vcf, number, line, len(donors), in_reach, problems)]
    problems.raise_or_log()
    return _assemble(vcf, donors, sites, problems.report)


def check_reference(variants: DonorVariants, genome: Genome) -> None:
    """Hold each variant's reference allele against the genome.

    Raises:
        ValueError: naming how many differ, the first one's contig, 1-based position, and both bases; or a contig that
            the genome lacks.
    """
    wrong = []
    for contig in dict.fromkeys(variants.contig.tolist()):
        rows = np.flatnonzero(variants.contig == contig)
        first, last = variants.position[rows].min(), variants.position[rows].max()
        bases = np.frombuffer(genome.fetch(contig, int(first), int(last) + 1), dtype=np.uint8)
        found = bases[variants.position[rows] - first]
        wrong += [(row, base) for row, base in zip(rows, found, strict=True) if base != variants.reference[row]]
    if wrong:
        row, base = wrong[0]
        raise ValueError(
            f"{len(wrong):,} of {len(variants):,} variants have another reference allele than the genome "
            f"{genome.path}, first {variants.contig[row]}:{variants.position[row] + 1} (1-based): "
            f"{chr(variants.reference[row])} in the VCF, {chr(base)} in the genome. Are both of one assembly?"
        )


@dataclass
class _Site:
    contig: str
    position: int
    reference: str
    alternative: str
    haplotypes: np.ndarray  # (donors, 2) int8


class VcfProblems:
    """Counts what the policies are about, and at the end raises for the kinds that are refused."""

    def __init__(self, vcf: Path, refused: dict[str, tuple[bool, str]]) -> None:
        """`refused`: kind of problem -> whether it is refused, and the argument that would let it pass."""
        self.vcf = vcf
        self.report: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        self._refused = refused

    def count(self, kind: str, where: str, number: int = 1) -> None:
        if number:
            self.report[kind] = self.report.get(kind, 0) + int(number)
            if len(examples := self._examples.setdefault(kind, [])) < 5:
                examples.append(where)

    def raise_or_log(self) -> None:
        for kind in self._examples:
            number = self.report[kind]
            is_refused, remedy = self._refused.get(kind, (False, ""))
            examples = "; ".join(self._examples[kind])
            if is_refused:
                raise ValueError(f"{self.vcf}: {number:,} {kind}, first {examples}. Mend the file, or pass {remedy}")
            logger.info("%s: %d %s, first %s", self.vcf, number, kind, examples)


def _parse_line(
    vcf: Path, number: int, line: str, n_donors: int, in_reach: Callable[[str, int], bool], problems: VcfProblems
) -> list[_Site]:
    """The SNVs of a line that some donor carries, one for each alternative allele."""
    fields = line.split("\t", 9)
    if len(fields) < 10 or not fields[1].isdigit():
        raise ValueError(f"{vcf}, line {number}: expected {9 + n_donors} tab-separated columns, the second a position")
    contig, position, reference = fields[0], int(fields[1]) - 1, fields[3].upper()
    where = f"{contig}:{position + 1} {fields[3]}>{fields[4]}"
    problems.report["lines"] = problems.report.get("lines", 0) + 1
    if not in_reach(contig, position):
        return []
    alleles, is_phased = read_genotypes(vcf, number, fields[8], fields[9], n_donors)
    if alleles.max(initial=0) > len(fields[4].split(",")):
        raise ValueError(f"{vcf}, line {number}: a genotype names an allele that {where} does not have")
    problems.count("missing genotypes", where, (alleles == MISSING).any(axis=1).sum())
    is_heterozygous = alleles[:, 0] != alleles[:, 1]
    problems.count("heterozygous genotypes without phase", where, (is_heterozygous & ~is_phased).sum())
    sites = []
    for index, alternative in enumerate(fields[4].upper().split(","), 1):
        haplotypes = (alleles == index).astype(np.int8)
        if alternative in (".", reference) or not haplotypes.any():
            problems.count("alternative alleles that no donor carries", where)
        elif len(reference) == 1 and len(alternative) == 1 and reference + alternative in _SNVS:
            sites.append(_Site(contig, position, reference, alternative, haplotypes))
        else:
            problems.count("alleles that are no SNVs", where)
    return sites


_SNVS = {first + second for first in "ACGT" for second in "ACGT" if first != second}


def read_genotypes(vcf: Path, number: int, genotype_format: str, samples: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Alleles (donors, 2) int8, -1 where missing, and whether each donor's are phased (donors,) bool."""
    if genotype_format == "GT" and len(samples) == 4 * n - 1:  # 0|1 each, as in most files: no Python loop
        text = np.frombuffer((samples + "\t").encode(), dtype=np.uint8).reshape(n, 4)
        alleles = text[:, [0, 2]].astype(np.int8) - ord("0")
        if (text[:, 3] == ord("\t")).all() and np.isin(text[:, 1], [ord("|"), ord("/")]).all() and (alleles >= 0).all():
            return alleles, text[:, 1] == ord("|")
    keys, columns = genotype_format.split(":"), samples.split("\t")
    if "GT" not in keys or len(columns) != n:
        raise ValueError(f"{vcf}, line {number}: {len(columns)} samples with {genotype_format}; expected {n} with GT")
    genotypes = [column.split(":")[keys.index("GT")] for column in columns]
    pairs = [genotype.replace("/", "|").split("|") for genotype in genotypes]
    try:
        alleles = np.array(
            [[MISSING if one == "." else int(one) for one in (pair * 2 if len(pair) == 1 else pair)] for pair in pairs],
            dtype=np.int8,
        ).reshape(n, 2)
    except ValueError as error:
        raise ValueError(
            f"{vcf}, line {number}: a genotype that is not of one or two alleles: {genotypes[:5]}"
        ) from error
    return alleles, np.array(["/" not in genotype for genotype in genotypes])


def _assemble(vcf: Path, donors: list[str], sites: list[_Site], report: dict[str, int]) -> DonorVariants:
    contigs = list(dict.fromkeys(site.contig for site in sites))
    order = {contig: index for index, contig in enumerate(contigs)}
    sites = sorted(sites, key=lambda site: (order[site.contig], site.position, site.alternative))
    stacked = [site.haplotypes for site in sites]
    haplotypes = np.stack(stacked) if stacked else np.zeros((0, len(donors), 2), dtype=np.int8)
    for (contig, position), group in groupby(sites, key=lambda site: (site.contig, site.position)):
        if np.sum([site.haplotypes for site in group], axis=0).max() > 1:
            raise ValueError(
                f"{vcf}: a haplotype carries two alternative alleles at {contig}:{position + 1} (1-based): the site is "
                "in the file twice; merge or remove one line"
            )
    report = {**report, "variants": len(sites)}
    logger.info("%s: %d donors, %s", vcf, len(donors), report)
    return DonorVariants(
        donors,
        np.array([site.contig for site in sites], dtype=str),
        np.array([site.position for site in sites], dtype=np.int64),
        np.array([ord(site.reference) for site in sites], dtype=np.uint8),
        np.array([ord(site.alternative) for site in sites], dtype=np.uint8),
        haplotypes,
        report,
    )


def read_donors(vcf: Path, lines: Iterator[tuple[int, str]]) -> list[str]:
    """The samples' names, from the header; `lines` is then at the first row."""
    for _, line in lines:
        if line.startswith("##"):
            continue
        columns = line.split("\t")
        if columns[:9] != _FIXED_COLUMNS or len(columns) < 10:
            raise ValueError(f"{vcf}: expected a line `#CHROM ... FORMAT` with samples behind it, found {line[:80]!r}")
        if len(set(columns)) < len(columns):
            raise ValueError(f"{vcf}: two samples have one name")
        return columns[9:]
    raise ValueError(f"{vcf} has no header line `#CHROM ... FORMAT sample ...`")


def vcf_lines(vcf: Path) -> Iterator[tuple[int, str]]:
    """Numbers, from 1, and texts of the lines of a plain, gzip or BGZF file, empty ones aside.

    Raises:
        ValueError: where it is damaged, truncated or not text.
    """
    with vcf.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    opener: Callable = gzip.open if is_gzip else open
    try:
        with opener(vcf, "rt", encoding="utf-8") as text:
            for number, line in enumerate(text, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise ValueError(f"{vcf} is damaged, truncated or not text: {error}") from error


def _in_reach(windows: pd.DataFrame | None) -> Callable[[str, int], bool]:
    """Whether a position is within one of the windows, by any name of its contig."""
    if windows is None:
        return lambda *_: True
    merged = {}
    for contig, group in windows.groupby(windows["contig"].map(contig_alias)):
        starts = np.sort(group["start"].to_numpy())
        ends = np.maximum.accumulate(group.sort_values("start", kind="stable")["end"].to_numpy())
        merged[contig] = starts, ends

    def in_reach(contig: str, position: int) -> bool:
        starts, ends = merged.get(contig_alias(contig), (np.zeros(0), np.zeros(0)))
        index = int(np.searchsorted(starts, position, side="right")) - 1
        return index >= 0 and bool(position < ends[index])

    return in_reach


def _check_policies(unphased: str, missing_genotypes: str, other_variants: str) -> None:
    policies = {
        "unphased": (unphased, ("error", "as_written")),
        "missing_genotypes": (missing_genotypes, ("error", "reference")),
        "other_variants": (other_variants, ("error", "drop")),
    }
    for name, (value, expected) in policies.items():
        if value not in expected:
            raise ValueError(f"{name} is {value!r}; expected {' or '.join(expected)}")
