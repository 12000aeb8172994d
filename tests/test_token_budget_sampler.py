"""The invariants of batches of a token budget, as properties."""

import time
from typing import Any

import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from omics_transformers.training.token_budget_sampler import TokenBudgetBatchSampler


@st.composite
def settings_of_samplers(draw: st.DrawFn) -> dict[str, Any]:
    """Lengths from alike to one giant among dwarfs, with budgets from the smallest on."""
    steps = {"world_size": draw(st.integers(1, 3)), "accumulation": draw(st.integers(1, 3))}
    longest = draw(st.sampled_from([1, 2, 9, 300]))
    together = steps["world_size"] * steps["accumulation"]
    lengths = draw(st.lists(st.one_of(st.just(1), st.integers(1, longest)), min_size=together, max_size=120))
    lengths = lengths[: len(lengths) // together * together]  # never fewer cells than batches
    budget = max(lengths) * 2 + draw(st.integers(0, 600))
    return {"lengths": lengths, "token_budget": budget, **steps, "seed": draw(st.integers(0, 2**31))}


def make_sampler(settings: dict[str, Any]) -> TokenBudgetBatchSampler:
    options = {name: value for name, value in settings.items() if name not in ("lengths", "token_budget")}
    return TokenBudgetBatchSampler(settings["lengths"], settings["token_budget"], **options)


def realistic_lengths(cells: int) -> np.ndarray:
    """Genes a cell, log-normal and cut at 2,048, as in single-cell corpora."""
    return np.clip(np.random.default_rng(0).lognormal(7, 0.6, cells), 50, 2048).astype(np.int64)


@given(settings_of_samplers(), st.integers(0, 3))
def test_each_cell_comes_once_in_batches_within_the_budget(settings: dict[str, Any], epoch: int) -> None:
    sampler = make_sampler(settings)
    sampler.set_epoch(epoch)
    batches, lengths = list(sampler), np.array(settings["lengths"])
    assert sorted(cell for batch in batches for cell in batch) == list(range(len(lengths)))
    assert len(batches) == len(sampler)  # of every epoch
    assert len(batches) % (settings["world_size"] * settings["accumulation"]) == 0
    tokens = [int(lengths[batch].sum()) for batch in batches]
    assert min(tokens) > 0
    assert max(tokens) <= settings["token_budget"]
    assert max(tokens) < lengths.sum() / len(batches) + lengths.max()


@given(settings_of_samplers())
def test_each_step_has_the_same_batches_however_it_is_split(settings: dict[str, Any]) -> None:
    """Dealt out by accelerate; and all ranks take as many."""
    whole = make_sampler(
        {**settings, "world_size": 1, "accumulation": settings["world_size"] * settings["accumulation"]}
    )
    split, world = make_sampler(settings), settings["world_size"]
    whole.require_settings(split.settings())
    assert list(split) == list(whole)
    ranks = [list(BatchSamplerShard(split, world, rank, even_batches=False)) for rank in range(world)]
    assert {len(rank) for rank in ranks} == {len(whole) // world}
    assert [batch for step in zip(*ranks, strict=True) for batch in step] == list(whole)


@given(settings_of_samplers(), st.integers(0, 100), st.integers(0, 3))
def test_resumes_in_mid_epoch(settings: dict[str, Any], taken: int, epoch: int) -> None:
    unbroken, stopped, resumed = make_sampler(settings), make_sampler(settings), make_sampler(settings)
    unbroken.set_epoch(epoch)
    expected = list(unbroken)
    stopped.set_epoch(epoch)
    first = [batch for _, batch in zip(range(min(taken, len(expected) - 1)), stopped, strict=False)]
    resumed.load_state_dict(stopped.state_dict())
    resumed.set_epoch(epoch)  # as accelerate calls it before each epoch
    assert first + list(resumed) == expected
    assert list(resumed) == expected  # the next pass is a whole one


def test_counts_the_batches_that_it_handed_out() -> None:
    sampler = TokenBudgetBatchSampler([3] * 40, 12)
    iterator = iter(sampler)
    for handed_out in range(1, 4):
        next(iterator)
        assert sampler.state_dict()["position"] == handed_out


def test_ranks_carry_nearly_as_many_tokens() -> None:
    lengths = realistic_lengths(20_000)
    sampler = TokenBudgetBatchSampler(lengths, 16_384, world_size=4)
    tokens = np.array([lengths[batch].sum() for batch in sampler]).reshape(-1, 4)
    assert tokens.sum(axis=0).std() < 0.005 * tokens.sum(axis=0).mean()
    assert np.median(tokens.max(axis=1) / tokens.mean(axis=1)) < 1.1  # the rank that the others wait for
    assert tokens.mean() > 0.85 * 16_384


def test_epochs_and_seeds_differ_and_order_has_nothing_to_do_with_length() -> None:
    lengths = realistic_lengths(4000)
    sampler = TokenBudgetBatchSampler(lengths, 8192)
    first = [cell for batch in sampler for cell in batch]
    sampler.set_epoch(1)
    assert first != [cell for batch in sampler for cell in batch]
    assert first != [cell for batch in TokenBudgetBatchSampler(lengths, 8192, seed=1) for cell in batch]
    assert abs(np.corrcoef(lengths[first][1:], lengths[first][:-1])[0, 1]) < 0.06


def test_a_data_loader_takes_it() -> None:
    lengths = [4, 1, 3, 2, 2, 4]
    loader = DataLoader(range(6), batch_sampler=TokenBudgetBatchSampler(lengths, 8), collate_fn=list)
    batches = list(loader)
    assert sorted(cell for batch in batches for cell in batch) == list(range(6))
    assert len(batches) == len(loader) == 4


def test_a_million_cells_take_less_than_a_second() -> None:
    sampler = TokenBudgetBatchSampler(realistic_lengths(1_000_000), 16_384)
    start = time.process_time()
    assert sum(map(len, sampler)) == 1_000_000
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"token_budget": 14}, "token_budget was 12 and is 14"),
        ({"world_size": 2}, "batches_per_step was 1 and is 2"),
        ({"accumulation": 3}, "batches_per_step was 1 and is 3"),
        ({"seed": 7}, "seed was 0 and is 7"),
        ({"lengths": [1, 2, 3, 4, 6]}, "lengths_checksum was"),
    ],
)
def test_refuses_the_state_of_other_settings(change: dict[str, Any], named: str) -> None:
    settings = {"lengths": [1, 2, 3, 4, 5], "token_budget": 12, "world_size": 1, "accumulation": 1, "seed": 0}
    state = make_sampler(settings).state_dict()
    with pytest.raises(ValueError, match=named):
        make_sampler(settings | change).load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lengths": []}, "shape"),
        ({"lengths": [3, 0, 2, 0]}, "2 of 4 cells have no tokens"),
        ({"token_budget": 9}, "token_budget is 9, and the longest cell has 5 tokens: .* two, 10"),
        ({"world_size": 0}, "world_size is 0"),
        ({"accumulation": 0}, "accumulation is 0"),
        ({"world_size": 3, "accumulation": 2}, r"5 cells for 6 batches \(3 processes, 2 accumulated\)"),
    ],
)
def test_refuses_what_cannot_be_cut(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make_sampler({"lengths": [1, 2, 3, 4, 5], "token_budget": 12, **change})
