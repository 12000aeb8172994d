"""Variants of every kind from text and VCF, what they do to the reference, and what is refused by name."""

import gzip
from pathlib import Path

import pytest

from omics_transformers.data_scripts.genomes import open_genome
from omics_transformers.data_scripts.sequence_variants import (
    SequenceVariant,
    check_variants,
    parse_variant,
    read_sequence_variants,
)

HEADER = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
BASES = "ACGTACGTAACCGGTTACGT"


def write_vcf(path: Path, *rows: str, header: str = HEADER) -> Path:
    """Rows of `contig position id reference alternative info`."""
    lines = []
    for row in rows:
        contig, position, name, reference, alternative, *info = row.split()
        lines.append("\t".join([contig, position, name, reference, alternative, ".", ".", *(info or ["."])]) + "\n")
    data = (header + "".join(lines)).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize(
    ("text", "edit", "length_change"),
    [
        ("chr1:5:a>g", (4, 5, "G", "snv"), 0),
        ("chr1:1,005:A>AT", (1005, 1005, "T", "insertion"), 1),
        ("1:5:AA>AAA", (6, 6, "A", "insertion"), 1),  # what alleles share in front is taken off first
        ("1:5:GTC>G", (5, 7, "", "deletion"), -2),
        ("1:5:GAC>GTT", (5, 7, "TT", "substitution"), 0),
        ("1:5:ACG>TG", (4, 6, "T", "substitution"), -1),
        ("1:5:ACC>AGC", (5, 6, "G", "snv"), 0),
        ("HLA:A:5-9:inv", (4, 9, "", "inversion"), 0),
        ("chr1:5-9:DUP", (4, 9, "", "duplication"), 5),
        (" chr1:5-5:del ", (4, 5, "", "deletion"), -1),
    ],
)
def test_what_a_variant_does(text: str, edit: tuple, length_change: int) -> None:
    found = parse_variant(text).edit()
    assert (found, found.length_change) == (edit, length_change)


def test_texts_read_back_as_they_are_written() -> None:
    for text in ("chr1:5:A>G", "chr1:5:GTC>G", "chr1:5-9:inv", "chr1:5-9:dup", "chr1:5-9:del"):
        assert str(parse_variant(text)) == text
    long = parse_variant(f"1:5:{'A' * 90}>A")
    assert str(long) == f"1:5:{'A' * 37}... (90 bases)>A"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1:5:A", "is not written chr:position:REF>ALT or chr:first-last:del"),
        ("chr1:5:A>", "is not written"),
        ("chr1:5-9:cnv", "is not written"),
        ("chr1:0:A>C", "positions begin with 1"),
        ("chr1:,:A>C", "is no number"),
        ("chr1:9-5:inv", "ends no sooner than it begins"),
        ("chr1:5:A>a", "both alleles are the same"),
        ("chr1:5:N>A", "the reference allele is 'N'; expected A, C, G and T"),
    ],
)
def test_texts_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_variant(text)
    with pytest.raises(ValueError, match="ends at 9, expected 5"):
        SequenceVariant("1", 4, 9, "A", "C")


@pytest.mark.parametrize("name", ["v.vcf", "v.vcf.gz"])
def test_rows_of_a_vcf(name: str, tmp_path: Path) -> None:
    path = write_vcf(
        tmp_path / name,
        "1 5 rs5 a g,AT",
        "1 6 . A .",
        "1 7 . N <DEL> SVTYPE=DEL;END=9",
        "1 7 . G <del:ME:ALU> SVLEN=-3",
        "2 4 . T <INV>,<DUP:TANDEM>,<DUP> SVLEN=2,3,4;IMPRECISE",
        "2 9 . AC GT",
    )
    variants, left_out = read_sequence_variants(path)
    assert left_out == {}
    assert [(str(one), one.kind, one.name, one.base_before) for one in variants] == [
        ("1:5:A>G", "snv", "rs5", ""),
        ("1:5:A>AT", "insertion", "rs5", ""),
        ("1:8-9:del", "deletion", "", ""),
        ("1:8-10:del", "deletion", "", "G"),
        ("2:5-6:inv", "inversion", "", "T"),
        ("2:5-7:dup", "duplication", "", "T"),
        ("2:5-8:dup", "duplication", "", "T"),
        ("2:9:AC>GT", "substitution", "", ""),
    ]


