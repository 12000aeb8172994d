"""Regions of text and BED files in the order of the genome, and the transcripts beneath plots."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from omics_transformers.data_scripts.genomes import Genome, open_genome
from omics_transformers.pipelines.segmentation_input import Region
from omics_transformers.segmentation_regions import find_plotted, find_regions, read_transcripts, regions_of_bed

GTF = """\
chr2\ttest\texon\t11\t20\t.\t+\t.\tgene_id "G1"; gene_name "ALPHA"; transcript_id "T1";
chr2\ttest\texon\t31\t50\t.\t+\t.\tgene_id "G1"; gene_name "ALPHA"; transcript_id "T1";
chr2\ttest\tCDS\t16\t20\t.\t+\t0\tgene_id "G1"; gene_name "ALPHA"; transcript_id "T1";
chr2\ttest\tCDS\t31\t40\t.\t+\t0\tgene_id "G1"; gene_name "ALPHA"; transcript_id "T1";
chr2\ttest\texon\t5\t60\t.\t-\t.\tgene_id "G2"; transcript_id "T2";
chr1\ttest\texon\t5\t60\t.\t-\t.\tgene_id "G3"; transcript_id "T3";
chr9\ttest\texon\t5\t60\t.\t-\t.\tgene_id "G4"; transcript_id "T4";
"""


@pytest.fixture
def genome(tmp_path: Path) -> Iterator[Genome]:
    (tmp_path / "genome.fa").write_text(f">2\n{'ACGT' * 25}\n>10\n{'ACGT' * 10}\n>1\n{'ACGT' * 20}\n")
    with open_genome(tmp_path / "genome.fa") as opened:
        yield opened


def test_all_contigs_by_default(genome: Genome) -> None:
    assert find_regions(genome, None, None) == [Region("2", 0, 100), Region("10", 0, 40), Region("1", 0, 80)]


def test_regions_of_bed_keep_order_and_names(genome: Genome, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "regions.bed").write_text("chr10\t3\t9\tlater\nchr1\t5\t5\tempty\nchr1\t0\t80\n")
    found = regions_of_bed(genome, tmp_path / "regions.bed")
    assert found == [(Region("10", 3, 9), "later"), (Region("1", 0, 80), "")]
    assert "1 intervals of length zero, left out" in caplog.text
    (tmp_path / "beyond.bed").write_text("chr10\t3\t9\nchr10\t3\t41\n")
    with pytest.raises(ValueError, match=r"beyond.bed, line 2: the region .*10:4-41 is not within 10:1-40"):
        regions_of_bed(genome, tmp_path / "beyond.bed")


def test_regions_are_ordered_and_joined(genome: Genome, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "regions.bed").write_text("track name=x\nchr1\t10\t20\nchr10\t0\t5\tname\nchr2\t30\t40\n")
    with caplog.at_level(logging.INFO):
        found = find_regions(genome, ["1:16-30", "2:1-20", "chr2:41-50"], tmp_path / "regions.bed")
    assert found == [
        Region("2", 0, 20),
        Region("2", 30, 40),
        Region("2", 40, 50),
        Region("10", 0, 5),
        Region("1", 10, 30),
    ]
    assert "1 regions share bases with others: 5 are segmented" in caplog.text


def test_regions_that_are_wrong(genome: Genome, tmp_path: Path) -> None:
    (tmp_path / "beyond.bed").write_text("1\t10\t20\n1\t10\t81\n")
    (tmp_path / "unknown.bed").write_text("1\t10\t20\n\n3\t10\t20\n")
    (tmp_path / "empty.bed").write_text("# nothing\n")
    with pytest.raises(ValueError, match=r"beyond.bed, line 2: the region 1:11-81 is not within 1:1-80"):
        find_regions(genome, None, tmp_path / "beyond.bed")
    with pytest.raises(ValueError, match=r"unknown.bed, line 3: no contig '3' in .*which has 2, 10, 1"):
        find_regions(genome, None, tmp_path / "unknown.bed")
    with pytest.raises(ValueError, match=r"empty.bed is empty"):
        find_regions(genome, None, tmp_path / "empty.bed")
    with pytest.raises(ValueError, match="regions is empty: name at least one"):
        find_regions(genome, [], None)
    with pytest.raises(ValueError, match=r"regions is the text '1:1-5': give a list"):
        find_regions(genome, "1:1-5", None)


def test_plots_lie_within_what_is_segmented(genome: Genome) -> None:
    regions = [Region("2", 10, 60), Region("1", 0, 80)]
    assert find_plotted(genome, ["2:11-60", "1"], regions) == [Region("2", 10, 60), Region("1", 0, 80)]
    with pytest.raises(ValueError, match="the region to plot, 2:10-60, is not within a segmented one"):
        find_plotted(genome, ["2:10-60"], regions)


def test_transcripts_of_the_plotted_contigs(genome: Genome, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "genes.gtf").write_text(GTF)
    assert read_transcripts(None, genome, []) is None
    table = read_transcripts(tmp_path / "genes.gtf", genome, [Region("2", 0, 100)])
    assert table is not None
    assert table.to_dict("records") == [
        {
            "name": "ALPHA",
            "contig": "2",
            "strand": "+",
            "exons": [[10, 20], [30, 50]],
            "cds": [(15, 20), (30, 40)],
        },
        {"name": "G2", "contig": "2", "strand": "-", "exons": [[4, 60]], "cds": []},
    ]
    assert read_transcripts(tmp_path / "genes.gtf", genome, []) is None
    assert "genes.gtf is not used: it is drawn beneath plots" in caplog.text
    none = read_transcripts(tmp_path / "genes.gtf", genome, [Region("10", 0, 5)])
    assert none is not None and none.empty
