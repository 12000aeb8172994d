"""Real cells: pre-train in the mixed regime, fine-tune on Zheng68k, beside logistic regression and scBERT's preset.

    python benchmarks/real_multiome.py --data FOLDER --output FOLDER [--quick]

FOLDER holds the small public files that the tests use. Pre-training sees pbmc3k (RNA), 40 paired cells of 10x's PBMC
multiome, and ATAC fragments of heart (19 cells) and of PBMC chr22 (MAESTRO, 100 barcodes); not one cell of Zheng68k,
of which 700 cells and 765 genes of ten types are at hand. Models are small and train for minutes, from pre-trained
weights (mixed, or RNA alone) and from random ones; scBERT's preset keeps its binning (floor of log2) and its single
path, at the same small size, from random weights and pre-trained on the same RNA. Every arm has the same five splits.
Intervals are Student's over seeds, 95 %.

Writes benchmarks/results/real_multiome.json: what was built, validation of pre-training, the table.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from measured_process import run

from omics_transformers.data_scripts.multiome import build_multiome
from omics_transformers.data_scripts.multiome_sources import MultiomeSource
from omics_transformers.training.cell_type_arguments import CellTypeTrainingArguments
from omics_transformers.training.cell_type_comparison import BaselineArm, CellTypeSplit, ModelArm, compare_cell_types

ROOT = Path(__file__).parents[1]
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "head_dim": 16,
    "intermediate_size": 64,
    "initializer_range": 0.1,
}
PRETRAINING: dict[str, Any] = {
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "per_device_train_batch_size": 32,
    "eval_strategy": "no",
    "save_strategy": "no",
    "logging_steps": 100,
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
}
CELL_TYPES: dict[str, Any] = {
    "learning_rate": 1e-3,
    "num_train_epochs": 15,
    "per_device_train_batch_size": 32,
    "disable_tqdm": True,
    "use_cpu": True,
}
REGIMES: dict[str, dict[str, Any]] = {
    "mixed": {"kinds": ["rna", "atac", "both"]},
    "rna": {"kinds": ["rna"]},
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public files")
    parser.add_argument("--output", type=Path, default=Path("real-multiome"), help="folder; a call goes on in it")
    parser.add_argument("--steps", type=int, default=1_000, help="of pre-training, each regime")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="so short that nothing is learned: whether all runs")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "real_multiome.json")
    options = parser.parse_args(arguments)
    if options.quick:
        options.steps, options.seeds = 3, [0, 1]
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    summary = benchmark(options)
    options.results.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary, indent=1))


def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """Build, pre-train, compare."""
    output = options.output
    built = {
        binning: kept(output / f"{binning}.json", lambda binning=binning: build(options.data, output, binning))
        for binning in ("gene_normalized", "scbert")
    }
    validation = {
        name: kept(output / f"{name}.json", lambda name=name, binning=binning: pretrain(options, name, binning))
        for name, binning in (("mixed", "gene_normalized"), ("rna", "gene_normalized"), ("scbert", "scbert"))
    }
    comparison = compare(options)
    columns = [name for score in ("accuracy", "mcc", "macro_f1", "weighted_f1") for name in spread_of(score)]
    table = comparison.summary[["method", "tuning", "seeds", *columns, *spread_of("mcc_difference")]]
    return {
        "settings": {
            "sizes": SIZES,
            "pre-training": {**PRETRAINING, "max_steps": options.steps},
            "cell types": CELL_TYPES,
            "seeds": options.seeds,
        },
        "built": built,
        "validation of pre-training": validation,
        "Zheng68k": json.loads(table.round(4).to_json(orient="records")),
    }


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What an earlier call with this output made, or make it now."""
    if not path.exists():
        path.write_text(json.dumps(make()), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def spread_of(score: str) -> list[str]:
    return [score, f"{score}_low", f"{score}_high"]


def build(data: Path, output: Path, binning: str) -> dict[str, Any]:
    """The folders `pretraining` and `zheng68k`, of the genes that all RNA has."""
    annotation = data / "annotation"
    common: dict[str, Any] = {
        "genes": annotation / "ncbiRefSeq_genePred.hg38.txt.gz",
        "gene_symbols": annotation / "tss_table.GRCh38.DERIVED.tsv.gz",
        "overwrite": True,
    }
    zheng = MultiomeSource(
        data / "rna" / "zheng68k_reduced_700x765_counts_recovered.h5ad", label_column="bulk_labels", name="zheng68k"
    )
    atac, multiome = data / "atac", data / "multiome"
    others = [
        MultiomeSource(data / "rna" / "pbmc3k_raw_500labelled.h5ad", name="pbmc3k"),
        MultiomeSource(
            multiome / "mosim_pbmc_multiome_rna.h5ad", atac=multiome / "mosim_pbmc_multiome_atac.h5ad", name="mosim"
        ),
        MultiomeSource(next(atac.glob("heart_AVN_*.fragments.hg38.tsv.gz")), tile_bp=5_000, name="heart"),
        MultiomeSource(
            atac / "MAESTRO_test.chr22.GRCh38.fragments.tsv.gz",
            peaks=atac / "MAESTRO_test.chr22.GRCh38.narrowPeak.gz",
            name="maestro",
        ),
    ]
    loose: dict[str, Any] = {"minimum_peak_share": 0.005, "minimum_fragments": 100, "binning": binning}
    folder = output / binning
    folder.mkdir(exist_ok=True)
    shared = build_multiome([zheng, *others], folder / "all", **common, **loose)
    genes = json.loads((folder / "all" / "multiome.json").read_text())["gene_ids"]
    pretraining = build_multiome(others, folder / "pretraining", gene_list=genes, **common, **loose)
    held_out = build_multiome([zheng], folder / "zheng68k", bins_from=folder / "pretraining", **common)
    return {"genes": shared.n_genes, "pre-training": pretraining.cells_of_dataset, "Zheng68k": held_out.n_cells}


def pretrain(options: argparse.Namespace, name: str, binning: str) -> dict[str, Any]:
    """Train on what is no cell of Zheng68k; the validation part of metrics.json, and time and memory."""
    regime = REGIMES["mixed" if name == "mixed" else "rna"]
    settings = {
        "data": options.output / binning / "pretraining",
        "output_dir": options.output / name,
        **SIZES,
        **PRETRAINING,
        "max_steps": options.steps,
    }
    flags = [f"--{key}={value}" for key, value in settings.items()] + ["--kinds", *regime["kinds"]]
    flags += ["--preset=scbert"] if name == "scbert" else []
    command = [sys.executable, str(ROOT / "training" / "run_multiome_pretraining.py"), *flags]
    resources = run(command, {"OMP_NUM_THREADS": str(options.threads)})
    metrics = json.loads((options.output / name / "metrics.json").read_text())
    return {"validation": metrics["validation"], **resources}


def compare(options: argparse.Namespace) -> Any:
    """All arms on the cells of Zheng68k."""
    data, of_scbert = (options.output / binning / "zheng68k" for binning in ("gene_normalized", "scbert"))
    output = options.output
    arms: list[Any] = [
        ModelArm("random weights", config=SIZES),
        ModelArm("pre-trained on RNA", model=output / "rna"),
        ModelArm("pre-trained in the mixed regime", model=output / "mixed"),
        ModelArm(
            "pre-trained in the mixed regime, linear probe",
            model=output / "mixed",
            tuning="frozen",
            classification_head="linear",
        ),
        ModelArm("pre-trained in the mixed regime, neighbours", model=output / "mixed", tuning="zero_shot"),
        ModelArm("scBERT preset, random weights", preset="scbert", data=of_scbert, config=SIZES),
        ModelArm("scBERT preset, pre-trained on RNA", model=output / "scbert", data=of_scbert),
        BaselineArm("logistic_regression"),
        BaselineArm("logistic_bins"),
        BaselineArm("pca_knn"),
        BaselineArm("majority"),
    ]
    training = CellTypeTrainingArguments(output_dir=str(output / "cell_types"), **CELL_TYPES)
    return compare_cell_types(
        arms, data, seeds=options.seeds, split=CellTypeSplit(), training=training, output_dir=output / "cell_types"
    )


if __name__ == "__main__":
    main()
