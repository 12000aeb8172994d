"""The studies that the multiome Performer's design rests on: order of features, binning, and modalities.

    python training/run_multiome_studies.py --study feature-order --data DATA --output_dir OUT
    python training/run_multiome_studies.py --study binning --data NORMALIZED QUARTILE ABSOLUTE --output_dir OUT
    python training/run_multiome_studies.py --study modality --data DATA --scbert_data SCBERT --output_dir OUT
        [--pretraining_data OTHER ... --pretraining_config P.yaml --classification_config C.yaml --seeds 0 1 2]

Source: "Developing a Multimodal Single-Cell Foundation Model with scATAC": figure 4.3, figure B.5, and table 4.3 with
its six rows. Each pre-trains its models, trains them on cell types beside logistic regression with every seed, and
writes tables and figures. Stopped, the same command goes on. Start it with plain Python: pre-trainings are processes of
their own (--launcher "torchrun --nproc-per-node=4" for several GPUs).
"""

import dataclasses
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from omics_transformers.training.cell_type_comparison import CellTypeSplit, compare_cell_types
from omics_transformers.training.comparison_runs import ComparisonRuns, Launch, ProcessLauncher
from omics_transformers.training.multiome_data import read_multiome
from omics_transformers.training.multiome_studies import (
    LOGISTIC_RNA,
    ORDER_TITLES,
    StudyArm,
    StudyData,
    bin_occupancy,
    binning_arms,
    feature_order_arms,
    modality_arms,
    summary_table,
    training_curves,
)
from omics_transformers.training.multiome_study_arguments import (
    StudyArguments,
    StudyOptions,
    parse_study_arguments,
    read_study_options,
)
from omics_transformers.training.multiome_study_figures import bins_figure, curves_figure, scores_figure
from omics_transformers.training.pretraining_output import write_json

logger = logging.getLogger("omics_transformers.training.run_multiome_studies")

PRETRAINING_SCRIPT = "run_multiome_pretraining"
_WITHOUT_SCBERT = "no folder is binned as scbert (--scbert_data): the row of scBERT is left out"
_ONE_PRETRAINING = (
    "models were pre-trained with the first seed alone: intervals hold the spread of splits and of trainings on cell "
    "types, not that of pre-training (--pretrain_each_seed)"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see `--help`."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("omics_transformers").setLevel(logging.INFO)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "several processes run this study: start it with plain Python, and give what its pre-trainings should be "
            'launched with: --launcher "torchrun --nproc-per-node=4"'
        )
    parsed = parse_study_arguments(arguments)
    try:
        run_study(parsed, launch=ProcessLauncher(parsed.launcher))
    except KeyboardInterrupt:
        sys.exit(130)  # what shells report for Ctrl-C


def run_study(arguments: StudyArguments, *, launch: Launch | None = None) -> pd.DataFrame:
    """Train what is not trained yet; write results.tsv, summary.tsv, study.json and figures/.

    Beside them curves.tsv of feature-order (figure 4.3) and bins.tsv of binning (figure B.5).

    Args:
        arguments: the study, its data and seeds.
        launch: how a model is pre-trained; see `ComparisonRuns`.

    Returns:
        what summary.tsv holds; see `summary_table`.

    Raises:
        FileNotFoundError, ValueError: for files and settings that do not fit, before training begins.
        RuntimeError: where a pre-training fails.
        KeyboardInterrupt: after Ctrl-C; the same command goes on.
    """
    options = read_study_options(arguments)
    arms, notes = plan_study(arguments)
    for note in notes:
        logger.warning("%s", note)
    output = Path(str(arguments.output_dir))
    (output / "figures").mkdir(parents=True, exist_ok=True)
    results, runs, cells = _compare(arguments, options, arms, output, launch)
    reference = ORDER_TITLES["fixed"] if arguments.study == "feature-order" else LOGISTIC_RNA
    summary = summary_table(results, reference)
    results.to_csv(output / "results.tsv", sep="\t", index=False)
    summary.to_csv(output / "summary.tsv", sep="\t", index=False, float_format="%.6g")
    (output / "figures" / "scores.png").write_bytes(scores_figure(summary, results))
    if arguments.study == "feature-order":
        curves = training_curves(results, runs)
        curves.to_csv(output / "curves.tsv", sep="\t", index=False, float_format="%.6g")
        (output / "figures" / "curves.png").write_bytes(curves_figure(curves))
    if arguments.study == "binning":
        bins = pd.concat([bin_occupancy(read_multiome(folder)) for folder in arguments.data], ignore_index=True)
        bins.to_csv(output / "bins.tsv", sep="\t", index=False, float_format="%.6g")
        (output / "figures" / "bins.png").write_bytes(bins_figure(bins))
    write_json(
        output / "study.json",
        {
            "arguments": dataclasses.asdict(arguments),
            "pretraining_options": options.pretraining,
            "classification_options": options.classification.to_dict(),
            "notes": notes,
            "difference_to": reference,
            "cells": cells,
            "runs": runs,
        },
    )
    for row in summary.itertuples():
        logger.info("%s: MCC %.3f (%.3f to %.3f)", row.method, row.mcc, row.mcc_low or row.mcc, row.mcc_high or row.mcc)
    return summary


