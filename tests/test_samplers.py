"""The sampler's invariants, as properties."""

import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from omics_transformers.training.samplers import ShuffledLengthGroupedSampler

sizes = st.fixed_dictionaries(
    {
        "lengths": st.lists(st.integers(0, 50), min_size=1, max_size=200),
        "batch_size": st.integers(1, 9),
        "megabatch_size": st.integers(1, 80),
        "world_size": st.integers(1, 4),
        "seed": st.integers(0, 2**31),
    }
)


def make_sampler(sizes: dict) -> ShuffledLengthGroupedSampler:
    return ShuffledLengthGroupedSampler(
        sizes["lengths"],
        sizes["batch_size"],
        megabatch_size=sizes["megabatch_size"],
        world_size=sizes["world_size"],
        cells_per_step=sizes.get("cells_per_step"),
        complete_last_step=sizes.get("complete_last_step", False),
        seed=sizes["seed"],
    )


def realistic_lengths(cells: int, seed: int = 0) -> np.ndarray:
    """Genes a cell, log-normal and cut at 2,048, as in single-cell corpora."""
    return np.clip(np.random.default_rng(seed).lognormal(7, 0.6, cells), 50, 2048).astype(np.int64)


def padded_tokens(order: np.ndarray, lengths: np.ndarray, batch_size: int) -> int:
    """Tokens of all batches with their padding."""
    batches = [lengths[order[start : start + batch_size]] for start in range(0, len(order), batch_size)]
    return sum(int(batch.max()) * len(batch) for batch in batches)


@given(sizes, st.integers(0, 5))
def test_every_index_comes_once_an_epoch(sizes: dict, epoch: int) -> None:
    sampler = make_sampler(sizes)
    sampler.set_epoch(epoch)
    assert sorted(sampler) == list(range(len(sizes["lengths"])))
    assert len(sampler) == len(sizes["lengths"])


@given(sizes)
def test_same_order_on_every_rank_and_for_every_run(sizes: dict) -> None:
    assert list(make_sampler(sizes)) == list(make_sampler(sizes))


