"""Donors' variants of every kind: what each haplotype carries, policies, and what is read around windows."""

import gzip
import re
from pathlib import Path

import pandas as pd
import pytest

from omics_transformers.data_scripts.donor_variants import DonorSequenceVariants, read_donor_variants
from omics_transformers.data_scripts.variants import read_phased_snvs

HEADER = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tann\tbob\n"


def write_vcf(path: Path, *rows: str) -> Path:
    """Rows of `contig position reference alternative info ann bob`."""
    lines = []
    for row in rows:
        contig, position, reference, alternative, info, *genotypes = row.split()
        lines.append("\t".join([contig, position, ".", reference, alternative, ".", ".", info, "GT", *genotypes]))
    data = (HEADER + "\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def described(variants: DonorSequenceVariants) -> list[str]:
    return [
        f"{variant} {''.join(map(str, haplotypes.ravel()))}"
        for variant, haplotypes in zip(variants.variants, variants.haplotypes, strict=True)
    ]


@pytest.mark.parametrize("name", ["v.vcf", "v.vcf.gz"])
def test_variants_of_every_kind(name: str, tmp_path: Path) -> None:
    path = write_vcf(
        tmp_path / name,
        "1 5 A C,AT . 1|2 0|1",
        "1 8 GTC G . 0|1 0|0",
        "1 12 A AG . 0|0 0|0",
        "1 20 A <INV>,<DEL> END=25 1|0 2|1",
        "2 3 A <DUP> SVLEN=4 1 0|0",
    )
    variants = read_donor_variants(path)
    assert described(variants) == [
        "1:5:A>C 1001",
        "1:5:A>AT 0100",
        "1:8:GTC>G 0100",
        "1:21-25:del 0010",
        "1:21-25:inv 1001",
        "2:4-7:dup 1100",
    ]
    assert variants.start.tolist() == [4, 5, 8, 20, 20, 3] and variants.end.tolist() == [5, 5, 10, 25, 25, 7]
    assert variants.report == {"lines": 5, "alternative alleles that no donor carries": 1, "variants": 6}
    assert [str(one) for one in variants.haplotype("ann", 1)] == ["1:5:A>AT", "1:8:GTC>G", "2:4-7:dup"]
    bob = read_donor_variants(path, donors=["bob"])
    assert described(bob) == ["1:5:A>C 01", "1:21-25:del 10", "1:21-25:inv 01"]
    swapped = read_donor_variants(path, donors=["bob", "ann"])
    assert (swapped.donors, described(swapped)[0]) == (["bob", "ann"], "1:5:A>C 0110")


def test_snvs_are_what_the_reader_of_snvs_reads(tmp_path: Path) -> None:
    path = write_vcf(tmp_path / "v.vcf", "1 5 A C,G . 1|2 0|1", "1 8 G T . 0|1 1/1", "chr2 1 A C . 1 0")
    snvs = DonorSequenceVariants.of_snvs(read_phased_snvs(path))
    variants = read_donor_variants(path)
    assert described(snvs) == described(variants)
    assert snvs.report == variants.report


@pytest.mark.parametrize("wanted", [["Bob"], ["ann", "bobb"]])
def test_a_missing_donor_is_named_with_those_like_it(wanted: list[str], tmp_path: Path) -> None:
    path = write_vcf(tmp_path / "v.vcf", "1 5 A C . 1|0 0|1")
    with pytest.raises(ValueError, match=rf"1 donors are not among the 2 samples .*'{wanted[-1]}': did you mean bob"):
        read_donor_variants(path, donors=wanted)
    with pytest.raises(ValueError, match="did you mean ann"):
        read_donor_variants(path).haplotype("anne", 0)
    with pytest.raises(ValueError, match="each once"):
        read_donor_variants(path, donors=["ann", "ann"])


@pytest.mark.parametrize(
    ("rows", "message", "policy", "expected", "counted"),
    [
        (
            ["1 5 A <CNV> END=9 0|1 0|0", "1 6 A * . 0|1 1|0", "1 9 A C . 1|0 0|0"],
            '2 alleles that are neither .* 1:5 has the allele <CNV>; 1:6 has the allele [*].*other_variants="drop"',
            {"other_variants": "drop"},
            ["1:9:A>C 1000"],
            {"alleles that are neither sequence nor <DEL>, <INV> or <DUP>": 2},
        ),
        (
            ["1 9 A C . 1|0 0|0", "2 1 A C . 1|0 0|0", "2 9 A C . 1|0 0|0", "2 8 A C . 1|0 0|0", "1 4 A C . 1|0 0|0"],
            '2 lines out of order, first 2:8 behind 2:9; 1:4 behind 2:8.*unsorted="sort"',
            {"unsorted": "sort"},
            ["1:4:A>C 1000", "1:9:A>C 1000", "2:1:A>C 1000", "2:8:A>C 1000", "2:9:A>C 1000"],
            {"lines out of order": 2},
        ),
        (
            ["1 5 AAAA A . 1|0 0|1", "1 7 A G . 1|1 0|1", "1 7 A C . 0|0 1|0"],
            r'1:5:AAAA>A and 1:7:A>G overlap on one haplotype of ann \(first\).*overlapping="first"',
            {"overlapping": "first"},
            ["1:5:AAAA>A 1001", "1:7:A>C 0010", "1:7:A>G 0100"],
            {"variants of a haplotype that overlap an earlier one": 2},
        ),
        (
            ["1 5 A AC . 1|0 0|1", "1 5 A AG . 1|0 0|0", "1 5 A T . 1|0 0|0"],
            "1:5:A>AC and 1:5:A>AG overlap on one haplotype of ann",
            {"overlapping": "first"},
            ["1:5:A>T 1000", "1:5:A>AC 1001"],
            {"variants of a haplotype that overlap an earlier one": 1},
        ),
        (
            ["1 5 A C . .|1 0|1", "1 6 A AT . 0|1 0|0"],
            '1 missing genotypes.*missing_genotypes="reference" or missing_genotypes="drop"',
            {"missing_genotypes": "drop"},
            ["1:6:A>AT 0100"],
            {"missing genotypes": 1, "lines left out for missing genotypes": 1},
        ),
        (
            ["1 5 A C . .|1 0|1"],
            "1 missing genotypes",
            {"missing_genotypes": "reference"},
            ["1:5:A>C 0101"],
            {"missing genotypes": 1},
        ),
        (
            ["1 5 A AC . 0/1 1/1"],
            "1 heterozygous genotypes without phase",
            {"unphased": "as_written"},
            ["1:5:A>AC 0111"],
            {"heterozygous genotypes without phase": 1},
        ),
    ],
)
def test_policies(rows: list[str], message: str, policy: dict, expected: list, counted: dict, tmp_path: Path) -> None:
    path = write_vcf(tmp_path / "v.vcf", *rows)
    with pytest.raises(ValueError, match=message):
        read_donor_variants(path)
    variants = read_donor_variants(path, **policy)
    assert described(variants) == expected
    assert counted.items() <= variants.report.items()
    with pytest.raises(ValueError, match=f"{next(iter(policy))} is 'ignore'; expected error or"):
        read_donor_variants(path, **dict.fromkeys(policy, "ignore"))


def test_a_long_deletion_hides_many(tmp_path: Path) -> None:
    rows = [f"1 {position} A C . 1|1 0|0" for position in range(20, 60)]
    path = write_vcf(tmp_path / "v.vcf", "1 10 A <DEL> END=50 1|0 0|0", *rows)
    variants = read_donor_variants(path, overlapping="first")
    assert variants.report["variants of a haplotype that overlap an earlier one"] == 31
    assert variants.haplotypes[variants.start < 50][1:, 0, 0].sum() == 0
    assert variants.haplotypes[:, 0, 1].sum() == 40


def test_what_lies_outside_the_windows_is_counted_and_not_checked(tmp_path: Path) -> None:
    windows = pd.DataFrame({"contig": ["1"], "start": [100_000], "end": [100_020]})
    rows = [
        "1 1000 A * . 1|0 0|0",
        "1 85000 A C . 0/1 0|0",
        "1 89000 A <CNV> END=200000 1|0 0|0",
        "1 91000 A C . 0|1 0|0",
        "1 100010 AC A . 0|1 0|0",
        "1 112000 A C . . 0|0",
        "2 100010 A C . 1|0 0|0",
    ]
    variants = read_donor_variants(write_vcf(tmp_path / "a.vcf", *rows), windows=windows)
    assert described(variants) == ["1:91000:A>C 0100", "1:100010:AC>A 0100"]
    assert variants.report["lines outside every window"] == 5
    # A deletion of 30 kb draws in what is 30 kb away.
    rows[4] = "1 100010 A <DEL> END=130010 0|1 0|0"
    rows[5] = "1 130015 A C . 0|1 0|0"
    rows[0:3] = ["1 65000 A C . 0|1 0|0", "1 75000 A C . 0|1 0|0"]
    variants = read_donor_variants(write_vcf(tmp_path / "b.vcf", *rows), windows=windows)
    assert [int(position) for position in re.findall(r"1:(\d+)", " ".join(described(variants)))] == [
        75_000, 91_000, 100_011, 130_015,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1 x A C . 0|1 0|1", "line 3: expected 11 tab-separated"),
        ("1 5 A C . 0|2 0|1", "names an allele that 1:5 A>C does not have"),
        ("1 5 A C . 0|1", "1 samples with GT; expected 2"),
        ("1 5 A <DEL> . 0|1 0|1", "needs END or SVLEN"),
    ],
)
def test_broken_lines(row: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_donor_variants(write_vcf(tmp_path / "v.vcf", row))
    with pytest.raises(FileNotFoundError, match="no VCF file"):
        read_donor_variants(tmp_path / "none.vcf")
