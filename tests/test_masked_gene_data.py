"""Tokenised cells as arrays, against what `datasets` decodes."""

import pickle
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

from omics_transformers.training.collators import MaskedGeneCollator
from omics_transformers.training.masked_gene_data import MaskedGeneDataset, TokenisedCells, read_tokenised_cells

CELLS = [[2, 5, 3], [4], [], [6, 7, 2, 3, 5], [7, 2]]


def make_cells(folder: Path, *, kind: str = "int32") -> TokenisedCells:
    dataset = datasets.Dataset.from_dict(
        {"input_ids": CELLS, "donor": ["a", None, "b", "a", "c"]},
        features=datasets.Features(
            {"input_ids": datasets.List(datasets.Value(kind)), "donor": datasets.Value("string")}
        ),
    )
    dataset.save_to_disk(folder, num_shards=2)
    return read_tokenised_cells(folder)


def contents(cells: TokenisedCells) -> list[list[int]]:
    return [cells.tokens(number).tolist() for number in range(len(cells))]


@pytest.mark.parametrize("kind", ["uint16", "int32", "int64"])
def test_reads_every_cell_of_every_chunk(tmp_path: Path, kind: str) -> None:
    cells = make_cells(tmp_path / "cells", kind=kind)
    assert contents(cells) == CELLS
    assert cells.lengths.tolist() == [3, 1, 0, 5, 2]
    assert cells.occurrences(8).tolist() == [0, 0, 3, 2, 1, 2, 1, 2]
    assert contents(pickle.loads(pickle.dumps(cells))) == CELLS  # noqa: S301 (data loader workers are sent so)


def test_reads_the_folder_of_a_build(toy_corpus: Path) -> None:
    cells = read_tokenised_cells(toy_corpus)
    expected = datasets.load_dataset(str(toy_corpus))["train"]
    assert contents(cells) == expected["input_ids"][:]
    assert cells.lengths.tolist() == expected["length"][:]


def test_renumbers_leaves_out_and_cuts(tmp_path: Path) -> None:
    cells = make_cells(tmp_path / "cells")
    cells.renumber(np.array([0, 1, -1, 2, -1, 3, 4, 5]))
    assert contents(cells) == [[3, 2], [], [], [4, 5, 2, 3], [5]]
    assert cells.lengths.tolist() == [2, 0, 0, 4, 1]
    assert cells.cut(2) == 1
    assert contents(cells) == [[3, 2], [], [], [4, 5], [5]]
    assert cells.lengths.tolist() == [2, 0, 0, 2, 1]
    assert cells.cut(2) == 0


@pytest.mark.parametrize("max_length", [None, 1, 2, 9])
@pytest.mark.parametrize("renumbered", [True, False])
def test_a_block_is_its_cells_one_after_the_other(tmp_path: Path, renumbered: bool, max_length: int | None) -> None:
    cells = make_cells(tmp_path / "cells", kind="uint16")
    new_ids = np.array([0, 1, -1, 2, -1, 3, 4, 5]) if renumbered else np.arange(8)
    if renumbered:
        cells.renumber(new_ids)
    if max_length:
        cells.cut(max_length)
    expected = [[new_ids[token] for token in cell if new_ids[token] >= 0][:max_length] for cell in CELLS]
    for numbers in ([3, 1, 4, 2, 0], [2], []):
        tokens, lengths = cells.tokens_and_lengths(np.array(numbers, dtype=np.int64))
        assert tokens.tolist() == [token for number in numbers for token in expected[number]]
        assert lengths.tolist() == [len(expected[number]) for number in numbers]
    assert renumbered or cells.tokens(0).dtype == np.uint16


def test_a_shuffled_dataset_keeps_its_order(tmp_path: Path) -> None:
    make_cells(tmp_path / "cells").dataset.select([3, 0]).save_to_disk(tmp_path / "selected")
    assert contents(read_tokenised_cells(tmp_path / "selected")) == [CELLS[3], CELLS[0]]


def test_categories_of_a_column(tmp_path: Path) -> None:
    names, codes = make_cells(tmp_path / "cells").categories("donor")
    assert [names[code] if code >= 0 else None for code in codes] == ["a", None, "b", "a", "c"]


def test_items_carry_number_epoch_and_donor(tmp_path: Path) -> None:
    cells = make_cells(tmp_path / "cells")
    donors = np.array([5, -1, -1, 4, 3])
    training = MaskedGeneDataset(cells, np.array([4, 0, 3]), donors=donors)
    training.set_epoch(2)
    items = training.__getitems__([2, 0])
    assert [item.input_ids.tolist() for item in items] == [CELLS[3], CELLS[4]]
    assert [(item.number, item.epoch, item.donor) for item in items] == [(3, 2, 4), (4, 2, 3)]
    assert training.lengths.tolist() == [2, 3, 5]
    assert training[1].input_ids.tolist() == CELLS[0]
    fixed = MaskedGeneDataset(cells, np.array([0]), fixed_masks=True)
    fixed.set_epoch(2)
    assert fixed[0][1:] == (0, 0, -1)


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_that_outlive_an_epoch_mask_anew(toy_corpus: Path, workers: int) -> None:
    data = MaskedGeneDataset(read_tokenised_cells(toy_corpus), np.arange(32))
    collator = MaskedGeneCollator(vocab_size=42)
    loader = DataLoader(data, batch_size=16, collate_fn=collator, num_workers=workers, persistent_workers=bool(workers))
    expected = []
    for epoch in range(2):
        data.set_epoch(epoch)
        expected.append(torch.cat([collator(data.__getitems__(range(s, s + 16)))["labels"].sum(1) for s in (0, 16)]))
        assert torch.equal(torch.cat([batch["labels"].sum(1) for batch in loader]), expected[-1])
    assert not torch.equal(*expected)


def test_errors_name_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder of tokenised cells"):
        read_tokenised_cells(tmp_path / "absent")
    with pytest.raises(ValueError, match="holds no Parquet files"):
        read_tokenised_cells(tmp_path)
    for name, columns, named in (
        ("columns", {"tokens": [[1]]}, "has the columns tokens and lacks input_ids"),
        ("text", {"input_ids": ["ENSG1"]}, "of type .*string.*, expected lists of integers"),
    ):
        datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / name)
        with pytest.raises(ValueError, match=named):
            read_tokenised_cells(tmp_path / name)
    (tmp_path / "empty").mkdir()
    pq.write_table(pa.table({"input_ids": pa.array([], pa.list_(pa.int32()))}), tmp_path / "empty" / "train.parquet")
    with pytest.raises(ValueError, match="holds no cells"):
        read_tokenised_cells(tmp_path / "empty")
    cells = make_cells(tmp_path / "cells")
    with pytest.raises(ValueError, match=r"ids up to 7, and their token dictionary has 6"):
        cells.occurrences(6)
    with pytest.raises(ValueError, match="no column 'age'; they have input_ids, donor"):
        cells.categories("age")


def test_a_truncated_parquet_file_is_named(tmp_path: Path, toy_corpus: Path) -> None:
    (tmp_path / "data").mkdir()
    whole = (toy_corpus / "data" / "train-00000-of-00001.parquet").read_bytes()
    (tmp_path / "data" / "train-00000-of-00001.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read"):
        read_tokenised_cells(tmp_path)
