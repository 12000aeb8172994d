"""Options of end-to-end training: what is refused, and how to mend it."""

from typing import Any

import pytest

from omics_transformers.training.dna_encoder_arguments import DNAEncoderArguments

FILES = {"dna_model": "enformer", "genome": "genome.fa", "annotation": "genes.gtf"}


def test_nothing_is_asked_of_a_run_with_fixed_features() -> None:
    assert DNAEncoderArguments().targets == ["attention", "convolutions"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"genome": None, "annotation": None}, "genome, annotation not set: give the Enformer"),
        ({"windows_per_step": 0}, "windows_per_step is 0: expected a positive number"),
        ({"lora_rank": -1}, "lora_rank is -1"),
        ({"lora_targets": ["queries"]}, "names queries: expected attention, convolutions, feed_forward"),
        ({"tune_dna_model": "full", "save_adapter": True}, "has no adapter"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DNAEncoderArguments(**{**FILES, "tune_dna_model": "lora", **changes})
