"""Which genes stay in the vocabulary, and what is said of the others."""

import json
from pathlib import Path

import numpy as np
import pytest

from omics_transformers.training.gene_vocabulary import (
    GeneVocabulary,
    choose_genes,
    read_gene_list,
    read_gene_vocabulary,
)

VOCABULARY = GeneVocabulary(
    ["<pad>", "<mask>", "A", "B", "C", "D"], {"A": 1.0, "B": 2.0, "C": 3.0, "D": 4.0}, {"A": "a", "C": "c"}
)
OCCURRENCES = np.array([0, 0, 5, 0, 7, 2])


def test_restriction_numbers_anew_and_keeps_what_is_known() -> None:
    vocabulary, new_ids = VOCABULARY.restricted(np.array([True, True, False, True, True, False]))
    assert vocabulary == GeneVocabulary(["<pad>", "<mask>", "B", "C"], {"B": 2.0, "C": 3.0}, {"C": "c"})
    assert new_ids.tolist() == [0, 1, -1, 2, 3, -1]
    tokenizer = vocabulary.tokenizer(max_length=9)
    assert tokenizer.decode_genes([2, 3]) == ["B", "C"]
    assert tokenizer.gene_medians == {"B": 2.0, "C": 3.0}
    assert tokenizer.model_max_length == 9


def test_genes_without_features_are_an_error_that_names_them_or_dropped() -> None:
    with pytest.raises(ValueError, match=r"2 of the 3 genes of the cells have no DNA features: C, D\."):
        choose_genes(VOCABULARY, OCCURRENCES, genes_with_features=["A"])
    kept, report = choose_genes(VOCABULARY, OCCURRENCES, genes_with_features=["A"], missing="drop")
    assert kept.tolist() == [True, True, True, False, False, False]
    assert report == {
        "genes": 1,
        "genes_outside_the_restriction": 0,
        "expressed_genes_without_dna_features": 2,
        "unexpressed_genes_without_dna_features": 1,
        "tokens_dropped": 9,
    }


def test_genes_that_no_cell_expresses_need_no_features() -> None:
    kept, report = choose_genes(VOCABULARY, OCCURRENCES, genes_with_features=["A", "C", "D"])
    assert kept.tolist() == [True, True, True, False, True, True]
    assert report["tokens_dropped"] == 0


def test_restriction_comes_before_the_question_of_features() -> None:
    kept, report = choose_genes(VOCABULARY, OCCURRENCES, genes_with_features=["A", "C"], restrict_to=["A", "B", "C"])
    assert kept.tolist() == [True, True, True, False, True, False]
    assert (report["genes_outside_the_restriction"], report["tokens_dropped"]) == (1, 2)
    assert choose_genes(VOCABULARY, OCCURRENCES)[0].all()


@pytest.mark.parametrize("restrict_to", [["X"], ["B"], []])
def test_no_gene_left_is_an_error(restrict_to: list[str]) -> None:
    with pytest.raises(ValueError, match="no gene of the cells is left"):
        choose_genes(VOCABULARY, OCCURRENCES, restrict_to=restrict_to)


def test_reads_the_dictionaries_of_a_build(toy_corpus: Path) -> None:
    vocabulary = read_gene_vocabulary(toy_corpus)
    assert len(vocabulary) == 42
    assert vocabulary.special_tokens == ["<pad>", "<mask>"]
    assert vocabulary.gene_medians["ENSG00000000003"] == 2.0
    assert vocabulary.gene_symbols == {}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"<pad>": 0, "<mask>": 1, "A": 3}', "not 0 to 2"),
        ('{"A": 0, "<pad>": 1, "<mask>": 2}', "special tokens first"),
        ('{"<pad>": 0, "<mask>": 1, "A": 2, "<cls>": 3}', "special tokens first"),
        ("[1]", "holds a list"),
        ('{"<pad>": 0,', "not whole JSON"),
    ],
)
def test_refuses_odd_dictionaries(tmp_path: Path, content: str, named: str) -> None:
    (tmp_path / "token_dictionary.json").write_text(content)
    with pytest.raises(ValueError, match=named):
        read_gene_vocabulary(tmp_path)


def test_refuses_a_folder_without_a_dictionary(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no token_dictionary\.json"):
        read_gene_vocabulary(tmp_path)


def test_reads_lists_of_genes(tmp_path: Path, toy_corpus: Path) -> None:
    (tmp_path / "genes.txt").write_text("A  # the first\n\n# none\nB\n")
    assert read_gene_list(tmp_path / "genes.txt") == {"A", "B"}
    dictionary = json.loads((toy_corpus / "token_dictionary.json").read_text())
    assert read_gene_list(toy_corpus / "gene_features.safetensors") == set(dictionary) - {"<pad>", "<mask>"}
    (tmp_path / "none.txt").write_text("# nothing\n")
    with pytest.raises(ValueError, match="names no gene"):
        read_gene_list(tmp_path / "none.txt")
    with pytest.raises(FileNotFoundError, match="no list of genes"):
        read_gene_list(tmp_path / "absent.txt")
