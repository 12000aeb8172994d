"""A SOMA experiment gives what the AnnData it was made of gives: tokens, medians, bytes; also of some of its cells."""

import importlib.util
import json
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from omics_transformers.data_scripts.cell_inputs import InputReading, OpenInputs, read_cells, scan_inputs
from omics_transformers.data_scripts.cells import build_cells
from omics_transformers.data_scripts.count_files import input_files, open_counts
from omics_transformers.data_scripts.soma_addresses import soma_input

needs_soma = pytest.mark.skipif(
    importlib.util.find_spec("tiledbsoma") is None, reason="tiledbsoma is not installed: the extra census"
)
N_CELLS, N_GENES = 160, 40


@pytest.fixture(scope="module")
def cells():
    random = np.random.default_rng(0)
    counts = random.poisson(random.lognormal(-0.5, 1, N_GENES), (N_CELLS, N_GENES)).astype(np.float32)
    obs = pd.DataFrame(
        {
            "disease": pd.Categorical(random.choice(["normal", "cancer"], N_CELLS)),
            "tissue": random.choice(["heart", "lung"], N_CELLS),
            "age": random.integers(20, 80, N_CELLS),
            "is_primary_data": random.random(N_CELLS) < 0.7,
        },
        index=[f"cell{number}" for number in range(N_CELLS)],
    )
    var = pd.DataFrame({"feature_name": [f"GENE{number}" for number in range(N_GENES)]})
    var.index = [f"ENSG{number:011d}" for number in range(N_GENES)]
    return anndata.AnnData(sp.csr_matrix(counts), obs=obs, var=var, layers={"halved": sp.csr_matrix(counts / 2)})


@pytest.fixture(scope="module")
def experiment(cells, tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("soma") / "cells.soma", cells)


@pytest.fixture(scope="module")
def with_gaps(experiment, tmp_path_factory):
    """The experiment without its lung cells."""
    import tiledbsoma

    path = shutil.copytree(experiment, tmp_path_factory.mktemp("soma") / "gaps.soma")
    with tiledbsoma.Experiment.open(str(path), "d") as opened:
        opened.obs_axis_delete(value_filter="tissue == 'lung'")
    return path


def write_experiment(path, cells, layer="raw"):
    import tiledbsoma.io

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tiledbsoma.io.from_anndata(str(path), cells, measurement_name="RNA", X_layer_name=layer)
    return path


def rows_of(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted((folder / "data").iterdir())}


def tables_of(folder):
    names = ("token_dictionary.json", "gene_medians.json", "gene_symbols.json")
    dropped = pd.read_csv(folder / "dropped_cells.tsv", sep="\t").drop(columns="input")
    return {name: (folder / name).read_bytes() for name in names} | {"dropped": dropped.to_numpy().tolist()}


@needs_soma
@pytest.mark.parity
@pytest.mark.parametrize(("name", "processes"), [("experiment", 2), ("with_gaps", 1)])
def test_the_bytes_are_those_built_from_the_same_anndata(cells, name, processes, request, tmp_path):
    expected = cells if name == "experiment" else cells[cells.obs["tissue"] == "heart"]
    expected.copy().write_h5ad(tmp_path / "cells.h5ad")
    options = {
        "obs_columns": ["disease", "age", "is_primary_data"],
        "exclude": "tissue == 'heart' and age > 70",
        "chunk_cells": 13,
        "cells_per_shard": 90,
    }
    build_cells(tmp_path / "cells.h5ad", tmp_path / "expected", **options)
    path = request.getfixturevalue(name)
    report = build_cells(path, tmp_path / "out", processes=processes, threads=2, **options)
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "expected")
    assert tables_of(tmp_path / "out") == tables_of(tmp_path / "expected")
    assert 0 < report.n_written < report.n_cells == expected.n_obs
    assert json.loads((tmp_path / "out" / "report.json").read_text())["files"][0]["matrix"] == "ms/RNA/X/raw"


@needs_soma
@pytest.mark.parity
@pytest.mark.parametrize("name", ["experiment", "with_gaps"])
@pytest.mark.parametrize("condition", [None, "disease == 'cancer' and age < 60"])
def test_any_range_of_cells_in_any_thread_is_that_of_the_anndata(cells, name, condition, request):
    kept = np.ones(N_CELLS, bool) if name == "experiment" else (cells.obs["tissue"] == "heart").to_numpy()
    if condition:
        kept &= cells.obs.eval(condition).to_numpy()
    expected = cells[kept]
    with open_counts(soma_input(request.getfixturevalue(name), obs_value_filter=condition)) as file:
        assert file.obs.index.tolist() == expected.obs_names.tolist()
        assert file.obs.to_dict("list") == expected.obs.to_dict("list")
        assert file.gene_index.index.tolist() == cells.var_names.tolist()
        assert file.n_cells == expected.n_obs
        starts = range(0, file.n_cells, 7)
        with ThreadPoolExecutor(3) as pool:
            chunks = list(pool.map(lambda start: file.read(start, min(start + 7, file.n_cells)), starts))
        np.testing.assert_array_equal(sp.vstack(chunks).toarray(), expected.X.toarray())
        assert file.read(3, 3).shape == (0, N_GENES)


