"""Train a region ranker, and so an ATAC-aware encoder, for `accelerate launch`, `torchrun` or plain Python.

    accelerate launch training/run_region_ranking.py --regions REGIONS --encoder ENCODER --output-dir MODEL
    accelerate launch training/run_region_ranking.py training/configs/nt_region_ranker.yaml --output-dir MODEL
    accelerate launch -m omics_transformers.training.run_region_ranking ...

MODEL is then an encoder for `run_segmentation.py --encoder MODEL`.
Source: "Region Ranking on scATAC", chapter 3: three regions of a span are scored by a head on the Nucleotide
Transformer and ranked by a listwise loss. Beyond it: LoRA, other losses, cell types, other strands, early stopping.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import EarlyStoppingCallback, TrainerCallback, set_seed

from omics_transformers.modeling.configuration_nt_region_ranker import NTRegionRankerConfig
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.training.encoder_output import (
    ConfigInCheckpoint,
    TrainedModel,
    require_whole_model_for_lora,
)
from omics_transformers.training.encoder_setup import load_tokenizer
from omics_transformers.training.interruption import SaveAtInterrupt
from omics_transformers.training.model_card import write_ranking_card
from omics_transformers.training.pretraining_output import (
    require_fresh_or_resumed,
    write_json,
    write_whole,
)
from omics_transformers.training.ranking_arguments import RankingRun, parse_ranking_arguments
from omics_transformers.training.ranking_data import RegionRankingCollator, read_regions
from omics_transformers.training.ranking_metric import SCORES
from omics_transformers.training.ranking_output import TABLE_FILE, write_ranking_table
from omics_transformers.training.ranking_pipeline import add_ranking_pipeline
from omics_transformers.training.ranking_setup import (
    RankingData,
    make_ranking_config,
    make_ranking_model,
    prepare_ranking_data,
)
from omics_transformers.training.ranking_trainer import RankingTrainer
from omics_transformers.training.resumable_run import (
    checkpoint_to_resume,
    is_resumed,
    run_script,
    settings_of,
    train_until_done_or_stopped,
)
from omics_transformers.training.segmentation_output import METRICS_FILE, without_nan

logger = logging.getLogger("omics_transformers.training.run_region_ranking")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see `--help`."""
    run = parse_ranking_arguments(arguments)
    run_script(lambda: train_region_ranking(run), run[2])


def train_region_ranking(run: RankingRun) -> dict[str, Any]:
    """Train, test, and write model, tokenizer, metrics, table and model card to `output_dir`.

    Returns:
        The metrics, as in metrics.json: `training`; `validation` and `test` as `RegionRankingMetric.compute` gives
        them, with the loss, and by cell type; and `data`, the rows of each split and what was cut.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: for files and settings that do not fit, before training begins.
        KeyboardInterrupt: after Ctrl-C; with one process a checkpoint has been saved.
    """
    model_arguments, data_arguments, training_arguments = run
    output_dir = require_fresh_or_resumed(training_arguments.output_dir, resume=is_resumed(training_arguments))
    if data_arguments.regions is None:
        raise ValueError("regions is not set: give the folder that `build regions` wrote (--regions DIR)")
    logger.info("settings: %s", json.dumps(settings_of(*run), indent=2, default=str))
    set_seed(training_arguments.seed)
    tokenizer = load_tokenizer(model_arguments.encoder, model_arguments.encoder_revision)
    with training_arguments.main_process_first(desc="reading regions"):
        regions = read_regions(data_arguments.regions)
    config = make_ranking_config(model_arguments, regions, tokenizer)
    data = prepare_ranking_data(data_arguments, regions, tokenizer, num_tokens=config.num_tokens)
    logger.info("rows: %s", data.report)
    trainer = _make_trainer(run, data, tokenizer, config)
    train_until_done_or_stopped(trainer, checkpoint_to_resume(training_arguments, output_dir, config))
    metrics = _evaluate(trainer, data, data_arguments.resamples)
    _write(output_dir, trainer, data, run, metrics)
    return metrics


