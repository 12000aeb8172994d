"""Pre-training of Bio-DTA beside `BertForMaskedLM` and `Trainer`, grouped by length: speed, memory, perplexity.

    python benchmarks/pretraining.py

Claim: at the paper's size (hidden 256, 6 layers, 4 heads, feed-forward 512, 2,048 positions, dropout 0.02, batches of
12 cells) ours trains on at least twice as many real tokens a second on two CPU cores, and on a GPU on three times as
many in under half the memory, and predicts held-out cells as well after the same tokens. Cells are pbmc3k's, the
vocabulary all 20,331 of its genes that Geneformer's dictionary has. `pretraining_arms.py` says what the two are, and
how speed is taken.

Rounds go through the arms in turn, every measurement a process of its own; further arms (bf16, `torch.compile`, DNA
features of 3,072 numbers) are measured in the first round only on a CPU. Perplexity comes from a smaller model and
fewer genes on a CPU (2 layers, hidden 128, the genes of a tenth to a half of the cells), from the paper's size on a
GPU. What is in the output folder is not measured again, so that a stopped run goes on. Writes
benchmarks/results/pretraining.json.
"""

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pretraining_arms
import torch
import transformers
from measured_process import run
from pretraining_arms import ARMS, BASELINE, FEATURES
from samplers_cells import GENES_KEPT, build_real

from omics_transformers.data_scripts.gene_features import GeneFeatures, write_gene_features
from omics_transformers.training.gene_vocabulary import read_gene_vocabulary

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("OMICS_TRANSFORMERS_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "benchmarks" / "results" / "pretraining.json"
TARGETS = {
    "cpu": {"times as fast": 2.0},
    "cuda": {"times as fast": 3.0, "share of the memory": 0.5},
}
CORE = {
    "cpu": (BASELINE, "ours, padded", "ours, packed"),
    "cuda": (BASELINE, "ours, padded", "ours, packed", f"{BASELINE}, bf16", "ours, padded, bf16", "ours, packed, bf16"),
}
FURTHER = {
    "cpu": ("ours, packed, adapter", "ours, padded, bf16", "ours, packed, bf16", "ours, packed, compiled"),
    "cuda": ("ours, packed, adapter, bf16", "ours, packed, bf16, compiled"),
}
PERPLEXITY = (BASELINE, "ours, padded", "ours, packed")
ALL_GENES = "measured_genes.txt"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not there yet, and write the results."""
    options = parse(arguments)
    cells = options.output / "cells"
    if not cells.exists():
        build(options.data, cells)
    if not (cells / FEATURES).exists() and any(ARMS[arm].adapter for arm in asked_for(options)):
        write_random_features(cells)
    results = {
        "speed": {device: measure_speed(device, cells, options) for device in options.devices},
        "perplexity": measure_perplexity(cells, options),
    }
    write_results(results, options)


def asked_for(options: argparse.Namespace) -> list[str]:
    """Arms whose speed is measured."""
    chosen = options.arms or ARMS
    return [arm for device in options.devices for arm in (*CORE[device], *FURTHER[device]) if arm in chosen]


def build(data: Path, cells: Path) -> None:
    """Rank tokens, and the list of all measured genes; whole or not at all."""
    partial = cells.with_name("cells.partial")
    build_real(data, partial)
    measured = anndata.read_h5ad(data / "rna" / "pbmc3k_raw_500labelled.h5ad", backed="r").var["gene_ids"]
    genes = sorted(set(measured) & set(read_gene_vocabulary(partial).tokens))
    (partial / ALL_GENES).write_text("\n".join(genes) + "\n", encoding="utf-8")
    partial.rename(cells)


def write_random_features(cells: Path) -> None:
    """DNA features of the published size for all genes, random: they cost what real ones do."""
    genes = (cells / ALL_GENES).read_text(encoding="utf-8").split()
    features = np.random.default_rng(0).standard_normal((len(genes), 3072), dtype=np.float32)
    write_gene_features(cells / FEATURES, GeneFeatures(genes, features))


def measure_speed(device: str, cells: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Rows by arm."""
    core = [arm for arm in CORE[device] if arm in (options.arms or ARMS)]
    further = [arm for arm in FURTHER[device] if arm in (options.arms or ARMS)]
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in (*core, *further)}
    for number in range(options.rounds):
        for arm in (*core, *(further if device == "cuda" or not number else ())):
            extra = ["--sizes", options.sizes, "--device", device, "--steps", str(options.steps), "--seed", str(number)]
            found[arm].append(measured("speed", arm, cells, ALL_GENES, number, extra, options))
            print(
                f"{device}, round {number + 1}, {arm}: {found[arm][-1]['tokens_per_second']:,.0f} tokens/s", flush=True
            )
    return {arm: speed_row(arm, found) for arm in found}


