"""Pre-train Bio-DTA on tokenised cells, for `accelerate launch`, `torchrun` or plain Python.

    accelerate launch training/run_mlm.py --cells CELLS --gene-features FEATURES.safetensors --output-dir MODEL
    accelerate launch training/run_mlm.py training/configs/bio_dta.yaml --output-dir MODEL
    accelerate launch -m omics_transformers.training.run_mlm ...

Source: "Multi-modal single-cell foundation models via dynamic token adaptation", "Model architecture and training".
"""

import dataclasses
import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.training.collators import MaskedGeneCollator
from omics_transformers.training.dna_encoder_arguments import DNAEncoderArguments
from omics_transformers.training.end_to_end_dna import BioDTAWithDNAEncoder
from omics_transformers.training.end_to_end_output import TunedDNAEncoder
from omics_transformers.training.end_to_end_trainer import EndToEndTrainer, require_same_dna_encoder
from omics_transformers.training.gene_frequency_baseline import gene_frequency_perplexities
from omics_transformers.training.model_card import write_model_card
from omics_transformers.training.pretraining_arguments import (
    Arguments,
    DataArguments,
    ModelArguments,
    PretrainingArguments,
    parse_arguments,
)
from omics_transformers.training.pretraining_data import PretrainingData
from omics_transformers.training.pretraining_output import (
    add_perturbation_pipeline,
    require_fresh_or_resumed,
    write_json,
    write_whole,
)
from omics_transformers.training.pretraining_setup import make_trainer, read_pretraining_data, settle_packing
from omics_transformers.training.resumable_run import (
    checkpoint_to_resume,
    is_resumed,
    run_script,
    settings_of,
    train_until_done_or_stopped,
)
from omics_transformers.training.streamed_data import sampled_training_cells
from omics_transformers.training.streaming_cells import StreamedCells
from omics_transformers.training.streaming_state import stream_state_path
from omics_transformers.training.trainer import MaskedGeneTrainer

