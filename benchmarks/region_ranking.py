"""Region ranking on real cells and sequence: chromosome X to train, 1 Mb of 22 to validate, all of 20 to test.

    python benchmarks/region_ranking.py --data FOLDER --output FOLDER

Claims: from 10x multiome PBMCs and fragments of human heart (hg38, lifted to hg19) and two cell lines (hg19), spans of
three regions are built, with every loss accounted for; and a small Nucleotide Transformer, trained from random weights,
puts the three regions of spans of a chromosome that it never saw in order more often than by chance, beside GC content,
length and k-mers. Both versions of the data are trained on: the thesis' first, and its second (random padding, no base
twice); and by Poisson regression on counts, which the thesis rejected. All are tested on the first version's spans of
chromosome 20. Spans with equal counts are left out, so that chance is 1/6. Stopped, the same command goes on.
"""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from measured_process import run

from omics_transformers.data_scripts.accessibility_sources import AccessibilitySource
from omics_transformers.data_scripts.regions import build_regions

ROOT = Path(__file__).parents[1]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes=1", "--num_machines=1"]
LAUNCH += ["--mixed_precision=no", "--dynamo_backend=no", "--num_cpu_threads_per_process=1"]
MODEL = ["--hidden-size=64", "--num-hidden-layers=2", "--num-attention-heads=4", "--intermediate-size=128"]
MODEL += ["--initializer-range=0.125"]
TRAINING = [
    *("--per-device-train-batch-size=32", "--learning-rate=1e-3", "--lr-scheduler-type=cosine", "--weight-decay=0.01"),
    *("--padding=random", "--reverse-complement=0.5", "--eval-strategy=no", "--save-strategy=no"),
    *("--logging-steps=100", "--report-to=none", "--disable-tqdm=true", "--use-cpu"),
]
SCORES = ("exact_order", "pair_accuracy", "ndcg", "kendall_tau")
VERSIONS = {
    "first version": {},
    "second version": {"padding": "random", "duplicates": "drop"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="the folder of real data")
    parser.add_argument("--output", type=Path, default=Path("region-ranking-output"), help="folder to make")
    parser.add_argument("--heads", nargs="+", default=["linear", "convolutional"], help="scorer heads to train")
    parser.add_argument("--steps", type=int, default=400, help="training steps of 32 spans")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of weights and of the order of spans")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="models trained side by side")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "region_ranking.json")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    reports = {name: prepare(arguments, name, **choice) for name, choice in VERSIONS.items()}
    commands = {arm.name: train_command(arguments.output, arm, arguments.steps) for arm in arms(arguments)}
    commands["baselines"] = baseline_command(arguments.output)
    left = [command for name, command in commands.items() if not (arguments.output / name / "metrics.json").exists()]
    with ThreadPoolExecutor(arguments.jobs) as pool:  # each waits for a process of one thread
        list(pool.map(run, left))
    summary = {
        "settings": {
            "steps": arguments.steps,
            "seeds": arguments.seeds,
            "threads a run": 1,
            "runs side by side": arguments.jobs,
        },
        "data": {name: account(report) for name, report in reports.items()},
        "test on chr20": compare(arguments),
        "seconds of training": {arm.name: training_seconds(arguments.output / arm.name) for arm in arms(arguments)},
    }
    arguments.results.write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary, indent=1))


def build(data: Path, output: Path, **choice: Any) -> dict:
    """The data set, and the report of what was left out."""
    genome, annotation, heart = data / "genome", data / "annotation", "heart_AVN_HCAHeartST10773171"
    chain = annotation / "hg38ToHg19.over.chain.gz"
    sources = [
        AccessibilitySource(
            data / "multiome" / "mosim_pbmc_multiome_atac.h5ad", label_column="cell_type", chain=chain, name="PBMC"
        ),
        AccessibilitySource(
            data / "atac" / f"{heart}.fragments.hg38.tsv.gz",
            peaks=annotation / "ensembl100_regulatory_build.hg38.bed.gz",
            labels=data / "atac" / f"{heart}.metadata.csv",
            label_column="cell_type",
            barcode_column="barcode",
            chain=chain,
            name="heart",
        ),
        AccessibilitySource(
            data / "atac" / "chromVAR_GM12878_H1_50x29269.hg19.h5ad", label_column="Cell_Type", name="cell lines"
        ),
    ]
    start = time.perf_counter()
    report = build_regions(
        [
            genome / "chrX_first70Mb.GRCh37.fa.gz",
            genome / "chr22_20000000-21000000.GRCh37.fa.gz",
            genome / "chr20.GRCh37.fa.gz",
        ],
        sources,
        output,
        train=["X"],
        validation=["22"],
        test=["20"],
        blacklist=annotation / "hg19-blacklist.v2.bed",
        other_contigs="drop",
        equal_counts="drop",
        offsets={"X": 0, "22": 20_000_000},
        **choice,
    )
    return report | {"seconds": round(time.perf_counter() - start, 1)}


