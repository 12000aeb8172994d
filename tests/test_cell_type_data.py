"""Labelled cells of folders, and batches of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from omics_transformers.training.cell_type_data import (
    CellTypeCollator,
    CellTypeDataset,
    hashed_orders,
    labelled_cells,
)
from omics_transformers.training.cell_type_splits import CellTypeSplit
from omics_transformers.training.multiome_data import MultiomeFolder, read_multiome


def changed(folder: Path, where: Path, change: Any) -> MultiomeFolder:
    """A copy of the folder whose rows were changed; `datasets` caches by the folder's name."""
    shutil.copytree(folder, where)
    (path,) = (where / "data").iterdir()
    rows = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist(change(rows.to_pylist()), schema=rows.schema), path)
    return read_multiome(where)


def drop(**named: str) -> Any:
    return lambda rows: [row for row in rows if all(row[name] != value for name, value in named.items())]


def test_cells_with_type_and_modality_are_found(toy_multiome: Path) -> None:
    folder = read_multiome(toy_multiome)
    of_rna = labelled_cells({"a": folder}, {"a": {"rna"}}, CellTypeSplit())
    assert len(of_rna) == 239 and of_rna.type_names == ["type0", "type1", "type2", "type3"]
    assert of_rna.report["left_out"]["a"] == {"without_cell_type": 1, "without_modality": 80, "not_in_all_folders": 0}
    codes, names = folder.cells.labels("cell_type")
    expected = [names[code] for code in codes[of_rna.rows["a"]]]
    assert [of_rna.type_names[one] for one in of_rna.types] == expected
    assert folder.cells.cell_names[of_rna.rows["a"]].tolist() == [key.split("\x1f")[1] for key in of_rna.keys]
    both = labelled_cells({"a": folder}, {"a": {"rna", "atac"}}, CellTypeSplit("donor"))
    assert len(both) == 120 and both.groups is not None and set(both.groups) == {f"donor{n}" for n in range(4)}


def test_folders_are_matched_by_data_set_and_name(toy_multiome: Path, tmp_path: Path) -> None:
    folder = read_multiome(toy_multiome)
    other = changed(
        toy_multiome, tmp_path / "multiome-fewer", lambda rows: [row for row in rows[::-1] if row["cell"] != "paired-7"]
    )
    found = labelled_cells({"a": folder, "b": other}, {"a": {"rna"}, "b": {"rna"}}, CellTypeSplit())
    assert len(found) == 238 and found.report["left_out"]["a"]["not_in_all_folders"] == 1
    assert not np.array_equal(found.rows["a"], found.rows["b"])
    assert np.array_equal(folder.cells.values(found.rows["a"], "rna"), other.cells.values(found.rows["b"], "rna"))


def with_one_rare(rows: list[dict]) -> list[dict]:
    rows[0]["cell_type"] = "rare"
    return rows


