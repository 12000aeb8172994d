"""Reading of regions against their Parquet files, and batches that do not depend on order, processes or restarts."""

import json
import shutil
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from omics_transformers.data_scripts.region_rows import REGION_SCHEMA
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.training.numbered_rows import NOT_COUNTED
from omics_transformers.training.ranking_data import (
    COLUMNS,
    RegionRankingCollator,
    RegionRankingDataset,
    RegionRankingRow,
    RegionRows,
    read_regions,
)

TOKENIZER = NucleotideKmerTokenizer()
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def parquet(folder: Path, split: str) -> list[dict]:
    return pq.read_table(folder / "data" / f"{split}-00000-of-00001.parquet").to_pylist()


def row(*sequences: str, counts: list[float] | None = None, shares: list[float] | None = None, **fields: int) -> Any:
    regions = len(sequences)
    return RegionRankingRow(
        [np.frombuffer(sequence.encode(), dtype=np.uint8) for sequence in sequences],
        np.array(counts or range(regions), dtype=np.float64),
        np.array(shares or [0.0] * regions, dtype=np.float32),
        **fields,
    )


def plain_tokens(sequence: str, share: float, num_tokens: int) -> list[int]:
    """Token by token: <cls>, padding in front, the region, padding behind."""
    tokens = TOKENIZER(sequence)["input_ids"][1:num_tokens]
    missing = num_tokens - 1 - len(tokens)
    before = min(int(np.float32(share) * (missing + 1)), missing)
    return [3] + [1] * before + tokens + [1] * (missing - before)


def text_of(ids: torch.Tensor) -> str:
    return TOKENIZER.decode(ids, skip_special_tokens=True).replace(" ", "")


def test_columns_are_those_that_the_builder_writes() -> None:
    assert set(COLUMNS) <= set(REGION_SCHEMA.names)


def test_batches_hold_what_the_files_hold(toy_regions: Path) -> None:
    regions = read_regions(toy_regions)
    assert (regions.span_bp, regions.cell_types) == (600, ["alpha", "beta"])
    assert {split: len(rows) for split, rows in regions.splits.items()} == {"train": 256, "validation": 48, "test": 64}
    for split, rows in regions.splits.items():
        expected, dataset = parquet(toy_regions, split), RegionRankingDataset(rows)
        collator = RegionRankingCollator(TOKENIZER, 101, shuffle_regions=False, with_cell_types=True)
        batch = collator([dataset[number] for number in range(len(dataset))])
        assert batch["input_ids"].tolist() == [
            [plain_tokens(*pair, 101) for pair in zip(one["sequences"], one["padding_share"], strict=True)]
            for one in expected
        ]
        assert torch.equal(batch["attention_mask"], (batch["input_ids"] != 1).long())
        np.testing.assert_array_equal(batch["labels"], np.array([one["counts"] for one in expected], np.float32))
        assert batch["labels"].dtype == torch.float32 and bool(batch["region_mask"].all())
        assert batch["cell_type_ids"].tolist() == [["alpha", "beta"].index(one["cell_type"]) for one in expected]
        assert "blocks" not in batch
        np.testing.assert_array_equal(rows.region_lengths(), [len(s) for one in expected for s in one["sequences"]])
        tokens = [len(TOKENIZER(s)["input_ids"]) for one in expected for s in one["sequences"]]
        np.testing.assert_array_equal(rows.region_tokens(TOKENIZER), tokens)
        assert rows.has_padding_in_front()
    assert regions.splits["test"].place(1) == "chrC:601-1,200"


def test_rows_of_any_number_of_regions() -> None:
    rows = [row("ACGTAC" * 2, "ACG", counts=[0.0, 2.0]), row("A", "C", "G", "TTTTTT", counts=[1.0, 2.0, 3.0, 4.0])]
    batch = RegionRankingCollator(TOKENIZER, 5, shuffle_regions=False)(rows)
    assert batch["input_ids"].shape == (2, 4, 5)
    assert batch["region_mask"].tolist() == [[True, True, False, False], [True] * 4]
    assert batch["labels"].tolist() == [[0, 2, -100, -100], [1, 2, 3, 4]]
    assert batch["attention_mask"].sum(2).tolist() == [[3, 4, 0, 0], [2, 2, 2, 2]]
    assert bool((batch["input_ids"][0, 2:] == 1).all())


