"""The data set of region ranking: spans of DNA with three regions each, ordered by how accessible their chromatin is.

Source: "Region Ranking on scATAC", section 3.2: peaks seen in 1 % of the cells, reads to fragments, mean by cell type
with a floor, spans of 3 kb in ten shifted tilings, two regions with fragments and one without. The defaults are the
thesis' first version; `padding="random"` with `duplicates="drop"` is its second (section 3.3.4).
"""

import logging
import multiprocessing
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
from tqdm.auto import tqdm

from .accessibility_inputs import AccessibilityReading, read_accessibility
from .accessibility_sources import AccessibilitySource
from .annotation_build import BeyondContig
from .genome_files import GenomeFiles
from .interval_regions import merge_intervals
from .region_folder import describe_regions
from .region_peaks import LongPeaks, OtherContigs, PlacedPeaks, PlacementRules, place_peaks
from .region_shards import (
    ContigSample,
    Duplicates,
    Padding,
    RegionJob,
    ShardAccount,
    ShardSettings,
    write_region,
)
from .region_spans import cut_into_spans, tilings
from .region_triplets import TripletRules
from .segment_sources import BedFiles, IntervalReader, read_blacklist
from .segment_windows import SPLITS, Place, SplitRegion, split_regions
from .whole_folder import require_free, whole_folder

logger = logging.getLogger(__name__)

EqualCounts = Literal["keep", "drop"]
# Chromosomes of the thesis' splits, which are the Nucleotide Transformer's.
DEFAULT_SPLITS = {
    "train": [*map(str, range(1, 20)), "X", "Y"],
    "validation": ["22"],
    "test": ["20", "21"],
}


def build_regions(
    fasta: str | Path | Sequence[str | Path],
    sources: Sequence[AccessibilitySource | str | Path],
    output: str | Path,
    *,
    train: Sequence[Place] | None = None,
    validation: Sequence[Place] | None = None,
    test: Sequence[Place] | None = None,
    reading: AccessibilityReading | None = None,
    floor: float = 0.1,
    blacklist: BedFiles | None = None,
    other_contigs: OtherContigs = "error",
    beyond_contig: BeyondContig = "error",
    minimum_match: float = 0.95,
    maximum_blacklisted: float = 0.03,
    maximum_n_peaks: float = 0.001,
    span_bp: int = 3_000,
    shift_factor: int = 10,
    long_peaks: LongPeaks = "split",
    minimum_region_bp: int = 1,
    minimum_zero_bp: int = 100,
    equal_counts: EqualCounts = "keep",
    maximum_n: float = 0.0,
    padding: Padding = "end",
    duplicates: Duplicates = "keep",
    split_gap_bp: int | None = None,
    offsets: Mapping[str, int] | None = None,
    cache_folder: str | Path | None = None,
    seed: int = 0,
    processes: int = 1,
    overwrite: bool = False,
    progress: bool = False,
) -> dict:
    """Write spans with three regions each as a data set: a folder that `load_dataset` reads, one row a span.

    A row is one span in one cell type; its columns are those of `REGION_SCHEMA`. The first two regions have counts
    above zero, the third has zero. `regions.json` holds settings, samples and cell types; `report.json` accounts for
    what was left out at each step, and is also returned. The folder appears when it is complete.

    Args:
        fasta: one FASTA file or several: plain, gzip or BGZF.
        sources: peaks x cells, or fragments; a sample each.
        output: folder to make.
        train, validation, test: contigs of each split, or regions of contigs, as `build_segments` takes them. By
            default, where none of the three is given, the thesis' chromosomes, as far as the genome has them: 1 to 19,
            X and Y; 22; 20 and 21.
        reading: how sources are read; the thesis' way by default. Its `overlapping` holds for lifted peaks too.
        floor: means below become 0, in fragments a cell.
        blacklist: BED file or files, in the genome's assembly unless they name a chain: peaks on them are left out,
            and no zero region is placed there.
        other_contigs: peaks on chromosomes in no split: `error`, or `drop`. Peaks on scaffolds are dropped.
        beyond_contig: peaks beyond the end of their contig: `error`, or `drop`.
        minimum_match: least share of a peak's length that a lift keeps, as `lift_intervals`.
        maximum_blacklisted, maximum_n_peaks: where a larger share of the peaks is blacklisted, or N, they seem to be
            of another assembly: an error.
        span_bp: length of a span.
        shift_factor: number of tilings, each moved by `span_bp / shift_factor`.
        long_peaks: peaks longer than a span: `split` where spans end, as all are; `drop`, or `error`.
        minimum_region_bp: shorter pieces are not chosen.
        minimum_zero_bp: shortest zero region that is placed where no peak is.
        equal_counts: spans whose two non-zero regions have one count: `keep`, or `drop`, since they have no order.
        maximum_n: spans with a region that has a larger share of N are left out.
        padding: where padding tokens stand: at the `end`, or spread at `random`; kept in the rows.
        duplicates: `keep`, or `drop` spans that hold a base of a region already seen, whatever its sample, cell type
            or tiling.
        split_gap_bp: least distance of two splits' regions on one contig; `span_bp` by default.
        offsets: contig -> 0-based coordinate of the first base, for contigs of which a file holds a piece.
        cache_folder: as `open_genome`.
        seed: of all draws; the same seed gives the same bytes.
        processes: that work on regions side by side; the bytes do not depend on it.
        overwrite: replace the folder.
        progress: show a bar.

    Raises:
        FileExistsError: where the folder exists and `overwrite` is false.
        FileNotFoundError: for a file that is not there.
        ValueError: for settings out of range, sources that cannot be read or are of another assembly, peaks on
            chromosomes in no split, a split without rows; the message names the place and the remedy.
    """
    output = Path(output)
    require_free(output, overwrite=overwrite)
    settings = ShardSettings(span_bp, shift_factor, padding, duplicates, maximum_n, seed)
    lengths = {"minimum_zero_bp": minimum_zero_bp, "minimum_region_bp": minimum_region_bp}
    choice: dict[str, Any] = {**lengths, "equal_counts": equal_counts}
    _check_settings(settings, floor=floor, processes=processes, **choice)
    opened = [one if isinstance(one, AccessibilitySource) else AccessibilitySource(one) for one in sources]
    reading = reading or AccessibilityReading()
    with _genome_folder(cache_folder) as folder, GenomeFiles(fasta, offsets=offsets, cache_folder=folder) as genome:
        splits = _chosen_splits(genome, {"train": train, "validation": validation, "test": test})
        regions = split_regions(genome, splits, gap_bp=span_bp if split_gap_bp is None else split_gap_bp)
        contigs = list(dict.fromkeys(region.contig for region in regions))
        black, black_report = read_blacklist(IntervalReader(genome, contigs, "drop", minimum_match), blacklist)
        rules = PlacementRules(
            contigs,
            merge_intervals(black),
            minimum_match=minimum_match,
            overlapping=reading.overlapping,
            other_contigs=other_contigs,
            beyond_contig=beyond_contig,
            long_peaks=long_peaks,
            span_bp=span_bp,
            maximum_blacklisted=maximum_blacklisted,
            maximum_n_peaks=maximum_n_peaks,
        )
        samples, account = _read_samples(opened, reading, genome, rules, floor)
        with whole_folder(output) as partial:
            jobs = _jobs(partial, regions, rules.blacklist, samples, settings, choice)
            accounts = _write_all(jobs, genome, folder, processes=processes, progress=progress)
            report = {
                "settings": {
                    **asdict(settings),
                    **choice,
                    "floor": floor,
                    "reading": asdict(reading),
                },
                "blacklist": black_report,
                "samples": account,
            }
            describe_regions(partial, jobs, accounts, samples, report)
    logger.info("%s: %s", output, report["rows"])
    return report


