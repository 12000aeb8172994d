"""What a comparison of cell type classifiers writes: tables, figures, and the first model with its card."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from huggingface_hub import ModelCardData

from ..modeling.feature_extraction_multiome import MultiomeFeatureExtractor
from ..pipelines.cell_type_classification import MODEL_CLASS, TASK, CellTypeClassificationPipeline
from ..pipelines.cell_type_figures import draw_confusion
from ..pipelines.png_figures import COLOURS, STYLE, png_bytes
from .cell_type_comparison import CellTypeComparison
from .cell_type_models import unwrapped
from .cell_type_trainer import CellTypeTrainer
from .model_card import write_card
from .multiome_data import MultiomeFolder
from .pipeline_code import add_pipeline
from .pretraining_output import write_whole

logger = logging.getLogger(__name__)

RESULTS_FILE = "results.tsv"
SUMMARY_FILE = "summary.tsv"
FIGURES = "figures"
CARD_TEMPLATE = "multiome_cell_types.md"


def write_classifier(output_dir: Path, trainer: CellTypeTrainer, folder: MultiomeFolder) -> None:
    """Write model, feature extractor and pipeline, whole or not at all; all processes call it.

    Args:
        output_dir: where to.
        trainer: with the trained model, whose LoRA is merged.
        folder: whose feature extractor aligns and bins further cells.
    """
    is_main = trainer.is_world_process_zero()
    model = unwrapped(trainer.accelerator.unwrap_model(trainer.model))

    def write(staged: Path) -> None:
        if not is_main:
            return
        add_pipeline(model, staged, task=TASK, pipeline_class=CellTypeClassificationPipeline, model_class=MODEL_CLASS)
        model.save_pretrained(staged)
        MultiomeFeatureExtractor(**folder.feature_extractor).save_pretrained(staged)

    write_whole(output_dir, write, is_main_process=is_main)
    if is_main:
        logger.info("the model is in %s", output_dir)


def write_tables(output_dir: Path, comparison: CellTypeComparison) -> None:
    """results.tsv, one row a run; summary.tsv, one row an arm and cells_per_type; six digits, empty where undefined."""
    for name, table in ((RESULTS_FILE, comparison.results), (SUMMARY_FILE, comparison.summary)):
        table.to_csv(output_dir / name, sep="\t", index=False, float_format="%.6g", lineterminator="\n")


def write_figures(output_dir: Path, comparison: CellTypeComparison, run: dict[str, Any]) -> None:
    """figures/confusion.png of a run's test cells; figures/cells_per_type.png where there are few-shot runs."""
    folder = output_dir / FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    names = list(run["test"]["by_cell_type"])
    confusion = pd.DataFrame(run["test"]["confusion_matrix"], index=names, columns=names)
    (folder / "confusion.png").write_bytes(draw_confusion(confusion))
    if comparison.summary["cells_per_type"].notna().any():
        (folder / "cells_per_type.png").write_bytes(draw_curves(comparison.summary))


def draw_curves(summary: pd.DataFrame) -> bytes:
    """PNG: mean MCC of each arm by training cells a type, with intervals; all cells at the right."""
    import matplotlib
    from matplotlib.figure import Figure

    numbers = sorted(summary["cells_per_type"].dropna().unique())
    has_all = bool(summary["cells_per_type"].isna().any())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.5, 3.8), layout="constrained")
        axes = figure.subplots()
        groups = list(summary.groupby(["method", "modality"], sort=False))
        for number, ((method, modality), rows) in enumerate(groups):
            place = rows["cells_per_type"].map(numbers.index, na_action="ignore").fillna(len(numbers)).astype(float)
            order = np.argsort(place.to_numpy())
            x = place.to_numpy()[order] + 0.03 * (number - len(groups) / 2)
            mean, low, high = (rows[name].to_numpy(np.float64)[order] for name in ("mcc", "mcc_low", "mcc_high"))
            colour, style = COLOURS[number % len(COLOURS)], ("-", "--", ":")[number // len(COLOURS) % 3]
            axes.plot(x, mean, style, marker="o", markersize=3, color=colour, label=f"{method}, {modality}")
            axes.vlines(x, np.maximum(low, -1), np.minimum(high, 1), color=colour, linewidth=0.8)
        axes.set_xticks(range(len(numbers) + has_all), [*map(str, numbers), *(["all"] if has_all else [])])
        axes.set_xlabel("training cells of each type")
        axes.set_ylabel("MCC on test cells")
        figure.legend(loc="outside right upper", frameon=False)
        return png_bytes(figure)


def write_cell_type_card(folder: Path, **values: Any) -> None:
    """Write README.md of a trained classifier.

    Args:
        folder: of the model.
        values: what the template names: model_name, config, parameters, trained_parameters, model_arguments,
            data_arguments, report, split, steps, cells_a_step, learning_rate, weight_decay, test, rows (of the
            summary), seeds.
    """
    data = ModelCardData(
        library_name="transformers",
        tags=["biology", "genomics", "single-cell", "multiome", "cell-type-classification", "multiome-performer"],
    )
    write_card(folder, data, CARD_TEMPLATE, **values)


def card_rows(summary: pd.DataFrame) -> Sequence[dict[str, Any]]:
    """Rows of the card's table: texts."""
    rows = []
    for row in summary.to_dict("records"):
        texts = {name: row[name] or "-" for name in ("method", "modality", "tuning")}
        texts["cells_per_type"] = "all" if pd.isna(row["cells_per_type"]) else str(row["cells_per_type"])
        for score in ("accuracy", "mcc", "macro_f1", "mcc_difference"):
            mean, low, high = (row[f"{score}{end}"] for end in ("", "_low", "_high"))
            text = "-" if pd.isna(mean) else f"{mean:.3f}"
            texts[score] = text if pd.isna(low) else f"{text} ({low:.3f} to {high:.3f})"
        rows.append(texts)
    return rows
