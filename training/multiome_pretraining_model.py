"""The model that a pre-training run trains: random weights, gene vectors or DNA, or a pre-trained one, with LoRA."""

import logging
import warnings
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig

from ..data_scripts.gene_features import align_gene_features, read_gene_features
from ..modeling.configuration_multiome_performer import MultiomePerformerConfig
from ..modeling.modeling_multiome_performer import MultiomePerformerForPreTraining
from .gene_vectors import read_gene_vectors
from .multiome_data import Modality, MultiomeFolder
from .multiome_pretraining_arguments import SIZES, MultiomeModelArguments

logger = logging.getLogger(__name__)

HEADS = ("rna_head", "atac_head")


def make_multiome_model(
    arguments: MultiomeModelArguments,
    folder: MultiomeFolder,
    modalities: list[Modality],
    *,
    feature_order: str = "fixed",
    seed: int = 0,
) -> MultiomePerformerForPreTraining | PeftModel:
    """A model of the folder's genes.

    Args:
        arguments: sizes, or the pre-trained model.
        folder: with genes and bins.
        modalities: that the kinds of batches have.
        feature_order: recorded in the configuration.
        seed: of random features.

    Raises:
        FileNotFoundError: where a file of gene tokens is not there.
        ValueError: where the pre-trained model has other genes, bins or modalities, or sizes and files do not fit.
    """
    if arguments.model is not None:
        return _pretrained(arguments, folder, modalities, feature_order)
    fields = {name: getattr(arguments, name) for name in SIZES if getattr(arguments, name) is not None}
    if arguments.feature_redraw_interval is not None:
        fields["feature_redraw_interval"] = arguments.feature_redraw_interval or None
    features = None if arguments.dna_features is None else _dna_features(arguments.dna_features, folder)
    if features is not None:
        fields["gene_feature_size"] = features.shape[1]
    fields |= {
        "num_genes": len(folder.gene_ids),
        "gene_ids": folder.gene_ids,
        "modalities": modalities,
        "num_value_bins": folder.num_value_bins,
        "hidden_dropout_prob": arguments.hidden_dropout_prob,
        "feature_order": feature_order,
        "feature_seed": seed,
    }
    if arguments.preset == "scbert":
        _check_scbert(folder, modalities)
    make = MultiomePerformerConfig.scbert if arguments.preset == "scbert" else MultiomePerformerConfig
    model = MultiomePerformerForPreTraining(make(**fields))
    if features is not None:
        model.set_gene_features(features)
    if arguments.gene2vec is not None:
        _set_gene_vectors(model, arguments, folder)
    return model


def _pretrained(
    arguments: MultiomeModelArguments, folder: MultiomeFolder, modalities: list[Modality], feature_order: str
) -> MultiomePerformerForPreTraining | PeftModel:
    source, revision = str(arguments.model), arguments.model_revision or "main"
    config: Any = AutoConfig.from_pretrained(source, revision=revision)
    _require_fit(config, source, folder, modalities)
    config.feature_order = feature_order
    config.hidden_dropout_prob = arguments.hidden_dropout_prob
    if arguments.feature_redraw_interval is not None:
        config.feature_redraw_interval = arguments.feature_redraw_interval or None
    if arguments.lora_rank:
        config.feature_redraw_interval = None  # an adapter's checkpoints would not hold other random features
    model = MultiomePerformerForPreTraining.from_pretrained(source, revision=revision, config=config)
    return _with_lora(model, arguments) if arguments.lora_rank else model


def _require_fit(config: Any, source: str, folder: MultiomeFolder, modalities: list[Modality]) -> None:
    if config.model_type != MultiomePerformerConfig.model_type:
        raise ValueError(
            f"{source} is a model of type {config.model_type}: expected {MultiomePerformerConfig.model_type}"
        )
    own, others = config.gene_ids, folder.gene_ids
    if own is None:
        raise ValueError(f"{source} does not say which genes it has: it cannot be told whether they are the folder's")
    if own != others:
        lacking, new = len(set(own) - set(others)), len(set(others) - set(own))
        raise ValueError(
            f"the genes of {source} are not those of {folder.folder}: {lacking:,} of its {len(own):,} are not there, "
            f"{new:,} are new{'' if lacking or new else ', and the order is another'}; build the folder with the "
            "model's genes"
        )
    if config.num_value_bins != folder.num_value_bins:
        raise ValueError(
            f"{source} has {config.num_value_bins} bins of values and {folder.folder} {folder.num_value_bins}: build "
            "the folder with as many bins"
        )
    missing = [modality for modality in modalities if modality not in config.modalities]
    if missing:
        raise ValueError(
            f"{source} reads {', '.join(config.modalities)} only, and the kinds of batches have {', '.join(missing)}: "
            "choose kinds that it reads"
        )


def _check_scbert(folder: MultiomeFolder, modalities: list[Modality]) -> None:
    if modalities != ["rna"]:
        raise ValueError(
            f"preset scbert reads RNA alone, and the kinds of batches have {', '.join(modalities)}: kinds rna"
        )
    strategy = (folder.feature_extractor.get("rna_bins") or {}).get("strategy")
    if strategy != "scbert":
        logger.warning("preset scbert, and the folder's values are binned by %s, not as scBERT's are", strategy)


def _dna_features(path: str, folder: MultiomeFolder) -> torch.Tensor:
    """(genes, size) float32, row by row those of the folder's genes."""
    aligned = align_gene_features(read_gene_features(path), folder.gene_ids, special_tokens=())
    return torch.from_numpy(aligned.features)


def _set_gene_vectors(
    model: MultiomePerformerForPreTraining, arguments: MultiomeModelArguments, folder: MultiomeFolder
) -> None:
    """Gene tokens of each path; those without a vector stay random, and frozen tokens are frozen together."""
    found = read_gene_vectors(
        str(arguments.gene2vec), folder.gene_ids, folder.gene_symbols, size=model.config.hidden_size
    )
    for modality, path in model.performer.paths.items():
        weight: torch.nn.Parameter = path.embeddings.gene_embeddings.weight  # type: ignore[union-attr, assignment]
        is_found = torch.from_numpy(found.is_found)[:, None]
        model.set_gene_embeddings(torch.where(is_found, torch.from_numpy(found.vectors), weight.detach()), modality)
        weight.requires_grad_(arguments.train_gene2vec)


def _with_lora(model: MultiomePerformerForPreTraining, arguments: MultiomeModelArguments) -> PeftModel:
    lora = LoraConfig(
        r=arguments.lora_rank,
        lora_alpha=2 * arguments.lora_rank if arguments.lora_alpha is None else arguments.lora_alpha,  # type: ignore
        lora_dropout=arguments.lora_dropout,
        target_modules=r"performer\..*attention\.(query|value)",
        modules_to_save=[name for name in HEADS if getattr(model, name) is not None],
    )
    with warnings.catch_warnings():  # peft asks for a name that transformers 5 has given up
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        wrapped = get_peft_model(model, lora)
    assert isinstance(wrapped, PeftModel)
    return wrapped
