"""Dictionaries beside shards, on disk and through fsspec."""

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from omics_transformers.training.gene_vocabulary import read_gene_vocabulary
from omics_transformers.training.streamed_vocabulary import read_streamed_vocabulary


@pytest.fixture
def distant(toy_corpus: Path) -> Iterator[str]:
    memory = fsspec.filesystem("memory")
    memory.put(str(toy_corpus), "/corpus_of_a_test", recursive=True)
    yield "memory://corpus_of_a_test"
    memory.rm("/corpus_of_a_test", recursive=True)


def test_any_file_system_is_read_alike(toy_corpus: Path, distant: str) -> None:
    expected = read_gene_vocabulary(toy_corpus)
    assert expected.gene_medians
    assert read_streamed_vocabulary(toy_corpus) == expected
    assert read_streamed_vocabulary(distant) == expected


def test_errors_name_the_corpus(distant: str) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/corpus_of_a_test/token_dictionary.json", json.dumps({"<pad>": 0, "<mask>": 2}).encode())
    with pytest.raises(ValueError, match=r"memory://corpus_of_a_test/token_dictionary\.json: the token ids are not"):
        read_streamed_vocabulary(distant)
    memory.rm_file("/corpus_of_a_test/token_dictionary.json")
    with pytest.raises(FileNotFoundError, match=r"memory://corpus_of_a_test has no token_dictionary\.json"):
        read_streamed_vocabulary(distant)
