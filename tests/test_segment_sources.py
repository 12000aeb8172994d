"""BED files to elements: contigs, lifting, several files, the tissue rule, and what is refused."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from omics_transformers.data_scripts.bed_files import BedSource
from omics_transformers.data_scripts.genome_files import GenomeFiles
from omics_transformers.data_scripts.segment_sources import IntervalReader, bed_elements, tissue_elements


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[IntervalReader]:
    (tmp_path / "genome.fa").write_text(f">1\n{'A' * 100}\n>2\n{'A' * 50}\n>3\n{'A' * 50}\n")
    with GenomeFiles(tmp_path / "genome.fa", offsets={"2": 0}) as genome:
        yield IntervalReader(genome, ["1", "2"])


def write(folder: Path, name: str, *rows: tuple) -> Path:
    path = folder / name
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return path


def places(table) -> list[tuple]:
    return list(table[["contig", "start", "end"]].itertuples(index=False, name=None))


def test_every_interval_is_accounted_for(reader: IntervalReader, tmp_path: Path) -> None:
    rows = [("chr1", 5, 9, "x"), ("1", 6, 7, "y"), ("chr2", 40, 60, "x"), ("2", 70, 80, "x"), ("3", 1, 2, "x")]
    path = write(tmp_path, "a.bed", *rows, ("9", 1, 2, "x"), ("1", 3, 3, "x"))
    table, report = reader.read(BedSource(path, name="x"))
    assert places(table) == [("1", 5, 9), ("2", 40, 50)]
    assert report == {
        "file": "a.bed",
        "name": "x",
        "intervals in the file": 7,
        "intervals of another name, left out": 1,
        "intervals of length zero, left out": 1,
        "on contigs not used": 2,
        "outside the sequence at hand": 1,
        "cut at the end of the sequence at hand": 1,
        "kept": 2,
    }


def test_beyond_a_contig_the_line_is_named(reader: IntervalReader, tmp_path: Path) -> None:
    path = write(tmp_path, "a.bed", ("1", 5, 9), ("1", 90, 101))
    with pytest.raises(ValueError, match=r"a\.bed, line 2: 1:91-101 .* ends beyond the contig"):
        reader.read(path)
    dropping = IntervalReader(reader.genome, reader.contigs, "drop")
    assert places(dropping.read(path)[0]) == [("1", 5, 9), ("1", 90, 100)]


def test_contigs_that_match_none(reader: IntervalReader, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "a.bed", ("chr7", 5, 9), ("3", 5, 9))
    with pytest.raises(ValueError, match=r"a\.bed has no interval on the contigs used, 1, 2; it is on chr7, 3\. Are"):
        reader.read(path)
    with caplog.at_level(logging.WARNING):
        table, report = reader.read(path, may_be_absent=True)
    assert table.empty and report["on contigs not used"] == 2
    assert "no interval on the contigs used" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        _, report = reader.read(write(tmp_path, "b.bed", ("1", 5, 9)))
    assert report["contigs without an interval"] == ["2"]
    assert "has no interval on 2: labels there are 0" in caplog.text


def test_intervals_are_lifted_before_they_are_placed(reader: IntervalReader, tmp_path: Path) -> None:
    chain = tmp_path / "x.chain"
    chain.write_text("chain 9 chr1 500 + 200 260 chr1 100 + 20 80 1\n60\n\n")
    path = write(tmp_path, "a.bed", ("chr1", 210, 220), ("chr1", 255, 265), ("chr1", 5, 9))
    table, report = reader.read(BedSource(path, chain=chain))
    assert places(table) == [("1", 30, 40)]
    assert report["lift"] == {
        "chain": "x.chain", "lifted": 1, "lost": {"an end has no place": 2}, "share lost": 0.666667,
    }  # fmt: skip


def test_regions_in_so_many_files(reader: IntervalReader, tmp_path: Path) -> None:
    files = [
        write(tmp_path, "a.bed", ("1", 5, 9), ("1", 30, 40)),
        write(tmp_path, "b.bed", ("chr1", 8, 12), ("2", 1, 3)),
        write(tmp_path, "c.bed", ("1", 11, 15), ("1", 35, 36)),
    ]
    expected = {1: [("1", 5, 15), ("1", 30, 40), ("2", 1, 3)], 2: [("1", 5, 15), ("1", 30, 40)], 3: [("1", 5, 15)]}
    for least, regions in expected.items():
        tables, sources = bed_elements(reader, {"CTCF-bound": files}, {"CTCF-bound": least})
        assert places(tables["CTCF-bound"]) == regions
        assert sources["CTCF-bound"]["regions kept"] == len(regions) and sources["CTCF-bound"]["regions"] == 3
        assert [one["file"] for one in sources["CTCF-bound"]["files"]] == ["a.bed", "b.bed", "c.bed"]
    assert places(bed_elements(reader, {"x": files[0]})[0]["x"]) == [("1", 5, 9), ("1", 30, 40)]
    for beds, minimum, message in (
        ({"x": files}, {"x": 4}, "minimum_files of x is 4; it has 3 files"),
        ({"x": []}, {}, "it has 0 files"),
        ({"x": files}, {"y": 1}, "minimum_files names y, elements without files"),
    ):
        with pytest.raises(ValueError, match=message):
            bed_elements(reader, beds, minimum)


def test_specific_and_invariant(reader: IntervalReader, tmp_path: Path) -> None:
    """Region at 10 k is present in the first k tissues of five."""
    tissues = {
        f"tissue{number}": write(tmp_path, f"{number}.bed", *[("1", 10 * k, 10 * k + 4) for k in range(number, 6)])
        for number in range(1, 6)
    }
    for shares, specific, invariant in (
        ({}, [1], [5]),
        ({"invariant_share": 0.8}, [1], [4, 5]),
        ({"invariant_share": 0.6, "specific_share": 0.4}, [1, 2], [3, 4, 5]),
    ):
        tables, sources = tissue_elements(reader, {"promoter": tissues}, **shares)
        for name, kept in (("specific", specific), ("invariant", invariant)):
            assert [start // 10 for start in tables[f"promoter_Tissue_{name}"]["start"]] == kept
            assert sources[f"promoter_Tissue_{name}"]["regions kept"] == len(kept)
        neither = sources["promoter_Tissue_specific"]["regions neither specific nor invariant"]
        assert neither == 5 - len(specific) - len(invariant)
    with pytest.raises(ValueError, match="invariant in at least 2 and specific in at most 2"):
        tissue_elements(reader, {"promoter": tissues}, invariant_share=0.4, specific_share=0.4)
    with pytest.raises(ValueError, match="has 1 tissue"):
        tissue_elements(reader, {"enhancer": {"heart": tissues["tissue1"]}})
    with pytest.raises(ValueError, match="'silencer'; expected enhancer or promoter"):
        tissue_elements(reader, {"silencer": tissues})
