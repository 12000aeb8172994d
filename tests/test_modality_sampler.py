"""The mixed regime's order: one kind a step, data sets by their weights, walks without replacement, exact resuming."""

import json
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.training.modality_sampler import KINDS, CellDraw, Kind, ModalityBlockSampler

SIZES = st.dictionaries(
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 40), min_size=1),
    min_size=1,
)


def rows_of(sizes: dict[Kind, dict[str, int]]) -> dict[Kind, dict[str, np.ndarray]]:
    """Rows that tell kind and data set: 1000 a kind, 100 a data set."""
    return {
        kind: {name: np.arange(size) + 1000 * KINDS.index(kind) + 100 * "abc".index(name) for name, size in of.items()}
        for kind, of in sizes.items()
    }


def draws(sampler: ModalityBlockSampler, epochs: int = 1) -> list[CellDraw]:
    found: list[CellDraw] = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        found += sampler
    return found


@given(SIZES, st.integers(1, 7), st.integers(1, 3), st.integers(1, 3), st.integers(0, 5))
def test_each_step_has_one_kind_and_each_epoch_its_length(
    sizes: dict[Kind, dict[str, int]], batch_size: int, world_size: int, accumulation_steps: int, seed: int
) -> None:
    sampler = ModalityBlockSampler(
        rows_of(sizes), batch_size, world_size=world_size, accumulation_steps=accumulation_steps, seed=seed
    )
    found = draws(sampler)
    cells_a_step = batch_size * world_size * accumulation_steps
    cells = sum(sum(of.values()) for of in sizes.values())
    steps = len(found) // cells_a_step
    assert len(found) == len(sampler) == steps * cells_a_step
    assert steps % len(sizes) == 0 and 0 <= steps - max(cells // cells_a_step, 1) < len(sizes)
    kinds = [{draw.kind for draw in found[step * cells_a_step : (step + 1) * cells_a_step]} for step in range(steps)]
    assert kinds == [{list(sizes)[step % len(sizes)]} for step in range(steps)]  # in turn
    assert [draw.step for draw in found] == [place // (batch_size * world_size) for place in range(len(found))]
    assert all(draw.row // 1000 == KINDS.index(draw.kind) and draw.epoch == 0 for draw in found)


@given(SIZES, st.integers(1, 9), st.integers(0, 5), st.sampled_from([0.0, 0.5, 1.0]))
def test_each_data_set_is_walked_without_replacement_across_epochs(
    sizes: dict[Kind, dict[str, int]], batch_size: int, seed: int, exponent: float
) -> None:
    found = draws(ModalityBlockSampler(rows_of(sizes), batch_size, dataset_exponent=exponent, seed=seed), epochs=4)
    for kind, of in rows_of(sizes).items():
        for part in of.values():
            walk = [draw.row for draw in found if draw.kind == kind and draw.row in set(part.tolist())]
            passes = [walk[start : start + len(part)] for start in range(0, len(walk), len(part))]
            assert all(sorted(whole) == part.tolist() for whole in passes[:-1])
            times = Counter(walk)
            assert max(times.values(), default=0) - min(times[row] for row in part.tolist()) <= 1


@given(SIZES, st.integers(1, 9), st.integers(0, 3), st.integers(0, 200))
def test_goes_on_in_mid_epoch(sizes: dict[Kind, dict[str, int]], batch_size: int, epoch: int, stop: int) -> None:
    sampler = ModalityBlockSampler(rows_of(sizes), batch_size, seed=3)
    sampler.set_epoch(epoch)
    stop = min(stop, len(sampler) - 1)
    handed_out = list(islice(sampler, stop))
    state = json.loads(json.dumps(sampler.state_dict())) if stop else sampler.state_dict()
    other = ModalityBlockSampler(rows_of(sizes), batch_size, seed=3)
    other.load_state_dict(state)
    whole = ModalityBlockSampler(rows_of(sizes), batch_size, seed=3)
    whole.set_epoch(epoch)
    assert handed_out + list(other) == list(whole)
    assert len(list(other)) == len(whole)  # the next time from the start


def test_weights_of_data_sets_and_kinds() -> None:
    rows = {"rna": {"large": np.arange(900), "small": np.arange(900, 1000)}, "both": {"paired": np.arange(1000, 1100)}}
    for exponent, expected in ((1.0, 0.9), (0.5, 0.75), (0.0, 0.5)):
        sampler = ModalityBlockSampler(rows, 100, dataset_exponent=exponent)  # type: ignore[arg-type]
        assert sampler.dataset_shares("rna")["large"] == pytest.approx(expected)
        of_rna = [draw.row < 900 for draw in draws(sampler, epochs=20) if draw.kind == "rna"]
        assert np.mean(of_rna) == pytest.approx(expected, abs=0.02)  # 12,000 draws: 0.02 is over four deviations
    sampler = ModalityBlockSampler(rows, 10, kind_weights=[3, 1])  # type: ignore[arg-type]
    kinds = [draw.kind for draw in list(sampler)[::10]]
    assert Counter(kinds) == {"rna": 83, "both": 27} and len(kinds) == 110  # 82.5 and 27.5
    assert all(kinds[start : start + 5].count("both") in (1, 2) for start in range(0, 105, 5))
    rare = ModalityBlockSampler(rows, 1000, kind_weights=[1000, 1])  # type: ignore[arg-type]
    assert {draw.kind for draw in rare} == {"rna", "both"}  # none is left out


def test_seeds_epochs_and_kinds_differ_and_repeat() -> None:
    shared = {"rna": {"a": np.arange(50)}, "atac": {"a": np.arange(50)}}

    def order(seed: int, epoch: int) -> list[CellDraw]:
        sampler = ModalityBlockSampler(shared, 25, seed=seed)  # type: ignore[arg-type]
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 2) == order(1, 2)
    rows = {(seed, epoch): [draw.row for draw in order(seed, epoch)] for seed in (1, 2) for epoch in (0, 1)}
    assert len({tuple(found) for found in rows.values()}) == 4
    first = order(1, 0)
    assert [d.row for d in first if d.kind == "rna"] != [d.row for d in first if d.kind == "atac"]


def test_bad_input_is_named() -> None:
    rows: dict[Kind, dict[str, np.ndarray]] = {"rna": {"a": np.arange(5)}, "atac": {"a": np.arange(0)}}
    with pytest.raises(ValueError, match="no cells of the kind atac"):
        ModalityBlockSampler(rows, 2)
    rows["atac"] = {"b": np.arange(3)}
    for changes, message in (
        ({"batch_size": 0}, "batch_size is 0: it must be at least 1"),
        ({"world_size": 0}, "world_size is 0"),
        ({"dataset_exponent": 2.0}, r"dataset_exponent is 2\.0: expected 0"),
        ({"kind_weights": [1.0]}, r"kind_weights are 1\.0: expected a positive number for each of rna, atac"),
        ({"kind_weights": [1.0, -1.0]}, r"kind_weights are 1\.0, -1\.0"),
    ):
        with pytest.raises(ValueError, match=message):
            ModalityBlockSampler(rows, **{"batch_size": 2, **changes})  # type: ignore[arg-type]
    sampler = ModalityBlockSampler(rows, 2, seed=1)
    for changes, message in (
        ({"seed": 2}, "seed was 1 and is 2"),
        ({"batch_size": 3}, "batch_size was 2 and is 3"),
    ):
        other = ModalityBlockSampler(rows, **{"batch_size": 2, "seed": 1, **changes})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"cannot be resumed, since {message}"):
            other.load_state_dict(sampler.state_dict())
    moved = ModalityBlockSampler({**rows, "atac": {"b": np.arange(1, 4)}}, 2, seed=1)
    with pytest.raises(ValueError, match="cells_checksum was"):
        moved.load_state_dict(sampler.state_dict())