def _check_settings(
    settings: ShardSettings,
    *,
    floor: float,
    processes: int,
    minimum_zero_bp: int,
    minimum_region_bp: int,
    equal_counts: EqualCounts,
) -> None:
    tilings(settings.span_bp, settings.shift_factor)  # raises for lengths that make no span
    for name, value, choices in (
        ("padding", settings.padding, get_args(Padding)),
        ("duplicates", settings.duplicates, get_args(Duplicates)),
        ("equal_counts", equal_counts, get_args(EqualCounts)),
    ):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
    if not 0 <= settings.maximum_n <= 1 or floor < 0 or processes < 1:
        raise ValueError(
            f"maximum_n is {settings.maximum_n}, floor {floor} and processes {processes}; expected a share from 0 to "
            "1, a number of fragments of at least 0, and at least one process"
        )
    if not 1 <= minimum_zero_bp <= settings.span_bp or not 1 <= minimum_region_bp <= settings.span_bp:
        raise ValueError(
            f"minimum_zero_bp is {minimum_zero_bp} and minimum_region_bp {minimum_region_bp}; expected from 1 to the "
            f"{settings.span_bp:,} bp of a span"
        )
    if settings.seed < 0:
        raise ValueError(f"seed is {settings.seed}; expected a whole number of at least 0")


@contextmanager
def _genome_folder(cache_folder: str | Path | None) -> Iterator[Path]:
    """Where sequence is decompressed to: processes that work side by side share it."""
    if cache_folder is not None:
        yield Path(cache_folder)
        return
    with tempfile.TemporaryDirectory(prefix="genome-") as folder:
        yield Path(folder)


def _chosen_splits(genome: GenomeFiles, splits: Mapping[str, Sequence[Place] | None]) -> Mapping[str, Sequence[Place]]:
    if any(places is not None for places in splits.values()):
        return {split: places or () for split, places in splits.items()}
    there = {
        split: [name for name in chromosomes if genome.find(name) is not None]
        for split, chromosomes in DEFAULT_SPLITS.items()
    }
    if not there["train"]:
        raise ValueError(
            f"{genome} has none of the chromosomes that are trained on by default, 1 to 19, X and Y: name contigs in "
            "train, validation and test"
        )
    return there