def prepare(arguments: argparse.Namespace, name: str, **choice: Any) -> dict:
    """The report of a version, which is built where it is not there yet."""
    folder = arguments.output / name
    if not folder.exists():
        report = build(arguments.data, folder, **choice)
        share_test(folder, arguments.output / next(iter(VERSIONS)))
        (folder / "measured.json").write_text(json.dumps(report))
    return json.loads((folder / "measured.json").read_text())


def share_test(folder: Path, first: Path) -> None:
    """Let a version be tested on the first version's spans; its own stay beside them, unread."""
    if folder == first:
        return
    own = folder / "data" / "test-00000-of-00001.parquet"
    own.rename(folder / "own_test.parquet")
    own.write_bytes((first / "data" / own.name).read_bytes())


class Arm(NamedTuple):
    """A model to train."""

    version: str
    head: str
    loss: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.head}, {self.version}, {self.loss}, seed {self.seed}"


def arms(arguments: argparse.Namespace) -> list[Arm]:
    """Every head on the first version by the softmax loss; the first head also on the second, and by Poisson."""
    first, second = VERSIONS
    kinds = [(first, head, "softmax") for head in arguments.heads]
    kinds += [(second, arguments.heads[0], "softmax"), (first, arguments.heads[0], "poisson")]
    return [Arm(*kind, seed) for kind in kinds for seed in arguments.seeds]


def train_command(output: Path, arm: Arm, steps: int) -> list[str]:
    folders = ["--regions", str(output / arm.version), "--output-dir", str(output / arm.name)]
    own = [f"--scorer-head={arm.head}", f"--ranking-loss={arm.loss}", f"--seed={arm.seed}", f"--max-steps={steps}"]
    own.append(f"--ranking-labels={'counts' if arm.loss == 'poisson' else 'ranks'}")
    return [*LAUNCH, str(ROOT / "training" / "run_region_ranking.py"), *folders, *own, *MODEL, *TRAINING]


def baseline_command(output: Path) -> list[str]:
    folders = ["--regions", str(output / "first version"), "--output-dir", str(output / "baselines")]
    return [sys.executable, "-m", "omics_transformers.training.ranking_baselines", *folders]


def account(report: dict) -> dict[str, Any]:
    """Rows, and what was lost of each sample at each step."""
    kept = ("peaks in the file", "peaks detected in fewer cells, left out", "cells of each type")
    steps = ("lift", "on chromosomes in no split", "on scaffolds in no split", "outside the sequence at hand")
    steps += ("blacklisted", "longer than a span", "kept")
    samples = {}
    for name, sample in report["samples"].items():
        placed = {step: sample["on the genome"][step] for step in steps if step in sample["on the genome"]}
        placed["on chromosomes in no split"] = sum(placed["on chromosomes in no split"].values())
        samples[name] = {step: sample["input"][step] for step in kept if step in sample["input"]} | placed
    return {"rows": report["rows"], "spans": report["spans"], "samples": samples, "seconds": report["seconds"]}


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Scores on chromosome 20 with 95 % intervals over blocks of 1 Mb, and chance, of models and baselines."""
    results = json.loads((arguments.output / "baselines" / "metrics.json").read_text())["test"]
    for arm in arms(arguments):
        results[arm.name] = json.loads((arguments.output / arm.name / "metrics.json").read_text())["test"]
    return {
        name: {
            "lists": result["lists"],
            "groups": result["groups"],
            **{score: with_chance(result, score) for score in SCORES},
        }
        for name, result in results.items()
    }


def training_seconds(folder: Path) -> float:
    return round(json.loads((folder / "metrics.json").read_text())["training"]["train_runtime"], 1)


def with_chance(result: dict[str, Any], score: str) -> dict[str, Any]:
    interval = [round(end, 4) for end in result[f"{score}_interval"]]
    return {"score": round(result[score], 4), "interval": interval, "chance": round(result[f"{score}_chance"], 4)}


if __name__ == "__main__":
    main()
