"""Gene sets from mappings and files, sets of unknown genes, and names that are near."""

import logging
from pathlib import Path

import pytest

from omics_transformers.modeling.tokenization_gene_rank import GeneRankTokenizer
from omics_transformers.pipelines.perturbation_gene_sets import close_names, read_gene_sets, require_known_genes


def test_gene_sets_from_files(tmp_path: Path) -> None:
    (tmp_path / "sets.gmt").write_text("first\tfrom ChEA\tA\tB,1.0\tA\n\nsecond\t\tC\n")
    (tmp_path / "housekeeping.txt").write_text("# made by hand\nA\nC\nA\n")
    found = read_gene_sets([tmp_path / "sets.gmt", tmp_path / "housekeeping.txt"])
    assert found == {"first": ["A", "B"], "second": ["C"], "housekeeping": ["A", "C"]}
    assert read_gene_sets(str(tmp_path / "sets.gmt")) == {"first": ["A", "B"], "second": ["C"]}
    assert read_gene_sets({"mine": ("A", "A")}) == {"mine": ["A"]}
    assert read_gene_sets(None) == {}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.gmt", "only\n", r"a\.gmt, line 1: expected name, description and genes"),
        ("a.gmt", "s\t\tA\ns\t\tB\n", "line 2: the gene set 's' is there twice"),
        ("a.txt", "A B\n", "'A B' is not one gene"),
        ("a.txt", "\n", "the gene set 'a' has no genes"),
    ],
)
def test_bad_gene_set_files_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_gene_sets(tmp_path / name)


def test_missing_and_repeated_gene_sets_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no gene sets at"):
        read_gene_sets(tmp_path / "none.gmt")
    (tmp_path / "a.txt").write_text("A\n")
    with pytest.raises(ValueError, match="'a' was already given"):
        read_gene_sets([tmp_path / "a.txt", tmp_path / "a.txt"])


@pytest.mark.real_data
def test_published_gene_sets_can_be_read(data_folder: Path) -> None:
    found = read_gene_sets(
        [
            data_folder / "genesets" / "chea2015_cardiac.gmt",
            data_folder / "genesets" / "housekeeping_symbols.DERIVED.txt",
        ]
    )
    assert len(found) > 2 and len(found["housekeeping_symbols.DERIVED"]) == 3_780


def test_close_names_ignore_case() -> None:
    assert close_names("gata3", ["GATA4", "TBX5", "Gata6"]) == ["Gata6", "GATA4"]


def test_sets_of_unknown_genes_are_named(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = GeneRankTokenizer.from_dictionaries({"<pad>": 0, "<mask>": 1, "G0": 2, "G1": 3}, None, {"G0": "SYM0"})
    with pytest.raises(ValueError, match=r"no gene of the 2 gene sets is in the vocabulary, e\.g\. of 'mouse': Gata4"):
        require_known_genes({"mouse": ["Gata4"], "fish": ["gata4"]}, tokenizer)
    with caplog.at_level(logging.WARNING):
        require_known_genes({"mouse": ["Gata4"], "known": ["SYM0"]}, tokenizer)
    assert "1 of 2 gene sets have no gene of the vocabulary and are not tested: mouse" in caplog.text
    require_known_genes({}, tokenizer)
