"""What the Nucleotide Transformer's configuration holds, keeps and refuses."""

from pathlib import Path

import pytest

from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig


def test_the_defaults_are_the_published_50m_model() -> None:
    config = NucleotideTransformerConfig()
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (512, 12, 16)
    assert (config.vocab_size, config.intermediate_size, config.max_tokens) == (4107, 2048, 2048)
    assert config.kmer_token_ids == [6, 4102] and config.letter_token_ids == [4102, 4107]


def test_every_field_survives_save_and_load(tmp_path: Path) -> None:
    config = NucleotideTransformerConfig(
        hidden_size=24, num_attention_heads=2, rescaling_factor=2.44, kmer_token_ids=[4, 4100], token_dropout=True
    )
    config.save_pretrained(tmp_path)
    assert NucleotideTransformerConfig.from_pretrained(tmp_path).to_diff_dict() == config.to_diff_dict()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 30, "num_attention_heads": 4}, "no multiple of num_attention_heads 4"),
        ({"hidden_size": 30, "num_attention_heads": 2}, "even number of at least 4"),
        ({"rescaling_factor": 0.0}, "expected a positive number"),
        ({"rescaling_factor": 2.0, "position_embedding_type": "absolute"}, "cannot be rescaled"),
        ({"kmer_token_ids": [7]}, "first id and the one behind the last"),
        ({"vocab_size": 4105}, "reach beyond the vocabulary of 4105"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(Exception, match=message):
        NucleotideTransformerConfig(**fields)
