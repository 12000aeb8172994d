"""Genomes: every kind of FASTA file gives the same bases, contigs by any name, and bad letters by their place."""

import gzip
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.genomes import Genome, contig_alias, open_genome, reverse_complement

SEQUENCES = {"20": "ACGTacgtnN" * 7 + "GGC", "X": "TTTTGGGGCC"}


def write_fasta(path: Path, sequences: dict[str, str], *, width: int = 13, header: str = "") -> Path:
    lines = []
    for name, bases in sequences.items():
        lines += [f">{name}{header}", *(bases[start : start + width] for start in range(0, len(bases), width))]
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.fixture(params=["genome.fa", "genome.fa.gz"])
def genome(request: pytest.FixtureRequest, tmp_path: Path) -> Genome:
    return open_genome(write_fasta(tmp_path / request.param, SEQUENCES, header="  gi|224589822| long header"))


def test_contigs_and_bases(genome: Genome) -> None:
    assert genome.contigs == {"20": 73, "X": 10}
    for name, bases in SEQUENCES.items():
        for start, end in ((0, len(bases)), (3, 9), (5, 5), (len(bases) - 1, len(bases))):
            assert genome.fetch(name, start, end) == bases[start:end].upper().encode()


def test_nothing_is_written_beside_the_input_and_the_temporary_folder_goes(tmp_path: Path) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    path = write_fasta(folder / "genome.fa.gz", SEQUENCES)
    with open_genome(path) as genome:
        temporary = genome._folder
        assert temporary.exists()
    assert not temporary.exists()
    assert list(folder.iterdir()) == [path]


def test_a_cache_is_used_again_until_the_file_changes(tmp_path: Path) -> None:
    path, cache = write_fasta(tmp_path / "genome.fa.gz", SEQUENCES), tmp_path / "cache"
    for _ in range(2):
        with open_genome(path, cache_folder=cache) as genome:
            assert genome.fetch("X", 0, 4) == b"TTTT"
    assert len(list(cache.iterdir())) == 1
    write_fasta(path, {"X": "CCCCC"})
    with open_genome(path, cache_folder=cache) as genome:
        assert genome.fetch("X", 0, 4) == b"CCCC"


@given(st.integers(-30, 110), st.integers(0, 60))
def test_padding_is_n_outside_the_contig(start: int, length: int) -> None:
    padded = "N" * 200 + SEQUENCES["20"].upper() + "N" * 200
    assert (
        _shared().fetch("chr20", start, start + length, pad=True).decode() == padded[200 + start : 200 + start + length]
    )


_opened: list[Genome] = []


def _shared() -> Genome:
    """One genome for all of hypothesis' examples."""
    if not _opened:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:  # pyfaidx keeps the file open
            _opened.append(open_genome(write_fasta(Path(folder) / "genome.fa", SEQUENCES)))
    return _opened[0]


@pytest.mark.parametrize("name", ["20", "chr20", "Chr20", "NC_000020.11"])
def test_contigs_by_other_names(genome: Genome, name: str) -> None:
    assert genome.resolve(name) == "20"
    assert contig_alias("chrM") == contig_alias("MT") == "M"


def test_unknown_and_doubtful_names(genome: Genome, tmp_path: Path) -> None:
    assert genome.find("chr7") is None
    with pytest.raises(ValueError, match=r"no contig 'chr7' in .*which has 20, X.*offsets"):
        genome.resolve("chr7")
    both = open_genome(write_fasta(tmp_path / "both.fa", {"chr1": "A", "1": "C"}))
    assert both.fetch("chr1", 0, 1) + both.fetch("1", 0, 1) == b"AC"
    with pytest.raises(ValueError, match="both chr1 and 1"):
        both.resolve("Chr1")


def test_ranges_outside_the_contig(genome: Genome) -> None:
    with pytest.raises(ValueError, match=r"X:5-11 is not within the contig, which spans 0-10"):
        genome.fetch("X", 5, 11)
    with pytest.raises(ValueError, match="not within"):
        genome.fetch("X", 6, 5)


def test_iupac_letters_become_n_and_are_counted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    genome = open_genome(write_fasta(tmp_path / "genome.fa", {"1": "ACRYACGTryACGT"}))
    with caplog.at_level(logging.WARNING):
        assert genome.fetch("1", 0, 14) == b"ACNNACGTNNACGT"
        assert genome.fetch("1", 2, 9) == b"NNACGTN"
    assert genome.ambiguous_letters == {"1": 4}
    assert len(caplog.records) == 1


