"""The model of an arm: its configuration and weights; trained whole, by its head alone, or by LoRA.

Sizes of random weights are those of `MultiomePerformerConfig`, which are the thesis'; or scBERT's.
"""

import dataclasses
import json
import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from ..modeling.configuration_multiome_performer import MultiomePerformerConfig
from ..modeling.modeling_multiome_performer import MultiomePerformerForCellTypeClassification
from .cell_type_arms import ModelArm, modalities_of
from .cell_type_splits import Rows
from .multiome_data import MultiomeFolder

logger = logging.getLogger(__name__)

_EXTRACTOR_FILE = "preprocessor_config.json"
_SET_HERE = ("num_genes", "gene_ids", "num_labels", "id2label", "label2id", "class_weights")


def require_fitting_model(arm: ModelArm, folder: MultiomeFolder) -> None:
    """Raise ValueError where an arm's model cannot be trained on a folder, before anything is.

    Raises:
        ValueError: where the model has other genes, other bins, or lacks the modality; where scBERT's bins are needed.
    """
    taken = sorted(set(arm.config) & set(_SET_HERE))
    if taken:
        raise ValueError(f"arm {arm.name!r} sets {', '.join(taken)}, which follow from the data: leave them out")
    unknown = sorted(set(arm.config) - {one.name for one in dataclasses.fields(MultiomePerformerConfig)})
    if unknown:
        raise ValueError(f"arm {arm.name!r} sets {', '.join(unknown)}, which are no fields of MultiomePerformerConfig")
    if arm.model is not None:
        _require_same_genes(arm, folder)
    config = make_config(arm, folder, ["a type", "another"])
    lacking = sorted(set(modalities_of(arm.modality)) - set(config.modalities))
    if lacking:
        raise ValueError(
            f"arm {arm.name!r} shows {arm.modality}, and its model has no "
            f"{' and '.join(lacking).upper()}: choose modality {config.modalities[0]!r}, or another model"
        )
    if config.num_value_bins != folder.num_value_bins:
        raise ValueError(
            f"arm {arm.name!r}: the model has {config.num_value_bins} bins of values, and {folder.folder} "
            f"{folder.num_value_bins}: build the folder with as many (build multiome --bins {config.num_value_bins})"
        )
    strategies = {one: _bins(folder.feature_extractor, one).get("strategy") for one in modalities_of(arm.modality)}
    if arm.preset == "scbert" and strategies["rna"] != "scbert":
        raise ValueError(
            f"arm {arm.name!r}: scBERT reads values binned as scbert, and {folder.folder} is binned as "
            f"{strategies['rna']}: give a folder that `build multiome --binning scbert` wrote of the same cells"
        )
    if arm.model is not None:
        _compare_bins(arm, folder)


def make_config(
    arm: ModelArm, folder: MultiomeFolder, type_names: Sequence[str], class_weights: list[float] | None = None
) -> MultiomePerformerConfig:
    """The configuration for so many types: the pre-trained model's, or that of random weights on these genes."""
    labels = {
        "id2label": dict(enumerate(type_names)),
        "label2id": {name: number for number, name in enumerate(type_names)},
        "class_weights": class_weights,
    }
    chosen = {"classification_head": arm.classification_head, "feature_order": arm.feature_order}
    changes = dict(arm.config) | {name: value for name, value in chosen.items() if value is not None} | labels
    if arm.model is not None:
        fields = MultiomePerformerConfig.from_pretrained(arm.model).to_dict()
        for name in ("architectures", "auto_map", "custom_pipelines", "dtype", "transformers_version", "model_type"):
            fields.pop(name, None)
        fields["gene_ids"] = fields["gene_ids"] or folder.gene_ids
        return MultiomePerformerConfig(**(fields | changes))
    sizes: dict[str, Any] = {"num_genes": len(folder.gene_ids), "gene_ids": folder.gene_ids}
    sizes["num_value_bins"] = folder.num_value_bins
    if arm.preset == "scbert":
        return MultiomePerformerConfig.scbert(**(sizes | changes))
    return MultiomePerformerConfig(**({"modalities": list(modalities_of(arm.modality))} | sizes | changes))


def make_model(
    arm: ModelArm, config: MultiomePerformerConfig
) -> MultiomePerformerForCellTypeClassification | PeftModel:
    """The model with the arm's weights, of which training changes what the arm's tuning says."""
    model = MultiomePerformerForCellTypeClassification(config) if arm.model is None else _loaded(arm.model, config)
    if arm.tuning in ("frozen", "zero_shot"):
        if arm.model is None:
            logger.warning("arm %s: the encoder is not trained, and its weights are random", arm.name)
        model.performer.requires_grad_(False)
    return _with_lora(model, arm.lora_rank) if arm.tuning == "lora" else model


