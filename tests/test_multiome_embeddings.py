"""What enters a path: gene tokens, learned or from features, and values."""

import numpy as np
import pytest
import torch

from omics_transformers.modeling.configuration_multiome_performer import MultiomePerformerConfig
from omics_transformers.modeling.multiome_embeddings import GeneFeatures, MultiomeEmbeddings


def test_a_gene_is_its_token_plus_its_value_whatever_the_column() -> None:
    torch.manual_seed(0)
    embeddings = MultiomeEmbeddings(MultiomePerformerConfig(num_genes=4, hidden_size=3))
    genes, values = embeddings.gene_embeddings.weight, embeddings.value_embeddings.weight
    assert values.shape == (7, 3)
    ids = torch.tensor([[0, 6], [5, 1]], dtype=torch.uint8)
    for positions in (torch.tensor([3, 1]), torch.tensor([[3, 1], [0, 2]])):
        found = embeddings(ids, positions, None)
        for cell in range(2):
            for column in range(2):
                gene = positions[column] if positions.dim() == 1 else positions[cell, column]
                torch.testing.assert_close(found[cell, column], genes[gene] + values[int(ids[cell, column])])
    everything = torch.tensor([[0, 1, 2, 3]])
    torch.testing.assert_close(embeddings(everything, None, None)[0], genes + values[:4])


def test_tokens_from_features_go_through_one_layer_and_a_softplus() -> None:
    torch.manual_seed(0)
    embeddings = MultiomeEmbeddings(MultiomePerformerConfig(num_genes=4, hidden_size=3, gene_feature_size=5))
    features, ids = torch.randn(4, 5), torch.zeros(1, 2, dtype=torch.int64)
    weight, bias = (x.detach().numpy() for x in (embeddings.gene_adapter.weight, embeddings.gene_adapter.bias))
    expected = (
        np.log1p(np.exp(features.numpy() @ weight.T + bias)) + embeddings.value_embeddings.weight[0].detach().numpy()
    )
    found = embeddings(ids, torch.tensor([2, 0]), features)[0].detach().numpy()
    np.testing.assert_allclose(found, expected[[2, 0]], atol=1e-6)


def test_features_are_brought_to_one_scale() -> None:
    table = GeneFeatures(6, 3)
    with pytest.raises(ValueError, match=r"no gene features yet: call set_gene_features.*\(6, 3\)"):
        table.require_set()
    features = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1e4, 0.0]) + 7
    table.set(features, None)
    found = table.require_set()
    torch.testing.assert_close(found.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]))


def test_wrong_features_are_named() -> None:
    table = GeneFeatures(3, 2)
    with pytest.raises(ValueError, match=r"shape \(2, 2\), and the model expects .* \(3, 2\)"):
        table.set(torch.zeros(2, 2), None)
    broken = torch.tensor([[0.0, 1.0], [torch.nan, 1.0], [2.0, 3.0]])
    with pytest.raises(ValueError, match=r"1 genes have features that are not finite, e.g. TP53"):
        table.set(broken, ["GATA1", "TP53", "SPI1"])
    with pytest.raises(ValueError, match=r"e\.g\. gene 1"):
        table.set(broken, None)