logger = logging.getLogger("omics_transformers.training.run_mlm")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see `--help`."""
    parsed = parse_arguments(arguments)
    run_script(lambda: pretrain(*parsed), parsed[2])


def pretrain(
    model_arguments: ModelArguments,
    data_arguments: DataArguments,
    training_arguments: PretrainingArguments,
    dna_encoder_arguments: DNAEncoderArguments | None = None,
) -> dict[str, Any]:
    """Train, evaluate, and write model, tokenizer, gene features, metrics and model card to `output_dir`.

    With `tune_dna_model` the DNA encoder is trained too, and written to `dna_encoder/`.

    Returns:
        The metrics, as in metrics.json: `training` and `held_out` (loss, perplexity and accuracy a masked token, and
        the perplexities of gene frequencies alone), and `data`, what was left out.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: for files and settings that do not fit, before training begins.
        TrainingInterrupted: a KeyboardInterrupt, after Ctrl-C or SIGTERM; a checkpoint has been saved.
    """
    arguments = (model_arguments, data_arguments, training_arguments, dna_encoder_arguments or DNAEncoderArguments())
    output_dir = require_fresh_or_resumed(training_arguments.output_dir, resume=is_resumed(training_arguments))
    logger.info("settings: %s", json.dumps(_settings_of(arguments), indent=2, default=str))
    set_seed(training_arguments.seed)
    data = read_pretraining_data(*arguments[:3])
    settle_packing(arguments, data)
    model = make_model(model_arguments, data)
    ranks = range(training_arguments.world_size) if data_arguments.streaming else ()
    places = [stream_state_path(output_dir, rank).name for rank in ranks]
    checkpoint = checkpoint_to_resume(training_arguments, output_dir, model.config, required=places)
    require_same_dna_encoder(checkpoint, arguments[3])
    trainer = make_trainer(arguments, data, model, checkpoint)
    train_until_done_or_stopped(trainer, checkpoint)
    tuned = None
    if isinstance(trainer, EndToEndTrainer):
        assert data.gene_features is not None
        tuned = TunedDNAEncoder(trainer, arguments[3], data.gene_features)  # and evaluated by the features it gives
    metrics = _metrics(trainer, data, data_arguments)
    _write(output_dir, trainer, data, arguments, metrics, tuned)
    return metrics


def _settings_of(arguments: Arguments) -> dict[str, Any]:
    settings = settings_of(*arguments[:3])
    if arguments[3].tune_dna_model != "none":
        settings["dna_encoder"] = dataclasses.asdict(arguments[3])
    return settings


def make_model(arguments: ModelArguments, data: PretrainingData) -> BioDTAForMaskedLM:
    """A model with random weights that fits the vocabulary and the DNA features.

    Raises:
        ValueError: where the sizes do not fit each other, or `difference` is asked of a run without donors.
    """
    features = data.gene_features
    if features is not None and arguments.variant_encoding == "difference" and data.donor_variants is None:
        raise ValueError(
            "variant_encoding is difference, and no cell carries a donor's DNA, so differences cannot be learned: set "
            "donor_column (with features embedded from the donors' VCF), or variant_encoding replace"
        )
    if arguments.hidden_size % arguments.num_attention_heads:
        raise ValueError(
            f"hidden_size {arguments.hidden_size} is no multiple of num_attention_heads {arguments.num_attention_heads}"
        )
    fields = {name: value for name, value in dataclasses.asdict(arguments).items() if value is not None}
    dna = (
        {}
        if features is None
        else {
            "dna_feature_size": features.features.shape[1],
            "gene_features_metadata": dict(features.metadata),
        }
    )
    config = BioDTAConfig(
        vocab_size=len(data.vocabulary),
        gene_ids=data.vocabulary.tokens,
        num_special_tokens=data.vocabulary.num_special_tokens,
        **fields,
        **dna,
    )
    model = BioDTAForMaskedLM(config)
    if features is not None:
        model.set_gene_features(torch.from_numpy(features.features))
    if features is not None and data.donor_variants is not None and len(data.donor_variants.features):
        genes = torch.from_numpy(features.donor_feature_genes).long()
        model.set_variant_scale(data.donor_variants.features, genes)
    return model


def _metrics(trainer: MaskedGeneTrainer, data: PretrainingData, arguments: DataArguments) -> dict[str, Any]:
    history = [entry for entry in trainer.state.log_history if "train_loss" in entry]
    report = data.report | (data.training.report() if isinstance(data.training, StreamedCells) else {})
    metrics: dict[str, Any] = {"training": history[-1] if history else {}, "held_out": {}, "data": report}
    if data.held_out is not None:
        evaluated = trainer.evaluate()
        collator = trainer.data_collator
        assert isinstance(collator, MaskedGeneCollator)
        if trainer.is_world_process_zero():
            training = data.training
            counted = sampled_training_cells(data, arguments) if isinstance(training, StreamedCells) else training
            evaluated |= gene_frequency_perplexities(counted, data.held_out, collator)
        metrics["held_out"] = {
            name.removeprefix("eval_"): value for name, value in evaluated.items() if not _is_speed(name)
        }
        logger.info("held-out cells: %s", metrics["held_out"])
    return metrics


def _is_speed(name: str) -> bool:
    return name.endswith(("_runtime", "_per_second", "_time", "epoch"))


def _write(
    output_dir: Path,
    trainer: MaskedGeneTrainer,
    data: PretrainingData,
    arguments: Arguments,
    metrics: dict[str, Any],
    tuned: TunedDNAEncoder | None,
) -> None:
    def write(folder: Path) -> None:
        if trainer.is_world_process_zero():
            add_perturbation_pipeline(_cell_model(trainer), folder)
        if tuned is None:
            trainer.save_model(str(folder))
        else:
            tuned.write(folder)
        if trainer.is_world_process_zero():
            (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; arguments.json says the same
            write_json(folder / "arguments.json", _settings_of(arguments))
            write_json(folder / "metrics.json", metrics)
            if tuned is not None:
                data.vocabulary.tokenizer(_cell_model(trainer).config.max_position_embeddings).save_pretrained(folder)
            elif data.gene_features is not None and arguments[1].gene_features:
                shutil.copyfile(arguments[1].gene_features, folder / "gene_features.safetensors")
            _write_card(folder, output_dir.name, trainer, data, arguments, metrics)

    write_whole(output_dir, write, is_main_process=trainer.is_world_process_zero())
    logger.info("model, tokenizer, metrics and card are in %s", output_dir)


def _cell_model(trainer: MaskedGeneTrainer) -> Any:
    """Bio-DTA itself, out of what trains it."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    return model.model if isinstance(model, BioDTAWithDNAEncoder) else model


def _write_card(
    folder: Path,
    name: str,
    trainer: MaskedGeneTrainer,
    data: PretrainingData,
    arguments: Arguments,
    metrics: dict[str, Any],
) -> None:
    training = arguments[2]
    model = _cell_model(trainer)
    features = data.gene_features
    write_model_card(
        folder,
        model_name=name,
        adapter_type=arguments[0].adapter_type,
        config=model.config,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        gene_features_metadata=model.config.gene_features_metadata or {},
        data_arguments=arguments[1],
        report=data.report,
        donors=len(features.donors or []) if features is not None and data.donor_variants is not None else 0,
        steps=trainer.state.global_step,
        cells_a_step=training.train_batch_size * training.world_size * training.gradient_accumulation_steps,
        learning_rate=training.learning_rate,
        metrics=metrics["held_out"],
    )


if __name__ == "__main__":
    main()
