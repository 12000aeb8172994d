"""The four heads: published sizes, layouts against plain code, padding, and how they begin."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from omics_transformers.modeling.accessibility_scorers import (
    SCORERS,
    AccessibilityScorer,
    TransformerScorer,
    make_scorer,
)
from omics_transformers.modeling.configuration_nt_region_ranker import NTRegionRankerConfig
from omics_transformers.modeling.modeling_nt_region_ranker import NTRegionRanker

HIDDEN, TOKENS = 20, 37
PUBLISHED = {"linear": 256_513, "transformer": 2_881_793, "unet": 16_778_241, "convolutional": 2_033_041}


@pytest.fixture(params=SCORERS)
def scorer(request: pytest.FixtureRequest) -> Iterator[AccessibilityScorer]:
    yield random_scorer(request.param)


def random_scorer(head: str) -> AccessibilityScorer:
    torch.manual_seed(0)
    scorer = make_scorer(head, HIDDEN, num_tokens=TOKENS).eval()
    for parameter in scorer.parameters():  # biases and norms too
        nn.init.normal_(parameter, mean=0.05, std=0.2)
    return scorer


def make_batch(regions: int = 4, tokens: int = TOKENS, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """States, and a mask with padding in front of a region's tokens and behind them."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(regions, tokens, HIDDEN, generator=generator)
    column = torch.arange(tokens)
    starts = torch.randint(1, tokens // 2, (regions, 1), generator=generator)
    ends = starts + torch.randint(1, tokens // 2, (regions, 1), generator=generator)
    return states, (column == 0) | ((column >= starts) & (column < ends))


@pytest.mark.parametrize("head", SCORERS)
def test_the_published_sizes_have_the_published_number_of_parameters(head: str) -> None:
    with torch.device("meta"):
        scorer = make_scorer(head, 512, num_tokens=501)
    assert sum(parameter.numel() for parameter in scorer.parameters()) == PUBLISHED[head]


@pytest.mark.parametrize("head", SCORERS)
@pytest.mark.parametrize("tokens", [16, 18, 50])
def test_any_size_is_taken(head: str, tokens: int) -> None:
    scorer = make_scorer(head, 16, num_tokens=tokens)
    found = scorer(torch.randn(3, tokens, 16), torch.ones(3, tokens, dtype=torch.bool))
    assert found.shape == (3,) and found.dtype == torch.float32


def test_what_the_encoder_left_at_padding_has_no_influence(scorer: AccessibilityScorer) -> None:
    states, mask = make_batch()
    other = torch.where(mask.unsqueeze(2), states, torch.nan)
    zeroed = torch.where(mask.unsqueeze(2), states, 0.0)
    expected = scorer(zeroed, mask)
    assert torch.equal(scorer(other, mask), expected) and torch.equal(scorer(states, mask), expected)


def test_fewer_tokens_are_scored_as_if_padding_followed(scorer: AccessibilityScorer) -> None:
    states, mask = make_batch(tokens=22)
    missing = TOKENS - 22
    padded = scorer(F.pad(states, (0, 0, 0, missing), value=9.0), F.pad(mask, (0, missing)))
    assert torch.equal(scorer(states, mask), padded)


def test_more_tokens_are_refused(scorer: AccessibilityScorer) -> None:
    states, mask = make_batch(tokens=TOKENS + 1)
    with pytest.raises(ValueError, match="have 38 tokens with <cls>, and this scorer takes num_tokens = 37"):
        scorer(states, mask)


def test_each_region_is_scored_by_itself(scorer: AccessibilityScorer) -> None:
    states, mask = make_batch()
    together = scorer(states, mask)
    assert len(set(together.tolist())) == 4
    for row in range(4):
        torch.testing.assert_close(scorer(states[row : row + 1], mask[row : row + 1])[0], together[row])


def test_a_region_without_tokens_has_a_score_and_gradients(scorer: AccessibilityScorer) -> None:
    states, mask = make_batch(2)
    mask[1] = False
    states.requires_grad_()
    found = scorer(states, mask)
    found.sum().backward()
    assert torch.isfinite(found).all() and torch.isfinite(states.grad).all() and not states.grad[1].any()
    assert all(torch.isfinite(parameter.grad).all() for parameter in scorer.parameters())


def plain_attention_block(x: np.ndarray, state: dict[str, np.ndarray]) -> np.ndarray:
    """One block on the real tokens of one region, x (tokens, hidden)."""

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        normed = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        return normed * state[f"{name}.weight"] + state[f"{name}.bias"]

    normed = norm(x, "attention_norm")
    scores = linear(normed, "query") @ linear(normed, "key").T / np.sqrt(x.shape[1])
    weights = np.exp(scores - scores.max(1, keepdims=True))
    x = x + linear(weights / weights.sum(1, keepdims=True) @ linear(normed, "value"), "output")
    inner = torch.from_numpy(linear(norm(x, "feed_forward_norm"), "feed_forward.0"))
    return x + linear(F.gelu(inner).numpy(), "feed_forward.2")


@pytest.mark.parity
def test_the_transformer_is_the_plain_one() -> None:
    scorer = random_scorer("transformer")
    assert isinstance(scorer, TransformerScorer)
    states, mask = make_batch(1)
    state = {name: tensor.double().numpy() for name, tensor in scorer.state_dict().items()}
    x = (states[0].double().numpy() + state["position_embeddings.weight"])[mask[0].numpy()]
    for number in range(2):
        prefix = f"blocks.{number}."
        block = {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
        x = plain_attention_block(x, block)
    weights = state["readout.weight"].reshape(TOKENS, HIDDEN)[mask[0].numpy()]
    expected = (x * weights).sum() + state["readout.bias"][0]
    assert scorer(states, mask).item() == pytest.approx(expected, abs=1e-4)


def plain_convolution_and_pool(image: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """(channels in, rows, columns) -> (channels out, rows // 4, columns // 4); SiLU between."""
    channels_out, size = len(weight), weight.shape[-1]
    padded = np.pad(image, ((0, 0), (2, 2), (2, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    found = np.einsum("crxij,ocij->orx", windows, weight) + bias[:, None, None]
    found = found / (1 + np.exp(-found))
    rows, columns = found.shape[1] // 4, found.shape[2] // 4
    return found[:, : 4 * rows, : 4 * columns].reshape(channels_out, rows, 4, columns, 4).mean((2, 4))


@pytest.mark.parity
def test_the_convolutions_are_the_plain_ones() -> None:
    scorer = random_scorer("convolutional")
    states, mask = make_batch(1)
    state = {name: tensor.double().numpy() for name, tensor in scorer.state_dict().items()}
    image = np.where(mask[0].numpy()[:, None], states[0].double().numpy(), 0.0)[None]
    for name in ("first", "second"):
        image = plain_convolution_and_pool(image, state[f"{name}.weight"], state[f"{name}.bias"])
    assert image.shape == (8, 2, 1)
    dense = state["dense.weight"] @ image.ravel() + state["dense.bias"]
    expected = state["readout.weight"][0] @ (dense / (1 + np.exp(-dense))) + state["readout.bias"][0]
    assert scorer(states, mask).item() == pytest.approx(expected, abs=1e-4)


def test_linear_and_unet_end_in_a_weight_for_each_number() -> None:
    states, mask = make_batch()
    zeroed = torch.where(mask.unsqueeze(2), states, 0.0)
    linear = random_scorer("linear")
    expected = torch.einsum("rth,th->r", zeroed, linear.readout.weight.view(TOKENS, HIDDEN)) + linear.readout.bias
    torch.testing.assert_close(linear(states, mask), expected, atol=1e-5, rtol=1e-5)
    unet = random_scorer("unet")
    features = unet.unet(zeroed[:, 1:], mask[:, 1:])
    expected = torch.einsum("rth,th->r", features, unet.readout.weight.view(TOKENS - 1, HIDDEN)) + unet.readout.bias
    torch.testing.assert_close(unet(states, mask), expected, atol=1e-3, rtol=1e-4)


def test_scores_are_float32_under_autocast_and_with_bfloat16_weights(scorer: AccessibilityScorer) -> None:
    states, mask = make_batch()
    expected = scorer(states, mask)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = scorer(states, mask)
    half = scorer.to(torch.bfloat16)(states.to(torch.bfloat16), mask)
    scale = expected.abs().max()
    for found in (autocast, half):
        assert found.dtype == torch.float32
        assert (found - expected).abs().max() < 0.1 * scale


@pytest.mark.parametrize("head", SCORERS)
def test_scores_begin_near_zero_and_with_gradients(head: str) -> None:
    sizes = {"num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 32}
    torch.manual_seed(0)
    scorer = NTRegionRanker(NTRegionRankerConfig(scorer_head=head, num_tokens=101, **sizes)).scorer
    states = torch.randn(16, 101, 64, requires_grad=True)
    found = scorer(states, torch.ones(16, 101, dtype=torch.bool))
    found.sum().backward()
    assert found.abs().max() < 2 and found.std() > 1e-3
    assert states.grad.abs().mean() > 1e-6
