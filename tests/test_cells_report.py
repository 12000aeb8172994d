"""The report's sums, and the card that `load_dataset` and people read."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from omics_transformers.data_scripts.cell_inputs import CellInput
from omics_transformers.data_scripts.cells_report import data_card, make_report
from omics_transformers.data_scripts.gene_identifiers import resolve_genes
from omics_transformers.data_scripts.gene_ranking import derived_token_dictionary, make_ranking


@pytest.fixture
def report(tmp_path):
    special = ("<pad>", "<mask>")
    ranking = make_ranking(derived_token_dictionary(["A", "B"], special), {"A": 1.0, "B": 2.0}, special)
    genes = resolve_genes(pd.DataFrame(index=["A", "B", "A", "C"]))
    inputs = [
        CellInput(tmp_path / name, name, f"{tmp_path / name}: X", 5, genes, pa.schema([])) for name in ("a.h5", "b.h5")
    ]
    tally = {"n_cells": 5, "n_written": 3, "n_tokens": 6, "n_cells_cut": 0, "n_tokens_cut": 0}
    records = [(number, {"tally": tally | {"dropped": {"no counts": 2}}}) for number in (0, 1, 1)]
    settings = {"max_length": 2048, "minimum_genes": 7}
    return make_report(tmp_path / "out", settings, inputs, ranking, records, given=["gene_medians"])


def test_totals_are_the_sums_of_the_files(report):
    assert (report.n_cells, report.n_written, report.n_tokens) == (15, 9, 18)
    assert report.dropped == {"no counts": 6}
    assert [one["cells"]["read"] for one in report.content["files"]] == [5, 10]


def test_genes_shared_by_inputs_are_listed_once(report):
    assert report.content["gene_lists"] == [{"dropped": {"not in any kept cell": ["C"]}, "summed": {"A": ["A", "A"]}}]
    genes = report.content["files"][1]["genes"]
    assert (genes["columns"], genes["kept_columns"], genes["genes"], genes["summed_columns"]) == (4, 3, 2, 2)
    assert genes["columns"] == genes["kept_columns"] + np.sum(list(genes["dropped"].values()))


def test_the_card_has_the_configuration_and_the_counts(report):
    card = data_card(report, ["donor"], "content-0123")
    _, header, text = card.split("---\n", 2)
    (configuration,) = yaml.safe_load(header)["configs"]
    assert configuration["data_files"] == [{"split": "train", "path": "data/*.parquet"}]
    assert "9 cells of 15 read, over a vocabulary of 2 genes" in text
    assert "- `donor`: carried from obs" in text
    assert "| no counts | 6 |" in text
    assert "$" not in text
