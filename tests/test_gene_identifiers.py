"""Gene identifiers: versions, symbols, columns, feature types, and what the errors say."""

import gzip
import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.gene_identifiers import (
    NOT_GENE_EXPRESSION,
    NOT_IN_VOCABULARY,
    SYMBOL_NOT_IN_TABLE,
    read_gene_symbols,
    read_json,
    resolve_genes,
    strip_versions,
)

GATA4, TBX5 = "ENSG00000136574", "ENSG00000089225"


@pytest.mark.parametrize(
    ("name", "stripped"),
    [
        ("ENSG00000136574.19", GATA4),
        (GATA4, GATA4),
        ("ENSG00000182378.15_PAR_Y", "ENSG00000182378"),
        ("ENSMUSG00000021944.17", "ENSMUSG00000021944"),
        ("ENSGR0000214717.3", "ENSGR0000214717"),
        ("AC012345.1", "AC012345.1"),  # a clone's name, not a version
        ("HLA-DRB1", "HLA-DRB1"),
    ],
)
def test_only_ensembl_ids_lose_their_version(name, stripped):
    assert strip_versions(pd.Series([name]))[0] == stripped


@given(st.from_regex(r"ENS[A-Z]{0,4}G\d{11}", fullmatch=True), st.integers(1, 99))
def test_any_version_gives_the_same_id(gene_id, version):
    assert strip_versions(pd.Series([f"{gene_id}.{version}"]))[0] == gene_id


def test_symbols_are_mapped_and_the_rest_is_accounted_for():
    index = pd.DataFrame(
        {"feature_types": ["Gene Expression"] * 4 + ["Antibody Capture"]},
        index=["GATA4", "NOTHING", f"{TBX5}.3", "ENSG00000000001", "CD3"],
    )
    genes = resolve_genes(index, vocabulary=[GATA4, TBX5], gene_symbols={"GATA4": GATA4})
    assert genes.gene_ids.tolist() == [GATA4, "", TBX5, "", ""]
    assert genes.drop_reasons.tolist() == ["", SYMBOL_NOT_IN_TABLE, "", NOT_IN_VOCABULARY, NOT_GENE_EXPRESSION]
    assert (genes.n_symbols_mapped, genes.n_versions_stripped) == (1, 1)


def test_the_column_with_the_known_ids_is_read_and_symbols_come_from_the_index():
    index = pd.DataFrame({"gene_ids": [GATA4, TBX5]}, index=["GATA4", "TBX5"])
    genes = resolve_genes(index, vocabulary=[GATA4])
    assert genes.identifier_column == "gene_ids"
    assert genes.symbols == {GATA4: "GATA4", TBX5: "TBX5"}
    assert resolve_genes(index).gene_ids.tolist() == [GATA4, TBX5]


def test_without_table_and_vocabulary_names_stand_for_themselves():
    genes = resolve_genes(pd.DataFrame(index=["GATA4", "TBX5", "GATA4"]))
    assert genes.gene_ids.tolist() == ["GATA4", "TBX5", "GATA4"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary": [GATA4]}, r"pbmc.h5ad: of 2 genes \('A', 'B', ...\) none is in the vocabulary.*gene_symbols"),
        ({"vocabulary": [GATA4], "gene_symbols": {"X": GATA4}}, "Check that species"),
        ({"gene_id_column": "ensembl"}, "no gene column 'ensembl'; it has index, gene_name"),
    ],
)
def test_errors_say_what_was_found_and_how_to_mend(options, message):
    index = pd.DataFrame({"gene_name": ["A", "B"]}, index=["A", "B"])
    with pytest.raises(ValueError, match=message):
        resolve_genes(index, source="pbmc.h5ad", **options)


def test_a_table_from_id_to_symbol_is_turned():
    assert read_gene_symbols({GATA4: "GATA4", TBX5: "TBX5"}) == {"GATA4": GATA4, "TBX5": TBX5}
    assert read_gene_symbols({"GATA4": f"{GATA4}.2"}) == {"GATA4": GATA4}


def test_json_is_read_plain_and_compressed(tmp_path):
    plain, packed = tmp_path / "table.json", tmp_path / "table.json.gz"
    plain.write_text(json.dumps({"a": 1}))
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_json(plain, "table") == read_json(packed, "table") == {"a": 1}


@pytest.mark.parametrize("content", [b"{", b"[1, 2]", b"\xff\xfe"])
def test_what_is_not_a_json_object_is_refused(tmp_path, content):
    path = tmp_path / "medians.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"gene medians: .*medians\.json"):
        read_json(path, "gene medians")
