"""ATAC fragments as Cell Ranger and others write them: contig, start, end, barcode, reads; one line a fragment.

Format: https://support.10xgenomics.com/single-cell-atac/software/pipelines/latest/output/fragments (0-based, half-open;
plain, gzip or BGZF, in any order of lines; lines that begin with # are comments). pyarrow reads it in blocks: SnapATAC2
2.9 asks for pyfaidx < 0.9 and cannot be installed beside ours, and pysam takes a turn of a Python loop a fragment.
"""

import os
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from .annotation_formats import tabbed_lines

BLOCK_BYTES = 1 << 24
FRAGMENT_LINE = "at least 4 tab-separated columns, contig, start, end and barcode, 2 and 3 whole numbers"
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


class FragmentBlock(NamedTuple):
    """Consecutive fragments of a file."""

    contig_codes: np.ndarray  # (fragments,) int32: position in contigs
    contigs: list[str]  # of this block
    starts: np.ndarray  # (fragments,) int64, 0-based
    ends: np.ndarray  # (fragments,) int64, exclusive
    barcode_codes: np.ndarray  # (fragments,) int32: position in barcodes
    barcodes: list[str]  # of this block


class FragmentSurvey(NamedTuple):
    """What a fragments file holds, in numbers."""

    n_fragments: int
    fragments_of_barcode: pd.Series  # int64, index = barcodes, sorted
    contig_ends: dict[str, int]  # contig -> the end of the fragment that reaches furthest


def is_fragments(path: Path) -> bool:
    """Whether the first line that is no comment looks like a fragment; ValueError for a file that is damaged or no
    text."""
    for _, fields in tabbed_lines(path):
        return len(fields) >= 4 and fields[1].isdecimal() and fields[2].isdecimal()
    return False


def survey_fragments(path: str | Path) -> FragmentSurvey:
    """Reads a file once for its barcodes and contigs; raises as `fragment_blocks`."""
    n_fragments = 0
    by_barcode = pd.Series(dtype=np.int64)
    contig_ends: dict[str, int] = {}
    for block in fragment_blocks(path):
        n_fragments += len(block.starts)
        counts = np.bincount(block.barcode_codes, minlength=len(block.barcodes))
        by_barcode = by_barcode.add(pd.Series(counts, index=block.barcodes), fill_value=0).astype(np.int64)
        furthest = np.zeros(len(block.contigs), dtype=np.int64)
        np.maximum.at(furthest, block.contig_codes, block.ends)
        for contig, end in zip(block.contigs, furthest.tolist(), strict=True):
            contig_ends[contig] = max(end, contig_ends.get(contig, 0))
    return FragmentSurvey(n_fragments, by_barcode.sort_index(), contig_ends)


def fragment_blocks(path: str | Path, *, block_bytes: int = BLOCK_BYTES) -> Iterator[FragmentBlock]:
    """All fragments of a file, in its order, a block of text at a time.

    Args:
        path: fragments.tsv, plain, gzip or BGZF.
        block_bytes: text in memory at a time.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: for a damaged or truncated file, an empty one, and a line that is no fragment (named).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no fragments file at {path}")
    is_gzip = _check_end(path)
    first_line, n_columns = _first_fragment(path)
    comments: list[int] = []
    line = first_line
    for batch in _batches(path, is_gzip, first_line, n_columns, block_bytes, comments):
        block = _block(batch)
        _check_coordinates(block, path, line, comments)
        line += len(block.starts)
        yield block


def shown_names(names: list[str] | Mapping[str, object] | pd.Index, limit: int = 4) -> str:
    """The first few of some barcodes or contigs, for messages."""
    more = f", ... ({len(names) - limit:,} more)" if len(names) > limit else ""
    return ", ".join(str(name) for name in islice(names, limit)) + more


def _block(batch: pa.RecordBatch) -> FragmentBlock:
    contig, start, end, barcode = batch.columns
    return FragmentBlock(
        contig.indices.to_numpy(),
        contig.dictionary.to_pylist(),
        start.to_numpy(),
        end.to_numpy(),
        barcode.indices.to_numpy(),
        barcode.dictionary.to_pylist(),
    )


def _check_end(path: Path) -> bool:
    """Whether the file is gzip. BGZF that was cut between two of its blocks is good gzip, but lacks the last block."""
    with path.open("rb") as file:
        head = file.read(18)
        is_gzip = head[:2] == b"\x1f\x8b"
        if is_gzip and head[12:14] == b"BC" and head[3] & 4:
            file.seek(max(0, file.seek(0, os.SEEK_END) - len(_BGZF_END)))
            if file.read() != _BGZF_END:
                raise ValueError(
                    f"{path} is truncated: it is BGZF without the block that marks its end. Copy or download it again"
                )
    return is_gzip


def _first_fragment(path: Path) -> tuple[int, int]:
    """Number of the first line that is no comment, from 1, and its number of columns."""
    for number, fields in tabbed_lines(path):
        if len(fields) < 4:
            raise ValueError(f"{path}, line {number}: expected {FRAGMENT_LINE}; found {'|'.join(fields)[:80]!r}")
        return number, len(fields)
    raise ValueError(f"{path} is empty: it holds no fragment; expected lines of {FRAGMENT_LINE}")


def _batches(
    path: Path, is_gzip: bool, first_line: int, n_columns: int, block_bytes: int, comments: list[int]
) -> Iterator[pa.RecordBatch]:
    names = ["contig", "start", "end", "barcode", *(f"column {number}" for number in range(5, n_columns + 1))]
    name = pa.dictionary(pa.int32(), pa.string())

    def skip_comment(row: pa.csv.InvalidRow) -> str:
        if not row.text.startswith("#"):
            return "error"
        comments.append(row.number)
        return "skip"

    try:
        with pa.input_stream(path, compression="gzip" if is_gzip else None) as stream:
            yield from pa.csv.open_csv(
                stream,
                # Without threads rows are numbered in messages, and one reader keeps up with decompression.
                read_options=pa.csv.ReadOptions(
                    skip_rows=first_line - 1, column_names=names, block_size=block_bytes, use_threads=False
                ),
                parse_options=pa.csv.ParseOptions(delimiter="\t", quote_char=False, invalid_row_handler=skip_comment),
                convert_options=pa.csv.ConvertOptions(
                    column_types={"contig": name, "start": pa.int64(), "end": pa.int64(), "barcode": name},
                    include_columns=names[:4],
                    null_values=[],
                ),
            )
    except pa.ArrowInvalid as error:
        raise ValueError(_bad_line(path, str(error))) from error
    except OSError as error:
        raise ValueError(f"{path} is a damaged or truncated gzip file ({error}): copy or download it again") from error


def _bad_line(path: Path, message: str) -> str:
    row = re.search(r"Row #(\d+): (.*)", message, re.DOTALL)
    if row is None:
        return f"{path} cannot be read as fragments ({message}); expected lines of {FRAGMENT_LINE}"
    return (
        f"{path}, line {row[1]}: {row[2][:160]}; expected {FRAGMENT_LINE}, on every line as many as on the first. "
        "Begin header lines with # to have them skipped"
    )


def _check_coordinates(block: FragmentBlock, path: Path, first_line: int, comments: list[int]) -> None:
    is_bad = (block.starts < 0) | (block.ends <= block.starts)
    if is_bad.any():
        row = int(np.flatnonzero(is_bad)[0])
        line = first_line + row
        for comment in comments:  # rows skipped up to there
            line += comment <= line
        raise ValueError(
            f"{path}, line {line}: start {block.starts[row]:,} and end {block.ends[row]:,}; expected 0 <= start < end"
        )
