"""The demo: the commands that a user runs, on a simulated world, scored against its planted network.

Two models are trained on the same cells: over donors, with variants as differences to the reference, and in the paper's
setting, one genome and variants in place of the reference. In each factor's promoter all motifs are then broken, and
the genes that move most are held against the factor's planted targets. "bio-dta" section 3 is the source of the method.
"""

import contextlib
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)

WINDOW_BP = 2_048
MAX_STEPS = 8_000
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
TRAINING = {
    "per_device_train_batch_size": 128,
    "learning_rate": 3e-3,
    "save_strategy": "no",
    "logging_steps": 500,
    "warmup_steps": 0.1,
    "hidden_dropout_prob": 0,
    "attention_probs_dropout_prob": 0,
    "mlm_probability": 0.3,
    "test_fraction": 0.1,
    "disable_tqdm": "true",
    "report_to": "none",
}
MODELS = {
    "over donors": {"donor_column": "donor", "variant_encoding": "difference", "feature_scaling": "whiten"},
    "one genome (the paper)": {"variant_encoding": "replace"},
}


def run_demo(
    output: str | Path,
    *,
    seed: int,
    overwrite: bool = False,
    max_steps: int = MAX_STEPS,
    world: Mapping[str, float] | None = None,
) -> str:
    """Simulate, build, embed, train, perturb, and score.

    Args:
        output: a folder to make; everything that the commands write is kept there.
        seed: of the world, the weights and the training.
        overwrite: replace an earlier demo.
        max_steps: of training; fewer than the default find less.
        world: sizes and strengths of the world, other than the default's; see `RegulomeSettings`.

    Returns:
        the summary that ends the demo: targets found beside chance, and the report's path; also in summary.json.

    Raises:
        FileExistsError: where the folder exists and `overwrite` is false.
        RuntimeError: where one of the commands fails; with the end of what it printed.
    """
    folder = Path(output)
    if folder.exists() and not overwrite:
        raise FileExistsError(f"{folder} exists: name another folder, or pass overwrite (--overwrite) to replace it")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = time.monotonic()
    _make_world(folder, seed, world or {})
    _train_models(folder, seed, max_steps)
    results = _perturb_factors(folder)
    summary = {"seed": seed, "seconds": round(time.monotonic() - start), "models": results}
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return _describe(folder, summary)


def _make_world(folder: Path, seed: int, settings: Mapping[str, float]) -> None:
    from .training.small_enformer import make_small_enformer

    world = folder / "world"
    with _stage("simulate a world with a planted network"):
        chosen = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        _run(folder, ["simulate", "--output", world, "--seed", seed, *chosen])
    with _stage("cells to rank tokens"):
        options = ["--obs-column", "donor", "--minimum-genes", 1]
        _run(folder, ["build", "cells", world / "cells.h5ad", "--output", folder / "cells", *options])
    with _stage("a small Enformer with random weights, made on the spot: it knows no biology"):
        make_small_enformer(folder / "enformer", seed=seed)
    with _stage("DNA to gene features, of the reference and of each donor"):
        files = ["--genome", world / "genome.fa", "--annotation", world / "genes.gtf", "--vcf", world / "variants.vcf"]
        options = [
            "--model",
            folder / "enformer",
            "--window-bp",
            WINDOW_BP,
            "--batch-size",
            32,
            "--assembly",
            "simulated",
        ]
        _run(folder, ["embed", *files, *options, "--output", folder / "features.safetensors"])


def _train_models(folder: Path, seed: int, max_steps: int) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", 1, "--num_machines", 1]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "omics_transformers.training.run_mlm"]
    inputs = {"cells": folder / "cells", "gene_features": folder / "features.safetensors"}
    commands = []
    for name, choices in MODELS.items():
        settings = {
            **inputs,
            **SIZES,
            **TRAINING,
            **choices,
            "seed": seed,
            "max_steps": max_steps,
            "output_dir": _model_folder(folder, name),
        }
        flags = [word for key, value in settings.items() for word in (f"--{key}", value)]
        commands.append([*launch, *flags])
    with _stage("train Bio-DTA twice, over donors and on one genome; logs/ shows how far it is"):
        _run_side_by_side(folder, commands)
    for name in MODELS:
        metrics = json.loads((_model_folder(folder, name) / "metrics.json").read_text())["held_out"]
        logger.info("%s: held-out perplexity %.1f", name, metrics["perplexity"])


