"""Vocabulary and medians: given, derived, joined; and what the errors say."""

import numpy as np
import pytest

from omics_transformers.data_scripts.gene_medians import NonZeroMedians
from omics_transformers.data_scripts.gene_ranking import (
    checked_gene_medians,
    checked_special_tokens,
    checked_token_dictionary,
    derived_token_dictionary,
    make_ranking,
    ranking_from_corpus,
)

SPECIAL = ("<pad>", "<mask>")
FRAMED = ("<pad>", "<mask>", "<cls>", "<eos>")


def test_a_dictionary_is_ordered_by_id():
    tokens = checked_token_dictionary({"B": 3, "<mask>": 1, "A": 2, "<pad>": 0}, SPECIAL)
    assert list(tokens) == ["<pad>", "<mask>", "A", "B"]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ({"<pad>": 0, "<mask>": 1, "A": 1}, "3 tokens have ids from 0 to 1; expected each of 0 to 2 once"),
        ({"<pad>": 0, "<mask>": 1, "A": "2"}, "'A' has id '2'; expected a whole number"),
        ({"<pad>": 0, "<mask>": True}, "'<mask>' has id True"),
        ({"<pad>": 0, "A": 1}, "special tokens <mask> are missing; it has <pad>"),
        ({}, "special tokens <pad>, <mask> are missing; it has none"),
    ],
)
def test_other_dictionaries_are_refused(tokens, message):
    with pytest.raises(ValueError, match=message):
        checked_token_dictionary(tokens, SPECIAL)


def test_frame_tokens_that_are_not_used_are_mentioned(caplog):
    checked_token_dictionary(derived_token_dictionary(["A"], FRAMED), SPECIAL)
    assert "cells are built without" in caplog.text


@pytest.mark.parametrize("median", [0, -1.0, float("nan"), float("inf"), None, "2"])
def test_medians_are_positive_numbers(median):
    with pytest.raises(ValueError, match=r"1 are not positive numbers, e\.g\. B: "):
        checked_gene_medians({"A": 1, "B": median})


@pytest.mark.parametrize("tokens", [["<pad>"], ["<pad>", "<mask>", "<eos>"], ["<pad>", "<mask>", "<pad>"]])
def test_special_tokens_are_complete(tokens):
    with pytest.raises(ValueError, match="expected <pad>, <mask>, and either both"):
        checked_special_tokens(tokens)


def test_genes_are_numbered_by_ascending_token():
    ranking = make_ranking(
        checked_token_dictionary({"B": 2, "A": 3, "<pad>": 0, "<mask>": 1}, SPECIAL), {"A": 5, "B": 7, "C": 9}, SPECIAL
    )
    assert ranking.genes == ["B", "A"]
    assert ranking.token_of_gene.tolist() == [2, 3]
    assert ranking.token_of_gene.dtype == np.uint16
    assert ranking.median_of_gene.tolist() == [7, 5]
    assert (ranking.first_token, ranking.last_token) == (-1, -1)


def test_frame_tokens_are_found():
    ranking = make_ranking(derived_token_dictionary(["A"], FRAMED), {"A": 1.0}, FRAMED)
    assert (ranking.first_token, ranking.last_token) == (2, 3)


def test_large_vocabularies_get_wider_tokens():
    genes = [f"G{i:06d}" for i in range(70_000)]
    ranking = make_ranking(derived_token_dictionary(genes, SPECIAL), dict.fromkeys(genes, 1.0), SPECIAL)
    assert ranking.token_of_gene.dtype == np.int32
    assert ranking.token_of_gene.max() == 70_001


def test_a_gene_without_median_is_named():
    with pytest.raises(ValueError, match=r"1 of the 2 genes .* have no median, e\.g\. B"):
        make_ranking(derived_token_dictionary(["A", "B"], SPECIAL), {"A": 1.0}, SPECIAL)


def test_derived_vocabulary_leaves_out_genes_that_no_cell_shows_and_a_given_one_keeps_them():
    found = NonZeroMedians(np.array([2.0, np.nan, 4.0]), np.array([5, 0, 6]))
    derived = ranking_from_corpus(["A", "B", "C"], found, None, SPECIAL)
    assert derived.token_dictionary == {"<pad>": 0, "<mask>": 1, "A": 2, "C": 3}
    given = ranking_from_corpus(["A", "B", "C"], found, derived_token_dictionary(["A", "B", "C"], SPECIAL), SPECIAL)
    assert given.gene_medians == {"A": 2.0, "B": 3.0, "C": 4.0}
    assert given.never_detected == ["B"]
    with pytest.raises(ValueError, match="no cell is kept"):
        ranking_from_corpus(["A"], NonZeroMedians(np.array([np.nan]), np.array([0])), None, SPECIAL)
