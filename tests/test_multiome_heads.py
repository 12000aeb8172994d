"""Losses by plain loops, and what the heads see of genes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from omics_transformers.modeling.configuration_multiome_performer import MultiomePerformerConfig
from omics_transformers.modeling.multiome_heads import (
    ConvolutionalClassifier,
    LinearClassifier,
    classification_loss,
    reconstruction_loss,
)


def test_reconstruction_is_averaged_over_the_values_of_a_cell_and_then_over_cells() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 6, generator=generator)
    labels = torch.randint(0, 6, (9,), generator=generator)
    cells = torch.tensor([0, 0, 0, 0, 0, 0, 2, 2, 3])  # cell 1 has none
    probabilities = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    of_cells = [
        -np.mean([np.log(probabilities[row, labels[row]]) for row in range(9) if cells[row] == cell])
        for cell in (0, 2, 3)
    ]
    found = reconstruction_loss(logits, labels, cells=cells, num_cells=4)
    assert found.item() == pytest.approx(np.mean(of_cells), rel=1e-6)


def test_nothing_to_reconstruct_is_a_loss_of_zero_with_a_gradient() -> None:
    logits = torch.zeros(0, 6, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    loss = reconstruction_loss(logits, none, cells=none, num_cells=3)
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None


def test_classes_are_weighted_and_some_cells_are_not_scored() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    labels, weights = torch.tensor([2, -100, 0, 2]), torch.tensor([1.0, 5.0, 0.5])
    expected = F.cross_entropy(logits, labels, weight=weights)
    torch.testing.assert_close(classification_loss(logits, labels, weights), expected)
    torch.testing.assert_close(classification_loss(logits, labels), F.cross_entropy(logits, labels))
    torch.testing.assert_close(classification_loss(logits, labels, num_items=6), F.cross_entropy(logits, labels) / 2)
    assert classification_loss(logits, torch.full((4,), -100)).item() == 0


def test_the_convolutional_head_knows_genes_by_their_column() -> None:
    config = MultiomePerformerConfig(num_genes=7, hidden_size=4, num_labels=3)
    torch.manual_seed(0)
    head = ConvolutionalClassifier(config)
    states = torch.randn(2, 7, 4)
    weight, bias = head.convolution.weight[0, :, 0], head.convolution.bias
    hidden = F.gelu(states @ weight + bias)
    expected = head.third(F.relu(head.second(F.relu(head.first(hidden)))))
    torch.testing.assert_close(head(states, None), expected)
    assert not torch.allclose(head(states.flip(1), None), expected)
    assert (head.first.weight.shape, head.second.weight.shape) == ((512, 7), (128, 512))
    mask = torch.tensor([[True] * 6 + [False]] * 2)
    changed = states.clone()
    changed[:, 6] += 1.0
    assert torch.equal(head(states, mask), head(changed, mask))
    assert not torch.equal(head(states, None), head(states, mask))
    with pytest.raises(ValueError, match=r'6 genes are given.*takes all 7 of the model.*classification_head="linear"'):
        head(states[:, :6], None)


def test_the_linear_head_is_one_layer() -> None:
    head = LinearClassifier(MultiomePerformerConfig(hidden_size=4, num_labels=3, classifier_dropout=0.5)).eval()
    states = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(head(states), states @ head.output.weight.T + head.output.bias)
    assert not torch.equal(head.train()(states), head.eval()(states))
