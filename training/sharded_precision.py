"""DNA features stay float32 where a sharded model computes in bfloat16.

FSDP2 with mixed precision casts every floating point input of the model, so also the DNA features of donors' variants:
a variant changes a feature by about as much as bfloat16 rounds it. The model casts behind its standardisation itself.
"""

import dataclasses

from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import Trainer


def keep_inputs_in_float32(trainer: Trainer) -> None:
    """Tell FSDP2 not to cast the model's inputs; without FSDP2, or without mixed precision, there is nothing to do."""
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    policy = getattr(plugin, "mixed_precision_policy", None)
    if isinstance(policy, MixedPrecisionPolicy):
        assert plugin is not None
        plugin.mixed_precision_policy = dataclasses.replace(policy, cast_forward_inputs=False)
