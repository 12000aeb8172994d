"""What region rankers can do beside the thesis, where the answer is known: variants, cell types, other losses.

    python benchmarks/ranking_options.py --output FOLDER

Claims, on simulated accessibility: (1) an SNV in a planted motif lowers the score of the region around it more than one
beside motifs does; (2) where each cell type reads a motif of its own, scores that depend on the cell type order more
spans than scores that do not; (3) how the five losses compare, Poisson regression on counts among them, which the
thesis rejected. Models as in `simulated_accessibility.py`, its contigs and settings; one thread a run.
"""

import argparse
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import simulated_accessibility as base
from scipy.stats import mannwhitneyu
from transformers import pipeline

import omics_transformers  # noqa: F401 (registers the pipeline)
from omics_transformers.data_scripts.accessible_world import MOTIFS, AccessibleWorld
from omics_transformers.data_scripts.genomes import open_genome, reverse_complement
from omics_transformers.data_scripts.regions import build_regions
from omics_transformers.data_scripts.simulated_accessibility import CONTIGS, simulate_accessibility

LOSSES = ("softmax", "pairwise_logistic", "listmle", "approx_ndcg", "poisson")
VARIANTS_A_KIND = 400
# With one and three copies, a peak with more motifs mostly has more of either, and the cell type has nothing to tell.
OWN_MOTIFS: dict[str, Any] = {"specificity": 1.0, "copies": (3, 4)}
# How variants are scored: as the command does by default, and with averages over frames and places of the padding.
SCORINGS: dict[str, dict[str, Any]] = {
    "as by default": {},
    "6 phases, 3 places of the padding": {"phases": 6, "padding_draws": 3},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("ranking-options"), help="folder to make")
    parser.add_argument("--steps", type=int, default=600, help="training steps of 32 spans")
    parser.add_argument("--seed", type=int, default=0, help="of the worlds and of the spans")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="models trained side by side")
    parser.add_argument("--results", type=Path, default=base.ROOT / "benchmarks" / "results" / "ranking_options.json")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True)
    world = build(arguments.output / "both", arguments.seed)
    build(arguments.output / "own", arguments.seed, **OWN_MOTIFS)
    commands = train_commands(arguments.output, arguments.steps)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        seconds = pool.map(lambda command: base.measure(command, 1), commands.values())
        resources = dict(zip(commands, seconds, strict=True))
    scores = {name: exact_order(arguments.output / name) for name in commands}
    summary = {
        "settings": {"steps": arguments.steps, "seed": arguments.seed},
        "exact order on unseen contigs": scores,
        "variants": variants(world, arguments.output, arguments.seed),
        "resources": resources,
    }
    arguments.results.write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary, indent=1))


def build(folder: Path, seed: int, **settings: Any) -> AccessibleWorld:
    """A world and its spans."""
    world = simulate_accessibility(folder / "world", seed=seed, span_bp=base.SPAN_BP, **settings)
    train, validation, *test = CONTIGS
    build_regions(
        folder / "world" / "genome.fa",
        [folder / "world" / "cells.h5ad"],
        folder / "regions",
        train=[train],
        validation=[validation],
        test=test,
        span_bp=base.SPAN_BP,
        shift_factor=1,
        padding="random",
        equal_counts="drop",
        seed=seed,
    )
    return world


def train_commands(output: Path, steps: int) -> dict[str, list[str]]:
    """Name of a model -> its training."""
    commands = {f"loss: {loss}": ["both", "--scorer-head=linear", f"--ranking-loss={loss}"] for loss in LOSSES} | {
        f"cell types {word}": ["own", "--scorer-head=transformer", f"--condition-on-cell-type={flag}"]
        for word, flag in (("not known", False), ("known", True))
    }
    script = str(base.ROOT / "training" / "run_region_ranking.py")
    return {
        name: [
            *(script, "--regions", str(output / world / "regions"), "--output-dir", str(output / name)),
            *(*base.MODEL, *base.TRAINING, f"--max-steps={steps}", *options),
        ]
        for name, (world, *options) in commands.items()
    }


def exact_order(folder: Path) -> dict[str, Any]:
    result = json.loads((folder / "metrics.json").read_text())["test"]
    return {
        "score": round(result["exact_order"], 4),
        "interval": [round(end, 4) for end in result["exact_order_interval"]],
        "chance": round(result["exact_order_chance"], 4),
        "lists": result["lists"],
    }


def variants(world: AccessibleWorld, output: Path, seed: int) -> dict[str, Any]:
    """Effects of SNVs in planted motifs of the test contigs and of SNVs beside them, in peaks that have motifs."""
    in_motifs, beside = draw_variants(world, seed)
    pipe = pipeline("region-ranking", model=str(output / "loss: softmax"), device="cpu")
    results: dict[str, Any] = {"variants of each kind": len(in_motifs)}
    with open_genome(output / "both" / "world" / "genome.fa") as genome:
        for name, options in SCORINGS.items():
            scored = pipe.variants([*in_motifs, *beside], genome, region_bp=150, batch_size=64, **options).variants
            effects = scored.set_index("variant")["effect"]
            lower, other = effects[in_motifs].to_numpy(float), effects[beside].to_numpy(float)
            test = mannwhitneyu(lower, other, alternative="less")
            results[name] = {
                "mean effect in motifs": round(float(lower.mean()), 3),
                "mean effect beside": round(float(other.mean()), 3),
                "share of pairs in which the one in a motif is lower": round(
                    1 - float(test.statistic) / len(lower) / len(other), 3
                ),
                "p": float(test.pvalue),
            }
    return results


def draw_variants(world: AccessibleWorld, seed: int) -> tuple[list[str], list[str]]:
    """One SNV in a motif and one beside all motifs of each chosen peak, as `contig:position:REF>ALT`, 1-based."""
    random = np.random.default_rng(seed)
    motifs = [letters for motif in MOTIFS.values() for letters in (motif, reverse_complement(motif))]
    _, _, *test = CONTIGS
    in_motifs, beside = [], []
    for peak in world.peaks[world.peaks["contig"].isin(test)].itertuples():
        sequence = world.contigs[peak.contig][peak.start : peak.end].tobytes()
        is_motif = np.zeros(len(sequence), dtype=bool)
        for motif in motifs:
            for start in range(len(sequence) - len(motif) + 1):
                if sequence.startswith(motif, start):
                    is_motif[start : start + len(motif)] = True
        if is_motif.any() and len(in_motifs) < VARIANTS_A_KIND:
            for places, kept in ((np.flatnonzero(is_motif), in_motifs), (np.flatnonzero(~is_motif), beside)):
                place = int(random.choice(places))
                reference = chr(sequence[place])
                other = random.choice([letter for letter in "ACGT" if letter != reference])
                kept.append(f"{peak.contig}:{peak.start + place + 1}:{reference}>{other}")
    return in_motifs, beside


if __name__ == "__main__":
    main()
