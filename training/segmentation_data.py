"""Windows of DNA with packed labels, as a torch data set and a collator that unpacks a batch at a time.

Letters and bits stay on disk (parquet_folder.py), and a window costs a slice. Labels become one byte a base and element
in the batch only. Coordinates are 0-based, half-open.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import numpy.typing as npt
import torch

from .numbered_rows import NumberedRows
from .parquet_folder import (
    COMPLEMENT,
    SPLITS,
    BytesColumn,
    encode_names,
    load_splits,
    read_description,
    require_columns,
)

IGNORED_LABEL = -100  # transformers' own
ELEMENTS_FILE = "elements.json"
BUILDER = "build segments"
_N = ord("N")


class SegmentColumns(NamedTuple):
    """Columns of the data set."""

    contig: str = "contig"
    start: str = "start"
    end: str = "end"
    sequence: str = "sequence"
    labels: str = "labels"
    ignored: str = "ignored"


COLUMNS = SegmentColumns()


class SegmentationWindow(NamedTuple):
    """What a data set hands to the collator for one window.

    Attributes:
        sequence: (bases,) uint8, ASCII letters.
        labels: (elements, bytes) uint8, eight bases a byte, the first in the highest bit.
        ignored: (bytes,) uint8 likewise, 1 where nothing is scored; empty where all is.
        number: of the window in its split, on which its augmentation depends.
        epoch: another epoch, another augmentation.
        block: that the window is counted in, for evaluation; None in training.
    """

    sequence: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    ignored: npt.NDArray[np.uint8]
    number: int = 0
    epoch: int = 0
    block: int | None = None


class SegmentationDataset(NumberedRows[SegmentationWindow]):
    """Windows of one split."""

    rows: "SegmentWindows"

    def in_blocks(self, block_bp: int) -> "SegmentationDataset":
        """The same windows for evaluation, each in the block of its contig that its start falls into."""
        contig, start = self.rows.contig[self.numbers], self.rows.start[self.numbers]
        _, block_of = np.unique(np.stack([contig, start // block_bp]), axis=1, return_inverse=True)
        return SegmentationDataset(self.rows, self.numbers, block_of=block_of.reshape(-1))

    def __getitem__(self, index: int) -> SegmentationWindow:
        window = self.rows.window(int(self.numbers[index]))
        return window._replace(epoch=self.epoch, block=self.block_at(index))


class SegmentWindows:
    """All windows of a split, as Arrow maps them from disk.

    Attributes:
        contig: (windows,) int64, numbers of the contigs in `contig_names`.
        start, end: (windows,) int64, in bp.
        elements: number of elements.

    Raises:
        ValueError: where columns are missing, or lengths do not fit each other.
    """

    def __init__(self, dataset: datasets.Dataset, elements: int, *, source: str = "the data set") -> None:
        require_columns(dataset, COLUMNS, source=source, builder=BUILDER)
        self.elements = elements
        self._dataset = dataset
        self._view()
        table = dataset.data.table
        self.contig, self.contig_names = encode_names(table.column(COLUMNS.contig))
        self.start, self.end = (table.column(name).to_numpy() for name in (COLUMNS.start, COLUMNS.end))
        self._check_lengths(source)

    def __len__(self) -> int:
        return len(self.start)

    def window(self, number: int) -> SegmentationWindow:
        labels = self._labels[number].reshape(self.elements, -1)
        return SegmentationWindow(self._sequences[number], labels, self._ignored[number], number)

    def n_counts(self) -> npt.NDArray[np.int64]:
        """(windows,) how many N each window has."""
        return self._sequences.count_of(_N)

    def holds_any(self, elements: Sequence[int]) -> npt.NDArray[np.bool_]:
        """(windows,) whether a base of the window carries any of these elements."""
        rows = list(elements)
        return np.array([self.window(number).labels[rows].any() for number in range(len(self))], dtype=bool)

    def place(self, number: int) -> str:
        """contig:start-end of a window, 1-based, both ends included, for messages."""
        return f"{self.contig_names[self.contig[number]]}:{self.start[number] + 1:,}-{self.end[number]:,}"

    def _check_lengths(self, source: str) -> None:
        bases = self.end - self.start
        n_bytes = -(-bases // 8)
        expected = {
            COLUMNS.sequence: (self._sequences.lengths(), bases),
            COLUMNS.labels: (self._labels.lengths(), self.elements * n_bytes),
            COLUMNS.ignored: (self._ignored.lengths(), np.where(self._ignored.lengths() > 0, n_bytes, 0)),
        }
        for column, (found, right) in expected.items():
            wrong = np.flatnonzero((found != right) | (bases < 1))
            if len(wrong):
                first = int(wrong[0])
                raise ValueError(
                    f"{source}: {len(wrong):,} windows have a {column} of another length than their {self.elements} "
                    f"elements and bases ask for, first {self.place(first)}: {found[first]:,} bytes, expected "
                    f"{right[first]:,}. Do {ELEMENTS_FILE} and the Parquet files belong together?"
                )

    def _view(self) -> None:
        table = self._dataset.data.table
        self._sequences, self._labels, self._ignored = (
            BytesColumn(table.column(name)) for name in (COLUMNS.sequence, COLUMNS.labels, COLUMNS.ignored)
        )

    def __getstate__(self) -> dict[str, Any]:
        # Data loader workers that are not forked get the paths of the mapped files, not the arrays.
        return {name: value for name, value in self.__dict__.items() if not isinstance(value, BytesColumn)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._view()


@dataclass
class Segments:
    """A folder of segments.

    Attributes:
        elements: names, in the order of the labels.
        splits: split -> windows.
        positive_bases: split -> (elements,) int64, bases that carry each element.
        scored_bases: split -> bases that are neither N nor ignored.
    """

    elements: list[str]
    splits: dict[str, SegmentWindows]
    positive_bases: dict[str, npt.NDArray[np.int64]]
    scored_bases: dict[str, int]

    def frequencies(self, split: str) -> npt.NDArray[np.float64]:
        """(elements,) share of the scored bases that carry each element."""
        return self.positive_bases[split] / max(self.scored_bases[split], 1)


def read_segments(folder: str | Path) -> Segments:
    """Read a folder that `build segments` wrote.

    Raises:
        FileNotFoundError: where there is no such folder, or it lacks elements.json.
        ValueError: where it has no training windows, or files that do not fit each other.
    """
    folder = Path(folder)
    described = read_description(folder, ELEMENTS_FILE, BUILDER)
    elements = [str(name) for name in described["elements"]]
    loaded = load_splits(folder, BUILDER)
    splits = {
        split: SegmentWindows(loaded[split], len(elements), source=f"{folder}, split {split}")
        for split in SPLITS
        if split in loaded and len(loaded[split])
    }
    if "train" not in splits:
        raise ValueError(f"{folder} has no training windows; its splits are {', '.join(loaded) or 'none'}")
    return Segments(
        elements,
        splits,
        {split: np.array([described["counts"][split][name] for name in elements]) for split in splits},
        {split: int(described["bases"][split]) for split in splits},
    )


@dataclass
class SegmentationCollator:
    """Windows to tokens and labels.

    Attributes:
        tokenizer: a `NucleotideKmerTokenizer`.
        reverse_complement: share of the windows that are read from the other strand, their labels turned about with
            them: labels are of the DNA, whichever strand is read.
        crop_bp: length of the piece that is cut out of a longer window, at random; None for whole windows.
        seed: of both; they depend on it, the epoch and the window's number alone, so the same batch comes out of one or
            several processes, and after a restart.
    """

    tokenizer: Any
    reverse_complement: float = 0.0
    crop_bp: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.reverse_complement <= 1:
            raise ValueError(f"reverse_complement is {self.reverse_complement}: expected a share from 0 to 1")
        if self.crop_bp is not None and self.crop_bp < 1:
            raise ValueError(f"crop_bp is {self.crop_bp}: expected a positive number of bp, or None")

    def __call__(self, windows: Sequence[SegmentationWindow]) -> dict[str, torch.Tensor]:
        """A batch.

        Returns:
            `input_ids` and `attention_mask` (windows, tokens) int64; `labels` (windows, bases, elements) int8, 1 or 0,
            -100 at N, at ignored bases and behind a window's end; where windows have blocks also `blocks` (windows,).
        """
        pieces = [self.piece(window) for window in windows]
        tokens = self.tokenizer.encode_batch_bases([sequence.tobytes() for sequence, _ in pieces])
        longest = max(len(sequence) for sequence, _ in pieces)
        labels = np.full((len(pieces), longest, pieces[0][1].shape[1]), IGNORED_LABEL, dtype=np.int8)
        for row, (sequence, piece) in zip(labels, pieces, strict=True):
            row[: len(sequence)] = piece
        batch = {name: torch.from_numpy(array) for name, array in tokens.items()}
        batch["labels"] = torch.from_numpy(labels)
        blocks = [window.block for window in windows if window.block is not None]
        return {**batch, "blocks": torch.tensor(blocks)} if blocks else batch

    def piece(self, window: SegmentationWindow) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int8]]:
        """(bases,) letters and (bases, elements) labels of a window, cropped and turned about."""
        start, end, is_reversed = self._draw(window)
        sequence = window.sequence[start:end]
        labels = unpack(window.labels, start, end).view(np.int8).T
        is_ignored = sequence == _N
        if len(window.ignored):
            is_ignored |= unpack(window.ignored, start, end).view(bool)
        if is_ignored.any():
            labels = np.where(is_ignored[:, None], np.int8(IGNORED_LABEL), labels)
        return (COMPLEMENT[sequence[::-1]], labels[::-1]) if is_reversed else (sequence, labels)

    def _draw(self, window: SegmentationWindow) -> tuple[int, int, bool]:
        bases = len(window.sequence)
        length = bases if self.crop_bp is None else min(self.crop_bp, bases)
        if length == bases and not self.reverse_complement:
            return 0, bases, False
        random = np.random.default_rng((self.seed, window.epoch, window.number))
        start = int(random.integers(bases - length + 1))
        return start, start + length, bool(random.random() < self.reverse_complement)


def unpack(bits: npt.NDArray[np.uint8], start: int, end: int) -> npt.NDArray[np.uint8]:
    """(..., bytes), eight bases a byte -> (..., end - start) of 0 and 1."""
    first = start // 8
    unpacked = np.unpackbits(bits[..., first : -(-end // 8)], axis=-1)
    return unpacked[..., start - 8 * first : end - 8 * first]
