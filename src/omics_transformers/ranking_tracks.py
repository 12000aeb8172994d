"""The tracks of `rank`: which loci are scored step by step, the bigWig of their scores, and figures of them."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from .data_scripts.genomes import Genome
    from .pipelines.region_ranking import RegionRankingPipeline
    from .pipelines.region_ranking_run import ScoreSettings
    from .pipelines.region_ranking_track import StepCounts, TrackSettings
    from .pipelines.segmentation_input import Region
    from .pipelines.segmentation_tracks import TrackPiece

logger = logging.getLogger(__name__)

MOST_FIGURES = 20


@dataclass(frozen=True)
class Loci:
    """Loci to score, in the order of the genome, and how many steps each has.

    Attributes:
        genome: that holds them.
        regions: the loci; none share bases.
        counts: of the steps of each.
        settings: of the track.
    """

    genome: "Genome"
    regions: "list[Region]"
    counts: "list[StepCounts]"
    settings: "TrackSettings"

    @classmethod
    def read(
        cls,
        genome: "Genome",
        track: Sequence[str] | None,
        pipe: "RegionRankingPipeline",
        settings: "TrackSettings",
    ) -> "Loci":
        """Find the loci and read them once.

        Raises:
            ValueError: for unknown contigs, loci beyond them, or no step with a value.
        """
        from .segmentation_regions import find_regions

        regions = find_regions(genome, track, None) if track else []
        counts = [pipe.count_steps(region, genome, settings) for region in regions]
        if regions and not any(count.scored for count in counts):
            raise ValueError(
                f"no step of {', '.join(map(str, regions[:3]))} has a value: their regions of {settings.region_bp:,} "
                "bp are rich in N, or have more tokens than the model takes by their N. Name other loci, or raise "
                "maximum_unknown (--maximum-unknown)"
            )
        return cls(genome, regions, counts, settings)

    def pieces(self, pipe: "RegionRankingPipeline", settings: "ScoreSettings", bar: Any) -> "Iterator[TrackPiece]":
        """Scores of all loci in order, piece by piece; the bar is told how many steps are done."""
        for region in self.regions:
            yield from pipe.track_pieces(region, self.genome, self.settings, settings, advance=bar.update)

    def as_rows(self) -> list[dict[str, Any]]:
        """For a summary: each locus and its steps."""
        return [{"locus": str(one), **count.as_dict()} for one, count in zip(self.regions, self.counts, strict=True)]


def write_track(
    path: Path, loci: Loci, pipe: "RegionRankingPipeline", settings: "ScoreSettings", *, progress: bool
) -> None:
    """Score all loci into one bigWig, in bounded memory; its folder is made."""
    from tqdm import tqdm

    from .pipelines.segmentation_tracks import write_bigwig

    path.parent.mkdir(exist_ok=True)
    total = sum(count.scored for count in loci.counts)
    with tqdm(total=total, unit="step", desc="track", disable=not progress) as bar:
        write_bigwig(path, loci.genome.contigs, loci.pieces(pipe, settings, bar))


def draw_tracks(path: Path, loci: Loci, regions: "pd.DataFrame | None") -> dict[str, bytes]:
    """Figures of the first loci that are short enough.

    Args:
        path: of the bigWig.
        loci: that it holds.
        regions: with contig, start and end, drawn beneath.

    Returns:
        <contig>_<first>-<last> -> PNG bytes.
    """
    from .pipelines.region_ranking_figures import LARGEST_TRACK_BP, draw_track
    from .pipelines.segmentation_tracks import read_bigwig

    chosen = [region for region in loci.regions if region.end - region.start <= LARGEST_TRACK_BP]
    chosen = chosen[:MOST_FIGURES]
    if len(chosen) < len(loci.regions):
        logger.warning(
            "%d of %d loci are drawn: the first %d of at most %d bp; a genome browser shows the others",
            len(chosen),
            len(loci.regions),
            MOST_FIGURES,
            LARGEST_TRACK_BP,
        )
    figures = {}
    for contig, start, end in chosen:
        name = f"{contig}_{start + 1}-{end}".replace("/", "_")
        values = read_bigwig(path, contig, start, end)
        intervals = []
        if regions is not None:
            here = regions[regions["contig"] == contig]
            intervals = list(zip(here["start"].tolist(), here["end"].tolist(), strict=True))
        figures[name] = draw_track(values, contig=contig, start=start, intervals=intervals)
    return figures