def speed_row(arm: str, found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians and ranges of an arm, and its ratios to the baseline of its precision, round by round."""
    own = found[arm]
    in_bf16 = f"{BASELINE}, bf16"
    against = in_bf16 if ARMS[arm].bf16 and in_bf16 in found else BASELINE
    row: dict[str, Any] = {
        "tokens_per_second": spread([one["tokens_per_second"] for one in own]),
        "peak_mib": spread([one["peak_mib"] for one in own]),
        "shares_of_time": {name: statistics.median(one["shares"][name] for one in own) for name in own[0]["shares"]},
        **{name: own[0][name] for name in ("real_tokens", "cells", "steps", "vocabulary", "parameters")},
    }
    pairs = list(zip(own, found.get(against, []), strict=False))
    if pairs and not ARMS[arm].baseline:
        row["against"] = against
        row["times_as_fast"] = spread([mine["tokens_per_second"] / one["tokens_per_second"] for mine, one in pairs])
        row["share_of_the_memory"] = spread([mine["peak_mib"] / one["peak_mib"] for mine, one in pairs])
    return row


def measure_perplexity(cells: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Held-out perplexity by arm and seed, and the ratio to the baseline's of the same seed."""
    if not options.seeds:
        return {}
    device = options.devices[-1]
    sizes = "tiny" if options.sizes == "tiny" else "paper" if device == "cuda" else "small"
    genes = ALL_GENES if device == "cuda" else GENES_KEPT
    extra = ["--sizes", sizes, "--device", device, "--epochs", str(options.epochs)]
    extra += ["--most-steps", str(options.most_steps)]
    arms = [arm for arm in PERPLEXITY if arm in (options.arms or ARMS)]
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for seed in options.seeds:
        for arm in arms:
            found[arm].append(measured("perplexity", arm, cells, genes, seed, [*extra, "--seed", str(seed)], options))
            print(f"perplexity, seed {seed}, {arm}: {found[arm][-1]['perplexity']:.2f}", flush=True)
    summary: dict[str, Any] = {"sizes": sizes, "device": device, "epochs": options.epochs, "seeds": options.seeds}
    for arm, own in found.items():
        pairs = zip(own, found.get(BASELINE, own), strict=True)
        summary[arm] = {
            "perplexity": [round(one["perplexity"], 3) for one in own],
            "over the baseline's": spread([mine["perplexity"] / one["perplexity"] for mine, one in pairs]),
            **{name: own[0][name] for name in ("steps", "real_tokens", "held_out_cells", "vocabulary")},
        }
    return summary


def measured(
    work: str, arm: str, cells: Path, genes: str, number: int, extra: Sequence[str], options: argparse.Namespace
) -> dict[str, Any]:
    """What one process of its own found, now or before."""
    device = extra[list(extra).index("--device") + 1]
    name = f"{work}_{device}_{arm}_{number}".replace(", ", "-").replace(" ", "-")
    result = options.output / f"{name}.json"
    if not result.exists():
        words = [
            work,
            "--arm",
            arm,
            "--cells",
            str(cells),
            "--genes",
            str(cells / genes),
            "--result",
            str(result),
            *extra,
        ]
        if options.quick:
            pretraining_arms.main(words)
        else:
            command = [sys.executable, "-W", "ignore", pretraining_arms.__file__, *words]
            run(command, {"OMP_NUM_THREADS": str(options.threads), "TRANSFORMERS_VERBOSITY": "error"})
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {name: round(of(values), 3) for name, of in (("median", statistics.median), ("min", min), ("max", max))}


def reached(results: dict[str, Any]) -> dict[str, bool]:
    """Whether the best arm of ours without further help (fp32 on a CPU, bf16 on a GPU) holds the claim."""
    held = {}
    for device, rows in results["speed"].items():
        arm = "ours, packed" if device == "cpu" else "ours, packed, bf16"
        if "times_as_fast" not in rows.get(arm, {}):
            continue
        target = TARGETS[device]
        held[f"{device}: times as fast"] = rows[arm]["times_as_fast"]["median"] >= target["times as fast"]
        if "share of the memory" in target:
            share = rows[arm]["share_of_the_memory"]["median"]
            held[f"{device}: share of the memory"] = share < target["share of the memory"]
    return held


def write_results(results: dict[str, Any], options: argparse.Namespace) -> None:
    content = {
        "benchmark": "pretraining",
        "settings": {
            name: getattr(options, name) for name in ("sizes", "rounds", "steps", "seeds", "epochs", "threads")
        },
        "machine": {
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if "cuda" in options.devices else None,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "load_average_at_end": [round(load, 2) for load in os.getloadavg()],
        },
        "targets": TARGETS,
        "reached": reached(results),
        **results,
    }
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(results)))


