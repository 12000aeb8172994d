"""Published Geneformer checkpoints to this package's format, and back.

Source: Theodoris et al. 2023; the checkpoints are transformers' BertForMaskedLM, which is the adapter-free model of
Bio-DTA under the same tensor names. What config.json leaves out is BERT's default, never Bio-DTA's; every tensor is
accounted for; and no pickle is unpacked beyond tensors, so that the dictionaries must be JSON.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelCardData
from transformers import BertForMaskedLM

from ..modeling.configuration_bio_dta import BioDTAConfig
from ..modeling.modeling_bio_dta import BioDTAForMaskedLM
from ..modeling.tokenization_gene_rank import GeneRankTokenizer
from .pretraining_output import add_perturbation_pipeline, write_json, write_whole
from .published_checkpoint import PublishedCheckpoint, read_tensors
from .published_geneformer_config import bio_dta_config, to_published_config
from .published_geneformer_files import Dictionaries, open_geneformer, read_dictionaries
from .published_nucleotide_transformer_names import canonical_names

logger = logging.getLogger(__name__)

_TEMPLATE = ("omics_transformers.model_cards", "converted_geneformer.md")
_EMBEDDINGS, _DECODER = "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"
_BIAS, _DECODER_BIAS = "cls.predictions.bias", "cls.predictions.decoder.bias"
# Of other versions of transformers, and of BERT's second task: no masked gene's logits read them.
_UNUSED = (
    "bert.embeddings.position_ids",
    "bert.embeddings.token_type_ids",
    "bert.pooler.dense.weight",
    "bert.pooler.dense.bias",
    "cls.seq_relationship.weight",
    "cls.seq_relationship.bias",
)


@dataclass(frozen=True)
class GeneformerReport:
    """What became of a checkpoint.

    Attributes:
        source: folder or Hub repository, with subfolder and revision where given.
        genes: in the vocabulary, its special tokens apart.
        special_tokens: `<pad>` and `<mask>`, and in the second version `<cls>` and `<eos>`.
        tensors: number of published tensors that were carried over.
        parameters: numbers in the model.
        unused_tensors: published tensors that no computation reads, by name.
        unused_config_fields: fields of config.json that have no meaning here.
        has_medians: without them, cells must be tokenised already.
        symbols: genes with a known symbol.
        dtypes: published tensors by data type.
        dtype: of the converted model.
    """

    source: str
    genes: int
    special_tokens: list[str]
    tensors: int
    parameters: int
    unused_tensors: list[str] = field(default_factory=list)
    unused_config_fields: list[str] = field(default_factory=list)
    has_medians: bool = True
    symbols: int = 0
    dtypes: dict[str, int] = field(default_factory=dict)
    dtype: str = "float32"


def convert_geneformer(
    source: str | Path,
    output: str | Path,
    *,
    subfolder: str | None = None,
    revision: str | None = None,
    token_dictionary: str | Path | Mapping[str, int] | None = None,
    gene_medians: str | Path | Mapping[str, float] | None = None,
    gene_symbols: str | Path | Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> GeneformerReport:
    """Convert a Geneformer, first or second version, to an adapter-free Bio-DTA with its tokenizer and a card.

    Args:
        source: folder with config.json and the weights, or the id of a repository on the Hub.
        output: folder to write, which the Auto classes and `perturb` read.
        subfolder: of the source that holds the model, e.g. "Geneformer-V1-10M".
        revision: branch, tag or commit on the Hub.
        token_dictionary: JSON or JSON.gz, gene id -> token id; token_dictionary.json beside the weights where None.
        gene_medians: JSON or JSON.gz, gene id -> median, needed to rank counts; gene_medians.json where None.
        gene_symbols: JSON or JSON.gz, gene id -> symbol or, as Geneformer has it, symbol -> gene id;
            gene_symbols.json where None.
        dtype: of the converted weights; theirs where None, and the widest one where they are mixed.
        overwrite: replace the model in `output`.

    Raises:
        FileExistsError: where `output` holds a model and `overwrite` is false.
        FileNotFoundError: where the checkpoint, or its token dictionary, is not there.
        ValueError: where it is no such model, naming the tensors that are missing, unexpected or of another shape;
            where a dictionary is a pickle, or does not fit the model.
    """
    output = Path(output)
    if (output / "config.json").exists() and not overwrite:
        raise FileExistsError(f"{output} holds a model: name another folder, or pass overwrite to replace it")
    checkpoint = open_geneformer(source, subfolder=subfolder, revision=revision)
    dictionaries = read_dictionaries(
        checkpoint.folder, token_dictionary=token_dictionary, gene_medians=gene_medians, gene_symbols=gene_symbols
    )
    config, unused_config_fields = bio_dta_config(checkpoint.config, dictionaries.tokens)
    tokenizer = _tokenizer(dictionaries, config)
    tensors = _with_canonical_names(read_tensors(checkpoint.folder))
    with torch.random.fork_rng():  # the random weights, soon replaced, leave the caller's generator as it was
        model = BioDTAForMaskedLM(config).eval()
    state, unused_tensors = our_state_dict(tensors, model)
    dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in state.values())
    dtype = dtype or reduce(torch.promote_types, (tensor.dtype for tensor in state.values()))
    model.load_state_dict(state, strict=True)
    model.tie_weights()
    model.to(dtype)
    report = GeneformerReport(
        source=checkpoint.source + (f" at revision {revision}" if revision else ""),
        genes=config.vocab_size - config.num_special_tokens,
        special_tokens=dictionaries.tokens[: config.num_special_tokens],
        tensors=len(tensors) - len(unused_tensors),
        parameters=model.num_parameters(),
        unused_tensors=unused_tensors,
        unused_config_fields=unused_config_fields,
        has_medians=bool(dictionaries.gene_medians),
        symbols=len(dictionaries.gene_symbols),
        dtypes=dict(dtypes),
        dtype=str(dtype).removeprefix("torch."),
    )
    _log(report)
    output.mkdir(parents=True, exist_ok=True)
    write_whole(output, lambda folder: _write(folder, model, tokenizer, checkpoint, report))
    return report


def our_state_dict(
    tensors: Mapping[str, torch.Tensor], model: BioDTAForMaskedLM
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Published tensors that our model takes, under the same names, and those that are known to be unused.

    Args:
        tensors: by published name.
        model: ours; its names and shapes are what is expected.

    Raises:
        ValueError: naming the tensors that are missing, unexpected, or of another shape.
    """
    given = _with_shared_tensors(tensors, is_tied=bool(model.config.tie_word_embeddings))
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    unused = sorted(
        tensors.keys() & {*_UNUSED, *({_BIAS} if _BIAS not in expected and _DECODER_BIAS in tensors else ())}
    )
    missing = sorted(expected.keys() - given.keys())
    unexpected = sorted(given.keys() - expected.keys() - {*unused, *_UNUSED, _BIAS})
    misshapen = [
        f"{name} {tuple(given[name].shape)} (expected {tuple(shape)})"
        for name, shape in expected.items()
        if name in given and given[name].shape != shape
    ]
    if missing or unexpected or misshapen:
        problems = (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        found = "; ".join(f"{len(names)} {problem}: {_some(names)}" for problem, names in problems if names)
        headless = not any(name.startswith("cls.predictions.") for name in tensors)
        remedy = (
            "it has no head for masked genes, as a fine-tuned or bare encoder: give the pre-trained model"
            if headless
            else "the weights are not whole, or belong to another config.json"
        )
        raise ValueError(f"the tensors are not those of a BertForMaskedLM with this config.json: {found}; {remedy}")
    return {name: given[name] for name in expected}, unused


def to_published_state_dict(model: BioDTAForMaskedLM) -> dict[str, torch.Tensor]:
    """The tensors of an adapter-free model by their names in BertForMaskedLM: the way back, without what was unused."""
    state = dict(model.state_dict())
    return state | {_BIAS: state[_DECODER_BIAS]}


def publish_geneformer(source: str | Path, output: str | Path, *, overwrite: bool = False) -> None:
    """Write an adapter-free Bio-DTA as Geneformer is published: a BertForMaskedLM with the dictionaries as JSON.

    Args:
        source: folder or Hub repository of the model, e.g. one that `convert_geneformer` or `run_mlm.py` wrote.
        output: folder for config.json, model.safetensors, token_dictionary.json, gene_medians.json, gene_symbols.json.
        overwrite: replace the model in `output`.

    Raises:
        FileExistsError: where `output` holds a model and `overwrite` is false.
        ValueError: where the model has an adapter, which BERT has not.
    """
    output = Path(output)
    if (output / "config.json").exists() and not overwrite:
        raise FileExistsError(f"{output} holds a model: name another folder, or pass overwrite to replace it")
    model = BioDTAForMaskedLM.from_pretrained(source)
    tokenizer = GeneRankTokenizer.from_pretrained(source)
    published: Any = BertForMaskedLM(to_published_config(model.config))
    published.to(model.dtype)
    published.load_state_dict(to_published_state_dict(model), strict=True)
    output.mkdir(parents=True, exist_ok=True)

    def write(folder: Path) -> None:
        published.save_pretrained(folder)
        write_json(folder / "token_dictionary.json", tokenizer.get_vocab())
        for name, content in (("gene_medians", tokenizer.gene_medians), ("gene_symbols", tokenizer.gene_symbols)):
            if content:
                write_json(folder / f"{name}.json", content)

    write_whole(output, write)


def _with_canonical_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Layer norms' `gamma` and `beta`, in files that passed through early versions, are weight and bias."""
    names = canonical_names(tensors)
    return {names[name]: tensor for name, tensor in tensors.items()}


def _with_shared_tensors(tensors: Mapping[str, torch.Tensor], *, is_tied: bool) -> dict[str, torch.Tensor]:
    """With those that files leave out because they are others' twins: the decoder's weight, and one of its biases."""
    given = dict(tensors)
    pairs = [(_BIAS, _DECODER_BIAS), *([(_EMBEDDINGS, _DECODER)] if is_tied else [])]
    for one, other in pairs:
        if one in given and other in given and is_tied and not torch.equal(given[one], given[other]):
            raise ValueError(
                f"config.json ties {other} to {one}, and the two differ: set tie_word_embeddings to false in "
                "config.json if the decoder has weights of its own"
            )
    if _DECODER_BIAS not in given and _BIAS in given:
        given[_DECODER_BIAS] = given[_BIAS]
    if _BIAS not in given and _DECODER_BIAS in given:
        given[_BIAS] = given[_DECODER_BIAS]
    if is_tied and _DECODER not in given and _EMBEDDINGS in given:
        given[_DECODER] = given[_EMBEDDINGS]
    return given


def _tokenizer(dictionaries: Dictionaries, config: BioDTAConfig) -> GeneRankTokenizer:
    ids = {token: number for number, token in enumerate(dictionaries.tokens)}
    return GeneRankTokenizer.from_dictionaries(
        ids,
        dictionaries.gene_medians or None,
        dictionaries.gene_symbols or None,
        model_max_length=config.max_position_embeddings,
    )


def _log(report: GeneformerReport) -> None:
    logger.info("%s: %d tensors carried over, %d genes", report.source, report.tensors, report.genes)
    if len(report.dtypes) > 1:
        found = ", ".join(f"{count} of {name}" for name, count in report.dtypes.items())
        logger.warning("the weights have several data types (%s): all become %s", found, report.dtype)
    if not report.has_medians:
        logger.warning("no gene medians were given: counts cannot be ranked, only cells that are tokenised already")
    for what, names in (("tensors", report.unused_tensors), ("fields of config.json", report.unused_config_fields)):
        if names:
            logger.info("left out, since the model has no use for them: %d %s (%s)", len(names), what, _some(names))


def _write(
    folder: Path,
    model: BioDTAForMaskedLM,
    tokenizer: GeneRankTokenizer,
    checkpoint: PublishedCheckpoint,
    report: GeneformerReport,
) -> None:
    add_perturbation_pipeline(model, folder)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="fill-mask",
        tags=["biology", "single-cell", "transcriptomics", model.config.model_type],
        **_published_license(checkpoint.folder),
    )
    with as_file(files(_TEMPLATE[0]) / _TEMPLATE[1]) as template:
        card = ModelCard.from_template(
            data,
            template_path=str(template),
            report=report,
            config=model.config,
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
