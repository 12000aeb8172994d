"""Cells per second from a gzip-compressed .h5ad to rank tokens in Parquet, beside anndata merely reading the same file.

    python benchmarks/tokenize_cells.py

Simulates cells (seeded; about 850 genes a cell of 25,000, gene frequencies log-normal as in PBMCs), then measures both
in turn, each in a process of its own with imports and compilation done before the clock starts and the file in the page
cache. Writes benchmarks/results/tokenize_cells.json: median and range of the rounds, ratios, and peak memory by number
of cells. Medians and vocabulary are given, except in "derive", where both are derived in passes of their own.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from omics_transformers.data_scripts.cells import build_cells

N_GENES = 25_000
TARGETS = {"cells_per_second": 30_000, "times_reading": 3.0}
TASKS = ("read", "build", "derive")


def main() -> None:
    """Measures every task at every size, or, as a process of its own, one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "tokenize_cells.json")
    parser.add_argument("--measure", nargs=2, metavar=("TASK", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure[0], Path(options.measure[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        results = [benchmark(Path(folder), n_cells, options.rounds, options.seed) for n_cells in options.cells]
    write_results(results, options)


def benchmark(folder: Path, n_cells: int, n_rounds: int, seed: int) -> dict[str, Any]:
    """Rounds of all tasks in turn over one simulated file."""
    path = folder / f"cells_{n_cells}.h5ad"
    genes_a_cell = simulate(path, n_cells, seed)
    rounds: dict[str, list[dict[str, float]]] = {task: [] for task in TASKS}
    for number in range(n_rounds):
        for task in TASKS:
            command = [sys.executable, __file__, "--measure", task, str(path)]
            rounds[task].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
            print(f"{n_cells} cells, round {number + 1}, {task}: {rounds[task][-1]['seconds']:.2f} s", flush=True)
    path.unlink()
    summary = {task: summarise(measured, n_cells) for task, measured in rounds.items()}
    pairs = zip(rounds["build"], rounds["read"], strict=True)
    ratios = [build["seconds"] / read["seconds"] for build, read in pairs]
    return {
        "n_cells": n_cells,
        "genes_a_cell": round(genes_a_cell, 1),
        "build_over_read": {"median": round(statistics.median(ratios), 2), "min": round(min(ratios), 2)}
        | {"max": round(max(ratios), 2)},
    } | summary


def summarise(measured: list[dict[str, float]], n_cells: int) -> dict[str, Any]:
    """Median and range of the seconds, cells per second at the median, and the highest peak."""
    seconds = sorted(one["seconds"] for one in measured)
    return {
        "seconds": {"median": round(statistics.median(seconds), 3), "min": round(seconds[0], 3)}
        | {"max": round(seconds[-1], 3)},
        "cpu_seconds": round(statistics.median(one["cpu_seconds"] for one in measured), 3),
        "cells_per_second": round(n_cells / statistics.median(seconds)),
        "peak_memory_mib": round(max(one["peak_mib"] for one in measured)),
        "output_mib": round(measured[-1]["output_mib"], 1),
    }


def measure(task: str, path: Path) -> dict[str, float]:
    """Seconds, and peak memory of this process, for one task."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        small = Path(folder) / "small.h5ad"
        simulate(small, 50, seed=1)
        run(task, small, Path(folder) / "warm")  # imports, and kernels from numba's cache
        start, cpu_start = time.perf_counter(), time.process_time()
        run(task, path, Path(folder) / "out")
        seconds = time.perf_counter() - start
        cpu_seconds = time.process_time() - cpu_start
        output = sum(file.stat().st_size for file in Path(folder).glob("out/data/*"))
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mib": peak_memory_mib(),
        "output_mib": output / 2**20,
    }


def peak_memory_mib() -> float:
    """Peak resident memory of this process, which starts no others; getrusage would count the parent's before exec."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def run(task: str, path: Path, output: Path) -> None:
    """The work that is timed."""
    if task == "read":
        anndata.read_h5ad(path)
    elif task == "build":
        build_cells(path, output, gene_medians=dict(zip(gene_ids(), gene_medians(), strict=True)))
    else:
        build_cells(path, output)


def simulate(path: Path, n_cells: int, seed: int) -> float:
    """Writes a gzip-compressed .h5ad as anndata does, and returns the mean number of genes a cell."""
    rng = np.random.default_rng(seed)
    frequencies = np.random.default_rng(0).lognormal(0, 2.85, N_GENES)
    thresholds = np.cumsum(frequencies / frequencies.sum())
    blocks = []
    for start in range(0, n_cells, 10_000):
        totals = rng.lognormal(np.log(2200), 0.45, min(10_000, n_cells - start)).astype(int)
        rows = np.repeat(np.arange(len(totals)), totals)
        columns = np.searchsorted(thresholds, rng.random(len(rows))).clip(max=N_GENES - 1)
        blocks.append(sp.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), (len(totals), N_GENES)))
    counts = sp.vstack(blocks, format="csr")
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(n_cells)])
    cells = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=gene_ids()))
    cells.write_h5ad(path, compression="gzip")
    return counts.nnz / n_cells


def gene_ids() -> list[str]:
    """Ids in an order that is not the vocabulary's, as in real files."""
    order = np.random.default_rng(0).permutation(N_GENES)
    return [f"ENSG{number:011d}" for number in order]


def gene_medians() -> np.ndarray:
    """Medians spread as the published ones are."""
    return np.random.default_rng(0).lognormal(0.8, 0.4, N_GENES)


def write_results(results: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """The JSON file, with the machine and how busy it was."""
    largest = results[-1]
    content = {
        "benchmark": "tokenize_cells",
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.processor() or platform.machine(),
        "load_average_at_end": [round(load, 2) for load in os.getloadavg()],
        "rounds": options.rounds,
        "seed": options.seed,
        "targets": TARGETS,
        "reached": {
            "cells_per_second": largest["build"]["cells_per_second"] >= TARGETS["cells_per_second"],
            "times_reading": largest["build_over_read"]["median"] <= TARGETS["times_reading"],
        },
        "results": results,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(content, indent=1))


if __name__ == "__main__":
    assert shutil.disk_usage(tempfile.gettempdir()).free > 5 * 2**30, "needs 5 GiB of free disk"
    main()
