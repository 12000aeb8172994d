"""Evaluation against a pass over all windows at once, and the learning rates of encoder and head."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.training.segmentation_arguments import (
    SegmentationArguments,
    SegmentationDataArguments,
    SegmentationModelArguments,
)
from omics_transformers.training.segmentation_data import SegmentationCollator, read_segments
from omics_transformers.training.segmentation_metric import SCORES, SegmentationMetric
from omics_transformers.training.segmentation_setup import (
    SegmentationData,
    make_segmentation_config,
    make_segmentation_model,
    prepare_segmentation_data,
)
from omics_transformers.training.segmentation_trainer import SegmentationTrainer

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TOKENIZER = NucleotideKmerTokenizer()


def make(
    toy_segments: Path, output: Path, *, encoder_learning_rate: float | None = None, **options: Any
) -> tuple[SegmentationTrainer, SegmentationData]:
    segments = read_segments(toy_segments)
    arguments = SegmentationModelArguments(**TINY, class_weights="sqrt_balanced")
    torch.manual_seed(0)
    model = make_segmentation_model(arguments, make_segmentation_config(arguments, segments), segments)
    data = prepare_segmentation_data(SegmentationDataArguments(block_bp=2000), segments, TOKENIZER, max_tokens=2048)
    trainer = SegmentationTrainer(
        model=model,
        args=SegmentationArguments(
            output_dir=str(output), use_cpu=True, report_to="none", disable_tqdm=True, seed=3, **options
        ),
        data_collator=SegmentationCollator(TOKENIZER),
        train_dataset=data.training,
        eval_dataset=data.during_training,
        elements=segments.elements,
        eval_collator=SegmentationCollator(TOKENIZER),
        train_tokens=data.training_tokens,
        encoder_learning_rate=encoder_learning_rate,
    )
    return trainer, data


@pytest.mark.parametrize("batch", [5, 24, 48])
def test_streamed_evaluation_is_that_of_all_windows_at_once(toy_segments: Path, tmp_path: Path, batch: int) -> None:
    """48 windows with N and ignored bases; in the last batch of 5 there are 3."""
    trainer, data = make(toy_segments, tmp_path, per_device_eval_batch_size=batch)
    assert data.test is not None
    everything = SegmentationCollator(TOKENIZER)([data.test[number] for number in range(48)])
    blocks = everything.pop("blocks")
    model = trainer.model
    assert isinstance(model, SegmentNTForTokenClassification)
    with torch.no_grad():
        outputs = model.eval()(**everything)
    expected = SegmentationMetric(data.segments.elements, [0.2, 0.01, 0.5], seed=3).compute(
        predictions=outputs.logits.softmax(-1)[..., 1], references=everything["labels"], blocks=blocks, resamples=20
    )
    trainer.thresholds, trainer.resamples = [0.2, 0.01, 0.5], 20
    logged = trainer.evaluate(data.test, metric_key_prefix="test")
    found = trainer.last_result
    assert found.pop("loss") == pytest.approx(outputs.loss.item(), rel=1e-5)
    assert (found["windows"], found["blocks"]) == (48, 6)
    for name, element in expected["elements"].items():
        for score, value in element.items():
            assert found["elements"][name][score] == pytest.approx(value, rel=1e-3, abs=1e-4, nan_ok=True)
    for score in SCORES:
        assert logged[f"test_{score}"] == found[score]
    assert logged["test_mcc_island"] == found["elements"]["island"]["mcc"]
    assert "test_mcc_absent" not in logged
    assert not any(np.isnan(value) for value in logged.values())


def test_encoder_and_head_have_their_own_learning_rates(toy_segments: Path, tmp_path: Path) -> None:
    trainer, _ = make(
        toy_segments, tmp_path, encoder_learning_rate=1e-4, learning_rate=1e-2, weight_decay=0.1, max_steps=2,
        save_strategy="no", lr_scheduler_type="constant", warmup_steps=0,
    )  # fmt: skip
    before = {name: parameter.clone() for name, parameter in trainer.model.named_parameters()}  # type: ignore[union-attr]
    trainer.train()
    groups = trainer.optimizer.param_groups
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    moved = {"encoder": 0.0, "head": 0.0}
    for name, parameter in trainer.model.named_parameters():  # type: ignore[union-attr]
        part = "encoder" if name.startswith("encoder.") else "head"
        assert rates[id(parameter)] == {"encoder": 1e-4, "head": 1e-2}[part], name
        assert decays[id(parameter)] == (0.0 if name.endswith("bias") or "norm" in name else 0.1), name
        moved[part] = max(moved[part], float((parameter - before[name]).detach().abs().max()))
    assert len(rates) == len(before)
    assert 0 < moved["encoder"] < 4e-4 < 1e-2 < moved["head"]


def test_one_learning_rate_by_default(toy_segments: Path, tmp_path: Path) -> None:
    trainer, _ = make(toy_segments, tmp_path, learning_rate=1e-2)
    assert {group["lr"] for group in trainer.create_optimizer().param_groups} == {1e-2}
