"""Sequences, FASTA files, genomes and regions as input of the segmentation, and what is wrong with them."""

import gzip
import hashlib
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.genomes import open_genome
from omics_transformers.pipelines import segmentation_input
from omics_transformers.pipelines.segmentation_input import (
    FastaFile,
    Region,
    Sequences,
    clean_sequence,
    find_contig,
    find_region,
    open_input,
    reverse_complement,
    scan_region,
)

CHR20 = "acgtNNACGTRYACGU" * 300


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    lines = "\n".join(CHR20[first : first + 60] for first in range(0, len(CHR20), 60))
    (tmp_path / "genome.fa").write_text(f">chr20 a comment\n{lines}\n>HLA:A*01\nACGTACGT\n>chr2\nAC\n")
    return tmp_path / "genome.fa"


def cleaned(text: str) -> bytes:
    return text.upper().replace("U", "T").replace("R", "N").replace("Y", "N").encode()


def test_a_fasta_file_gives_what_the_packages_reader_gives(fasta: Path) -> None:
    ours = open_genome(fasta)
    without_u = open_input(fasta)[0]
    for start, end in ((0, 4_800), (7, 9), (4_799, 4_800), (61, 181), (5, 5)):
        assert without_u.fetch("chr20", start, end) == cleaned(CHR20)[start:end]
    assert without_u.contigs == ours.contigs
    assert without_u.starts == ours.starts
    assert {path.name for path in fasta.parent.iterdir()} == {"genome.fa"}  # no index beside it


