"""The command `omics-transformers`: thin over the Python functions, which are imported when a command runs."""

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from .cli_cells import classify_command, embed_cells_command, impute_command
from .cli_geneformer import convert_geneformer_command
from .cli_multiome import build_multiome_command
from .cli_options import CacheFolder, Offsets, Overwrite, Symbols, name_and_number, parse_json
from .cli_perturbation import perturb_command, saturate_command
from .cli_ranking import rank_command
from .cli_regions import build_regions_command, simulate_accessibility_command
from .cli_segmentation import (
    build_segments_command,
    convert_command,
    explain_command,
    segment_command,
    variant_effect_command,
)
from .cli_simulated_multiome import simulate_multiome_command
from .version import __version__

app = typer.Typer(
    name="omics-transformers",
    help="Models that read DNA, RNA and chromatin together.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
build = typer.Typer(help="Raw files to data sets that load_dataset reads.", no_args_is_help=True)
app.add_typer(build, name="build")
convert = typer.Typer(help="Published weights to models of this package.", no_args_is_help=True)
app.add_typer(convert, name="convert")
build.command("multiome")(build_multiome_command)
build.command("regions")(build_regions_command)
build.command("segments")(build_segments_command)
convert.command("geneformer")(convert_geneformer_command)
convert.command("nucleotide-transformer")(convert_command)
app.command("perturb")(perturb_command)
app.command("saturate")(saturate_command)
app.command("segment")(segment_command)
app.command("explain")(explain_command)
app.command("variant-effect")(variant_effect_command)
app.command("rank")(rank_command)
app.command("classify")(classify_command)
app.command("impute")(impute_command)
app.command("embed-cells")(embed_cells_command)
app.command("simulate-multiome")(simulate_multiome_command)
app.command("simulate-accessibility")(simulate_accessibility_command)

WindowBp = Annotated[int, typer.Option("--window-bp", help="Length of the window around each TSS, in bp.")]
TssChoice = Annotated[
    str, typer.Option(help="Transcript that gives the TSS: canonical, most_common, five_prime_most, median, longest.")
]
OrientByStrand = Annotated[bool, typer.Option("--orient-by-strand", help="Reverse-complement minus-strand windows.")]
ProteinCodingOnly = Annotated[bool, typer.Option("--protein-coding-only", help="Only genes said to be protein-coding.")]
AlternativeContigs = Annotated[str, typer.Option(help="Contigs named *_alt, *_fix, *_hap: drop or keep.")]
TableCoordinates = Annotated[str, typer.Option(help="Of a table of TSSs: 0-based or 1-based.")]
BeyondContig = Annotated[str, typer.Option(help="Genes whose TSS lies beyond their contig: error, or drop and report.")]
MissingContigs = Annotated[str, typer.Option(help="Genes on contigs that the genome lacks: error, or drop and report.")]


def main() -> None:
    """Run the command; errors of the user's input end with one line that says how to mend them."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        app()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except ImportError as error:
        if "omics-transformers[" not in str(error):  # anything but a missing extra is ours to mend
            raise
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped")


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for all that the demo makes.")] = Path("demo-output"),
    seed: Annotated[int, typer.Option(help="The same seed gives the same demo.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """From nothing to perturbed genes: simulate, build, embed, train, perturb, and score against the planted truth.

    Example: omics-transformers demo --output demo-output
    """
    from .demo import run_demo

    typer.echo(run_demo(output, seed=seed, overwrite=overwrite))


@app.command()
def simulate(
    output: Annotated[
        Path, typer.Option(help="Folder to make: genome.fa, genes.gtf, variants.vcf, cells.h5ad, truth.tsv.")
    ],
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A size or strength, e.g. --set n_genes=200; see docs/simulated_world.md."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a world with known truth, in the formats of real data.

    Example: omics-transformers simulate --output world --seed 0 --set n_donors=100
    """
    from .data_scripts.simulated_regulome import simulate_regulome

    chosen = dict(name_and_number(setting) for setting in settings or [])
    regulome = simulate_regulome(output, seed=seed, overwrite=overwrite, **chosen)
    typer.echo(
        f"{output}: {regulome.counts.shape[0]:,} cells, {len(regulome.genes):,} genes, "
        f"{len(regulome.donors):,} donors, {len(regulome.network):,} planted links"
    )


@build.command("cells")
def build_cells_command(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help=".h5ad, .h5mu, 10x .h5 files, 10x mtx folders, SOMA experiments (folder or URI), or "
            "census:2025-01-30/homo_sapiens."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    token_dictionary: Annotated[
        Path | None, typer.Option(help="JSON of gene id: token id; derived without it.")
    ] = None,
    gene_medians: Annotated[
        Path | None, typer.Option(help="JSON of gene id: non-zero median; derived without it.")
    ] = None,
    gene_symbols: Symbols = None,
    gene_id_column: Annotated[
        str | None, typer.Option(help="Column of var with the gene ids; found without it.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Layer with the raw counts; X without it (SOMA: raw).")] = None,
    use_raw: Annotated[bool, typer.Option("--use-raw", help="Take counts from .raw.")] = False,
    modality: Annotated[str, typer.Option(help="Modality of .h5mu files, measurement of SOMA experiments.")] = "rna",
    minimum_genes: Annotated[int | None, typer.Option(help="Fewest expressed vocabulary genes of a kept cell.")] = None,
    exclude: Annotated[
        str | None, typer.Option(help="Query on obs of cells to leave out: \"disease == 'cancer'\".")
    ] = None,
    obs_columns: Annotated[list[str] | None, typer.Option("--obs-column", help="Column of obs to carry along.")] = None,
    max_length: Annotated[int, typer.Option(help="Most tokens a cell.")] = 2048,
    special_tokens: Annotated[
        str, typer.Option(help="Comma-separated; add <cls>,<eos> to frame cells.")
    ] = "<pad>,<mask>",
    duplicate_barcodes: Annotated[
        str, typer.Option(help="error, or prefix barcodes with their file's name.")
    ] = "error",
    allow_fractional: Annotated[bool, typer.Option("--allow-fractional", help="Take estimated counts.")] = False,
    chunk_cells: Annotated[int, typer.Option(help="Cells in memory at a time, a thread.")] = 4096,
    processes: Annotated[int, typer.Option(help="Worker processes; the bytes do not depend on it.")] = 1,
    threads: Annotated[
        int | None, typer.Option(help="Threads in each process or Dask task; all cores without it.")
    ] = None,
    dask: Annotated[
        str | None, typer.Option(help="Build on Dask workers: local, or a scheduler's address (tcp://host:8786).")
    ] = None,
    dask_workers: Annotated[int | None, typer.Option(help="Worker processes of --dask local.")] = None,
    retries: Annotated[int, typer.Option(help="How often Dask workers try a failed task again.")] = 2,
    overwrite: Overwrite = False,
) -> None:
    """Cells to rank tokens: genes of each cell in descending order of median-normalised expression.

    Example: omics-transformers build cells heart.h5ad lung.h5ad --output cells --exclude "disease == 'cancer'"
    Many files on many machines: omics-transformers build cells *.h5ad --output cells --dask tcp://scheduler:8786
    """
    from .data_scripts.cells import build_cells
    from .data_scripts.cells_plan import MINIMUM_GENES

    report = build_cells(
        inputs,
        output,
        token_dictionary=token_dictionary,
        gene_medians=gene_medians,
        gene_symbols=gene_symbols,
        gene_id_column=gene_id_column,
        layer=layer,
        use_raw=use_raw,
        modality=modality,
        minimum_genes=MINIMUM_GENES if minimum_genes is None else minimum_genes,
        exclude=exclude,
        obs_columns=obs_columns or (),
        max_length=max_length,
        special_tokens=tuple(special_tokens.split(",")),
        duplicate_barcodes=duplicate_barcodes,
        allow_fractional=allow_fractional,
        chunk_cells=chunk_cells,
        processes=processes,
        threads=threads,
        dask=dask,
        dask_workers=dask_workers,
        retries=retries,
        overwrite=overwrite,
    )
    left_out = ", ".join(f"{reason} {count:,}" for reason, count in report.dropped.items() if count) or "none"
    typer.echo(
        f"{output}: {report.n_written:,} of {report.n_cells:,} cells, {report.n_genes:,} genes, "
        f"{report.n_tokens:,} tokens; left out: {left_out} (report.json says more)"
    )


@build.command("promoters")
def build_promoters_command(
    genome: Annotated[Path, typer.Option(help="FASTA: plain, gzip or BGZF.")],
    annotation: Annotated[Path, typer.Option(help="GTF, GFF3, UCSC genePred or a table of TSSs.")],
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    window_bp: WindowBp = 196_608,
    tss_choice: TssChoice = "canonical",
    gene_symbols: Symbols = None,
    protein_coding_only: ProteinCodingOnly = False,
    orient_by_strand: OrientByStrand = False,
    missing_contigs: MissingContigs = "error",
    beyond_contig: BeyondContig = "error",
    alternative_contigs: AlternativeContigs = "drop",
    table_coordinates: TableCoordinates = "0-based",
    offsets: Offsets = None,
    overwrite: Overwrite = False,
) -> None:
    """The sequence around each gene's TSS, as a data set.

    Example: omics-transformers build promoters --genome hg38.fa.gz --annotation genes.gtf.gz --output promoters
    """
    from .data_scripts.promoters import build_promoters

    report = build_promoters(
        genome,
        annotation,
        output,
        window_bp=window_bp,
        tss_choice=tss_choice,  # type: ignore[arg-type]
        gene_symbols=gene_symbols,
        protein_coding_only=protein_coding_only,
        orient_by_strand=orient_by_strand,
        missing_contigs=missing_contigs,  # type: ignore[arg-type]
        beyond_contig=beyond_contig,  # type: ignore[arg-type]
        alternative_contigs=alternative_contigs,  # type: ignore[arg-type]
        table_coordinates=table_coordinates,  # type: ignore[arg-type]
        offsets=parse_json(offsets),
        overwrite=overwrite,
    )
    typer.echo(f"{output}: {json.dumps(report)}")


@app.command()
def embed(
    genome: Annotated[Path, typer.Option(help="FASTA: plain, gzip or BGZF.")],
    annotation: Annotated[Path, typer.Option(help="GTF, GFF3, UCSC genePred or a table of TSSs.")],
    model: Annotated[str, typer.Option(help="Folder or Hub repository of an Enformer.")],
    output: Annotated[Path, typer.Option(help="File to write, .safetensors.")],
    vcf: Annotated[Path | None, typer.Option(help="Donors' phased variants of any kind.")] = None,
    window_bp: WindowBp = 196_608,
    layer: Annotated[str, typer.Option(help="final_pointwise, transformer or conv_tower.")] = "final_pointwise",
    pool: Annotated[
        str, typer.Option(help="Positions to average: all (the paper), or how many at the centre.")
    ] = "all",
    batch_size: Annotated[int, typer.Option(help="Windows that go through the model together.")] = 1,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16; bfloat16 on a GPU without --vcf.")] = None,
    features_dtype: Annotated[str, typer.Option(help="Precision in the file: float32 or float16.")] = "float32",
    tss_choice: TssChoice = "canonical",
    gene_symbols: Symbols = None,
    genes: Annotated[Path | None, typer.Option(help="Only these: ids one a line, or a JSON token dictionary.")] = None,
    protein_coding_only: ProteinCodingOnly = False,
    orient_by_strand: OrientByStrand = False,
    missing_contigs: MissingContigs = "error",
    beyond_contig: BeyondContig = "error",
    alternative_contigs: AlternativeContigs = "drop",
    table_coordinates: TableCoordinates = "0-based",
    unphased: Annotated[str, typer.Option(help="Unphased heterozygous genotypes: error or as_written.")] = "error",
    missing_genotypes: Annotated[str, typer.Option(help="Genotypes not called: error, reference or drop.")] = "error",
    other_variants: Annotated[
        str, typer.Option(help="Alleles such as <INS>, <CNV>, * and breakends: error or drop.")
    ] = "error",
    overlapping: Annotated[
        str, typer.Option(help="Variants that change the same bases of one haplotype: error or first.")
    ] = "error",
    unsorted: Annotated[str, typer.Option(help="A VCF whose lines are out of order: error or sort.")] = "error",
    haplotypes: Annotated[str, typer.Option(help="A donor's two haplotypes: mean or separate.")] = "mean",
    assembly: Annotated[str | None, typer.Option(help="Name of the assembly, for the metadata.")] = None,
    cache_folder: CacheFolder = None,
    part_size: Annotated[int, typer.Option(help="Windows between two saves.")] = 32,
    offsets: Offsets = None,
    overwrite: Overwrite = False,
) -> None:
    """DNA to gene features: each gene's window through an Enformer, averaged over positions. Stopped runs go on.

    Several processes: accelerate launch -m omics_transformers.training.run_embedding, with the same options.

    Example: omics-transformers embed --genome hg38.fa.gz --annotation genes.gtf.gz
    --model EleutherAI/enformer-official-rough --output features.safetensors --assembly GRCh38
    """
    from .training.embedding import embed_promoters
    from .training.run_embedding import EmbeddingArguments, resolve

    arguments = EmbeddingArguments(
        fasta=str(genome),
        annotation=str(annotation),
        output=str(output),
        model=model,
        vcf=None if vcf is None else str(vcf),
        window_bp=window_bp,
        layer=layer,  # type: ignore[arg-type]
        pool=pool,
        batch_size=batch_size,
        dtype=dtype,  # type: ignore[arg-type]
        features_dtype=features_dtype,  # type: ignore[arg-type]
        tss_choice=tss_choice,  # type: ignore[arg-type]
        gene_symbols=None if gene_symbols is None else str(gene_symbols),
        gene_ids=None if genes is None else str(genes),
        protein_coding_only=protein_coding_only,
        orient_by_strand=orient_by_strand,
        missing_contigs=missing_contigs,  # type: ignore[arg-type]
        beyond_contig=beyond_contig,  # type: ignore[arg-type]
        alternative_contigs=alternative_contigs,  # type: ignore[arg-type]
        table_coordinates=table_coordinates,  # type: ignore[arg-type]
        unphased=unphased,  # type: ignore[arg-type]
        missing_genotypes=missing_genotypes,  # type: ignore[arg-type]
        other_variants=other_variants,  # type: ignore[arg-type]
        overlapping=overlapping,  # type: ignore[arg-type]
        unsorted=unsorted,  # type: ignore[arg-type]
        haplotypes=haplotypes,  # type: ignore[arg-type]
        assembly=assembly,
        cache_folder=None if cache_folder is None else str(cache_folder),
        part_size=part_size,
        offsets=offsets,
        overwrite=overwrite,
    )
    made = embed_promoters(**resolve(arguments))
    donors = (
        ""
        if made.donors is None or made.donor_features is None
        else (f", {len(made.donor_features):,} distinct promoters of {len(made.donors):,} donors")
    )
    typer.echo(f"{output}: {made.features.shape[0]:,} genes x {made.features.shape[1]:,} features{donors}")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"omics-transformers {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Models that read DNA, RNA and chromatin together."""


if __name__ == "__main__":
    main()
