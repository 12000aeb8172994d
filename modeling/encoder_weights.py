"""Encoders that pass from one model to another: what models with a Nucleotide Transformer and a head share.

Read from safetensors only. Names and shapes of all tensors are compared before any is taken, and so are the choices in
the configuration that change what weights mean and not their shapes.
"""

import json
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open

from .configuration_nucleotide_transformer import NucleotideTransformerConfig
from .modeling_nucleotide_transformer import NucleotideTransformerModel


class TransferableEncoder:
    """For models that have a Nucleotide Transformer as `encoder`: take another model's, or hold it fast."""

    config: NucleotideTransformerConfig
    encoder: NucleotideTransformerModel

    def load_encoder(self, source: str | Path, *, revision: str | None = None) -> None:
        """Take the encoder's weights from another model of this package.

        Args:
            source: folder or Hub repository of a model that has the encoder, alone or as `encoder.`: a Nucleotide
                Transformer, a SegmentNT, a region ranker. Read from safetensors only.
            revision: of the Hub repository.

        Raises:
            FileNotFoundError: where there are no safetensors.
            ValueError: naming the tensors that are missing, unexpected, or of another shape.
        """
        folder = Path(source)
        if not folder.is_dir():
            patterns = ["*.safetensors", "*.safetensors.index.json", "config.json"]
            folder = Path(snapshot_download(str(source), revision=revision, allow_patterns=patterns))
        _check_encoder_config(folder, self.config)
        state = _read_encoder(folder)
        expected = {name: tensor.shape for name, tensor in self.encoder.state_dict().items()}
        missing = sorted(expected.keys() - state.keys())
        unexpected = sorted(state.keys() - expected.keys())
        misshapen = [
            f"{name} {tuple(state[name].shape)}, expected {tuple(shape)}"
            for name, shape in expected.items()
            if name in state and state[name].shape != shape
        ]
        if missing or unexpected or misshapen:
            raise ValueError(
                f"the encoder in {folder} does not fit this model: missing {_some(missing)}; unexpected "
                f"{_some(unexpected)}; of another shape {_some(misshapen)}. Make the model with that encoder's sizes"
            )
        self.encoder.load_state_dict(state)

    def freeze_encoder(self) -> None:
        """Train the head only."""
        self.encoder.requires_grad_(False)


def _read_encoder(folder: Path) -> dict[str, torch.Tensor]:
    """The encoder's tensors by their names within it, from all safetensors of a folder."""
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise FileNotFoundError(
            f"no model*.safetensors in {folder}: give a folder that save_pretrained or "
            "`omics-transformers convert` wrote"
        )
    state: dict[str, torch.Tensor] = {}
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            state |= {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 (not a dict)
    prefix = "encoder."
    if any(name.startswith(prefix) for name in state):
        return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    return state


def _check_encoder_config(folder: Path, config: NucleotideTransformerConfig) -> None:
    """Fields that change what the weights mean without changing their shapes."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"no config.json in {folder}: its encoder's choices cannot be checked")
    found = json.loads(path.read_text(encoding="utf-8"))
    fields = ("num_attention_heads", "position_embedding_type", "hidden_act", "kmer_size", "token_dropout")
    differing = [
        f"{name} {found[name]!r} (here {getattr(config, name)!r})"
        for name in fields
        if name in found and found[name] != getattr(config, name)
    ]
    if differing:
        raise ValueError(f"the encoder in {folder} was made with other choices: {'; '.join(differing)}")


def _some(names: list[str], limit: int = 5) -> str:
    if not names:
        return "none"
    return ", ".join(names[:limit]) + (f", ... ({len(names) - limit} more)" if len(names) > limit else "")
