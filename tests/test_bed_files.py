"""BED against plain lines, feature lines of GTF, and files that are refused."""

import gzip
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.bed_files import BedSource, beds_from_text, read_bed, tissue_beds_from_text

names = st.text("abcXYZ019_-", min_size=1, max_size=5)
intervals = st.tuples(names, st.integers(0, 10**9), st.integers(1, 10**6), names)


@given(st.lists(intervals, min_size=1, max_size=20), st.booleans(), st.integers(3, 6), st.sampled_from(["\n", "\r\n"]))
def test_bed_is_read_as_written(rows: list[tuple], is_gzip: bool, n_columns: int, newline: str) -> None:
    lines = ["# a comment", "track name=x", "browser position 1:1-2", ""]
    columns = [[contig, start, start + length, name, 0, "+"][:n_columns] for contig, start, length, name in rows]
    lines += ["\t".join(map(str, row)) for row in columns]
    data = newline.join([*lines, ""]).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.bed"
        path.write_bytes(gzip.compress(data) if is_gzip else data)
        table, report = read_bed(path)
    assert report == {"intervals in the file": len(rows)}
    expected = [[*row[:3], row[3] if n_columns > 3 else "", 5 + number] for number, row in enumerate(columns)]
    assert table.to_numpy().tolist() == expected
    assert table[["start", "end"]].dtypes.tolist() == ["int64", "int64"]


def test_intervals_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "build.bed"
    path.write_text("1\t0\t5\tpromoter\n1\t9\t9\tpromoter\n1\t7\t8\tenhancer\n")
    table, report = read_bed(BedSource(path, name="promoter"))
    assert table[["start", "end", "line"]].to_numpy().tolist() == [[0, 5, 1]]
    assert report == {
        "intervals in the file": 3,
        "intervals of another name, left out": 1,
        "intervals of length zero, left out": 1,
    }
    with pytest.raises(ValueError, match=r"named 'ocr'; it has promoter \(2\), enhancer \(1\)"):
        read_bed(BedSource(path, name="ocr"))


def test_feature_lines_are_read_from_one(tmp_path: Path) -> None:
    path = tmp_path / "polya.gtf"
    lines = [("polyA_signal", 11, 16), ("polyA_site", 30, 31), ("pseudo_polyA", 40, 41)]
    path.write_text("".join(f'chr1\tH\t{kind}\t{a}\t{b}\t.\t+\t.\tgene_id "A";\n' for kind, a, b in lines))
    table, _ = read_bed(BedSource(path, name="polyA_signal"))
    assert table.to_numpy().tolist() == [["chr1", 10, 16, "polyA_signal", 1]]


def test_a_bed_of_nine_columns_is_no_gtf(tmp_path: Path) -> None:
    path = tmp_path / "x.bed"
    path.write_text("1\t10\t20\t7\t100\t+\t10\t20\t0\n")
    assert read_bed(path)[0].to_numpy().tolist() == [["1", 10, 20, "7", 1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("1\t5\t5\n", "length zero only"),
        ("1\t0\t5\n1\t0\n", "line 2: expected at least 3 tab-separated columns"),
        ("1 0 5\n", "line 1: expected at least 3 tab-separated columns"),
        ("chrom\tstart\tend\n1\t0\t5\n", "line 1: .*Begin header lines with #"),
        ("1\t6\t5\n", "line 1: start 6 and end 5"),
        ("1\t-1\t5\n", "line 1: start -1"),
    ],
)
def test_broken_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.bed"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_bed(path)


def test_files_that_are_damaged_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.bed.gz"
    with pytest.raises(FileNotFoundError, match=r"no BED file at .*x\.bed\.gz"):
        read_bed(path)
    path.write_bytes(gzip.compress(b"1\t0\t5\n" * 1000)[:-12])
    with pytest.raises(ValueError, match=r"x\.bed\.gz is damaged, truncated"):
        read_bed(path)


def test_sources_of_the_command_line() -> None:
    assert BedSource.from_text("a.bed") == BedSource("a.bed")
    assert BedSource.from_text("a.bed:chain=b.chain.gz:name=x") == BedSource("a.bed", "x", "b.chain.gz")
    for text in ("a.bed:nmae=x", "a.bed:name", "a.bed:name=", "a.bed:name=x:name=y", ":name=x"):
        with pytest.raises(ValueError, match=r"expected PATH\[:name=NAME\]"):
            BedSource.from_text(text)


def test_elements_and_tissues_of_the_command_line() -> None:
    assert beds_from_text(["CTCF-bound=a.bed", "promoter=b.bed:name=x", "CTCF-bound=c.bed"]) == {
        "CTCF-bound": [BedSource("a.bed"), BedSource("c.bed")],
        "promoter": [BedSource("b.bed", "x")],
    }
    assert tissue_beds_from_text(["promoter:heart=a.bed:chain=c", "promoter:lung=b.bed", "enhancer:lung=b.bed"]) == {
        "promoter": {"heart": BedSource("a.bed", None, "c"), "lung": BedSource("b.bed")},
        "enhancer": {"lung": BedSource("b.bed")},
    }
    for text in ("a.bed", "=a.bed", "promoter="):
        with pytest.raises(ValueError, match="names no"):
            beds_from_text([text])
    for text in ("promoter=a.bed", ":heart=a.bed", "promoter:heart"):
        with pytest.raises(ValueError, match="expected KIND:TISSUE=PATH"):
            tissue_beds_from_text([text])
    with pytest.raises(ValueError, match="has a file for heart already"):
        tissue_beds_from_text(["promoter:heart=a.bed", "promoter:heart=b.bed"])