def test_a_letter_that_is_not_dna_is_named_with_its_place(tmp_path: Path) -> None:
    genome = open_genome(write_fasta(tmp_path / "genome.fa", {"1": "ACGTACGTACGTAC*T"}))
    assert genome.fetch("1", 0, 14) == b"ACGTACGTACGTAC"
    with pytest.raises(ValueError, match=r"the letter '\*' at 1:15 "):
        genome.fetch("1", 4, 16)


def test_offsets(tmp_path: Path) -> None:
    path = write_fasta(tmp_path / "piece.fa", {"22:1001-1010": "ACGTACGTAC"})
    genome = open_genome(path, offsets={"22": 1000})
    assert (genome.starts, genome.contigs) == ({"22": 1000}, {"22": 1010})
    assert genome.fetch("chr22", 998, 1004, pad=True) == b"NNACGT"
    with pytest.raises(ValueError, match="offsets name 21"):
        open_genome(path, offsets={"21": 5})
    assert open_genome(path).find("22") is None


def test_files_that_are_no_genomes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no FASTA file"):
        open_genome(tmp_path / "none.fa")
    whole = write_fasta(tmp_path / "genome.fa.gz", {"1": "".join(np.random.default_rng(0).choice(list("ACGT"), 5000))})
    whole.write_bytes(whole.read_bytes()[:-500])
    with pytest.raises(ValueError, match="truncated gzip"):
        open_genome(whole)
    (tmp_path / "empty.fa").write_text("")
    (tmp_path / "ragged.fa").write_text(">1\nACGT\nAC\nACGT\n")
    write_fasta(tmp_path / "twice.fa", {"1 a": "ACGT", "1 b": "ACGT"})
    for name in ("empty.fa", "ragged.fa", "twice.fa"):
        with pytest.raises(ValueError, match=name):
            open_genome(tmp_path / name)


def test_reverse_complement() -> None:
    assert reverse_complement(b"ACCGTN") == b"NACGGT"


@pytest.mark.real_data
def test_start_codons_of_chromosome_20_are_atg(data_folder: Path) -> None:
    """BGZF; 1559 of the 1562 distinct RefSeq start codons."""
    columns = ["chrom", "strand", "cdsStart", "cdsEnd", "cdsStartStat", "exonStarts", "exonEnds"]
    genes = pd.read_csv(data_folder / "annotation/ncbiRefSeq_genePred.hg19.txt.gz", sep="\t", usecols=columns)
    genes = genes[(genes.chrom == "chr20") & (genes.cdsStart < genes.cdsEnd) & (genes.cdsStartStat == "cmpl")]
    firsts = {(row.strand, row.cdsStart if row.strand == "+" else row.cdsEnd - 3) for row in genes.itertuples()}
    with open_genome(data_folder / "genome/chr20.GRCh37.fa.gz") as genome:
        assert genome.contigs == {"20": 63_025_520}
        codons = [(strand, genome.fetch("chr20", start, start + 3)) for strand, start in firsts]
    is_atg = [(codon if strand == "+" else reverse_complement(codon)) == b"ATG" for strand, codon in codons]
    assert len(is_atg) > 700
    assert np.mean(is_atg) > 0.98


@pytest.mark.real_data
def test_the_long_header_of_chromosome_x_in_plain_gzip(data_folder: Path) -> None:
    with open_genome(data_folder / "genome/chrX_first70Mb.GRCh37.fa.gz") as genome:
        assert genome.contigs == {"X": 69_999_930}
        assert set(genome.fetch("chrX", 1_000_000, 1_001_000)) <= set(b"ACGTN")


@pytest.mark.real_data
def test_the_piece_around_gata4_begins_where_its_name_says(data_folder: Path) -> None:
    path = data_folder / "genome/GATA4_chr8_11496144-11627216.hg19.fa"
    with open_genome(path, offsets={"8": 11_496_144}) as genome:
        assert genome.contigs == {"8": 11_627_216}
        assert len(genome.fetch("chr8", 11_561_710 - 98_304, 11_561_710 + 98_304, pad=True)) == 196_608
