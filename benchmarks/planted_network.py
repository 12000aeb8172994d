"""Does a change of a factor's DNA show in the genes that it regulates? Recovery of planted networks, over seeds.

    python benchmarks/planted_network.py --output FOLDER [--seeds 0 1 2] [--worlds ...] [--arms ...] [--quick]

Each simulated world is made for each seed; each arm is a model that is trained on the same cells. In held-out donors'
cells every factor is then edited: its motifs broken, by alleles that donors carry or by others, or its token deleted or
masked. Genes are ranked by their shift, by the shift less that under the same edit of other genes (sham genes), and by
the shift less that under neutral mutations of the same promoter. Beside them: a random band, plain co-expression over
the training cells, the adapter-free model with the factor deleted (the paper's comparison), and how well the same
tables find other factors' targets.

That targets are found does not tell that the model reads DNA: genes that depend on a factor may move most under any
change of its token. So the rows of neutral mutations stand beside those of motifs, `mean_of_targets` of
shift_beyond_neutral is the log of how much more targets move than under neutral mutations, and "no signal" is the same
world with activity and DNA unrelated. A small Enformer with random weights: a test of the method, not of biology.

An arm that is finished is kept in FOLDER and not made again, so that more seeds, worlds and arms can be added by later
calls; one takes about six minutes on a core, the default (48 and baselines) two to two and a half hours on two. Ends
with benchmarks/results/planted_network.json over all that FOLDER holds, and a table.
"""

import argparse
import json
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from planted_network_scores import as_table, beyond_neutral, score_table, summarise
from planted_network_world import FactorEdits, factor_edits, features_file, prepare_world, read_truth

RESULTS = Path(__file__).parent / "results" / "planted_network.json"
WORLDS: dict[str, dict[str, Any]] = {
    "five factors": {},
    "no signal": {"dna_effect": 0.0},
    "ten factors": {"n_genes": 120, "n_factors": 10},
    "weak": {"trans_effect": 1.0},
    "linked in half": {"dna_effect": 0.5},
}
MODEL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
TRAINING = {
    "per_device_train_batch_size": 128,
    "learning_rate": 3e-3,
    "save_strategy": "no",
    "logging_steps": 500,
    "warmup_steps": 0.1,
    "hidden_dropout_prob": 0,
    "attention_probs_dropout_prob": 0,
    "mlm_probability": 0.3,
    "test_fraction": 0.05,
    "disable_tqdm": "true",
    "report_to": "none",
    "use_cpu": "true",
}
RANKED_BY = ("shift", "shift_normalised", "shift_beyond_neutral")


class Arm(NamedTuple):
    """A model: what it reads, and how."""

    adapter_type: str = "linear"
    variant_encoding: str = "replace"
    donors: bool = False
    pool: str = "all positions"
    feature_scaling: str = "whiten"

    @property
    def reads_dna(self) -> bool:
        return self.adapter_type != "none"


COEXPRESSION = "co-expression"
ARMS: dict[str, Arm | None] = {
    COEXPRESSION: None,
    "adapter-free": Arm("none"),
    "the paper: one genome, replace, all positions, standardised": Arm(feature_scaling="standardize"),
    "one genome, replace, all positions": Arm(),
    "one genome, replace, centre": Arm(pool="centre"),
    "donors, replace, all positions": Arm(donors=True),
    "donors, replace, centre": Arm(donors=True, pool="centre"),
    "donors, difference, all positions": Arm(variant_encoding="difference", donors=True),
    "donors, difference, centre": Arm(variant_encoding="difference", donors=True, pool="centre"),
}


class Sizes(NamedTuple):
    """Of a run; all arms in a folder share them."""

    steps: int
    held_out_factors: int
    test_donors: float
    sham_genes: int
    neutral_draws: int
    world: dict[str, Any]  # what all worlds differ by from the simulator's defaults


FULL = Sizes(8_000, 1, 0.1, 5, 3, {})
QUICK = Sizes(
    *(20, 1, 0.2, 1, 1),
    {"n_genes": 24, "n_factors": 3, "targets_per_factor": 3, "n_donors": 20, "n_cells": 400},
)
QUICK_ARMS = (COEXPRESSION, "adapter-free", "one genome, replace, centre", "donors, difference, all positions")


