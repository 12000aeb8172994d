"""What inputs bring is checked before any work: obs columns, queries, barcodes, first counts."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from omics_transformers.data_scripts.cell_inputs import (
    InputReading,
    OpenInputs,
    genes_of_columns,
    read_cells,
    scan_inputs,
)
from omics_transformers.data_scripts.gene_identifiers import resolve_genes
from omics_transformers.data_scripts.rank_values import NOT_A_GENE, NOT_IN_VOCABULARY


def write_cells(path, **obs):
    obs = pd.DataFrame(obs or {"age": [1, 2]}, index=[f"{path.stem}{i}" for i in range(2)])
    AnnData(sp.csr_matrix(np.eye(2, 3)), obs=obs, var=pd.DataFrame(index=["A", "B", "C"])).write_h5ad(path)
    return path


def cells_of(path, **reading):
    reading = InputReading(**reading)
    with reading.open(path) as file:
        return read_cells(file, reading, "label")


def scan(paths, **reading):
    opened = OpenInputs(InputReading(**reading), capacity=1)
    try:
        return scan_inputs(paths, opened, vocabulary=None, gene_symbols=None, probe_cells=10)
    finally:
        opened.close()


def test_carried_columns_keep_their_types_and_missing_values(tmp_path):
    path = write_cells(
        tmp_path / "a.h5ad",
        donor=pd.Categorical(["d1", None]),
        age=[30, 40],
        score=[0.5, np.nan],
        passed=[True, False],
    )
    table, _ = cells_of(path, obs_columns=("passed", "donor", "age", "score"))
    assert table.column_names == ["cell_id", "passed", "donor", "age", "score"]
    assert [str(field.type) for field in table.schema] == ["string", "bool", "string", "int64", "double"]
    assert table["donor"].to_pylist() == ["d1", None]
    assert table["score"].to_pylist()[0] == 0.5


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        (None, [True, True]),
        ("disease == 'cancer'", [True, False]),
        ("disease == 'cancer' or age < 50", [False, False]),
        ("not passed", [True, False]),
        ("disease.str.startswith('no')", [False, True]),
    ],
)
def test_the_query_names_the_cells_left_out(tmp_path, query, kept):
    path = write_cells(tmp_path / "a.h5ad", disease=["normal", "cancer"], age=[30, 60], passed=[True, False])
    assert cells_of(path, exclude=query)[1].tolist() == kept


def test_the_prefix_tells_cells_of_inputs_apart(tmp_path):
    path = write_cells(tmp_path / "a.h5ad")
    assert cells_of(path, duplicate_barcodes="prefix")[0]["cell_id"].to_pylist() == ["label:a0", "label:a1"]


def test_inputs_are_labelled_by_the_shortest_differing_end_of_their_paths(tmp_path):
    paths = []
    for sample in ("s1", "s2"):
        (tmp_path / sample).mkdir()
        paths.append(write_cells(tmp_path / sample / f"{sample}.h5ad"))
    assert [one.label for one in scan(paths)] == ["s1.h5ad", "s2.h5ad"]
    same = [path.rename(path.with_name("cells.h5ad")) for path in paths]
    assert [one.label for one in scan(same, duplicate_barcodes="prefix")] == ["s1/cells.h5ad", "s2/cells.h5ad"]


def test_inputs_with_the_same_genes_share_them(tmp_path):
    first, second = scan([write_cells(tmp_path / "a.h5ad"), write_cells(tmp_path / "b.h5ad")])
    assert first.genes is second.genes
    assert first.n_cells == 2


def test_columns_are_numbered_or_marked():
    index = pd.DataFrame({"feature_types": ["Gene Expression"] * 2 + ["Peaks"]}, index=["A", "B", "C"])
    genes = resolve_genes(index, vocabulary=["B"])
    assert genes_of_columns(genes, {"B": 5}).tolist() == [NOT_IN_VOCABULARY, 5, NOT_A_GENE]


def test_columns_that_mix_types_are_named(tmp_path):
    path = write_cells(tmp_path / "a.h5ad")
    reading = InputReading(obs_columns=("age",))
    with reading.open(path) as file:
        file.obs["age"] = ["old", 3]
        with pytest.raises(ValueError, match="obs column 'age' mixes types"):
            read_cells(file, reading, "a")
