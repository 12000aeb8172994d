"""Spans per second and peak memory of `build_regions`, beside the same steps written as pandas and bioframe code.

    python benchmarks/build_regions.py

Simulates peaks x cells (seeded; one peak in 600 bp, 100 cells of two types, one count in 20) over a random genome, and
measures both in turn, each in a process of its own, with imports and compilation done before the clock starts and the
files in the page cache. Both read the .h5ad, filter peaks, average fragments by type, cut spans of 3 kb, choose two
non-zero regions and one zero region of each, fetch their sequences and write Parquet; one tiling, no lift, no
blacklist. The plain code is as a notebook has it: bioframe for spans and overlaps, a loop over groups for the choice.
Writes benchmarks/results/build_regions.json: median and range of the rounds, ratios, and memory by number of peaks.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anndata
import bioframe
import numpy as np
import pandas as pd
import pyfaidx
import scipy.sparse as sp

from omics_transformers.data_scripts.regions import build_regions

BP_A_PEAK, CONTIG_BP, N_CELLS, SPAN_BP, FLOOR = 600, 60_000_000, 100, 3_000, 0.1
TARGETS = {"plain code over ours": 10.0}
TASKS = ("build", "plain")


def main() -> None:
    """Measures every task at every size, or, as a process of its own, one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peaks", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--plain-peaks", type=int, default=100_000, help="largest size that the plain code runs at")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "build_regions.json")
    parser.add_argument("--measure", nargs=2, metavar=("TASK", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure[0], Path(options.measure[1]))))
        return
    results = []
    for n_peaks in options.peaks:
        with tempfile.TemporaryDirectory() as folder:
            simulate(Path(folder), n_peaks, options.seed)
            tasks = TASKS if n_peaks <= options.plain_peaks else TASKS[:1]
            results.append(benchmark(Path(folder), n_peaks, tasks, options.rounds))
    write_results(results, options)


