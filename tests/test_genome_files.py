"""Several FASTA files as one genome."""

import gzip
from pathlib import Path

import pytest

from omics_transformers.data_scripts.genome_files import GenomeFiles


def make_files(folder: Path) -> list[Path]:
    (folder / "a.fa").write_text(">1\nACGTACGT\n>2 long header\nRRAA\n")
    (folder / "b.fa.gz").write_bytes(gzip.compress(b">22:11-14\nTTTT\n"))
    return [folder / "a.fa", folder / "b.fa.gz"]


def test_contigs_of_all_files(tmp_path: Path) -> None:
    with GenomeFiles(make_files(tmp_path), offsets={"22": 10, "2": 0}) as genome:
        assert genome.contigs == {"1": 8, "2": 4, "22": 14}
        assert genome.starts == {"1": 0, "2": 0, "22": 10}
        assert genome.pieces == {"2", "22"}
        assert [genome.find(name) for name in ("chr1", "chr22", "3")] == ["1", "22", None]
        assert genome.fetch("1", 2, 6) == b"GTAC"
        assert genome.fetch("22", 11, 14) == b"TTT"
        assert genome.fetch("2", 1, 4) == b"NAA"
        assert genome.ambiguous_letters == {"2": 1}
        assert str(genome) == f"{tmp_path / 'a.fa'}, {tmp_path / 'b.fa.gz'}"
        with pytest.raises(ValueError, match=r"no contig 'chr3' in .*, which has 1, 2, 22"):
            genome.resolve("chr3")


def test_what_was_decompressed_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with GenomeFiles(make_files(tmp_path), offsets={"22": 10}):
        assert list(temporary.iterdir())
    assert not list(temporary.iterdir())
    with pytest.raises(ValueError, match="offsets name 7, which none"):
        GenomeFiles(make_files(tmp_path), offsets={"7": 10})
    assert not list(temporary.iterdir())


def test_a_contig_in_two_files(tmp_path: Path) -> None:
    files = make_files(tmp_path)
    (tmp_path / "c.fa").write_text(">chr1\nAC\n")
    with pytest.raises(ValueError, match=r"contig chr1 is in .*a\.fa and in .*c\.fa: give it once"):
        GenomeFiles([*files, tmp_path / "c.fa"])


def test_no_files() -> None:
    with pytest.raises(ValueError, match="no FASTA file is given"):
        GenomeFiles([])
