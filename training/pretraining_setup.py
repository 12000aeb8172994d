"""From the arguments of a pre-training run to its data and its trainer."""

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from ..modeling.modeling_bio_dta import BioDTAForMaskedLM
from .collators import MaskedGeneCollator
from .dna_encoder_setup import with_dna_encoder
from .end_to_end_trainer import EndToEndTrainer
from .interruption import SaveAtInterrupt
from .model_flops import ModelFlopsCallback
from .packed_cells import PackedGeneCollator
from .peak_flops import peak_flops
from .pretraining_arguments import Arguments, DataArguments, ModelArguments, PretrainingArguments
from .pretraining_data import PretrainingData, prepare_pretraining_data
from .stream_checkpoint import StreamCheckpoint
from .streamed_data import prepare_streamed_data
from .streaming_cells import StreamedCells
from .trainer import MaskedGeneTrainer

logger = logging.getLogger(__name__)

LONG_CELLS = 256  # genes on average, from which packed batches are the faster ones on a CPU


def read_pretraining_data(
    model_arguments: ModelArguments, data_arguments: DataArguments, training_arguments: PretrainingArguments
) -> PretrainingData:
    """Cells, mapped whole or streamed, with their features and vocabulary."""
    options: dict[str, Any] = {
        "reads_dna": model_arguments.adapter_type != "none",
        "max_length": model_arguments.max_position_embeddings,
    }
    if data_arguments.streaming:
        return prepare_streamed_data(data_arguments, training_arguments, **options)
    with training_arguments.main_process_first(desc="reading cells"):
        return prepare_pretraining_data(data_arguments, seed=training_arguments.seed, **options)


def settle_packing(arguments: Arguments, data: PretrainingData) -> None:
    """Set `packed` where it was left open: for long cells on a CPU, where it was measured to be faster and as good.

    A stream, whose order depends on it, is padded unless it was asked for.
    """
    model, chosen, training = arguments[:3]
    if chosen.packed is not None:
        return
    chosen.packed = False
    if isinstance(data.training, StreamedCells):
        return
    can_pack = chosen.pad_to_multiple_of is None and model.attn_implementation in (None, "sdpa")
    mean = float(data.training.lengths.mean())
    chosen.packed = can_pack and training.device.type == "cpu" and mean >= LONG_CELLS
    logger.info("batches are %s: cells have %.0f genes on average", "packed" if chosen.packed else "padded", mean)


def make_trainer(
    arguments: Arguments, data: PretrainingData, model: BioDTAForMaskedLM, checkpoint: Path | None
) -> MaskedGeneTrainer:
    """The trainer of a model, or of a model with its DNA encoder; a stream goes on where `checkpoint` ended."""
    _, data_arguments, training_arguments, dna_encoder_arguments = arguments
    callbacks: list[TrainerCallback] = [SaveAtInterrupt()]
    if isinstance(data.training, StreamedCells):
        training_arguments.ignore_data_skip = True  # the stream itself begins where the checkpoint ended
        stream_checkpoint = StreamCheckpoint(data.training)
        if checkpoint is not None:
            stream_checkpoint.resume(checkpoint)
        callbacks.append(stream_checkpoint)
    options: dict[str, Any] = {
        "args": training_arguments,
        "data_collator": _make_collator(data_arguments, training_arguments, data),
        "train_dataset": data.training,
        "eval_dataset": data.held_out,
        "processing_class": data.vocabulary.tokenizer(model.config.max_position_embeddings),
        "megabatch_size": data_arguments.megabatch_size,
        "length_group": data_arguments.length_group,
        "token_budget": data_arguments.token_budget,
        "callbacks": callbacks,
    }
    if dna_encoder_arguments.tune_dna_model == "none":
        trainer = MaskedGeneTrainer(model=model, **options)
    else:
        both = with_dna_encoder(
            model,
            dna_encoder_arguments,
            data.gene_features,
            training_arguments,
            has_donors=data.donor_variants is not None,
        )
        trainer = EndToEndTrainer(model=both, dna_arguments=dna_encoder_arguments, **options)
    speed = ModelFlopsCallback(model.config, _peak_flops(training_arguments))
    trainer.callback_handler.callbacks.insert(0, speed)  # first, so that all others see what it adds to the logs
    return trainer


def _peak_flops(arguments: PretrainingArguments) -> float | None:
    dtype = torch.bfloat16 if arguments.bf16 else torch.float16 if arguments.fp16 else torch.float32
    return peak_flops(arguments.device, dtype, peak_tflops=arguments.peak_tflops)


def _make_collator(
    arguments: DataArguments, training_arguments: PretrainingArguments, data: PretrainingData
) -> MaskedGeneCollator:
    on_cpu = training_arguments.device.type == "cpu"
    return (PackedGeneCollator if arguments.packed else MaskedGeneCollator)(
        vocab_size=len(data.vocabulary),
        num_special_tokens=data.vocabulary.num_special_tokens,
        mlm_probability=arguments.mlm_probability,
        pad_to_multiple_of=arguments.pad_to_multiple_of,
        seed=training_arguments.seed,
        donor_variants=data.donor_variants,
        gather_variants=not on_cpu or training_arguments.dataloader_num_workers > 0,
        # Found on a GPU, places would make the processor wait for it; found in the model, they would break its graph.
        precompute_places=not on_cpu or training_arguments.torch_compile,
    )