def simulate(folder: Path, n_peaks: int, seed: int) -> None:
    """genome.fa with an index, and cells.h5ad."""
    random = np.random.default_rng(seed)
    genome_bp = n_peaks * BP_A_PEAK
    lengths = [min(CONTIG_BP, genome_bp - start) for start in range(0, genome_bp, CONTIG_BP)]
    contig, start, end = [], [], []
    with (folder / "genome.fa").open("wb") as file:
        for number, length in enumerate(lengths):
            file.write(f">chr{number + 1}\n".encode())
            letters = np.frombuffer(b"ACGT", dtype=np.uint8)[random.integers(0, 4, length, dtype=np.uint8)]
            file.write(letters.tobytes() + b"\n")
            first = np.arange(0, length - BP_A_PEAK + 1, BP_A_PEAK) + random.integers(0, 100, length // BP_A_PEAK)
            contig.append(np.full(len(first), f"chr{number + 1}"))
            start.append(first)
            end.append(first + random.integers(150, 450, len(first)))
    contigs, starts, ends = (np.concatenate(parts) for parts in (contig, start, end))
    names = [f"{one}:{first}-{last}" for one, first, last in zip(contigs, starts, ends, strict=True)]
    counts = sp.random(N_CELLS, len(names), 0.05, format="csr", random_state=seed, dtype=np.float32)
    counts.data = (2 * random.integers(1, 5, len(counts.data))).astype(np.float32)
    obs = pd.DataFrame({"cell_type": np.where(np.arange(N_CELLS) % 2, "one", "other")})
    cells = anndata.AnnData(counts, obs.set_index(obs.index.astype(str)), pd.DataFrame(index=names))
    cells.write_h5ad(folder / "cells.h5ad")
    pyfaidx.Fasta(str(folder / "genome.fa")).close()


def benchmark(folder: Path, n_peaks: int, tasks: tuple[str, ...], n_rounds: int) -> dict[str, Any]:
    """Rounds of all tasks in turn over the same files."""
    rounds: dict[str, list[dict[str, float]]] = {task: [] for task in tasks}
    for number in range(n_rounds):
        for task in tasks:
            command = [sys.executable, __file__, "--measure", task, str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rounds[task].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{n_peaks} peaks, round {number + 1}, {task}: {rounds[task][-1]['seconds']:.2f} s", flush=True)
    result: dict[str, Any] = {"n_peaks": n_peaks}
    result |= {task: summarise(measured, n_peaks) for task, measured in rounds.items()}
    if len(tasks) == 2:
        pairs = zip(rounds["plain"], rounds["build"], strict=True)
        ratios = [plain["seconds"] / build["seconds"] for plain, build in pairs]
        result["plain_over_build"] = spread(ratios, 1)
    return result


def summarise(measured: list[dict[str, float]], n_peaks: int) -> dict[str, Any]:
    """Seconds, spans and peaks per second at the median, and the highest peak of memory."""
    seconds = statistics.median(one["seconds"] for one in measured)
    grown = max(one["peak_mib"] - one["before_mib"] for one in measured)
    return {
        "seconds": spread([one["seconds"] for one in measured], 3),
        "spans": int(measured[0]["spans"]),
        "spans_per_second": round(measured[0]["spans"] / seconds),
        "peaks_per_second": round(n_peaks / seconds),
        "peak_memory_mib": round(max(one["peak_mib"] for one in measured)),
        "memory_beyond_imports_kib_a_peak": round(grown * 1024 / n_peaks, 2),
    }


def spread(values: list[float], digits: int) -> dict[str, float]:
    """Median and range."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def measure(task: str, folder: Path) -> dict[str, float]:
    """Seconds, spans, and peak memory of this process, for one task."""
    run = {"build": build, "plain": plain}[task]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        small = Path(scratch) / "small"
        small.mkdir()
        simulate(small, 200, seed=1)
        run(small, Path(scratch) / "warm")  # imports, and kernels from numba's cache
        before = peak_memory_mib()
        start = time.perf_counter()
        spans = run(folder, Path(scratch) / "out")
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "spans": spans, "peak_mib": peak_memory_mib(), "before_mib": before}


def peak_memory_mib() -> float:
    """Peak resident memory of this process, which starts no others; getrusage would count the parent's before exec."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def build(folder: Path, output: Path) -> int:
    """This package."""
    from omics_transformers.data_scripts.accessibility_inputs import AccessibilitySource

    source = AccessibilitySource(folder / "cells.h5ad", label_column="cell_type")
    contigs = list(pyfaidx.Fasta(str(folder / "genome.fa")).keys())
    report = build_regions(folder / "genome.fa", [source], output, train=contigs, shift_factor=1)
    return report["rows"]["train"]


def plain(folder: Path, output: Path) -> int:
    """The same steps as a notebook would have them."""
    output.mkdir()
    cells = anndata.read_h5ad(folder / "cells.h5ad")
    cells = cells[:, np.asarray((cells.X > 0).mean(axis=0)).ravel() >= 0.01]
    fragments = cells.X.copy()
    fragments.data = np.ceil(fragments.data.astype(np.float64) / 2)
    places = cells.var_names.to_series().str.extract(r"(?P<chrom>.+):(?P<start>\d+)-(?P<end>\d+)")
    peaks = places.astype({"start": int, "end": int}).reset_index(names="name")
    genome = pyfaidx.Fasta(str(folder / "genome.fa"), as_raw=True, sequence_always_upper=True)
    spans = bioframe.binnify(pd.Series({name: len(genome[name]) for name in genome.keys()}), SPAN_BP)  # noqa: SIM118
    spans = spans[spans["end"] - spans["start"] == SPAN_BP]
    random, rows = np.random.default_rng(0), []
    mean_bp, sd_bp = (peaks["end"] - peaks["start"]).mean(), (peaks["end"] - peaks["start"]).std()
    for kind in cells.obs["cell_type"].unique():
        mean = np.asarray(fragments[(cells.obs["cell_type"] == kind).to_numpy()].mean(axis=0)).ravel()
        peaks["count"] = np.where(mean < FLOOR, 0, mean)
        pieces = bioframe.overlap(peaks, spans, suffixes=("", "_span"))
        pieces["piece_start"] = pieces[["start", "start_span"]].max(axis=1)
        pieces["piece_end"] = pieces[["end", "end_span"]].min(axis=1)
        share = (pieces["piece_end"] - pieces["piece_start"]) / (pieces["end"] - pieces["start"])
        pieces["count"] *= share
        for (chrom, first), group in pieces.dropna(subset=["start_span"]).groupby(["chrom_span", "start_span"]):
            chosen = choose(group, int(first), mean_bp, sd_bp, random)
            if chosen is not None:
                sequences = [genome[chrom][start:end] for start, end, *_ in chosen]
                rows.append((chrom, int(first), kind, chosen, sequences))
    table = pd.DataFrame(
        {
            "contig": [row[0] for row in rows],
            "span_start": [row[1] for row in rows],
            "cell_type": [row[2] for row in rows],
            "starts": [[one[0] for one in row[3]] for row in rows],
            "ends": [[one[1] for one in row[3]] for row in rows],
            "counts": [[one[2] for one in row[3]] for row in rows],
            "peaks": [[one[3] for one in row[3]] for row in rows],
            "sequences": [row[4] for row in rows],
        }
    )
    table.to_parquet(output / "train.parquet", compression="zstd")
    return len(table)


def choose(
    group: pd.DataFrame, first: int, mean_bp: float, sd_bp: float, random: np.random.Generator
) -> list[tuple[int, int, float, str]] | None:
    """Two non-zero pieces and a zero one of a span."""
    non_zero, zero = group[group["count"] > 0], group[group["count"] == 0]
    if len(non_zero) < 2:
        return None
    picked = non_zero.sample(2, random_state=random)
    if len(zero):
        picked = pd.concat([picked, zero.sample(1, random_state=random)])
        return list(picked[["piece_start", "piece_end", "count", "name"]].itertuples(index=False, name=None))
    places = group.sort_values("piece_start")
    starts = [first, *places["piece_end"].astype(int)]
    ends = [*places["piece_start"].astype(int), first + SPAN_BP]
    start, end = max(zip(starts, ends, strict=True), key=lambda gap: gap[1] - gap[0])
    if end - start < 100:
        return None
    length = int(np.clip(random.normal(mean_bp, sd_bp), 100, end - start))
    at = int(random.integers(start, end - length + 1))
    chosen = list(picked[["piece_start", "piece_end", "count", "name"]].itertuples(index=False, name=None))
    return [*chosen, (at, at + length, 0.0, "")]


def write_results(results: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """The JSON file, with what it was measured on."""
    content = {
        "machine": {"python": platform.python_version(), "cores": os.cpu_count(), "processor": platform.machine()},
        "settings": {"rounds": options.rounds, "seed": options.seed, "cells": N_CELLS, "span_bp": SPAN_BP},
        "targets": TARGETS,
        "results": results,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
