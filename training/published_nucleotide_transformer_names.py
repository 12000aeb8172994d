"""Tensor names of the published Nucleotide Transformer and SegmentNT, and ours, as one table for both directions.

Source: the names in the published PyTorch files. A row is a tensor, or a module whose weight and bias are meant; {}
stands for a number, in order.
"""

import re
from collections.abc import Iterable

# published: ours
NAMES = {
    "esm.embeddings.word_embeddings": "encoder.embeddings.word_embeddings",
    "esm.embeddings.position_embeddings": "encoder.embeddings.position_embeddings",
    "esm.embeddings.layer_norm": "encoder.embeddings.layer_norm",
    "esm.encoder.layer.{}.attention.LayerNorm": "encoder.layers.{}.attention_norm",
    "esm.encoder.layer.{}.attention.self.query": "encoder.layers.{}.attention.query",
    "esm.encoder.layer.{}.attention.self.key": "encoder.layers.{}.attention.key",
    "esm.encoder.layer.{}.attention.self.value": "encoder.layers.{}.attention.value",
    "esm.encoder.layer.{}.attention.output.dense": "encoder.layers.{}.attention.output",
    "esm.encoder.layer.{}.LayerNorm": "encoder.layers.{}.feed_forward_norm",
    "esm.encoder.layer.{}.intermediate.dense": "encoder.layers.{}.feed_forward.input",
    "esm.encoder.layer.{}.output.dense": "encoder.layers.{}.feed_forward.output",
    "esm.encoder.emb_layer_norm_after": "encoder.final_norm",
    "lm_head.dense": "lm_head.dense",
    "lm_head.layer_norm": "lm_head.layer_norm",
    "lm_head.decoder.weight": "lm_head.decoder.weight",
    "lm_head.bias": "lm_head.decoder.bias",
    "unet._downsample_blocks.{}.conv_layers.{}": "unet.down.{}.convolutions.{}",
    "unet._upsample_blocks.{}.conv_layers.{}": "unet.up.{}.convolutions.{}",
    "unet.final_block.conv_layers.{}": "unet.final.convolutions.{}",
    "fc": "classifier",
}

# Of layer norms, in files that passed through other versions of transformers.
_OTHER_PARAMETER_NAMES = {"gamma": "weight", "beta": "bias"}
# Published tensors that no computation of ours, nor of theirs with the same configuration, reads.
_UNUSED = (
    r"esm\.embeddings\.position_ids",
    r"esm\.(encoder\.layer\.(\d+|\*)\.attention\.self\.)?rotary_embeddings\.inv_freq",
    r"esm\.contact_head\.regression\.(weight|bias)",
    r"esm\.pooler\.dense\.(weight|bias)",
)
_UNUSED_WITH_ROTARY_POSITIONS = r"esm\.embeddings\.position_embeddings\.weight"
_UNUSED_BY_SEGMENT_NT = r"lm_head\.(dense|layer_norm|decoder)\.(weight|bias)|lm_head\.bias"

_OURS = {ours: published for published, ours in NAMES.items()}


def canonical_names(names: Iterable[str]) -> dict[str, str]:
    """Names as they are in a file -> as they are in the table: layer norms' `gamma` is their weight, `beta` their bias.

    Raises:
        ValueError: where a file has a tensor under both names.
    """
    canonical = {}
    for name in names:
        module, _, parameter = name.rpartition(".")
        is_norm = module.endswith(("LayerNorm", "layer_norm", "layer_norm_after"))
        canonical[name] = f"{module}.{_OTHER_PARAMETER_NAMES.get(parameter, parameter)}" if is_norm else name
    twice = sorted(name for name, other in canonical.items() if name != other and other in canonical)
    if twice:
        raise ValueError(f"the weights hold {twice[0]} and {canonical[twice[0]]}, which are one tensor: remove one")
    return canonical


def our_name(published: str) -> str:
    """The name of a published tensor in our models.

    Raises:
        KeyError: where the table has no such name.
    """
    return _renamed(published, NAMES)


def published_name(ours: str) -> str:
    """The published name of a tensor of our models, `encoder.` included.

    Raises:
        KeyError: where the table has no such name.
    """
    return _renamed(ours, _OURS)


def unused_names(names: Iterable[str], *, is_rotary: bool, is_segment_nt: bool) -> list[str]:
    """Those of the published names that are known to be of no use to the model."""
    patterns = [*_UNUSED]
    patterns += [_UNUSED_WITH_ROTARY_POSITIONS] * is_rotary + [_UNUSED_BY_SEGMENT_NT] * is_segment_nt
    unused = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    return sorted(name for name in names if unused.fullmatch(name))


def _renamed(name: str, table: dict[str, str]) -> str:
    numbers = re.findall(r"(?<=\.)\d+(?=\.|$)", name)
    pattern = re.sub(r"(?<=\.)\d+(?=\.|$)", "{}", name)
    module, _, parameter = pattern.rpartition(".")
    if parameter not in ("weight", "bias") or not {pattern, module} & table.keys():
        raise KeyError(name)
    if pattern in table:
        return table[pattern].format(*numbers)
    return f"{table[module].format(*numbers)}.{parameter}"
