"""The command `build multiome`: cells of RNA, ATAC or both, aligned to one list of genes and binned."""

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import Overwrite


def build_multiome_command(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="PATH[:option=value]...: .h5ad, .h5mu, 10x .h5, 10x mtx folder, or fragments.tsv.gz; a data set each, "
            "of RNA, ATAC or both, told by the content. Options: atac=PATH (of the same cells), modality=NAME, "
            "peaks=BED or tile=BP (of fragments), labels=TABLE, column=NAME (of cell types), donor=NAME, batch=NAME, "
            "barcodes=NAME, chain=LIFTOVER, name=NAME, layer=NAME, counts=reads|fragments, coordinates=1-based."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    genes: Annotated[
        Path | None, typer.Option(help="Annotation, GTF, GFF3 or genePred; needed where there is ATAC.")
    ] = None,
    gene_list: Annotated[
        Path | None, typer.Option(help="Genes wanted, one a line; without it, those that all RNA has.")
    ] = None,
    gene_symbols: Annotated[
        Path | None, typer.Option(help="JSON of symbol: gene id, or a table of gene_id and symbol, for symbols only.")
    ] = None,
    gene_names: Annotated[str, typer.Option(help="What tells genes apart: ids or symbols.")] = "ids",
    binning: Annotated[
        str | None, typer.Option(help="gene_normalized (the default), quartile, absolute or scbert.")
    ] = None,
    num_bins: Annotated[int | None, typer.Option(help="Bins of non-zero values; 5 by default.")] = None,
    bins_from: Annotated[
        Path | None,
        typer.Option(help="Earlier build or saved feature extractor: its genes and edges are taken."),
    ] = None,
    ring_bounds: Annotated[
        str | None, typer.Option(help="Outer bounds of the rings about a gene's start, in bp: 10000,20000,50000.")
    ] = None,
    ring_weights: Annotated[str | None, typer.Option(help="A weight a ring: 0.5,0.3333,0.1667.")] = None,
    gene_body: Annotated[bool, typer.Option(help="Peaks over a gene's body are in the first ring.")] = True,
    minimum_gene_share: Annotated[float, typer.Option(help="Least share of the genes that a cell shows.")] = 0.01,
    minimum_peak_share: Annotated[float, typer.Option(help="Least share of the peaks that a cell shows.")] = 0.01,
    minimum_shared_barcodes: Annotated[
        float, typer.Option(help="Least share of the smaller file's barcodes that paired files share.")
    ] = 0.5,
    minimum_fragments: Annotated[
        int, typer.Option(help="Of fragments without labels or RNA, barcodes with fewer are no cells.")
    ] = 1_000,
    keep_counts: Annotated[bool, typer.Option(help="Write counts beside the bins.")] = True,
    assembly: Annotated[
        str | None, typer.Option(help="Of the annotation, such as hg38: what ends beyond its contigs is refused.")
    ] = None,
    blacklist: Annotated[
        list[str] | None, typer.Option("--blacklist", help="BED of peaks to leave out: PATH[:chain=PATH].")
    ] = None,
    chunk_cells: Annotated[int, typer.Option(help="Cells in memory at a time.")] = 2_048,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    processes: Annotated[int, typer.Option(help="That work side by side; the bytes do not depend on it.")] = 1,
    overwrite: Overwrite = False,
) -> None:
    """RNA, ATAC or both to cells that are aligned to one list of genes and binned.

    Example: omics-transformers build multiome rna.h5ad:atac=atac.h5ad:name=pbmc other.h5ad:column=cell_type
    heart.tsv.gz:tile=5000:labels=cells.csv --genes hg38.gtf.gz --assembly hg38 --output multiome
    """
    from .data_scripts.bed_files import BedSource
    from .data_scripts.multiome import build_multiome
    from .data_scripts.multiome_sources import MultiomeSource
    from .modeling.peak_gene_rings import Rings

    chosen: dict = {"bounds_bp": _numbers("--ring-bounds", ring_bounds, int)}
    chosen["weights"] = _numbers("--ring-weights", ring_weights, float)
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if not gene_body:
        chosen["gene_body"] = False
    report = build_multiome(
        [MultiomeSource.from_text(text) for text in sources],
        output,
        genes=genes,
        gene_list=gene_list,
        gene_symbols=gene_symbols,
        gene_names=gene_names,  # type: ignore[arg-type]
        binning=binning,
        num_bins=num_bins,
        bins_from=bins_from,
        rings=Rings(**chosen) if chosen else None,
        minimum_gene_share=minimum_gene_share,
        minimum_peak_share=minimum_peak_share,
        minimum_shared_barcodes=minimum_shared_barcodes,
        minimum_fragments=minimum_fragments,
        keep_counts=keep_counts,
        assembly=assembly,
        blacklist=[BedSource.from_text(text) for text in blacklist or ()] or None,
        chunk_cells=chunk_cells,
        seed=seed,
        processes=processes,
        overwrite=overwrite,
        progress=True,
    )
    cells = ", ".join(f"{name} {number:,}" for name, number in report.cells_of_dataset.items())
    typer.echo(f"{output}: {report.n_genes:,} genes; cells {cells}; what was left out is in report.json")


def _numbers(option: str, text: str | None, kind: type) -> tuple | None:
    """Of a list with commas."""
    if text is None:
        return None
    try:
        return tuple(kind(one) for one in text.split(","))
    except ValueError as error:
        raise ValueError(f"{option} is {text!r}; expected numbers with commas between them") from error
