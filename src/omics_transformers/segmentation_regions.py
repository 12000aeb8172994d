"""Which regions of a genome are segmented and plotted, and the transcripts that are drawn beneath the plots."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .pipelines.segmentation_figure import require_plottable
from .pipelines.segmentation_input import Region, find_region

if TYPE_CHECKING:
    import pandas as pd

    from .data_scripts.genomes import Genome

logger = logging.getLogger(__name__)


def find_regions(genome: "Genome", regions: Sequence[str] | None, bed: str | Path | None) -> list[Region]:
    """All regions in the order of the genome, those that share bases joined.

    Args:
        genome: an opened FASTA file.
        regions: as `find_region` reads them.
        bed: file of further regions; all contigs where neither is given.

    Raises:
        ValueError: for unknown contigs, and regions beyond them; of a BED file with the line.
    """
    if isinstance(regions, str):
        raise ValueError(f"regions is the text {regions!r}: give a list, such as [{regions!r}]")
    source = str(genome.path)
    found = [find_region(genome, region, source) for region in regions or ()]
    if bed is not None:
        found += [region for region, _ in regions_of_bed(genome, bed)]
    if regions is None and bed is None:
        return [
            Region(name, genome.starts[name], end) for name, end in genome.contigs.items() if end > genome.starts[name]
        ]
    if not found:
        raise ValueError("regions is empty: name at least one, or leave it out for the whole genome")
    return _joined(genome, found)


def regions_of_bed(genome: "Genome", bed: str | Path) -> list[tuple[Region, str]]:
    """The regions of a BED file in its order, each with its name ("" where it has none).

    Intervals of length zero are left out, and a warning says how many.

    Raises:
        ValueError: for a file without intervals, unknown contigs, and regions beyond them; naming the line.
    """
    from .data_scripts.bed_files import read_bed

    intervals, report = read_bed(bed)
    for what, number in report.items():
        if "left out" in what:
            logger.warning("%s: %d %s", bed, number, what)
    found = []
    for row in intervals.itertuples():
        try:
            found.append((find_region(genome, Region(row.contig, row.start, row.end), str(genome.path)), row.name))
        except ValueError as error:
            raise ValueError(f"{bed}, line {row.line}: {error}") from error
    return found


def _joined(genome: "Genome", found: Sequence[Region]) -> list[Region]:
    import pandas as pd

    from .data_scripts.interval_regions import merge_intervals

    merged = merge_intervals(pd.DataFrame(found, columns=["contig", "start", "end"]))
    rows = [Region(*row) for row in merged[["contig", "start", "end"]].itertuples(index=False, name=None)]
    if len(rows) < len(found):
        logger.info("%d regions share bases with others: %d are segmented", len(found) - len(rows), len(rows))
    place = {name: number for number, name in enumerate(genome.contigs)}
    return sorted(rows, key=lambda region: (place[region.contig], region.start))


def find_plotted(genome: "Genome", plot: Sequence[str], regions: Sequence[Region]) -> list[Region]:
    """Regions to plot.

    Raises:
        ValueError: for those that are not within a segmented one, or too long for a figure.
    """
    found = [find_region(genome, region, str(genome.path)) for region in plot]
    for region in found:
        require_plottable(region.end - region.start)
        holders = (held for held in regions if held.contig == region.contig)
        if not any(held.start <= region.start and region.end <= held.end for held in holders):
            raise ValueError(f"the region to plot, {region}, is not within a segmented one: add it to the regions")
    return found


def read_transcripts(
    annotation: str | Path | None, genome: "Genome", plotted: Sequence[Region]
) -> "pd.DataFrame | None":
    """Transcripts on the plotted contigs, as `draw_locus` takes them.

    Args:
        annotation: GTF, GFF3 or genePred.
        genome: whose names the contigs get.
        plotted: regions; without any, nothing is read, and a warning says so.

    Returns:
        One row a transcript: name (symbol), contig, strand, exons and cds (lists of 0-based, half-open intervals).
    """
    if annotation is None:
        return None
    if not plotted:
        logger.warning("%s is not used: it is drawn beneath plots, and none is asked for", annotation)
        return None
    from .data_scripts.transcript_structures import read_transcript_structures

    contigs = {region.contig for region in plotted}
    structures = read_transcript_structures(
        annotation, contig_names=lambda name: found if (found := genome.find(name)) in contigs else None
    )
    table = structures.transcripts
    places = structures.exons[["start", "end"]].to_numpy()
    counts = np.bincount(structures.exons["transcript"], minlength=len(table))
    exons = [part.tolist() for part in np.split(places, np.cumsum(counts)[:-1])] if len(table) else []
    coding = zip(exons, table["coding_start"], table["coding_end"], strict=True)
    return table.assign(name=table["symbol"], exons=exons, cds=[_within(part, *ends) for part, *ends in coding])[
        ["name", "contig", "strand", "exons", "cds"]
    ]


def _within(exons: Sequence[Sequence[int]], start: int, end: int) -> list[tuple[int, int]]:
    return [(max(first, start), min(last, end)) for first, last in exons if first < end and last > start]