def _perturb_factors(folder: Path) -> dict[str, list[dict]]:
    """Break each factor's motifs in both models; per model, one row a factor."""
    import pandas as pd

    truth = pd.read_csv(folder / "world" / "truth.tsv", sep="\t")
    targets = {str(factor): set(edges.target) for factor, edges in truth.groupby("factor")}
    with _stage("break each factor's motifs, and see which genes move"):
        _write_mutated_promoters(folder, list(targets))
        _write_gene_sets(folder, targets)
        _run_side_by_side(folder, [_perturb_command(folder, model, factor) for factor in targets for model in MODELS])
    return {
        model: [_score(_perturbation_folder(folder, model, factor), targets[factor]) for factor in targets]
        for model in MODELS
    }


def _perturb_command(folder: Path, model: str, factor: str) -> list:
    world = folder / "world"
    return [
        *_command("perturb", folder / "cells", "--model", _model_folder(folder, model), "--gene", factor),
        *("--edit", "sequence", "--sequence", folder / "mutated" / f"{factor}.fa", "--dna-model", folder / "enformer"),
        *("--genome", world / "genome.fa", "--annotation", world / "genes.gtf"),
        *("--gene-sets", folder / "targets.gmt", "--batch-size", 256),
        *("--output", _perturbation_folder(folder, model, factor)),
    ]


def _write_mutated_promoters(folder: Path, factors: Sequence[str]) -> None:
    """A FASTA a factor: its window with every allele that breaks a motif."""
    import pandas as pd

    from .data_scripts.annotations import read_tss
    from .data_scripts.genomes import open_genome
    from .data_scripts.promoters import promoter_windows
    from .data_scripts.simulated_regulome import MOTIF

    world = folder / "world"
    variants = pd.read_csv(world / "variants.vcf", sep="\t", skiprows=_header_lines(world / "variants.vcf"))
    tss = read_tss(world / "genes.gtf").set_index("gene_id", drop=False).loc[list(factors)]
    windows = promoter_windows(open_genome(world / "genome.fa"), tss, window_bp=WINDOW_BP)
    (folder / "mutated").mkdir()
    for row, gene in enumerate(windows.genes.itertuples()):
        reference = windows.sequence(row)
        near = variants[(variants["#CHROM"] == gene.contig) & variants.POS.between(gene.start + 1, gene.end)]
        mutated = bytearray(reference)
        for variant in near.itertuples():
            place = variant.POS - 1 - gene.start
            changed = reference[:place] + variant.ALT.encode() + reference[place + 1 :]
            if changed.count(MOTIF) < reference.count(MOTIF):
                mutated[place : place + 1] = variant.ALT.encode()
        (folder / "mutated" / f"{gene.gene_id}.fa").write_text(f">{gene.gene_id}\n{mutated.decode()}\n")


def _header_lines(vcf: Path) -> int:
    with vcf.open() as file:
        return sum(1 for line in file if line.startswith("##"))


def _write_gene_sets(folder: Path, targets: dict[str, set[str]]) -> None:
    symbols = json.loads((folder / "cells" / "gene_symbols.json").read_text())
    lines = [f"targets of {symbols[factor]}\tplanted\t" + "\t".join(sorted(targets[factor])) for factor in targets]
    (folder / "targets.gmt").write_text("\n".join(lines) + "\n")


