"""Under FSDP2 inputs are left as they are; the whole way: test_run_mlm_processes.py."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from transformers import Trainer, TrainingArguments

from omics_transformers.training.sharded_precision import keep_inputs_in_float32


def test_inputs_are_not_cast_and_weights_are() -> None:
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
    plugin.set_mixed_precision("bf16")
    assert plugin.mixed_precision_policy.cast_forward_inputs  # torch's default
    keep_inputs_in_float32(SimpleNamespace(accelerator=SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin))))
    assert not plugin.mixed_precision_policy.cast_forward_inputs
    assert plugin.mixed_precision_policy.param_dtype == torch.bfloat16


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_without_fsdp_nothing_is_done(tmp_path: Path, precision: str) -> None:
    arguments = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, bf16=precision == "bf16", report_to="none", disable_tqdm=True
    )
    trainer = Trainer(model=torch.nn.Linear(2, 2), args=arguments)
    keep_inputs_in_float32(trainer)
    assert trainer.accelerator.mixed_precision == precision
