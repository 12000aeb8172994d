"""Ranked cells from every kind of input, all alike, and what is said of input that cannot be used."""

import json
from pathlib import Path
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from omics_transformers.modeling.tokenization_gene_rank import GeneRankTokenizer
from omics_transformers.pipelines.perturbation_cells import RankedCells, read_cells

GENES = [f"ENSG{number:011d}" for number in range(12)]
SYMBOLS = {gene: f"SYM{number}" for number, gene in enumerate(GENES)}
TOKENS = {token: number for number, token in enumerate(["<pad>", "<mask>", *GENES])}


def make_tokenizer() -> GeneRankTokenizer:
    medians = {gene: 1 + number / 7 for number, gene in enumerate(GENES)}
    return GeneRankTokenizer.from_dictionaries(TOKENS, medians, SYMBOLS)


def make_counts() -> np.ndarray:
    counts = np.random.default_rng(0).poisson(1.0, (9, 12)).astype(np.float32)
    counts[4] = 0  # an empty cell
    return counts


def make_anndata(counts: np.ndarray | None = None) -> anndata.AnnData:
    counts = make_counts() if counts is None else counts
    obs = pd.DataFrame(
        {"donor": [f"d{cell % 3}" for cell in range(len(counts))]}, index=[f"c{n}" for n in range(len(counts))]
    )
    return anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=GENES))


def cells_of(ranked: RankedCells) -> list[list[int]]:
    return [ranked.tokens[start:end].tolist() for start, end in zip(ranked.starts[:-1], ranked.starts[1:], strict=True)]


def expected_cells() -> list[list[int]]:
    return [ids.tolist() for ids in make_tokenizer().encode_counts(make_counts(), GENES)["input_ids"]]


def test_anndata_and_h5ad_give_the_same_cells(tmp_path: Path) -> None:
    make_anndata().write_h5ad(tmp_path / "cells.h5ad")
    for given_cells in (make_anndata(), tmp_path / "cells.h5ad", str(tmp_path / "cells.h5ad")):
        assert cells_of(read_cells(given_cells, make_tokenizer())) == expected_cells()


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omics_transformers.pipelines.perturbation_cells.CELLS_A_CHUNK", 2)
    assert cells_of(read_cells(make_anndata(), make_tokenizer())) == expected_cells()


def test_counts_in_a_layer_or_in_raw() -> None:
    logged = make_anndata(np.log1p(make_counts()))
    with pytest.raises(ValueError, match="look logged"):
        read_cells(logged, make_tokenizer())
    logged.layers["counts"] = make_counts()
    assert cells_of(read_cells(logged, make_tokenizer(), counts_layer="counts")) == expected_cells()
    logged.raw = make_anndata()
    assert cells_of(read_cells(logged, make_tokenizer(), use_raw=True)) == expected_cells()
    with pytest.raises(ValueError, match="no layer 'raw_counts'; it has: counts"):
        read_cells(logged, make_tokenizer(), counts_layer="raw_counts")
    with pytest.raises(ValueError, match="has no `raw`"):
        read_cells(make_anndata(), make_tokenizer(), use_raw=True)


def test_gene_ids_are_found_by_themselves_or_named() -> None:
    cells = make_anndata()
    cells.var.index = [f"{SYMBOLS[gene]}-x" for gene in GENES]
    cells.var["gene_ids"] = [f"{gene}.3" for gene in GENES]
    assert cells_of(read_cells(cells, make_tokenizer())) == expected_cells()
    cells.var["mine"] = [SYMBOLS[gene] for gene in GENES]
    assert cells_of(read_cells(cells, make_tokenizer(), gene_id_column="mine")) == expected_cells()
    with pytest.raises(ValueError, match="`var` has no column 'other'; it has: gene_ids, mine"):
        read_cells(cells, make_tokenizer(), gene_id_column="other")


