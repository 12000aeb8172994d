"""Types of cells from obs and tables: found columns, missing labels, rare types, and what is refused."""

import gzip
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.cell_labels import cell_types_of, find_label_column, labels_of_obs, read_labels

BARCODES = pd.Index(["A-1", "B-1", "C-1"])


@given(st.lists(st.sampled_from(["T", "B", "NK", None, np.nan, "", " ", "nan"]), max_size=30), st.integers(1, 4))
def test_cells_are_numbered_or_accounted_for(labels: list, minimum_cells: int) -> None:
    series = pd.Series(labels, index=[f"c{i}" for i in range(len(labels))], dtype=object)
    types = cell_types_of(series, source="x", minimum_types=0, minimum_cells=minimum_cells)
    present = {name: labels.count(name) for name in ("B", "NK", "T") if name in labels}
    kept = {name: number for name, number in present.items() if number >= minimum_cells}
    assert types.names == sorted(kept)
    assert types.n_cells == kept == types.report["cells of each type"]
    assert [types.names[code] if code >= 0 else None for code in types.codes] == [
        label if label in kept else None for label in labels
    ]
    rare = {name: number for name, number in present.items() if name not in kept}
    assert types.report["types with too few cells, left out"] == rare
    assert types.report["cells of these types, left out"] == sum(rare.values())
    assert types.report["cells without a label, left out"] == len(labels) - sum(present.values())


def test_numbers_and_categories_become_text() -> None:
    index = ["a", "b", "c"]
    assert cell_types_of(pd.Series([1.0, np.nan, 2.0], index=index), source="x").names == ["1", "2"]
    assert cell_types_of(pd.Series([10, 2, 2], index=index), source="x").names == ["10", "2"]
    categories = pd.Series(pd.Categorical(["T", None, "B"], categories=["T", "B", "unused"]), index=index)
    assert cell_types_of(categories, source="x").names == ["B", "T"]


def test_too_few_types_and_barcodes_twice() -> None:
    labels = pd.Series(["T", "T", "B", None], index=["a", "b", "c", "d"])
    message = (
        r"file\.h5ad gives 1 types of cells of at least 2 cells \(found: B \(1\), T \(2\); 1 cells without a label\)"
    )
    with pytest.raises(ValueError, match=message):
        cell_types_of(labels, source="file.h5ad", minimum_cells=2)
    assert cell_types_of(labels, source="x", minimum_cells=2, minimum_types=1).names == ["T"]
    with pytest.raises(ValueError, match=r"found: no label; 1 cells without"):
        cell_types_of(labels[3:], source="x")
    with pytest.raises(ValueError, match=r"x: 1 barcodes occur more than once, e.g. 'a'"):
        cell_types_of(labels.set_axis(["a", "b", "a", "a"]), source="x")


def test_the_column_of_labels_is_found_by_name() -> None:
    assert find_label_column(pd.Index(["depth", "annotation", "Cell.Type"])) == "Cell.Type"
    assert find_label_column(pd.Index(["depth", "cluster"])) is None
    with pytest.raises(ValueError, match="columns 'cell_type' and 'CellType' may both hold"):
        find_label_column(pd.Index(["cell_type", "CellType"]))
    obs = pd.DataFrame({"depth": [1], "kind": ["T"]})
    assert labels_of_obs(obs, "kind", source="x").tolist() == ["T"]
    with pytest.raises(ValueError, match="x: obs has no column 'knid'; it has depth, kind"):
        labels_of_obs(obs, "knid", source="x")


@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize("is_gzip", [False, True])
def test_tables_are_read_and_columns_found(separator: str, is_gzip: bool, tmp_path: Path) -> None:
    path = tmp_path / "labels"
    rows = [["", "sample", "cell_type", "barcode"], ["s_C-1", "s", '"T"', "C-1"], ["s_A-1", "s", "", "A-1"]]
    rows += [["s_X-1", "s", "B", "X-1"], ["s_Y-1", "s", "B", "X-1"]]
    data = "".join(separator.join(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if is_gzip else data)
    labels, report = read_labels(path, BARCODES)
    assert labels.to_dict() == {"C-1": "T", "A-1": ""}
    assert report == {
        "labels": "labels, column cell_type",
        "barcodes": "labels, column barcode",
        "barcodes of the labels that are not at hand": 2,
        "barcodes at hand without a line in the labels": 1,
    }
    other, report = read_labels(path, BARCODES, label_column="sample", barcode_column="barcode")
    assert other.tolist() == ["s", "s"]
    by_row_names, _ = read_labels(path, pd.Index(["s_A-1"]))
    assert by_row_names.index.tolist() == ["s_A-1"]


def test_the_only_other_column_holds_the_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("cell,kind\nA-1,T\n")
    assert read_labels(path, BARCODES)[0].to_dict() == {"A-1": "T"}


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "cannot be read as a table"),
        ("barcode,cell_type\n", {}, "has 0 lines and the columns barcode, cell_type"),
        ("barcode,cell_type\nA-1,T,x,y\n", {}, "cannot be read as a table"),
        ("barcode,barcode\nA-1,T\n", {"label_column": "x"}, "no column 'x'"),
        (
            "barcode,cell_type\nA,T\n",
            {},
            "is in any column, .*'A'; the cells are 'A-1', 'B-1', 'C-1'. Expected the same",
        ),
        ("b,cell_type\nA,T\n", {"barcode_column": "b"}, "none of the barcodes of these cells is in column 'b'"),
        ("barcode,cell_type\nA-1,T\n", {"label_column": "type"}, "no column 'type'; it has barcode, cell_type"),
        ("barcode,kind,depth\nA-1,T,1\n", {}, r"which column holds the types of cells\? It has barcode, kind, depth"),
        ("barcode,cell_type,CellType\nA-1,T,T\n", {}, "may both hold the types"),
        ("barcode,cell_type\nA-1,T\nB-1,T\nA-1,T\n", {}, "1 barcodes of these cells .* 'barcode', e.g. 'A-1'"),
    ],
)
def test_tables_that_do_not_serve_are_refused(text: str, options: dict, message: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        read_labels(path, BARCODES, **options)
    assert str(path) in str(raised.value)


def test_files_that_are_damaged_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv.gz"
    with pytest.raises(FileNotFoundError, match=re.escape(f"no table of labels at {path}")):
        read_labels(path, BARCODES)
    path.write_bytes(gzip.compress(b"barcode,cell_type\nA-1,T\n")[:-9])
    with pytest.raises(ValueError, match="cannot be read as a table"):
        read_labels(path, BARCODES)
    path.write_bytes(b"barcode,cell_type\n\xff\xfe,T\n")
    with pytest.raises(ValueError, match="cannot be read as a table"):
        read_labels(path, BARCODES)
