"""Attributions against finite differences and a plain sum along the line, completeness, tables, and bad input."""

import logging
import sys

import numpy as np
import pytest
import torch

from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.pipelines.segmentation_attribution import SequenceAttribution, attribute_sequence
from omics_transformers.pipelines.segmentation_target import SegmentationTarget, TargetFunction, encode_sequence

SEQUENCE = "ACGTACGGTTNACGTTGCAGGACGGTACCTATTGCAGG"
TARGET = SegmentationTarget("splice_donor", 12, 26)


@pytest.fixture(scope="module")
def model() -> SegmentNTForTokenClassification:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = SegmentNTConfig(**sizes, initializer_range=0.3, attention_probs_dropout_prob=0.5)
    return SegmentNTForTokenClassification(config).double()  # in training mode: dropout must not act


@pytest.fixture(scope="module")
def tokenizer() -> NucleotideKmerTokenizer:
    return NucleotideKmerTokenizer()


@pytest.fixture(scope="module")
def attribution(model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer) -> SequenceAttribution:
    return attribute_sequence(model, tokenizer, SEQUENCE, target=TARGET, steps=100, batch_size=7)


def function_and_embeddings(
    model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer
) -> tuple[TargetFunction, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The target, the ids, and the embeddings of the sequence and of <mask> in all places but that of <cls>."""
    model.eval()
    ids = encode_sequence(model, tokenizer, SEQUENCE).input_ids
    words = model.encoder.embeddings.word_embeddings.weight.detach()
    baseline = words[model.config.mask_token_id].expand(1, ids.shape[1], -1).clone()
    baseline[:, 0] = words[model.config.cls_token_id]
    return TargetFunction(model, TARGET), ids, words[ids], baseline


@pytest.mark.parity
def test_gradients_are_those_of_finite_differences(
    model: SegmentNTForTokenClassification,
    tokenizer: NucleotideKmerTokenizer,
    attribution: SequenceAttribution,
) -> None:
    function, ids, embeddings, baseline = function_and_embeddings(model, tokenizer)
    step = 1e-5
    gradient = torch.zeros_like(embeddings)
    with torch.no_grad():
        for place in np.ndindex(*embeddings.shape):
            there = torch.zeros_like(embeddings)
            there[place] = step
            gradient[place] = (function(embeddings + there, ids) - function(embeddings - there, ids)) / (2 * step)
    assert np.allclose(attribution.gradient_norm, gradient.norm(dim=-1)[0].numpy(), rtol=1e-4, atol=1e-7)
    expected = (gradient * (embeddings - baseline)).sum(-1)[0].numpy()
    assert np.allclose(attribution.gradient_times_input, expected, rtol=1e-4, atol=1e-7)
    assert np.abs(expected).max() > 1e-3


@pytest.mark.parity
def test_integrated_gradients_are_a_plain_sum_along_the_line(
    model: SegmentNTForTokenClassification,
    tokenizer: NucleotideKmerTokenizer,
    attribution: SequenceAttribution,
) -> None:
    function, ids, embeddings, baseline = function_and_embeddings(model, tokenizer)
    steps, total = 300, torch.zeros_like(embeddings)
    for step in range(steps):
        point = (baseline + (step + 0.5) / steps * (embeddings - baseline)).requires_grad_()
        total += torch.autograd.grad(function(point, ids).sum(), point)[0]
    expected = (total / steps * (embeddings - baseline)).sum(-1)[0].numpy()
    assert np.allclose(attribution.integrated_gradients, expected, rtol=1e-3, atol=1e-5)
    assert np.abs(expected).max() > 1e-2


@pytest.mark.parametrize("baseline", ["mask", "n"])
@pytest.mark.parametrize("quantity", ["log_odds", "probability"])
def test_integrated_gradients_are_complete(
    baseline: str, quantity: str, model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer
) -> None:
    target = SegmentationTarget("exon", 3, 20, quantity)  # type: ignore[arg-type]
    found = attribute_sequence(model, tokenizer, SEQUENCE, target=target, baseline=baseline, steps=150)  # type: ignore[arg-type]
    difference = found.target_value - found.baseline_value
    assert abs(difference) > 1e-4
    assert found.integrated_gradients.sum() == pytest.approx(difference, rel=1e-3)
    assert found.completeness_error < 1e-3
    assert found.integrated_gradients[0] == 0.0  # <cls> stays


def test_the_target_s_values_are_those_of_the_model(
    model: SegmentNTForTokenClassification,
    tokenizer: NucleotideKmerTokenizer,
    attribution: SequenceAttribution,
) -> None:
    function, ids, _, baseline = function_and_embeddings(model, tokenizer)
    with torch.no_grad():
        assert attribution.target_value == pytest.approx(function.of_tokens(ids).item())
        assert attribution.baseline_value == pytest.approx(function(baseline, ids).item())
    assert attribution.baseline_value != pytest.approx(attribution.target_value)


def test_tables_of_tokens_and_bases(attribution: SequenceAttribution) -> None:
    tokens, bases = attribution.tokens(), attribution.bases()
    assert "".join(tokens["token"]) == SEQUENCE == "".join(bases["base"])
    assert bases["position"].tolist() == list(range(len(SEQUENCE)))
    for method in ("gradient_times_input", "integrated_gradients"):
        assert bases.groupby("token_start")[method].sum().to_numpy() == pytest.approx(tokens[method].to_numpy())
    assert bases["gradient_norm"].iloc[:6].tolist() == [tokens["gradient_norm"].iloc[0]] * 6
    assert tokens["integrated_gradients"].sum() == pytest.approx(attribution.integrated_gradients.sum())


def test_too_few_steps_are_told(
    model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = attribute_sequence(model, tokenizer, SEQUENCE, target=TARGET, baseline="n", steps=1)
    assert found.completeness_error > 0.05
    assert "take more than 1 steps" in caplog.text


def test_bad_options(model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer) -> None:
    with pytest.raises(ValueError, match="baseline is 'random'; expected one of mask, n"):
        attribute_sequence(model, tokenizer, SEQUENCE, target=TARGET, baseline="random")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps is 0"):
        attribute_sequence(model, tokenizer, SEQUENCE, target=TARGET, steps=0)
    with pytest.raises(ValueError, match="of a sequence of 4"):
        attribute_sequence(model, tokenizer, "ACGT", target=TARGET)


def test_without_captum(
    model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(ImportError, match=r'pip install "omics-transformers\[interpret\]"'):
        attribute_sequence(model, tokenizer, SEQUENCE, target=TARGET)
