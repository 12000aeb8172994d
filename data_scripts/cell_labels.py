"""Types of cells: from a column of obs, or from a table with a column of barcodes and one of labels."""

import gzip
import logging
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

logger = logging.getLogger(__name__)

# In the order in which they are looked for; capitals and separators do not matter.
LABEL_COLUMNS = ("celltype", "celltypes", "celllabel", "celltypeannotation", "annotation", "label", "labels")
MISSING = ("", "nan", "NaN", "NA", "<NA>")  # as files write a label that is not there
_SHOWN = 8


@dataclass(frozen=True)
class CellTypes:
    """The types that are used, and the cells of each."""

    names: list[str]  # sorted
    codes: np.ndarray  # (cells,) int64: position in names, -1 for a cell left out
    report: dict

    @property
    def n_cells(self) -> dict[str, int]:
        """Of each type."""
        counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))
        return dict(zip(self.names, counts.tolist(), strict=True))


def cell_types_of(labels: pd.Series, *, source: str, minimum_types: int = 2, minimum_cells: int = 1) -> CellTypes:
    """Number the types of cells; leave out, and count, cells without one and those of rare types.

    Args:
        labels: one a cell, index = barcodes; missing is NaN, None, or a text in MISSING.
        source: file and column, for messages.
        minimum_types: fewer is an error.
        minimum_cells: types of fewer cells are left out.

    Raises:
        ValueError: for a barcode that occurs twice, for fewer types than `minimum_types`.
    """
    repeated = labels.index[labels.index.duplicated()]
    if len(repeated):
        raise ValueError(
            f"{source}: {repeated.nunique():,} barcodes occur more than once, e.g. {str(repeated[0])!r}; expected each "
            "cell once, and a file of one sample"
        )
    texts = _as_texts(labels)
    sizes = texts.value_counts().sort_index()
    is_rare = sizes < minimum_cells
    names = [str(name) for name in sizes.index[~is_rare]]
    report = {
        "cells without a label, left out": int(texts.isna().sum()),
        "types with too few cells, left out": {str(name): int(n) for name, n in sizes[is_rare].items()},
        "cells of these types, left out": int(sizes[is_rare].sum()),
    }
    if len(names) < minimum_types:
        raise ValueError(_too_few(source, sizes, len(names), report, minimum_types, minimum_cells))
    codes = pd.Index(names, dtype=object).get_indexer(pd.Index(texts, dtype=object)).astype(np.int64)
    types = CellTypes(names, codes, report)
    report["cells of each type"] = types.n_cells
    return types


def find_label_column(columns: pd.Index) -> str | None:
    """The column that LABEL_COLUMNS names first, or None.

    Raises:
        ValueError: where two columns bear that name but for capitals and separators.
    """
    plain = [_plain(column) for column in columns]
    for name in LABEL_COLUMNS:
        found = [str(column) for column, own in zip(columns, plain, strict=True) if own == name]
        if len(found) > 1:
            raise ValueError(f"the columns {' and '.join(map(repr, found))} may both hold the types of cells: name one")
        if found:
            return found[0]
    return None


def labels_of_obs(obs: pd.DataFrame, column: str, *, source: str) -> pd.Series:
    """The labels in a column of obs; ValueError, naming the columns there are, where it is missing."""
    if column not in obs:
        raise ValueError(f"{source}: obs has no column {column!r}; it has {_listed(obs.columns)}")
    return obs[column]


def read_labels(
    path: str | Path,
    barcodes: pd.Index,
    *,
    label_column: str | None = None,
    barcode_column: str | None = None,
) -> tuple[pd.Series, dict]:
    """Labels from a table.

    Args:
        path: CSV or TSV with a header, plain or gzip.
        barcodes: of the cells at hand.
        label_column: by default the one that `find_label_column` finds, or the only one besides the barcodes.
        barcode_column: by default the one with most values among the barcodes at hand.

    Returns:
        Labels, index = the table's barcodes that are at hand, in the table's order; and a report: the columns read,
        barcodes that only the table has, barcodes that only the cells at hand have.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: for a damaged file, a column that is missing or cannot be found, a barcode at hand that occurs
            twice, a table without any of the barcodes at hand (shows both).
    """
    path = Path(path)
    table = _read_table(path)
    for column in (label_column, barcode_column):
        if column is not None and column not in table:
            raise ValueError(f"{path} has no column {column!r}; it has {_listed(table.columns)}")
    barcode_column = barcode_column or _find_barcode_column(table, barcodes, label_column, path)
    label_column = label_column or _find_label_column(table, barcode_column, path)
    is_at_hand = table[barcode_column].isin(barcodes).to_numpy()
    if not is_at_hand.any():
        raise ValueError(_no_match(path, table[barcode_column], f"column {barcode_column!r}", barcodes))
    labels = table.loc[is_at_hand].set_index(barcode_column)[label_column]
    repeated = labels.index[labels.index.duplicated()]
    if len(repeated):
        raise ValueError(
            f"{path}: {repeated.nunique():,} barcodes of these cells occur more than once in column "
            f"{barcode_column!r}, e.g. {repeated[0]!r}; expected each cell once: give the lines of this sample only"
        )
    report = {
        "labels": f"{path.name}, column {label_column}",
        "barcodes": f"{path.name}, column {barcode_column or 'without a name'}",
        "barcodes of the labels that are not at hand": int((~is_at_hand).sum()),
        "barcodes at hand without a line in the labels": int((~barcodes.isin(labels.index)).sum()),
    }
    logger.info("%s: %s", path, report)
    return labels, report