@pytest.mark.parametrize("dtype", ["int32", "uint16", "int64"])
def test_a_data_set_and_its_selections(dtype: str) -> None:
    from datasets import Features, Sequence, Value

    features = Features({"input_ids": Sequence(Value(dtype)), "length": Value("int32")})
    dataset = Dataset.from_dict(
        {"input_ids": expected_cells(), "length": [len(cell) for cell in expected_cells()]}, features=features
    )
    assert cells_of(read_cells(dataset, make_tokenizer())) == expected_cells()
    chosen = dataset.select([3, 1, 4])
    assert cells_of(read_cells(chosen, make_tokenizer())) == [expected_cells()[cell] for cell in (3, 1, 4)]
    cut = read_cells(dataset, make_tokenizer(), max_length=3)
    assert cells_of(cut) == [cell[:3] for cell in expected_cells()]


def test_a_tokenised_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "cells"
    (folder / "data").mkdir(parents=True)
    Dataset.from_dict({"input_ids": expected_cells()}).to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    assert cells_of(read_cells(folder, make_tokenizer())) == expected_cells()
    (folder / "token_dictionary.json").write_text(json.dumps(TOKENS))
    assert cells_of(read_cells(folder, make_tokenizer())) == expected_cells()
    other = {**TOKENS, GENES[0]: 3, GENES[1]: 2}
    (folder / "token_dictionary.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match=r"another vocabulary.*ENSG00000000000 is 3 there and 2 in the model"):
        read_cells(folder, make_tokenizer())


def test_donors_give_each_token_its_variant() -> None:
    index = np.full((3, 12), -1, dtype=np.int32)
    index[1, 0], index[2, 0], index[2, 5] = 0, 1, 2
    # The features' genes are in another order than the vocabulary, and one gene has no features.
    order = [5, 0, *range(6, 12), 1, 2, 3]
    features = SimpleNamespace(
        donors=["d0", "d1", "d2"],
        gene_ids=[GENES[gene] for gene in order],
        donor_features=np.arange(9, dtype=np.float32).reshape(3, 3),
        donor_feature_index=index[:, order],
    )
    ranked = read_cells(make_anndata(), make_tokenizer(), gene_features=features)
    assert ranked.variant_ids is not None
    for cell in range(len(ranked)):
        tokens = ranked.tokens[ranked.starts[cell] : ranked.starts[cell + 1]]
        variants = ranked.variant_ids[ranked.starts[cell] : ranked.starts[cell + 1]]
        expected = [index[cell % 3, token - 2] if token != 6 else -1 for token in tokens]
        assert variants.tolist() == expected
    features.donors = ["d0", "d1", "other"]
    with pytest.raises(ValueError, match=r"1 donors of the cells have no gene features, e\.g\. d2"):
        read_cells(make_anndata(), make_tokenizer(), gene_features=features)
    with pytest.raises(ValueError, match="no column 'patient'"):
        read_cells(make_anndata(), make_tokenizer(), gene_features=features, donor_column="patient")


@given(st.lists(st.lists(st.integers(2, 13), unique=True, max_size=8), min_size=1, max_size=6))
def test_ranked_cells_against_plain_lists(cells: list[list[int]]) -> None:
    tokens = np.array([token for cell in cells for token in cell], dtype=np.int64)
    ranked = RankedCells(tokens, np.r_[0, np.cumsum([len(cell) for cell in cells])], variant_ids=tokens * 10)
    assert len(ranked) == len(cells) and ranked.lengths.tolist() == [len(cell) for cell in cells]
    for token in range(2, 14):
        assert ranked.cells_with(token).tolist() == [row for row, cell in enumerate(cells) if token in cell]
    some = np.arange(len(cells))[::2]
    expected = [sum(token in cells[row] for row in some) for token in range(14)]
    assert ranked.cells_a_token(some, 14).tolist() == expected
    filled = np.array([row for row, cell in enumerate(cells) if cell][::-1], dtype=np.int64)
    if len(filled):
        input_ids, attention_mask, variant_ids = ranked.padded(filled, 0)
        longest = max(len(cells[row]) for row in filled)
        assert input_ids.tolist() == [cells[row] + [0] * (longest - len(cells[row])) for row in filled]
        assert (attention_mask == (input_ids != 0)).all()
        assert (variant_ids == np.where(input_ids == 0, -1, input_ids * 10)).all()


def test_input_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    (tmp_path / "broken.h5ad").write_bytes(b"not HDF5")
    (tmp_path / "cells.csv").write_text("a,b")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no cells at"):
        read_cells(tmp_path / "none.h5ad", tokenizer)
    with pytest.raises(ValueError, match=r"broken\.h5ad cannot be read as \.h5ad"):
        read_cells(tmp_path / "broken.h5ad", tokenizer)
    with pytest.raises(ValueError, match=r"neither a \.h5ad file nor a folder"):
        read_cells(tmp_path / "cells.csv", tokenizer)
    with pytest.raises(ValueError, match="no folder that `build cells` wrote"):
        read_cells(tmp_path / "empty", tokenizer)
    with pytest.raises(ValueError, match="cells are of type list"):
        read_cells([[2, 3]], tokenizer)
    with pytest.raises(ValueError, match="and no input_ids"):
        read_cells(Dataset.from_dict({"tokens": [[2]]}), tokenizer)
    with pytest.raises(ValueError, match="reach from 2 to 14, and the vocabulary has the ids 0 to 13"):
        read_cells(Dataset.from_dict({"input_ids": [[2, 14]]}), tokenizer)
    with pytest.raises(ValueError, match="the data set has no cells"):
        read_cells(Dataset.from_dict({"input_ids": []}), tokenizer)
    with pytest.raises(ValueError, match="the AnnData has no cells"):
        read_cells(make_anndata()[:0], tokenizer)


def test_names_labels_and_cells_ranked_before() -> None:
    ranked = read_cells(make_anndata(), make_tokenizer(), label_column="donor")
    assert ranked.names.tolist() == [f"c{number}" for number in range(9)]
    assert ranked.labels.tolist() == [f"d{number % 3}" for number in range(9)]
    assert read_cells(ranked, make_tokenizer(), label_column="donor") is ranked
    plain = read_cells(make_anndata(), make_tokenizer())
    assert plain.labels is None
    with pytest.raises(ValueError, match="have no column 'disease'; they have: donor"):
        read_cells(make_anndata(), make_tokenizer(), label_column="disease")
    with pytest.raises(ValueError, match="ranked without the column 'donor'"):
        read_cells(plain, make_tokenizer(), label_column="donor")
    with pytest.raises(ValueError, match="ranked without gene features"):
        read_cells(plain, make_tokenizer(), gene_features=SimpleNamespace())
    with pytest.raises(ValueError, match="the model takes 2: rank the cells with max_length"):
        read_cells(plain, make_tokenizer(), max_length=2)


@given(seed=st.integers(0, 100))
def test_selection_ranks_and_counts_by_plain_loops(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = [generator.permutation(9)[: generator.integers(0, 8)].tolist() for _ in range(7)]
    starts = np.r_[0, np.cumsum([len(row) for row in rows])]
    cells = RankedCells(np.array([token for row in rows for token in row], dtype=np.int64), starts, names=np.arange(7))
    chosen = generator.choice(7, 4, replace=False)
    part = cells.select(chosen)
    assert cells_of(part) == [rows[cell] for cell in chosen] and part.names.tolist() == chosen.tolist()
    genes = [[token for token in row if token >= 2] for row in rows]
    assert cells.genes_a_cell(2).tolist() == [len(row) for row in genes]
    has = cells.cells_with_each([3, 5])
    assert has.tolist() == [[token in row for row in rows] for token in (3, 5)]
    found = cells.mean_ranks(chosen, 10, 2)
    for token in range(10):
        ranks = [genes[cell].index(token) for cell in chosen if token in genes[cell]]
        assert found[token] == pytest.approx(np.mean(ranks)) if ranks else np.isnan(found[token])
