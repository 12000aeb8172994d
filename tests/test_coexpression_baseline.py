"""Co-expression: parity with scipy's spearmanr, ties and zeros, which cells and genes count, the command, bad input."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from omics_transformers.training.coexpression_baseline import coexpression_baseline, main, spearman_with


def make_cells(n_cells: int = 60, n_genes: int = 12, seed: int = 0) -> anndata.AnnData:
    generator = np.random.default_rng(seed)
    counts = generator.poisson(generator.gamma(0.7, 2.0, (n_cells, n_genes))).astype(np.float32)
    var = pd.DataFrame({"symbol": [f"S{number}" for number in range(n_genes)]})
    var.index = [f"G{number}" for number in range(n_genes)]
    obs = pd.DataFrame(index=[f"C{number}" for number in range(n_cells)])
    return anndata.AnnData(sp.csr_matrix(counts), obs=obs, var=var)


def shares_of(cells: anndata.AnnData) -> np.ndarray:
    counts = cells.X.toarray().astype(float)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


@pytest.mark.parity
@settings(max_examples=40, deadline=None)
@given(st.integers(3, 40), st.integers(1, 6), st.floats(0.05, 1), st.integers(1, 5), st.integers(0, 10**6))
def test_correlations_are_those_of_scipy(n_cells: int, n_genes: int, density: float, levels: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.integers(1, levels + 1, (n_cells, n_genes)) * (generator.random((n_cells, n_genes)) < density)
    reference = generator.integers(0, levels + 1, n_cells)
    reference[:2] = [0, 1]
    found = spearman_with(sp.csr_matrix(reference[:, None].astype(float)), sp.csr_matrix(values.astype(float)))
    for gene in range(n_genes):
        constant = len(np.unique(values[:, gene])) == 1
        expected = np.nan if constant else stats.spearmanr(reference, values[:, gene]).statistic
        assert found.correlation[gene] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert (found.n_cells == (values > 0).sum(axis=0)).all()


@pytest.mark.parity
@pytest.mark.parametrize("only_cells_with_gene", [False, True])
def test_the_table_is_that_of_scipy(only_cells_with_gene: bool) -> None:
    cells = make_cells()
    table = coexpression_baseline(cells, "S3", only_cells_with_gene=only_cells_with_gene)
    shares = shares_of(cells)
    shares = shares[shares[:, 3] > 0] if only_cells_with_gene else shares
    assert len(table) == 11 and "G3" not in set(table["gene_id"])
    for row in table.itertuples():
        gene = int(row.gene_id[1:])
        expected = stats.spearmanr(shares[:, 3], shares[:, gene])
        assert row.correlation == pytest.approx(expected.statistic, abs=1e-12)
        assert row.p_value == pytest.approx(expected.pvalue, rel=1e-9)
        assert row.symbol == f"S{gene}" and row.n_cells == (shares[:, gene] > 0).sum()
    assert table["shift"].is_monotonic_decreasing and table["rank"].tolist() == list(range(1, 12))
    assert np.allclose(table["shift"], table["correlation"].abs())


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = coexpression_baseline(make_cells(), "G0")
    monkeypatch.setattr(f"{coexpression_baseline.__module__}.GENES_A_BLOCK", 5)
    pd.testing.assert_frame_equal(coexpression_baseline(make_cells(), "G0"), whole)


def test_totals_are_over_all_genes_whichever_are_asked_for() -> None:
    whole = coexpression_baseline(make_cells(), "G0").set_index("gene_id")
    part = coexpression_baseline(make_cells(), "G0", gene_ids=["G5", "G2", "ENSG1"]).set_index("gene_id")
    assert sorted(part.index) == ["G2", "G5"]
    assert np.allclose(part["correlation"], whole["correlation"][part.index])


def test_columns_of_one_gene_are_summed() -> None:
    cells = make_cells()
    names = [f"ENSG{number}" for number in range(12)]
    split = cells.copy()
    split.var_names = names
    counts = split.X.toarray()
    half = np.floor(counts[:, [4]] / 2)
    counts[:, [4]] -= half
    split = anndata.AnnData(
        sp.csr_matrix(np.hstack([counts, half])), var=pd.DataFrame(index=[f"{name}.1" for name in names] + ["ENSG4.2"])
    )
    expected = coexpression_baseline(cells, "G0")["correlation"]
    assert np.allclose(coexpression_baseline(split, "ENSG0")["correlation"], expected)


def test_genes_that_do_not_vary_or_are_rare_are_left_out() -> None:
    cells = make_cells()
    counts = cells.X.toarray()
    counts[:, 5] = 0
    counts[1:, 6] = 0
    counts[0, 6] = 3
    cells.X = sp.csr_matrix(counts)
    assert {"G5"} == set(cells.var_names) - set(coexpression_baseline(cells, "G0")["gene_id"]) - {"G0"}
    rare = set(cells.var_names) - set(coexpression_baseline(cells, "G0", minimum_cells=2)["gene_id"]) - {"G0"}
    assert rare == {"G5", "G6"}


def test_ids_and_symbols_of_10x_and_given_ones() -> None:
    cells = make_cells()
    ten_x = cells.copy()
    ten_x.var = pd.DataFrame({"gene_ids": [f"ENSG{n}" for n in range(12)]}, index=[f"SYM{n}" for n in range(12)])
    table = coexpression_baseline(ten_x, "SYM3")
    assert table["gene_id"].str.startswith("ENSG").all() and table["symbol"].str.startswith("SYM").all()
    given = coexpression_baseline(cells, "NAMED", gene_symbols={"G3": "NAMED", "G4": "OTHER"})
    assert given.set_index("gene_id")["symbol"]["G4"] == "OTHER" and "G3" not in set(given["gene_id"])


def test_the_command_writes_the_table(tmp_path: Path) -> None:
    cells = make_cells()
    cells.write_h5ad(tmp_path / "cells.h5ad")
    main(["--cells", str(tmp_path / "cells.h5ad"), "--gene", "S2", "--output", str(tmp_path / "genes.tsv")])
    written = pd.read_csv(tmp_path / "genes.tsv", sep="\t")
    pd.testing.assert_frame_equal(written, coexpression_baseline(cells, "S2"), check_dtype=False)


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_cells().write_h5ad(tmp_path / "cells.h5ad")
    arguments = ["--cells", str(tmp_path / "cells.h5ad"), "--gene", "TBX5", "--output"]
    for output, message in (
        (tmp_path / "a.tsv", "the gene 'TBX5' is not among"),
        (tmp_path / "x" / "a.tsv", "no folder"),
    ):
        with pytest.raises(SystemExit):
            main([*arguments, str(output)])
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda cells: cells, {"gene": "S33"}, "not among the 12 genes of the cells.*did you mean S3"),
        (lambda cells: cells, {"gene_ids": ["ENSG1"]}, "none of the 12 genes of the cells.*ENSG1"),
        (lambda cells: cells, {"counts_layer": "raw"}, "has no layer 'raw'"),
        (lambda cells: cells, {"use_raw": True}, "has no `raw`"),
        (lambda cells: cells, {"gene_id_column": "id"}, "no column 'id'"),
        (lambda cells: cells[:, :3].X, {}, "expected an AnnData"),
        (lambda cells: cells[cells.X[:, [0]].toarray()[:, 0] == 0], {}, "have equally much of S0"),
    ],
)
def test_bad_input(change, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        coexpression_baseline(change(make_cells()), **({"gene": "S0"} | options))


def test_counts_below_zero_and_ambiguous_symbols() -> None:
    cells = make_cells()
    cells.var["symbol"] = "S"
    with pytest.raises(ValueError, match="12 genes have the symbol S: G0, G1"):
        coexpression_baseline(cells, "S")
    cells.X.data[7] = -1
    with pytest.raises(ValueError, match="RNA counts are negative, the first -1 in cell"):
        coexpression_baseline(cells, "G0")
    cells.X.data[7] = 0.5
    with pytest.raises(ValueError, match="look logged or scaled"):
        coexpression_baseline(cells, "G0")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [("absent.h5ad", FileNotFoundError, "is nothing"), ("", ValueError, "a folder"), ("a.csv", ValueError, "no .h5ad")],
)
def test_bad_paths(tmp_path: Path, name: str, error: type[Exception], message: str) -> None:
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(error, match=message):
        coexpression_baseline(tmp_path / name, "G0")