def table(results: dict[str, Any]) -> list[str]:
    """The rows to read."""
    lines = []
    for device, rows in results["speed"].items():
        lines.append(f"{device:32}  tokens/s  times as fast  peak MiB   model  optimizer   data and the rest")
        for arm, row in rows.items():
            times = row.get("times_as_fast", {"median": 1.0})["median"]
            shares = row["shares_of_time"]
            lines.append(
                f"{arm:32}  {row['tokens_per_second']['median']:8,.0f}  {times:13.2f}"
                f"  {row['peak_mib']['median']:8,.0f}  {shares.get('model', 0):6.1%}  {shares.get('optimizer', 0):9.1%}"
                f"  {shares.get('data and the rest', 0):18.1%}"
            )
    for arm, row in results["perplexity"].items():
        if isinstance(row, dict):
            lines.append(f"{arm:32}  held-out perplexity {row['perplexity']}")
    return lines


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of real data")
    parser.add_argument("--output", type=Path, default=Path("pretraining-output"), help="folder for cells and results")
    parser.add_argument("--devices", nargs="+", choices=list(CORE), help="by default the CPU, or the GPU where one is")
    parser.add_argument("--arms", nargs="+", choices=ARMS, help="only these")
    parser.add_argument("--sizes", choices=["paper", "small", "tiny"], default="paper", help="of the speed's model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="batches of 12 cells a measurement of speed: 4, on a GPU 60")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1], help="of the perplexity; none: leave it out")
    parser.add_argument("--epochs", type=float, default=2.0, help="of the training to a perplexity")
    parser.add_argument("--most-steps", type=int, default=-1, help="of the same, for a try")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of a process")
    parser.add_argument("--quick", action="store_true", help="tiny, one round, in this process: whether it runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.quick:
        options.sizes, options.rounds, options.steps, options.seeds, options.most_steps = "tiny", 1, 1, [0], 2
        options.arms = options.arms or [BASELINE, "ours, packed"]
    options.devices = options.devices or (["cuda"] if torch.cuda.is_available() else ["cpu"])
    options.steps = options.steps or (60 if "cuda" in options.devices else 4)
    options.output.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    main()
