"""Reading of segments against their Parquet files, and batches that do not depend on order, processes or restarts."""

import json
import shutil
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.training.numbered_rows import NOT_COUNTED
from omics_transformers.training.segmentation_data import (
    SegmentationCollator,
    SegmentationDataset,
    SegmentationWindow,
    SegmentWindows,
    read_segments,
    unpack,
)

TOKENIZER = NucleotideKmerTokenizer()


def parquet(folder: Path, split: str) -> list[dict]:
    return pq.read_table(folder / "data" / f"{split}-00000-of-00001.parquet").to_pylist()


def plain_labels(row: dict, elements: int = 3) -> npt.NDArray[np.int8]:
    """(bases, elements), base by base."""
    bases, n_bytes = len(row["sequence"]), -(-len(row["sequence"]) // 8)
    labels = np.zeros((bases, elements), dtype=np.int8)
    for base in range(bases):
        bit = 1 << (7 - base % 8)
        for element in range(elements):
            labels[base, element] = bool(row["labels"][element * n_bytes + base // 8] & bit)
        if row["sequence"][base] == "N" or (row["ignored"] and row["ignored"][base // 8] & bit):
            labels[base] = -100
    return labels


def window(sequence: bytes, labels: npt.NDArray[np.uint8], **fields: int) -> SegmentationWindow:
    letters = np.frombuffer(sequence, dtype=np.uint8)
    return SegmentationWindow(letters, np.packbits(labels, axis=-1), np.zeros(0, dtype=np.uint8), **fields)


def test_batches_hold_what_the_files_hold(toy_segments: Path) -> None:
    segments = read_segments(toy_segments)
    assert segments.elements == ["island", "island_start", "absent"]
    assert {split: len(windows) for split, windows in segments.splits.items()} == {
        "train": 160, "validation": 24, "test": 48
    }  # fmt: skip
    for split, windows in segments.splits.items():
        rows, dataset = parquet(toy_segments, split), SegmentationDataset(windows)
        batch = SegmentationCollator(TOKENIZER)([dataset[number] for number in range(len(dataset))])
        assert batch["labels"].dtype == torch.int8
        np.testing.assert_array_equal(batch["labels"], [plain_labels(row) for row in rows])
        expected = TOKENIZER([row["sequence"] for row in rows], padding=True, return_tensors="pt")
        assert torch.equal(batch["input_ids"], expected["input_ids"])
        assert torch.equal(batch["attention_mask"], expected["attention_mask"])
        assert "blocks" not in batch
        counted = (batch["labels"] == 1).sum(dim=(0, 1)).numpy()
        np.testing.assert_array_equal(segments.positive_bases[split], counted)
        assert segments.scored_bases[split] == (batch["labels"][..., 0] != -100).sum()
        np.testing.assert_allclose(segments.frequencies(split), counted / segments.scored_bases[split])
        np.testing.assert_array_equal(windows.n_counts(), [row["sequence"].count("N") for row in rows])
    assert segments.splits["test"].place(1) == "chrC:241-480"


def test_pads_to_the_longest_window() -> None:
    labels = np.ones((2, 20), dtype=np.uint8)
    batch = SegmentationCollator(TOKENIZER)([window(b"ACGTACGTAC" * 2, labels), window(b"ACGTA", labels[:, :5])])
    assert batch["labels"].shape == (2, 20, 2)
    assert (batch["labels"][1, 5:] == -100).all() and (batch["labels"][1, :5] == 1).all()
    assert batch["attention_mask"].sum(1).tolist() == [1 + 3 + 2, 1 + 5]


@given(st.integers(1, 70), st.data())
def test_unpacks_any_stretch(bases: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, bases - 1))
    end = data.draw(st.integers(start + 1, bases))
    labels = np.random.default_rng(bases).integers(0, 2, (3, bases), dtype=np.uint8)
    np.testing.assert_array_equal(unpack(np.packbits(labels, axis=-1), start, end), labels[:, start:end])


@given(st.text("ACGTN", min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 5), st.integers(0, 5))
def test_crops_and_turns_letters_and_labels_together(sequence: str, crop_bp: int, number: int, epoch: int) -> None:
    """Labels that spell the letters still do so, of a piece of the one strand or the other."""
    letters = np.array([[letter == base for letter in sequence] for base in "ACGT"], dtype=np.uint8)
    collator = SegmentationCollator(TOKENIZER, reverse_complement=0.5, crop_bp=crop_bp, seed=7)
    batch = collator([window(sequence.encode(), letters, number=number, epoch=epoch)])
    bases = min(crop_bp, len(sequence))
    assert batch["labels"].shape == (1, bases, 4)
    piece = TOKENIZER.decode(batch["input_ids"][0], skip_special_tokens=True).replace(" ", "")
    forward = "".join("ACGTN"[4 if row[0] == -100 else int(row.argmax())] for row in batch["labels"][0].numpy())
    assert len(piece) == bases
    assert forward in (piece, piece.translate(str.maketrans("ACGT", "TGCA")))
    strand = sequence if forward == piece else sequence[::-1]
    assert forward in strand


def test_augments_about_as_often_as_asked_and_differently_each_epoch(toy_segments: Path) -> None:
    dataset = SegmentationDataset(read_segments(toy_segments).splits["train"])
    collator = SegmentationCollator(TOKENIZER, reverse_complement=0.5, crop_bp=200, seed=1)

    def batch(numbers: list[int], epoch: int = 0) -> dict[str, torch.Tensor]:
        dataset.set_epoch(epoch)
        return collator([dataset[number] for number in numbers])

    draws = [collator._draw(dataset[number]) for number in range(160)]
    assert 60 < sum(is_reversed for *_, is_reversed in draws) < 100
    starts = [start for start, *_ in draws]
    assert min(starts) < 5 and max(starts) > 35 and max(starts) <= 40
    first = batch([3, 9, 11])
    assert torch.equal(batch([9, 11, 3])["labels"], first["labels"][[1, 2, 0]])
    assert torch.equal(batch([3, 9, 11])["input_ids"], first["input_ids"])
    assert not torch.equal(batch([3, 9, 11], epoch=1)["labels"], first["labels"])


def test_workers_give_the_same_batches(toy_segments: Path) -> None:
    dataset = SegmentationDataset(read_segments(toy_segments).splits["train"])
    collator = SegmentationCollator(TOKENIZER, reverse_complement=0.5, crop_bp=100)
    expected = list(DataLoader(dataset, batch_size=50, collate_fn=collator))
    for found, batch in zip(
        DataLoader(dataset, batch_size=50, collate_fn=collator, num_workers=1), expected, strict=True
    ):
        assert all(torch.equal(found[name], batch[name]) for name in batch)


def test_spawned_workers_are_sent_paths_and_not_letters(toy_segments: Path) -> None:
    windows = read_segments(toy_segments).splits["train"]
    sent = ForkingPickler.dumps(windows)
    assert len(sent) < 0.5 * 160 * 240
    received = ForkingPickler.loads(sent)
    assert received.window(159).labels.tobytes() == windows.window(159).labels.tobytes()


def test_blocks_and_shares_count_each_window_once(toy_segments: Path) -> None:
    windows = read_segments(toy_segments).splits["test"]  # 48 windows of 240 bp
    dataset = SegmentationDataset(windows, np.arange(1, 48)).in_blocks(2400)
    assert dataset.block_of is not None
    np.testing.assert_array_equal(dataset.block_of, np.arange(1, 48) // 10)
    shares = [dataset.share_of(rank, 5) for rank in range(5)]
    assert {len(share) for share in shares} == {10}
    counted = []
    for share in shares:
        batch = SegmentationCollator(TOKENIZER)([share[place] for place in range(len(share))])
        blocks = batch["blocks"].numpy()
        np.testing.assert_array_equal(blocks, share.block_of)
        counted += share.numbers[blocks != NOT_COUNTED].tolist()
    assert sorted(counted) == list(range(1, 48))


def test_letters_and_labels_stay_on_disk(tmp_path: Path) -> None:
    random, elements, bases = np.random.default_rng(0), 14, 4096
    rows = [
        (random.choice(list("ACGT"), bases).tobytes()[::4].decode(), random.bytes(elements * bases // 8), b"")
        for _ in range(200)
    ]
    table = pa.table(
        {
            "contig": ["1"] * 200,
            "start": np.arange(200) * bases,
            "end": np.arange(1, 201) * bases,
            **{name: [row[place] for row in rows] for place, name in enumerate(("sequence", "labels", "ignored"))},
        }
    )
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=40)
    loaded = datasets.load_dataset("parquet", data_files=str(tmp_path / "train.parquet"), cache_dir=tmp_path / "cache")
    before = pa.total_allocated_bytes()
    windows = SegmentWindows(loaded["train"], elements)
    assert pa.total_allocated_bytes() - before < 100_000
    taken = [windows.window(number) for number in (0, 39, 40, 199)]
    assert [one.sequence.tobytes().decode() for one in taken] == [rows[number][0] for number in (0, 39, 40, 199)]
    assert [one.labels.tobytes() for one in taken] == [rows[number][1] for number in (0, 39, 40, 199)]
    assert not taken[0].sequence.flags.owndata and not taken[0].labels.flags.owndata


def copy_of(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def test_says_what_is_wrong_with_a_folder(tmp_path: Path, toy_segments: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder of segments at"):
        read_segments(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"has no elements\.json"):
        read_segments(tmp_path)
    folder = copy_of(toy_segments, tmp_path / "elements")
    described = json.loads((folder / "elements.json").read_text())
    (folder / "elements.json").write_text(json.dumps({**described, "elements": ["island", "absent"]}))
    with pytest.raises(ValueError, match=r"160 windows have a labels of.*chrA:1-240: 90 bytes, expected 60"):
        read_segments(folder)
    folder = copy_of(toy_segments, tmp_path / "columns")
    path = folder / "data" / "train-00000-of-00001.parquet"
    for other in folder.glob("data/*"):
        pq.write_table(pq.read_table(other).drop_columns(["ignored"]), other)
    with pytest.raises(ValueError, match="lacks the columns ignored and has contig, start"):
        read_segments(folder)
    folder = copy_of(toy_segments, tmp_path / "no_training")
    (folder / "data" / "train-00000-of-00001.parquet").unlink()
    with pytest.raises(ValueError, match="has no training windows; its splits are validation, test"):
        read_segments(folder)
    folder = copy_of(toy_segments, tmp_path / "broken")
    path = folder / "data" / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be read"):
        read_segments(folder)


def test_refuses_impossible_augmentation() -> None:
    with pytest.raises(ValueError, match="reverse_complement is 2"):
        SegmentationCollator(TOKENIZER, reverse_complement=2)
    with pytest.raises(ValueError, match="crop_bp is 0"):
        SegmentationCollator(TOKENIZER, crop_bp=0)
