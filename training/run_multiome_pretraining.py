"""Pre-train a multiome Performer on RNA, ATAC and both, for `accelerate launch`, `torchrun` or plain Python.

    accelerate launch training/run_multiome_pretraining.py --data MULTIOME --output-dir MODEL
    accelerate launch training/run_multiome_pretraining.py training/configs/multiome_performer.yaml --output-dir MODEL
    accelerate launch -m omics_transformers.training.run_multiome_pretraining ...

MULTIOME is a folder that `build multiome` wrote; MODEL is then read by `run_cell_type_classification.py --model MODEL`.
Source: "Developing a Multimodal Single-Cell Foundation Model with scATAC", section 4.3.2: masked values and the mixed
regime. Beyond it: masked zeros and missing modalities (for imputation), gene tokens from DNA, LoRA, held-out data sets.
"""

import json
import logging
from collections.abc import Sequence
from typing import Any

from peft import PeftModel
from transformers import TrainerCallback, set_seed

from omics_transformers.modeling.feature_extraction_multiome import MultiomeFeatureExtractor
from omics_transformers.training.encoder_output import ConfigInCheckpoint, require_whole_model_for_lora
from omics_transformers.training.interruption import SaveAtInterrupt
from omics_transformers.training.multiome_data import MultiomeFolder, read_multiome
from omics_transformers.training.multiome_masking import MultiomeMaskingCollator
from omics_transformers.training.multiome_pretraining_arguments import (
    MultiomePretrainingRun,
    parse_multiome_arguments,
)
from omics_transformers.training.multiome_pretraining_data import (
    EvaluationBatches,
    MultiomeDataset,
    MultiomePretrainingData,
    prepare_multiome_data,
    some_of,
)
from omics_transformers.training.multiome_pretraining_model import make_multiome_model
from omics_transformers.training.multiome_pretraining_output import none_for_nan, write_pretrained_multiome
from omics_transformers.training.multiome_pretraining_trainer import SCORES, MultiomePretrainingTrainer
from omics_transformers.training.pretraining_output import require_fresh_or_resumed
from omics_transformers.training.resumable_run import (
    checkpoint_to_resume,
    is_resumed,
    run_script,
    settings_of,
    train_until_done_or_stopped,
)

logger = logging.getLogger("omics_transformers.training.run_multiome_pretraining")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see `--help`."""
    run = parse_multiome_arguments(arguments)
    run_script(lambda: pretrain_multiome(run), run[2])


def pretrain_multiome(run: MultiomePretrainingRun) -> dict[str, Any]:
    """Train, evaluate, and write model, feature extractor, metrics and model card to `output_dir`.

    Returns:
        The metrics, as in metrics.json: `training`; `validation` (cells held out at random) and `held_out` (data sets
        held out whole) as `MultiomePretrainingTrainer.last_result`; and `data`, the cells of each use.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: for files and settings that do not fit, before training begins.
        KeyboardInterrupt: after Ctrl-C; with one process a checkpoint has been saved.
    """
    model_arguments, data_arguments, training_arguments = run
    output_dir = require_fresh_or_resumed(training_arguments.output_dir, resume=is_resumed(training_arguments))
    if data_arguments.data is None:
        raise ValueError("data is not set: give the folder that `build multiome` wrote (--data DIR)")
    logger.info("settings: %s", json.dumps(settings_of(*run), indent=2, default=str))
    set_seed(training_arguments.seed)
    with training_arguments.main_process_first(desc="reading cells"):
        folder = read_multiome(data_arguments.data)
    reads_rna_alone = model_arguments.preset == "scbert" and model_arguments.model is None
    kinds = ["rna"] if reads_rna_alone and data_arguments.kinds is None else data_arguments.kinds
    data = prepare_multiome_data(data_arguments, folder, kinds=kinds, seed=training_arguments.seed)
    logger.info("cells: %s", data.report)
    trainer = _make_trainer(run, folder, data)
    config: Any = trainer.accelerator.unwrap_model(trainer.model).config
    train_until_done_or_stopped(trainer, checkpoint_to_resume(training_arguments, output_dir, config))
    metrics = _evaluate(trainer, data)
    write_pretrained_multiome(output_dir, trainer, run, metrics)
    return metrics


def _make_trainer(
    run: MultiomePretrainingRun, folder: MultiomeFolder, data: MultiomePretrainingData
) -> MultiomePretrainingTrainer:
    model_arguments, data_arguments, training_arguments = run
    seed = training_arguments.seed
    collator = MultiomeMaskingCollator(
        mask_value_id=folder.num_value_bins + 1,
        mask_share=data_arguments.mask_share,
        mask_replace_share=data_arguments.mask_replace_share,
        zero_share=data_arguments.zero_share,
        missing_modality_share=data_arguments.missing_modality_share,
        missing_labels=data_arguments.missing_labels,
        feature_order=data_arguments.feature_order,
        genes_per_step=data_arguments.genes_per_step,
        seed=seed,
    )
    if data_arguments.missing_modality_share and "both" not in data.kinds:
        logger.warning("missing_modality_share is set, and no batches have both modalities: nothing is imputed")
    model = make_multiome_model(
        model_arguments, folder, data.modalities, feature_order=data_arguments.feature_order, seed=seed
    )
    callbacks: list[TrainerCallback] = [SaveAtInterrupt()]
    if isinstance(model, PeftModel):
        callbacks.append(ConfigInCheckpoint(model.config))
    trainer = MultiomePretrainingTrainer(
        model=model,
        args=training_arguments,
        data=data,
        collator=collator,
        num_value_bins=folder.num_value_bins,
        kind_weights=data_arguments.kind_weights,
        dataset_exponent=data_arguments.dataset_exponent,
        train_dataset=MultiomeDataset(data.cells),
        eval_dataset=_during_training(run, data),
        processing_class=MultiomeFeatureExtractor(**folder.feature_extractor),
        callbacks=callbacks,
    )
    require_whole_model_for_lora(trainer, model_arguments)
    return trainer


def _during_training(run: MultiomePretrainingRun, data: MultiomePretrainingData) -> EvaluationBatches | None:
    rows = some_of(data.validation or data.held_out, run[1].validation_cells)
    imputes = run[1].missing_modality_share > 0
    return EvaluationBatches(data.cells, rows, run[2].eval_batch_size, imputes=imputes) if rows else None


def _evaluate(trainer: MultiomePretrainingTrainer, data: MultiomePretrainingData) -> dict[str, Any]:
    history = [entry for entry in trainer.state.log_history if "train_loss" in entry]
    report = {**data.report, "cells_without_values": {}}
    metrics: dict[str, Any] = {"training": history[-1] if history else {}, "data": report}
    imputes = trainer.collator.missing_modality_share > 0
    for split, rows in (("validation", data.validation), ("held_out", data.held_out)):
        if rows:
            batches = EvaluationBatches(data.cells, rows, trainer.args.eval_batch_size, imputes=imputes)
            trainer.evaluate(batches, metric_key_prefix=split)
            metrics[split] = trainer.last_result
            logger.info("%s: %s", split, {name: round(metrics[split][name], 4) for name in SCORES})
    for modality, counted in trainer.count_training_bins().items():
        report["cells_without_values"][modality] = counted.empty_cells
        if counted.empty_cells:
            logger.warning(
                "%d training cells have no non-zero value of %s: they teach nothing of it",
                counted.empty_cells,
                modality.upper(),
            )
    return none_for_nan(metrics)


if __name__ == "__main__":
    main()
