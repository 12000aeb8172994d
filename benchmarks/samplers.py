"""The order of the cells: padding, speed and perplexity of random, length-grouped, sorted and packed batches.

    python benchmarks/samplers.py

Claim: batches of `ShuffledLengthGroupedSampler` have at most a tenth more padding than those that are grouped by length
without a shuffle, and a model trained on them predicts held-out cells within 1 % of one trained on random batches.
Question: does grouping without a shuffle harm, as published (perplexity 60 times worse), and why? Two orders have the
very same batches and differ in nothing but the shuffle ("sorted", "sorted, steps shuffled"), and two keep the learning
rate up to the end, so that the last cells weigh as much as the first. Ours is
taken twice: a step's cells all alike in length, which processes that wait for one another need, and only those of each
batch, so that a step has several lengths. For the cause, each training notes its steps' lengths, losses and gradient
norms, its held-out perplexity on the way, and in the end that of the fifths of cells by length.

Two small models at a time, one thread each, the same loop for all (`samplers_training.py`), on real and simulated cells
(`samplers_cells.py`), three seeds. What is in the output folder is not trained again, so that a stopped run goes on.
Writes benchmarks/results/samplers.json and samplers.png.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from samplers_cells import REAL, SIMULATED, build_real, build_simulated

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("OMICS_TRANSFORMERS_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "benchmarks" / "results" / "samplers.json"
RANDOM, OURS, PACKED, GROUPED, SORTED = "random", "ours", "ours, packed", "group_by_length", "sorted"
BY_BATCH = "ours, lengths differ within a step"
SAME_BATCHES_SHUFFLED = "sorted, steps shuffled"
ARMS = (
    *(RANDOM, GROUPED, "batch_rebalance", SORTED, OURS, BY_BATCH, PACKED),
    *(SAME_BATCHES_SHUFFLED, "sorted, constant rate", "random, constant rate"),
)
TARGETS = {"padding over group_by_length's": 1.1, "perplexity over random's": 1.01}


class Task(NamedTuple):
    """One training."""

    output: Path
    cells: str
    arm: str
    seed: int
    plan: dict[str, int | None]  # fields of `samplers_training.Plan`

    @property
    def result(self) -> Path:
        return self.output / f"{self.cells}_{self.arm}_{self.seed}.json".replace(", ", "-").replace(" ", "-")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is not there yet, and write table and figure."""
    options = parse(arguments)
    build_cells_of(options)
    tasks = [
        Task(options.output, cells, arm, seed, plan_of(options))
        for seed in options.seeds
        for cells in options.cells
        for arm in options.arms
    ]
    train_all(tasks, options.processes)
    found = {(task.cells, task.arm, task.seed): json.loads(task.result.read_text()) for task in tasks}
    summary = summarise(found, options)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    from samplers_figure import draw

    draw(found, options.results.with_suffix(".png"))
    print("\n".join(table(summary)))


def plan_of(options: argparse.Namespace) -> dict[str, int | None]:
    """How long each arm is trained, and how it is tested."""
    plan = {"epochs": options.epochs, "most_steps": options.steps}
    return plan | ({"looks": 2, "cells_a_look": 8, "most_test_cells": 16} if options.quick else {})


def build_cells_of(options: argparse.Namespace) -> None:
    """Make the cells that are not there yet, whole or not at all."""
    for name in options.cells:
        folder, partial = options.output / name, options.output / f"{name}.partial"
        if folder.exists():
            continue
        shutil.rmtree(partial, ignore_errors=True)
        if name == REAL:
            build_real(options.data, partial)
        else:
            build_simulated(partial, n_cells=options.simulated_cells, seed=0)
        partial.rename(folder)


