"""Names to genes: ids, versions and symbols."""

import pytest

from omics_transformers.modeling.gene_lookup import GeneLookup

IDS = ["ENSG00000000001", "ENSG00000000002.7", "ENSMUSG00000000003", "GENE4", "ENSG00000000005"]


def test_ids_are_found_with_and_without_version() -> None:
    names = ["ENSG00000000001.12", "ENSG00000000001", "ENSG00000000002", "ENSG00000000002.9_PAR_Y", "GENE4", "GENE4.1"]
    assert GeneLookup(IDS).find(names).tolist() == [0, 0, 1, 1, 3, -1]
    assert GeneLookup(IDS).find([]).shape == (0,)


def test_symbols_are_found_where_one_gene_bears_them() -> None:
    lookup = GeneLookup(IDS, ["TP53", "DUP", "DUP", "", "GENE4"])
    # GENE4 is an id of one gene and the symbol of another: the id goes first.
    assert lookup.find(["TP53", "DUP", "", "GENE4", "tp53", "ENSMUSG00000000003"]).tolist() == [0, -1, -1, 3, -1, 2]
    assert lookup.ambiguous_symbols == {"DUP"}


def test_a_gene_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ENSG00000000001\.1 and ENSG00000000001\.2: give each gene once"):
        GeneLookup(["ENSG00000000001.1", "ENSG00000000001.2"])


def test_another_number_of_symbols_is_refused() -> None:
    with pytest.raises(ValueError, match="2 gene_symbols for 5 gene_ids"):
        GeneLookup(IDS, ["A", "B"])
