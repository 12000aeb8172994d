"""The command `simulate-multiome`: cells with RNA, ATAC or both, in which genes follow the peaks near them."""

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import Overwrite, name_and_number


def simulate_multiome_command(
    output: Annotated[
        Path, typer.Option(help="Folder to make: genes.gtf, rna.h5ad, atac.h5ad, paired.h5mu, truth.tsv.")
    ],
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A size or strength, e.g. --set n_genes=200; see MultiomeSettings."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a multiome with planted links of peaks and genes, in the formats of real data.

    Example: omics-transformers simulate-multiome --output world --seed 0 --set n_paired_cells=2000
    """
    from .data_scripts.simulated_multiome import simulate_multiome

    chosen = dict(name_and_number(setting) for setting in settings or [])
    world = simulate_multiome(output, seed=seed, overwrite=overwrite, **chosen)
    typer.echo(
        f"{output}: {len(world.cells):,} cells, {len(world.genes):,} genes, {len(world.peaks):,} peaks, "
        f"{len(world.links):,} planted links; expected and observed ATAC activity correlate at "
        f"{world.oracle.state:.2f} where a cell's whole state is known, {world.oracle.cell_type:.2f} where its type is"
    )
