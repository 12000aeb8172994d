"""Region ranking where the answer is known: accessibility driven by planted motifs, every head, frozen and trained.

    python benchmarks/simulated_accessibility.py --output FOLDER

Claims: from random weights and within minutes on one core, every scorer head orders at least 0.8 of the spans of unseen
contigs when the encoder is trained with it; on a frozen random encoder every head stays far below that (the thesis'
finding 2). Length stays at chance, and GC content near it: zero regions between peaks have no decoys, and so less GC.
K-mers, in which the planted truth is nearly linear, come close to the trained models. Steps: simulate_accessibility,
build_regions, run_region_ranking.py, ranking_baselines.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from measured_process import run

from omics_transformers.data_scripts.regions import build_regions
from omics_transformers.data_scripts.simulated_accessibility import CONTIGS, simulate_accessibility

ROOT = Path(__file__).parents[1]
HEADS = ("linear", "transformer", "unet", "convolutional")
SPAN_BP = 600
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes=1", "--num_machines=1"]
LAUNCH += ["--mixed_precision=no", "--dynamo_backend=no"]
MODEL = ["--hidden-size=64", "--num-hidden-layers=2", "--num-attention-heads=4", "--intermediate-size=128"]
MODEL += ["--initializer-range=0.125"]
TRAINING = [
    *("--per-device-train-batch-size=32", "--learning-rate=2e-3", "--lr-scheduler-type=cosine", "--weight-decay=0.01"),
    *("--eval-strategy=no", "--save-strategy=no", "--logging-steps=100", "--report-to=none", "--disable-tqdm=true"),
    *("--per-device-eval-batch-size=64", "--seed=0", "--use-cpu"),
]
LEAST_TRAINED = 0.8  # exact order
SCORES = ("exact_order", "pair_accuracy", "ndcg", "kendall_tau")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("simulated-accessibility"), help="folder to make")
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=HEADS, help="scorer heads to train")
    parser.add_argument("--steps", type=int, default=600, help="training steps of 32 spans")
    parser.add_argument("--threads", type=int, default=1, help="threads of each run")
    parser.add_argument("--seed", type=int, default=0, help="of the world and of the spans")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "benchmarks" / "results" / "simulated_accessibility.json"
    )
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True)
    order_kept, rows = build(arguments.output, arguments.seed)
    resources = {"baselines": measure(baseline_command(arguments.output), arguments.threads)}
    for head in arguments.heads:
        for frozen in (False, True):
            command = train_command(arguments.output, head, frozen=frozen, steps=arguments.steps)
            resources[name_of(head, frozen=frozen)] = measure(command, arguments.threads)
    scores = compare(arguments.output, arguments.heads)
    summary = {
        "settings": {"steps": arguments.steps, "threads": arguments.threads, "seed": arguments.seed},
        "spans": rows,
        "order kept by the simulated cells": round(order_kept, 4),
        "claims": claims(scores, arguments.heads),
        "test on unseen contigs": scores,
        "resources": resources,
    }
    arguments.results.write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary, indent=1))


def build(output: Path, seed: int) -> tuple[float, dict[str, int]]:
    """The world and its spans: the share of spans whose observed order is the planted one, and rows by split."""
    world = simulate_accessibility(output / "world", seed=seed, span_bp=SPAN_BP)
    train, validation, *test = CONTIGS
    report = build_regions(
        output / "world" / "genome.fa",
        [output / "world" / "cells.h5ad"],
        output / "regions",
        train=[train],
        validation=[validation],
        test=test,
        span_bp=SPAN_BP,
        shift_factor=1,  # other tilings would cut the peaks
        padding="random",
        seed=seed,
    )
    return world.order_kept, report["rows"]


def name_of(head: str, *, frozen: bool) -> str:
    return f"{head}, {'frozen' if frozen else 'trained'} encoder"


def train_command(output: Path, head: str, *, frozen: bool, steps: int) -> list[str]:
    """Training from random weights, and test."""
    script = str(ROOT / "training" / "run_region_ranking.py")
    choices = [f"--scorer-head={head}", f"--freeze-encoder={frozen}", f"--max-steps={steps}"]
    folders = ["--regions", str(output / "regions"), "--output-dir", str(output / name_of(head, frozen=frozen))]
    return [script, *folders, *MODEL, *TRAINING, *choices]


def baseline_command(output: Path) -> list[str]:
    """GC content, length and k-mers on the same spans."""
    return [
        *("-m", "omics_transformers.training.ranking_baselines"),
        *("--regions", str(output / "regions"), "--output-dir", str(output / "baselines")),
    ]


def measure(command: list[str], threads: int) -> dict[str, float]:
    """Seconds and peak memory of a launched command of so many threads."""
    command = [*LAUNCH, f"--num_cpu_threads_per_process={threads}", *command]
    return run(command, {"OMP_NUM_THREADS": str(threads)})


def compare(output: Path, heads: list[str]) -> dict[str, Any]:
    """Scores on the test contigs with their 95 % intervals and chance, of models and baselines."""
    names = [name_of(head, frozen=frozen) for head in heads for frozen in (False, True)]
    results = {name: json.loads((output / name / "metrics.json").read_text())["test"] for name in names}
    results |= json.loads((output / "baselines" / "metrics.json").read_text())["test"]
    return {name: {score: _with_chance(result, score) for score in SCORES} for name, result in results.items()}


def claims(scores: dict[str, Any], heads: list[str]) -> dict[str, Any]:
    """Whether what is claimed was seen, by the ends of intervals."""
    trained, frozen = (
        [scores[name_of(head, frozen=is_frozen)]["exact_order"]["interval"] for head in heads]
        for is_frozen in (False, True)
    )
    return {
        f"every trained encoder reaches {LEAST_TRAINED}": all(low >= LEAST_TRAINED for low, _ in trained),
        "every frozen encoder stays below its trained one": all(
            frozen_high < low for (low, _), (_, frozen_high) in zip(trained, frozen, strict=True)
        ),
        "lowest exact order of a trained encoder": min(
            scores[name_of(head, frozen=False)]["exact_order"]["score"] for head in heads
        ),
        "highest exact order of a frozen encoder": max(
            scores[name_of(head, frozen=True)]["exact_order"]["score"] for head in heads
        ),
    }


def _with_chance(result: dict[str, Any], score: str) -> dict[str, Any]:
    interval = [round(end, 4) for end in result[f"{score}_interval"]]
    return {"score": round(result[score], 4), "interval": interval, "chance": round(result[f"{score}_chance"], 4)}


if __name__ == "__main__":
    main()
