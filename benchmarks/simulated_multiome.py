"""The multiome Performer where the answer is known: imputation, and cell types from few labels, on planted links.

    python benchmarks/simulated_multiome.py --output FOLDER [--quick]

Claims, on cells that pre-training has not seen: (1) ATAC imputed from RNA is nearer to what was measured than the
gene's mean, and tells cells apart; beside it ridge regression on RNA, the model before pre-training, and the oracle who
knows each cell's state; (2) with ten labelled cells a type, cell types are found better from pre-trained weights than
from random ones, by a linear probe of the cell embeddings and by fine-tuning; beside both, logistic regression.
Intervals are of 95 %: bootstrap over genes or cells for imputation, Student's t over seeds, paired where differences
are, for cell types. Steps: simulate_multiome, build_multiome, run_multiome_pretraining.py, compare_cell_types.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from measured_process import run
from scipy import stats
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from omics_transformers.data_scripts.multiome import build_multiome
from omics_transformers.data_scripts.multiome_sources import MultiomeSource
from omics_transformers.data_scripts.multiome_world import DATASETS, MultiomeWorld, gene_correlations, log_activity
from omics_transformers.data_scripts.simulated_multiome import simulate_multiome
from omics_transformers.modeling.feature_extraction_multiome import MultiomeFeatureExtractor
from omics_transformers.modeling.modeling_multiome_performer import MultiomePerformerForPreTraining
from omics_transformers.modeling.value_bins import ValueBins
from omics_transformers.training.cell_type_arguments import CellTypeTrainingArguments
from omics_transformers.training.cell_type_comparison import BaselineArm, CellTypeSplit, ModelArm, compare_cell_types
from omics_transformers.training.encoder_comparison import mean_and_interval
from omics_transformers.training.multiome_data import MultiomeFolder, read_multiome

ROOT = Path(__file__).parents[1]
MODEL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "head_dim": 16,
    "intermediate_size": 128,
    "initializer_range": 0.1,
}
PRETRAINING: dict[str, Any] = {
    "zero_share": 0.15,  # as many of the zeros: a model that sees only non-zero values never predicts zero
    "missing_modality_share": 0.5,
    "missing_labels": "all",
    "mask_share": 0.15,
    "learning_rate": 2e-3,
    "lr_scheduler_type": "cosine",
    "weight_decay": 0.01,
    "per_device_train_batch_size": 32,
    "eval_strategy": "no",
    "save_strategy": "no",
    "logging_steps": 100,
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
}
# One pass over so few cells is a step: `minimum_steps` says how long.
CELL_TYPES: dict[str, Any] = {"learning_rate": 1e-3, "num_train_epochs": 1, "disable_tqdm": True, "use_cpu": True}
BOOTSTRAPS = 1_000
CELLS_AT_A_TIME = 128

Array = npt.NDArray[Any]


class Sizes(NamedTuple):
    """Of a run: of the world, of training, and of the comparison of cell types."""

    world: dict[str, Any]
    held_out: int  # paired cells
    steps: int
    cell_type_steps: int
    seeds: tuple[int, ...]


FULL = Sizes(
    {"n_genes": 120, "n_unlinked_peaks": 300, "n_rna_cells": 3_000, "n_atac_cells": 2_000, "n_paired_cells": 3_000},
    *(1_000, 4_000, 300, (0, 1, 2, 3, 4)),
)
QUICK = Sizes(
    {"n_genes": 40, "n_unlinked_peaks": 60, "n_rna_cells": 150, "n_atac_cells": 100, "n_paired_cells": 450},
    *(300, 20, 2, (0, 1)),
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("simulated-multiome"), help="folder to make")
    parser.add_argument("--quick", action="store_true", help="so small that nothing is learned: whether all runs")
    parser.add_argument("--steps", type=int, help="of pre-training; 4,000 by default")
    parser.add_argument("--threads", type=int, default=2, help="of pre-training and of the rest")
    parser.add_argument("--seed", type=int, default=0, help="of the world and of pre-training")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "simulated_multiome.json")
    parsed = parser.parse_args(arguments)
    sizes = QUICK if parsed.quick else FULL
    if parsed.steps is not None:
        sizes = sizes._replace(steps=parsed.steps)
    torch.set_num_threads(parsed.threads)
    parsed.output.mkdir(parents=True)
    summary = benchmark(parsed.output, sizes, seed=parsed.seed, threads=parsed.threads)
    parsed.results.write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary, indent=1))


def benchmark(output: Path, sizes: Sizes, *, seed: int, threads: int = 1) -> dict[str, Any]:
    """Simulate, build, pre-train and score in a new folder."""
    world = simulate_multiome(output / "world", seed=seed, **sizes.world)
    training, held_out = build(output, sizes.held_out)
    resources = run(
        [
            sys.executable,
            str(ROOT / "training" / "run_multiome_pretraining.py"),
            *pretraining_flags(output, sizes, seed),
        ],
        {"OMP_NUM_THREADS": str(threads)},
    )
    return {
        "settings": {
            "world": sizes.world,
            "model": MODEL,
            "pre-training": PRETRAINING,
            "steps": sizes.steps,
            "cell types": {**CELL_TYPES, "minimum_steps": sizes.cell_type_steps},
            "seed": seed,
            "threads": threads,
        },
        "cells": {"training": len(training.cells), "held out": len(held_out.cells), "genes": len(training.gene_ids)},
        "ATAC imputed from RNA": imputation(output / "model", world, training, held_out, seed=seed),
        "ten labelled cells a type": few_labels(output, sizes),
        "pre-training": resources,
    }


def build(output: Path, held_out: int) -> tuple[MultiomeFolder, MultiomeFolder]:
    """The folders to pre-train on, and of the last paired cells, binned as the first says."""
    import mudata

    world = output / "world"
    with mudata.set_options(pull_on_update=False):
        paired = mudata.read_h5mu(world / "paired.h5mu")
        for name, rows in (("paired", slice(None, -held_out)), ("held_out", slice(-held_out, None))):
            paired[rows].copy().write_h5mu(output / f"{name}.h5mu")
    files = [world / "rna.h5ad", world / "atac.h5ad", output / "paired.h5mu"]
    genes = world / "genes.gtf"
    build_multiome([MultiomeSource(str(file)) for file in files], output / "training", genes=genes)
    build_multiome(
        [MultiomeSource(str(output / "held_out.h5mu"))], output / "held_out", genes=genes, bins_from=output / "training"
    )
    return read_multiome(output / "training"), read_multiome(output / "held_out")


def pretraining_flags(output: Path, sizes: Sizes, seed: int) -> list[str]:
    options = {
        "data": output / "training",
        "output_dir": output / "model",
        **MODEL,
        **PRETRAINING,
        "max_steps": sizes.steps,
        "seed": seed,
    }
    return [f"--{name}={value}" for name, value in options.items()]


def imputation(
    model_folder: Path, world: MultiomeWorld, training: MultiomeFolder, held_out: MultiomeFolder, *, seed: int
) -> dict[str, Any]:
    """Scores of each predictor of the held-out cells' ATAC, as log1p of activity per 10,000."""
    rows = np.arange(len(held_out.cells))
    observed = log_counts(held_out, rows, "atac")
    paired = np.flatnonzero(training.cells.has_rna & training.cells.has_atac)
    known_rna, known_atac = (log_counts(training, paired, modality) for modality in ("rna", "atac"))
    scaler = StandardScaler().fit(known_rna)
    ridge = RidgeCV(alphas=np.geomspace(10, 100_000, 9)).fit(scaler.transform(known_rna), known_atac)
    trained = MultiomePerformerForPreTraining.from_pretrained(model_folder)
    torch.manual_seed(seed)
    untrained = MultiomePerformerForPreTraining(trained.config)
    predictions = {
        "mean of the gene": np.broadcast_to(known_atac.mean(axis=0), observed.shape),
        "without pre-training": impute(untrained, held_out),
        "ridge regression on RNA": ridge.predict(scaler.transform(log_counts(held_out, rows, "rna"))),
        "multiome Performer": impute(trained, held_out),
        "oracle who knows the cell's type": expected_activity(world, held_out, by_type=True),
        "oracle who knows the cell's state": expected_activity(world, held_out, by_type=False),
    }
    reference = predictions["mean of the gene"]
    scores = {name: imputation_scores(predicted, observed, reference) for name, predicted in predictions.items()}
    for name in scores:  # the log of what is expected is no expectation of the log: errors of oracles say nothing
        if name.startswith("oracle"):
            scores[name] = {score: value for score, value in scores[name].items() if score.startswith("correlation")}
    return scores


