"""The focal loss against its formula in NumPy, and against the cross-entropy where gamma is 0."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from omics_transformers.modeling.focal_loss import focal_loss


def make_batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 30, 4, 2, generator=generator)
    labels = torch.randint(0, 2, (2, 30, 4), generator=generator)
    labels[:, 25:] = -100
    return logits, labels


@pytest.mark.parity
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 7.0]])
def test_the_loss_is_its_formula(gamma: float, weights: list[float] | None) -> None:
    logits, labels = make_batch()
    total, scored = 0.0, 0
    for place in np.ndindex(labels.shape):
        label = int(labels[place])
        if label == -100:
            continue
        numbers = logits[place].double().numpy()
        probability = (np.exp(numbers) / np.exp(numbers).sum())[label]
        weight = weights[place[-1]] if weights and label == 1 else 1.0
        total += -weight * (1 - probability) ** gamma * np.log(probability)
        scored += 1
    class_weights = None if weights is None else torch.tensor(weights)
    found = focal_loss(logits, labels, gamma, class_weights=class_weights)
    assert found.item() == pytest.approx(total / scored, abs=1e-5)


@pytest.mark.parity
def test_gamma_zero_is_the_cross_entropy() -> None:
    logits, labels = make_batch()
    expected = F.cross_entropy(logits.flatten(0, 2), labels.flatten(), ignore_index=-100)
    torch.testing.assert_close(focal_loss(logits, labels, 0.0), expected)


def test_nothing_scored_is_a_loss_of_zero_with_gradients() -> None:
    logits, labels = make_batch()
    loss = focal_loss(logits.requires_grad_(), torch.full_like(labels, -100))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[[-200.0, 200.0], [200.0, -200.0]]], requires_grad=True)
    focal_loss(logits, torch.tensor([[0, 0]])).backward()
    assert torch.isfinite(logits.grad).all()


def test_the_sum_is_divided_by_the_items_of_an_accumulated_step() -> None:
    logits, labels = make_batch()
    scored = int((labels != -100).sum())
    torch.testing.assert_close(focal_loss(logits, labels, num_items=2 * scored), focal_loss(logits, labels) / 2)
