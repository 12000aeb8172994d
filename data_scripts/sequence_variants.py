"""Variants of DNA of every kind: what each does to the reference, read from text and from rows of a VCF, and checked.

Kinds: SNVs, insertions, deletions, substitutions, inversions and tandem duplications. Formats: `chr8:11704300:G>A` and
`chr8:11704300-11704350:inv` (1-based, both ends included), and VCF 4.1 and later
(https://samtools.github.io/hts-specs/VCFv4.4.pdf), where <DEL>, <INV> and <DUP> begin behind POS and end with END, or
SVLEN bases on. Coordinates are 0-based, half-open elsewhere. Alleles are taken where they stand, not left-aligned.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from .genomes import Genome
from .variants import vcf_lines

logger = logging.getLogger(__name__)

Kind = Literal["snv", "insertion", "deletion", "substitution", "inversion", "duplication"]
SYMBOLIC: dict[str, Kind] = {"<DEL>": "deletion", "<INV>": "inversion", "<DUP>": "duplication"}

_ALLELES = re.compile(r"(?P<contig>.+):(?P<position>[\d,]+):(?P<reference>[A-Za-z]+)>(?P<alternative>[A-Za-z]+)")
_RANGE = re.compile(r"(?P<contig>.+):(?P<first>[\d,]+)-(?P<last>[\d,]+):(?P<kind>del|inv|dup)", re.IGNORECASE)
_BASES = re.compile(r"[ACGT]+")
_COLUMNS = ["#CHROM", "POS", "ID", "REF", "ALT"]
_BLOCK_BP = 1 << 16  # the genome is read in blocks of this length where variants are held against it


class VariantEdit(NamedTuple):
    """What a variant does: the reference's bases [start, end) give way to `bases`, are turned round or come twice.

    Bases that both alleles share in front are no part of it, nor those that they then share at the end.
    """

    start: int
    end: int
    bases: str
    kind: Kind

    @property
    def length_change(self) -> int:
        """Bases that the contig gains, negative where it loses some."""
        if self.kind == "inversion":
            return 0
        return self.end - self.start if self.kind == "duplication" else len(self.bases) - (self.end - self.start)

    @property
    def drawn_in(self) -> int:
        """How many bases from beyond a window it may draw in, at most: a lost TSS moves the window too."""
        if self.kind == "inversion" or (self.kind != "duplication" and self.length_change):
            return self.end - self.start
        return 0


@dataclass(frozen=True)
class SequenceVariant:
    """One alternative allele, as it is written.

    Attributes:
        contig: as the user names it.
        start, end: the bases that are written or named: of the reference allele, or the range of a symbolic one.
        reference: upper-case ACGT; "" for a symbolic allele, of which only the range is known.
        alternative: upper-case ACGT, or <DEL>, <INV> or <DUP>.
        base_before: the base in front of a symbolic allele's range, where a VCF names it; else "".
        name: e.g. an rs number; "" where there is none.

    Raises:
        ValueError: on other letters, an empty range, a coordinate below 0, or alleles that are the same.
    """

    contig: str
    start: int
    end: int
    reference: str
    alternative: str
    base_before: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if self.start < 0:
            raise ValueError(f"{self}: positions begin with 1")
        if self.is_symbolic:
            if self.end <= self.start or self.reference:
                raise ValueError(f"{self}: expected a range that ends no sooner than it begins")
            return
        for which, allele in (("reference", self.reference), ("alternative", self.alternative)):
            if not _BASES.fullmatch(allele):
                raise ValueError(
                    f"{self}: the {which} allele is {allele[:60]!r}; expected A, C, G and T, or a range with del, inv "
                    "or dup. An insertion or deletion is written with the base in front of it, as in a VCF"
                )
        if self.end != self.start + len(self.reference):
            raise ValueError(f"{self}: ends at {self.end:,}, expected {self.start + len(self.reference):,}")
        if self.reference == self.alternative:
            raise ValueError(f"{self}: both alleles are the same, so it changes nothing")

    def __str__(self) -> str:
        """`chr:position:REF>ALT` or `chr:first-last:inv`, 1-based, long alleles cut."""
        if self.is_symbolic:
            return f"{self.contig}:{self.start + 1}-{self.end}:{self.alternative.strip('<>').lower()}"
        return f"{self.contig}:{self.start + 1}:{_cut(self.reference)}>{_cut(self.alternative)}"

    @property
    def is_symbolic(self) -> bool:
        """Whether the alternative is a name and not a sequence."""
        return self.alternative in SYMBOLIC

    @property
    def kind(self) -> Kind:
        """By what it does: see `edit`."""
        return self.edit().kind

    def edit(self) -> VariantEdit:
        """What it does to the reference."""
        if self.is_symbolic:
            return VariantEdit(self.start, self.end, "", SYMBOLIC[self.alternative])
        reference, alternative = self.reference, self.alternative
        front = _shared_length(reference, alternative)
        reference, alternative = reference[front:], alternative[front:]
        back = _shared_length(reference[::-1], alternative[::-1])
        start, end = self.start + front, self.end - back
        bases = alternative[: len(alternative) - back]
        return VariantEdit(start, end, bases, _kind(end - start, len(bases)))


class SequenceVariants(NamedTuple):
    """Variants, and how many alternative alleles were left out, by reason."""

    variants: list[SequenceVariant]
    left_out: dict[str, int]


def parse_variant(text: str) -> SequenceVariant:
    """`chr8:11704300:GTC>G`, or `chr8:11704300-11704350:del`, `:inv` or `:dup`; 1-based, both ends included.

    Raises:
        ValueError: where it is written otherwise.
    """
    text = text.strip()
    if found := _RANGE.fullmatch(text):
        first, last = (_number(found[name]) for name in ("first", "last"))
        return SequenceVariant(found["contig"], first - 1, last, "", f"<{found['kind'].upper()}>")
    if found := _ALLELES.fullmatch(text):
        start = _number(found["position"]) - 1
        reference, alternative = found["reference"].upper(), found["alternative"].upper()
        return SequenceVariant(found["contig"], start, start + len(reference), reference, alternative)
    raise ValueError(
        f"the variant {text[:80]!r} is not written chr:position:REF>ALT or chr:first-last:del, :inv or :dup (1-based), "
        "e.g. chr8:11704300:G>A; an insertion or deletion has the base in front of it in both alleles, e.g. "
        "chr8:11704300:G>GT"
    )


def read_sequence_variants(vcf: str | Path, *, other_variants: Literal["error", "drop"] = "error") -> SequenceVariants:
    """Every alternative allele of a VCF file's sites, in the file's order; genotypes are not looked at.

    For what the haplotypes of donors carry, see `read_donor_variants`.

    Args:
        vcf: plain, gzip or BGZF, with or without samples.
        other_variants: what to do with alleles that are neither sequence nor <DEL>, <INV> or <DUP>: raise, or leave
            them out by count.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: on a file without the line `#CHROM ...`, a broken line, or alleles that are refused, by name.
    """
    vcf = Path(vcf)
    if not vcf.is_file():
        raise FileNotFoundError(f"no VCF file at {vcf}")
    if other_variants not in ("error", "drop"):
        raise ValueError(f'other_variants is {other_variants!r}; expected "error" or "drop"')
    variants: list[SequenceVariant] = []
    left_out: dict[str, int] = {}
    has_header = False
    for number, line in vcf_lines(vcf):
        fields = line.split("\t", 8)
        if line.startswith("##"):
            continue
        if not has_header:
            if fields[:5] != _COLUMNS:
                raise ValueError(f"{vcf}, line {number}: expected `#CHROM POS ID REF ALT ...`, found {line[:80]!r}")
            has_header = True
            continue
        for allele in alleles_of_row(fields, f"{vcf}, line {number}"):
            if isinstance(allele, SequenceVariant):
                variants.append(allele)
            elif allele is not None:
                left_out[allele] = left_out.get(allele, 0) + 1
                if other_variants == "error":
                    raise ValueError(
                        f"{vcf}, line {number}: {fields[0]}:{fields[1]} has {allele}. Mend the file, or pass "
                        'other_variants="drop" to leave such alleles out'
                    )
    if not has_header:
        raise ValueError(f"{vcf} has no header line `#CHROM POS ID REF ALT ...`")
    if left_out:
        logger.warning("%s: alternative alleles left out: %s", vcf, left_out)
    return SequenceVariants(variants, left_out)


def alleles_of_row(fields: Sequence[str], where: str) -> list[SequenceVariant | str | None]:
    """The alternative alleles of a VCF's row, one each: a variant, why it can be none, or None where it is no change.

    Args:
        fields: the row's columns, CHROM to ALT at least; INFO, the eighth, is needed by symbolic alleles.
        where: names the row in errors.

    Raises:
        ValueError: on too few columns, a position that is no number, or a symbolic allele without an end.
    """
    if len(fields) < 5 or not fields[1].isdigit() or not all(fields[:5]):
        raise ValueError(
            f"{where}: found {' '.join(fields)[:80]!r}; expected tab-separated contig, position, id, REF and ALT"
        )
    contig, position, name, reference = fields[0], int(fields[1]), fields[2], fields[3].upper()
    label = "" if name == "." else name
    alternatives = fields[4].split(",")
    info = _info(fields[7]) if len(fields) > 7 and "<" in fields[4] else {}
    alleles: list[SequenceVariant | str | None] = []
    for index, alternative in enumerate(alternatives):
        symbol = _symbol(alternative.upper())
        if alternative == "." or alternative.upper() == reference:
            alleles.append(None)
        elif symbol in SYMBOLIC:
            end = _symbolic_end(position, info, index, len(alternatives), f"{where}: {contig}:{position} {alternative}")
            base = reference if len(reference) == 1 and reference in "ACGT" else ""
            alleles.append(
                end if isinstance(end, str) else SequenceVariant(contig, position, end, "", symbol, base, label)
            )
        elif _BASES.fullmatch(reference) and _BASES.fullmatch(alternative.upper()):
            start = position - 1
            alleles.append(
                SequenceVariant(contig, start, start + len(reference), reference, alternative.upper(), name=label)
            )
        else:
            alleles.append(f"the allele {_named(alternative, reference)}")
    return alleles


def check_variants(variants: Sequence[SequenceVariant], genome: Genome) -> None:
    """Hold variants against the genome: they are within their contigs, and the bases that they name are there.

    Raises:
        ValueError: naming how many are wrong, the first of them, and what the genome has; or an unknown contig.
    """
    names = {contig: genome.resolve(contig) for contig in dict.fromkeys(variant.contig for variant in variants)}
    _check_within(variants, names, genome)
    wrong: list[tuple[SequenceVariant, str]] = []
    contig, block_start, block = "", 0, b""
    for variant in sorted(variants, key=lambda one: (names[one.contig], one.start)):
        name = names[variant.contig]
        start, written = _written(variant)
        if not written:
            continue
        if name != contig or start < block_start or start + len(written) > block_start + len(block):
            end = min(max(start + _BLOCK_BP, start + len(written)), genome.contigs[name])
            contig, block_start, block = name, start, genome.fetch(name, start, end)
        found = block[start - block_start : start - block_start + len(written)].decode()
        if found != written:
            wrong.append((variant, found))
    if wrong:
        variant, found = wrong[0]
        what = "base in front" if variant.is_symbolic else "reference allele"
        start, written = _written(variant)
        raise ValueError(
            f"{len(wrong):,} of {len(variants):,} variants have another {what} than the genome {genome.path}, first "
            f"{variant.contig}:{start + 1} (1-based): {_cut(written)} in {variant}, {_cut(found)} in the genome. Are "
            "both of one assembly, and is the position 1-based?"
        )


def _check_within(variants: Sequence[SequenceVariant], names: Mapping[str, str], genome: Genome) -> None:
    outside = [
        variant
        for variant in variants
        if _written(variant)[0] < genome.starts[names[variant.contig]]
        or variant.end > genome.contigs[names[variant.contig]]
    ]
    if outside:
        name = names[outside[0].contig]
        raise ValueError(
            f"{len(outside):,} of {len(variants):,} variants are outside their contig, first {outside[0]} (1-based); "
            f"{name} in {genome.path} spans {genome.starts[name] + 1:,}-{genome.contigs[name]:,}. Are both of one "
            "assembly? A piece of a contig needs its offset"
        )


def _written(variant: SequenceVariant) -> tuple[int, str]:
    """The bases that a variant says the reference has, and where they begin; "" where it says nothing."""
    if variant.is_symbolic:
        return variant.start - len(variant.base_before), variant.base_before
    return variant.start, variant.reference


def _symbol(alternative: str) -> str:
    """<DEL:ME> -> <DEL> and <DUP:TANDEM> -> <DUP>; other duplications lie elsewhere than behind the first."""
    if alternative.startswith("<DEL:"):
        return "<DEL>"
    return "<DUP>" if alternative == "<DUP:TANDEM>" else alternative


def _symbolic_end(position: int, info: Mapping[str, str], index: int, n: int, where: str) -> int | str:
    """The end of a range that begins behind POS, or why there is none to be had."""
    lengths = info.get("SVLEN", "").split(",")
    length = lengths[index if len(lengths) == n else 0].lstrip("-")
    ends = {
        *([int(info["END"])] if info.get("END", "").isdigit() else []),
        *([position + int(length)] if length.isdigit() else []),
    }
    if not ends or min(ends) <= position:
        raise ValueError(f"{where}: a symbolic allele needs END or SVLEN in INFO, behind its position")
    return ends.pop() if len(ends) == 1 else "symbolic alleles whose END and SVLEN disagree"


def _info(text: str) -> dict[str, str]:
    return {key: value for key, _, value in (entry.partition("=") for entry in text.split(";"))}


def _named(alternative: str, reference: str) -> str:
    """How an allele that is refused is called."""
    if alternative.startswith("<"):
        return alternative
    if "[" in alternative or "]" in alternative:
        return "breakend"
    if alternative == "*":
        return "*"
    other = alternative if _BASES.fullmatch(reference) else reference
    return f"{_cut(other)} (letters other than ACGT)"


def _kind(removed: int, inserted: int) -> Kind:
    if not inserted:
        return "deletion"
    if not removed:
        return "insertion"
    return "snv" if removed == inserted == 1 else "substitution"


def _shared_length(first: str, second: str) -> int:
    """How many letters two strings begin with in common."""
    for number, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return number
    return min(len(first), len(second))


def _number(text: str) -> int:
    digits = text.replace(",", "")
    if not digits:
        raise ValueError(f"the position {text!r} is no number")
    return int(digits)


def _cut(bases: str, limit: int = 40) -> str:
    return bases if len(bases) <= limit else f"{bases[: limit - 3]}... ({len(bases):,} bases)"