def impute(model: MultiomePerformerForPreTraining, held_out: MultiomeFolder) -> Array:
    """(cells, genes) expected log activity, of the cells' RNA alone."""
    extractor = MultiomeFeatureExtractor(**held_out.feature_extractor)
    model.eval()
    parts = []
    for first in range(0, len(held_out.cells), CELLS_AT_A_TIME):
        rows = np.arange(first, min(first + CELLS_AT_A_TIME, len(held_out.cells)))
        values = torch.from_numpy(held_out.cells.values(rows, "rna").astype(np.int64))
        with torch.no_grad():
            probabilities = model(rna_values=values).atac_logits.softmax(dim=-1)
        parts.append(extractor.expected_values(probabilities.numpy(), "atac"))
    return np.concatenate(parts)


def log_counts(folder: MultiomeFolder, rows: Array, modality: Any) -> Array:
    """(cells, genes) log1p of counts per 10,000."""
    bins = ValueBins.from_dict(folder.feature_extractor[f"{modality}_bins"])
    return bins.log_values(folder.cells.counts(rows, modality)).toarray()


def expected_activity(world: MultiomeWorld, held_out: MultiomeFolder, *, by_type: bool) -> Array:
    """(cells, genes) log of the activity that the world's law expects."""
    cells = world.cells[world.cells.dataset == DATASETS[2]]
    expected = world.expected_activity
    if by_type:
        expected = pd.DataFrame(expected).groupby(cells.cell_type.to_numpy()).transform("mean").to_numpy()
    rows = cells.index.get_indexer(held_out.cells.cell_names)
    genes = pd.Index(world.genes.gene_id).get_indexer(held_out.gene_ids)
    return log_activity(expected[np.ix_(rows, genes)])