def _score(folder: Path, targets: set[str]) -> dict:
    """Planted targets among as many genes that move most, and the average precision over all genes."""
    import pandas as pd
    from sklearn.metrics import average_precision_score

    genes = pd.read_csv(folder / "genes.tsv", sep="\t")
    is_target = genes.gene_id.isin(targets).to_numpy()
    found = is_target[np.argsort(genes["rank"].to_numpy(), kind="stable")][: len(targets)].sum()
    return {
        "factor": json.loads((folder / "summary.json").read_text())["gene_id"],
        "targets": int(is_target.sum()),
        "genes": len(genes),
        "found": int(found),
        "average_precision": round(float(average_precision_score(is_target, genes["shift"])), 3),
    }


def _describe(folder: Path, summary: dict) -> str:
    lines = [f"Planted targets among as many genes that moved most ({summary['seconds']} s in all):"]
    for model, rows in summary["models"].items():
        found, targets = sum(row["found"] for row in rows), sum(row["targets"] for row in rows)
        chance = sum(row["targets"] ** 2 / row["genes"] for row in rows)
        precision = np.mean([row["average_precision"] for row in rows])
        chance_precision = np.mean([row["targets"] / row["genes"] for row in rows])
        lines.append(
            f"  {model}: {found} of {targets} found, {chance:.1f} by chance (p = {_chance_of(rows):.1g}); "
            f"average precision {precision:.2f}, {chance_precision:.2f} by chance"
        )
    best = max(summary["models"]["over donors"], key=lambda row: row["found"])
    report = _perturbation_folder(folder, "over donors", best["factor"]) / "report.html"
    lines.append(f"Report of {best['factor']}, {best['found']} of {best['targets']} targets found: {report}")
    return "\n".join(lines)


def _chance_of(rows: list[dict]) -> float:
    """Probability that as many genes, drawn at random for each factor, hold at least as many targets in all."""
    from scipy.stats import hypergeom

    distribution = np.ones(1)
    for row in rows:
        size = row["targets"]
        distribution = np.convolve(distribution, hypergeom(row["genes"], size, size).pmf(np.arange(size + 1)))
    return float(distribution[sum(row["found"] for row in rows) :].sum())


def _model_folder(folder: Path, model: str) -> Path:
    return folder / "models" / model.split(" (")[0].replace(" ", "-")


def _perturbation_folder(folder: Path, model: str, factor: str) -> Path:
    return folder / "perturbed" / model.split(" (")[0].replace(" ", "-") / factor


@contextlib.contextmanager
def _stage(name: str) -> Iterator[None]:
    logger.info("== %s", name)
    start = time.monotonic()
    yield
    logger.info("   %.0f s", time.monotonic() - start)


def _command(*words: object) -> list:
    return [sys.executable, "-m", "omics_transformers.cli", *words]


def _run(folder: Path, words: Sequence[object]) -> None:
    _run_side_by_side(folder, [_command(*words)])


def _run_side_by_side(folder: Path, commands: Sequence[Sequence[object]]) -> None:
    """Run commands, as many at a time as there are cores, each with its share of them; their output goes to logs/."""
    at_once = min(len(commands), os.cpu_count() or 1)
    threads = str(max((os.cpu_count() or 1) // at_once, 1))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
    waiting = [[str(word) for word in command] for command in commands]
    running: list[tuple[list[str], Path, subprocess.Popen]] = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(_start(folder, waiting.pop(0), environment))
            command, log, process = running.pop(0)
            if process.wait() != 0:
                end = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise RuntimeError(f"the command failed: {_as_typed(command)}\n{end}\nAll that it printed is in {log}")
    finally:
        for _, _, process in running:
            process.terminate()


def _start(folder: Path, command: list[str], environment: dict[str, str]) -> tuple[list[str], Path, subprocess.Popen]:
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    log = logs / f"{len(list(logs.iterdir())):02d}.log"
    logger.info("$ %s", _as_typed(command))
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    return command, log, process


def _as_typed(command: Sequence[str]) -> str:
    """The command as a user would type it."""
    text = shlex.join(command).replace(f"{sys.executable} -m omics_transformers.cli", "omics-transformers")
    return text.replace(f"{sys.executable} -m accelerate.commands.launch", "accelerate launch")
