"""Commands around the multiome Performer: classify, impute, embed-cells."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_options import Device, Overwrite

if TYPE_CHECKING:
    from .cell_results import CellsFolder

Cells = Annotated[
    Path,
    typer.Argument(help=".h5ad, .h5mu, 10x .h5, a 10x folder, or fragments.tsv.gz; of RNA, ATAC or both; raw counts."),
]
Model = Annotated[str, typer.Option(help="Folder or Hub repository of a multiome Performer.")]
Atac = Annotated[Path | None, typer.Option(help="The same cells' ATAC, where CELLS holds RNA only; any of these.")]
Peaks = Annotated[Path | None, typer.Option(help="BED of the intervals that fragments are counted in.")]
Modality = Annotated[
    str | None, typer.Option(help="rna or atac: what CELLS holds, or which of both to read; found out without it.")
]
CountsLayer = Annotated[str | None, typer.Option(help="Layer with raw counts; X without it.")]
UseRaw = Annotated[bool, typer.Option("--use-raw", help="Take counts from .raw.")]
GeneIdColumn = Annotated[str | None, typer.Option(help="Column of var that names genes; found without it.")]
CountsAre = Annotated[str, typer.Option(help="What a matrix of peaks holds: reads (10x's cut sites) or fragments.")]
MinimumFragments = Annotated[int, typer.Option(help="Fewest fragments of a cell, in fragments without RNA.")]
BatchSize = Annotated[int | None, typer.Option(help="Cells a model call.")]
Labels = Annotated[str | None, typer.Option(help="Column of obs with types to compare with.")]


def classify_command(
    cells: Cells,
    model: Model,
    output: Annotated[Path, typer.Option(help="Folder for cells.tsv, confusion.tsv, figures/, summary.json.")],
    atac: Atac = None,
    peaks: Peaks = None,
    modality: Modality = None,
    unknown_threshold: Annotated[
        float, typer.Option(help='Cells whose best type has a lower probability are "unknown".')
    ] = 0.0,
    labels: Labels = None,
    counts_layer: CountsLayer = None,
    use_raw: UseRaw = False,
    gene_id_column: GeneIdColumn = None,
    counts_are: CountsAre = "reads",
    minimum_fragments: MinimumFragments = 1000,
    batch_size: BatchSize = None,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Tell the type of each cell from RNA, ATAC or both, with how sure the model is.

    Example: omics-transformers classify rna.h5ad --atac atac.h5ad --model classifier --unknown-threshold 0.5
    --output types
    """
    from .cell_results import classify_cells

    made = classify_cells(
        cells,
        output,
        model=model,
        atac=atac,
        peaks=peaks,
        modality=modality,
        unknown_threshold=unknown_threshold,
        labels=labels,
        counts_layer=counts_layer,
        use_raw=use_raw,
        gene_id_column=gene_id_column,
        counts_are=counts_are,
        minimum_fragments=minimum_fragments,
        batch_size=batch_size,
        device=device,
        overwrite=overwrite,
        progress=True,
    )
    typer.echo(made.table["cell_type"].value_counts().to_string())
    compared = made.summary.get("comparison")
    if compared:
        typer.echo(
            f"accuracy {compared['accuracy']:.3f}, Matthews' correlation {compared['matthews_correlation']:.3f} "
            f"over {compared['cells_compared']:,} cells"
        )
    _show(made)


