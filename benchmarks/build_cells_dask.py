"""Many files to rank tokens by Dask workers beside the serial build: the same bytes, also when a worker is killed.

    python benchmarks/build_cells_dask.py

Simulates cells (seeded, several .h5ad files, gene frequencies log-normal), then builds them serially, by one and by two
Dask workers, and by two of which one is killed (SIGKILL) in the middle, vocabulary and medians derived each time. Every
build has a process of its own, one thread a worker; workers are started and have imported the package before the clock
starts. Writes benchmarks/results/build_cells_dask.json: seconds, cells a second, times faster than serial, and whether
the bytes of every file are those of the serial build. Ends with an error where they are not.
"""

import argparse
import hashlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import anndata
import distributed
import numpy as np
import pandas as pd
import scipy.sparse as sp

from omics_transformers.data_scripts.cells import build_cells

N_GENES = 20_000
OPTIONS: dict[str, Any] = {"obs_columns": ["donor"], "threads": 1}
WORKERS = {"serial": 0, "dask, 1 worker": 1, "dask, 2 workers": 2, "dask, 2 workers, one killed": 2}


def main() -> None:
    """Measures every kind of build in turn, or, as a process of its own, one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=200_000)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--counts", type=int, default=1000, help="Median counts a cell.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "build_cells_dask.json")
    parser.add_argument("--measure", nargs=2, metavar=("BUILD", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure[0], Path(options.measure[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        genes_a_cell = simulate(Path(folder), options.cells, options.files, options.counts, options.seed)
        rounds: dict[str, list[dict[str, Any]]] = {build: [] for build in WORKERS}
        for number in range(options.rounds):
            for build in WORKERS:
                command = [sys.executable, __file__, "--measure", build, folder]
                output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
                rounds[build].append(json.loads(output.splitlines()[-1]))
                print(f"round {number + 1}, {build}: {rounds[build][-1]['seconds']:.1f} s", flush=True)
    write_results(rounds, genes_a_cell, options)


def simulate(folder: Path, n_cells: int, n_files: int, n_counts: int, seed: int) -> float:
    """Writes the files, gzip-compressed as anndata does, and returns the mean number of genes a cell."""
    rng = np.random.default_rng(seed)
    frequencies = rng.lognormal(0, 2.5, N_GENES)
    drawn = rng.choice(N_GENES, 4_000_000, p=frequencies / frequencies.sum())
    names = [f"ENSG{number:011d}" for number in rng.permutation(N_GENES)]
    n_stored = 0
    for number, cells in enumerate(np.array_split(np.arange(n_cells), n_files)):
        totals = rng.lognormal(np.log(n_counts), 0.45, len(cells)).astype(int)
        rows = np.repeat(np.arange(len(cells)), totals)
        columns = drawn[rng.integers(0, len(drawn), len(rows))]
        counts = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), (len(cells), N_GENES))
        obs = pd.DataFrame(
            {"donor": pd.Categorical([f"donor{number}"] * len(cells))}, index=[f"cell{cell}" for cell in cells]
        )
        annotated = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=names))
        annotated.write_h5ad(folder / f"cells_{number:04d}.h5ad", compression="gzip")
        n_stored += counts.nnz
    return n_stored / n_cells


def measure(build: str, folder: Path) -> dict[str, Any]:
    """Seconds of one build, and a digest of every byte it wrote."""
    inputs = sorted(folder.glob("cells_*.h5ad"))
    with tempfile.TemporaryDirectory(dir=folder) as place:
        output = Path(place) / "out"
        if build == "serial":
            build_cells(inputs[0], Path(place) / "warm", **OPTIONS)
            return timed(inputs, output, {})
        with (
            distributed.LocalCluster(
                n_workers=WORKERS[build], threads_per_worker=1, dashboard_address=None, silence_logs=50
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            build_cells(inputs[: WORKERS[build]], Path(place) / "warm", dask=client, **OPTIONS)
            killed = watch(client, output, len(inputs) // 2) if build.endswith("killed") else None
            measured = timed(inputs, output, {"dask": client})
            if killed is not None:
                measured["shards finished when the worker was killed"] = killed[0]
            return measured


def timed(inputs: list[Path], output: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The build that is measured."""
    start = time.perf_counter()
    report = build_cells(inputs, output, **OPTIONS, **options)
    seconds = time.perf_counter() - start
    digest = hashlib.sha256()
    for file in sorted(path for path in output.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(output)}\n".encode() + file.read_bytes())
    return {"seconds": seconds, "cells": report.n_written, "sha256": digest.hexdigest()}


def watch(client: distributed.Client, output: Path, n_shards: int) -> list[int]:
    """Kills one worker once so many shards are there; the list then holds how many there were."""
    (process_id, *_) = client.run(os.getpid).values()
    progress = output.with_name(output.name + ".partial") / "progress"
    found: list[int] = []

    def kill() -> None:
        while len(finished := list(progress.glob("train-*.json"))) < n_shards:
            time.sleep(0.005)
        os.kill(process_id, signal.SIGKILL)
        found.append(len(finished))

    threading.Thread(target=kill, daemon=True).start()
    return found


def write_results(rounds: dict[str, list[dict[str, Any]]], genes_a_cell: float, options: argparse.Namespace) -> None:
    """The JSON file, with the machine and how busy it was."""
    digests = {one["sha256"] for measured in rounds.values() for one in measured}
    serial = [one["seconds"] for one in rounds["serial"]]
    results = {}
    for build, measured in rounds.items():
        seconds = [one["seconds"] for one in measured]
        results[build] = {
            "seconds": {"median": round(statistics.median(seconds), 2), "min": round(min(seconds), 2)}
            | {"max": round(max(seconds), 2)},
            "cells_per_second": round(options.cells / statistics.median(seconds)),
            "times_faster_than_serial": round(
                statistics.median(one / other for one, other in zip(serial, seconds, strict=True)), 2
            ),
        }
        if "shards finished when the worker was killed" in measured[-1]:
            results[build]["shards_finished_at_the_kill"] = [one[list(one)[-1]] for one in measured]
    content = {
        "benchmark": "build_cells_dask",
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.processor() or platform.machine(),
        "load_average_at_end": [round(load, 2) for load in os.getloadavg()],
        "cells": options.cells,
        "files": options.files,
        "genes_a_cell": round(genes_a_cell, 1),
        "rounds": options.rounds,
        "seed": options.seed,
        "same_bytes": len(digests) == 1,
        "results": results,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(content, indent=1))
    if len(digests) > 1:
        raise SystemExit("the builds do not have the same bytes")


if __name__ == "__main__":
    main()
