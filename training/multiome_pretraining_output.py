"""What a pre-training run of the multiome Performer writes: model, feature extractor, pipelines, metrics and card."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from transformers import PreTrainedModel

from ..pipelines import cell_embedding, multiome_imputation
from .encoder_output import TrainedModel
from .model_card import write_card
from .multiome_pretraining_arguments import MultiomePretrainingRun
from .multiome_pretraining_trainer import MultiomePretrainingTrainer
from .pipeline_code import add_pipelines
from .pretraining_output import write_json, write_whole
from .resumable_run import settings_of

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.json"
EVALUATED = ("validation", "held_out")


def write_pretrained_multiome(
    output_dir: Path, trainer: MultiomePretrainingTrainer, run: MultiomePretrainingRun, metrics: dict[str, Any]
) -> None:
    """Write the folder, whole or not at all; all processes call it."""
    is_main, trained = trainer.is_world_process_zero(), TrainedModel(trainer, run[0])

    def write(folder: Path) -> None:
        trained.merge(folder)
        if is_main:
            _add_pipelines(trained.model, folder)
        trained.write(folder)
        if is_main:
            write_json(folder / "arguments.json", settings_of(*run))
            write_json(folder / METRICS_FILE, metrics)
            _write_card(folder, output_dir.name, trainer, run, metrics, trained)

    write_whole(output_dir, write, is_main_process=is_main)
    logger.info("model, feature extractor, metrics and card are in %s", output_dir)


def none_for_nan(content: Any) -> Any:
    """The same, with None for NaN, in dictionaries as deep as they are."""
    if isinstance(content, Mapping):
        return {key: none_for_nan(value) for key, value in content.items()}
    return None if isinstance(content, float) and math.isnan(content) else content


def _add_pipelines(model: PreTrainedModel, folder: Path) -> None:
    pipelines: dict[str, Any] = {
        cell_embedding.TASK: (cell_embedding.CellEmbeddingPipeline, cell_embedding.MODEL_CLASSES)
    }
    if set(model.config.modalities) == {"rna", "atac"}:
        imputation = multiome_imputation.MultiomeImputationPipeline
        pipelines[multiome_imputation.TASK] = (imputation, (multiome_imputation.MODEL_CLASS,))
    add_pipelines(model, folder, pipelines)


def _write_card(
    folder: Path,
    name: str,
    trainer: MultiomePretrainingTrainer,
    run: MultiomePretrainingRun,
    metrics: dict[str, Any],
    trained: TrainedModel,
) -> None:
    training = run[2]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="feature-extraction",
        tags=["biology", "genomics", "single-cell", "multiome", "chromatin", "multiome-performer"],
    )
    write_card(
        folder,
        data,
        "multiome_performer.md",
        model_name=name,
        config=trained.model.config,
        parameters=trained.parameters,
        trained_parameters=trained.trained_parameters,
        model_arguments=run[0],
        data_arguments=run[1],
        report=metrics["data"],
        steps=trainer.state.global_step,
        cells_a_step=training.train_batch_size * training.world_size * training.gradient_accumulation_steps,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        results={split: metrics[split] for split in EVALUATED if split in metrics},
    )
