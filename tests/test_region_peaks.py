"""Peaks put onto a genome."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.accessibility_inputs import PeakAccessibility
from omics_transformers.data_scripts.genome_files import GenomeFiles
from omics_transformers.data_scripts.region_peaks import PlacementRules, overlaps_any, place_peaks

NO_BLACKLIST = pd.DataFrame({"contig": pd.Series(dtype=object), "start": pd.Series(dtype="int64"), "end": []}).astype(
    {"end": "int64"}
)
RULES = PlacementRules(["1", "chr2"], NO_BLACKLIST, span_bp=500)


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GenomeFiles]:
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text(f">chr2\n{'ACGT' * 500}\n>1\n{'GGCA' * 300}\n")
    with GenomeFiles(path) as opened:
        yield opened


def sample_of(places: list[tuple[str, int, int]]) -> PeakAccessibility:
    table = pd.DataFrame(places, columns=["contig", "start", "end"])
    table["name"] = [f"{contig}-{start}-{end}" for contig, start, end in places]
    means = np.stack([np.arange(len(places)), 10.0 * np.arange(len(places))])
    return PeakAccessibility("toy", table, ["alpha", "beta"], {"alpha": 3, "beta": 4}, means, {})


def test_peaks_take_the_genome_s_names_and_order_and_keep_their_means(genome: GenomeFiles) -> None:
    placed = place_peaks(sample_of([("chr1", 700, 800), ("chr1", 100, 200), ("2", 5, 50)]), genome, RULES)
    assert placed.peaks[["contig", "start", "end"]].to_numpy().tolist() == [
        ["chr2", 5, 50],
        ["1", 100, 200],
        ["1", 700, 800],
    ]
    assert placed.peaks["name"].tolist() == ["2-5-50", "chr1-100-200", "chr1-700-800"]
    assert placed.means.tolist() == [[2, 1, 0], [20, 10, 0]]
    assert placed.report["kept"] == 3 and placed.report["on scaffolds in no split"] == 0


def test_what_is_elsewhere_is_counted(genome: GenomeFiles) -> None:
    peaks = sample_of([("chr1", 1, 9), ("chr7", 1, 9), ("chrX", 1, 9), ("chrX", 20, 29), ("GL000194.1", 1, 9)])
    with pytest.raises(ValueError, match=r"has 3 peaks on chromosomes in no split: chrX \(2\), chr7 \(1\)"):
        place_peaks(peaks, genome, RULES)
    placed = place_peaks(peaks, genome, replace(RULES, other_contigs="drop"))
    assert placed.report["on chromosomes in no split"] == {"chrX": 2, "chr7": 1}
    assert placed.report["on scaffolds in no split"] == 1 and placed.report["contigs without a peak"] == ["chr2"]
    with pytest.raises(ValueError, match=r"no peak on the contigs used, 1, chr2; its 1 peaks are on GL000194\.1"):
        place_peaks(sample_of([("GL000194.1", 1, 9)]), genome, RULES)


def test_long_peaks(genome: GenomeFiles) -> None:
    peaks = sample_of([("1", 0, 50), ("1", 60, 90), ("1", 100, 700)])
    assert place_peaks(peaks, genome, RULES).report["longer than a span"] == 1
    assert place_peaks(peaks, genome, replace(RULES, long_peaks="drop")).report["kept"] == 2
    with pytest.raises(ValueError, match=r"1 of 3 peaks of sample toy are longer.*1-100-700 with 600 bp"):
        place_peaks(peaks, genome, replace(RULES, long_peaks="error"))
    with pytest.raises(ValueError, match="half of them are, so spans hold no two regions"):
        place_peaks(peaks, genome, replace(RULES, span_bp=40))


def test_peaks_beyond_their_contig(genome: GenomeFiles) -> None:
    peaks = sample_of([("1", 0, 50), ("1", 1_190, 1_230), ("1", 1_300, 1_400)])
    with pytest.raises(ValueError, match=r"1-1190-1230: 1:1,191-1,230 \(1-based\) ends beyond the contig.*2 intervals"):
        place_peaks(peaks, genome, RULES)
    report = place_peaks(peaks, genome, replace(RULES, beyond_contig="drop")).report
    assert report["outside the sequence at hand"] == 1 and report["across the end of the sequence at hand"] == 1
    assert report["kept"] == 1


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60), st.integers(1, 12)), max_size=12),
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60), st.integers(1, 12)), max_size=12),
)
def test_overlaps_against_a_double_loop(ones: list[tuple[str, int, int]], others: list[tuple[str, int, int]]) -> None:
    tables = [
        pd.DataFrame([(c, s, s + n) for c, s, n in places], columns=["contig", "start", "end"]).astype(
            {"contig": object, "start": "int64", "end": "int64"}
        )
        for places in (ones, others)
    ]
    expected = [
        any(contig == other and start < last + n and last < start + length for other, last, n in others)
        for contig, start, length in ones
    ]
    assert overlaps_any(*tables).tolist() == expected
