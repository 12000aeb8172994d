"""The main job on real input, by the commands that users run: pbmc3k cells, DNA of chromosomes 20 and X, one perturbed
gene.

    python benchmarks/real_data.py --data FOLDER --output FOLDER

Claim: on real cells and real sequence every step runs, and pre-training lowers the perplexity of masked genes in
held-out cells far below that of guessing by gene frequency. No biology is claimed: the Enformer is small and its
weights random. Cells are 10x's pbmc3k, ranked with Geneformer's dictionary and medians; TSSs are RefSeq's (hg19).
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from omics_transformers.training.small_enformer import make_small_enformer

ROOT = Path(__file__).parents[1]
GENE = "TMSB4X"  # on chromosome X, in nearly every blood cell
OMICS = [sys.executable, "-m", "omics_transformers.cli"]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes=1", "--num_machines=1"]
LAUNCH += ["--mixed_precision=no", "--dynamo_backend=no", str(ROOT / "training" / "run_mlm.py")]
SIZES = ["--hidden-size=128", "--num-hidden-layers=3", "--num-attention-heads=4", "--intermediate-size=256"]
TRAINING = [
    *("--hidden-dropout-prob=0.1", "--attention-probs-dropout-prob=0", "--mlm-probability=0.3"),
    *("--per-device-train-batch-size=64", "--max-steps=1500", "--learning-rate=1e-3", "--weight-decay=0.05"),
    *("--test-fraction=0.1", "--save-strategy=no", "--logging-steps=250", "--report-to=none", "--disable-tqdm=true"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="the folder of real data")
    parser.add_argument("--output", type=Path, default=Path("real-data-output"), help="folder to make")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "real_data.json")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True)
    seconds = run_all(arguments.data, arguments.output)
    summary = summarise(arguments.output, seconds)
    arguments.results.write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary, indent=1))


def run_all(data: Path, output: Path) -> dict[str, float]:
    """Run each step; seconds by step."""
    genome = output / "chr20_chrX.GRCh37.fa.gz"
    with genome.open("wb") as joined:
        for name in ("chr20.GRCh37.fa.gz", "chrX_first70Mb.GRCh37.fa.gz"):
            with (data / "genome" / name).open("rb") as part:
                shutil.copyfileobj(part, joined)  # gzip members may follow one another
    make_small_enformer(output / "enformer", seed=0)
    genesets = data / "genesets"
    symbols = genesets / "geneformer_v1_symbol_to_ensembl.json.gz"
    annotation = data / "annotation" / "ncbiRefSeq_genePred.hg19.txt.gz"
    tables = ["--token-dictionary", genesets / "geneformer_v1_token_dictionary.json.gz"]
    tables += ["--gene-medians", genesets / "geneformer_v1_gene_medians.json.gz"]
    cells = data / "rna" / "pbmc3k_raw_500labelled.h5ad"
    dna = ["--genome", genome, "--annotation", annotation, "--gene-symbols", symbols]
    return {
        "build cells": run([*OMICS, "build", "cells", cells, *tables, "--output", output / "cells"]),
        "embed": run(
            [
                *OMICS,
                "embed",
                *dna,
                "--model",
                output / "enformer",
                "--output",
                output / "features.safetensors",
                "--window-bp=16384",
                "--batch-size=8",
                "--assembly=GRCh37",
                "--protein-coding-only",
                "--missing-contigs=drop",
                "--beyond-contig=drop",
            ]
        ),
        "run_mlm": run(
            [
                *LAUNCH,
                "--cells",
                output / "cells",
                "--gene-features",
                output / "features.safetensors",
                "--missing-gene-features=drop",
                "--output-dir",
                output / "bio-dta",
                "--seed=0",
                *SIZES,
                *TRAINING,
            ]
        ),
        "perturb": run(
            [
                *OMICS,
                "perturb",
                cells,
                "--model",
                output / "bio-dta",
                "--gene",
                GENE,
                "--output",
                output / GENE,
                "--edit=random-mutations",
                "--mutations=100",
                "--mutation-window-bp=1000",
                *dna,
                "--gene-id-column=gene_ids",
                "--dna-model",
                output / "enformer",
                "--gene-sets",
                genesets / "housekeeping_symbols.DERIVED.txt",
            ]
        ),
    }


def run(command: list) -> float:
    start = time.perf_counter()
    subprocess.run([str(word) for word in command], check=True)
    return round(time.perf_counter() - start, 1)


def summarise(output: Path, seconds: dict[str, float]) -> dict:
    metrics = json.loads((output / "bio-dta" / "metrics.json").read_text())
    held_out = {name: round(value, 3) for name, value in metrics["held_out"].items()}
    perturbed = json.loads((output / GENE / "summary.json").read_text())
    return {
        "claim": "held-out perplexity of masked genes is far below that of gene frequencies alone",
        "held": held_out["perplexity"] < 0.75 * held_out["gene_frequency_perplexity"],
        "held_out": held_out,
        "perplexity / gene frequency": round(held_out["perplexity"] / held_out["gene_frequency_perplexity"], 3),
        "data": metrics["data"],
        "perturbed": {name: perturbed[name] for name in ("gene_id", "symbol") if name in perturbed},
        "genes in the table": sum(1 for _ in (output / GENE / "genes.tsv").open()) - 1,
        "report bytes": (output / GENE / "report.html").stat().st_size,
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()
