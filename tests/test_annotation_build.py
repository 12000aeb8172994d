"""Annotations of another assembly: start codons that are none, and intervals beyond the ends of contigs."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from omics_transformers.data_scripts.annotation_build import check_start_codons, within_genome
from omics_transformers.data_scripts.genome_files import GenomeFiles
from omics_transformers.data_scripts.transcript_structures import TranscriptStructures, read_transcript_structures

N_GENES = 20


@pytest.fixture
def genome(tmp_path: Path) -> Iterator[GenomeFiles]:
    """20 genes of 100 bp: coding from base 10 to 90, on either strand in turn; no other ATG in frame is needed."""
    sequence = list("".join(np.random.default_rng(0).choice(list("CGT"), 100 * N_GENES)))
    for number in range(N_GENES):
        first = 100 * number
        if number % 2:
            sequence[first + 87 : first + 90] = "CAT"
        else:
            sequence[first + 10 : first + 13] = "ATG"
    (tmp_path / "genome.fa").write_text(">1\n" + "".join(sequence) + "\n>2\nACGT\n")
    with GenomeFiles(tmp_path / "genome.fa") as genome:
        yield genome


def make_structures(folder: Path, *, shift: int = 0, strand: str = "", n_wrong: int = 0) -> TranscriptStructures:
    lines = []
    for number in range(N_GENES):
        first = 100 * number + shift + (7 if number < n_wrong else 0)
        own = strand or "+-"[number % 2]
        fields = [f"T{number}", "1", own, first, first + 100, first + 10, first + 90, 1, f"{first},", f"{first + 100},"]
        lines.append("\t".join(map(str, fields)))
    (folder / "annotation").write_text("\n".join(lines + lines[:3]) + "\n")
    return read_transcript_structures(folder / "annotation")


def test_an_annotation_of_the_same_assembly(
    genome: GenomeFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report = check_start_codons(genome, make_structures(tmp_path))
    assert report == {"start codons": N_GENES, "of them ATG": N_GENES, "share": 1.0}
    assert not caplog.records


@pytest.mark.parametrize("options", [{"shift": 1}, {"strand": "+"}, {"n_wrong": 9}])
def test_an_annotation_of_another_assembly(options: dict, genome: GenomeFiles, tmp_path: Path) -> None:
    structures = make_structures(tmp_path, **options)
    with pytest.raises(ValueError, match=r"of (19|20) coding sequences begin with ATG .* expected at least 60%"):
        check_start_codons(genome, structures)
    assert check_start_codons(genome, structures, minimum_share=0)["share"] < 0.6


def test_a_few_start_codons_that_are_none_are_told(
    genome: GenomeFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        report = check_start_codons(genome, make_structures(tmp_path, n_wrong=4))
    assert report["share"] == 0.8
    assert "16 of 20 coding sequences begin with ATG" in caplog.text


def test_too_few_to_judge(genome: GenomeFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    structures = make_structures(tmp_path, shift=1)
    structures.transcripts["starts_with_codon"] &= structures.transcripts.index < 4
    with caplog.at_level(logging.WARNING):
        assert check_start_codons(genome, structures)["start codons"] == 4
    assert "are they of one assembly?" in caplog.text


def test_what_cannot_be_read_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A start codon across an intron, one in N, one outside the piece."""
    (tmp_path / "genome.fa").write_text(">1\n" + "A" * 50 + "N" * 50 + "\n")
    lines = ["T\t1\t+\t0\t50\t10\t40\t2\t0,20,\t12,50,", "U\t1\t+\t60\t90\t70\t80\t1\t60,\t90,"]
    lines += ["V\t1\t+\t200\t290\t210\t280\t1\t200,\t290,"]
    (tmp_path / "annotation").write_text("\n".join(lines) + "\n")
    with GenomeFiles(tmp_path / "genome.fa") as genome, caplog.at_level(logging.WARNING):
        report = check_start_codons(genome, read_transcript_structures(tmp_path / "annotation"))
    assert report == {"start codons": 0, "of them ATG": 0, "share": None}
    assert "could not be checked" in caplog.text


def test_a_share_that_is_none(genome: GenomeFiles, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="minimum_share is 60"):
        check_start_codons(genome, make_structures(tmp_path), minimum_share=60)


def make_table(*rows: tuple[int, int]) -> pd.DataFrame:
    return pd.DataFrame([("1", *row) for row in rows]).set_axis(["contig", "start", "end"], axis=1).assign(line=7)


def test_intervals_beyond_the_contig(genome: GenomeFiles) -> None:
    table = make_table((0, 10), (1990, 2000), (1995, 2001), (2100, 2200))
    with pytest.raises(ValueError, match=r"x\.bed, line 7: 1:1,996-2,001 .* has 2,000 bp .* 2 intervals do"):
        within_genome(table, genome, source="x.bed")
    kept, report = within_genome(table, genome, source="x.bed", beyond_contig="drop")
    assert kept[["start", "end"]].to_numpy().tolist() == [[0, 10], [1990, 2000], [1995, 2000]]
    assert report == {"outside the sequence at hand": 1, "cut at the end of the sequence at hand": 1}
    with pytest.raises(ValueError, match='"error" or "drop"'):
        within_genome(table, genome, source="x.bed", beyond_contig="cut")  # type: ignore[arg-type]


def test_intervals_outside_a_piece_are_counted(tmp_path: Path) -> None:
    (tmp_path / "genome.fa").write_text(">1:101-150\n" + "A" * 50 + "\n")
    with GenomeFiles(tmp_path / "genome.fa", offsets={"1": 100}) as genome:
        table = make_table((0, 100), (90, 110), (120, 130), (140, 160), (150, 151), (90, 400))
        kept, report = within_genome(table, genome, source="x.bed")
    assert kept[["start", "end"]].to_numpy().tolist() == [[100, 110], [120, 130], [140, 150], [100, 150]]
    assert report == {"outside the sequence at hand": 2, "cut at the end of the sequence at hand": 3}