def test_cuts_what_does_not_fit_off_the_end() -> None:
    batch = RegionRankingCollator(TOKENIZER, 3, shuffle_regions=False)(
        [row("ACGTAC" * 4 + "N", "ACGTAC", shares=[0.9, 0.9])]
    )
    assert [text_of(ids) for ids in batch["input_ids"][0]] == ["ACGTAC" * 2, "ACGTAC"]
    assert batch["attention_mask"].tolist() == [[[1, 1, 1], [1, 0, 1]]]


@given(
    st.lists(st.text("ACGTN", min_size=1, max_size=40), min_size=2, max_size=4), st.integers(0, 5), st.integers(0, 5),
    st.sampled_from(["stored", "end", "random"]),
)  # fmt: skip
def test_moves_regions_and_counts_together(sequences: list[str], number: int, epoch: int, padding: Any) -> None:
    """Each count still stands beside its own region, read from the one strand or the other."""
    given_row = row(*sequences, number=number, epoch=epoch)
    collator = RegionRankingCollator(TOKENIZER, 60, padding=padding, reverse_complement=0.5, seed=7)
    batch = collator([given_row])
    assert sorted(batch["labels"][0].tolist()) == list(range(len(sequences)))
    read = [text_of(ids) for ids in batch["input_ids"][0]]
    plus = [sequences[int(count)] for count in batch["labels"][0]]
    minus = [sequence.translate(COMPLEMENT)[::-1] for sequence in plus]
    assert read in (plus, minus)
    assert bool((batch["input_ids"][..., 0] == 3).all())
    if padding != "random":
        assert bool((batch["input_ids"][:, :, 1] != 1).all())
    again = collator([row("ACGT", "CC"), given_row])
    assert torch.equal(again["input_ids"][1, : len(sequences)], batch["input_ids"][0])


def test_draws_strand_padding_and_order_about_as_asked_and_anew_each_epoch(toy_regions: Path) -> None:
    dataset = RegionRankingDataset(read_regions(toy_regions).splits["train"])

    def batch(epoch: int = 0, **options: Any) -> dict[str, torch.Tensor]:
        dataset.set_epoch(epoch)
        return RegionRankingCollator(TOKENIZER, 101, seed=1, **options)([dataset[number] for number in range(256)])

    def fronts(drawn: dict[str, torch.Tensor]) -> torch.Tensor:
        """(rows, regions) share of the padding that stands in front."""
        mask = drawn["attention_mask"][..., 1:]
        return mask.argmax(2) / (mask.shape[2] - mask.sum(2))

    plain = batch(shuffle_regions=False)
    for padding, mean, spread in (("end", 0, 0), ("random", 0.5, 0.29), ("stored", 0.5, 0.29)):
        shares = fronts(batch(padding=padding))
        assert shares.mean().item() == pytest.approx(mean, abs=0.04)
        assert shares.std().item() == pytest.approx(spread, abs=0.04)
    assert not torch.equal(fronts(batch(padding="random")), fronts(batch(epoch=1, padding="random")))
    assert torch.equal(fronts(batch(shuffle_regions=False)), fronts(batch(epoch=1, shuffle_regions=False)))
    places = (batch()["labels"] == 0).float().argmax(1).bincount()
    assert places.min() > 60
    turned = batch(shuffle_regions=False, reverse_complement=0.25, padding="stored")["input_ids"]
    assert 40 < int((turned != plain["input_ids"]).any(2).all(1).sum()) < 90
    assert bool(((turned != plain["input_ids"]).any(2).sum(1) % 3 == 0).all())  # all regions of a row, or none


def test_evaluation_is_not_augmented_and_tells_cell_types() -> None:
    collator = RegionRankingCollator(TOKENIZER, 20, padding="random", reverse_complement=1.0, seed=3).for_evaluation()
    batch = collator([row("ACGTAC", "CC", cell_type=4, block=2), row("G", "AA", block=NOT_COUNTED)])
    assert [text_of(ids) for ids in batch["input_ids"][0]] == ["ACGTAC", "CC"]
    assert batch["cell_type_ids"].tolist() == [4, 0] and batch["blocks"].tolist() == [2, NOT_COUNTED]
    assert bool((batch["input_ids"][:, :, 1] == 1).any())


