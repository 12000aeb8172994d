"""Commands around the region ranker: rank."""

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import CacheFolder, Device, Offsets, Overwrite, parse_json


def rank_command(
    genome: Annotated[Path, typer.Argument(help="FASTA: plain, gzip or BGZF.")],
    output: Annotated[
        Path, typer.Option(help="Folder for regions.tsv, regions.bed, variants.tsv, tracks/, figures/, summary.json.")
    ],
    model: Annotated[str, typer.Option(help="Folder or Hub repository of a region ranker.")],
    bed: Annotated[Path | None, typer.Option(help="BED of regions to put in order.")] = None,
    regions: Annotated[
        list[str] | None, typer.Option("--region", help="Further one: chr20:1,001-1,500 (1-based); repeatable.")
    ] = None,
    vcf: Annotated[Path | None, typer.Option(help="VCF of variants to score; genotypes are not looked at.")] = None,
    variants: Annotated[
        list[str] | None, typer.Option("--variant", help="Further one: chr20:1000:A>G (1-based); repeatable.")
    ] = None,
    track: Annotated[
        list[str] | None, typer.Option("--track", help="Locus or contig to write scores along; repeatable.")
    ] = None,
    cell_type: Annotated[
        str | None, typer.Option(help="One of the model's, where its scores depend on the cell type.")
    ] = None,
    region_bp: Annotated[
        int | None,
        typer.Option("--region-bp", help="Region around variants and steps of a track; the model's own without it."),
    ] = None,
    step_bp: Annotated[
        int | None, typer.Option("--step-bp", help="Bases of a track that share a value; a fifth of --region-bp.")
    ] = None,
    maximum_unknown: Annotated[
        float, typer.Option(help="Steps in regions with more N, as a share, have no value.")
    ] = 0.5,
    phases: Annotated[int, typer.Option(help="First bases that each allele is read from, averaged.")] = 1,
    padding_draws: Annotated[int, typer.Option(help="Places of the padding that are averaged; 1: at the end.")] = 1,
    reverse_complement: Annotated[
        bool, typer.Option("--reverse-complement", help="Average with the other strand's score.")
    ] = False,
    long_regions: Annotated[
        str, typer.Option(help="Regions that are longer than the model takes: error, or center to score their middle.")
    ] = "error",
    batch_size: Annotated[int | None, typer.Option(help="Regions a model call.")] = None,
    offsets: Offsets = None,
    cache_folder: CacheFolder = None,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Order regions by accessibility; score what variants do to it; write scores along loci as bigWig.

    Example: omics-transformers rank hg38.fa.gz --model ranker --bed peaks.bed --vcf variants.vcf
    --track chr20:1,000,001-1,100,000 --output ranked
    """
    from .ranking import rank_regions

    made = rank_regions(
        genome,
        output,
        model=model,
        bed=bed,
        regions=regions or None,
        vcf=vcf,
        variants=variants or None,
        track=track or None,
        cell_type=cell_type,
        region_bp=region_bp,
        step_bp=step_bp,
        maximum_unknown=maximum_unknown,
        phases=phases,
        padding_draws=padding_draws,
        reverse_complement=reverse_complement,
        long_regions=long_regions,  # type: ignore[arg-type]
        batch_size=batch_size,
        offsets=parse_json(offsets),
        cache_folder=cache_folder,
        device=device,
        overwrite=overwrite,
        progress=True,
    )
    for table in (made.regions, made.variants):
        if table is not None:
            typer.echo(table.head(10).to_string(index=False))
    typer.echo(f"{made.folder}: {', '.join(sorted(entry.name for entry in made.folder.iterdir()))}")
