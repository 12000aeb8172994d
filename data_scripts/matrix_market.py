"""10x folders: matrix.mtx, barcodes.tsv and features.tsv (genes.tsv of Cell Ranger 2, peaks.bed of Cell Ranger ATAC),
each gzip-compressed or not.

Format: https://math.nist.gov/MatrixMarket/formats.html (coordinate, integer or real, general; 1-based; genes x cells).
The text is streamed in blocks, so the matrix never lies in memory whole.
"""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.csv

from .bed_files import read_bed
from .count_matrices import Entries, SpooledRows
from .peak_names import peak_names


class MatrixHeader(NamedTuple):
    """Sizes that a Matrix Market file states, and the number of lines before its entries."""

    n_rows: int
    n_columns: int
    n_entries: int
    n_lines: int


def open_matrix_folder(folder: Path) -> tuple[SpooledRows, pd.DataFrame, pd.Index]:
    """Counts `(cells, genes)`, the genes' table and the barcodes of a 10x folder."""
    matrix_path = _find(folder, "matrix.mtx")
    genes = _read_genes(_find(folder, "features.tsv", "genes.tsv", "peaks.bed"))
    barcodes = pd.Index(_read_table(_find(folder, "barcodes.tsv"))[0])
    header = read_header(matrix_path)
    if (header.n_rows, header.n_columns) != (len(genes), len(barcodes)):
        raise ValueError(
            f"{matrix_path} states {header.n_rows} genes x {header.n_columns} cells, but the folder lists {len(genes)} "
            f"genes and {len(barcodes)} barcodes: the files do not belong together"
        )
    shape = (header.n_columns, header.n_rows)
    return SpooledRows(text_entries(matrix_path, header), shape, str(matrix_path)), genes, barcodes


def read_header(path: Path) -> MatrixHeader:
    """Reads up to the line of sizes; ValueError where the file is no general coordinate matrix."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as lines:
        banner = lines.readline().lower().split()
        if banner[:3] != ["%%matrixmarket", "matrix", "coordinate"] or banner[3:] not in (
            ["integer", "general"],
            ["real", "general"],
        ):
            raise ValueError(
                f"{path} begins with {' '.join(banner)[:60]!r}; expected '%%MatrixMarket matrix coordinate integer "
                "general'"
            )
        for n_lines, line in enumerate(lines, start=2):
            if not line.startswith("%") and line.strip():
                sizes = line.split()
                if len(sizes) != 3 or not all(size.isdigit() for size in sizes):
                    raise ValueError(f"{path}, line {n_lines}: expected rows, columns and entries, found {line!r}")
                return MatrixHeader(int(sizes[0]), int(sizes[1]), int(sizes[2]), n_lines)
    raise ValueError(f"{path} ends before the line of sizes: it is cut short")


def text_entries(path: Path, header: MatrixHeader) -> Callable[[], Iterator[Entries]]:
    """Blocks of the file's entries, 0-based, transposed to cells x genes."""

    def blocks() -> Iterator[Entries]:
        n_read = 0
        if header.n_entries:
            for batch in _text_batches(path, header):
                genes, cells, values = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
                n_read += len(genes)
                yield Entries(cells - 1, genes - 1, values)
        if n_read != header.n_entries:
            raise ValueError(f"{path} states {header.n_entries} entries and holds {n_read}: it is cut short or damaged")

    return blocks


def _text_batches(path: Path, header: MatrixHeader) -> Iterator[pa.RecordBatch]:
    names = ["gene", "cell", "value"]
    try:
        with pa.input_stream(path, compression="gzip" if path.suffix == ".gz" else None) as stream:
            yield from pa.csv.open_csv(
                stream,
                read_options=pa.csv.ReadOptions(skip_rows=header.n_lines, column_names=names, block_size=1 << 24),
                parse_options=pa.csv.ParseOptions(delimiter=" "),
                convert_options=pa.csv.ConvertOptions(
                    column_types={"gene": pa.int64(), "cell": pa.int64(), "value": pa.float64()}
                ),
            )
    except (pa.ArrowInvalid, EOFError, OSError) as error:
        raise ValueError(f"{path} cannot be read as Matrix Market entries ({error}): cut short or damaged") from error


def _find(folder: Path, *names: str) -> Path:
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"{folder} has no {' or '.join(names)} (nor .gz); expected a 10x folder with matrix.mtx, features.tsv, "
        "genes.tsv or peaks.bed, and barcodes.tsv"
    )


def _read_table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)
    except (OSError, EOFError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path} cannot be read as a table ({error}): cut short or damaged") from error


def _read_genes(path: Path) -> pd.DataFrame:
    if path.name.startswith("peaks.bed"):
        return _read_peaks(path)
    table = _read_table(path)
    columns = {name: table[i] for i, name in ((1, "gene_symbols"), (2, "feature_types")) if i in table}
    return pd.DataFrame(columns).set_index(pd.Index(table[0]))


def _read_peaks(path: Path) -> pd.DataFrame:
    """Peaks named contig:start-end, as Cell Ranger names them in its .h5 files."""
    peaks, _ = read_bed(path)
    names = peak_names(peaks)
    return pd.DataFrame({"gene_symbols": names, "feature_types": "Peaks"}).set_index(pd.Index(names))
