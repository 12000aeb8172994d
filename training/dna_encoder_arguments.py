"""What a pre-training run can be told about its DNA encoder: whether it is trained too, how, and on how many windows.

How windows are laid (length, transcription start site, strand) and what is read from them (layer, pool) is in the file
of gene features, so that it is asked once, of `embed`.
"""

from dataclasses import dataclass, field
from typing import Literal

from .encoder_arguments import option

LORA_TARGETS = ("attention", "convolutions", "feed_forward")


@dataclass
class DNAEncoderArguments:
    """End-to-end training of the Enformer behind the gene features.

    Raises:
        ValueError: on numbers that are not positive, unknown targets, or files that are lacking.
    """

    tune_dna_model: Literal["none", "lora", "full"] = option(
        "none", "train the DNA encoder too: none (gene features stay as they are), lora, or full"
    )
    dna_model: str | None = option(None, "folder or Hub repository of the Enformer that made the gene features")
    genome: str | None = option(None, "FASTA file of the reference genome that the gene features come from")
    annotation: str | None = option(None, "annotation that gave the transcription start sites, as `embed` read it")
    gene_symbols: str | None = option(None, "symbol -> gene id, a JSON file, for annotations that know symbols only")
    lora_rank: int = option(8, "rank of LoRA")
    lora_alpha: float | None = option(None, "scale of LoRA; twice the rank by default")
    lora_targets: list[str] | None = field(
        default=None,
        metadata={"help": "what LoRA adapts: attention, convolutions, feed_forward; the first two by default"},
    )
    save_adapter: bool = option(False, "also write LoRA's adapter by itself, to OUTPUT/dna_encoder/adapter")
    windows_per_step: int = option(
        32, "genes of a batch, over all processes, whose windows are encoded with gradient; others keep their features"
    )
    windows_per_chunk: int = option(1, "windows that go through the encoder together")
    dna_gradient_checkpointing: Literal["none", "windows", "blocks"] = option(
        "windows", "recompute activations: of one chunk of windows at a time, or of one block of layers of a chunk"
    )
    dna_learning_rate: float = option(1e-4, "peak of the encoder's learning rate")

    def __post_init__(self) -> None:
        if self.tune_dna_model == "none":
            return
        lacking = [name for name in ("dna_model", "genome", "annotation") if getattr(self, name) is None]
        if lacking:
            raise ValueError(
                f"tune_dna_model is {self.tune_dna_model}, and {', '.join(lacking)} not set: give the Enformer, genome "
                "and annotation that `embed` made the gene features from"
            )
        for name in ("lora_rank", "windows_per_step", "windows_per_chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected a positive number")
        unknown = sorted(set(self.targets) - set(LORA_TARGETS))
        if unknown:
            raise ValueError(f"lora_targets names {', '.join(unknown)}: expected {', '.join(LORA_TARGETS)}")
        if self.save_adapter and self.tune_dna_model == "full":
            raise ValueError("save_adapter is set with tune_dna_model full, which has no adapter: leave it out")

    @property
    def targets(self) -> list[str]:
        """The layers that LoRA adapts."""
        return ["attention", "convolutions"] if self.lora_targets is None else self.lora_targets
