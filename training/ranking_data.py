"""Rows of regions with their accessibility, as a torch data set and a collator that makes tokens of a batch at a time.

A folder that `build regions` wrote, or any with its columns: a row may have any number of regions from two on. Letters
and numbers stay on disk (parquet_folder.py), and a row costs slices. Coordinates are 0-based, half-open.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import datasets
import numpy as np
import numpy.typing as npt
import torch

from ..pipelines.region_tokens import place_tokens
from .encoder_setup import tokens_of_bases
from .numbered_rows import NumberedRows
from .parquet_folder import (
    COMPLEMENT,
    SPLITS,
    BytesListColumn,
    NumberListColumn,
    encode_names,
    load_splits,
    read_description,
    require_columns,
)
from .ranking_groups import interval_groups

REGIONS_FILE = "regions.json"
BUILDER = "build regions"
IGNORED_LABEL = -100  # transformers' own
Padding = Literal["stored", "end", "random"]
PADDINGS = ("stored", "end", "random")
_N = ord("N")
_ENCODED_AT_ONCE = 4096  # regions with N, to count their tokens


class RegionColumns(NamedTuple):
    """Columns of the data set that training reads."""

    contig: str = "contig"
    span_start: str = "span_start"
    span_end: str = "span_end"
    cell_type: str = "cell_type"
    starts: str = "starts"
    ends: str = "ends"
    counts: str = "counts"
    sequences: str = "sequences"
    padding_share: str = "padding_share"


COLUMNS = RegionColumns()


class RegionRankingRow(NamedTuple):
    """What a data set hands to the collator for one row.

    Attributes:
        sequences: of each region, (bases,) uint8, ASCII letters of the plus strand.
        counts: (regions,) float64, mean fragments a cell.
        padding_share: (regions,) floats, share of the padding that stands in front of a region's tokens.
        cell_type: number of the cell type, in `RegionRows.cell_types`.
        number: of the row in its split, on which its augmentation depends.
        epoch: another epoch, another augmentation.
        block: group that the row is counted in, for evaluation; None in training.
    """

    sequences: list[npt.NDArray[np.uint8]]
    counts: npt.NDArray[np.float64]
    padding_share: npt.NDArray[np.floating[Any]]
    cell_type: int = 0
    number: int = 0
    epoch: int = 0
    block: int | None = None


class RegionRankingDataset(NumberedRows[RegionRankingRow]):
    """Rows of one split."""

    rows: "RegionRows"

    def in_groups(self, block_bp: int) -> "RegionRankingDataset":
        """The same rows for evaluation, each in the group that intervals resample; see `interval_groups`."""
        contigs = np.array(self.rows.contig_names)[self.rows.contig[self.numbers]]
        groups = interval_groups(contigs, self.rows.span_start[self.numbers], block_bp)
        return RegionRankingDataset(self.rows, self.numbers, block_of=groups)

    def __getitem__(self, index: int) -> RegionRankingRow:
        row = self.rows.row(int(self.numbers[index]))
        return row._replace(epoch=self.epoch, block=self.block_at(index))


class RegionRows:
    """All rows of a split, as Arrow maps them from disk.

    Args:
        dataset: with the columns of `RegionColumns`.
        cell_types: names to number the rows' cell types by; those of the rows, in alphabetical order, where None.
        source: of the rows, for messages.

    Attributes:
        contig: (rows,) int64, numbers of the contigs in `contig_names`.
        span_start, span_end: (rows,) int64, in bp.
        cell_type: (rows,) int64, numbers of the cell types in `cell_types`.
        regions: (rows,) int64, how many regions each row has.

    Raises:
        ValueError: where columns are missing, lengths do not fit each other, counts are negative or not finite, shares
            not from 0 to 1, or a row is of a cell type that is not named.
    """

    def __init__(
        self, dataset: datasets.Dataset, cell_types: Sequence[str] | None = None, *, source: str = "the data set"
    ) -> None:
        require_columns(dataset, COLUMNS, source=source, builder=BUILDER)
        self._dataset = dataset
        self._view()
        table = dataset.data.table
        self.contig, self.contig_names = encode_names(table.column(COLUMNS.contig))
        self.span_start, self.span_end = (table.column(name).to_numpy() for name in COLUMNS[1:3])
        numbers, names = encode_names(table.column(COLUMNS.cell_type))
        self.cell_types = sorted(names) if cell_types is None else list(cell_types)
        self.cell_type = _renumbered(numbers, names, self.cell_types, source)
        self.regions = self._sequences.sizes()
        self._check(source)

    def __len__(self) -> int:
        return len(self.contig)

    def row(self, number: int) -> RegionRankingRow:
        shares, cell_type = self._padding_share[number], int(self.cell_type[number])
        return RegionRankingRow(self._sequences[number], self._counts[number], shares, cell_type, number)

    def region_lengths(self) -> npt.NDArray[np.int64]:
        """(regions of all rows,) in bp."""
        return self._sequences.lengths()

    def has_padding_in_front(self) -> bool:
        """Whether any region's stored padding is not all at the end."""
        return bool(self._padding_share.values().any())

    def region_tokens(self, tokenizer: Any) -> npt.NDArray[np.int64]:
        """(regions of all rows,) tokens of each, <cls> included; those with N are encoded to count them."""
        tokens = tokens_of_bases(self.region_lengths(), tokenizer.kmer_size)
        with_n = np.flatnonzero(self._sequences.count_of(_N))
        first = np.cumsum(self.regions) - self.regions
        row_of = np.searchsorted(first, with_n, side="right") - 1
        for start in range(0, len(with_n), _ENCODED_AT_ONCE):
            some = slice(start, start + _ENCODED_AT_ONCE)
            places = zip(row_of[some].tolist(), (with_n - first[row_of])[some].tolist(), strict=True)
            letters = [self._sequences[row][place].tobytes() for row, place in places]
            tokens[with_n[some]] = tokenizer.kmer_vocabulary.encode(letters).counts
        return tokens

    def place(self, number: int) -> str:
        """contig:start-end of a row's span, 1-based, both ends included, for messages."""
        contig = self.contig_names[self.contig[number]]
        return f"{contig}:{self.span_start[number] + 1:,}-{self.span_end[number]:,}"

    def _check(self, source: str) -> None:
        lists = {name: self._lists[name].sizes() for name in self._lists}
        for name, sizes in lists.items():
            _require(sizes == self.regions, f"have not as many {name} as sequences", self, source)
        _require(self.regions >= 2, "have fewer than two regions, which is no ranking", self, source)
        row_of = np.repeat(np.arange(len(self)), self.regions)
        counts, shares = self._counts.values(), self._padding_share.values()
        bases = self._lists[COLUMNS.ends].values() - self._lists[COLUMNS.starts].values()
        checks = {
            "sequences of another length than their starts and ends say, or of none": (
                (bases == self.region_lengths()) & (bases > 0)
            ),
            "counts that are negative or not finite": np.isfinite(counts) & (counts >= 0),
            "padding shares that are not from 0 to 1": (shares >= 0) & (shares <= 1),
        }
        for wrong, is_right in checks.items():
            is_row_right = np.bincount(row_of, ~is_right, minlength=len(self)) == 0
            _require(is_row_right, f"have {wrong}", self, source)

    def _view(self) -> None:
        table = self._dataset.data.table
        self._sequences = BytesListColumn(table.column(COLUMNS.sequences))
        numbers = (COLUMNS.starts, COLUMNS.ends, COLUMNS.counts, COLUMNS.padding_share)
        self._lists = {name: NumberListColumn(table.column(name)) for name in numbers}
        self._counts, self._padding_share = self._lists[COLUMNS.counts], self._lists[COLUMNS.padding_share]

    def __getstate__(self) -> dict[str, Any]:
        # Data loader workers that are not forked get the paths of the mapped files, not the arrays.
        viewed = ("_sequences", "_lists", "_counts", "_padding_share")
        return {name: value for name, value in self.__dict__.items() if name not in viewed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._view()


@dataclass
class RegionFolder:
    """A folder of regions.

    Attributes:
        splits: split -> rows.
        span_bp: length of the spans, in bp.
        cell_types: names of all cell types, as regions.json has them.
    """

    splits: dict[str, RegionRows]
    span_bp: int
    cell_types: list[str]


def read_regions(folder: str | Path) -> RegionFolder:
    """Read a folder that `build regions` wrote.

    Raises:
        FileNotFoundError: where there is no such folder, or it lacks regions.json.
        ValueError: where it has no training rows, or files that do not fit each other.
    """
    folder = Path(folder)
    described = read_description(folder, REGIONS_FILE, BUILDER)
    missing = [name for name in ("span_bp", "cell_types") if not described.get(name)]
    if missing:
        raise ValueError(f"{folder / REGIONS_FILE} has no {' and no '.join(missing)}: `{BUILDER}` again")
    cell_types = [str(name) for name in described["cell_types"]]
    loaded = load_splits(folder, BUILDER)
    splits = {
        split: RegionRows(loaded[split], cell_types, source=f"{folder}, split {split}")
        for split in SPLITS
        if split in loaded and len(loaded[split])
    }
    if "train" not in splits:
        raise ValueError(f"{folder} has no training rows; its splits are {', '.join(loaded) or 'none'}")
    return RegionFolder(splits, int(described["span_bp"]), cell_types)


@dataclass
class RegionRankingCollator:
    """Rows to tokens and counts.

    Attributes:
        tokenizer: a `NucleotideKmerTokenizer`.
        num_tokens: tokens of a region, <cls> and padding included; what a region has beyond is cut off its end.
        padding: where padding stands: as each row has it stored, at the end, or at random, anew each epoch.
        reverse_complement: share of the rows whose regions are read from the other strand.
        shuffle_regions: put a row's regions into random order, so that none can be learned from.
        with_cell_types: also give the cell types' numbers, for models with `config.cell_types`.
        seed: of all that is random, which depends on it, the epoch and the row's number alone: the same batch comes out
            of one or several processes, and after a restart.
    """

    tokenizer: Any
    num_tokens: int
    padding: Padding = "stored"
    reverse_complement: float = 0.0
    shuffle_regions: bool = True
    with_cell_types: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_tokens < 2:
            raise ValueError(f"num_tokens is {self.num_tokens}: expected at least <cls> and a token")
        if self.padding not in PADDINGS:
            raise ValueError(f"padding is {self.padding!r}: expected one of {', '.join(PADDINGS)}")
        if not 0 <= self.reverse_complement <= 1:
            raise ValueError(f"reverse_complement is {self.reverse_complement}: expected a share from 0 to 1")

    def for_evaluation(self) -> "RegionRankingCollator":
        """The same without augmentation, and with cell types; random padding is that of epoch 0."""
        return dataclasses.replace(self, reverse_complement=0.0, shuffle_regions=False, with_cell_types=True)

    def __call__(self, rows: Sequence[RegionRankingRow]) -> dict[str, torch.Tensor]:
        """A batch.

        Returns:
            `input_ids` and `attention_mask` (rows, regions, tokens) int64, <cls> first; `labels` (rows, regions)
            float32 counts and `region_mask` (rows, regions) bool: behind a row's last region False, with a label of
            -100 and padding; `cell_type_ids` (rows,) int64 if asked for; and `blocks` (rows,) where rows have them.
        """
        drawn = [self._augmented(row) for row in rows]
        is_region = np.arange(max(len(row.counts) for row in rows)) < np.array([[len(row.counts)] for row in rows])
        shape = (*is_region.shape, self.num_tokens)
        input_ids = np.full(shape, self.tokenizer.pad_token_id, dtype=np.int64)
        attention_mask = np.zeros(shape, dtype=np.int64)
        input_ids[is_region], attention_mask[is_region] = self._tokens(drawn)
        labels = np.full(is_region.shape, IGNORED_LABEL, dtype=np.float32)
        labels[is_region] = np.concatenate([row.counts for row in drawn])
        arrays = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels, "region_mask": is_region}
        batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
        if self.with_cell_types:
            batch["cell_type_ids"] = torch.tensor([row.cell_type for row in rows])
        blocks = [row.block for row in rows if row.block is not None]
        return {**batch, "blocks": torch.tensor(blocks)} if blocks else batch

    def _tokens(self, rows: list[RegionRankingRow]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(regions of all rows, num_tokens) ids and mask."""
        letters = [sequence.tobytes() for row in rows for sequence in row.sequences]
        tokens = self.tokenizer.encode_batch_bases(letters, padding=False)["input_ids"]
        shares = np.concatenate([row.padding_share for row in rows]).tolist()
        placed = [
            place_tokens(
                [ids[: self.num_tokens]], share, num_tokens=self.num_tokens, pad_token_id=self.tokenizer.pad_token_id
            )
            for ids, share in zip(tokens, shares, strict=True)
        ]
        return np.concatenate([ids for ids, _ in placed]), np.concatenate([mask for _, mask in placed])

    def _augmented(self, row: RegionRankingRow) -> RegionRankingRow:
        """The row with its padding, strand and order drawn."""
        regions = len(row.counts)
        random = np.random.default_rng((self.seed, row.epoch, row.number))
        # All are drawn whatever is asked for, so that one option does not change what another draws.
        drawn, is_reversed = random.random(regions), random.random() < self.reverse_complement
        order = random.permutation(regions) if self.shuffle_regions else np.arange(regions)
        shares = {"stored": row.padding_share, "end": np.zeros(regions), "random": drawn}[self.padding]
        sequences = [row.sequences[place] for place in order.tolist()]
        if is_reversed:
            sequences = [COMPLEMENT[sequence[::-1]] for sequence in sequences]
        return row._replace(sequences=sequences, counts=row.counts[order], padding_share=shares[order])


def _renumbered(
    numbers: npt.NDArray[np.int64], names: list[str], cell_types: list[str], source: str
) -> npt.NDArray[np.int64]:
    unknown = sorted(set(names) - set(cell_types))
    if unknown:
        raise ValueError(
            f"{source}: rows are of cell types that {REGIONS_FILE} does not name, {', '.join(unknown[:5])}: it has "
            f"{', '.join(cell_types[:5])}{', ...' if len(cell_types) > 5 else ''}. Do it and the Parquet files belong "
            "together?"
        )
    return np.array([cell_types.index(name) for name in names], dtype=np.int64)[numbers]


def _require(is_right: npt.NDArray[np.bool_], wrong: str, rows: RegionRows, source: str) -> None:
    if not is_right.all():
        first = int(is_right.argmin())
        number = int((~is_right).sum())
        raise ValueError(f"{source}: {number:,} rows {wrong}, first {rows.place(first)}: `{BUILDER}` again")
