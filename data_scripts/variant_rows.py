"""The sites of a VCF file, with or without samples: what its first five columns say, of variants of every kind.

Format: VCF 4.1 and later (https://samtools.github.io/hts-specs/VCFv4.3.pdf). For the haplotypes of donors, see
`variants.py`.
"""

from pathlib import Path
from typing import NamedTuple

from .variants import vcf_lines

_COLUMNS = ["#CHROM", "POS", "ID", "REF", "ALT"]


class VariantRow(NamedTuple):
    """A line's first five columns, as the file has them: `position` is 1-based, `alternative` may hold several."""

    contig: str
    position: int
    name: str
    reference: str
    alternative: str


def read_variant_rows(vcf: str | Path) -> list[VariantRow]:
    """Read a VCF file's sites, plain, gzip or BGZF, in the order of the file.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: on a file without the header line `#CHROM ...`, or a broken line, which it names.
    """
    vcf = Path(vcf)
    if not vcf.is_file():
        raise FileNotFoundError(f"no VCF file at {vcf}")
    rows: list[VariantRow] = []
    has_header = False
    for number, line in vcf_lines(vcf):
        if line.startswith("##"):
            continue
        fields = line.split("\t", 5)
        if not has_header:
            if fields[:5] != _COLUMNS:
                raise ValueError(f"{vcf}, line {number}: expected `#CHROM POS ID REF ALT ...`, found {line[:80]!r}")
            has_header = True
            continue
        if len(fields) < 5 or not fields[1].isdigit() or not all(fields[:5]):
            raise ValueError(
                f"{vcf}, line {number}: found {line[:80]!r}; expected tab-separated contig, position, id, REF and ALT"
            )
        rows.append(VariantRow(fields[0], int(fields[1]), *fields[2:5]))
    if not has_header:
        raise ValueError(f"{vcf} has no header line `#CHROM POS ID REF ALT ...`")
    return rows
