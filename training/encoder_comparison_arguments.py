"""What a comparison of encoders can be told: the flags of run_encoder_comparison.py, and the YAML files of its runs."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from transformers import HfArgumentParser

from .encoder_arguments import NO_ENCODER, option
from .encoder_setup import ENCODER_SIZES
from .pretraining_arguments import read_yaml
from .ranking_arguments import RankingArguments, RankingDataArguments, RankingModelArguments
from .segmentation_arguments import SegmentationArguments, SegmentationDataArguments, SegmentationModelArguments

HEADS = ("linear", "transformer", "unet", "convolutional")
_SET_FOR_ALL = (
    "encoder",
    "encoder_revision",
    "random_weights",
    "output_dir",
    "seed",
    "resume",
    "resume_from_checkpoint",
)
_SET_FOR_RANKING = (*_SET_FOR_ALL, "regions", "scorer_head", "freeze_encoder")
_SET_FOR_SEGMENTATION = (*_SET_FOR_ALL, "segments")


@dataclass
class ComparisonArguments:
    """Data, the encoder, and what is compared."""

    regions: str | None = option(None, "folder that `build regions` wrote: heads and the original ATAC-aware encoder")
    segments: str | None = option(None, "folder that `build segments` wrote (required)")
    output_dir: str | None = option(
        None, "folder for runs, tables and figures (required); a stopped comparison goes on"
    )
    regions_without_duplicates: str | None = option(
        None,
        "another, built with random padding and without seen regions: the second ATAC-aware encoder; none by default",
    )
    encoder: str | None = option(
        None, "folder or Hub repository of the encoder that all start from; random weights where none is given"
    )
    encoder_revision: str | None = option(None, "revision of the Hub repository")
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2],
        metadata={"help": "of the runs; heads are compared with the first, encoders with each"},
    )
    heads: list[str] = field(
        default_factory=lambda: [*HEADS], metadata={"help": "heads to compare; all four by default"}
    )
    skip_heads: bool = option(
        False, "leave out the comparison of heads; transfer_head is then convolutional by default"
    )
    transfer_head: Literal["linear", "transformer", "unet", "convolutional"] | None = option(
        None, "head that the ATAC-aware encoders are trained with; the best on validation rows by default"
    )
    ranking_config: str | None = option(None, "YAML file of options of run_region_ranking.py")
    segmentation_config: str | None = option(None, "YAML file of options of run_segmentation.py")
    launcher: str | None = option(
        None, 'command that runs a module, for example "torchrun --nproc-per-node=4"; this Python by default'
    )

    def __post_init__(self) -> None:
        if self.encoder == NO_ENCODER:
            self.encoder = None
        missing = [name for name in ("regions", "segments", "output_dir") if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{', '.join(missing)} not set: give {', '.join(f'--{name}' for name in missing)}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds are {self.seeds}: expected at least one, each once")
        if not self.heads or len(set(self.heads)) < len(self.heads) or set(self.heads) - set(HEADS):
            raise ValueError(f"heads are {self.heads}: expected some of {', '.join(HEADS)}, each once")
        if self.skip_heads and self.transfer_head is None:
            self.transfer_head = "convolutional"


class RunOptions(NamedTuple):
    """Options of all runs of a kind, from their YAML files."""

    ranking: dict[str, Any]
    segmentation: dict[str, Any]


def parse_comparison_arguments(arguments: Sequence[str] | None = None) -> ComparisonArguments:
    """The flags."""
    (parsed,) = HfArgumentParser(ComparisonArguments).parse_args_into_dataclasses(arguments)  # type: ignore[arg-type]
    return parsed


def read_run_options(arguments: ComparisonArguments) -> RunOptions:
    """The YAML files of both kinds of runs.

    Raises:
        FileNotFoundError: where a file does not exist.
        ValueError: where it has keys that are no options, that the comparison sets itself, or sizes that it takes from
            the encoder.
    """
    ranking = _options(
        arguments.ranking_config, (RankingModelArguments, RankingDataArguments, RankingArguments), _SET_FOR_RANKING
    )
    segmentation = _options(
        arguments.segmentation_config,
        (SegmentationModelArguments, SegmentationDataArguments, SegmentationArguments),
        _SET_FOR_SEGMENTATION,
    )
    for path, options, allowed in (
        (arguments.ranking_config, ranking, arguments.encoder is None),
        (arguments.segmentation_config, segmentation, False),
    ):
        sizes = [name for name in ENCODER_SIZES if options.get(name) is not None]
        if sizes and not allowed:
            source = arguments.encoder or "the region rankers, and so from ranking_config"
            raise ValueError(f"{path} sets {', '.join(sizes)}: all encoders take their sizes from {source}")
    return RunOptions(ranking, segmentation)


def _options(path: str | None, kinds: tuple[type, ...], set_here: Sequence[str]) -> dict[str, Any]:
    if path is None:
        return {}
    options = read_yaml(Path(path))
    known = {one.name for kind in kinds for one in dataclasses.fields(kind)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ValueError(f"unknown options in {path}: {', '.join(unknown)}")
    taken = sorted(set(options) & set(set_here))
    if taken:
        raise ValueError(f"{path} sets {', '.join(taken)}, which the comparison sets for each run: leave them out")
    return options
