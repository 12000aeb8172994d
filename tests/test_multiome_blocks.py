"""A path of one block, and the layer between paths, against plain NumPy."""

import math

import numpy as np
import pytest
import torch

from omics_transformers.modeling.configuration_multiome_performer import MultiomePerformerConfig
from omics_transformers.modeling.multiome_blocks import MultiomePerformerCrossLayer, MultiomePerformerPath

SIZES = {"num_genes": 9, "hidden_size": 6, "num_attention_heads": 2, "head_dim": 5, "intermediate_size": 7}
error_function = np.vectorize(math.erf)


def make_module(kind: type, *arguments: object, **fields: object) -> torch.nn.Module:
    torch.manual_seed(0)
    module = kind(MultiomePerformerConfig(**SIZES, num_hidden_layers=1, **fields), *arguments)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module.double().eval()


def weights_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def norm(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def attention(
    x: np.ndarray, context: np.ndarray, mask: np.ndarray, weights: dict[str, np.ndarray], name: str
) -> np.ndarray:
    query, key, value = (
        linear(states, weights, f"{name}.{part}").reshape(*states.shape[:2], 2, 5)
        for states, part in ((x, "query"), (context, "key"), (context, "value"))
    )
    scores = np.einsum("bqad,bkad->baqk", query, key) / np.sqrt(5)
    shares = np.exp(scores - scores.max(-1, keepdims=True)) * mask[:, None, None]
    shares /= shares.sum(-1, keepdims=True)
    return linear(np.einsum("baqk,bkad->bqad", shares, value).reshape(*x.shape[:2], 10), weights, f"{name}.output")


def test_a_path_of_one_block_by_hand() -> None:
    path = make_module(MultiomePerformerPath, "rna", attention_type="sdpa")
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 7, (3, 9), generator=generator)
    mask = torch.rand(3, 9, generator=generator) > 0.3
    weights = weights_of(path)
    x = weights["embeddings.gene_embeddings.weight"] + weights["embeddings.value_embeddings.weight"][values.numpy()]
    normed = norm(x, weights, "layers.0.attention_norm")
    x = x + attention(normed, normed, mask.numpy(), weights, "layers.0.attention")
    inner = linear(norm(x, weights, "layers.0.feed_forward_norm"), weights, "layers.0.feed_forward.input")
    inner = inner * 0.5 * (1 + error_function(inner / np.sqrt(2)))
    x = x + linear(inner, weights, "layers.0.feed_forward.output")
    with torch.no_grad():
        (found,) = path(values, mask, None, None)
    np.testing.assert_allclose(found.numpy(), norm(x, weights, "final_norm"), atol=1e-10)


def test_the_layer_between_paths_by_hand() -> None:
    layer = make_module(MultiomePerformerCrossLayer, (0, 1), attention_type="sdpa")
    generator = torch.Generator().manual_seed(0)
    x, context = (torch.randn(2, genes, 6, dtype=torch.float64, generator=generator) for genes in (4, 9))
    mask = torch.rand(2, 9, generator=generator) > 0.3
    weights = weights_of(layer)
    expected = x.numpy() + attention(
        norm(x.numpy(), weights, "norm"),
        norm(context.numpy(), weights, "context_norm"),
        mask.numpy(),
        weights,
        "attention",
    )
    with torch.no_grad():
        np.testing.assert_allclose(layer(x, context, mask).numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_states_are_kept_on_request(pooling: str) -> None:
    path = make_module(MultiomePerformerPath, "atac", pooling=pooling)
    values = torch.randint(0, 7, (3, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        states = path(values, None, None, None, keeps_states=True)
        (last,) = path(values, None, None, None)
    assert [state.shape for state in states] == [(3, 9 + (pooling == "cls"), 6)] * 2
    assert torch.equal(states[-1], last)
    torch.testing.assert_close(states[0][:, -9:], path.embeddings(values, None, None))