def plan_study(arguments: StudyArguments) -> tuple[list[StudyArm], list[str]]:
    """The rows of the table, and what to say beside it.

    Raises:
        FileNotFoundError, ValueError: for folders that lack what the study needs.
    """
    notes = [] if arguments.pretrain_each_seed or len(arguments.seeds) == 1 else [_ONE_PRETRAINING]
    if len(arguments.seeds) == 1:
        notes.append("one seed: no intervals over seeds")
    labelled = arguments.data
    data = [_study_data(*folders) for folders in zip(labelled, arguments.pretraining_data or labelled, strict=True)]
    if arguments.study == "binning":
        return binning_arms(data), notes
    if arguments.study == "feature-order":
        return feature_order_arms(data[0]), notes
    _require_paired(labelled[0])
    scbert = None
    if arguments.scbert_data is None:
        notes.append(_WITHOUT_SCBERT)
    else:
        scbert = _study_data(arguments.scbert_data, arguments.scbert_pretraining_data or arguments.scbert_data)
    return modality_arms(data[0], scbert), notes


def _study_data(labelled: str, pretraining: str) -> StudyData:
    """Raises ValueError where the folders differ in genes or bins, or RNA is missing."""
    of_types, of_pretraining = read_multiome(labelled), read_multiome(pretraining)
    bins = of_types.feature_extractor.get("rna_bins")
    if bins is None:
        raise ValueError(f"{labelled} holds no RNA, which every study reads")
    if not (of_types.cells.labels("cell_type")[0] >= 0).any():
        raise ValueError(f"no cell in {labelled} has a cell type: build it with the column of types")
    for what, one, other in (
        ("genes", of_types.gene_ids, of_pretraining.gene_ids),
        ("bins of RNA", bins, of_pretraining.feature_extractor.get("rna_bins")),
    ):
        if one != other:
            raise ValueError(
                f"the {what} of {labelled} are not those of {pretraining}: build one with bins_from the other"
            )
    return StudyData(labelled, pretraining, bins["strategy"])


def _require_paired(folder: str) -> None:
    cells = read_multiome(folder).cells
    is_labelled = cells.labels("cell_type")[0] >= 0
    if not (cells.has_rna & cells.has_atac & is_labelled).any():
        raise ValueError(
            f"no cell in {folder} has RNA, ATAC and a cell type: modalities are compared on the same cells"
        )


def _compare(
    arguments: StudyArguments, options: StudyOptions, arms: list[StudyArm], output: Path, launch: Launch | None
) -> tuple[pd.DataFrame, list[dict[str, Any]], dict[str, Any]]:
    """`results`, `runs` and `report` of `CellTypeComparison`, of all seeds; each model is pre-trained before."""
    each = arguments.pretrain_each_seed
    seeds = arguments.seeds if each else arguments.seeds[:1]
    names = {arm.pretraining.name for arm in arms if arm.pretraining is not None}
    runs = ComparisonRuns(output / "pretraining", launch=launch, planned=len(names) * len(seeds))
    parts = []
    for seed in seeds:
        models = _pretrained(runs, arms, options.pretraining, seed)
        parts.append(
            compare_cell_types(
                [arm.with_model(models.get(arm.pretraining.name) if arm.pretraining else None) for arm in arms],
                arguments.data[0],
                seeds=[seed] if each else arguments.seeds,
                split=CellTypeSplit(by=arguments.split_by, rare_classes=arguments.rare_classes),
                cells_per_type=arguments.cells_per_type or (None,),
                training=options.classification,
                output_dir=output / "cell_types",
            )
        )
    results = pd.concat([part.results for part in parts], ignore_index=True)
    return results, [run for part in parts for run in part.runs], parts[0].report


def _pretrained(runs: ComparisonRuns, arms: list[StudyArm], options: dict[str, Any], seed: int) -> dict[str, str]:
    """Pre-training's name -> folder of its model."""
    models = {}
    for pretraining in {arm.pretraining.name: arm.pretraining for arm in arms if arm.pretraining}.values():
        name = f"{pretraining.name}_seed{seed}"
        settings = {**options, **pretraining.options, "data": pretraining.data, "seed": seed}
        runs.metrics(name, PRETRAINING_SCRIPT, settings)
        models[pretraining.name] = str(runs.path(name))
    return models


if __name__ == "__main__":
    main()
