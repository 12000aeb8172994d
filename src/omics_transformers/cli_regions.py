"""The command `build regions`: single-cell chromatin accessibility to spans whose regions are ranked."""

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import CacheFolder, Offsets, Overwrite, name_and_number, parse_json


def build_regions_command(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="PATH[:option=value]...: .h5ad, .h5mu, 10x .h5, 10x mtx folder, or fragments.tsv.gz; a sample each. "
            "Options: peaks=BED or tile=BP (of fragments), labels=TABLE, column=NAME (of cell types), barcodes=NAME, "
            "chain=LIFTOVER, name=NAME, modality=NAME, layer=NAME, coordinates=1-based (of names of peaks)."
        ),
    ],
    genome: Annotated[list[Path], typer.Option("--genome", help="FASTA: plain, gzip or BGZF; repeatable.")],
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    train: Annotated[
        list[str] | None,
        typer.Option(
            "--train", help="Contig, or region 20:1-30,000,000 (1-based); repeatable. Without any: 1-19, X, Y."
        ),
    ] = None,
    validation: Annotated[list[str] | None, typer.Option("--validation", help="... to validate on: 22.")] = None,
    test: Annotated[list[str] | None, typer.Option("--test", help="... to test on: 20 and 21.")] = None,
    counts: Annotated[
        str, typer.Option(help="What matrices hold: reads, of which two are a fragment, or fragments.")
    ] = ("reads"),
    minimum_cell_share: Annotated[float, typer.Option(help="Least share of cells that a peak is seen in.")] = 0.01,
    minimum_cells: Annotated[int, typer.Option(help="Cell types with fewer cells are left out.")] = 1,
    minimum_types: Annotated[int, typer.Option(help="Fewest labelled cell types.")] = 2,
    fragment_rule: Annotated[
        str, typer.Option(help="A fragment counts in each peak that it overlaps: fragment; or each end: insertion.")
    ] = "fragment",
    minimum_fragments: Annotated[
        int, typer.Option(help="Of fragments without labels, barcodes with fewer are no cells.")
    ] = 1_000,
    resolution: Annotated[float, typer.Option(help="Of Leiden clusters, where there are no labels.")] = 1.0,
    floor: Annotated[float, typer.Option(help="Means below become 0, in fragments a cell.")] = 0.1,
    blacklist: Annotated[
        list[str] | None, typer.Option("--blacklist", help="BED of places to keep off: PATH[:chain=PATH].")
    ] = None,
    overlapping: Annotated[str, typer.Option(help="Peaks that share a base: error, merge or drop.")] = "error",
    other_contigs: Annotated[str, typer.Option(help="Peaks on chromosomes in no split: error or drop.")] = "error",
    beyond_contig: Annotated[str, typer.Option(help="Peaks beyond the end of their contig: error or drop.")] = "error",
    minimum_match: Annotated[float, typer.Option(help="Least share of a peak's length that a lift keeps.")] = 0.95,
    maximum_blacklisted: Annotated[
        float, typer.Option(help="A larger share of blacklisted peaks is taken for another assembly.")
    ] = 0.03,
    maximum_n_peaks: Annotated[
        float, typer.Option(help="A larger share of peaks made of N is taken for another assembly.")
    ] = 0.001,
    span_bp: Annotated[int, typer.Option("--span-bp", help="Length of a span, in bp.")] = 3_000,
    shift_factor: Annotated[int, typer.Option(help="Tilings of the genome, each moved by span / factor.")] = 10,
    long_peaks: Annotated[str, typer.Option(help="Peaks longer than a span: split, drop or error.")] = "split",
    minimum_region_bp: Annotated[
        int, typer.Option("--minimum-region-bp", help="Shorter pieces of peaks are not chosen, in bp.")
    ] = 1,
    minimum_zero_bp: Annotated[
        int, typer.Option("--minimum-zero-bp", help="Shortest zero region placed where no peak is, in bp.")
    ] = 100,
    equal_counts: Annotated[str, typer.Option(help="Spans whose two counts are equal: keep or drop.")] = "keep",
    maximum_n: Annotated[float, typer.Option(help="Largest share of N in a region.")] = 0.0,
    padding: Annotated[str, typer.Option(help="Padding of regions: end (first version) or random (second).")] = "end",
    duplicates: Annotated[
        str, typer.Option(help="Spans with a region already seen: keep (first version) or drop (second).")
    ] = "keep",
    split_gap_bp: Annotated[
        int | None, typer.Option("--split-gap-bp", help="Least distance of splits on one contig; a span.")
    ] = None,
    offsets: Offsets = None,
    cache_folder: CacheFolder = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    processes: Annotated[int, typer.Option(help="Processes that work on contigs; the bytes do not depend on it.")] = 1,
    overwrite: Overwrite = False,
) -> None:
    """Peaks x cells or fragments to spans with three regions, ordered by chromatin accessibility.

    Example: omics-transformers build regions pbmc.h5ad:column=cell_type heart.tsv.gz:peaks=peaks.bed:labels=cells.csv
    --genome hg38.fa.gz --blacklist hg38-blacklist.bed --output regions
    """
    from .data_scripts.accessibility_inputs import AccessibilityReading
    from .data_scripts.accessibility_sources import AccessibilitySource
    from .data_scripts.bed_files import BedSource
    from .data_scripts.cell_clusters import LeidenOptions
    from .data_scripts.regions import build_regions

    report = build_regions(
        genome,
        [AccessibilitySource.from_text(text) for text in sources],
        output,
        train=train or None,
        validation=validation or None,
        test=test or None,
        reading=AccessibilityReading(
            counts=counts,  # type: ignore[arg-type]
            minimum_cell_share=minimum_cell_share,
            minimum_cells=minimum_cells,
            minimum_types=minimum_types,
            fragment_rule=fragment_rule,  # type: ignore[arg-type]
            minimum_fragments=minimum_fragments,
            overlapping=overlapping,  # type: ignore[arg-type]
            leiden=LeidenOptions(resolution=resolution, seed=seed),
        ),
        floor=floor,
        blacklist=[BedSource.from_text(text) for text in blacklist or ()] or None,
        other_contigs=other_contigs,  # type: ignore[arg-type]
        beyond_contig=beyond_contig,  # type: ignore[arg-type]
        minimum_match=minimum_match,
        maximum_blacklisted=maximum_blacklisted,
        maximum_n_peaks=maximum_n_peaks,
        span_bp=span_bp,
        shift_factor=shift_factor,
        long_peaks=long_peaks,  # type: ignore[arg-type]
        minimum_region_bp=minimum_region_bp,
        minimum_zero_bp=minimum_zero_bp,
        equal_counts=equal_counts,  # type: ignore[arg-type]
        maximum_n=maximum_n,
        padding=padding,  # type: ignore[arg-type]
        duplicates=duplicates,  # type: ignore[arg-type]
        split_gap_bp=split_gap_bp,
        offsets=parse_json(offsets),
        cache_folder=cache_folder,
        seed=seed,
        processes=processes,
        overwrite=overwrite,
        progress=True,
    )
    rows = ", ".join(f"{split} {number:,}" for split, number in report["rows"].items())
    typer.echo(f"{output}: rows {rows}; what was left out is in report.json")


def simulate_accessibility_command(
    output: Annotated[Path, typer.Option(help="Folder to make: genome.fa, cells.h5ad, fragments.tsv.gz, truth.tsv.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")],
    contigs: Annotated[
        list[str] | None, typer.Option("--contig", help="NAME=SPANS, e.g. chrA=6000; repeatable.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A size or strength, e.g. --set region_bp=200; see AccessibilitySettings."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a world in which planted motifs open chromatin, in the formats of real data.

    Example: omics-transformers simulate-accessibility --output world --seed 0
    """
    from .data_scripts.simulated_accessibility import simulate_accessibility

    chosen = dict(name_and_number(setting) for setting in settings or [])
    spans = {name: int(number) for name, number in map(name_and_number, contigs or [])}
    world = simulate_accessibility(output, seed=seed, contigs=spans or None, overwrite=overwrite, **chosen)
    typer.echo(
        f"{output}: {len(world.cells):,} cells, {len(world.peaks):,} peaks on {len(world.contigs)} contigs; reads keep "
        f"the order of {world.order_kept:.1%} of the spans"
    )
