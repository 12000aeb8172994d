"""Trainer of Bio-DTA with its DNA encoder: a learning rate for the encoder, and checkpoints that say what they hold."""

import json
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments

from .dna_encoder_arguments import DNAEncoderArguments
from .encoder_output import ConfigInCheckpoint
from .end_to_end_dna import BioDTAWithDNAEncoder
from .trainer import MaskedGeneTrainer

DNA_ENCODER_SETTINGS = "dna_encoder.json"


class EndToEndTrainer(MaskedGeneTrainer):
    """`MaskedGeneTrainer` for `BioDTAWithDNAEncoder`.

    Args:
        dna_arguments: of the encoder.
        others: as `MaskedGeneTrainer` takes them.
    """

    def __init__(self, *args: Any, dna_arguments: DNAEncoderArguments, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dna_arguments = dna_arguments
        assert isinstance(self.model, BioDTAWithDNAEncoder)
        self.add_callback(DNAEncoderInCheckpoint(self.model, dna_arguments))

    def get_optimizer_cls_and_kwargs(  # type: ignore[override]  # static there; called on the instance
        self, args: TrainingArguments, model: Any = None
    ) -> tuple[Any, dict[str, Any]]:
        """The hook for parameter groups: those of the encoder get their own learning rate."""
        kind, options = super().get_optimizer_cls_and_kwargs(args, model)
        model = self.model if model is None else model
        assert isinstance(model, nn.Module)
        options["params"] = self._parameter_groups(model)
        return kind, options

    def _parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        norms = {id(p) for module in model.modules() if isinstance(module, _NORMS) for p in module.parameters()}
        decayed = set(self.get_decay_parameter_names(model))
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                kind = ("dna_encoder." in name, name in decayed and id(parameter) not in norms)
                groups.setdefault(kind, []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": self.dna_arguments.dna_learning_rate if is_encoder else self.args.learning_rate,
                "weight_decay": self.args.weight_decay if is_decayed else 0.0,
            }
            for (is_encoder, is_decayed), parameters in sorted(groups.items(), key=lambda group: group[0])
        ]


class DNAEncoderInCheckpoint(ConfigInCheckpoint):
    """Beside the weights of both models: the cell model's configuration, and how the encoder is trained."""

    def __init__(self, module: BioDTAWithDNAEncoder, arguments: DNAEncoderArguments) -> None:
        super().__init__(module.model.config)
        self.arguments = arguments

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            assert args.output_dir is not None
            path = Path(args.output_dir) / f"checkpoint-{state.global_step}" / DNA_ENCODER_SETTINGS
            path.write_text(json.dumps(_settings(self.arguments), indent=2) + "\n", encoding="utf-8")
        super().on_save(args, state, control, **kwargs)  # last: without its configuration no checkpoint is whole


def require_same_dna_encoder(checkpoint: Path | None, arguments: DNAEncoderArguments) -> None:
    """Raise ValueError, naming both values, where a checkpoint was made with another way to train the encoder.

    Args:
        checkpoint: to go on from; None for none.
        arguments: of this run; `tune_dna_model` may be none.
    """
    if checkpoint is None:
        return
    path, now = checkpoint / DNA_ENCODER_SETTINGS, _settings(arguments)
    saved = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"tune_dna_model": "none"}
    changed = [name for name in now if saved.get(name) != now[name]]
    if saved["tune_dna_model"] == now["tune_dna_model"] == "none" or not changed:
        return
    shown = "; ".join(f"{name} was {saved.get(name)} and is {now[name]}" for name in changed)
    raise ValueError(f"{checkpoint} cannot be resumed: {shown}. Give the settings that it was made with")


def _settings(arguments: DNAEncoderArguments) -> dict[str, Any]:
    settings: dict[str, Any] = {"tune_dna_model": arguments.tune_dna_model}
    if arguments.tune_dna_model != "none":
        settings["windows_per_step"] = arguments.windows_per_step
    if arguments.tune_dna_model == "lora":
        alpha = 2 * arguments.lora_rank if arguments.lora_alpha is None else arguments.lora_alpha
        settings |= {"lora_rank": arguments.lora_rank, "lora_alpha": alpha, "lora_targets": sorted(arguments.targets)}
    return settings


_NORMS = (nn.LayerNorm, nn.BatchNorm1d, nn.SyncBatchNorm)
