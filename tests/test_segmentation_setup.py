"""What a run trains on, and the model: windows with many N, rescaling, class weights, encoders, LoRA."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.modeling_nucleotide_transformer import NucleotideTransformerForMaskedLM
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.training.encoder_setup import load_tokenizer, rescale_positions
from omics_transformers.training.segmentation_arguments import SegmentationDataArguments, SegmentationModelArguments
from omics_transformers.training.segmentation_data import SegmentationCollator, Segments, read_segments
from omics_transformers.training.segmentation_setup import (
    SegmentationData,
    class_weights,
    make_segmentation_config,
    make_segmentation_model,
    prepare_segmentation_data,
)

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TOKENIZER = NucleotideKmerTokenizer()


@pytest.fixture(scope="module")
def segments(toy_segments: Path) -> Segments:
    return read_segments(toy_segments)


def prepare(segments: Segments, *, max_tokens: int = 2048, **changes: Any) -> SegmentationData:
    return prepare_segmentation_data(SegmentationDataArguments(**changes), segments, TOKENIZER, max_tokens=max_tokens)


def test_uses_all_windows_unless_told_otherwise(segments: Segments) -> None:
    data = prepare(segments, block_bp=1000)
    assert (len(data.training), len(data.validation or []), len(data.test or [])) == (160, 24, 48)
    assert (data.window_bp, data.longest_tokens) == (240, 41)
    assert data.training.block_of is None
    assert data.test is not None and data.test.block_of is not None
    np.testing.assert_array_equal(data.test.block_of, np.arange(48) * 240 // 1000)
    fewer = prepare(segments, validation_windows=3, test_windows=5)
    assert fewer.during_training is not None and fewer.test is not None
    assert fewer.during_training.numbers.tolist() == [0, 12, 23]
    assert (len(fewer.validation or []), len(fewer.test)) == (24, 5)
    assert fewer.report["test_windows_evaluated"] == 5
    with pytest.raises(ValueError, match="test_windows is 0"):
        prepare(segments, test_windows=0)


def test_leaves_out_windows_that_their_n_make_too_long(segments: Segments, caplog: pytest.LogCaptureFixture) -> None:
    """Of 240 bp with 5 N at 100 there are 1 + 16 + 4 + 5 + 22 + 3 tokens, elsewhere 41."""
    with caplog.at_level(logging.WARNING):
        data = prepare(segments, max_tokens=50)
    assert "20 of 160 train windows are left out" in caplog.text and "first chrA:1-240" in caplog.text
    assert data.report["train_windows"] == 140
    assert data.report["train_windows_left_out_for_their_n"] == 20
    assert (data.training.numbers % 8 != 0).all() and len(data.training) == len(data.training_tokens) == 140
    kept = prepare(segments, max_tokens=51)
    assert kept.report["train_windows_left_out_for_their_n"] == 0
    assert sorted(set(kept.training_tokens.tolist())) == [41, 51]


@pytest.mark.parametrize("crop_bp", [7, 60, 239, 1000])
def test_no_piece_of_a_window_has_more_tokens_than_reckoned(segments: Segments, crop_bp: int) -> None:
    data = prepare(segments, crop_bp=crop_bp)
    assert data.window_bp == min(crop_bp, 240)
    collator = SegmentationCollator(TOKENIZER, crop_bp=crop_bp, reverse_complement=0.5)
    for epoch in range(5):
        data.training.set_epoch(epoch)
        tokens = collator([data.training[number] for number in range(160)])["attention_mask"].sum(1).numpy()
        assert (tokens <= data.training_tokens).all()


def test_positions_are_rescaled_where_windows_are_longer(segments: Segments, caplog: pytest.LogCaptureFixture) -> None:
    config = make_segmentation_config(SegmentationModelArguments(**TINY), segments)
    rescale_positions(config, 2048)
    assert config.rescaling_factor is None
    with caplog.at_level(logging.INFO):
        rescale_positions(config, 5001)
    assert config.rescaling_factor == 5001 / 2048
    assert "rescaling_factor is set from None to 2.4419" in caplog.text
    rescale_positions(config, 3000)
    assert config.rescaling_factor == 5001 / 2048
    learned = make_segmentation_config(SegmentationModelArguments(**TINY), segments)
    learned.position_embedding_type = "absolute"
    with pytest.raises(ValueError, match="windows of at most 12,282 bp"):
        rescale_positions(learned, 5001)


def test_class_weights_balance_present_and_absent_bases(segments: Segments, caplog: pytest.LogCaptureFixture) -> None:
    present, scored = segments.positive_bases["train"][:2], segments.scored_bases["train"]
    with caplog.at_level(logging.WARNING):
        balanced, root = class_weights(segments, "balanced"), class_weights(segments, "sqrt_balanced")
    np.testing.assert_allclose(balanced, [*(scored - present) / present, 1.0])
    np.testing.assert_allclose(root, np.sqrt(balanced))  # type: ignore[arg-type]
    assert class_weights(segments, "none") is None
    assert "no training base carries absent: its class weight is 1" in caplog.text


@pytest.mark.parametrize("kind", ["none", "sqrt_balanced", "balanced"])
def test_the_untrained_head_gives_what_a_constant_would_settle_at(segments: Segments, kind: str) -> None:
    """With balanced weights one half, without weights the share of bases."""
    arguments = SegmentationModelArguments(**TINY, class_weights=kind)  # type: ignore[arg-type]
    config = make_segmentation_config(arguments, segments)
    model = make_segmentation_model(arguments, config, segments)
    model.get_parameter("classifier.weight").data.zero_()
    tokens = TOKENIZER(["ACGTTGCAAT"], return_tensors="pt")
    found = model(**tokens).logits.softmax(-1)[0, :, :, 1].detach().numpy()
    frequency = segments.frequencies("train")
    expected = {"none": frequency, "balanced": [0.5, 0.5, 0.0]}.get(kind)
    if expected is None:
        expected = np.sqrt(frequency / (1 - frequency)) / (1 + np.sqrt(frequency / (1 - frequency)))
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=2e-6)
    half = make_segmentation_model(SegmentationModelArguments(**TINY, initial_probabilities="half"), config, segments)
    assert not half.get_parameter("classifier.bias").any()


def test_encoder_brings_its_weights_sizes_and_tokenizer(tmp_path: Path, segments: Segments) -> None:
    source = NucleotideTransformerForMaskedLM(
        NucleotideTransformerConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
                                    rescaling_factor=1.5, max_position_embeddings=1026)
    )  # fmt: skip
    source.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    arguments = SegmentationModelArguments(encoder=str(tmp_path), freeze_encoder=True, unet_channels=[8])
    config = make_segmentation_config(arguments, segments, window_bp=240)
    assert (config.hidden_size, config.max_tokens, config.rescaling_factor) == (24, 1024, 1.5)
    assert (config.unet_channels, config.window_bp) == ([8], 240)
    assert list(config.id2label.values()) == segments.elements
    model = make_segmentation_model(arguments, config, segments)
    assert isinstance(model, SegmentNTForTokenClassification)
    for name, parameter in source.encoder.named_parameters():
        assert torch.equal(model.encoder.get_parameter(name), parameter)
        assert not model.encoder.get_parameter(name).requires_grad
    assert all(parameter.requires_grad for parameter in model.unet.parameters())
    assert load_tokenizer(str(tmp_path)).get_vocab() == TOKENIZER.get_vocab() == load_tokenizer(None).get_vocab()
    with pytest.raises(ValueError, match="hidden_size and encoder are both given"):
        make_segmentation_config(SegmentationModelArguments(encoder=str(tmp_path), hidden_size=8), segments)


def test_lora_trains_adapters_and_the_whole_head(segments: Segments) -> None:
    arguments = SegmentationModelArguments(**TINY, lora_rank=2, lora_targets=["key", "output"])
    config = make_segmentation_config(arguments, segments)
    model = make_segmentation_model(arguments, config, segments)
    assert isinstance(model, PeftModel)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[-4] for name in trained if "lora" in name} == {"key", "output"}
    encoder = [name for name in trained if ".encoder." in name]
    assert encoder and all(".attention." in name and ".lora_" in name for name in encoder)
    expected = sum(p.numel() for name, p in model.named_parameters() if "modules_to_save" in name)
    head = [p for name, p in model.named_parameters() if "original_module" in name]
    assert expected == sum(p.numel() for p in head)
    with pytest.raises(ValueError, match="freeze_encoder and lora_rank are both set"):
        make_segmentation_model(SegmentationModelArguments(**TINY, lora_rank=2, freeze_encoder=True), config, segments)


def test_refuses_encoders_of_other_packages(tmp_path: Path, segments: Segments) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "esm", "vocab_size": 4107}')
    with pytest.raises(ValueError, match="omics-transformers convert nucleotide-transformer"):
        make_segmentation_config(SegmentationModelArguments(encoder=str(tmp_path)), segments)


def test_random_encoders_begin_from_composed_embeddings(segments: Segments) -> None:
    def embeddings(**changes: Any) -> torch.Tensor:
        torch.manual_seed(0)
        arguments = SegmentationModelArguments(**TINY, initializer_range=0.1, **changes)
        model = make_segmentation_model(arguments, make_segmentation_config(arguments, segments), segments, seed=5)
        return model.get_parameter("encoder.embeddings.word_embeddings.weight")[6:4102].detach()

    composed, independent = embeddings(), embeddings(initial_embeddings="random")
    assert composed.std() == pytest.approx(0.1, rel=0.1) == independent.std()
    assert torch.linalg.matrix_rank(composed[:64]) <= 10 < torch.linalg.matrix_rank(independent[:64])
    assert torch.equal(composed, embeddings())


def test_trains_on_windows_that_hold_focus_elements_and_some_others(segments: Segments) -> None:
    """In the toy data every window has an island, none the absent element."""
    every = prepare(segments, focus_elements=["island", "absent"], background_share=0.0)
    assert every.report["train_windows_without_focus_elements_left_out"] == 0 and len(every.training) == 160
    some = prepare(segments, focus_elements=["absent"], background_share=0.25)
    left_out = some.report["train_windows_without_focus_elements_left_out"]
    assert len(some.training) == 160 - left_out == some.report["train_windows"] == len(some.training_tokens)
    assert 20 < len(some.training) < 60
    np.testing.assert_array_equal(
        prepare(segments, focus_elements=["absent"], background_share=0.25).training.numbers, some.training.numbers
    )
    with pytest.raises(ValueError, match="no training window is left"):
        prepare(segments, focus_elements=["absent"], background_share=0.0)
    with pytest.raises(ValueError, match="focus_elements has exon: expected some of island, island_start, absent"):
        prepare(segments, focus_elements=["exon"], background_share=0.5)
    with pytest.raises(ValueError, match=r"background_share is 0\.5 and focus_elements None"):
        prepare(segments, background_share=0.5)
