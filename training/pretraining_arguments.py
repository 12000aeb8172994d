"""What a pre-training run can be told: the flags of run_mlm.py, which are also the keys of its YAML file.

The sizes of the model are the paper's ("Multi-modal single-cell foundation models via dynamic token adaptation",
section "Model architecture and training"); learning rate and weight decay, which it leaves open, are Geneformer's.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from transformers import HfArgumentParser, TrainingArguments

from .dna_encoder_arguments import DNAEncoderArguments


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class ModelArguments:
    """Sizes and choices of the model; see `BioDTAConfig`."""

    adapter_type: Literal["linear", "mlp", "none"] = _option(
        "linear", "from DNA features to token embeddings: linear (the paper), mlp, or none (adapter-free: no DNA)"
    )
    variant_encoding: Literal["replace", "difference"] = _option(
        "replace", "how a donor's DNA enters: replace (the paper), or difference (to the reference)"
    )
    feature_scaling: Literal["standardize", "whiten"] = _option(
        "standardize",
        "scale of DNA features: standardize each, or whiten (learns faster where features are much alike)",
    )
    adapter_hidden_size: int | None = _option(None, "middle width of the mlp adapter; hidden_size by default")
    hidden_size: int = _option(256, "width of the encoder")
    num_hidden_layers: int = _option(6, "layers of the encoder")
    num_attention_heads: int = _option(4, "attention heads a layer")
    intermediate_size: int = _option(512, "width of the feed-forward layers")
    max_position_embeddings: int = _option(2048, "longest cell in genes; longer ones are cut, counted and logged")
    hidden_dropout_prob: float = _option(0.02, "dropout of embeddings and layers")
    attention_probs_dropout_prob: float = _option(0.02, "dropout of attention")
    attn_implementation: str | None = _option(None, "attention kernel: sdpa, flash_attention_2, eager; best by default")


@dataclass
class DataArguments:
    """Cells, DNA features, and what is held out."""

    cells: str | None = _option(None, "folder of tokenised cells that `build cells` wrote (required)")
    gene_features: str | None = _option(None, "safetensors file that `embed` wrote; not needed for adapter_type none")
    donor_column: str | None = _option(
        None, "column of the cells that names their donor: their genes then carry the donor's DNA features"
    )
    missing_donors: Literal["error", "reference", "drop"] = _option(
        "error", "cells whose donor has no DNA features: raise, give them the reference's, or leave them out"
    )
    missing_gene_features: Literal["error", "drop"] = _option(
        "error", "expressed genes without DNA features: raise, or take their tokens out of the cells"
    )
    restrict_genes: str | None = _option(
        None, "train on these genes only: a text file with a gene id a line, or a file of gene features"
    )
    test_fraction: float = _option(0.05, "share of the cells that is held out, at random; 0 for none")
    test_cells: str | None = _option(None, "folder of other cells to hold out, in place of test_fraction")
    test_donors: str | None = _option(None, "hold out the cells of these donors (comma-separated), instead")
    mlm_probability: float = _option(0.15, "share of the genes that is masked")
    megabatch_size: int | None = _option(
        None, "cells that are sorted by length together; 50 steps' worth by default, more gives less padding"
    )
    length_group: int | None = _option(
        None, "cells of like length that stay together; by default those of a batch, over all processes"
    )
    pad_to_multiple_of: int | None = _option(None, "round the padded length up to a multiple, e.g. 8 on GPUs")
    packed: bool | None = _option(
        None,
        "lay the cells of a batch end to end in one row, without padding, in random order; by default on a CPU, where "
        "cells have 256 genes or more on average and are not streamed",
    )
    token_budget: int | None = _option(
        None, "with packed: cells a batch by their tokens, at most so many, in place of per_device_train_batch_size"
    )
    streaming: bool = _option(
        False, "read the cells' shards as training goes, for more cells than memory holds; needs max_steps"
    )
    buffer_cells: int = _option(16_384, "with streaming: cells that are shuffled and grouped by length together")
    maximum_held_out_cells: int = _option(10_000, "with streaming: held-out cells to evaluate on, at most")
    skip_corrupt_shards: bool = _option(
        False, "with streaming: leave out shards that cannot be read, counted and named"
    )


@dataclass
class PretrainingArguments(TrainingArguments):
    """transformers' own, with defaults for training from scratch, and `resume`."""

    learning_rate: float = _option(1e-3, "peak of the learning rate")
    weight_decay: float = _option(0.001, "weight decay of AdamW")
    warmup_steps: float = _option(0.05, "steps of linear warm-up, or below 1 their share of all steps")
    per_device_train_batch_size: int = _option(12, "cells a step and process")
    per_device_eval_batch_size: int = _option(32, "held-out cells a step and process")
    num_train_epochs: float = _option(3.0, "passes over the cells")
    save_total_limit: int | None = _option(2, "checkpoints to keep")
    ddp_broadcast_buffers: bool | None = _option(
        False, "send buffers to all processes each step; they are the DNA features, alike on all, and large"
    )
    resume: bool = _option(False, "go on from the last whole checkpoint in output_dir, if there is one")
    peak_tflops: float | None = _option(
        None, "dense peak of a device in TFLOP/s, by which utilisation is told; by the device's name where it is known"
    )


Arguments = tuple[ModelArguments, DataArguments, PretrainingArguments, DNAEncoderArguments]


def parse_arguments(arguments: Sequence[str] | None = None) -> Arguments:
    """Flags, or a YAML file, or a YAML file and flags that override it: `run_mlm.py config.yaml --seed 3`.

    Raises:
        FileNotFoundError: where the YAML file does not exist.
        ValueError: where it has keys that are no options.
    """
    kinds = (ModelArguments, DataArguments, PretrainingArguments, DNAEncoderArguments)
    model, data, training, dna_encoder = parse_yaml_and_flags(kinds, arguments)
    return model, data, training, dna_encoder


def parse_yaml_and_flags(kinds: tuple[type, ...], arguments: Sequence[str] | None = None) -> tuple[Any, ...]:
    """The same for any dataclasses of options: one of each."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = HfArgumentParser(kinds)  # type: ignore[arg-type]
    if arguments and arguments[0].endswith((".yaml", ".yml")):
        settings = read_yaml(Path(arguments.pop(0)))
        known = {action.dest for action in parser._actions}
        unknown = sorted(set(settings) - known)
        if unknown:
            raise ValueError(f"unknown options in the YAML file: {', '.join(unknown)}; --help lists the known ones")
        # As strings they pass through the same types as flags: YAML itself reads 1e-3 as a string.
        parser.set_defaults(**{key: _as_default(value) for key, value in settings.items()})
    return tuple(parser.parse_args_into_dataclasses(arguments))


def read_yaml(path: Path) -> dict[str, Any]:
    """Options of a YAML file.

    Raises:
        FileNotFoundError: where it does not exist.
        ValueError: where it holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no YAML file of options at {path}")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected options as `key: value`")
    return content


def _as_default(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
