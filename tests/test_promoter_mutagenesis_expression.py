"""The reader of edits: the same numbers by incremental and by whole passes, its batches, its noise floor."""

from typing import Any

import numpy as np
import pytest
import torch

from omics_transformers.modeling.configuration_enformer import EnformerConfig
from omics_transformers.modeling.modeling_enformer import EnformerForGeneFeatures
from omics_transformers.pipelines.perturbation_dna import mutate_at_random
from omics_transformers.pipelines.promoter_mutagenesis_expression import PromoterReader, Tracks

WINDOW = 4096
REFERENCE = "".join(np.random.default_rng(0).choice(list("ACGT"), WINDOW))
EDITED = [mutate_at_random(REFERENCE, count=5, window_bp=200, seed=seed) for seed in range(7)]


class WholePasses:
    """A DNA model without `incremental`: the two functions that every one has."""

    def __init__(self, model: EnformerForGeneFeatures) -> None:
        self.model = model
        self.sizes: list[int] = []

    def gene_features(self, sequences: list[str], *, layer: str, pool: Any) -> torch.Tensor:
        return self.model.gene_features(sequences, layer=layer, pool=pool)  # type: ignore[arg-type]

    def predicted_expression(self, sequences: list[str], **settings: Any) -> torch.Tensor:
        self.sizes.append(len(sequences))
        return self.model.predicted_expression(sequences, **settings)


@pytest.fixture(scope="module")
def model() -> EnformerForGeneFeatures:
    """Weights and statistics with which one base changes predictions plainly."""
    torch.manual_seed(0)
    sizes = {"dim": 24, "depth": 1, "heads": 2, "attn_dim_key": 8, "dim_divisible_by": 12}
    model = EnformerForGeneFeatures(EnformerConfig(**sizes, output_heads={"human": 3}, target_length=-1))
    for module in (*model.stem.modules(), *model.conv_tower.modules()):
        if isinstance(module, torch.nn.BatchNorm1d):
            module.momentum = None  # statistics are the mean over what it has seen
        elif isinstance(module, torch.nn.Conv1d):
            torch.nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    with torch.no_grad():
        model.train().run_tower(torch.eye(4)[torch.randint(0, 4, (2, 4096))])
    return model.eval()


@pytest.mark.parity
def test_incremental_and_whole_passes_agree(model: EnformerForGeneFeatures) -> None:
    readers = [PromoterReader(one, REFERENCE, Tracks([2, 0]), batch_size=3) for one in (model, WholePasses(model))]
    with torch.no_grad():
        expected = model.predicted_expression(EDITED, tracks=[2, 0]).double().numpy()
        reference = model.predicted_expression([REFERENCE], tracks=[2, 0]).double().numpy()
        features = model.gene_features([REFERENCE, *EDITED], layer="transformer", pool=2).double().numpy()
    unit = np.linspace(0.5, 2, features.shape[1])
    for reader in readers:
        np.testing.assert_allclose(reader.expression(EDITED), expected, rtol=1e-5)
        found, sizes = reader.expression_and_feature_change(
            EDITED, layer="transformer", pool=2, standard_deviation=unit
        )
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        np.testing.assert_allclose(sizes, np.sqrt((((features[1:] - features[0]) / unit) ** 2).mean(axis=1)), rtol=1e-2)
        assert sizes.min() > 0.01
        change = np.log2((expected + 1) / (reference + 1)).mean(axis=1)
        np.testing.assert_allclose(reader.change(found), change, atol=1e-6)
        assert np.abs(change).max() > max(100 * reader.noise_floor, 0.01)
    assert readers[0].recomputed_share < 0.2 and readers[1].recomputed_share == 1


def test_batches(model: EnformerForGeneFeatures) -> None:
    whole = WholePasses(model)
    PromoterReader(whole, REFERENCE, Tracks([0]), batch_size=3).expression(EDITED)
    assert whole.sizes == [1, 3, 3, 3, 1]
    with pytest.raises(ValueError, match="batch_size is 0"):
        PromoterReader(whole, REFERENCE, Tracks([0]), batch_size=0)


def test_a_model_in_training_mode_is_put_into_evaluation(model: EnformerForGeneFeatures) -> None:
    found = PromoterReader(model.train(), REFERENCE, Tracks([0])).expression(EDITED[:1])
    assert not model.training
    np.testing.assert_array_equal(found, PromoterReader(model, REFERENCE, Tracks([0])).expression(EDITED[:1]))
