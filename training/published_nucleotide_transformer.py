"""Published PyTorch checkpoints of the Nucleotide Transformer and SegmentNT to this package's format, and back.

Source: the layout of the files on the Hub, whose model type `esm` is also that of a class of transformers with another
feed-forward network. Names are translated by a table, every tensor is accounted for, and no code of theirs is run.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelCardData
from transformers import PreTrainedModel

from ..modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from ..modeling.configuration_segment_nt import SegmentNTConfig
from ..modeling.modeling_nucleotide_transformer import NucleotideTransformerForMaskedLM, NucleotideTransformerModel
from ..modeling.modeling_segment_nt import SegmentNTForTokenClassification
from ..modeling.nucleotide_kmers import SPECIAL_TOKEN, KmerVocabulary
from ..modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from .pretraining_output import write_whole
from .published_checkpoint import PublishedCheckpoint, open_checkpoint, read_tensors
from .published_nucleotide_transformer_configs import is_segment_nt, nucleotide_transformer_config, segment_nt_config
from .published_nucleotide_transformer_names import canonical_names, published_name, unused_names

logger = logging.getLogger(__name__)

_TEMPLATE = ("omics_transformers.model_cards", "converted_nucleotide_transformer.md")
_EMBEDDINGS, _DECODER = "esm.embeddings.word_embeddings.weight", "lm_head.decoder.weight"


@dataclass(frozen=True)
class ConversionReport:
    """What became of a checkpoint.

    Attributes:
        source: folder or Hub repository, with the revision where one was given.
        model_class: what the folder holds now.
        tensors: number of published tensors that were carried over.
        parameters: numbers in them.
        unused_tensors: published tensors that no computation reads, by name.
        unused_config_fields: fields of config.json that have no meaning here.
        unused_tokens: tokens at the end of vocab.txt for which the model has no embedding.
        dtypes: published tensors by data type.
        dtype: of the converted model.
    """

    source: str
    model_class: str
    tensors: int
    parameters: int
    unused_tensors: list[str] = field(default_factory=list)
    unused_config_fields: list[str] = field(default_factory=list)
    unused_tokens: list[str] = field(default_factory=list)
    dtypes: dict[str, int] = field(default_factory=dict)
    dtype: str = "float32"


def convert_nucleotide_transformer(
    source: str | Path,
    output: str | Path,
    *,
    revision: str | None = None,
    vocab_file: str | Path | None = None,
    elements: list[str] | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> ConversionReport:
    """Convert a Nucleotide Transformer (first or second version) or a SegmentNT, and write model, tokenizer and card.

    Args:
        source: folder with config.json, vocab.txt and the weights (safetensors or pytorch_model.bin, in shards or
            not), or the id of a repository on the Hub.
        output: folder to write, which the Auto classes read.
        revision: branch, tag or commit on the Hub.
        vocab_file: vocab.txt, where it does not lie beside the weights.
        elements: names of SegmentNT's elements in the order of the logits, where config.json has no `features`.
        dtype: of the converted weights; theirs where None, and the widest one where they are mixed.
        overwrite: replace the model in `output`.

    Raises:
        FileExistsError: where `output` holds a model and `overwrite` is false.
        FileNotFoundError: where the checkpoint, or one of its files, is not there.
        ValueError: where it is no such model; naming the tensors that are missing, unexpected or of another shape.
    """
    output = Path(output)
    if (output / "config.json").exists() and not overwrite:
        raise FileExistsError(f"{output} holds a model: name another folder, or pass overwrite to replace it")
    checkpoint = open_checkpoint(source, revision=revision)
    vocabulary = _vocabulary(checkpoint, vocab_file)
    tensors = _with_canonical_names(read_tensors(checkpoint.folder), checkpoint.config)
    model, unused_config_fields = _empty_model(checkpoint, tensors, vocabulary, elements)
    state, unused_tensors = our_state_dict(tensors, model)
    dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in state.values())
    dtype = dtype or _widest(tensor.dtype for tensor in state.values())
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in state.items()}, strict=True, assign=True)
    model.tie_weights()
    report = ConversionReport(
        source=checkpoint.source + (f" at revision {revision}" if revision else ""),
        model_class=type(model).__name__,
        tensors=len(tensors) - len(unused_tensors),
        parameters=model.num_parameters(),
        unused_tensors=unused_tensors,
        unused_config_fields=unused_config_fields,
        unused_tokens=vocabulary.tokens[model.config.vocab_size :],
        dtypes=dict(dtypes),
        dtype=str(dtype).removeprefix("torch."),
    )
    _log(report)
    assert isinstance(model.config, NucleotideTransformerConfig)
    tokenizer = _tokenizer(vocabulary, model.config)
    output.mkdir(parents=True, exist_ok=True)
    write_whole(output, lambda folder: _write(folder, model, tokenizer, checkpoint, report))
    return report


def our_state_dict(
    tensors: Mapping[str, torch.Tensor], model: PreTrainedModel
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Published tensors under the names of our model, and the published ones that are known to be unused.

    Args:
        tensors: by published name.
        model: ours, also on the meta device; its names and shapes are what is expected.

    Raises:
        ValueError: naming the tensors that are missing, unexpected, or of another shape.
    """
    config = model.config
    given = dict(tensors)
    unused = unused_names(
        given,
        is_rotary=config.position_embedding_type == "rotary",
        is_segment_nt=config.model_type == SegmentNTConfig.model_type,
    )
    expected = {_published(name, model): (name, tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings and _DECODER in expected:
        _tie(given)
    missing = sorted(expected.keys() - given.keys())
    unexpected = sorted(given.keys() - expected.keys() - set(unused))
    misshapen = [
        f"{name} {tuple(given[name].shape)} (expected {tuple(shape)})"
        for name, (_, shape) in expected.items()
        if name in given and given[name].shape != shape
    ]
    if missing or unexpected or misshapen:
        problems = (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        found = "; ".join(f"{len(names)} {problem}: {_some(names)}" for problem, names in problems if names)
        raise ValueError(
            f"the tensors are not those of a {type(model).__name__} with this config.json: {found}. The weights are "
            "not whole, or belong to another configuration"
        )
    return {ours: given[name] for name, (ours, _) in expected.items()}, unused


def to_published_state_dict(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The tensors of our model by their published names: the way back, without what was unused."""
    return {_published(name, model): tensor for name, tensor in model.state_dict().items()}


def _published(name: str, model: PreTrainedModel) -> str:
    is_bare_encoder = isinstance(model, NucleotideTransformerModel)
    return published_name(f"encoder.{name}" if is_bare_encoder else name)


def _vocabulary(checkpoint: PublishedCheckpoint, vocab_file: str | Path | None) -> KmerVocabulary:
    path = Path(vocab_file) if vocab_file is not None else checkpoint.folder / "vocab.txt"
    if not path.is_file():
        raise FileNotFoundError(
            f"no vocabulary at {path}: the token ids of the first and second version differ, so give the model's own "
            "vocab.txt (vocab_file)"
        )
    vocabulary = KmerVocabulary.read(path)
    size = checkpoint.config.get("vocab_size")
    # The first version has <eos> and <bos> behind all tokens that have an embedding.
    surplus = vocabulary.tokens[size:] if isinstance(size, int) else []
    if not isinstance(size, int) or size > len(vocabulary.tokens) or not all(map(SPECIAL_TOKEN.fullmatch, surplus)):
        raise ValueError(
            f"{path} has {len(vocabulary.tokens):,} tokens, and vocab_size in config.json is {size}: give the "
            "vocab.txt and config.json of one model"
        )
    return vocabulary


def _with_canonical_names(tensors: dict[str, torch.Tensor], config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Under the names of the table; a bare encoder (EsmModel) has its tensors without `esm.`."""
    prefix = "esm." if "EsmModel" in (config.get("architectures") or []) else ""
    names = canonical_names(tensors)
    return {prefix + names[name].removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _empty_model(
    checkpoint: PublishedCheckpoint,
    tensors: Mapping[str, torch.Tensor],
    vocabulary: KmerVocabulary,
    elements: list[str] | None,
) -> tuple[PreTrainedModel, list[str]]:
    """Our model on the meta device, and the fields of the published configuration that it has no use for."""
    model_class: type[PreTrainedModel] = NucleotideTransformerForMaskedLM
    config: NucleotideTransformerConfig
    if is_segment_nt(checkpoint.config, tensors):
        config, unused = segment_nt_config(checkpoint.config, tensors, vocabulary, elements)
        model_class = SegmentNTForTokenClassification
    else:
        config, unused = nucleotide_transformer_config(checkpoint.config, tensors, vocabulary)
        is_bare = "EsmModel" in (checkpoint.config.get("architectures") or [])
        if is_bare and not any(name.startswith(("lm_head.", "esm.lm_head.")) for name in tensors):
            model_class = NucleotideTransformerModel
    with torch.device("meta"):
        return model_class(config).eval(), unused


def _tie(tensors: dict[str, torch.Tensor]) -> None:
    """Add the decoder that shares the embeddings' weights, in place."""
    embeddings, decoder = tensors.get(_EMBEDDINGS), tensors.get(_DECODER)
    if embeddings is None:
        return
    if decoder is not None and not torch.equal(decoder, embeddings):
        raise ValueError(
            f"config.json ties {_DECODER} to {_EMBEDDINGS}, and the two differ: set tie_word_embeddings to false in "
            "config.json if the decoder has weights of its own"
        )
    tensors[_DECODER] = embeddings


def _widest(dtypes: Any) -> torch.dtype:
    widest = torch.float16
    for number, dtype in enumerate(dtypes):
        widest = torch.promote_types(widest, dtype) if number else dtype
    return widest


def _tokenizer(vocabulary: KmerVocabulary, config: NucleotideTransformerConfig) -> NucleotideKmerTokenizer:
    longest = round(config.max_tokens * max(1.0, config.rescaling_factor or 1.0))
    return NucleotideKmerTokenizer(vocab=vocabulary.tokens[: config.vocab_size], model_max_length=longest)


def _log(report: ConversionReport) -> None:
    logger.info("%s: %d tensors carried over, %s", report.source, report.tensors, report.model_class)
    if len(report.dtypes) > 1:
        found = ", ".join(f"{count} of {name}" for name, count in report.dtypes.items())
        logger.warning("the weights have several data types (%s): all become %s", found, report.dtype)
    for what, names in (
        ("tensors", report.unused_tensors),
        ("fields of config.json", report.unused_config_fields),
        ("tokens without an embedding", report.unused_tokens),
    ):
        if names:
            logger.info("left out, since the model has no use for them: %d %s (%s)", len(names), what, _some(names))


def _write(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: NucleotideKmerTokenizer,
    checkpoint: PublishedCheckpoint,
    report: ConversionReport,
) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    is_segmentation = isinstance(model, SegmentNTForTokenClassification)
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="token-classification" if is_segmentation else "fill-mask",
        tags=["biology", "genomics", "DNA", model.config.model_type],
        **_published_license(checkpoint.folder),
    )
    with as_file(files(_TEMPLATE[0]) / _TEMPLATE[1]) as template:
        card = ModelCard.from_template(
            data,
            template_path=str(template),
            report=report,
            config=model.config,
            is_segmentation=is_segmentation,
            # The card is published: a local path is nobody's business.
            source=checkpoint.folder.name if Path(checkpoint.source).exists() else report.source,
        )
    card.save(folder / "README.md")


def _published_license(folder: Path) -> dict[str, Any]:
    """The licence that the published card names, which holds for the converted weights too."""
    path = folder / "README.md"
    found = ModelCard.load(path).data.to_dict() if path.is_file() else {}
    return {name: found[name] for name in ("license", "license_name", "license_link") if found.get(name)}


def _some(names: list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f", ... ({len(names) - limit} more)" if len(names) > limit else "")
