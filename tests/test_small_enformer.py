"""The small random Enformer: the same seed gives the same weights, and its folder says what it is."""

from pathlib import Path

import pytest
import torch

from omics_transformers.modeling.modeling_enformer import EnformerForGeneFeatures
from omics_transformers.training.small_enformer import make_small_enformer


def test_the_same_seed_gives_the_same_model(tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    first = make_small_enformer(tmp_path / "a", seed=1, dim=48)
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's random numbers are untouched
    second = make_small_enformer(tmp_path / "b", seed=1, dim=48)
    other = make_small_enformer(tmp_path / "c", seed=2, dim=48)
    sequences = ["ACGT" * 64, "AACC" * 64]
    expected = first.gene_features(sequences)
    assert torch.equal(second.gene_features(sequences), expected)
    assert not torch.equal(other.gene_features(sequences), expected)
    loaded = EnformerForGeneFeatures.from_pretrained(tmp_path / "a").eval()
    assert torch.equal(loaded.gene_features(sequences), expected)
    assert loaded.config.weights_origin == "random, seed 1"
    assert "random weights" in (tmp_path / "a" / "README.md").read_text()


def test_attention_carries_what_lies_far_away(tmp_path: Path) -> None:
    """Beyond the convolutions' reach: enformer_pytorch's own start, where attention gives zero, would not."""
    model = make_small_enformer(tmp_path / "a", seed=0, dim=48)
    sequence = "ACGGTCAT" * 256
    with torch.no_grad():
        features = model.gene_features([sequence, "T" + sequence[1:]], pool=1)
    assert (features[0] - features[1]).abs().max() > 0


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        make_small_enformer(tmp_path / "a", seed=0, dim=100)
    with pytest.raises(ValueError, match="multiple of 6"):
        make_small_enformer(tmp_path / "a", seed=0, dim=64)
    make_small_enformer(tmp_path / "a", seed=0, dim=24)
    with pytest.raises(FileExistsError, match="holds a model"):
        make_small_enformer(tmp_path / "a", seed=0, dim=24)


def test_calibrated_predictions_tell_one_base_apart(tmp_path: Path) -> None:
    plain = make_small_enformer(tmp_path / "a", seed=0, dim=48, output_heads={"human": 2})
    model = make_small_enformer(tmp_path / "b", seed=0, dim=48, output_heads={"human": 2}, calibrated=True)
    again = make_small_enformer(tmp_path / "c", seed=0, dim=48, output_heads={"human": 2}, calibrated=True)
    sequence = "ACGGTCAT" * 512
    pair = [sequence, sequence[:2048] + "T" + sequence[2049:]]
    changes = []
    for one in (plain, model):
        with torch.no_grad():
            predicted = one.predicted_expression(pair, tracks=[0])[:, 0]
        changes.append(float((predicted[0] - predicted[1]).abs()))
    assert changes[1] > 10 * changes[0]
    assert torch.equal(again.gene_features(pair), model.gene_features(pair))
    assert torch.equal(plain.stem[0].weight, model.stem[0].weight)  # the same weights, other statistics
    assert not any(module.training for module in model.modules())
    loaded = EnformerForGeneFeatures.from_pretrained(tmp_path / "b").eval()
    assert torch.equal(loaded.gene_features(pair), model.gene_features(pair))
    assert loaded.config.weights_origin == "random, seed 0, calibrated on random DNA"
