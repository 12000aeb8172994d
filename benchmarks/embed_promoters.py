"""Claim: preparing windows costs little beside any Enformer, and what was embedded once is not embedded again.

    python benchmarks/embed_promoters.py --fasta chr20.fa.gz --annotation ncbiRefSeq.txt.gz --output results.json

In one run, on the same promoters of 196,608 bp: reading and one-hot encoding them; a small random Enformer on top; and
the second call of `embed_promoters`, which finds its own file.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import torch

from omics_transformers.data_scripts.annotations import read_tss
from omics_transformers.data_scripts.genomes import open_genome
from omics_transformers.data_scripts.promoters import one_hot, promoter_windows
from omics_transformers.training.embedding import embed_promoters
from omics_transformers.training.small_enformer import make_small_enformer


def main() -> None:
    """Time the three and write them side by side."""
    arguments = _parse()
    start = time.perf_counter()
    tss = read_tss(arguments.annotation)
    seconds = {"read the annotation": time.perf_counter() - start}
    start = time.perf_counter()
    genome = open_genome(arguments.fasta)
    seconds["open the genome"] = time.perf_counter() - start
    windows = promoter_windows(genome, tss, missing_contigs="drop")
    genes = windows.genes["gene_id"].tolist()[: arguments.genes]
    start = time.perf_counter()
    for row in range(len(genes)):
        one_hot([windows.sequence(row)])
    seconds["read and encode the windows"] = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        make_small_enformer(Path(folder) / "enformer", seed=0, dim=arguments.dim)
        for name in ("embed", "embed again, unchanged"):
            start = time.perf_counter()
            embed_promoters(
                arguments.fasta,
                arguments.annotation,
                Path(folder) / "features.safetensors",
                model=Path(folder) / "enformer",
                gene_ids=genes,
                missing_contigs="drop",
            )
            seconds[name] = time.perf_counter() - start
    report = {
        "windows": len(genes),
        "window_bp": 196_608,
        "enformer dim": arguments.dim,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
        "threads": int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "share of embedding spent on preparing windows": round(
            seconds["read and encode the windows"] / seconds["embed"], 4
        ),
    }
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.output:
        Path(arguments.output).write_text(text + "\n")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fasta", required=True, help="genome, plain, gzip or BGZF")
    parser.add_argument("--annotation", required=True, help="GTF, GFF3, genePred")
    parser.add_argument("--genes", type=int, default=16, help="how many promoters")
    parser.add_argument("--dim", type=int, default=96, help="size of the random Enformer; the published one has 1536")
    parser.add_argument("--output", help="JSON file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
