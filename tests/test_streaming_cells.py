"""Streams of cells: every cell once an epoch over all processes and workers, and an exact resume after any batch."""

import tempfile
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omics_transformers.training.collators import MaskedGeneCollator
from omics_transformers.training.masked_gene_data import MaskedGeneDataset, read_tokenised_cells
from omics_transformers.training.shard_files import open_shards
from omics_transformers.training.streamed_rows import CellPreparation
from omics_transformers.training.streaming_cells import StreamedBatch, StreamedCells, data_loader
from omics_transformers.training.streaming_order import HeldOutShare


def write_shards(folder: Path, sizes: list[int], *, row_group_size: int = 3, longest: int = 9) -> Path:
    """Shards of cells; the first gene tells cells apart."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    random, number = np.random.default_rng(0), 0
    for shard, size in enumerate(sizes):
        cells = [
            np.concatenate([[cell + 2], random.integers(2, 400, random.integers(longest))])
            for cell in range(number, number + size)
        ]
        number += size
        table = pa.table({"input_ids": pa.array(cells, pa.list_(pa.uint16()))})
        path = folder / "data" / f"train-{shard:05d}-of-{len(sizes):05d}.parquet"
        pq.write_table(table, path, row_group_size=row_group_size)
    return folder


def stream_of(folder: Path, **options: Any) -> StreamedCells:
    shards = open_shards(folder, vocabulary_size=400, skip_corrupt_shards=options.get("skip_corrupt_shards", False))
    if "token_budget" not in options:
        options.setdefault("batch_size", 4)
    return StreamedCells(shards, CellPreparation(400), **{"buffer_cells": 8, **options})


def epoch_of(stream: StreamedCells, epoch: int = 0) -> list[StreamedBatch]:
    """The batches of an epoch of a stream with one worker."""
    batches = []
    for batch in stream:
        if batch.place.epoch > epoch:
            break
        if batch.place.epoch == epoch:
            batches.append(batch)
    return batches


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    world_size=st.integers(1, 4),
    workers=st.integers(1, 2),
    packed=st.booleans(),
    share=st.sampled_from([0.0, 0.3]),
)
def test_every_cell_is_streamed_once_an_epoch(
    sizes: list[int], world_size: int, workers: int, packed: bool, share: float
) -> None:
    held_out = HeldOutShare(share)
    expected = np.flatnonzero(~held_out.held_out(np.arange(sum(sizes)))).tolist()
    if len(expected) < world_size * workers:
        return
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder), sizes)
        batching: dict[str, Any] = {"token_budget": 20} if packed else {"batch_size": 3}
        found = []
        for rank in range(world_size):
            stream = stream_of(
                Path(folder), rank=rank, world_size=world_size, workers=workers, held_out=held_out, **batching
            )
            for worker in range(workers):
                for _, place, batch in every_batch(stream, worker):
                    assert place == (worker, 0)
                    assert len(batch) <= 3 or packed
                    assert sum(len(cell.input_ids) for cell in batch) <= 20 or not packed
                    found += [(cell.number, int(cell.input_ids[0]) - 2) for cell in batch]
        assert sorted(number for number, _ in found) == expected
        assert all(number == told for number, told in found)


def every_batch(stream: StreamedCells, worker: int) -> list[tuple[int, tuple[int, int], list[Any]]]:
    """The first epoch of one of a stream's workers, as a data loader's process would see it."""
    stream._worker = lambda: worker  # type: ignore[method-assign]
    found = []
    for batch in stream:
        if batch.place.epoch:
            return found
        found.append((batch.place.batch, batch.place[:2], batch.cells))
    raise AssertionError("a stream ended")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def loaded(stream: StreamedCells, workers: int, n_batches: int) -> list[dict[str, torch.Tensor]]:
    loader = data_loader(stream, MaskedGeneCollator(vocab_size=400, seed=3), num_workers=workers)
    return list(islice(loader, n_batches))


@pytest.mark.parametrize("batching", [{"batch_size": 4}, {"token_budget": 30}])
@pytest.mark.parametrize(("workers", "stops"), [(0, range(0, 14, 2)), (2, (1, 6, 9))])
def test_a_killed_stream_goes_on_with_the_same_bytes(
    tmp_path: Path, batching: dict[str, int], workers: int, stops: list[int]
) -> None:
    write_shards(tmp_path, [11, 2, 0, 14])
    options: dict[str, Any] = {"workers": max(workers, 1), "seed": 5, "held_out": HeldOutShare(0.1), **batching}
    unbroken = loaded(stream_of(tmp_path, **options), workers, 16)
    assert len({int(batch["stream_place"][1]) for batch in unbroken}) > 1  # over the end of an epoch
    for stop in stops:
        stopped = stream_of(tmp_path, **options)
        for batch in unbroken[:stop]:  # trained on; the loader's workers were further
            stopped.trained_on(batch["stream_place"])
        resumed = stream_of(tmp_path, **options)
        resumed.load_state_dict(stopped.state_dict())
        rest = loaded(resumed, workers, 16 - stop)
        assert all(map(same, rest, unbroken[stop:]))
        assert len(rest) == 16 - stop


def test_iterating_anew_goes_on_behind_what_was_trained_on(tmp_path: Path) -> None:
    stream = stream_of(write_shards(tmp_path, [20]))
    first, second = islice(stream, 2)
    assert next(iter(stream)).place == first.place
    stream.trained_on(first.place)
    assert next(iter(stream)).place == second.place


def test_masks_are_those_of_the_cells_in_memory(toy_corpus: Path) -> None:
    shards = open_shards(toy_corpus, vocabulary_size=42)
    stream = StreamedCells(shards, CellPreparation(42), batch_size=8, buffer_cells=64)
    collator = MaskedGeneCollator(vocab_size=42, seed=3)
    in_memory = MaskedGeneDataset(read_tokenised_cells(toy_corpus), np.arange(240))
    for batch in epoch_of(stream, epoch=1)[:3]:
        in_memory.set_epoch(1)
        expected = collator(in_memory.__getitems__([cell.number for cell in batch.cells]))
        assert same(collator(batch.cells), expected)


def test_the_same_seed_gives_the_same_order_and_another_epoch_another(tmp_path: Path) -> None:
    write_shards(tmp_path, [30, 30])

    def numbers(seed: int, epoch: int) -> list[list[int | None]]:
        return [[cell.number for cell in batch.cells] for batch in epoch_of(stream_of(tmp_path, seed=seed), epoch)]

    assert numbers(0, 0) == numbers(0, 0)
    assert numbers(0, 0) != numbers(1, 0)
    assert numbers(0, 0) != numbers(0, 1)


def test_batches_of_like_lengths_only_where_they_are_padded(tmp_path: Path) -> None:
    folder = write_shards(tmp_path, [60, 60], row_group_size=60)
    spreads, seen = {}, {}
    for grouped in (True, False):
        batches = epoch_of(stream_of(folder, batch_size=6, buffer_cells=120, groups_by_length=grouped))
        spreads[grouped] = np.mean([np.ptp(batch.cells.lengths) for batch in batches])
        seen[grouped] = sorted(np.concatenate([batch.cells.numbers for batch in batches]).tolist())
    assert spreads[True] < 1 < 4 < spreads[False]
    assert seen[True] == seen[False] == list(range(120))


def test_more_processes_than_shards_share_them_evenly(tmp_path: Path) -> None:
    write_shards(tmp_path, [26, 24])
    streams = [stream_of(tmp_path, rank=rank, world_size=6) for rank in range(6)]
    epochs = [epoch_of(stream) for stream in streams]
    counts = [sum(len(batch.cells) for batch in epoch) for epoch in epochs]
    assert sum(counts) == 50
    assert set(counts) == {8, 9}
    # All processes end their epoch at the same step.
    assert len({len(epoch) for epoch in epochs}) == 1


def test_more_processes_than_cells_are_refused(tmp_path: Path) -> None:
    write_shards(tmp_path, [2, 3])
    with pytest.raises(ValueError, match=r"5 cells are left to stream, .* 3 processes with 2 .*: 1 of them would have"):
        stream_of(tmp_path, world_size=3, workers=2)


def test_a_process_without_usable_cells_says_why(tmp_path: Path) -> None:
    write_shards(tmp_path, [6])
    shards = open_shards(tmp_path, vocabulary_size=400)
    preparation = CellPreparation(400, new_ids=np.full(400, -1))
    stream = StreamedCells(shards, preparation, batch_size=2, buffer_cells=4)
    with pytest.raises(ValueError, match=r"process 0, data loader worker 0, found no usable cell in epoch 0.*genes"):
        next(iter(stream))


def test_corrupt_row_groups_are_refused_or_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_shards(tmp_path, [6, 9], row_group_size=6)
    path = tmp_path / "data" / "train-00001-of-00002.parquet"
    content = bytearray(path.read_bytes())
    content[4:60] = bytes(56)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"train-00001-of-00002\.parquet of .* is corrupt in its row group 0"):
        epoch_of(stream_of(tmp_path))
    stream = stream_of(tmp_path, skip_corrupt_shards=True)
    numbers = sorted(cell.number or 0 for batch in epoch_of(stream) for cell in batch.cells)
    assert numbers == [*range(6), 12, 13, 14]
    assert caplog.text.count("cells that cannot be read are left out: train-00001-of-00002.parquet") == 1
    report = stream.report()
    assert report["corrupt_shards"] == ["train-00001-of-00002.parquet"]
    assert report["cells"] == 15
    assert report["cells_of_corrupt_shards"] >= 6


def test_workers_report_what_they_read(tmp_path: Path) -> None:
    write_shards(tmp_path, [20])
    stream = stream_of(tmp_path, workers=2)
    loaded(stream, 2, 6)
    assert stream.report()["cells_read"] >= 20


def test_loading_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    stream = stream_of(write_shards(tmp_path, [20]))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    loaded(stream, 0, 3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 2}, "batch_size was 4 and is 2"),
        ({"buffer_cells": 9}, "buffer_cells was 8 and is 9"),
        ({"world_size": 2}, "world_size was 1 and is 2"),
        ({"workers": 3}, "workers was 1 and is 3"),
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"held_out": HeldOutShare(0.2)}, r"held_out_share was 0\.0 and is 0\.2"),
        ({"batch_size": None, "token_budget": 50}, "batch_size was 4 and is None; token_budget was None and is 50"),
    ],
)
def test_other_settings_are_refused_on_resuming(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    state = stream_of(write_shards(tmp_path, [20])).state_dict()
    with pytest.raises(ValueError, match=message):
        stream_of(tmp_path, **changed).load_state_dict(state)


def test_other_shards_are_refused_on_resuming(tmp_path: Path) -> None:
    state = stream_of(write_shards(tmp_path / "one", [20])).state_dict()
    with pytest.raises(ValueError, match=r"cells was 20 and is 21; shards_fingerprint was \d+ and is \d+"):
        stream_of(write_shards(tmp_path / "other", [21])).load_state_dict(state)
    moved = stream_of(write_shards(tmp_path / "moved", [20]))
    moved.load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": None}, "batch_size is None and token_budget None: give one of them"),
        ({"batch_size": 4, "token_budget": 30}, "batch_size is 4 and token_budget 30: give one of them"),
        ({"batch_size": 0}, "batch_size is 0: it must be at least 1"),
        ({"batch_size": 9}, "buffer_cells is 8: a buffer must hold a batch, and batch_size is 9"),
        ({"token_budget": 8}, r"a cell has \d+ tokens, and token_budget is 8"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    write_shards(tmp_path, [40], longest=20)
    with pytest.raises(ValueError, match=message):
        list(islice(stream_of(tmp_path, **options), 9))


def test_another_number_of_workers_than_the_stream_is_cut_for_is_refused(tmp_path: Path) -> None:
    stream = stream_of(write_shards(tmp_path, [20]), workers=2)
    with pytest.raises(ValueError, match="the data loader has 1 workers, and the stream is cut for 2"):
        next(iter(stream))


def test_batches_by_token_budget_keep_within_it(tmp_path: Path) -> None:
    write_shards(tmp_path, [300], row_group_size=50)
    stream = stream_of(tmp_path, token_budget=100, buffer_cells=100)
    lengths = Counter(sum(len(cell.input_ids) for cell in batch.cells) for batch in epoch_of(stream))
    assert max(lengths) <= 100