def test_a_type_with_one_cell_is_dropped_where_that_is_asked_for(
    toy_multiome: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = changed(toy_multiome, tmp_path / "multiome-rare", with_one_rare)
    needed: dict[str, Any] = {"a": {"rna"}}
    assert "rare" in labelled_cells({"a": folder}, needed, CellTypeSplit()).type_names
    dropped = labelled_cells({"a": folder}, needed, CellTypeSplit(rare_classes="drop"))
    assert len(dropped) == 238 and "rare" not in dropped.type_names
    assert dropped.report["rare_types_dropped"] == ["rare"] and "left out: rare" in caplog.text


def without_types(rows: list[dict]) -> list[dict]:
    return [row | {"cell_type": None} for row in rows]


def all_called_the_same(rows: list[dict]) -> list[dict]:
    return [row | {"cell": "cell", "dataset": "set"} for row in rows]


def other_types(rows: list[dict]) -> list[dict]:
    return [row | {"cell_type": "type9" if row["cell"] == "paired-3" else row["cell_type"]} for row in rows]


def without_donors(rows: list[dict]) -> list[dict]:
    return [row | {"donor": None} for row in rows]


@pytest.mark.parametrize(
    ("change", "modalities", "by", "message"),
    [
        (without_types, {"rna"}, "cell", "no cell of b can be used: of 320, 320 have no cell_type"),
        (drop(dataset="paired"), {"rna", "atac"}, "cell", "199 of the others lack ATAC or RNA"),
        (
            all_called_the_same,
            {"rna"},
            "cell",
            "b has 238 cells whose data set and name another cell has, e.g. set: cell",
        ),
        (
            other_types,
            {"rna"},
            "cell",
            "1 cells have other types or groups in b than in a, e.g. paired: paired-3: type9",
        ),
        (without_donors, {"rna"}, "donor", "and 239 have no donor; build with labels"),
        (lambda rows: [row | {"dataset": "x"} for row in rows], {"rna"}, "cell", "no cell is in all of a, b"),
    ],
)
def test_folders_that_cannot_be_compared_on_are_refused(
    toy_multiome: Path, tmp_path: Path, change: Any, modalities: set, by: Any, message: str
) -> None:
    folders = {"a": read_multiome(toy_multiome), "b": changed(toy_multiome, tmp_path / tmp_path.name, change)}
    with pytest.raises(ValueError) as error:
        labelled_cells(folders, {"a": {"rna"}, "b": modalities}, CellTypeSplit(by))
    assert message in str(error.value)


def dataset(toy_multiome: Path, **options: Any) -> CellTypeDataset:
    folder = read_multiome(toy_multiome)
    rows = np.arange(200, 320)
    types = rows % 4
    keys = np.array([f"k{row}" for row in rows], dtype=object)
    return CellTypeDataset(
        folder.cells, rows, types=types, labels=types, keys=keys, modalities=("rna", "atac"), **options
    )


def test_a_batch_holds_the_rows(toy_multiome: Path) -> None:
    data = dataset(toy_multiome)
    batch = CellTypeCollator()(data.__getitems__([5, 0, 7]))
    assert batch.keys() == {"rna_values", "atac_values", "labels"} and batch["rna_values"].dtype == torch.uint8
    for modality in ("rna", "atac"):
        expected = data.cells.values([205, 200, 207], modality)  # type: ignore[arg-type]
        assert np.array_equal(batch[f"{modality}_values"].numpy(), expected)
    assert batch["labels"].tolist() == [1, 0, 3]


def in_gene_order(batch: dict[str, np.ndarray], name: str) -> np.ndarray:
    values = np.zeros_like(batch[name])
    np.put_along_axis(values, batch["gene_positions"], batch[name], axis=1)
    return values


@pytest.mark.parametrize("order", ["per_cell", "every_step"])
def test_another_order_moves_values_with_their_genes(toy_multiome: Path, order: str) -> None:
    fixed, moved = dataset(toy_multiome), dataset(toy_multiome, feature_order=order)
    one, other = fixed.__getitems__([3, 4]), moved.__getitems__([3, 4])
    assert not np.array_equal(one["rna_values"], other["rna_values"])
    for name in ("rna_values", "atac_values"):
        assert np.array_equal(one[name], in_gene_order(other, name))


def test_an_order_a_cell_stays_and_an_order_a_step_is_one_for_its_batch(toy_multiome: Path) -> None:
    per_cell = dataset(toy_multiome, feature_order="per_cell")
    first, again = (per_cell.__getitems__(numbers)["gene_positions"] for numbers in ([3, 4], [4, 9]))
    assert np.array_equal(first[1], again[0]) and not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, dataset(toy_multiome, feature_order="per_cell", seed=1).__getitems__([3, 4]))
    step = dataset(toy_multiome, feature_order="every_step")
    first, again = (step.__getitems__(numbers)["gene_positions"] for numbers in ([3, 4], [4, 9]))
    assert np.array_equal(first[0], first[1]) and not np.array_equal(first[1], again[0])


def test_hashed_orders_are_orders_in_which_every_gene_is_as_likely_anywhere() -> None:
    orders = hashed_orders(np.arange(4000, dtype=np.uint64), 8)
    assert np.array_equal(np.sort(orders, axis=1), np.tile(np.arange(8), (4000, 1)))
    shares = np.stack([np.bincount(orders[:, place], minlength=8) for place in range(8)]) / 4000
    assert np.abs(shares - 1 / 8).max() < 0.025  # five standard deviations


def test_the_description_is_not_needed_to_tell_types(toy_multiome: Path) -> None:
    """Types come from the cells, of which multiome.json is but a summary."""
    described = json.loads((toy_multiome / "multiome.json").read_text())["cell_types"]
    assert labelled_cells({"a": read_multiome(toy_multiome)}, {"a": {"rna"}}, CellTypeSplit()).type_names == described
