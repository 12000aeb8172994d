"""The order of a stream: every cell once an epoch, ranges equal to a cell, batches within their sizes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omics_transformers.training.streaming_order import (
    HeldOutShare,
    StreamOrder,
    length_grouped_batches,
    token_budget_batches,
)


def cells_of(order: StreamOrder, rank: int, worker: int, epoch: int, buffer: int) -> list[tuple[int, int]]:
    return [
        (group, cell)
        for group, start, stop in order.segments(rank, worker, epoch, buffer)
        for cell in range(start, stop)
    ]


@settings(max_examples=50)
@given(
    groups=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    world_size=st.integers(1, 5),
    workers=st.integers(1, 3),
    buffer_cells=st.integers(1, 12),
    epoch=st.integers(0, 2),
    seed=st.integers(0, 5),
)
def test_ranges_hold_every_cell_once_and_are_equal_to_a_cell(
    groups: list[int], world_size: int, workers: int, buffer_cells: int, epoch: int, seed: int
) -> None:
    if sum(groups) < world_size * workers:
        with pytest.raises(ValueError, match="would have no cell; start fewer"):
            StreamOrder(np.array(groups), buffer_cells, world_size=world_size, workers=workers, seed=seed)
        return
    order = StreamOrder(np.array(groups), buffer_cells, world_size=world_size, workers=workers, seed=seed)
    found, sizes = [], []
    for rank in range(world_size):
        for worker in range(workers):
            buffers = [cells_of(order, rank, worker, epoch, buffer) for buffer in range(order.buffers)]
            assert max(map(len, buffers)) <= order.most_cells_of_buffer <= buffer_cells
            sizes.append(sum(map(len, buffers)))
            found += [cell for buffer in buffers for cell in buffer]
    assert sorted(found) == [(group, cell) for group, size in enumerate(groups) for cell in range(size)]
    assert max(sizes) - min(sizes) <= 1


def test_each_epoch_has_its_own_order_of_row_groups_and_each_seed() -> None:
    def first(epoch: int, seed: int = 0) -> list[tuple[int, int]]:
        return cells_of(StreamOrder(np.full(50, 4), 40, seed=seed), 0, 0, epoch, 0)

    assert first(0) == first(0)
    assert first(0) != first(1) != first(2)
    assert first(0) != first(0, seed=1)


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=60),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 3),
)
def test_grouped_batches_hold_a_buffer_once(lengths: list[int], batch_size: int, seed: int) -> None:
    sizes = np.array(lengths)
    order = StreamOrder(np.array([len(sizes)]), 1000, seed=seed)
    batches = length_grouped_batches(order, sizes, batch_size=batch_size, place=(0, 0, 0, 0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(sizes)))
    assert max(map(len, batches)) <= batch_size
    assert max(map(len, batches)) - min(map(len, batches)) <= 1
    by_length = sorted(batches, key=lambda batch: (-sizes[batch].max(), -sizes[batch].min()))
    for longer, shorter in pairwise(by_length):
        assert sizes[longer].min() >= sizes[shorter].max()


def test_batches_of_one_step_are_of_like_lengths_on_all_processes() -> None:
    random = np.random.default_rng(0)
    order = StreamOrder(np.full(8, 1000), 2000, world_size=4, workers=1)
    longest = []
    for rank in range(4):
        lengths = random.integers(100, 2000, order.most_cells_of_buffer)
        batches = length_grouped_batches(order, lengths, batch_size=20, place=(rank, 0, 0, 0))
        longest.append([int(lengths[batch].max()) for batch in batches])
    step = np.array(longest)  # (processes, steps)
    assert np.ptp(step, axis=0).mean() < 60
    assert np.abs(np.diff(step, axis=1)).mean() > 400  # and yet random from step to step


@given(
    lengths=st.lists(st.integers(1, 30), max_size=60),
    budget=st.integers(30, 100),
    seed=st.integers(0, 3),
)
def test_packed_batches_keep_to_the_budget(lengths: list[int], budget: int, seed: int) -> None:
    sizes = np.array(lengths, dtype=np.int64)
    order = StreamOrder(np.array([100]), 1000, seed=seed)
    batches = token_budget_batches(order, sizes, token_budget=budget, place=(0, 0, 0, 0))
    assert sorted(cell for batch in batches for cell in batch.tolist()) == list(range(len(sizes)))
    tokens = [int(sizes[batch].sum()) for batch in batches]
    assert all(0 < total <= budget for total in tokens)
    # All but the last two are as full as the next cell lets them be.
    assert all(total > budget - 30 for total in tokens[:-2])


def test_the_rest_of_a_buffer_is_shared_with_the_batch_before() -> None:
    order = StreamOrder(np.array([21]), 1000)
    batches = token_budget_batches(order, np.full(21, 5), token_budget=100, place=(0, 0, 0, 0))
    assert [len(batch) for batch in batches] == [10, 11]


def test_a_cell_beyond_the_budget_is_refused() -> None:
    order = StreamOrder(np.array([3]), 10)
    with pytest.raises(ValueError, match="a cell has 31 tokens, and token_budget is 30"):
        token_budget_batches(order, np.array([3, 31, 5]), token_budget=30, place=(0, 0, 0, 0))


def test_held_out_cells_are_a_fixed_share_by_number() -> None:
    share = HeldOutShare(0.1, seed=3)
    numbers = np.arange(20_000)
    held_out = share.held_out(numbers)
    assert held_out.mean() == pytest.approx(0.1, abs=0.01)
    assert (share.held_out(numbers[5_000:6_000]) == held_out[5_000:6_000]).all()
    assert (HeldOutShare(0.1, seed=4).held_out(numbers) != held_out).any()
    groups = np.array([7_000, 0, 13_000])
    assert share.streamed_cells(groups).tolist() == [(~held_out[:7_000]).sum(), 0, (~held_out[7_000:]).sum()]
    assert HeldOutShare(0.0).streamed_cells(groups).tolist() == groups.tolist()


def test_held_out_cells_of_more_groups_than_are_hashed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = np.array([5, 9, 0, 1, 30])
    share = HeldOutShare(0.3)
    at_once = share.streamed_cells(groups).tolist()
    monkeypatch.setattr("omics_transformers.training.streaming_order._CELLS_HASHED_AT_A_TIME", 7)
    assert share.streamed_cells(groups).tolist() == at_once


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_shares_that_are_none_are_refused(share: float) -> None:
    with pytest.raises(ValueError, match=f"share of held-out cells is {share}"):
        HeldOutShare(share)


@pytest.mark.parametrize("name", ["buffer_cells", "world_size", "workers"])
def test_sizes_must_be_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0: it must be at least 1"):
        StreamOrder(np.array([10]), **{"buffer_cells": 5, name: 0})