def _make_trainer(
    run: RankingRun, data: RankingData, tokenizer: NucleotideKmerTokenizer, config: NTRegionRankerConfig
) -> RankingTrainer:
    model_arguments, data_arguments, training_arguments = run
    collator = RegionRankingCollator(
        tokenizer,
        config.num_tokens,
        padding=data_arguments.padding,
        reverse_complement=data_arguments.reverse_complement,
        with_cell_types=config.cell_types is not None,
        seed=training_arguments.seed,
    )
    model = make_ranking_model(model_arguments, config, seed=training_arguments.seed)
    callbacks: list[TrainerCallback] = [SaveAtInterrupt()]
    if isinstance(model, PeftModel):
        callbacks.append(ConfigInCheckpoint(config))
    if training_arguments.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(training_arguments.early_stopping_patience))
    trainer = RankingTrainer(
        model=model,
        args=training_arguments,
        data_collator=collator,
        train_dataset=data.training,
        eval_dataset=data.during_training,
        processing_class=tokenizer,
        callbacks=callbacks,
        cell_types=data.regions.cell_types,
        eval_collator=collator.for_evaluation(),
        train_tokens=[config.num_tokens] * len(data.training),  # with padding all are alike
        encoder_learning_rate=training_arguments.encoder_learning_rate,
    )
    require_whole_model_for_lora(trainer, model_arguments)
    return trainer


def _evaluate(trainer: RankingTrainer, data: RankingData, resamples: int) -> dict[str, Any]:
    history = [entry for entry in trainer.state.log_history if "train_loss" in entry]
    metrics: dict[str, Any] = {"training": history[-1] if history else {}, "data": data.report}
    trainer.resamples = resamples
    for split, rows in (("validation", data.validation), ("test", data.test)):
        if rows is not None:
            trainer.evaluate(rows, metric_key_prefix=split)
            metrics[split] = trainer.last_result
            logger.info("%s of %d lists: %s", split, metrics[split]["lists"], _beside_chance(metrics[split]))
    return without_nan(metrics)


def _beside_chance(result: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {result[name]:.4f} (chance {result[f'{name}_chance']:.4f})" for name in SCORES
    )


def _write(
    output_dir: Path, trainer: RankingTrainer, data: RankingData, run: RankingRun, metrics: dict[str, Any]
) -> None:
    is_main, trained = trainer.is_world_process_zero(), TrainedModel(trainer, run[0])

    def write(folder: Path) -> None:
        trained.merge(folder)
        if is_main:
            add_ranking_pipeline(trained.model, folder)
        trained.write(folder)
        if is_main:
            write_json(folder / "arguments.json", settings_of(*run))
            write_json(folder / METRICS_FILE, metrics)
            write_ranking_table(folder / TABLE_FILE, {split: metrics[split] for split in _evaluated(metrics)})
            _write_card(folder, output_dir.name, trainer, data, run, metrics, trained)

    write_whole(output_dir, write, is_main_process=is_main)
    logger.info("model, tokenizer, metrics, table and card are in %s", output_dir)


def _write_card(
    folder: Path,
    name: str,
    trainer: RankingTrainer,
    data: RankingData,
    run: RankingRun,
    metrics: dict[str, Any],
    trained: TrainedModel,
) -> None:
    training = run[2]
    write_ranking_card(
        folder,
        model_name=name,
        config=trained.model.config,
        parameters=trained.parameters,
        trained_parameters=trained.trained_parameters,
        model_arguments=run[0],
        data_arguments=run[1],
        report=data.report,
        steps=trainer.state.global_step,
        rows_a_step=training.train_batch_size * training.world_size * training.gradient_accumulation_steps,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        results={split: metrics[split] for split in _evaluated(metrics)},
    )


def _evaluated(metrics: dict[str, Any]) -> list[str]:
    return [split for split in ("validation", "test") if split in metrics]


if __name__ == "__main__":
    main()
