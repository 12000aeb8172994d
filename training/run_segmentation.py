"""Train SegmentNT on windows with labels, for `accelerate launch`, `torchrun` or plain Python.

    accelerate launch training/run_segmentation.py --segments SEGMENTS --encoder ENCODER --output-dir MODEL
    accelerate launch training/run_segmentation.py training/configs/segment_nt.yaml --output-dir MODEL
    accelerate launch -m omics_transformers.training.run_segmentation ...

Source: de Almeida et al. 2025 (SegmentNT, https://doi.org/10.1038/s41592-025-02881-2): a U-Net on the Nucleotide
Transformer, focal loss. Beyond it: encoders with random weights, of region rankers, frozen or adapted by LoRA;
thresholds chosen on validation windows and kept in the model's configuration; intervals by blocks of the genome.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import set_seed

from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.training.encoder_output import (
    ConfigInCheckpoint,
    TrainedModel,
    require_whole_model_for_lora,
)
from omics_transformers.training.encoder_setup import load_tokenizer, rescale_positions
from omics_transformers.training.interruption import SaveAtInterrupt
from omics_transformers.training.model_card import write_segmentation_card
from omics_transformers.training.pretraining_output import (
    require_fresh_or_resumed,
    write_json,
    write_whole,
)
from omics_transformers.training.resumable_run import (
    checkpoint_to_resume,
    is_resumed,
    run_script,
    settings_of,
    train_until_done_or_stopped,
)
from omics_transformers.training.segmentation_arguments import (
    SegmentationRun,
    parse_segmentation_arguments,
)
from omics_transformers.training.segmentation_data import SegmentationCollator, read_segments
from omics_transformers.training.segmentation_output import (
    METRICS_FILE,
    TABLE_FILE,
    without_nan,
    write_element_table,
)
from omics_transformers.training.segmentation_pipeline import add_segmentation_pipeline
from omics_transformers.training.segmentation_setup import (
    SegmentationData,
    make_segmentation_config,
    make_segmentation_model,
    prepare_segmentation_data,
)
from omics_transformers.training.segmentation_trainer import SegmentationTrainer

logger = logging.getLogger("omics_transformers.training.run_segmentation")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see `--help`."""
    run = parse_segmentation_arguments(arguments)
    run_script(lambda: train_segmentation(run), run[2])


def train_segmentation(run: SegmentationRun) -> dict[str, Any]:
    """Train, choose thresholds, test, and write model, tokenizer, metrics, table and model card to `output_dir`.

    Returns:
        The metrics, as in metrics.json: `training`; `validation` and `test` as `SegmentationMetric.compute` gives them,
        with the focal loss; and `data`, the windows of each split and what was left out.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: for files and settings that do not fit, before training begins.
        KeyboardInterrupt: after Ctrl-C; with one process a checkpoint has been saved.
    """
    model_arguments, data_arguments, training_arguments = run
    output_dir = require_fresh_or_resumed(training_arguments.output_dir, resume=is_resumed(training_arguments))
    if data_arguments.segments is None:
        raise ValueError("segments is not set: give the folder that `build segments` wrote (--segments DIR)")
    logger.info("settings: %s", json.dumps(settings_of(*run), indent=2, default=str))
    set_seed(training_arguments.seed)
    tokenizer = load_tokenizer(model_arguments.encoder, model_arguments.encoder_revision)
    with training_arguments.main_process_first(desc="reading segments"):
        segments = read_segments(data_arguments.segments)
    config = make_segmentation_config(model_arguments, segments)
    data = prepare_segmentation_data(
        data_arguments, segments, tokenizer, max_tokens=config.max_tokens, seed=training_arguments.seed
    )
    logger.info("windows: %s", data.report)
    config.window_bp = data.window_bp
    rescale_positions(config, data.longest_tokens)
    trainer = _make_trainer(run, data, tokenizer, config)
    train_until_done_or_stopped(trainer, checkpoint_to_resume(training_arguments, output_dir, config))
    metrics = _evaluate(trainer, data, config, data_arguments.resamples)
    _write(output_dir, trainer, data, run, metrics)
    return metrics