def impute_command(
    cells: Cells,
    model: Model,
    output: Annotated[
        Path, typer.Option(help="Folder for imputed.h5ad, genes.tsv, cells.tsv, figures/, summary.json.")
    ],
    atac: Atac = None,
    peaks: Peaks = None,
    modality: Modality = None,
    direction: Annotated[
        str | None, typer.Option(help="atac_from_rna or rna_from_atac; from what is given without it.")
    ] = None,
    genes: Annotated[
        list[str] | None, typer.Option("--gene", help="Only these genes, by id or symbol; repeatable.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Other cells with the imputed modality, for the gene-mean predictor.")
    ] = None,
    counts_layer: CountsLayer = None,
    use_raw: UseRaw = False,
    gene_id_column: GeneIdColumn = None,
    counts_are: CountsAre = "reads",
    minimum_fragments: MinimumFragments = 1000,
    batch_size: BatchSize = None,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Impute the accessibility of genes from RNA, or expression from ATAC; with both measured, say how well.

    Example: omics-transformers impute rna.h5ad --model pretrained --output imputed
    """
    from .cell_results import impute_cells

    made = impute_cells(
        cells,
        output,
        model=model,
        atac=atac,
        peaks=peaks,
        modality=modality,
        direction=direction,
        genes=genes or None,
        reference=reference,
        counts_layer=counts_layer,
        use_raw=use_raw,
        gene_id_column=gene_id_column,
        counts_are=counts_are,
        minimum_fragments=minimum_fragments,
        batch_size=batch_size,
        device=device,
        overwrite=overwrite,
        progress=True,
    )
    typer.echo(made.table.head(10).to_string(index=False))
    compared = made.summary.get("comparison")
    if compared:
        across_cells, across_genes = compared["of_genes_across_cells"], compared["of_cells_across_genes"]
        by_mean = compared["of_cells_across_genes_by_the_gene_mean"]
        typer.echo(
            f"median Pearson's correlation of genes across cells {across_cells['median_pearson']:.3f}; of cells across "
            f"genes {across_genes['median_pearson']:.3f}, by the gene mean {by_mean['median_pearson']:.3f}"
        )
    _show(made)


def embed_cells_command(
    cells: Cells,
    model: Model,
    output: Annotated[Path, typer.Option(help="Folder for embeddings.h5ad, figures/umap.png, summary.json.")],
    atac: Atac = None,
    peaks: Peaks = None,
    modality: Modality = None,
    labels: Labels = None,
    colour_by: Annotated[
        str | None, typer.Option("--colour-by", "--color-by", help="Column of obs that colours the map.")
    ] = None,
    umap: Annotated[bool, typer.Option("--umap/--no-umap", help="Lay out and draw a map.")] = True,
    seed: Annotated[int, typer.Option(help="Of the map.")] = 0,
    counts_layer: CountsLayer = None,
    use_raw: UseRaw = False,
    gene_id_column: GeneIdColumn = None,
    counts_are: CountsAre = "reads",
    minimum_fragments: MinimumFragments = 1000,
    batch_size: BatchSize = None,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Embed cells by RNA, ATAC or both, and draw their map.

    Example: omics-transformers embed-cells multiome.h5mu --model pretrained --colour-by cell_type --output embedded
    """
    from .cell_results import embed_cells

    made = embed_cells(
        cells,
        output,
        model=model,
        atac=atac,
        peaks=peaks,
        modality=modality,
        labels=labels,
        colour_by=colour_by,
        umap=umap,
        seed=seed,
        counts_layer=counts_layer,
        use_raw=use_raw,
        gene_id_column=gene_id_column,
        counts_are=counts_are,
        minimum_fragments=minimum_fragments,
        batch_size=batch_size,
        device=device,
        overwrite=overwrite,
        progress=True,
    )
    agreement = made.summary.get("neighbour_agreement")
    if agreement:
        typer.echo(
            f"share of neighbours with a cell's label {agreement['share_of_neighbours']:.3f}, at random "
            f"{agreement['share_expected']:.3f}"
        )
    _show(made)


def _show(made: "CellsFolder") -> None:
    left_out = made.summary["cells_without_any_value"]
    if left_out:
        typer.echo(f"{left_out:,} of {made.summary['cells']:,} cells have no count on the model's genes")
    typer.echo(f"{made.folder}: {', '.join(sorted(entry.name for entry in made.folder.iterdir()))}")