@given(sizes)
def test_ranks_see_like_lengths_in_the_same_step_and_take_as_many_steps(sizes: dict) -> None:
    """Dealt out by accelerate, the batches of one whole step are neighbours in length of one megabatch."""
    sampler, world = make_sampler(sizes), sizes["world_size"]
    batches = BatchSampler(sampler, sizes["batch_size"], drop_last=False)
    ranks = [list(BatchSamplerShard(batches, world, rank)) for rank in range(world)]
    assert len({len(rank) for rank in ranks}) == 1
    order, block = list(sampler), world * sizes["batch_size"]
    whole_steps = len(order) // block
    for step in range(whole_steps):
        together = [index for rank in ranks for index in rank[step]]
        assert together == order[step * block : (step + 1) * block]
        lengths = np.array(sizes["lengths"])[together]
        assert (np.diff(lengths) <= 0).all()
    assert {index for rank in ranks for batch in rank for index in batch} == set(order)


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=100),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 2**31),
)
def test_each_step_has_the_same_cells_however_it_is_split(
    lengths: list[int], batch_size: int, world_size: int, accumulation: int, seed: int
) -> None:
    """Dealt out by accelerate and accumulated, against one process that takes a whole step at once."""
    together = batch_size * world_size * accumulation
    group = batch_size * world_size
    common = {"megabatch_size": 2 * together, "cells_per_step": together, "complete_last_step": True, "seed": seed}
    common["length_group"] = group
    split = ShuffledLengthGroupedSampler(lengths, batch_size, world_size=world_size, **common)
    whole = ShuffledLengthGroupedSampler(lengths, together, **common)
    whole.require_settings(split.settings())
    batches = BatchSampler(split, batch_size, drop_last=False)
    ranks = [list(BatchSamplerShard(batches, world_size, rank)) for rank in range(world_size)]
    assert {len(rank) for rank in ranks} == {len(whole) // together * accumulation}
    for step, expected in enumerate(BatchSampler(whole, together, drop_last=False)):
        of_ranks = [rank[step * accumulation : (step + 1) * accumulation] for rank in ranks]
        assert sorted(cell for rank in of_ranks for batch in rank for cell in batch) == sorted(expected)
        # Every micro-batch is of neighbours in length over all ranks.
        micro_batches = [np.array(lengths)[np.concatenate(batches)] for batches in zip(*of_ranks, strict=True)]
        whole_groups = (len(lengths) - step * together) // group
        assert all((np.diff(batch) <= 0).all() for batch in micro_batches[: max(whole_groups, 0)])


def test_the_last_step_is_completed_with_the_first_cells() -> None:
    settings = {"lengths": range(1, 12), "batch_size": 4, "megabatch_size": 8, "world_size": 1, "seed": 0}
    order = list(make_sampler(settings))
    completed = make_sampler({**settings, "complete_last_step": True})
    assert list(completed) == [*order, order[0]]
    assert len(completed) == 12
    few = make_sampler({**settings, "lengths": [1, 2, 3], "batch_size": 8, "complete_last_step": True})
    assert sorted(np.bincount(list(few))) == [2, 3, 3]


@given(sizes, st.booleans(), st.integers(0, 300), st.integers(0, 3))
def test_resumes_in_mid_epoch(sizes: dict, complete: bool, taken: int, epoch: int) -> None:
    sizes = {**sizes, "complete_last_step": complete}
    unbroken = make_sampler(sizes)
    unbroken.set_epoch(epoch)
    expected = list(unbroken)
    taken = min(taken, len(expected) - 1)

    stopped = make_sampler(sizes)
    stopped.set_epoch(epoch)
    iterator = iter(stopped)
    first = [next(iterator) for _ in range(taken)]
    resumed = make_sampler(sizes)
    resumed.load_state_dict(stopped.state_dict())
    resumed.set_epoch(epoch)  # as accelerate calls it before each epoch
    assert first + list(resumed) == expected
    assert list(resumed) == expected  # the next pass is a whole one


def test_epochs_and_seeds_differ() -> None:
    lengths = realistic_lengths(500)
    sampler = ShuffledLengthGroupedSampler(lengths, 8, megabatch_size=80)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(ShuffledLengthGroupedSampler(lengths, 8, megabatch_size=80, seed=1)) != first


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_padding_is_within_a_tenth_of_fully_sorted_grouping(seed: int, world_size: int) -> None:
    """All tokens with padding, 5,000 cells in batches of 12: at most 1.1 times those of cells sorted by length."""
    lengths = realistic_lengths(5000, seed)
    order = np.array(list(ShuffledLengthGroupedSampler(lengths, 12, megabatch_size=1200, world_size=world_size)))
    fully_sorted = padded_tokens(np.argsort(-lengths), lengths, 12)
    assert padded_tokens(order, lengths, 12) <= 1.1 * fully_sorted
    assert padded_tokens(np.random.default_rng(seed).permutation(5000), lengths, 12) > 1.3 * fully_sorted


def test_mini_batches_of_a_megabatch_are_not_in_order_of_length() -> None:
    lengths = realistic_lengths(4800)
    sampler = ShuffledLengthGroupedSampler(lengths, 12, megabatch_size=1200)
    longest = lengths[np.array(list(sampler))].reshape(4, 100, 12).max(axis=2)  # (megabatch, mini-batch)
    ranks = longest.argsort(axis=1).argsort(axis=1)
    for correlation in (np.corrcoef(np.arange(100), row)[0, 1] for row in ranks):
        assert abs(correlation) < 0.3
    firsts = []
    for epoch in range(200):
        sampler.set_epoch(epoch)
        firsts.append(lengths[next(iter(sampler))])
    # The first mini-batch of an epoch is any, as uniform as the lengths themselves.
    assert abs(np.mean(firsts) - lengths.mean()) < 4 * lengths.std() / np.sqrt(200)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch_size": 4}, "cells_per_step was 3 and is 4"),
        ({"world_size": 2}, "cells_per_step was 3 and is 6"),
        ({"complete_last_step": True}, "complete_last_step was False and is True"),
        ({"seed": 7}, "seed was 0 and is 7"),
        ({"megabatch_size": 9}, "megabatch_size was 12 and is 9"),
        ({"lengths": [1, 2, 3, 4, 6]}, "lengths_checksum was"),
    ],
)
def test_refuses_the_state_of_other_settings(change: dict, named: str) -> None:
    settings = {"lengths": [1, 2, 3, 4, 5], "batch_size": 3, "megabatch_size": 12, "world_size": 1, "seed": 0}
    state = make_sampler(settings).state_dict()
    with pytest.raises(ValueError, match=named):
        make_sampler(settings | change).load_state_dict(state)


def test_refuses_steps_of_broken_batches() -> None:
    with pytest.raises(ValueError, match=r"cells_per_step is 10: .* multiple of batch_size \* world_size, 4 \* 2"):
        ShuffledLengthGroupedSampler([1] * 20, 4, megabatch_size=8, world_size=2, cells_per_step=10)


@pytest.mark.parametrize(("lengths", "batch_size", "named"), [([], 2, "shape"), ([1], 0, "batch_size is 0")])
def test_refuses_impossible_sizes(lengths: list[int], batch_size: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ShuffledLengthGroupedSampler(lengths, batch_size, megabatch_size=1)
