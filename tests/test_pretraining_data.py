"""Policies for genes and donors without DNA, what is held out, and what the report says."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from omics_transformers.data_scripts.gene_features import GeneFeatures, read_gene_features, write_gene_features
from omics_transformers.training.pretraining_arguments import DataArguments
from omics_transformers.training.pretraining_data import PretrainingData, prepare_pretraining_data


def prepare(corpus: Path, *, reads_dna: bool = True, max_length: int = 20, **changes: Any) -> PretrainingData:
    settings = {"cells": str(corpus), "gene_features": str(corpus / "gene_features.safetensors"), **changes}
    return prepare_pretraining_data(DataArguments(**settings), reads_dna=reads_dna, max_length=max_length)


def write_some_features(path: Path, corpus: Path, *, genes: int = 40, donors: int = 4) -> str:
    """The corpus' features of the first genes and donors only."""
    features = read_gene_features(corpus / "gene_features.safetensors")
    assert features.donor_feature_genes is not None and features.donor_feature_index is not None
    assert features.donor_features is not None and features.donors is not None
    kept = np.flatnonzero(features.donor_feature_genes < genes)
    new_row = np.full(len(features.donor_feature_genes) + 1, -1)
    new_row[kept] = np.arange(len(kept))
    write_gene_features(
        path,
        GeneFeatures(
            features.gene_ids[:genes],
            features.features[:genes],
            features.metadata,
            features.donors[:donors],
            features.donor_features[kept],
            features.donor_feature_genes[kept],
            new_row[features.donor_feature_index[:donors, :genes]],
        ),
    )
    return str(path)


def test_splits_at_random_and_keeps_every_cell(toy_corpus: Path) -> None:
    data = prepare(toy_corpus, test_fraction=0.25)
    assert data.held_out is not None
    assert sorted([*data.training.numbers, *data.held_out.numbers]) == list(range(240))
    assert len(data.held_out) == 60
    assert data.held_out.fixed_masks and not data.training.fixed_masks
    again = prepare(toy_corpus, test_fraction=0.25)
    assert again.training.numbers.tolist() == data.training.numbers.tolist()
    assert prepare(toy_corpus, test_fraction=0.0).held_out is None
    assert data.donor_variants is None
    assert (data.report["training_cells"], data.report["held_out_cells"]) == (180, 60)


def test_features_are_in_the_order_of_the_vocabulary(toy_corpus: Path, tmp_path: Path) -> None:
    features = read_gene_features(toy_corpus / "gene_features.safetensors")
    write_gene_features(tmp_path / "f.safetensors", GeneFeatures(features.gene_ids[::-1], features.features[::-1]))
    data = prepare(toy_corpus, gene_features=str(tmp_path / "f.safetensors"))
    assert data.gene_features is not None
    assert data.gene_features.gene_ids == data.vocabulary.tokens
    np.testing.assert_array_equal(data.gene_features.features[2:], features.features)


def test_donors_have_their_rows(toy_corpus: Path) -> None:
    data = prepare(toy_corpus, donor_column="donor")
    tensors = load_file(toy_corpus / "gene_features.safetensors")
    assert data.donor_variants is not None
    np.testing.assert_array_equal(data.donor_variants.rows[:, 2:], tensors["donor_feature_index"])
    for cell in data.training.__getitems__(range(50)):
        assert cell.donor == cell.number // 4 % 4


def test_genes_without_features_leave_cells_and_vocabulary(toy_corpus: Path, tmp_path: Path) -> None:
    some = write_some_features(tmp_path / "some.safetensors", toy_corpus, genes=9)
    with pytest.raises(ValueError, match=r"31 of the 40 genes of the cells have no DNA features: ENSG00000000009"):
        prepare(toy_corpus, gene_features=some)
    data = prepare(toy_corpus, gene_features=some, missing_gene_features="drop", donor_column="donor", test_fraction=0)
    assert len(data.vocabulary) == 11
    assert data.gene_features is not None and data.gene_features.features.shape == (11, 6)
    all_tokens = json.loads((toy_corpus / "token_dictionary.json").read_text())
    assert data.vocabulary.tokens == list(all_tokens)[:11]
    assert max(max(cell.input_ids) for cell in data.training.__getitems__(range(len(data.training)))) == 10
    report = data.report
    whole = prepare(toy_corpus, test_fraction=0)
    kept_tokens = int(data.training.lengths.sum())
    assert report["tokens_dropped"] == int(whole.training.lengths.sum()) - kept_tokens
    assert report["training_cells"] + report["cells_without_genes"] == 240
    assert report["cells_without_genes"] > 0


