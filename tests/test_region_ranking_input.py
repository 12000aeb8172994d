"""Regions as text, tuples and tables, what of them is scored, and what is refused."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from omics_transformers.data_scripts.genomes import Genome, open_genome
from omics_transformers.pipelines.region_ranking_input import (
    NamedRegion,
    fit_regions,
    open_genome_like,
    read_regions,
)
from omics_transformers.pipelines.region_tokens import TokenLimit
from omics_transformers.pipelines.segmentation_input import Region

LIMIT = TokenLimit(21, 6)
CHR20 = "".join(np.random.default_rng(0).choice(list("ACGT"), 600)) + "N" * 200 + "ACGT" * 50


@pytest.fixture
def genome(tmp_path: Path) -> Iterator[Genome]:
    (tmp_path / "genome.fa").write_text(f">chr20\n{CHR20}\n>chrM\nACGT\n")
    with open_genome(tmp_path / "genome.fa") as opened:
        yield opened


def test_one_region_in_every_form(genome: Genome) -> None:
    frame = pd.DataFrame({"contig": ["chr20"], "start": [100], "end": [200], "name": ["peak"], "count": [3]})
    forms: list[Any] = [
        ["chr20:101-200"], "20:101-200", [("chr20", 100, 200)], [("20", np.int64(100), 200, "")], frame,
        frame.drop(columns="name"), frame.assign(name=np.nan),
    ]  # fmt: skip
    for form in forms:
        _, found = read_regions(form, genome)
        name = "peak" if form is frame else ""
        assert found == [NamedRegion(Region("chr20", 100, 200), name)]
    assert read_regions(["chrM"], genome)[1] == [NamedRegion(Region("chrM", 0, 4), "")]


def test_sequences_need_no_genome() -> None:
    opened, found = read_regions(["acgu", b"TTTNN"], None)
    assert found == [NamedRegion(Region("sequence_1", 0, 4), ""), NamedRegion(Region("sequence_2", 0, 5), "")]
    assert opened.fetch("sequence_1", 0, 4) == b"ACGT"
    assert read_regions("ACGT", None)[1] == [NamedRegion(Region("sequence_1", 0, 4), "")]


def test_a_fasta_file_or_an_opened_genome(genome: Genome) -> None:
    for given in (genome, genome.path, str(genome.path)):
        opened, source = open_genome_like(given)
        assert opened.fetch("chr20", 0, 10) == CHR20[:10].encode() and source == str(genome.path)
    with pytest.raises(FileNotFoundError, match=r"no FASTA file at absent\.fa"):
        open_genome_like("absent.fa")
    with pytest.raises(ValueError, match="genome is of type int: give the path"):
        open_genome_like(7)


def test_what_of_each_region_is_scored(genome: Genome, caplog: pytest.LogCaptureFixture) -> None:
    chosen = [("chr20", 0, 100), ("chr20", 0, 601), ("chr20", 620, 640), ("chr20", 595, 605), ("chr20", 0, 100)]
    opened, regions = read_regions(chosen, genome)
    with caplog.at_level(logging.WARNING):
        parts = fit_regions(opened, regions, LIMIT, long_regions="center")
    assert "1 of 5 regions are longer than the model takes" in caplog.text
    assert parts.starts.tolist() == [0, 240, 620, 595, 0]
    assert parts.ends.tolist() == [100, 360, 640, 605, 100]
    assert parts.n_unknown.tolist() == [0, 0, 20, 5, 0]
    assert parts.same_as.tolist() == [0, 1, 2, 3, 0]


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (
            ("chr20", 0, 121),
            r"1 of 1 regions have more tokens .* first chr20:1-121, 22 or more, where it takes 21: 120",
        ),
        (("chr20", 0, 119, "peak1"), r"first chr20:1-119 \(peak1\), 25 or more"),  # 19 k-mers and 5 letters
        (("chr20", 590, 616), r"chr20:591-616, 22 or more.*long_regions=\"center\" \(--long-regions center\)"),
    ],
)
def test_long_regions_are_an_error_unless_asked_for(genome: Genome, region: tuple, message: str) -> None:
    opened, regions = read_regions([region], genome)
    with pytest.raises(ValueError, match=message):
        fit_regions(opened, regions, LIMIT, long_regions="error")
    assert fit_regions(opened, regions, LIMIT, long_regions="center").ends[0] <= region[2]


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ([], "there is no region to rank"),
        (["chr20:101-200", "chr7:1-5"], "region 2: no contig 'chr7' in .*genome.fa, which has chr20, chrM"),
        (["chr20:900-1,001"], r"region 1: the region chr20:900-1,001 is not within chr20:1-1,000"),
        ([("chr20", 5, 5)], "region 1: the region chr20:6-5 is not within"),
        ([("chr20", 5, 2_000)], "region 1: the region .* is not within"),
        ([("chr20", 5)], r"region 1 is \('chr20', 5\): expected \(contig, start, end\)"),
        ([("chr20", 5, 9, "a", "b")], "expected .contig, start, end. or"),
        ([("chr20", "5", "9")], "start and end whole numbers"),
        ([7], "region 1 is 7: expected"),
        (7, "regions is of type int"),
        (Path("peaks.bed"), r"regions is the path peaks\.bed: .*rank --bed"),
        (pd.DataFrame({"chrom": [1], "start": [1]}), "has no column contig, end; .* found chrom, start"),
    ],
)
def test_regions_that_are_refused(genome: Genome, regions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_regions(regions, genome)


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        (["ACGT", "chr20:1-5"], "region 2 is 'chr20:1-5', which is no sequence: .* needs genome="),
        ([("chr20", 1, 5)], "region 1 is .* needs genome="),
        (["ACGE"], "sequence_1: the letter 'E' at position 4"),
        ([""], "sequence_1 is empty"),
    ],
)
def test_sequences_that_are_refused(regions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_regions(regions, None)


def test_another_way_with_long_regions(genome: Genome) -> None:
    opened, regions = read_regions(["chrM"], genome)
    with pytest.raises(ValueError, match="long_regions is 'left'; expected error or center"):
        fit_regions(opened, regions, LIMIT, long_regions="left")  # type: ignore[arg-type]
