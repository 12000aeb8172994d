"""Whether a run packs its cells, where it is left open."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from omics_transformers.training.dna_encoder_arguments import DNAEncoderArguments
from omics_transformers.training.pretraining_arguments import DataArguments, ModelArguments, PretrainingArguments
from omics_transformers.training.pretraining_setup import settle_packing


@pytest.mark.parametrize(
    ("lengths", "data", "model", "packed"),
    [
        ([200, 400], {}, {}, True),
        ([200, 300], {}, {}, False),
        ([200, 400], {"pad_to_multiple_of": 8}, {}, False),
        ([200, 400], {}, {"attn_implementation": "eager"}, False),
        ([200, 400], {"packed": False}, {}, False),
        ([5, 6], {"packed": True}, {}, True),
    ],
)
def test_long_cells_are_packed_on_a_cpu_unless_the_user_says_otherwise(
    tmp_path: Path, lengths: list[int], data: dict, model: dict, packed: bool
) -> None:
    cells = DataArguments(**data)
    training = PretrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    read = SimpleNamespace(training=SimpleNamespace(lengths=np.array(lengths)))
    settle_packing((ModelArguments(**model), cells, training, DNAEncoderArguments()), read)  # type: ignore[arg-type]
    assert cells.packed is packed