def balanced_weights(labels: Rows, n_types: int) -> list[float]:
    """cells / (types x cells of the type), as scikit-learn's "balanced"."""
    cells = np.bincount(labels, minlength=n_types)
    return (len(labels) / (n_types * cells)).tolist()


def unwrapped(model: Any) -> PreTrainedModel:
    """The model with LoRA merged into it."""
    return model.merge_and_unload() if isinstance(model, PeftModel) else model


def _loaded(source: str | Path, config: MultiomePerformerConfig) -> MultiomePerformerForCellTypeClassification:
    """Weights of the encoder; the head is new, since its types are."""
    model: MultiomePerformerForCellTypeClassification
    report: dict[str, Any]
    model, report = MultiomePerformerForCellTypeClassification.from_pretrained(  # type: ignore[misc]
        source, config=config, output_loading_info=True, ignore_mismatched_sizes=True
    )
    lacking = sorted(name for name in report["missing_keys"] if name.startswith("performer."))
    changed = [str(one[0]) for one in report["mismatched_keys"]]
    lacking += sorted(name for name in changed if name.startswith("performer."))
    lacking = [name for name in lacking if not re.search(r"random_features\.projection$|trained_batches$", name)]
    if lacking:
        raise ValueError(
            f"{source} lacks {len(lacking)} weights of the encoder, e.g. {lacking[0]}: leave out the options that "
            "change its sizes"
        )
    if changed:
        logger.info("the head of %s names other types, and is trained anew", source)
    return model


def _with_lora(model: MultiomePerformerForCellTypeClassification, rank: int) -> PeftModel:
    """Adapters on queries and values of the paths; the head is trained whole."""
    # Layers of the head, and not the head itself, whose class the model looks at.
    outside = [(name, part) for name, part in model.named_modules() if not name.startswith(model.base_model_prefix)]
    head = [name for name, part in outside if name and next(part.parameters(recurse=False), None) is not None]
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=r"performer\..*\.(query|value)", modules_to_save=head)
    with warnings.catch_warnings():  # peft asks for a name that transformers 5 has given up
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        wrapped = get_peft_model(model, lora)
    assert isinstance(wrapped, PeftModel)
    return wrapped


def _require_same_genes(arm: ModelArm, folder: MultiomeFolder) -> None:
    config = MultiomePerformerConfig.from_pretrained(str(arm.model))
    mend = "build it with the model's genes (build multiome --genes), or pre-train on it"
    if config.num_genes != len(folder.gene_ids):
        raise ValueError(
            f"{arm.model} has {config.num_genes:,} genes and {folder.folder} {len(folder.gene_ids):,}: {mend}"
        )
    if config.gene_ids is None:
        logger.warning("%s does not say which genes it has: they are taken to be those of %s", arm.model, folder.folder)
        return
    is_other = [own != given for own, given in zip(config.gene_ids, folder.gene_ids, strict=True)]
    if any(is_other):
        place = is_other.index(True)
        raise ValueError(
            f"{sum(is_other):,} of {config.num_genes:,} genes of {arm.model} are others in {folder.folder}, first gene "
            f"{place:,}: {config.gene_ids[place]} and {folder.gene_ids[place]}; {mend}"
        )


def _compare_bins(arm: ModelArm, folder: MultiomeFolder) -> None:
    """Raise ValueError for bins of another strategy; warn where edges were fitted on other cells."""
    path = Path(str(arm.model)) / _EXTRACTOR_FILE
    if not path.is_file():
        return
    own = json.loads(path.read_text(encoding="utf-8"))
    for modality in modalities_of(arm.modality):
        before, now = _bins(own, modality), _bins(folder.feature_extractor, modality)
        if not before or not now:
            continue
        if before["strategy"] != now["strategy"]:
            raise ValueError(
                f"{arm.model} reads {modality.upper()} binned as {before['strategy']}, and {folder.folder} is binned "
                f"as {now['strategy']}: build it with --binning {before['strategy']}"
            )
        if not _same_numbers(before, now):
            logger.warning(
                "%s: bins of %s were fitted on other cells than those of %s: a value may be in another bin than the "
                "one that the model has learned; build the folder with the model's bins to be rid of this",
                arm.model,
                modality.upper(),
                folder.folder,
            )


def _bins(extractor: Mapping[str, Any], modality: str) -> dict[str, Any]:
    return extractor.get(f"{modality}_bins") or {}


def _same_numbers(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return all(
        (before.get(name) is None) == (now.get(name) is None)
        and (before.get(name) is None or _close(before[name], now[name]))
        for name in ("edges", "scales")
    )


def _close(first: npt.ArrayLike, second: npt.ArrayLike) -> bool:
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=1e-6))