class Task(NamedTuple):
    """One arm in one world of one seed."""

    output: Path
    world: str
    seed: int
    arm: str
    sizes: Sizes

    @property
    def folder(self) -> Path:
        return world_folder(self.output, self.world, self.seed)

    @property
    def result(self) -> Path:
        return self.folder / "arms" / f"{self.arm}.json"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("planted-network"), help="folder to make or go on with")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of world, weights and training")
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=["five factors", "no signal"])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=None, help="all by default")
    parser.add_argument("--steps", type=int, help=f"of training; {FULL.steps:,} by default")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="arms at a time, a thread each")
    parser.add_argument("--quick", action="store_true", help="so small that nothing is learned: whether all runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parsed = parser.parse_args(arguments)
    sizes = QUICK if parsed.quick else FULL
    if parsed.steps is not None:
        sizes = sizes._replace(steps=parsed.steps)
    arms = parsed.arms or list(QUICK_ARMS if parsed.quick else ARMS)
    try:
        require_same_settings(parsed.output, sizes)
    except ValueError as error:
        parser.error(str(error))
    tasks = [
        Task(parsed.output, world, seed, arm, sizes) for seed in parsed.seeds for world in parsed.worlds for arm in arms
    ]
    run_tasks(tasks, parsed.processes)
    write_summary(parsed.output, sizes, parsed.results)


def require_same_settings(output: Path, sizes: Sizes) -> None:
    """Keep the settings in the folder.

    Raises:
        ValueError: where what the folder holds was made with others.
    """
    settings = {"sizes": sizes._asdict(), "model": MODEL, "training": TRAINING}
    path = output / "settings.json"
    if path.is_file() and json.loads(path.read_text()) != settings:
        raise ValueError(f"{path} has other settings than this run: name another --output folder, or set them alike")
    output.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=1) + "\n")


def world_folder(output: Path, world: str, seed: int) -> Path:
    return output / f"{world}-seed-{seed}".replace(" ", "-")


def run_tasks(tasks: Sequence[Task], processes: int) -> None:
    """Make worlds, then arms, `processes` at a time; those that are there are passed over."""
    waiting = [task for task in tasks if not task.result.is_file()]
    print(f"{len(tasks) - len(waiting)} of {len(tasks)} arms are there already", flush=True)
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}
    # New interpreters: they read OMP_NUM_THREADS, and share no threads with this one.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        worlds = {task.folder: task for task in waiting if not (task.folder / "split.json").is_file()}
        for message in pool.map(make_world, worlds.values()):
            print(message, flush=True)
        started = time.monotonic()
        arms = [pool.submit(make_arm, task) for task in waiting]
        for done, arm in enumerate(as_completed(arms), start=1):
            left = (time.monotonic() - started) / done * (len(arms) - done) / 60
            print(f"{arm.result()}; {done} of {len(arms)}, about {left:.0f} minutes left", flush=True)


def make_world(task: Task) -> str:
    start = time.monotonic()
    sizes = task.sizes
    prepare_world(
        task.folder,
        task.seed,
        {**sizes.world, **WORLDS[task.world]},
        held_out_factors=sizes.held_out_factors,
        test_donors=sizes.test_donors,
    )
    return f"{task.world}, seed {task.seed}: world made in {time.monotonic() - start:.0f} s"


def make_arm(task: Task) -> str:
    """Train and perturb; the result appears only when it is whole."""
    logging.getLogger().setLevel(logging.WARNING)
    targets = read_truth(task.folder)
    held_out = set(json.loads((task.folder / "split.json").read_text())["held_out_factors"])
    arm, started = ARMS[task.arm], time.monotonic()
    found: dict[str, Any] = {"world": task.world, "seed": task.seed, "arm": task.arm}
    if arm is not None:
        found["held_out_perplexity"] = train(task, arm)["held_out"]["perplexity"]
    trained = time.monotonic()
    tables = coexpression_tables(task, list(targets)) if arm is None else perturbed_tables(task, arm, list(targets))
    found["seconds"] = {"training": round(trained - started, 1), "perturbing": round(time.monotonic() - trained, 1)}
    found["rows"] = [
        {"factor": factor, "held_out": factor in held_out, "edit": edit, "ranked_by": column}
        | score_table(table, column, factor, targets)
        for (factor, edit), table in tables.items()
        for column in RANKED_BY
        if column in table
    ]
    task.result.parent.mkdir(exist_ok=True)
    partial = task.result.with_suffix(".partial")
    partial.write_text(json.dumps(found, indent=1) + "\n")
    partial.rename(task.result)
    return f"{task.world}, seed {task.seed}, {task.arm}: {found['seconds']}"


def train(task: Task, arm: Arm) -> dict[str, Any]:
    from omics_transformers.training.pretraining_arguments import parse_arguments
    from omics_transformers.training.run_mlm import pretrain

    shutil.rmtree(model_folder(task), ignore_errors=True)
    options: dict[str, Any] = {"cells": task.folder / "cells", **MODEL, **TRAINING, "adapter_type": arm.adapter_type}
    if arm.reads_dna:
        options["gene_features"] = features_file(task.folder, arm.pool)
        options |= {"variant_encoding": arm.variant_encoding, "feature_scaling": arm.feature_scaling}
    if arm.donors:
        options["donor_column"] = "donor"
    options |= {"max_steps": task.sizes.steps, "seed": task.seed, "output_dir": model_folder(task)}
    return pretrain(*parse_arguments([f"--{name}={value}" for name, value in options.items()]))


