"""Attention against what the model returns itself, averages against plain loops, tables, and bad input."""

import numpy as np
import pytest
import torch

from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.pipelines import segmentation_attention
from omics_transformers.pipelines.segmentation_attention import SequenceAttention, attend_sequence

SEQUENCE = "ACGTACGGTTNACGTTGCAGGACGGTACCTATTGCAGG"


@pytest.fixture(scope="module")
def model() -> SegmentNTForTokenClassification:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    return SegmentNTForTokenClassification(SegmentNTConfig(**sizes, initializer_range=0.3))


@pytest.fixture(scope="module")
def tokenizer() -> NucleotideKmerTokenizer:
    return NucleotideKmerTokenizer()


@pytest.fixture(scope="module")
def expected(model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer) -> np.ndarray:
    """(layers, heads, tokens, tokens) as the model returns them."""
    model.eval()
    with torch.no_grad():
        outputs = model(**tokenizer([SEQUENCE], return_tensors="pt"), output_attentions=True)
    return torch.stack(outputs.attentions)[:, 0].numpy()


@pytest.fixture(scope="module")
def attention(model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer) -> SequenceAttention:
    return attend_sequence(model, tokenizer, SEQUENCE, keep_maps=True)


def test_maps_are_those_of_the_model(attention: SequenceAttention, expected: np.ndarray) -> None:
    assert attention.maps is not None and attention.maps.shape == expected.shape
    assert np.allclose(attention.maps, expected, atol=1e-7)
    assert np.allclose(attention.maps.sum(-1), 1, atol=1e-6)
    assert np.ptp(expected) > 0.1


def test_averages_against_plain_loops(attention: SequenceAttention, expected: np.ndarray) -> None:
    spans = attention.encoded.spans
    tokens = range(1, len(spans))  # <cls> is the first
    assert np.allclose(attention.received, expected.mean(2), atol=1e-7)
    assert np.allclose(attention.received.sum(-1), 1, atol=1e-6)
    for layer, head in np.ndindex(*expected.shape[:2]):
        weights = expected[layer, head].astype(float)
        entropies = [-sum(weight * np.log2(weight) for weight in row if weight > 0) for row in weights]
        assert attention.entropy[layer, head] == pytest.approx(np.mean(entropies), abs=1e-4)
        distances = []
        for query in tokens:
            apart = np.array([abs(spans[query].mean() - spans[token].mean()) for token in tokens])
            distances.append((weights[query, 1:] * apart).sum() / weights[query, 1:].sum())
        assert attention.distance[layer, head] == pytest.approx(np.mean(distances), rel=1e-4)


def test_bins_against_plain_loops(
    model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer, expected: np.ndarray
) -> None:
    found = attend_sequence(model, tokenizer, SEQUENCE, query=(5, 30), bins=4)
    rows = expected[:, :, found.queries]
    assert found.binned.shape == (3, 2, 4, 4) and found.query_edges[-1] == len(found.queries)
    for row, column in np.ndindex(4, 4):
        first, last = found.query_edges[row : row + 2]
        left, right = found.token_edges[column : column + 2]
        assert last > first and right > left
        block = rows[:, :, first:last, left:right].sum(3).mean(2)
        assert np.allclose(found.binned[:, :, row, column], block, atol=1e-6)
    assert np.allclose(found.binned.sum(-1), 1, atol=1e-6)
    whole = attend_sequence(model, tokenizer, SEQUENCE, bins=1_000)
    assert np.allclose(whole.binned, expected, atol=1e-6)


def test_the_model_runs_as_before(
    model: SegmentNTForTokenClassification,
    tokenizer: NucleotideKmerTokenizer,
    attention: SequenceAttention,
    expected: np.ndarray,
) -> None:
    with torch.no_grad():
        outputs = model(**tokenizer([SEQUENCE], return_tensors="pt"), output_attentions=True)
    assert np.array_equal(torch.stack(outputs.attentions)[:, 0].numpy(), expected)


def test_the_attention_of_some_bases(
    model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer, expected: np.ndarray
) -> None:
    part = attend_sequence(model, tokenizer, SEQUENCE, query=(5, 8), keep_maps=True)
    assert part.encoded.letters()[part.queries[0]] == "ACGTAC" and part.queries.tolist() == [1, 2, 3]
    assert part.maps is not None and np.allclose(part.maps, expected[:, :, 1:4], atol=1e-7)
    assert np.allclose(part.received, expected[:, :, 1:4].mean(2), atol=1e-7)
    assert attend_sequence(model, tokenizer, SEQUENCE).maps is None


def test_tables(attention: SequenceAttention) -> None:
    tokens, heads = attention.token_table(), attention.head_table()
    assert tokens["token"].iloc[0] == "<cls>" and "".join(tokens["token"].iloc[1:]) == SEQUENCE
    assert tokens["layer2_head1"].to_numpy() == pytest.approx(attention.received[2, 1])
    assert tokens["received"].to_numpy() == pytest.approx(attention.received.mean((0, 1)))
    assert len(heads) == 6 and heads[["layer", "head"]].iloc[3].tolist() == [1, 1]
    row = heads.iloc[3]
    assert row["cls_share"] == pytest.approx(attention.received[1, 1, 0])
    assert row["top_received"] == pytest.approx(attention.received[1, 1, 1:].max())
    top = 1 + attention.received[1, 1, 1:].argmax()
    assert [row["top_start"], row["top_end"]] == attention.encoded.spans[top].tolist()


def test_bases_share_what_their_token_receives(attention: SequenceAttention) -> None:
    by_base = attention.received_by_base()
    assert by_base.shape == (3, 2, len(SEQUENCE))
    assert np.allclose(by_base.sum(-1), 1 - attention.received[:, :, 0])
    assert np.allclose(by_base[:, :, :6], attention.received[:, :, 1:2] / 6)


def test_one_letter_by_itself(model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer) -> None:
    found = attend_sequence(model, tokenizer, "N")
    assert found.received.shape == (3, 2, 2) and (found.distance == 0).all()


def test_bad_input(
    model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="the query spans bases 30-50 of a sequence of 38"):
        attend_sequence(model, tokenizer, SEQUENCE, query=(30, 50))
    with pytest.raises(ValueError, match="bins is 0"):
        attend_sequence(model, tokenizer, SEQUENCE, bins=0)
    monkeypatch.setattr(segmentation_attention, "LARGEST_MAPS_BYTES", 1_000)
    with pytest.raises(ValueError, match="give a shorter query or sequence"):
        attend_sequence(model, tokenizer, SEQUENCE, keep_maps=True)
