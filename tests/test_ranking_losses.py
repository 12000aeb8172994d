"""The ranking losses against Rax on random lists with ties and masks, and what Rax does not have."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import gammaln

from omics_transformers.modeling.ranking_losses import RANKING_LOSSES, dense_ranks

rax = pytest.importorskip("rax")
jax = pytest.importorskip("jax")

Lists = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module", autouse=True)
def double_precision() -> Iterator[None]:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def approx_ndcg(scores: np.ndarray, labels: np.ndarray, **options: np.ndarray) -> object:
    """What rax.approx_t12n(rax.ndcg_metric) returns; that wrapper itself needs an older jax."""
    approximate = {"rank_fn": rax.utils.approx_ranks, "cutoff_fn": rax.utils.approx_cutoff}
    return -rax.ndcg_metric(scores, labels, **approximate, **options)


RAX: dict[str, Callable] = {
    "softmax": rax.softmax_loss,
    "pairwise_logistic": rax.pairwise_logistic_loss,
    "listmle": rax.listmle_loss,
    "approx_ndcg": approx_ndcg,
}


@st.composite
def lists(draw: st.DrawFn) -> Lists:
    """Few shapes, since Rax is compiled for each; scores and labels of few values, so that there are ties."""
    shape = draw(st.sampled_from([(4, 3), (3, 7)]))
    scores = draw(arrays.arrays(np.float64, shape, elements=st.integers(-40, 40).map(lambda n: n / 8)))
    labels = draw(arrays.arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0])))
    mask = draw(arrays.arrays(np.bool_, shape))
    return scores, labels, mask


@pytest.mark.parity
@pytest.mark.parametrize("name", RAX)
@given(batch=lists())
def test_the_loss_is_that_of_rax(name: str, batch: Lists) -> None:
    scores, labels, mask = batch
    expected = jax.jit(RAX[name])(scores, labels, where=mask)
    found = RANKING_LOSSES[name](*map(torch.from_numpy, batch))
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(float(expected), abs=1e-6)
    unmasked = RANKING_LOSSES[name](torch.from_numpy(scores), torch.from_numpy(labels))
    assert unmasked.item() == pytest.approx(float(jax.jit(RAX[name])(scores, labels)), abs=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("name", RAX)
def test_the_gradient_is_that_of_rax(name: str) -> None:
    random = np.random.default_rng(0)
    scores, labels = random.normal(size=(6, 5)), random.choice([0.0, 0.4, 2.0], (6, 5))
    mask = random.random((6, 5)) < 0.8
    mask[:, 0] = True  # Rax has no gradient at lists of nothing
    expected = jax.jit(jax.grad(RAX[name]))(scores, labels, where=mask)
    ours = torch.from_numpy(scores).requires_grad_()
    RANKING_LOSSES[name](ours, torch.from_numpy(labels), torch.from_numpy(mask)).backward()
    np.testing.assert_allclose(ours.grad.numpy(), np.asarray(expected), atol=1e-6)


@pytest.mark.parity
def test_float32_agrees_with_float64() -> None:
    random = np.random.default_rng(1)
    scores, labels = torch.from_numpy(random.normal(size=(64, 3))), torch.from_numpy(random.poisson(1.0, (64, 3)))
    for name, loss in RANKING_LOSSES.items():
        assert loss(scores.float(), labels).item() == pytest.approx(loss(scores, labels).item(), rel=1e-5), name


@pytest.mark.parity
def test_poisson_is_its_formula() -> None:
    random = np.random.default_rng(0)
    scores, labels, mask = random.normal(size=(5, 4)), random.gamma(1.0, size=(5, 4)), random.random((5, 4)) < 0.6
    mask[2] = False
    losses = np.exp(scores) - labels * scores + gammaln(labels + 1)
    expected = (losses * mask).sum() / mask.any(1).sum()
    found = RANKING_LOSSES["poisson"](*map(torch.from_numpy, (scores, labels, mask)))
    assert found.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", RANKING_LOSSES)
def test_nothing_to_rank_is_a_loss_of_zero_with_gradients(name: str) -> None:
    scores = torch.randn(2, 3).requires_grad_()
    loss = RANKING_LOSSES[name](scores, torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and not scores.grad.any()


@pytest.mark.parametrize("name", RANKING_LOSSES)
def test_masked_regions_have_no_part(name: str) -> None:
    scores, labels = torch.randn(3, 5), torch.tensor([0.0, 1.0, 2.0, 1.0, 0.0]).repeat(3, 1)
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[:, 3:] = False
    kept = RANKING_LOSSES[name](scores[:, :3], labels[:, :3])
    for filler in (-100.0, 1e6):
        changed, other = scores.clone(), labels.clone()
        changed[:, 3:], other[:, 3:] = filler, filler
        changed.requires_grad_()
        found = RANKING_LOSSES[name](changed, other, mask)
        found.backward()
        torch.testing.assert_close(found, kept)
        assert torch.isfinite(changed.grad).all() and not changed.grad[:, 3:].any()


@pytest.mark.parametrize("name", RANKING_LOSSES)
def test_the_right_order_costs_less(name: str) -> None:
    labels = torch.tensor([[0.0, 1.0, 3.0]])
    right, wrong = torch.tensor([[-1.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0, -1.0]])
    assert RANKING_LOSSES[name](right, labels) < RANKING_LOSSES[name](wrong, labels)


@pytest.mark.parametrize("name", ["softmax", "pairwise_logistic", "listmle", "approx_ndcg"])
def test_large_scores_and_counts_stay_finite(name: str) -> None:
    scores = torch.tensor([[300.0, -300.0, 0.0]], requires_grad=True)
    loss = RANKING_LOSSES[name](scores, torch.tensor([[0.0, 900.0, 1000.0]]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(scores.grad).all()


@pytest.mark.parametrize("name", RANKING_LOSSES)
def test_losses_are_float32_under_autocast(name: str) -> None:
    scores, labels = torch.randn(8, 3), torch.rand(8, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = RANKING_LOSSES[name](scores, labels)
    assert found.dtype == torch.float32
    assert torch.equal(found, RANKING_LOSSES[name](scores, labels))
    assert RANKING_LOSSES[name](scores.bfloat16(), labels).dtype == torch.float32


@given(lists())
def test_dense_ranks_are_those_of_the_different_values(batch: Lists) -> None:
    _, labels, mask = batch
    expected = np.zeros_like(labels)
    for row, kept in enumerate(mask):
        expected[row, kept] = np.searchsorted(np.unique(labels[row, kept]), labels[row, kept])
    np.testing.assert_array_equal(dense_ranks(torch.from_numpy(labels), torch.from_numpy(mask)), expected)


def test_dense_ranks_without_a_mask() -> None:
    labels = torch.tensor([[0.0, 0.25, 0.0, 7.5], [2.0, 1.0, 1.0, 1.0]])
    assert dense_ranks(labels).tolist() == [[0, 1, 0, 2], [1, 0, 0, 0]]