def _make_trainer(
    run: SegmentationRun, data: SegmentationData, tokenizer: NucleotideKmerTokenizer, config: SegmentNTConfig
) -> SegmentationTrainer:
    model_arguments, data_arguments, training_arguments = run
    collator = SegmentationCollator(
        tokenizer,
        reverse_complement=data_arguments.reverse_complement,
        crop_bp=data_arguments.crop_bp,
        seed=training_arguments.seed,
    )
    model = make_segmentation_model(model_arguments, config, data.segments, seed=training_arguments.seed)
    trainer = SegmentationTrainer(
        model=model,
        args=training_arguments,
        data_collator=collator,
        train_dataset=data.training,
        eval_dataset=data.during_training,
        processing_class=tokenizer,
        callbacks=[SaveAtInterrupt(), *([ConfigInCheckpoint(config)] if isinstance(model, PeftModel) else [])],
        elements=data.segments.elements,
        eval_collator=SegmentationCollator(tokenizer),
        train_tokens=data.training_tokens,
        encoder_learning_rate=training_arguments.encoder_learning_rate,
    )
    require_whole_model_for_lora(trainer, model_arguments)
    return trainer


def _evaluate(
    trainer: SegmentationTrainer, data: SegmentationData, config: SegmentNTConfig, resamples: int
) -> dict[str, Any]:
    """Thresholds from all validation windows, into the configuration; then the test windows at these."""
    history = [entry for entry in trainer.state.log_history if "train_loss" in entry]
    metrics: dict[str, Any] = {"training": history[-1] if history else {}, "data": data.report}
    trainer.resamples = resamples
    if data.validation is not None:
        trainer.evaluate(data.validation)
        metrics["validation"] = trainer.last_result
        elements = trainer.last_result["elements"]
        config.thresholds = [element["threshold"] for element in elements.values()]
        unknown = [name for name, element in elements.items() if not element["positive_bases"]]
        if unknown:
            logger.warning("no validation base carries %s: their thresholds are 0.5", ", ".join(unknown))
    if data.test is not None:
        if config.thresholds is None:
            logger.warning("there are no validation windows to choose thresholds by: the test is at 0.5")
        trainer.thresholds = config.thresholds or 0.5
        trainer.evaluate(data.test, metric_key_prefix="test")
        metrics["test"] = trainer.last_result
    return without_nan(metrics)


def _write(
    output_dir: Path,
    trainer: SegmentationTrainer,
    data: SegmentationData,
    run: SegmentationRun,
    metrics: dict[str, Any],
) -> None:
    is_main, trained = trainer.is_world_process_zero(), TrainedModel(trainer, run[0])

    def write(folder: Path) -> None:
        trained.merge(folder)
        if is_main:
            add_segmentation_pipeline(trained.model, folder)
        trained.write(folder)
        if is_main:
            write_json(folder / "arguments.json", settings_of(*run))
            write_json(folder / METRICS_FILE, metrics)
            write_element_table(folder / TABLE_FILE, {split: metrics[split] for split in _evaluated(metrics)})
            _write_card(folder, output_dir.name, trainer, data, run, metrics, trained)

    write_whole(output_dir, write, is_main_process=is_main)
    logger.info("model, tokenizer, metrics, table and card are in %s", output_dir)


def _write_card(
    folder: Path,
    name: str,
    trainer: SegmentationTrainer,
    data: SegmentationData,
    run: SegmentationRun,
    metrics: dict[str, Any],
    trained: TrainedModel,
) -> None:
    training, split = run[2], next(iter(reversed(_evaluated(metrics))), None)
    write_segmentation_card(
        folder,
        model_name=name,
        config=trained.model.config,
        parameters=trained.parameters,
        trained_parameters=trained.trained_parameters,
        model_arguments=run[0],
        data_arguments=run[1],
        report=data.report,
        steps=trainer.state.global_step,
        windows_a_step=training.train_batch_size * training.world_size * training.gradient_accumulation_steps,
        learning_rate=training.learning_rate,
        scores=None if split is None else metrics[split],
        split=split,
    )


def _evaluated(metrics: dict[str, Any]) -> list[str]:
    return [split for split in ("validation", "test") if split in metrics]


if __name__ == "__main__":
    main()
