"""Phased SNVs: parsing against a plain loop, policies, and the reference allele against the genome."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.genomes import open_genome
from omics_transformers.data_scripts.variants import DonorVariants, check_reference, read_phased_snvs

HEADER = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tann\tbob\n"


def write_vcf(path: Path, rows: list[str]) -> Path:
    """Rows of `contig position reference alternative ann bob`, or with a format before ann."""
    lines = []
    for row in rows:
        contig, position, reference, alternative, *rest = row.split()
        genotype_format, ann, bob = rest if len(rest) == 3 else ("GT", *rest)
        lines.append(
            "\t".join([contig, position, ".", reference, alternative, ".", ".", ".", genotype_format, ann, bob])
        )
    data = (HEADER + "\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def described(variants: DonorVariants) -> list[str]:
    """`contig:position(0-based)ref>alt haplotypes` a variant."""
    return [
        f"{contig}:{position}{chr(reference)}>{chr(alternative)} {''.join(map(str, haplotypes.ravel()))}"
        for contig, position, reference, alternative, haplotypes in zip(
            variants.contig,
            variants.position,
            variants.reference,
            variants.alternative,
            variants.haplotypes,
            strict=True,
        )
    ]


@pytest.mark.parametrize("name", ["v.vcf", "v.vcf.gz"])
def test_variants_are_sorted_split_and_counted(name: str, tmp_path: Path) -> None:
    rows = ["chr2 9 A G 0|1 1|1", "1 5 c t 0|0 1|0", "chr2 3 A C,T 1|2 0|2", "1 7 A G 0|0 0|0", "1 8 G . 0|0 0|0"]
    variants = read_phased_snvs(write_vcf(tmp_path / name, rows))
    assert variants.donors == ["ann", "bob"]
    assert described(variants) == ["chr2:2A>C 1000", "chr2:2A>T 0101", "chr2:8A>G 0111", "1:4C>T 0010"]
    assert variants.report == {"lines": 5, "alternative alleles that no donor carries": 2, "variants": 4}


def test_genotypes_with_other_fields_haploid_and_homozygous_without_phase(tmp_path: Path) -> None:
    rows = ["X 1 A C GT:DP 0|1:7 1:3", "X 2 A C DP:GT 7:1/1 3:0", "X 3 A C 0/0 1|0"]
    assert described(read_phased_snvs(write_vcf(tmp_path / "v.vcf", rows))) == [
        "X:0A>C 0111",
        "X:1A>C 1100",
        "X:2A>C 0010",
    ]


genotypes = st.tuples(st.sampled_from("012"), st.sampled_from("012")).map("|".join)


@given(st.lists(st.tuples(genotypes, genotypes), min_size=1, max_size=6), st.booleans())
def test_parsing_agrees_with_a_plain_loop(rows: list[tuple[str, str]], with_depth: bool) -> None:
    import tempfile

    lines = [
        f"1 {number} A C,G GT:DP {ann}:1 {bob}:22" if with_depth else f"1 {number} A C,G {ann} {bob}"
        for number, (ann, bob) in enumerate(rows, 1)
    ]
    expected = []
    for position, pair in enumerate(rows):
        for allele, base in (("1", "C"), ("2", "G")):
            carried = "".join(str(int(one == allele)) for genotype in pair for one in genotype.split("|"))
            expected += [f"1:{position}A>{base} {carried}"] if "1" in carried else []
    with tempfile.TemporaryDirectory() as folder:
        assert described(read_phased_snvs(write_vcf(Path(folder) / "v.vcf", lines))) == expected


@pytest.mark.parametrize(
    ("row", "kind", "policy", "haplotypes"),
    [
        (
            "1 2 A C 0/1 1|0",
            "1 heterozygous genotypes without phase, first 1:2 A>C",
            {"unphased": "as_written"},
            "0110",
        ),
        ("1 2 A C .|. 1|0", "1 missing genotypes, first 1:2", {"missing_genotypes": "reference"}, "0010"),
        ("1 2 A C . 1|0", "1 missing genotypes", {"missing_genotypes": "reference"}, "0010"),
    ],
)
def test_policies(row: str, kind: str, policy: dict, haplotypes: str, tmp_path: Path) -> None:
    path = write_vcf(tmp_path / "v.vcf", [row])
    with pytest.raises(ValueError, match=kind + r".*pass " + next(iter(policy))):
        read_phased_snvs(path)
    variants = read_phased_snvs(path, **policy)
    assert described(variants) == [f"1:1A>C {haplotypes}"]
    assert kind[2:].split(",")[0] in variants.report
    with pytest.raises(ValueError, match="expected error or"):
        read_phased_snvs(path, **dict.fromkeys(policy, "ignore"))


def test_longer_variants_are_refused_by_name_or_dropped_by_count(tmp_path: Path) -> None:
    rows = ["1 2 A AC 0|1 1|0", "1 4 AT A 0|1 0|0", "1 6 A <DEL> 1|1 0|0", "1 8 A C,* 1|2 0|0", "1 9 AT GC 0|0 0|0"]
    path = write_vcf(tmp_path / "v.vcf", rows)
    with pytest.raises(
        ValueError, match=r'4 alleles that are no SNVs, first 1:2 A>AC; 1:4 AT>A.*other_variants="drop"'
    ):
        read_phased_snvs(path)
    variants = read_phased_snvs(path, other_variants="drop")
    assert described(variants) == ["1:7A>C 1000"]
    assert variants.report["alleles that are no SNVs"] == 4


def test_only_what_is_within_the_windows_is_kept_or_checked(tmp_path: Path) -> None:
    rows = [
        "chr1 10 A C 0|1 0|0",
        "chr1 11 A C 0|1 0|0",
        "chr1 20 A C 0|1 0|0",
        "chr1 21 A C 0/1 0|0",
        "2 15 A AC 0|1 0|0",
    ]
    windows = pd.DataFrame({"contig": ["1", "1"], "start": [12, 10], "end": [14, 20]})
    variants = read_phased_snvs(write_vcf(tmp_path / "v.vcf", rows), windows=windows)
    assert variants.position.tolist() == [10, 19]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no header line"),
        ("##x\n1\t2\t.\n", "expected a line `#CHROM"),
        (HEADER.replace("\tann\tbob", ""), "expected a line `#CHROM ... FORMAT` with samples"),
        (HEADER.replace("bob", "ann"), "two samples have one name"),
        (HEADER + "1\tx\t.\tA\tC\t.\t.\t.\tGT\t0|1\t0|1\n", "line 3: expected 11 tab-separated"),
        (HEADER + "1\t1\t.\tA\tC\t.\t.\t.\tGT\t0|1\n", "line 3: 1 samples with GT; expected 2"),
        (HEADER + "1\t1\t.\tA\tC\t.\t.\t.\tDP\t3\t4\n", "expected 2 with GT"),
        (HEADER + "1\t1\t.\tA\tC\t.\t.\t.\tGT\t0|1|1\t0|1\n", "not of one or two alleles"),
        (HEADER + "1\t1\t.\tA\tC\t.\t.\t.\tGT\t0|3\t0|1\n", "names an allele that 1:1 A>C does not have"),
        (HEADER + "".join(f"1\t1\t.\tA\t{b}\t.\t.\t.\tGT\t0|1\t0|0\n" for b in "CG"), "two alternative alleles at 1:1"),
    ],
)
def test_broken_files(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "v.vcf").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_phased_snvs(tmp_path / "v.vcf")


def test_missing_and_truncated_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no VCF file"):
        read_phased_snvs(tmp_path / "none.vcf")
    path = write_vcf(tmp_path / "v.vcf.gz", [f"1 {number} A C 0|1 0|0" for number in range(1, 200)])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="damaged, truncated"):
        read_phased_snvs(path)


def test_reference_alleles_against_the_genome(tmp_path: Path) -> None:
    (tmp_path / "g.fa").write_text(">chr1\nACGTACGT\n>2\nTTTT\n")
    genome = open_genome(tmp_path / "g.fa")
    right = read_phased_snvs(
        write_vcf(tmp_path / "a.vcf", ["1 2 C A 0|1 0|0", "1 8 T A 0|1 0|0", "chr2 4 T A 0|1 0|0"])
    )
    check_reference(right, genome)
    wrong = read_phased_snvs(write_vcf(tmp_path / "b.vcf", ["1 2 C A 0|1 0|0", "1 7 T A 0|1 0|0"]))
    with pytest.raises(ValueError, match=r"1 of 2 variants.*first 1:7 \(1-based\): T in the VCF, G in the genome"):
        check_reference(wrong, genome)
    with pytest.raises(ValueError, match="no contig '3'"):
        check_reference(read_phased_snvs(write_vcf(tmp_path / "c.vcf", ["3 2 C A 0|1 0|0"])), genome)
    check_reference(right.take(np.array([], dtype=int)), genome)
