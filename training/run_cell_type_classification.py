"""Fine-tune a multiome Performer to name cell types, beside logistic regression and others on the same cells.

    accelerate launch training/run_cell_type_classification.py --data CELLS --model MODEL --output-dir OUT
    accelerate launch training/run_cell_type_classification.py training/configs/cell_types.yaml --output-dir OUT
    accelerate launch -m omics_transformers.training.run_cell_type_classification ...

OUT is then a classifier for `pipeline("cell-type-classification")`, with results.tsv (a row a run) and summary.tsv.
Source: "Developing a Multimodal Single-Cell Foundation Model with scATAC", chapter 4. Beyond it: several seeds, whole
donors held out, few-shot curves, frozen and LoRA tuning, zero-shot neighbours, more baselines. `--resume` goes on.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from omics_transformers.modeling.configuration_multiome_performer import MultiomePerformerConfig
from omics_transformers.training.cell_type_arguments import CellTypeRun, parse_cell_type_arguments
from omics_transformers.training.cell_type_comparison import CellTypeComparison, CellTypeSplit, compare_cell_types
from omics_transformers.training.cell_type_output import (
    card_rows,
    write_cell_type_card,
    write_classifier,
    write_figures,
    write_tables,
)
from omics_transformers.training.cell_type_summary import summary_text
from omics_transformers.training.cell_type_trainer import CellTypeTrainer
from omics_transformers.training.multiome_data import read_multiome
from omics_transformers.training.pretraining_output import require_fresh_or_resumed, write_json
from omics_transformers.training.resumable_run import run_script, settings_of
from omics_transformers.training.segmentation_output import METRICS_FILE, without_nan

logger = logging.getLogger("omics_transformers.training.run_cell_type_classification")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see `--help`."""
    run = parse_cell_type_arguments(arguments)
    run_script(lambda: train_cell_types(run), run[2])


def train_cell_types(run: CellTypeRun) -> dict[str, Any]:
    """Train, test, and write the first model, metrics, tables, figures and model card to `output_dir`.

    Returns:
        The metrics, as in metrics.json: of the model that is written `test` and `validation` as `CellTypeMetric` gives
        them, `history`, `chosen` and `split`; `summary` of all arms; `data`, cells compared on and left out.

    Raises:
        FileNotFoundError, FileExistsError, ValueError, ImportError: for files and settings that do not fit, before
            training begins.
        KeyboardInterrupt: after Ctrl-C; `--resume` goes on.
    """
    model_arguments, data_arguments, training_arguments = run
    output_dir = _output_dir(run)
    if data_arguments.data is None:
        raise ValueError("data is not set: give the folder that `build multiome` wrote (--data DIR)")
    logger.info("settings: %s", json.dumps(settings_of(*run), indent=2, default=str))
    arms = model_arguments.to_arms()

    def keep_model(trainer: CellTypeTrainer) -> None:
        write_classifier(output_dir, trainer, read_multiome(str(data_arguments.data)))

    comparison = compare_cell_types(
        arms,
        data_arguments.data,
        seeds=data_arguments.seeds,
        split=CellTypeSplit(
            data_arguments.split_by,
            data_arguments.test_share,
            data_arguments.validation_share,
            data_arguments.rare_classes,
        ),
        cells_per_type=(None, *data_arguments.cells_per_type),
        training=training_arguments,
        output_dir=output_dir,
        keep_model=keep_model,
    )
    kept = comparison.runs[0]
    metrics = _metrics(kept, comparison)
    if training_arguments.process_index == 0:
        write_tables(output_dir, comparison)
        write_figures(output_dir, comparison, kept)
        write_json(output_dir / "arguments.json", settings_of(*run))
        write_json(output_dir / METRICS_FILE, metrics)
        _write_card(output_dir, run, comparison)
        typer.echo(summary_text(comparison.summary))
        logger.info("model, metrics, tables, figures and card are in %s", output_dir)
    return metrics


def _output_dir(run: CellTypeRun) -> Path:
    """The output folder; only the main process may find it fresh."""
    training = run[2]
    if training.process_index:
        return Path(str(training.output_dir))
    output_dir = require_fresh_or_resumed(training.output_dir, resume=training.resume)
    if (output_dir / "runs").is_dir() and not training.resume:
        raise FileExistsError(
            f"{output_dir} holds runs of an earlier comparison: go on with it (--resume), or give another folder"
        )
    return output_dir


def _metrics(kept: dict[str, Any], comparison: CellTypeComparison) -> dict[str, Any]:
    names = ("method", "modality", "seed", "test", "validation", "history", "chosen", "seconds")
    metrics = {name: kept[name] for name in names if name in kept} | {"split": kept["report"]}
    summary = json.loads(comparison.summary.to_json(orient="records"))
    return without_nan(metrics | {"summary": summary, "data": comparison.report})


def _write_card(output_dir: Path, run: CellTypeRun, comparison: CellTypeComparison) -> None:
    model_arguments, data_arguments, training = run
    kept = comparison.runs[0]
    write_cell_type_card(
        output_dir,
        model_name=output_dir.name,
        modality=kept["modality"],
        config=MultiomePerformerConfig.from_pretrained(output_dir),
        parameters=kept["chosen"]["parameters"],
        trained_parameters=kept["chosen"]["trained_parameters"],
        model_arguments=model_arguments,
        data_arguments=data_arguments,
        report=comparison.report,
        split=kept["report"],
        steps=kept["chosen"].get("steps"),
        cells_a_step=training.train_batch_size * training.world_size * training.gradient_accumulation_steps,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        test=kept["test"],
        rows=card_rows(comparison.summary),
        seeds=data_arguments.seeds,
    )


if __name__ == "__main__":
    main()