def _as_texts(labels: pd.Series) -> pd.Series:
    """Labels as text, missing ones None. Whole numbers that NaN made fractional are whole again."""
    values = labels.astype(object) if isinstance(labels.dtype, pd.CategoricalDtype) else labels
    if pd.api.types.is_float_dtype(values.dtype) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    texts = values.astype(object).map(lambda value: value if pd.isna(value) else str(value).strip())
    return texts.where(texts.notna() & ~texts.isin(MISSING), None)


def _too_few(source: str, sizes: pd.Series, n_types: int, report: dict, minimum_types: int, minimum_cells: int) -> str:
    found = ", ".join(f"{name} ({number:,})" for name, number in sizes.head(_SHOWN).items()) or "no label"
    rule = f" of at least {minimum_cells:,} cells" if minimum_cells > 1 else ""
    n_missing = report["cells without a label, left out"]
    return (
        f"{source} gives {n_types} types of cells{rule} (found: {found}; {n_missing:,} cells without a label); "
        f"expected {minimum_types} or more. Is it the right column?"
    )


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"no table of labels at {path}")
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    try:
        opener = gzip.open if is_gzip else open
        with opener(path, "rt", encoding="utf-8-sig") as text:
            separator = "\t" if "\t" in text.readline() else ","
            text.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # lines longer than the header lose their end
                table = pd.read_csv(text, sep=separator, dtype=str, keep_default_na=False, index_col=False)
    except (
        OSError,
        EOFError,
        zlib.error,
        UnicodeDecodeError,
        pd.errors.ParserError,
        pd.errors.ParserWarning,
        pd.errors.EmptyDataError,
    ) as error:
        raise ValueError(
            f"{path} cannot be read as a table ({error}); expected CSV or TSV with a header, plain or gzip"
        ) from error
    # Row names are written under an empty heading, which pandas fills.
    table.columns = ["" if str(name).startswith("Unnamed: ") else str(name) for name in table.columns]
    if table.columns.duplicated().any() or table.empty:
        raise ValueError(
            f"{path} has {len(table):,} lines and the columns {_listed(table.columns)}; expected lines, and columns of "
            "different names"
        )
    return table


def _find_barcode_column(table: pd.DataFrame, barcodes: pd.Index, label_column: str | None, path: Path) -> str:
    matches = {name: int(table[name].isin(barcodes).sum()) for name in table.columns if name != label_column}
    best = max(matches, key=lambda name: matches[name], default="")
    if not matches.get(best):
        raise ValueError(_no_match(path, table.iloc[:, 0], "any column, the first", barcodes))
    return best


def _find_label_column(table: pd.DataFrame, barcode_column: str, path: Path) -> str:
    others = table.columns.drop(barcode_column)
    try:
        found = find_label_column(others)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if found is None and len(others) == 1:
        return str(others[0])
    if found is None:
        raise ValueError(f"{path}: which column holds the types of cells? It has {_listed(table.columns)}: name one")
    return found


def _no_match(path: Path, values: pd.Series, where: str, barcodes: pd.Index) -> str:
    return (
        f"{path}: none of the barcodes of these cells is in {where}, which begins with "
        f"{', '.join(map(repr, values.head(3)))}; the cells are {', '.join(repr(str(name)) for name in barcodes[:3])}. "
        "Expected the same prefix and suffix (such as -1)"
    )


def _plain(column: object) -> str:
    return "".join(letter for letter in str(column).lower() if letter.isalnum())


def _listed(columns: pd.Index) -> str:
    return ", ".join(str(column) or "one without a name" for column in columns) or "no columns"