def model_folder(task: Task) -> Path:
    return task.folder / "models" / task.arm.replace(":", "").replace(",", "").replace(" ", "-")


def coexpression_tables(task: Task, factors: Sequence[str]) -> dict[tuple[str, str], pd.DataFrame]:
    from omics_transformers.training.coexpression_baseline import coexpression_baseline

    cells = task.folder / "train.h5ad"
    return {(factor, COEXPRESSION): coexpression_baseline(cells, factor) for factor in factors}


def perturbed_tables(task: Task, arm: Arm, factors: Sequence[str]) -> dict[tuple[str, str], pd.DataFrame]:
    """(factor, edit) -> table of genes, from the cells of held-out donors."""
    import anndata
    import transformers

    import omics_transformers  # noqa: F401  registers the pipeline's task
    from omics_transformers.modeling.modeling_enformer import EnformerForGeneFeatures

    open_pipeline: Any = transformers.pipeline
    pipe = open_pipeline("gene-embedding-perturbation", model=str(model_folder(task)), device="cpu")
    ranked = pipe.preprocess(anndata.read_h5ad(task.folder / "held_out.h5ad"))
    dna_model = EnformerForGeneFeatures.from_pretrained(task.folder / "enformer")
    options = {"batch_size": 256, "noise_cells": 0, "bootstraps": 0, "matched_draws": 0, "seed": task.seed}
    edits = factor_edits(task.folder, factors, seed=task.seed, neutral_draws=task.sizes.neutral_draws)

    def perturb(factor: str, edit: Any, sham_genes: int) -> pd.DataFrame:
        return pipe(ranked, gene=factor, edit=edit, sham_genes=sham_genes, dna_model=dna_model, **options).genes

    tables = {}
    for factor in factors:
        for edit in ("delete", "mask"):
            tables[factor, edit] = perturb(factor, edit, task.sizes.sham_genes)
        if arm.reads_dna:
            neutral = [perturb(factor, edit, 0) for edit in neutral_edits(edits[factor])]
            for name, edit in motif_edits(edits[factor]).items():
                tables[factor, name] = beyond_neutral(perturb(factor, edit, task.sizes.sham_genes), neutral)
            tables[factor, "neutral mutations"] = neutral[0]
    return tables


def motif_edits(edits: FactorEdits) -> dict[str, Any]:
    from omics_transformers.pipelines.perturbation_edits import ReplaceSequence

    return {
        "motifs broken by donors' alleles": ReplaceSequence(edits.known_alleles, edits.reference),
        "motifs broken by new alleles": ReplaceSequence(edits.new_alleles, edits.reference),
    }


def neutral_edits(edits: FactorEdits) -> list[Any]:
    from omics_transformers.pipelines.perturbation_edits import ReplaceSequence

    return [ReplaceSequence(sequence, edits.reference) for sequence in edits.neutral]


def write_summary(output: Path, sizes: Sizes, results: Path) -> None:
    """Over all finished arms in the folder, whichever call made them."""
    arms = [json.loads(path.read_text()) for path in sorted(output.glob("*/arms/*.json"))]
    arms.sort(key=lambda one: (list(WORLDS).index(one["world"]), list(ARMS).index(one["arm"]), one["seed"]))
    rows = [{key: one[key] for key in ("world", "seed", "arm")} | row for one in arms for row in one["rows"]]
    summary = summarise(pd.DataFrame(rows))
    content = {
        "settings": {
            "sizes": sizes._asdict(),
            "model": MODEL,
            "training": TRAINING,
            "worlds": {name: WORLDS[name] for name in dict.fromkeys(one["world"] for one in arms)},
            "arms": {name: None if arm is None else arm._asdict() for name, arm in ARMS.items()},
        },
        "summary": summary,
        "runs": [{key: value for key, value in one.items() if key != "rows"} for one in arms],
        "rows": pd.DataFrame(rows).map(_shortened).to_dict("split", index=False),
    }
    results.write_text(json.dumps(content) + "\n")
    print(as_table(summary))


def _shortened(value: Any) -> Any:
    """Four digits of a number, and nothing for one that is not there."""
    return value if not isinstance(value, float) else None if np.isnan(value) else float(f"{value:.4g}")


if __name__ == "__main__":
    main()