def test_unknown_donors_are_named_or_counted(toy_corpus: Path, tmp_path: Path) -> None:
    some = write_some_features(tmp_path / "some.safetensors", toy_corpus, donors=3)
    with pytest.raises(ValueError, match=r"60 cells have donors without DNA features \(donor3\)"):
        prepare(toy_corpus, gene_features=some, donor_column="donor")
    settings = {"gene_features": some, "donor_column": "donor", "test_fraction": 0}
    reference = prepare(toy_corpus, missing_donors="reference", **settings)
    assert sum(cell.donor == -1 for cell in reference.training.__getitems__(range(240))) == 60
    dropped = prepare(toy_corpus, missing_donors="drop", **settings)
    assert len(dropped.training) == 180
    for data in (reference, dropped):
        assert data.report["cells_of_donors_without_dna_features"] == 60


def test_holds_out_donors(toy_corpus: Path) -> None:
    data = prepare(toy_corpus, donor_column="donor", test_donors="donor1, donor3")
    assert data.held_out is not None
    assert {cell.donor for cell in data.held_out.__getitems__(range(len(data.held_out)))} == {1, 3}
    assert {cell.donor for cell in data.training.__getitems__(range(len(data.training)))} == {0, 2}
    with pytest.raises(ValueError, match="no cell is of the test donors donor9"):
        prepare(toy_corpus, donor_column="donor", test_donors="donor9")


def test_holds_out_other_cells_of_the_same_dictionary(toy_corpus: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(toy_corpus, other)
    data = prepare(toy_corpus, test_cells=str(other))
    assert data.held_out is not None
    assert (len(data.training), len(data.held_out)) == (240, 240)
    dictionary = json.loads((other / "token_dictionary.json").read_text())
    (other / "token_dictionary.json").write_text(json.dumps({**dictionary, "ENSG9": 42}))
    with pytest.raises(ValueError, match="different token dictionaries"):
        prepare(toy_corpus, test_cells=str(other))


def test_cuts_long_cells_and_says_so(toy_corpus: Path) -> None:
    data = prepare(toy_corpus, max_length=5, test_fraction=0)
    assert data.training.lengths.max() == 5
    assert data.report["cells_cut"] == int((prepare(toy_corpus, test_fraction=0).training.lengths > 5).sum()) > 0


def test_a_model_without_adapter_reads_no_features(toy_corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = prepare(toy_corpus, reads_dna=False, restrict_genes=str(toy_corpus / "gene_features.safetensors"))
    assert data.gene_features is None
    assert "is not used" in caplog.text


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"cells": None}, "cells is not set"),
        ({"gene_features": None}, "gene_features is not set"),
        ({"test_fraction": 1.0}, "test_fraction is 1.0"),
        ({"test_donors": "donor1"}, "without donor_column"),
        ({"test_donors": "donor1", "test_cells": "x"}, "both test_cells and test_donors"),
        ({"donor_column": "patient"}, "no column 'patient'"),
        ({"donor_column": "donor", "test_donors": "donor0,donor1,donor2,donor3"}, "no cell is left to train on"),
    ],
)
def test_refuses_settings_that_do_not_fit(toy_corpus: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        prepare(toy_corpus, **changes)


def test_features_without_donors_cannot_serve_a_donor_column(toy_corpus: Path, tmp_path: Path) -> None:
    features = read_gene_features(toy_corpus / "gene_features.safetensors")
    write_gene_features(tmp_path / "f.safetensors", GeneFeatures(features.gene_ids, features.features))
    with pytest.raises(ValueError, match="has no donors, and donor_column is 'donor'"):
        prepare(toy_corpus, gene_features=str(tmp_path / "f.safetensors"), donor_column="donor")
