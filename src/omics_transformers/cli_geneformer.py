"""The command `convert geneformer`."""

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import Overwrite


def convert_geneformer_command(
    source: Annotated[str, typer.Argument(help="Folder or Hub repository of published weights.")],
    output: Annotated[Path, typer.Argument(help="Folder to make.")],
    subfolder: Annotated[str | None, typer.Option(help="Of the source that holds the model.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")] = None,
    token_dictionary: Annotated[
        Path | None,
        typer.Option(help="JSON of gene id: token id; token_dictionary.json beside the weights without it."),
    ] = None,
    gene_medians: Annotated[
        Path | None, typer.Option(help="JSON of gene id: median, to rank counts; gene_medians.json without it.")
    ] = None,
    gene_symbols: Annotated[
        Path | None, typer.Option(help="JSON of gene id: symbol, or symbol: gene id; gene_symbols.json without it.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16 or bfloat16; that of the weights without it.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Published Geneformer weights (V1, V2) to a folder that `perturb` and the Auto classes read.

    Example: omics-transformers convert geneformer ctheodoris/Geneformer geneformer --subfolder Geneformer-V1-10M
    --token-dictionary token_dictionary.json --gene-medians gene_medians.json
    """
    import torch

    from .training.published_geneformer import convert_geneformer

    if dtype is not None and dtype not in ("float32", "float16", "bfloat16"):
        raise ValueError(f"--dtype is {dtype!r}; expected float32, float16 or bfloat16")
    report = convert_geneformer(
        source,
        output,
        subfolder=subfolder,
        revision=revision,
        token_dictionary=token_dictionary,
        gene_medians=gene_medians,
        gene_symbols=gene_symbols,
        dtype=None if dtype is None else getattr(torch, dtype),
        overwrite=overwrite,
    )
    unused = f"; {len(report.unused_tensors)} that no computation reads left out" if report.unused_tensors else ""
    typer.echo(f"{output}: {report.genes:,} genes, {report.parameters:,} numbers in {report.tensors} tensors{unused}")
