"""Row groups as flat arrays, against what `TokenisedCells` makes of the whole folder."""

from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omics_transformers.training.masked_gene_data import TokenisedCells
from omics_transformers.training.shard_files import ShardFiles, open_shards
from omics_transformers.training.streamed_rows import CellPreparation, CellRows, RowReader, concatenated
from omics_transformers.training.streaming_order import HeldOutShare

CELLS = [[2, 5, 3], [4], [], [6, 7, 2, 3, 5], [7, 2], [4, 3]]
DONORS = ["a", None, "b", "a", "c", "a"]


def open_cells(folder: Path, kind: pa.DataType | None = None, **options: bool) -> ShardFiles:
    (folder / "data").mkdir(parents=True)
    table = pa.table({"input_ids": pa.array(CELLS, pa.list_(kind or pa.uint16())), "donor": DONORS})
    pq.write_table(table, folder / "data" / "train-00000-of-00001.parquet", row_group_size=4, **options)
    return open_shards(folder, vocabulary_size=8)


def contents(rows: CellRows) -> list[list[int]]:
    return [cell.input_ids.tolist() for cell in rows.block(np.arange(len(rows.numbers)), 0)]  # type: ignore[union-attr]


def read_all(shards: ShardFiles, preparation: CellPreparation, **options: object) -> tuple[CellRows, Counter[str]]:
    counts: Counter[str] = Counter()
    reader = RowReader(shards, preparation, **options)  # type: ignore[arg-type]
    parts = [reader.read(group, slice(0, size), counts) for group, size in enumerate(shards.group_cells.tolist())]
    return concatenated(parts), counts  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [pa.uint16(), pa.int32(), pa.int64()])
def test_reads_cells_with_their_numbers(tmp_path: Path, kind: pa.DataType) -> None:
    rows, counts = read_all(open_cells(tmp_path, kind), CellPreparation(8))
    assert contents(rows) == [cell for cell in CELLS if cell]
    assert rows.numbers.tolist() == [0, 1, 3, 4, 5]
    assert rows.donors.tolist() == [-1] * 5
    assert rows.tokens.dtype == kind.to_pandas_dtype()
    assert counts == {"cells_read": 6, "cells_without_genes": 1}


def test_renumbers_and_cuts_as_the_whole_folder_is(tmp_path: Path) -> None:
    shards = open_cells(tmp_path)
    new_ids = np.array([0, 1, -1, 2, -1, 3, 4, 5])
    whole = TokenisedCells(datasets.load_dataset(str(tmp_path))["train"])
    whole.renumber(new_ids)
    whole.cut(2)
    rows, counts = read_all(shards, CellPreparation(8, new_ids=new_ids, max_length=2))
    expected = {number: whole.tokens(number).tolist() for number in range(6) if len(whole.tokens(number))}
    assert dict(zip(rows.numbers.tolist(), contents(rows), strict=True)) == expected
    assert counts == {"cells_read": 6, "cells_without_genes": 2, "cells_cut": 1}


def test_some_cells_of_a_row_group_keep_only_their_tokens(tmp_path: Path) -> None:
    reader = RowReader(open_cells(tmp_path), CellPreparation(8))
    rows = reader.read(0, slice(1, 3), Counter())
    assert isinstance(rows, CellRows)
    assert contents(rows) == [[4]]
    assert rows.tokens.tolist() == [4]
    gaps = CellRows(np.arange(50), np.array([3, 40]), np.array([2, 3]), np.array([0, 1]), np.array([-1, -1]))
    assert contents(gaps.trimmed()) == contents(gaps) == [[3, 4], [40, 41, 42]]
    assert len(gaps.trimmed().tokens) == 5


def test_held_out_cells_are_those_that_the_others_lack(tmp_path: Path) -> None:
    shards, share = open_cells(tmp_path), HeldOutShare(0.5)
    streamed, _ = read_all(shards, CellPreparation(8), held_out=share)
    held_out, _ = read_all(shards, CellPreparation(8), held_out=share, is_held_out=True)
    assert len(streamed.numbers) and len(held_out.numbers)
    assert sorted([*streamed.numbers, *held_out.numbers]) == [0, 1, 3, 4, 5]
    assert contents(held_out) == [CELLS[number] for number in held_out.numbers]


def test_donors_become_rows(tmp_path: Path) -> None:
    shards = open_cells(tmp_path)
    known = {"a": 4, "b": 1, "c": 0}
    rows, counts = read_all(
        shards, CellPreparation(8, donor_column="donor", donor_rows=known, missing_donors="reference")
    )
    assert rows.donors.tolist() == [4, -1, 4, 0, 4]
    assert counts["cells_of_donors_without_dna_features"] == 1
    rows, _ = read_all(shards, CellPreparation(8, donor_column="donor", donor_rows=known, missing_donors="drop"))
    assert rows.numbers.tolist() == [0, 3, 4, 5]


@pytest.mark.parametrize(("known", "named"), [({"a": 0, "b": 1, "c": 2}, "no name|None"), ({"a": 0}, "b")])
def test_unknown_donors_are_named(tmp_path: Path, known: dict[str, int], named: str) -> None:
    preparation = CellPreparation(8, donor_column="donor", donor_rows=known)
    with pytest.raises(ValueError, match=rf"train-00000-of-00001\.parquet has cells of donors .*\(({named})"):
        read_all(open_cells(tmp_path), preparation)


def test_tokens_of_another_vocabulary_are_refused_when_the_footer_does_not_say(tmp_path: Path) -> None:
    shards = open_cells(tmp_path, write_statistics=False)
    with pytest.raises(ValueError, match=r"train-00000-of-00001\.parquet holds the token 7, and the vocabulary has 6"):
        read_all(shards, CellPreparation(6))


def test_cells_without_a_value_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    table = pa.table({"input_ids": pa.array([[2], None], pa.list_(pa.int32()))})
    pq.write_table(table, tmp_path / "data" / "train-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=r"train-00000-of-00001\.parquet has cells or tokens without a value"):
        read_all(open_shards(tmp_path, vocabulary_size=8), CellPreparation(8))
