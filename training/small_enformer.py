"""A small Enformer with random weights, for tests, demos and trials.

Random convolutions keep much of the sequence: what one variant changes can be read from the difference to the reference
by a linear map. What a trained Enformer knows of regulation is not in them, and the folder's card says so.
"""

from pathlib import Path

import torch

from ..modeling.configuration_enformer import EnformerConfig
from ..modeling.modeling_enformer import EnformerForGeneFeatures

CALIBRATION_BP = 4_096


def make_small_enformer(
    output: str | Path,
    *,
    seed: int,
    dim: int = 96,
    depth: int = 2,
    heads: int = 4,
    output_heads: dict[str, int] | None = None,
    calibrated: bool = False,
    overwrite: bool = False,
) -> EnformerForGeneFeatures:
    """Draw the weights from a seed, save the model's folder, and return the model.

    Args:
        output: folder to write: config.json, model.safetensors, README.md and the model's code.
        seed: the same seed gives the same weights.
        dim: a multiple of 8; features of `final_pointwise` have twice as many numbers.
        depth: transformer layers.
        heads: `dim / heads` must be a multiple of 6.
        output_heads: tracks to predict, by name; one called `expression` by default.
        calibrated: give the batch norms the mean and variance that random DNA, drawn from the seed, has in this model.
            Without them signals fade from layer to layer, and predictions change by little more than rounding.
        overwrite: replace the model in the folder.

    Raises:
        ValueError: where the sizes do not fit each other.
        FileExistsError: where the folder holds a model and `overwrite` is false.
    """
    output = Path(output)
    if (output / "config.json").exists() and not overwrite:
        raise FileExistsError(f"{output} holds a model: name another folder, or pass overwrite to replace it")
    if dim % 8 or dim % heads or (dim // heads) % 6:
        raise ValueError(
            f"dim is {dim} with {heads} heads; dim must be a multiple of 8, and dim / heads a multiple of 6"
        )
    config = EnformerConfig(
        dim=dim,
        depth=depth,
        heads=heads,
        output_heads={"expression": 1} if output_heads is None else output_heads,
        target_length=-1,
        attn_dim_key=max(dim // heads // 2, 8),
        dim_divisible_by=dim // 8,
        weights_origin=f"random, seed {seed}{', calibrated on random DNA' * calibrated}",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = EnformerForGeneFeatures(config).eval()
        for layer in model.transformer:
            # Zero at first in enformer_pytorch, which would leave a random model without attention.
            layer[0].fn[1].to_out.reset_parameters()
    if calibrated:
        _calibrate(model, seed)
    model.save_pretrained(output)
    (output / "README.md").write_text(_CARD.format(seed=seed, dim=dim, depth=depth, heads=heads))
    return model


def _calibrate(model: EnformerForGeneFeatures, seed: int) -> None:
    """Set the statistics of batch norms to those of random DNA; dropout stays off."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the mean of all that it sees
        norm.train()
    bases = max(CALIBRATION_BP, model.bases_per_position)
    letters = torch.randint(0, 4, (2, bases), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        model.gene_features(torch.eye(4)[letters])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


_CARD = """---
library_name: transformers
tags:
- biology
- genomics
---
# A small Enformer with random weights

Weights drawn from seed {seed}, not trained: {depth} layers, {dim} channels, {heads} heads. For tests, demos and
trials only. Its features tell sequences apart; they hold no knowledge of regulation.
"""