def imputation_scores(predicted: Array, observed: Array, reference: Array) -> dict[str, Any]:
    """Correlations over cells and over genes, and the share of the error of the genes' means that is gone."""
    error, of_means = ((values - observed) ** 2 for values in (predicted, reference))
    return {
        "correlation across cells, median over genes": median_and_interval(gene_correlations(predicted, observed)),
        "correlation across genes, median over cells": median_and_interval(gene_correlations(predicted.T, observed.T)),
        "error gone beside the genes' means": round(float(1 - error.sum() / of_means.sum()), 4),
        "share of genes with less error than their mean": round(
            float((error.sum(axis=0) < of_means.sum(axis=0)).mean()), 4
        ),
    }


def median_and_interval(values: Array) -> dict[str, Any] | None:
    """None where nothing is defined: constants do not correlate."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    interval = stats.bootstrap((known,), np.median, n_resamples=BOOTSTRAPS, method="percentile", rng=0)
    low, high = interval.confidence_interval
    return {"median": round(float(np.median(known)), 4), "interval": [round(float(low), 4), round(float(high), 4)]}


def few_labels(output: Path, sizes: Sizes) -> dict[str, Any]:
    """MCC on held-out cells of models that were trained on ten of each type, and differences paired by seed."""
    arms: list[Any] = []
    pairs = {}
    for modality in ("rna", "both"):
        pretrained, random, logistic = (f"{name}, {modality}" for name in ("pre-trained", "random weights", "logistic"))
        arms += [
            ModelArm(pretrained, modality, model=output / "model"),
            ModelArm(random, modality, config=MODEL),
            BaselineArm("logistic_regression", modality, name=logistic),
        ]
        probe: dict[str, Any] = {"tuning": "frozen", "classification_head": "linear"}
        arms += [
            ModelArm(f"{pretrained}, linear probe", modality, model=output / "model", **probe),
            ModelArm(f"{random}, linear probe", modality, config=MODEL, **probe),
        ]
        pairs[f"pre-trained - random weights, linear probe, {modality}"] = (
            f"{pretrained}, linear probe",
            f"{random}, linear probe",
        )
        pairs[f"pre-trained - random weights, {modality}"] = (pretrained, random)
        pairs[f"pre-trained - logistic, {modality}"] = (pretrained, logistic)
    found = compare_cell_types(
        arms,
        output / "held_out",
        seeds=sizes.seeds,
        split=CellTypeSplit(test_share=0.5, validation_share=0.2),
        cells_per_type=(10,),
        training=CellTypeTrainingArguments(
            output_dir=str(output / "cell_types"), minimum_steps=sizes.cell_type_steps, **CELL_TYPES
        ),
        output_dir=output / "cell_types",
    )
    mcc = found.results.pivot(index="seed", columns="method", values="mcc")
    differences = {name: mcc[one] - mcc[other] for name, (one, other) in pairs.items()}
    return {
        "MCC": {arm.name: rounded(mean_and_interval(mcc[arm.name].tolist())) for arm in arms},
        "difference of MCC": {name: rounded(mean_and_interval(of.tolist())) for name, of in differences.items()},
    }


def rounded(interval: dict[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 4) for name, value in interval.items()}


if __name__ == "__main__":
    main()