def test_each_process_has_its_share_of_the_rows(toy_regions: Path) -> None:
    dataset = RegionRankingDataset(read_regions(toy_regions).splits["test"], np.arange(0, 64, 3)).in_groups(6000)
    assert dataset.block_of is not None
    np.testing.assert_array_equal(dataset.block_of, np.arange(0, 64, 3) * 600 // 6000)
    shares = [dataset.share_of(rank, 4) for rank in range(4)]
    assert [len(share) for share in shares] == [6] * 4
    counted = sorted(
        int(share.numbers[place]) for share in shares for place in range(6) if share.block_at(place) != NOT_COUNTED
    )
    assert counted == list(range(0, 64, 3))


def test_workers_give_the_same_batches(toy_regions: Path) -> None:
    rows = read_regions(toy_regions).splits["train"]
    assert len(ForkingPickler.dumps(rows)) < 20_000  # paths and numbers, not letters
    dataset = RegionRankingDataset(rows)
    collator = RegionRankingCollator(TOKENIZER, 101, padding="random", reverse_complement=0.5)
    expected = list(DataLoader(dataset, batch_size=100, collate_fn=collator))
    found = DataLoader(dataset, batch_size=100, collate_fn=collator, num_workers=1, multiprocessing_context="fork")
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda row: row.update(counts=[0.1, 0.0]), "1 rows have not as many counts as sequences, first chrA:601"),
        (lambda row: row.update(counts=[0.1, -1.0, 0.0]), "counts that are negative or not finite"),
        (lambda row: row.update(counts=[0.1, float("nan"), 0.0]), "counts that are negative or not finite"),
        (lambda row: row.update(padding_share=[0.1, 1.5, 0.0]), "padding shares that are not from 0 to 1"),
        (lambda row: row.update(sequences=["A", "C", "G"]), "sequences of another length than their starts and ends"),
        (lambda row: row.update(cell_type="gamma"), "regions.json does not name, gamma: it has alpha, beta"),
    ],
)  # fmt: skip
def test_refuses_rows_that_do_not_fit(toy_regions: Path, change: Callable[[dict], None], error: str) -> None:
    rows = parquet(toy_regions, "train")[:3]
    change(rows[1])
    with pytest.raises(ValueError, match=error):
        RegionRows(datasets.Dataset(pa.Table.from_pylist(rows, REGION_SCHEMA)), ["alpha", "beta"])


def test_refuses_rows_of_one_region_and_other_tables(toy_regions: Path) -> None:
    rows = parquet(toy_regions, "train")[:2]
    lists = ("starts", "ends", "counts", "peaks", "sequences", "padding_share")
    alone = [{name: value[:1] if name in lists else value for name, value in one.items()} for one in rows]
    with pytest.raises(ValueError, match="fewer than two regions"):
        RegionRows(datasets.Dataset(pa.Table.from_pylist(alone, REGION_SCHEMA)))
    with pytest.raises(ValueError, match="lacks the columns contig, span_start"):
        RegionRows(datasets.Dataset(pa.table({"a": [1]})))


@pytest.mark.parametrize(
    "options",
    [{"num_tokens": 1}, {"padding": "front"}, {"reverse_complement": 1.5}],
    ids=lambda options: next(iter(options)),
)
def test_refuses_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        RegionRankingCollator(TOKENIZER, **{"num_tokens": 9, **options})


def test_refuses_other_folders(tmp_path: Path, toy_regions: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder of regions at"):
        read_regions(tmp_path / "absent")
    folder = tmp_path / "regions"
    shutil.copytree(toy_regions, folder)
    (folder / "regions.json").write_text(json.dumps({"span_bp": 600}))
    with pytest.raises(ValueError, match="has no cell_types: `build regions` again"):
        read_regions(folder)
    (folder / "regions.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no regions\.json: expected a folder that `build regions` wrote"):
        read_regions(folder)
    (folder / "regions.json").write_text((toy_regions / "regions.json").read_text())
    (folder / "data" / "train-00000-of-00001.parquet").unlink()
    card = (folder / "README.md").read_text().replace("  - split: train\n    path: data/train-*.parquet\n", "")
    (folder / "README.md").write_text(card)
    with pytest.raises(ValueError, match="no training rows; its splits are validation, test"):
        read_regions(folder)
