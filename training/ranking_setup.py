"""What a region-ranking run trains on, and the model that it trains.

Regions with more tokens than the model takes are cut at their end; they are counted, logged and reported.
"""

import dataclasses
import logging

import numpy as np
import numpy.typing as npt
from peft import PeftModel

from ..modeling.configuration_nt_region_ranker import NTRegionRankerConfig
from ..modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from ..modeling.modeling_nt_region_ranker import NTRegionRanker
from ..modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from .encoder_setup import encoder_fields, prepare_encoder, rescale_positions
from .parquet_folder import SPLITS, evenly_spaced
from .ranking_arguments import RankingDataArguments, RankingModelArguments
from .ranking_data import RegionFolder, RegionRankingDataset

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class RankingData:
    """The rows of each use.

    Attributes:
        regions: the folder's content.
        training: rows; the collator augments them.
        validation, test: in groups; None where the folder has no such split.
        during_training: the rows of `validation` that are evaluated while training.
        report: rows by split, and regions that are cut.
    """

    regions: RegionFolder
    training: RegionRankingDataset
    validation: RegionRankingDataset | None
    test: RegionRankingDataset | None
    during_training: RegionRankingDataset | None
    report: dict[str, int]


def prepare_ranking_data(
    arguments: RankingDataArguments, regions: RegionFolder, tokenizer: NucleotideKmerTokenizer, *, num_tokens: int
) -> RankingData:
    """Choose the rows of training, validation and test.

    Args:
        arguments: numbers of rows, and the length of blocks.
        regions: what `read_regions` read.
        tokenizer: of the model.
        num_tokens: that the model takes of a region, <cls> included.

    Raises:
        ValueError: where a number of rows is not positive.
    """
    most = {
        "train": ("maximum_training_rows", arguments.maximum_training_rows),
        "test": ("test_rows", arguments.test_rows),
    }
    numbers = {split: np.arange(len(rows)) for split, rows in regions.splits.items()}
    for split, (option, value) in most.items():
        if split in numbers:
            numbers[split] = evenly_spaced(numbers[split], value, option=option)
    report: dict[str, int] = {}
    for split in numbers:
        _report(split, regions, numbers[split], tokenizer, num_tokens, report)
    for split in SPLITS[1:]:
        if split not in regions.splits:
            logger.warning("the folder has no %s rows: nothing is said of them", split)
    datasets = {split: RegionRankingDataset(regions.splits[split], chosen) for split, chosen in numbers.items()}
    evaluated = {split: datasets[split].in_groups(arguments.block_bp) for split in SPLITS[1:] if split in datasets}
    validation = evaluated.get("validation")
    return RankingData(
        regions,
        datasets["train"],
        validation,
        evaluated.get("test"),
        None if validation is None else _during_training(validation, arguments),
        report,
    )


def make_ranking_config(
    arguments: RankingModelArguments, regions: RegionFolder, tokenizer: NucleotideKmerTokenizer
) -> NTRegionRankerConfig:
    """Sizes from the encoder or the arguments, and the head's fields; positions are rescaled if need be.

    Raises:
        ValueError: where sizes are given beside an encoder, the encoder is none of this package, its positions are too
            few and cannot be rescaled, or head, loss and sizes do not fit.
    """
    fields = encoder_fields(arguments)
    num_tokens = arguments.num_tokens or regions.span_bp // tokenizer.kmer_size + 1
    encoder = NucleotideTransformerConfig(**fields)
    rescale_positions(
        encoder,
        num_tokens,
        inputs="regions",
        mend=f"set num_tokens to at most {encoder.max_tokens:,}, or build shorter spans",
    )
    lengths = regions.splits["train"].region_lengths()
    own = ("scorer_head", "ranking_loss", "ranking_labels")
    return NTRegionRankerConfig(
        **fields
        | {name: getattr(arguments, name) for name in own}
        | {"rescaling_factor": encoder.rescaling_factor, "num_tokens": num_tokens},
        cell_types=regions.cell_types if arguments.condition_on_cell_type else None,
        region_bp=int(np.median(lengths)),
        span_bp=regions.span_bp,
    )


def make_ranking_model(
    arguments: RankingModelArguments, config: NTRegionRankerConfig, *, seed: int = 0
) -> NTRegionRanker | PeftModel:
    """The model as the arguments say; see `prepare_encoder`."""
    head = ["scorer"] if config.cell_types is None else ["scorer", "cell_type_embeddings"]
    prepared = prepare_encoder(NTRegionRanker(config), arguments, head=head, seed=seed)
    assert isinstance(prepared, NTRegionRanker | PeftModel)
    return prepared


def _report(
    split: str,
    regions: RegionFolder,
    numbers: npt.NDArray[np.int64],
    tokenizer: NucleotideKmerTokenizer,
    num_tokens: int,
    report: dict[str, int],
) -> None:
    rows = regions.splits[split]
    report[f"{split}_rows"] = len(numbers)
    report[f"{split}_rows_not_used"] = len(rows) - len(numbers)
    is_used = np.zeros(len(rows), dtype=bool)
    is_used[numbers] = True
    beyond = rows.region_tokens(tokenizer) - num_tokens
    is_cut = (beyond > 0) & np.repeat(is_used, rows.regions)
    report[f"{split}_regions_cut"] = cut = int(is_cut.sum())
    if cut:
        report[f"{split}_tokens_cut"] = int(beyond[is_cut].sum())
        first = int(np.searchsorted(np.cumsum(rows.regions), is_cut.argmax(), side="right"))
        logger.warning(
            "%d of %d %s regions have more than %d tokens and are cut at their end, %d tokens in all, first in %s",
            cut,
            int(rows.regions[numbers].sum()),
            split,
            num_tokens,
            report[f"{split}_tokens_cut"],
            rows.place(first),
        )


def _during_training(validation: RegionRankingDataset, arguments: RankingDataArguments) -> RegionRankingDataset:
    places = evenly_spaced(np.arange(len(validation)), arguments.validation_rows, option="validation_rows")
    return validation.some_of(places)
