"""Fragments are read as written, plain and compressed; every damage is named, with its line where there is one."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.fragment_files import fragment_blocks, is_fragments, survey_fragments

LINE = "chr1\t5\t9\tAA-1\t2\n"
fragments = st.tuples(
    st.sampled_from(["chr1", "chr2", "X"]),
    st.integers(0, 10**9),
    st.integers(1, 10**5),
    st.sampled_from(["A-1", "B-1", 'C"']),
)


def read(path: Path, **options: int) -> list[tuple[str, int, int, str]]:
    return [
        (block.contigs[contig], int(start), int(end), block.barcodes[barcode])
        for block in fragment_blocks(path, **options)
        for contig, start, end, barcode in zip(
            block.contig_codes, block.starts, block.ends, block.barcode_codes, strict=True
        )
    ]


def bgzf(data: bytes) -> bytes:
    """Blocks as bgzip writes them, and the empty one at the end."""
    blocks = []
    for piece in (data[: len(data) // 2], data[len(data) // 2 :], b""):
        plain = gzip.compress(piece, mtime=0)
        size = len(plain) + 8 - 1
        blocks.append(
            plain[:3] + b"\x04" + plain[4:8] + b"\0\xff\x06\0BC\x02\0" + size.to_bytes(2, "little") + plain[10:]
        )
    return b"".join(blocks)


@pytest.mark.parametrize("form", ["plain", "gzip", "two gzip members", "bgzf"])
@given(
    rows=st.lists(fragments, min_size=1, max_size=30),
    n_columns=st.integers(4, 6),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_fragments_are_read_as_written(
    form: str, rows: list[tuple], n_columns: int, newline: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = ["# id=x", "# primary_contig=chr1"]
    for number, (contig, start, length, barcode) in enumerate(rows):
        lines += ["\t".join(map(str, [contig, start, start + length, barcode, 3, "+"][:n_columns]))]
        lines += ["# another header"] * (number == 2)
    data = newline.join([*lines, ""]).encode()
    path = tmp_path_factory.mktemp("fragments") / "fragments.tsv"
    pieces = {"plain": data, "gzip": gzip.compress(data), "bgzf": bgzf(data)}
    pieces["two gzip members"] = gzip.compress(data[:50]) + gzip.compress(data[50:])
    path.write_bytes(pieces[form])
    expected = [(contig, start, start + length, barcode) for contig, start, length, barcode in rows]
    assert read(path) == expected
    assert read(path, block_bytes=200) == expected
    assert is_fragments(path)
    survey = survey_fragments(path)
    assert survey.n_fragments == len(rows)
    barcodes = [row[3] for row in expected]
    assert survey.fragments_of_barcode.to_dict() == {barcode: barcodes.count(barcode) for barcode in barcodes}
    contigs = {row[0] for row in expected}
    assert survey.contig_ends == {contig: max(row[2] for row in expected if row[0] == contig) for contig in contigs}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: it holds no fragment"),
        ("# only\n", "is empty: it holds no fragment"),
        ("chr1\t5\t9\n", r"line 1: expected at least 4 tab-separated columns, .*; found 'chr1\|5\|9'"),
        ("chr1 5 9 AA\n", "line 1: expected at least 4 tab-separated"),
        (
            "chrom\tstart\tend\tbarcode\n" + "chr1\t5\t9\tAA\n",
            "line 1: .*invalid value 'start'.*Begin header lines with #",
        ),
        ("# x\n" + LINE * 3 + "chr1\tx\t9\tAA\t1\n", "line 5: .*invalid value 'x'; expected at least 4"),
        ("# x\n" + LINE * 3 + "chr1\t\t9\tAA\t1\n", "line 5: .*invalid value ''"),
        ("# x\n" + LINE * 3 + "chr1\t5.5\t9\tAA\t1\n", "line 5: .*invalid value '5.5'"),
        ("# x\n" + LINE * 3 + "chr1\t5\t9\n", "line 5: Expected 5 columns, got 3"),
        ("# x\n" + LINE * 3 + "chr1\t9\t9\tAA\t1\n", r"fragments\.tsv, line 5: start 9 and end 9; expected 0 <= start"),
        ("# x\n" + LINE * 2 + "# y\n" + LINE + "chr1\t9\t5\tAA\t1\n", "line 6: start 9 and end 5"),
        ("# x\n" + LINE * 2 + "# y\n" + LINE + "chr1\t5\tx\tAA\t1\n", "line 6: .*invalid value 'x'"),
        ("# x\n" + LINE * 3 + "chr1\t-1\t5\tAA\t1\n", "line 5: start -1 and end 5"),
    ],
)
@pytest.mark.parametrize("block_bytes", [1 << 20, 40])
def test_lines_that_are_no_fragments_are_named(text: str, message: str, block_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / "fragments.tsv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read(path, block_bytes=block_bytes)


@pytest.mark.parametrize("cut", [4, 8, 30])
def test_a_truncated_file_is_named(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "fragments.tsv.gz"
    random = np.random.default_rng(0)
    lines = "".join(f"chr1\t{start}\t{start + 9}\tAA-1\t1\n" for start in random.integers(0, 10**8, 2000))
    path.write_bytes(gzip.compress(lines.encode())[:-cut])
    with pytest.raises(ValueError, match=r"fragments\.tsv\.gz is (a )?damaged.*truncated"):
        read(path)


def test_bgzf_cut_between_blocks_is_named(tmp_path: Path) -> None:
    path = tmp_path / "fragments.tsv.gz"
    path.write_bytes(bgzf(LINE.encode() * 10)[:-28])
    with pytest.raises(ValueError, match="is truncated: it is BGZF without the block that marks its end"):
        read(path)


def test_bytes_that_are_no_text_and_files_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "fragments.tsv"
    with pytest.raises(FileNotFoundError, match=r"no fragments file at .*fragments\.tsv"):
        read(path)
    path.write_bytes(LINE.encode() * 3000 + b"chr1\t5\t9\t\xff\xfe\t1\n")
    with pytest.raises(ValueError, match=r"line 3001: .*UTF8"):
        read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="damaged, truncated or not text"):
        is_fragments(path)


def test_other_texts_are_no_fragments(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for text in (
        "",
        "%%MatrixMarket matrix coordinate integer general\n3 2 1\n",
        "chr1\t5\t9\n",
        "barcode,type\nA,b\n",
    ):
        path.write_text(text)
        assert not is_fragments(path)
