"""From finished blocks to files: a bigWig an element, and called segments as BED and as a table, all in one order.

Blocks are read one at a time, and segments merged from sorted files, so that memory does not grow with the genome.
"""

import heapq
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from .pipelines.segmentation_calls import COLUMNS, SegmentCaller
from .pipelines.segmentation_input import Region
from .pipelines.segmentation_tracks import TrackPiece, bed_line, colours_of, track_names, write_bigwig
from .segmentation_blocks import read_block

TRACKS, BED, TABLE = "tracks", "segments.bed", "segments.tsv"


class CallOptions(NamedTuple):
    """Element -> threshold, in the order of the elements; and lengths in bp, as `SegmentCaller` takes them."""

    thresholds: Mapping[str, float]
    minimum_length: int
    merge_gap: int


class CalledSegment(NamedTuple):
    """A row of segments.tsv, with the numbers of its contig and element in front, by which rows are sorted."""

    contig_number: int
    start: int
    end: int
    element_number: int
    mean_probability: float
    max_probability: float


@dataclass
class ElementCounts:
    """What was found of one element.

    Attributes:
        threshold: probability from which a base is called.
        segments: number of them.
        segments_bp: bases that they cover, merged gaps included.
        segments_too_short: left out, shorter than the minimum.
        mean_probability: over all bases with a value.
    """

    threshold: float
    segments: int = 0
    segments_bp: int = 0
    segments_too_short: int = 0
    mean_probability: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class FinishedBlocks(NamedTuple):
    """The folder of `SegmentationBlocks`, how many blocks it has, and contig -> length in bp."""

    folder: Path
    n_blocks: int
    contigs: Mapping[str, int]


def write_elements(
    blocks: FinishedBlocks, folder: Path, calls: CallOptions, *, processes: int = 1
) -> Iterator[ElementCounts]:
    """`write_element` of each element, in order, by several processes at once; the bytes do not depend on how many."""
    numbers = range(len(calls.thresholds))
    if processes == 1:
        yield from (write_element(blocks, number, folder, calls) for number in numbers)
        return
    # Processes are spawned: forking a process that has threads may lock up.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(partial(write_element, blocks, folder=folder, calls=calls), numbers)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def write_element(blocks: FinishedBlocks, number: int, folder: Path, calls: CallOptions) -> ElementCounts:
    """Write one element's bigWig, and its segments as a temporary file for `merge_segments`.

    Args:
        blocks: in the order of the genome.
        number: of the element, in the order of `calls.thresholds`.
        folder: of the result; its folder `tracks` is there.
        calls: how segments are called.
    """
    elements = list(calls.thresholds)
    threshold = calls.thresholds[elements[number]]
    counts = ElementCounts(threshold)
    caller = SegmentCaller(threshold, minimum_length=calls.minimum_length, merge_gap=calls.merge_gap)
    contig_numbers = {name: place for place, name in enumerate(blocks.contigs)}
    total, n_known = 0.0, 0

    def pieces(file: TextIO) -> Iterator[TrackPiece]:
        nonlocal total, n_known
        contig = None
        for block in range(blocks.n_blocks):
            for piece in read_block(blocks.folder, block, number):
                if contig is not None and piece.contig != contig:
                    _write_rows(file, contig_numbers[contig], number, caller.finish(), counts)
                contig = piece.contig
                _write_rows(file, contig_numbers[contig], number, caller.add(piece.start, piece.values), counts)
                total += float(np.nansum(piece.values, dtype=np.float64))
                n_known += int((~np.isnan(piece.values)).sum())
                yield piece
        if contig is not None:
            _write_rows(file, contig_numbers[contig], number, caller.finish(), counts)

    with _rows_path(folder, number).open("w", encoding="utf-8") as file:
        write_bigwig(folder / TRACKS / track_names(elements)[number], blocks.contigs, pieces(file))
    counts.segments_too_short = caller.n_dropped
    counts.mean_probability = round(total / n_known, 6)
    return counts


def merge_segments(
    folder: Path, elements: Sequence[str], contigs: Sequence[str], *, plotted: Sequence[Region] = ()
) -> list[list[dict[str, Any]]]:
    """Write segments.bed and segments.tsv from the elements' own rows, by contig, start, end and element.

    Args:
        folder: of the result, after `write_element` of each element.
        elements, contigs: names in order.
        plotted: regions whose segments are wanted.

    Returns:
        The rows, as in the table, that reach into each region.
    """
    colours = colours_of(elements)
    inside: list[list[dict[str, Any]]] = [[] for _ in plotted]
    with ExitStack() as stack:
        files = [
            stack.enter_context(_rows_path(folder, number).open(encoding="utf-8")) for number in range(len(elements))
        ]
        bed = stack.enter_context((folder / BED).open("w", encoding="utf-8", newline="\n"))
        table = stack.enter_context((folder / TABLE).open("w", encoding="utf-8", newline="\n"))
        table.write("\t".join(COLUMNS) + "\n")
        for segment in heapq.merge(*(map(_read_row, file) for file in files)):
            contig, element = contigs[segment.contig_number], elements[segment.element_number]
            values = (contig, segment.start, segment.end, element, segment.mean_probability, segment.max_probability)
            row = dict(zip(COLUMNS, values, strict=True))
            bed.write(bed_line(contig, segment.start, segment.end, element, segment.mean_probability, colours[element]))
            table.write("\t".join(map(str, row.values())) + "\n")
            for region, found in zip(plotted, inside, strict=True):
                if contig == region.contig and segment.start < region.end and segment.end > region.start:
                    found.append(row)
    for number in range(len(elements)):
        _rows_path(folder, number).unlink()
    return inside


def _rows_path(folder: Path, number: int) -> Path:
    return folder / f".rows-{number}.tsv"


def _write_rows(file: TextIO, contig: int, element: int, segments: np.ndarray, counts: ElementCounts) -> None:
    counts.segments += len(segments)
    for start, end, mean, maximum in segments.tolist():
        counts.segments_bp += int(end - start)
        file.write(f"{contig}\t{int(start)}\t{int(end)}\t{element}\t{mean:.6f}\t{maximum:.6g}\n")


def _read_row(line: str) -> CalledSegment:
    contig, start, end, element, mean, maximum = line.split("\t")
    return CalledSegment(int(contig), int(start), int(end), int(element), float(mean), float(maximum))
