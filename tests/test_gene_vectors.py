"""Vectors of genes from text, by id or symbol, and broken files."""

import logging
from pathlib import Path

import numpy as np
import pytest

from omics_transformers.training.gene_vectors import read_gene_vectors

IDS, SYMBOLS = ["ENSG1", "ENSG2", "ENSG3"], ["A1BG", "", "TP53"]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_vectors_are_found_by_id_and_symbol(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write(tmp_path / "gene2vec.txt", "3 2\nTP53\t1 2\nENSG1 0.5 -1\nNAT2 3 4\n\n")
    with caplog.at_level(logging.INFO):
        found = read_gene_vectors(file, IDS, SYMBOLS, size=2)
    assert found.vectors.tolist() == [[0.5, -1.0], [0.0, 0.0], [1.0, 2.0]] and found.vectors.dtype == np.float32
    assert found.is_found.tolist() == [True, False, True]
    assert "vectors of 2 genes found; 1 genes have none; 1 vectors are of other genes" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ENSG1 1 2 3\n", r"line 1: ENSG1 has 3 numbers.* expected the 2 of the model's hidden_size"),
        ("ENSG1 1 2\nENSG2 1 nan\n", "line 2: ENSG2 has 2 numbers, or one that is not finite"),
        ("ENSG1 1 two\n", r"line 1: could not convert .*expected a gene and 2 numbers"),
        ("ENSG1 1 2\nENSG1 1 2\n", "1 genes more than once, e.g. ENSG1"),
        ("MOUSE1 1 2\n", r"vectors of 1 genes, e.g. MOUSE1, and none of the folder's 3, e.g. ENSG1, ENSG2, ENSG3"),
        ("\n", "holds no vectors"),
    ],
)
def test_broken_files_are_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_gene_vectors(write(tmp_path / "vectors.txt", text), IDS, SYMBOLS, size=2)
    with pytest.raises(FileNotFoundError, match="no file of gene vectors at"):
        read_gene_vectors(tmp_path / "nothing.txt", IDS, SYMBOLS, size=2)