def train_all(tasks: Sequence[Task], processes: int) -> None:
    """Train, `processes` at a time; 0 trains in this process."""
    waiting = [task for task in tasks if not task.result.is_file()]
    print(f"{len(tasks) - len(waiting)} of {len(tasks)} trainings are there already", flush=True)
    if not processes:
        for task in waiting:
            print(train(task), flush=True)
        return
    os.environ |= {"OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    # New interpreters: they read OMP_NUM_THREADS, and share no threads with this one.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        started = time.monotonic()
        trainings = [pool.submit(train, task) for task in waiting]
        for done, training in enumerate(as_completed(trainings), start=1):
            left = (time.monotonic() - started) / done * (len(trainings) - done) / 60
            print(f"{training.result()}; {done} of {len(trainings)}, about {left:.0f} minutes left", flush=True)


def train(task: Task) -> str:
    """Train one arm, and keep what it found."""
    from samplers_training import Plan  # a spawned process, not the one that waits, needs torch
    from samplers_training import train as train_arm

    found = train_arm(task.output / task.cells, task.arm, task.seed, Plan(**task.plan))
    partial = task.result.with_suffix(".partial")
    partial.write_text(json.dumps(found) + "\n", encoding="utf-8")
    partial.rename(task.result)
    return f"{task.cells}, {task.arm}, seed {task.seed}: perplexity {found['test_perplexity']:.1f}"


Found = dict[tuple[str, str, int], dict[str, Any]]


def summarise(found: Found, options: argparse.Namespace) -> dict[str, Any]:
    """A row for each arm and kind of cells, what was claimed, and what tells the cause."""
    rows = {cells: {arm: row_of(cells, arm, options.seeds, found) for arm in options.arms} for cells in options.cells}
    return {
        "benchmark": "samplers",
        "settings": {"seeds": options.seeds, "epochs": options.epochs, "steps": options.steps},
        "machine": {"cores": os.cpu_count(), "processes": options.processes, "load": round(os.getloadavg()[0], 2)},
        "targets": TARGETS,
        "reached": {cells: reached(of_cells) for cells, of_cells in rows.items()},
        "results": rows,
    }


def row_of(cells: str, arm: str, seeds: Sequence[int], found: Found) -> dict[str, Any]:
    """Means over the seeds with their range, and ratios to random batches of the same seed."""
    own = [found[cells, arm, seed] for seed in seeds]
    row = {name: spread([one[name] for one in own]) for name in ("padding_share", "tokens_per_second")}
    row |= {name: spread([one[name] for one in own]) for name in ("train_perplexity", "test_perplexity")}
    if (cells, RANDOM, seeds[0]) in found:
        pairs = [(found[cells, arm, seed], found[cells, RANDOM, seed]) for seed in seeds]
        row["test perplexity over random's"] = spread(
            [one["test_perplexity"] / of["test_perplexity"] for one, of in pairs]
        )
        row["speed over random's"] = spread([one["tokens_per_second"] / of["tokens_per_second"] for one, of in pairs])
    return {
        **row,
        "steps": own[0]["steps"],
        "real_tokens": own[0]["real_tokens"],
        "test perplexity by fifth of length, shortest first": [
            round(statistics.mean(values), 2)
            for values in zip(*(one["test_perplexity_by_fifth_of_length"] for one in own), strict=True)
        ],
        "cause": {name: spread([signs_of_order(one)[name] for one in own]) for name in signs_of_order(own[0])},
    }


def signs_of_order(one: dict[str, Any]) -> dict[str, float]:
    """What an order without a shuffle would show in one training.

    * correlation of a step's mean length with that of the step before,
    * the same of the losses: neighbouring steps then ask for the same thing,
    * the largest gradient norm after the warm-up over the median one,
    * the worst held-out perplexity of the second half of the training over the last one.
    """
    length, loss, norm = (np.array(one["trace"][name]) for name in ("length", "loss", "gradient_norm"))
    after_warm_up = norm[len(norm) // 20 :]
    perplexities = [look["perplexity"] for look in one["on_the_way"]]
    second_half = perplexities[len(perplexities) // 2 :]
    return {
        "correlation of neighbouring steps' lengths": _correlation_with_next(length),
        "correlation of neighbouring steps' losses": _correlation_with_next(loss),
        "largest over median gradient norm": float(after_warm_up.max() / np.median(after_warm_up)),
        "worst over last held-out perplexity": max(second_half) / perplexities[-1],
    }


def _correlation_with_next(values: np.ndarray) -> float:
    if len(values) < 3 or values[1:].std() == 0 or values[:-1].std() == 0:
        return 0.0
    return float(np.corrcoef(values[1:], values[:-1])[0, 1])


def reached(rows: dict[str, Any]) -> dict[str, bool]:
    """Whether the claim holds, by means over the seeds."""
    held = {}
    if OURS in rows and GROUPED in rows:
        over = rows[OURS]["padding_share"]["mean"] / max(rows[GROUPED]["padding_share"]["mean"], 1e-9)
        held["padding over group_by_length's"] = over <= TARGETS["padding over group_by_length's"]
    for arm in (OURS, BY_BATCH, PACKED):
        if arm in rows and "test perplexity over random's" in rows[arm]:
            over = rows[arm]["test perplexity over random's"]["mean"]
            held[f"perplexity over random's, {arm}"] = over <= TARGETS["perplexity over random's"]
    return held


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and range."""
    return {name: round(of(values), 4) for name, of in (("mean", statistics.mean), ("min", min), ("max", max))}


def table(summary: dict[str, Any]) -> list[str]:
    """The rows to read."""
    lines = []
    for cells, rows in summary["results"].items():
        lines.append(f"{cells:34}  padding  tokens/s    train     test  over random's (range)   by fifth of length")
        for arm, row in rows.items():
            over = row.get("test perplexity over random's", {"mean": 1, "min": 1, "max": 1})
            fifths = " ".join(f"{value:.1f}" for value in row["test perplexity by fifth of length, shortest first"])
            lines.append(
                f"{arm:34}  {row['padding_share']['mean']:7.1%}  {row['tokens_per_second']['mean']:8,.0f}"
                f"  {row['train_perplexity']['mean']:7.2f}  {row['test_perplexity']['mean']:7.2f}"
                f"  {over['mean']:7.3f} ({over['min']:.3f} to {over['max']:.3f})  {fifths}"
            )
    lines.append(f"reached: {summary['reached']}")
    return lines


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of real data")
    parser.add_argument("--output", type=Path, default=Path("samplers-output"), help="folder for cells and trainings")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cells", nargs="+", choices=[REAL, SIMULATED], default=[REAL, SIMULATED])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--epochs", type=int, default=3, help="passes over the cells")
    parser.add_argument("--steps", type=int, help="stop after so many, of 16 cells each")
    parser.add_argument("--simulated-cells", type=int, default=2_700)
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="trainings at a time; 0: in this one"
    )
    parser.add_argument("--quick", action="store_true", help="so short that nothing is learned: whether all runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.quick:
        options.seeds, options.epochs, options.steps = [0], 1, 3
        options.simulated_cells, options.processes = 300, 0
    check_plan(options, parser)
    return options


def check_plan(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """End the program where the folder's trainings were longer or shorter than those asked for."""
    options.output.mkdir(parents=True, exist_ok=True)
    settings = {"epochs": options.epochs, "steps": options.steps, "simulated_cells": options.simulated_cells}
    path = options.output / "settings.json"
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != settings:
        parser.error(f"{path} has other settings than {settings}: name another --output folder, or set them alike")
    path.write_text(json.dumps(settings) + "\n", encoding="utf-8")
    if REAL in options.cells and not options.data.is_dir():
        parser.error(f"no real data at {options.data}: give --data, or leave them out with --cells {SIMULATED}")


if __name__ == "__main__":
    main()
