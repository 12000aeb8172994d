"""A tokenizer is its model's, or an error says what differs."""

from types import SimpleNamespace

import pytest

from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.pipelines.fitting_tokenizer import require_fitting_tokenizer

CONFIG = NucleotideTransformerConfig(hidden_size=16, num_attention_heads=2)


def test_the_models_own_tokenizer() -> None:
    require_fitting_tokenizer(NucleotideKmerTokenizer(), CONFIG)


def test_no_tokenizer_or_another_kind() -> None:
    with pytest.raises(ValueError, match="needs a NucleotideKmerTokenizer, and has NoneType: save the tokenizer"):
        require_fitting_tokenizer(None, CONFIG)
    with pytest.raises(ValueError, match="and has SimpleNamespace"):
        require_fitting_tokenizer(SimpleNamespace(), CONFIG)


def test_other_ids() -> None:
    tokens = NucleotideKmerTokenizer().kmer_vocabulary.tokens
    shifted = NucleotideKmerTokenizer(vocab=["<pad>", "<unk>", *tokens[2:]])
    with pytest.raises(ValueError, match=r"ids that differ: <pad> 0, 1\. Load both from the same folder"):
        require_fitting_tokenizer(shifted, CONFIG)
