"""Peaks to genes: seconds and memory of the alignment, beside the pandas code that a notebook would have.

    python benchmarks/build_multiome.py

Simulates cells x peaks (seeded; 3,000 counts a cell) and genes along 22 contigs, and measures in turn, each in a
process of its own, imports and file reading done before the clock starts: `ours`, `peak_gene_weights` and one sparse
product a chunk of 2,048 cells; `pandas`, the links by bioframe.overlap (the nearest ring of each pair by sorting and
drop_duplicates), merged with the counts as a long table, and summed by groupby; and `sparse columns`, the same links
and a loop over genes that sums columns of the matrix, as a careful notebook has it. All give cells x genes; the values
are compared. Then the whole of `build_multiome` on the same .h5ad file, from file to Parquet.

Writes benchmarks/results/build_multiome.json: median and range of the rounds, ratios of the rounds' pairs, and memory
beyond that of the counts as a multiple of theirs.
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
import scipy.sparse as sp

from omics_transformers.modeling.peak_gene_rings import GeneLoci, peak_gene_weights, weighted_gene_sums

TARGETS = {"pandas over ours, seconds": 5.0, "memory beyond the counts, as a multiple of them": 2.0}
CONTIGS, CONTIG_BP, COUNTS_A_CELL, CHUNK_CELLS = 22, 130_000_000, 3_000, 2_048
TASKS = ("ours", "pandas", "sparse columns")


def main() -> None:
    """Measures every task at every size, or, as a process of its own, one."""
    options = parse()
    if options.measure:
        print(json.dumps(measure(options.measure[0], Path(options.measure[1]))))
        return
    results = []
    for n_cells, n_peaks, n_genes in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            simulate(Path(folder), n_cells, n_peaks, n_genes, options.seed)
            results.append(benchmark(Path(folder), options.rounds) | {"cells": n_cells, "peaks": n_peaks})
            results[-1]["genes"] = n_genes
            print(json.dumps(results[-1]), flush=True)
    write_results(results, options)


def simulate(folder: Path, n_cells: int, n_peaks: int, n_genes: int, seed: int) -> None:
    """cells.h5ad (reads), genes.gtf."""
    random = np.random.default_rng(seed)
    starts = np.sort(random.integers(0, CONTIGS * CONTIG_BP - 1_000, n_peaks))
    contig, start = starts // CONTIG_BP, starts % CONTIG_BP
    end = start + random.integers(200, 900, n_peaks)
    names = [f"chr{one + 1}:{first}-{last}" for one, first, last in zip(contig, start, end, strict=True)]
    indices = random.integers(0, n_peaks, (n_cells, COUNTS_A_CELL), dtype=np.int32)
    counts = sp.csr_matrix(
        (
            np.full(indices.size, 2, dtype=np.float32),
            indices.ravel(),
            np.arange(0, indices.size + 1, COUNTS_A_CELL),
        ),
        shape=(n_cells, n_peaks),
    )
    counts.sum_duplicates()
    obs = pd.DataFrame(index=[f"cell{number}" for number in range(n_cells)])
    anndata.AnnData(counts, obs, pd.DataFrame(index=names)).write_h5ad(folder / "cells.h5ad")
    gene_starts = random.integers(0, CONTIG_BP - 200_000, n_genes)
    # Half of the genes begin at a peak, as promoters do: the builder looks for that to tell the assembly.
    at_peak = random.integers(0, n_peaks, n_genes)
    gene_contigs = contig[at_peak]
    gene_starts = np.where(np.arange(n_genes) % 2, gene_starts, start[at_peak] + 100)
    lengths = random.integers(2_000, 60_000, n_genes)
    with (folder / "genes.gtf").open("w", encoding="utf-8") as file:
        for number in range(n_genes):
            span = f"{gene_starts[number] + 1}\t{gene_starts[number] + lengths[number]}"
            ids = f'gene_id "ENSG{number:011d}"; gene_name "GENE{number}"; gene_type "protein_coding";'
            for feature, more in (("gene", ""), ("transcript", f' transcript_id "ENST{number:011d}";')):
                file.write(f"chr{gene_contigs[number] + 1}\tsimulated\t{feature}\t{span}\t.\t+\t.\t{ids}{more}\n")
            more = f' transcript_id "ENST{number:011d}"; exon_number 1;'
            file.write(f"chr{gene_contigs[number] + 1}\tsimulated\texon\t{span}\t.\t+\t.\t{ids}{more}\n")


def benchmark(folder: Path, n_rounds: int) -> dict[str, Any]:
    """Rounds of both tasks in turn over the same files, then the builder."""
    rounds: dict[str, list[dict[str, float]]] = {task: [] for task in (*TASKS, "build_multiome")}
    for number in range(n_rounds):
        for task, found in rounds.items():
            command = [sys.executable, __file__, "--measure", task, str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"round {number + 1}, {task}: {found[-1]}", flush=True)
    sums = {task: found[0]["sum"] for task, found in rounds.items() if task in TASKS}
    assert np.allclose(list(sums.values()), sums["ours"], rtol=1e-5), sums
    result: dict[str, Any] = {"counts_mib": round(rounds["ours"][0]["counts_mib"], 1)}
    for task, found in rounds.items():
        result[task] = {
            "seconds": spread([one["seconds"] for one in found]),
            "memory beyond the counts, as a multiple of them": spread(
                [(one["peak_mib"] - one["before_mib"]) / one["counts_mib"] for one in found]
            ),
            "peak_mib": spread([one["peak_mib"] for one in found]),
        }
    for task in TASKS[1:]:
        pairs = zip(rounds[task], rounds["ours"], strict=True)
        result[f"{task} over ours, seconds"] = spread([other["seconds"] / ours["seconds"] for other, ours in pairs])
    return result


def measure(task: str, folder: Path) -> dict[str, float]:
    """Seconds, memory and the sum of all values, for one task."""
    counts = anndata.read_h5ad(folder / "cells.h5ad")
    matrix: sp.csr_matrix = counts.X
    counts_mib = (matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes) / 2**20
    peaks = pd.DataFrame(
        [name.replace("-", ":").split(":") for name in counts.var_names], columns=["chrom", "start", "end"]
    )
    peaks = peaks.astype({"start": np.int64, "end": np.int64})
    genes = read_genes(folder / "genes.gtf")
    if task == "build_multiome":
        from omics_transformers.data_scripts.multiome import build_multiome

        del counts, matrix
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            before, start = peak_mib(), time.perf_counter()
            build_multiome(
                [folder / "cells.h5ad"], Path(scratch) / "built", genes=folder / "genes.gtf", minimum_peak_share=0.0
            )
            seconds = time.perf_counter() - start
        return {"seconds": seconds, "peak_mib": peak_mib(), "before_mib": before, "counts_mib": counts_mib, "sum": 0.0}
    run = {"ours": ours, "pandas": with_pandas, "sparse columns": by_columns}[task]
    run(matrix[:50, :500].tocsr(), peaks.iloc[:500], genes.iloc[:50])  # imports
    before, start = peak_mib(), time.perf_counter()
    total = run(matrix, peaks, genes)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_mib": peak_mib(), "before_mib": before, "counts_mib": counts_mib, "sum": total}


def read_genes(path: Path) -> pd.DataFrame:
    """chrom, start, end, strand of each gene."""
    table = pd.read_csv(
        path,
        sep="\t",
        header=None,
        usecols=[0, 2, 3, 4, 6],
        names=["chrom", "_", "feature", "start", "end", "__", "strand", "___", "____"],
    )
    genes = table[table["feature"] == "gene"].reset_index(drop=True)
    return genes.assign(start=genes["start"] - 1)[["chrom", "start", "end", "strand"]]


def ours(counts: sp.csr_matrix, peaks: pd.DataFrame, genes: pd.DataFrame) -> float:
    """This package: chunks go on to be binned and written, so none is kept."""
    loci = GeneLoci(
        genes["chrom"].to_numpy(object),
        genes["start"].to_numpy(),
        genes["end"].to_numpy(),
        genes["strand"].to_numpy(object),
    )
    weights = peak_gene_weights(
        peaks["chrom"].to_numpy(object), peaks["start"].to_numpy(), peaks["end"].to_numpy(), loci
    )
    total = 0.0
    for start in range(0, counts.shape[0], CHUNK_CELLS):
        chunk = counts[start : start + CHUNK_CELLS]
        total += float(weighted_gene_sums(chunk, weights).sum(dtype=np.float64))
    return total


def with_pandas(counts: sp.csr_matrix, peaks: pd.DataFrame, genes: pd.DataFrame) -> float:
    """Counts as a long table."""
    links = overlapping(peaks, genes)[["peak_", "gene", "weight"]].rename(columns={"peak_": "peak"})
    stored = counts.tocoo()
    table = pd.DataFrame({"cell": stored.row, "peak": stored.col, "count": stored.data}).merge(links, on="peak")
    table["sum"] = table["count"] * table["weight"]
    return float(table.groupby(["cell", "gene"])["sum"].sum().sum())


def by_columns(counts: sp.csr_matrix, peaks: pd.DataFrame, genes: pd.DataFrame) -> float:
    """Columns of the matrix, gene by gene."""
    links = overlapping(peaks, genes)
    columns = counts.tocsc()
    activity = np.zeros((counts.shape[0], len(genes)), dtype=np.float32)
    for gene, group in links.groupby("gene"):
        activity[:, gene] = columns[:, group["peak_"].to_numpy()] @ group["weight"].to_numpy()
    return float(activity.sum(dtype=np.float64))


def overlapping(peaks: pd.DataFrame, genes: pd.DataFrame) -> pd.DataFrame:
    """Each peak and gene once, with the weight of the nearest ring."""
    rings = []
    for bound, weight in ((10_000, 1 / 2), (20_000, 1 / 3), (50_000, 1 / 6)):
        windows = genes.assign(gene=np.arange(len(genes)), weight=weight)
        tss = np.where(genes["strand"] == "+", genes["start"], genes["end"] - 1)
        windows["start"], windows["end"] = tss - bound + 1, tss + bound
        if bound == 10_000:
            body = genes.assign(gene=windows["gene"], weight=weight)
            rings.append(bioframe.overlap(body, peaks.assign(peak=np.arange(len(peaks))), how="inner"))
        rings.append(bioframe.overlap(windows, peaks.assign(peak=np.arange(len(peaks))), how="inner"))
    return pd.concat(rings).sort_values("weight", ascending=False).drop_duplicates(["gene", "peak_"])


def peak_mib() -> float:
    """Peak resident memory of this process; what its children take is not counted."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": round(statistics.median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}


def write_results(results: list[dict[str, Any]], options: argparse.Namespace) -> None:
    content = {
        "settings": {"rounds": options.rounds, "seed": options.seed, "counts a cell": COUNTS_A_CELL},
        "targets": TARGETS,
        "machine": {"platform": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()},
        "results": results,
    }
    options.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(content, indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sizes",
        type=lambda text: tuple(map(int, text.split(","))),
        nargs="+",
        help="cells,peaks,genes",
        default=[(2_000, 50_000, 5_000), (10_000, 150_000, 10_733)],
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "build_multiome.json")
    parser.add_argument("--measure", nargs=2, metavar=("TASK", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
