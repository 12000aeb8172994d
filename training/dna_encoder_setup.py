"""From the options of a run to Bio-DTA with its DNA encoder: Enformer loaded, adapted or whole, and held against the
gene features that the run starts from."""

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import TrainingArguments

from ..data_scripts.gene_features import GeneFeatures
from ..modeling.modeling_bio_dta import BioDTAForMaskedLM
from ..modeling.modeling_enformer import EnformerForGeneFeatures
from ..pipelines.perturbation_dna import LARGEST_REFERENCE_ERROR
from .dna_encoder_arguments import DNAEncoderArguments
from .end_to_end_dna import BioDTAWithDNAEncoder
from .gene_windows import open_gene_windows

logger = logging.getLogger(__name__)

_CHECKED_GENES = 2
# Names of Enformer's layers; a block of convolutions is batch norm, GELU, convolution.
_LAYERS = {
    "attention": r"transformer\.\d+\.0\.fn\.1\.to_(q|k|v|out)",
    "feed_forward": r"transformer\.\d+\.1\.fn\.(1|4)",
    "convolutions": r"stem\.0|stem\.1\.fn\.2|conv_tower\.\d+\.(0\.2|1\.fn\.2)|final_pointwise\.1\.2",
}


def with_dna_encoder(
    model: BioDTAForMaskedLM,
    arguments: DNAEncoderArguments,
    features: GeneFeatures | None,
    training_arguments: TrainingArguments,
    *,
    has_donors: bool = False,
) -> BioDTAWithDNAEncoder:
    """The model and its encoder as one module, to be trained in the model's place.

    Args:
        model: with the gene features set.
        arguments: `tune_dna_model` is lora or full.
        features: by token id; their metadata say how they were made.
        training_arguments: of the run; those on unused parameters and buffers are set where they were left open, as
            every parameter is used, and all processes hold the same table.
        has_donors: whether cells carry their donors' DNA.

    Raises:
        FileNotFoundError, ValueError: for files and settings that do not fit, and where genome, annotation or encoder
            are not those of the gene features.
    """
    _check_settings(features, training_arguments, has_donors)
    assert features is not None and arguments.genome is not None and arguments.annotation is not None
    special = model.config.num_special_tokens
    windows = open_gene_windows(
        arguments.genome,
        arguments.annotation,
        features.gene_ids[special:],
        features.metadata,
        num_special_tokens=special,
        gene_symbols=arguments.gene_symbols,
    )
    pool = features.metadata["pool"]
    module = BioDTAWithDNAEncoder(
        model,
        _encoder(arguments),
        windows,
        layer=features.metadata["layer"],  # type: ignore[arg-type]
        pool="all" if pool == "all" else int(pool),
        windows_per_step=arguments.windows_per_step,
        windows_per_chunk=arguments.windows_per_chunk,
        checkpointing=arguments.dna_gradient_checkpointing,
        seed=training_arguments.seed,
    )
    _require_same_features(module, features, arguments)
    trained = sum(parameter.numel() for parameter in module.dna_encoder.parameters() if parameter.requires_grad)
    logger.info("the DNA encoder is trained (%s): %d of its weights", arguments.tune_dna_model, trained)
    if training_arguments.ddp_find_unused_parameters is None:
        training_arguments.ddp_find_unused_parameters = False
    if training_arguments.ddp_broadcast_buffers is None:
        training_arguments.ddp_broadcast_buffers = False
    return module


def _check_settings(features: GeneFeatures | None, training_arguments: TrainingArguments, has_donors: bool) -> None:
    if features is None:
        raise ValueError(
            "tune_dna_model is set, and adapter_type is none: a model that reads no DNA has no encoder to train"
        )
    if has_donors:
        raise ValueError(
            "tune_dna_model and donor_column are both set: donors' DNA cannot be trained end to end, as each donor's "
            "windows would have to be encoded at each step; train on the reference genome, or with fixed features"
        )
    if training_arguments.fsdp or training_arguments.deepspeed:
        raise ValueError(
            "tune_dna_model is set under FSDP or DeepSpeed, which split the weights and the table of features: train "
            "end to end with a whole model a process (DDP)"
        )
    absent = [name for name in ("layer", "pool") if name not in features.metadata]
    if absent:
        raise ValueError(f"the gene features do not say their {', '.join(absent)}: make them with `embed`")


def _encoder(arguments: DNAEncoderArguments) -> EnformerForGeneFeatures | PeftModel:
    encoder = EnformerForGeneFeatures.from_pretrained(arguments.dna_model, dtype=torch.float32)
    if arguments.tune_dna_model == "full":
        return encoder
    return with_lora(encoder, rank=arguments.lora_rank, alpha=arguments.lora_alpha, targets=arguments.targets)


def with_lora(
    encoder: EnformerForGeneFeatures, *, rank: int, alpha: float | None = None, targets: Sequence[str]
) -> PeftModel:
    """LoRA's layers put into an Enformer, whose own weights are then fixed.

    Args:
        encoder: is changed.
        rank: of each pair of matrices.
        alpha: their scale; twice the rank by default.
        targets: attention, convolutions, feed_forward.
    """
    scale: Any = 2 * rank if alpha is None else alpha
    lora = LoraConfig(r=rank, lora_alpha=scale, target_modules="|".join(_LAYERS[target] for target in targets))
    with warnings.catch_warnings():  # peft asks for a name that transformers 5 has given up
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        adapted = get_peft_model(encoder, lora)
    assert isinstance(adapted, PeftModel)
    return adapted


@torch.no_grad()
def _require_same_features(
    module: BioDTAWithDNAEncoder, features: GeneFeatures, arguments: DNAEncoderArguments
) -> None:
    """A few genes, encoded: features of another genome, annotation or encoder would be learned away unnoticed."""
    table = module.table
    genes = table.num_special_tokens + np.arange(min(_CHECKED_GENES, len(module.windows)))
    made = module.encode(module.windows.codes(genes))
    expected = torch.from_numpy(features.features[genes]).to(made.device)
    errors = ((made - expected) / table.standard_deviation.to(made.device)).square().mean(dim=1).sqrt()
    logger.info("features of %d genes differ from the file's by %.2g standard deviations", len(genes), errors.max())
    if not errors.max() <= LARGEST_REFERENCE_ERROR:
        raise ValueError(
            f"the features that {arguments.dna_model} gives for {features.gene_ids[genes[int(errors.argmax())]]} "
            f"differ from the gene features' by {errors.max():.2g} standard deviations between genes, and at most "
            f"{LARGEST_REFERENCE_ERROR} is rounding: give the genome, annotation and Enformer that `embed` was given"
        )