def test_a_fasta_file_pads_as_the_packages_reader_does(fasta: Path) -> None:
    ours, without = open_genome(fasta), FastaFile(fasta)
    for start, end in ((-5, 3), (6, 10), (-9, -2), (20, 23), (-3, 12), (3, 7), (-1, -1)):
        expected = ours.fetch("HLA:A*01", start, end, pad=True)
        assert without.fetch("HLA:A*01", start, end, pad=True) == expected and len(expected) == end - start
    assert without.resolve("chr2") == "chr2"
    with pytest.raises(ValueError, match=r"no contig 'chr9' in .*genome\.fa, which has chr20, HLA"):
        without.resolve("chr9")


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("chr20", Region("chr20", 0, 4_800)),
        ("chr20:1-4800", Region("chr20", 0, 4_800)),
        ("chr20:1,000-2,000", Region("chr20", 999, 2_000)),
        ("chr20:1000-2,000", Region("chr20", 999, 2_000)),
        ("chr20:7-7", Region("chr20", 6, 7)),
        ("HLA:A*01", Region("HLA:A*01", 0, 8)),
        ("HLA:A*01:2-3", Region("HLA:A*01", 1, 3)),
        ("20:1-10", Region("chr20", 0, 10)),
        ("20", Region("chr20", 0, 4_800)),
    ],
)
def test_regions_as_genome_browsers_write_them(fasta: Path, region: str, expected: Region) -> None:
    genome = open_genome(fasta)
    assert find_region(genome, region, "genome.fa") == expected
    assert find_region(genome, str(expected), "genome.fa") == expected


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ("chr20:2-4,801", r"chr20:2-4,801 is not within chr20:1-4,800"),
        ("chr20:9-8", "begins at 9, behind its end 8: swap the two"),
        ("chr3:1-2", "no contig 'chr3' in genome.fa, which has chr20, HLA:A\\*01, chr2"),
        ("chr3", "no contig 'chr3'"),
        ("chr20:0-5", "'chr20:0-5' is no region: expected contig:first-last with 1-based"),
        ("chr20:1,00-2", "is no region"),
        ("chr20:1-", "is no region"),
        ("chr20:1-2kb", "is no region"),
        ("chr20: 1-2", "is no region"),
        ("chr20:-1-5", "is no region"),
        ("chr20:5", "is no region"),
        (Region("chr20", 5, 5), "is not within"),
        (Region("chr20", 5, 4_801), "is not within"),
        (None, "has 3 contigs .chr20, HLA:A.01, chr2.: name one of them"),
    ],
)
def test_regions_that_are_none(fasta: Path, region: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_region(open_genome(fasta), region, "genome.fa")


@given(st.integers(1, 10**9), st.integers(0, 10**6), st.booleans())
def test_regions_written_and_read_are_the_same(first: int, more: int, with_commas: bool) -> None:
    genome = SimpleNamespace(contigs={"c:d": 10**10}, starts={"c:d": 0})
    text = f"c:d:{first:,}-{first + more:,}" if with_commas else f"c:d:{first}-{first + more}"
    region = find_region(genome, text, "the genome")  # type: ignore[arg-type]
    assert region == Region("c:d", first - 1, first + more)
    assert find_region(genome, str(region), "the genome") == region  # type: ignore[arg-type]


def test_pieces_of_contigs_keep_their_coordinates(fasta: Path) -> None:
    with open_genome(fasta, offsets={"chr20": 1_000_000}) as genome:
        assert find_region(genome, "chr20", "") == Region("chr20", 1_000_000, 1_004_800)
        assert find_region(genome, "chr20:1,000,001-1,000,005", "") == Region("chr20", 1_000_000, 1_000_005)
        with pytest.raises(ValueError, match=r"chr20:1-5 is not within chr20:1,000,001-1,004,800"):
            find_region(genome, "chr20:1-5", "")


@given(st.text("ACGTacgtNnUuRYSWKMBDHVrywk", min_size=1, max_size=60))
def test_letters_are_read_as_the_tokenizer_reads_them(sequence: str) -> None:
    upper = sequence.upper().replace("U", "T")
    expected = "".join(letter if letter in "ACGT" else "N" for letter in upper).encode()
    assert clean_sequence(sequence, "it") == clean_sequence(sequence.encode(), "it") == expected
    assert reverse_complement(reverse_complement(expected)) == expected
    assert reverse_complement(b"AACGN") == b"NCGTT"


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        ("", "the sequence is empty|sequence is empty: give at least one base"),
        (b"", "sequence is empty"),
        ("ACGTX", "the letter 'X' at position 5 .1-based. is not DNA; expected ACGTN"),
        ("AC-T\n", "the letter '-' at position 3 .1-based. is not DNA, nor are 1 others"),
        ("ACGé", "the letter 'é' at position 4"),
        ("ACG\u4e2d", "the letter '\u4e2d' at position 4"),
        (b"AC\xff", "the letter 'ÿ' at position 3"),
        (["ACGT", "ACE"], "sequence_2: the letter 'E' at position 3"),
        ([], "a list of nothing cannot be segmented"),
        ([3], r"a list of \['int'\] cannot be segmented"),
        (3.5, "input of type float cannot be segmented"),
    ],
)
def test_what_is_no_dna(sequence: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_input(sequence)


def test_files_that_are_no_fasta(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no FASTA file at .*absent\.fa"):
        open_input(tmp_path / "absent.fa")
    with pytest.raises(FileNotFoundError):
        open_input("absent.fa")  # text with a dot is a path, since no sequence has one
    (tmp_path / "empty.fa").write_text("")
    (tmp_path / "packed.fa.gz").write_bytes(gzip.compress(b">a\nACGT\n"))
    for name in ("empty.fa", "packed.fa.gz"):
        with pytest.raises(ValueError, match=name):
            FastaFile(tmp_path / name)
    (tmp_path / "protein.fa").write_text(">a\nACGT\nACPE\n")
    protein = FastaFile(tmp_path / "protein.fa")
    with pytest.raises(ValueError, match=r"protein.fa, a: the letter 'P' at position 7 .1-based"):
        protein.fetch("a", 2, 8)


def test_iupac_letters_are_told_of_once(fasta: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        genome = FastaFile(fasta)
        for _ in range(3):
            genome.fetch("chr20", 0, 40)
        Sequences({"mine": "ACGW"})
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "IUPAC letters become N, the first at position 11 (1-based)",
        "IUPAC letters become N, the first at position 4 (1-based)",
    ]


@pytest.mark.parametrize("chunk", [1, 7, 5_000])
def test_a_scan_counts_hashes_and_parts(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(segmentation_input, "_CHUNK_BP", chunk)
    sequence = "NNN" + "ACGT" * 5 + "N" * 12 + "AC" + "N" * 11 + "GT" + "N" * 30
    scan = scan_region(Sequences({"s": sequence}), Region("s", 1, len(sequence) - 1), split_at_n=12)
    assert [(stretch.start, stretch.end) for stretch in scan.stretches] == [(3, 23), (35, 50)]
    assert scan.n_unknown == 2 + 12 + 11 + 29
    assert scan.sha256 == hashlib.sha256(sequence[1:-1].encode()).hexdigest()


def test_a_genomes_own_names_are_found(fasta: Path) -> None:
    assert find_contig(open_genome(fasta), "20", "it") == "chr20"
    with pytest.raises(ValueError, match="no contig '20' in it, which has chr20"):
        find_contig(FastaFile(fasta), "20", "it")
