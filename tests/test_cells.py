"""Builds from end to end: what is written, accounted for, refused, resumed, and the same on any number of workers."""

import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import time

import anndata
import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from omics_transformers.data_scripts.cells import build_cells
from omics_transformers.modeling.tokenization_gene_rank import GeneRankTokenizer

N_CELLS, N_GENES = 200, 60
MEDIANS = {f"ENSG{i:011d}": 1.0 + i for i in range(N_GENES)}


def make_cells(seed=0, n_cells=N_CELLS, n_genes=N_GENES, prefix="cell"):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.lognormal(-0.5, 1, n_genes), (n_cells, n_genes)).astype(np.float32)
    obs = pd.DataFrame(
        {"disease": pd.Categorical(rng.choice(["normal", "cancer"], n_cells)), "age": rng.integers(20, 80, n_cells)},
        index=[f"{prefix}{i}" for i in range(n_cells)],
    )
    var = pd.DataFrame(index=[f"ENSG{i:011d}" for i in range(n_genes)])
    return anndata.AnnData(sp.csr_matrix(counts), obs=obs, var=var)


@pytest.fixture
def cells():
    return make_cells()


@pytest.fixture
def path(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad", compression="gzip")
    return tmp_path / "cells.h5ad"


def read_rows(output):
    return pd.concat([pq.read_table(file).to_pandas() for file in sorted((output / "data").iterdir())])


def contents(output):
    """Bytes of every file of a build by name, less the report's own paths."""
    return {str(file.relative_to(output)): file.read_bytes() for file in sorted(output.rglob("*")) if file.is_file()}


def rank_plainly(counts, genes, medians, tokens, max_length=2048):
    """Token ids of one cell by the formula."""
    values = counts / counts.sum() * 10_000
    present = [gene for gene in genes[counts > 0] if gene in tokens]
    value_of = dict(zip(genes, values, strict=True))
    return [tokens[gene] for gene in sorted(present, key=lambda gene: (-value_of[gene] / medians[gene], tokens[gene]))][
        :max_length
    ]


@pytest.mark.parity
def test_rows_equal_the_plain_formula_with_derived_vocabulary_and_medians(cells, path, tmp_path):
    report = build_cells(path, tmp_path / "out", obs_columns=["disease", "age"], chunk_cells=13, cells_per_shard=70)
    rows = read_rows(tmp_path / "out")
    counts = cells.X.toarray().astype(float)
    values = counts / counts.sum(axis=1, keepdims=True) * 10_000
    medians = json.loads((tmp_path / "out" / "gene_medians.json").read_text())
    tokens = json.loads((tmp_path / "out" / "token_dictionary.json").read_text())
    for gene, column in zip(cells.var_names, values.T, strict=True):
        assert medians[gene] == np.median(column[column > 0])
    assert list(tokens) == ["<pad>", "<mask>", *sorted(cells.var_names)]
    assert rows["cell_id"].tolist() == cells.obs_names.tolist()
    assert rows["disease"].tolist() == cells.obs["disease"].tolist()
    assert rows["age"].tolist() == cells.obs["age"].tolist()
    for row, cell in zip(rows.itertuples(), counts, strict=True):
        assert row.input_ids.tolist() == rank_plainly(cell, cells.var_names, medians, tokens)
        assert row.length == len(row.input_ids)
    assert report.n_written == N_CELLS
    assert len(list((tmp_path / "out" / "data").iterdir())) == 3


@pytest.mark.parity
def test_the_tokenizer_made_of_the_folder_gives_the_same_tokens(cells, path, tmp_path):
    build_cells(path, tmp_path / "out", max_length=20)
    tokenizer = GeneRankTokenizer(
        str(tmp_path / "out" / "token_dictionary.json"), str(tmp_path / "out" / "gene_medians.json")
    )
    encoded = tokenizer.encode_counts(cells.X, list(cells.var_names), max_length=20)
    rows = read_rows(tmp_path / "out")
    for ours, theirs in zip(rows["input_ids"], encoded["input_ids"], strict=True):
        assert ours.tolist() == list(theirs)


def test_load_dataset_reads_the_folder(path, tmp_path):
    build_cells(path, tmp_path / "out", obs_columns=["disease"], cells_per_shard=90)
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    assert loaded["train"].column_names == ["input_ids", "length", "cell_id", "disease"]
    assert loaded["train"].num_rows == N_CELLS
    assert loaded["train"]["cell_id"][-1] == f"cell{N_CELLS - 1}"


def test_second_version_puts_cls_and_eos_around_each_cell(path, tmp_path):
    build_cells(path, tmp_path / "out", special_tokens=["<pad>", "<mask>", "<cls>", "<eos>"], max_length=10)
    rows = read_rows(tmp_path / "out")
    assert {ids[0] for ids in rows["input_ids"]} == {2}
    assert {ids[-1] for ids in rows["input_ids"]} == {3}
    assert rows["length"].max() == 10


def test_every_dropped_cell_and_gene_is_accounted_for(cells, tmp_path):
    counts = cells.X.toarray()
    counts[3] = 0
    counts[4, 2:] = 0
    counts[4, :2] = 1
    cells.X = sp.csr_matrix(counts)
    cells.obs.loc[["cell3", "cell4"], "disease"] = "normal"
    cells.var_names = [f"{name}.{i % 3}" for i, name in enumerate(cells.var_names)]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    vocabulary = {"<pad>": 0, "<mask>": 1} | {f"ENSG{i:011d}": i + 2 for i in range(50)}
    report = build_cells(
        tmp_path / "cells.h5ad", tmp_path / "out", token_dictionary=vocabulary, exclude="disease == 'cancer'"
    )
    n_cancer = int((cells.obs["disease"] == "cancer").sum())
    assert report.dropped == {"excluded by the obs query": n_cancer, "no counts": 1, "too few genes": 1}
    assert report.n_written == N_CELLS - n_cancer - 2
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    (file,) = content["files"]
    assert file["cells"]["read"] == file["cells"]["written"] + sum(file["cells"]["dropped"].values())
    assert file["genes"]["dropped"] == {"not in the vocabulary": 10}
    assert file["genes"]["versions_stripped"] == N_GENES
    assert len(content["gene_lists"][file["genes"]["gene_list"]]["dropped"]["not in the vocabulary"]) == 10
    dropped = pd.read_csv(tmp_path / "out" / "dropped_cells.tsv", sep="\t").set_index("cell_id")["reason"]
    assert dropped["cell3"] == "no counts"
    assert dropped["cell4"] == "too few genes"
    assert len(dropped) + report.n_written == N_CELLS


def test_columns_of_one_gene_are_summed_before_ranking(tmp_path):
    counts = np.array([[3.0, 4.0, 5.0]])
    var = pd.DataFrame(index=["ENSG00000000001.1", "ENSG00000000002", "ENSG00000000001.2_PAR_Y"])
    cells = anndata.AnnData(sp.csr_matrix(counts), var=var, obs=pd.DataFrame(index=["a"]))
    cells.write_h5ad(tmp_path / "cells.h5ad")
    medians = {"ENSG00000000001": 1.0, "ENSG00000000002": 1.0}
    report = build_cells(tmp_path / "cells.h5ad", tmp_path / "out", gene_medians=medians, minimum_genes=1)
    assert read_rows(tmp_path / "out")["input_ids"][0].tolist() == [2, 3]
    assert report.content["gene_lists"][0]["summed"] == {
        "ENSG00000000001": ["ENSG00000000001.1", "ENSG00000000001.2_PAR_Y"]
    }


def test_genes_that_no_cell_shows_keep_a_median(path, tmp_path, caplog):
    vocabulary = {"<pad>": 0, "<mask>": 1, "ENSG99999999999": 2} | {f"ENSG{i:011d}": i + 3 for i in range(50)}
    report = build_cells(path, tmp_path / "out", token_dictionary=vocabulary)
    medians = json.loads((tmp_path / "out" / "gene_medians.json").read_text())
    others = [median for gene, median in medians.items() if gene != "ENSG99999999999"]
    assert medians["ENSG99999999999"] == np.median(others)
    assert report.content["vocabulary"]["never_detected"] == ["ENSG99999999999"]
    assert "no count in any kept cell" in caplog.text


def test_several_inputs_keep_their_order_and_their_genes(tmp_path):
    first, second = make_cells(1), make_cells(2, n_cells=50, prefix="other")[:, ::-1].copy()
    second.obs["age"] = second.obs["age"].astype(float)
    for name, cells in (("b.h5ad", first), ("a.h5ad", second)):
        cells.write_h5ad(tmp_path / name)
    build_cells([tmp_path / "b.h5ad", tmp_path / "a.h5ad"], tmp_path / "out", obs_columns=["age"])
    rows = read_rows(tmp_path / "out")
    assert rows["cell_id"].tolist() == [*first.obs_names, *second.obs_names]
    medians = json.loads((tmp_path / "out" / "gene_medians.json").read_text())
    tokens = json.loads((tmp_path / "out" / "token_dictionary.json").read_text())
    last = second.X.toarray()[-1].astype(float)
    assert rows["input_ids"].iloc[-1].tolist() == rank_plainly(last, second.var_names, medians, tokens)


def test_barcodes_shared_by_inputs_are_refused_or_prefixed(tmp_path):
    inputs = []
    for sample in ("one", "two"):
        (tmp_path / sample).mkdir()
        make_cells(n_cells=20).write_h5ad(tmp_path / sample / "cells.h5ad")
        inputs.append(tmp_path / sample / "cells.h5ad")
    with pytest.raises(ValueError, match=r"20 barcodes are in several inputs, e\.g\. 'cell.*'prefix'"):
        build_cells(inputs, tmp_path / "out")
    build_cells(inputs, tmp_path / "out", duplicate_barcodes="prefix")
    assert read_rows(tmp_path / "out")["cell_id"].tolist()[20] == "two/cells.h5ad:cell0"
    with pytest.raises(ValueError, match="given more than once"):
        build_cells([inputs[0], inputs[0]], tmp_path / "again")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exclude": "tissue == 'heart'"}, "tissue == 'heart'.*obs has disease, age"),
        ({"exclude": "age + 1"}, "gives no yes or no"),
        ({"exclude": "age > 0"}, "no cell is kept that has a count"),
        ({"minimum_genes": 61, "gene_medians": MEDIANS}, "none of the 200 cells is left.*'too few genes': 200"),
        ({"obs_columns": ["donor"]}, "obs has no column donor; it has disease, age"),
        ({"obs_columns": ["length"]}, "must differ from each other and from input_ids"),
        ({"gene_medians": {"ENSMUSG00000000001": 1.0}}, "none is in the vocabulary"),
        ({"gene_medians": {"ENSG00000000001": 0.0}}, "not positive numbers, e.g. ENSG00000000001: 0.0"),
        ({"token_dictionary": {"<pad>": 0, "<mask>": 1, "ENSG00000000001": 7}}, "expected each of 0 to 2 once"),
        ({"token_dictionary": {"<pad>": 0, "ENSG00000000001": 1}}, "special tokens <mask> are missing"),
        ({"special_tokens": ["<pad>", "<mask>", "<cls>"]}, "either both of <cls> and <eos>"),
        ({"minimum_genes": 0}, "minimum_genes is 0; expected 1 or more"),
        ({"duplicate_barcodes": "ignore"}, "duplicate_barcodes is 'ignore'"),
        ({"layer": "counts"}, "no matrix layers/counts; it has X"),
    ],
)
def test_bad_settings_are_named_and_leave_nothing(path, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        build_cells(path, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


def test_duplicate_barcodes_in_one_input_are_refused(cells, tmp_path):
    cells.obs_names = ["same", "same", *cells.obs_names[2:]]
    with pytest.warns(UserWarning, match="not unique"):
        anndata.AnnData(cells.X, obs=cells.obs, var=cells.var).write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(ValueError, match=r"1 barcodes occur more than once, e\.g\. 'same'.*obs_names_make_unique"):
        build_cells(tmp_path / "cells.h5ad", tmp_path / "out")


def test_values_that_are_no_counts_point_to_the_matrix_with_counts(cells, tmp_path):
    cells.layers["counts"] = cells.X.copy()
    cells.X = sp.csr_matrix(np.log1p(cells.X.toarray()))
    cells.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(ValueError, match=r"cells.h5ad: X does not hold counts.*file also has layers/counts"):
        build_cells(tmp_path / "cells.h5ad", tmp_path / "out")
    assert build_cells(tmp_path / "cells.h5ad", tmp_path / "out", layer="counts").n_written == N_CELLS


@pytest.mark.parametrize("workers", [{"threads": 3}, {"processes": 2, "threads": 1}])
def test_bytes_do_not_depend_on_workers(path, tmp_path, workers):
    options = {"obs_columns": ["disease"], "chunk_cells": 10, "cells_per_shard": 60}
    build_cells(path, tmp_path / "one", threads=1, **options)
    build_cells(path, tmp_path / "many", **options, **workers)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_an_output_that_exists_is_kept_unless_overwritten(path, tmp_path):
    build_cells(path, tmp_path / "out")
    with pytest.raises(FileExistsError, match="exists and holds a build"):
        build_cells(path, tmp_path / "out", max_length=10)
    build_cells(path, tmp_path / "out", max_length=10, overwrite=True)
    assert read_rows(tmp_path / "out")["length"].max() == 10
    assert not (tmp_path / "out.partial").exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="was not made by this command"):
        build_cells(path, tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


BUILD = """
import sys
from omics_transformers.data_scripts.cells import build_cells
if __name__ == "__main__":
    build_cells(sys.argv[1], sys.argv[2], chunk_cells=5, cells_per_shard=10, threads=2)
"""


def start_build(tmp_path, path, output, **options):
    script = tmp_path / "build.py"
    script.write_text(BUILD)
    return subprocess.Popen([sys.executable, str(script), str(path), str(output)], stderr=subprocess.PIPE, **options)


def wait_for_shards(output, n_shards):
    for _ in range(6000):
        if len(list(output.with_name(output.name + ".partial").glob("progress/train-*"))) >= n_shards:
            return
        time.sleep(0.005)
    raise AssertionError("the build wrote no shards")


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_build_leaves_nothing_that_looks_whole_and_is_resumed_to_the_same_bytes(tmp_path, signal_number):
    path = tmp_path / "cells.h5ad"
    make_cells(n_cells=3000).write_h5ad(path)
    output = tmp_path / "out"
    process = start_build(tmp_path, path, output)
    wait_for_shards(output, 3)
    process.send_signal(signal_number)
    process.communicate()
    assert process.returncode != 0
    assert not output.exists()
    partial = tmp_path / "out.partial"
    finished = {file: file.stat().st_mtime_ns for file in partial.glob("folder/data/*.parquet")}
    assert 0 < len(finished) < 300
    with pytest.raises(ValueError, match="unfinished build that differs in chunk_cells, max_length"):
        build_cells(path, output, cells_per_shard=10, max_length=7)
    build_cells(path, output, chunk_cells=5, cells_per_shard=10)
    assert not partial.exists()
    kept = [file for file, time_ns in finished.items() if (output / "data" / file.name).stat().st_mtime_ns == time_ns]
    assert len(kept) >= len(finished) - 1  # all but, perhaps, one that had not been recorded yet
    build_cells(path, tmp_path / "unbroken", chunk_cells=5, cells_per_shard=10)
    assert contents(output) == contents(tmp_path / "unbroken")


def test_a_full_disk_is_named_and_the_build_goes_on_from_there(tmp_path):
    path = tmp_path / "cells.h5ad"
    make_cells(n_cells=400, n_genes=2000).write_h5ad(path)
    output = tmp_path / "out"
    script = tmp_path / "build.py"
    script.write_text(BUILD.replace("cells_per_shard=10", "cells_per_shard=200"))
    limit = 250_000  # bytes a file may have: the shards are larger, everything before them is smaller

    process = subprocess.run(
        [sys.executable, str(script), str(path), str(output)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "no-cache")},
    )
    assert process.returncode == 1
    assert "cannot be written" in process.stderr
    assert "Finished shards are kept" in process.stderr
    assert not output.exists()
    assert not list(tmp_path.rglob("*.unfinished"))
    assert build_cells(path, output, chunk_cells=5, cells_per_shard=200).n_written == 400


def test_another_build_of_the_same_output_is_refused(tmp_path):
    path = tmp_path / "cells.h5ad"
    make_cells(n_cells=3000).write_h5ad(path)
    process = start_build(tmp_path, path, tmp_path / "out")
    try:
        wait_for_shards(tmp_path / "out", 1)
        with pytest.raises(ValueError, match="another process is building"):
            build_cells(path, tmp_path / "out")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.real_data
@pytest.mark.parity
def test_pbmc3k_with_the_published_dictionary(data_folder, tmp_path):
    path = data_folder / "rna" / "pbmc3k_raw_500labelled.h5ad"
    tables = {
        name: data_folder / "genesets" / f"geneformer_v1_{name}.json.gz"
        for name in ("token_dictionary", "gene_medians")
    }
    report = build_cells(path, tmp_path / "out", obs_columns=["seurat_annotations"], **tables)
    assert report.n_written == report.n_cells == 2700
    cells = anndata.read_h5ad(path)
    tokens, medians = (json.loads(gzip.decompress(table.read_bytes())) for table in tables.values())
    rows = read_rows(tmp_path / "out")
    genes = cells.var["gene_ids"].to_numpy()
    for number in range(0, 2700, 90):
        counts = cells.X[number].toarray().ravel().astype(float)
        assert rows["input_ids"].iloc[number].tolist() == rank_plainly(counts, genes, medians, tokens)
    symbols = json.loads((tmp_path / "out" / "gene_symbols.json").read_text())
    assert symbols["ENSG00000136574"] == "GATA4"