def _read_samples(
    sources: Sequence[AccessibilitySource],
    reading: AccessibilityReading,
    genome: GenomeFiles,
    rules: PlacementRules,
    floor: float,
) -> tuple[list[PlacedPeaks], dict[str, dict]]:
    """Every source on the genome, its means floored; and by sample what was left out."""
    if not sources:
        raise ValueError("no source is given; expected peaks x cells, or fragments, of one sample or more")
    samples: list[PlacedPeaks] = []
    account: dict[str, dict] = {}
    for source in sources:
        # Tiles reach to the ends of contigs, which are the genome's where both are of one assembly.
        lengths = genome.contigs if source.chain is None else None
        read = read_accessibility(source, reading, contig_lengths=lengths)
        if read.sample in account:
            raise ValueError(
                f"two sources are called {read.sample!r}, {source.path} is the second: name one of them otherwise "
                "(PATH:name=NAME)"
            )
        placed = place_peaks(read, genome, replace(rules, chain=source.chain))
        is_low = (placed.means > 0) & (placed.means < floor)
        placed.means[is_low] = 0
        kinds = zip(read.cell_types, read.n_cells.values(), is_low, placed.means > 0, strict=True)
        by_type = {
            kind: {"cells": int(cells), "means below the floor": int(low.sum()), "peaks with a count": int(kept.sum())}
            for kind, cells, low, kept in kinds
        }
        account[read.sample] = {"input": read.report, "on the genome": placed.report, "cell types": by_type}
        samples.append(placed)
    return samples, account


def _jobs(
    folder: Path,
    regions: Sequence[SplitRegion],
    blacklist: pd.DataFrame,
    samples: Sequence[PlacedPeaks],
    settings: ShardSettings,
    choice: Mapping[str, Any],
) -> list[RegionJob]:
    """One a region, its peaks with it."""
    rules = [TripletRules(*_lengths(placed, settings), **choice) for placed in samples]
    numbers = {split: [region for region in regions if region.split == split] for split in SPLITS}
    jobs = []
    for number, region in enumerate(regions):
        among = numbers[region.split]
        path = folder / "data" / f"{region.split}-{among.index(region):05d}-of-{len(among):05d}.parquet"
        own = [_on_contig(placed, rule, region.contig) for placed, rule in zip(samples, rules, strict=True)]
        jobs.append(RegionJob(number, region, blacklist[blacklist["contig"] == region.contig], own, settings, path))
    return jobs


def _lengths(placed: PlacedPeaks, settings: ShardSettings) -> tuple[float, float]:
    """Mean and standard deviation, in bp, of the pieces that spans of the first tiling make of the peaks."""
    lengths = []
    for _, peaks in placed.peaks.groupby("contig"):
        starts, ends = (peaks[name].to_numpy(np.int64) for name in ("start", "end"))
        pieces = cut_into_spans(starts, ends, tilings(settings.span_bp, 1)[0])
        lengths.append(pieces.end - pieces.start)
    every = np.concatenate(lengths)
    return float(every.mean()), float(every.std())


def _on_contig(placed: PlacedPeaks, rules: TripletRules, contig: str) -> ContigSample:
    rows = np.flatnonzero(placed.peaks["contig"] == contig)
    peaks = placed.peaks.iloc[rows]
    starts, ends = (peaks[name].to_numpy(np.int64) for name in ("start", "end"))
    names = pa.array(peaks["name"], pa.string())
    return ContigSample(placed.sample, placed.cell_types, starts, ends, names, placed.means[:, rows], rules)


def _write_all(
    jobs: Sequence[RegionJob], genome: GenomeFiles, folder: Path, *, processes: int, progress: bool
) -> list[ShardAccount]:
    """The account of each job; the bytes do not depend on the number of processes."""
    with tqdm(total=len(jobs), unit="region", disable=not progress) as bar:
        if processes == 1 or len(jobs) == 1:
            accounts = []
            for job in jobs:
                accounts.append(write_region(job, genome))
                bar.update()
            return accounts
        # Processes are spawned: forking a process that has threads may lock up.
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            opened = (genome.paths, genome.offsets, folder)
            futures = [pool.submit(_write_region_here, job, *opened) for job in jobs]
            try:
                for _ in as_completed(futures):
                    bar.update()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
            return [future.result() for future in futures]


def _write_region_here(
    job: RegionJob, paths: Sequence[Path], offsets: Mapping[str, int], cache_folder: Path
) -> ShardAccount:
    """In a worker process."""
    with GenomeFiles(paths, offsets=offsets, cache_folder=cache_folder) as genome:
        return write_region(job, genome)
