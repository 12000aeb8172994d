"""A trained model with an encoder, written as one that loads by itself: LoRA merged, nothing pickled."""

from pathlib import Path
from typing import Any, Protocol

from peft import PeftModel
from transformers import PretrainedConfig, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class AdaptingArguments(Protocol):
    """Arguments of a model that LoRA may adapt."""

    lora_rank: int
    save_adapter: bool


class ConfigInCheckpoint(TrainerCallback):
    """A checkpoint of LoRA holds the adapter alone: with the model's configuration it can be told to be whole."""

    def __init__(self, config: PretrainedConfig) -> None:
        self.config = config

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 (transformers' signature)
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        if state.is_world_process_zero:
            assert args.output_dir is not None
            self.config.save_pretrained(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def require_whole_model_for_lora(trainer: Trainer, arguments: AdaptingArguments) -> None:
    """Raise ValueError where weights that LoRA is merged into would be split over processes."""
    if arguments.lora_rank and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        raise ValueError(
            "lora_rank is set under FSDP or DeepSpeed, which split the weights that LoRA is merged into: train LoRA "
            "with a whole model a process, or train the encoder itself"
        )


class TrainedModel:
    """What a trainer leaves behind.

    Args:
        trainer: after training.
        arguments: of the model.

    Attributes:
        model: without wrappers of processes; LoRA is merged into it when it is written.
        trained_parameters: how many numbers were trained.
    """

    def __init__(self, trainer: Trainer, arguments: AdaptingArguments) -> None:
        self.model: Any = trainer.accelerator.unwrap_model(trainer.model)
        self.trained_parameters = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        self._trainer = trainer
        self._arguments = arguments

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def merge(self, folder: Path) -> None:
        """Merge LoRA, its adapter saved before if the arguments say so."""
        if isinstance(self.model, PeftModel):
            if self._trainer.is_world_process_zero() and self._arguments.save_adapter:
                self.model.save_pretrained(str(folder / "adapter"), save_embedding_layers=False)
            self.model = self.model.merge_and_unload()

    def write(self, folder: Path) -> None:
        """Weights, configuration and tokenizer into the folder; all processes call it."""
        is_main, tokenizer = self._trainer.is_world_process_zero(), self._trainer.processing_class
        if not self._arguments.lora_rank:
            self._trainer.save_model(str(folder))  # of all processes, which may hold a part of the weights each
        elif is_main:
            assert tokenizer is not None
            self.model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        if is_main:
            (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; arguments.json says the same