@pytest.mark.parametrize(
    ("alternative", "info", "named"),
    [
        ("<INS>", "SVLEN=5", "<INS>"),
        ("<CNV>", "END=9", "<CNV>"),
        ("<DUP:DISPERSED>", "END=9", "<DUP:DISPERSED>"),
        ("<NON_REF>", ".", "<NON_REF>"),
        ("]2:9]A", ".", "breakend"),
        ("A[2:9[", ".", "breakend"),
        ("*", ".", r"\*"),
        ("AN", ".", r"AN \(letters other than ACGT\)"),
        ("<DEL>", "END=9;SVLEN=-3", "symbolic alleles whose END and SVLEN disagree"),
    ],
)
def test_other_alleles_are_refused_by_name_or_dropped_by_count(
    alternative: str, info: str, named: str, tmp_path: Path
) -> None:
    path = write_vcf(tmp_path / "v.vcf", f"1 5 . A G,{alternative} {info}", f"1 7 . G {alternative} {info}")
    with pytest.raises(ValueError, match=rf'line 3: 1:5 has .*{named}.*other_variants="drop"'):
        read_sequence_variants(path)
    variants, left_out = read_sequence_variants(path, other_variants="drop")
    assert [str(one) for one in variants] == ["1:5:A>G"]
    assert list(left_out.values()) == [2]


def test_files_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no VCF file"):
        read_sequence_variants(tmp_path / "none.vcf")
    with pytest.raises(ValueError, match="line 1: expected `#CHROM"):
        read_sequence_variants(write_vcf(tmp_path / "a.vcf", "1 5 . A G", header=""))
    (tmp_path / "b.vcf").write_text("##fileformat=VCFv4.3\n")
    with pytest.raises(ValueError, match="has no header line"):
        read_sequence_variants(tmp_path / "b.vcf")
    with pytest.raises(ValueError, match=r"line 3: found '1 x [.] A G"):
        read_sequence_variants(write_vcf(tmp_path / "c.vcf", "1 x . A G"))
    for info in (".", "END=5", "SVTYPE=DEL;SVLEN=."):
        with pytest.raises(ValueError, match="line 3: 1:5 <DEL>: a symbolic allele needs END or SVLEN"):
            read_sequence_variants(write_vcf(tmp_path / "d.vcf", f"1 5 . A <DEL> {info}"))
    with pytest.raises(ValueError, match='"error" or "drop"'):
        read_sequence_variants(tmp_path / "c.vcf", other_variants="skip")  # type: ignore[arg-type]


def test_variants_against_the_genome(tmp_path: Path) -> None:
    (tmp_path / "g.fa").write_text(f">chr1\n{BASES}\n>2:101-120\n{BASES}\n")
    with open_genome(tmp_path / "g.fa", offsets={"2": 100}) as genome:
        right = ["1:1:A>C", "chr1:20:T>A", "1:19-20:inv", "2:101:ACG>A", "chr2:120:T>TA", "1:3:GTACG>G"]
        check_variants([parse_variant(text) for text in right], genome)
        check_variants([], genome)
        wrong = [parse_variant(text) for text in ("1:1:A>C", "1:10:GT>G", "2:101:T>A")]
        with pytest.raises(ValueError, match=r"2 of 3 .*first 2:101 \(1-based\): T in 2:101:T>A, A in the genome"):
            check_variants(wrong, genome)
        symbolic = SequenceVariant("1", 4, 8, "", "<INV>", base_before="G")
        with pytest.raises(ValueError, match=r"another base in front .* 1:4 \(1-based\): G in 1:5-8:inv, T in the"):
            check_variants([symbolic], genome)
        for text in ("1:20:TA>T", "2:100:A>C", "2:121:A>C", "chr1:15-21:dup"):
            with pytest.raises(ValueError, match=f"1 of 2 variants are outside their contig, first {text}"):
                check_variants([right_one := parse_variant("1:1:A>C"), parse_variant(text)], genome)
        assert right_one.contig == "1"
        with pytest.raises(ValueError, match="no contig '3'"):
            check_variants([parse_variant("3:1:A>C")], genome)