@needs_soma
def test_only_the_columns_that_are_needed_are_read(experiment):
    reading = InputReading(obs_columns=("age", "soma_joinid"), exclude="disease == 'cancer'")
    with reading.open(experiment) as file:
        assert list(file.obs) == ["soma_joinid", "disease", "age"]
        table, kept = read_cells(file, reading, "label")
    assert table.column_names == ["cell_id", "age", "soma_joinid"]
    assert table["soma_joinid"].to_pylist() == list(range(N_CELLS))
    assert 0 < kept.sum() < N_CELLS


@needs_soma
def test_cells_and_genes_of_an_experiment_made_as_the_census_is_are_named_by_joinid_and_feature_id(tmp_path):
    import pyarrow as pa
    import tiledbsoma

    uri = str(tmp_path / "census")
    with tiledbsoma.Experiment.create(uri) as made:
        fields = {"soma_joinid": pa.int64(), "tissue": pa.large_string()}
        with made.add_new_dataframe("obs", schema=pa.schema(fields), domain=[[0, 9]]) as obs:
            obs.write(pa.table({"soma_joinid": [2, 7], "tissue": ["heart", "lung"]}, pa.schema(fields)))
        rna = made.add_new_collection("ms").add_new_collection("RNA", tiledbsoma.Measurement)
        fields = {"soma_joinid": pa.int64(), "feature_id": pa.large_string(), "feature_name": pa.large_string()}
        with rna.add_new_dataframe("var", schema=pa.schema(fields), domain=[[0, 9]]) as var:
            genes = {"soma_joinid": [1, 4], "feature_id": ["ENSG00000000001", "ENSG00000000004"]}
            var.write(pa.table(genes | {"feature_name": ["A", "B"]}, pa.schema(fields)))
        x = rna.add_new_collection("X")
        for layer, gene in (("raw", 4), ("damaged", 3)):
            with x.add_new_sparse_ndarray(layer, type=pa.float32(), shape=(10, 10)) as array:
                entries = {"soma_dim_0": [2, 7, 7], "soma_dim_1": [1, 1, gene], "soma_data": [3.0, 1.0, 2.0]}
                array.write(pa.table(entries).cast(array.schema))
    with open_counts(uri) as file:
        assert file.obs.index.tolist() == ["2", "7"]
        assert file.gene_index.index.tolist() == ["ENSG00000000001", "ENSG00000000004"]
        assert file.read(0, 2).toarray().tolist() == [[3, 0], [1, 2]]
        assert file.other_matrices == ("ms/RNA/X/damaged",)
    with (
        open_counts(uri, layer="damaged") as file,
        pytest.raises(ValueError, match="of the gene with soma_joinid 3, which var does not have"),
    ):
        file.read(0, 2)


@needs_soma
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modality": "ATAC"}, r"no measurement 'ATAC' \(modality\); it has RNA"),
        ({"layer": "counts"}, "no layer 'counts'; it has halved, raw: name the one with counts"),
        ({"use_raw": True}, r"\.raw is a measurement: give modality='raw'"),
        ({"layer": "halved"}, r"not whole numbers|fraction.*"),
        ({"obs_columns": ("cell_type",)}, "obs has no column cell_type; it has soma_joinid, obs_id, disease, tissue"),
        ({"exclude": "cell_type == 'x'"}, "cell_type == 'x'.* fails .*obs has soma_joinid, obs_id, disease"),
        ({"gene_id_column": "ensembl"}, "no gene column 'ensembl'; it has index, feature_name"),
    ],
)
def test_what_is_missing_is_named_with_what_there_is(experiment, options, message):
    opened = OpenInputs(InputReading(**options))
    try:
        with pytest.raises(ValueError, match=message):
            scan_inputs([experiment], opened, vocabulary=None, gene_symbols=None, probe_cells=50)
    finally:
        opened.close()


@needs_soma
def test_places_without_an_experiment_and_filters_that_fail_are_named(experiment, tmp_path):
    with pytest.raises(ValueError, match="is a SOMACollection of RNA; expected a SOMAExperiment"):
        open_counts(experiment / "ms")
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        open_counts(soma_input(tmp_path / "nowhere", obs_value_filter="age < 3"))
    with pytest.raises(ValueError, match=r"filter 'cell_type == 1' fails .*; obs has soma_joinid, obs_id, disease"):
        open_counts(soma_input(experiment, obs_value_filter="cell_type == 1"))


@needs_soma
def test_an_experiment_consists_of_all_its_files(experiment):
    names = set(input_files(soma_input(experiment, obs_value_filter="age < 3")))
    assert set(input_files(Path(f"file://{experiment}"))) == names
    assert (
        names
        == set(input_files(experiment))
        == {str(file.relative_to(experiment)) for file in experiment.rglob("*") if file.is_file()}
    )
    assert any(name.startswith("ms/RNA/X/raw/") for name in names)


@needs_soma
def test_a_filter_and_the_cells_left_out_are_accounted_for_apart(cells, experiment, tmp_path):
    condition = "tissue == 'heart'"
    report = build_cells(
        soma_input(experiment, obs_value_filter=condition), tmp_path / "out", exclude="disease == 'cancer'"
    )
    heart = cells.obs[cells.obs["tissue"] == "heart"]
    assert report.n_cells == len(heart)
    assert report.dropped["excluded by the obs query"] == (heart["disease"] == "cancer").sum()
    (state,) = json.loads((tmp_path / "out" / "report.json").read_text())["settings"]["inputs"]
    assert state["path"].endswith(f"cells.soma?obs_value_filter={condition}")
    assert {name for name, *_ in state["files"]} == set(input_files(experiment))
