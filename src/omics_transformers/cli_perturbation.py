"""The commands `perturb` and `saturate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_options import Device, Offsets, Overwrite, Symbols, TrustRemoteCode, parse_json

Genome = Annotated[Path | None, typer.Option(help="FASTA that `embed` was given, for edits of DNA.")]
Tracks = Annotated[
    list[int] | None, typer.Option("--track", help="Track of the DNA model that counts as expression; repeatable.")
]
Head = Annotated[str | None, typer.Option(help="Head of the tracks; human without it.")]
CentreBins = Annotated[int | None, typer.Option(help="Positions at the TSS whose predictions are added; 3 without it.")]
EditWindowBp = Annotated[
    int | None,
    typer.Option("--mutation-window-bp", help="Bases around the TSS to mutate (500), or to clear of motifs (1,000)."),
]


def perturb_command(
    cells: Annotated[Path, typer.Argument(help=".h5ad, or a folder of `build cells`.")],
    model: Annotated[str, typer.Option(help="Folder or Hub repository of a Bio-DTA, or a converted Geneformer.")],
    gene: Annotated[list[str], typer.Option(help="Gene id or symbol; repeat it to edit several at once.")],
    output: Annotated[Path, typer.Option(help="Folder for tables, summary.json, report.html and figures/.")],
    edit: Annotated[
        str,
        typer.Option(
            help="Of the token: delete, delete-in-place, mask, overexpress, set-rank. Of DNA: variants, mutagenesis, "
            "random-mutations, insert-motif, delete-motif, sequence, features."
        ),
    ] = "delete",
    rank: Annotated[int | None, typer.Option(help="New rank, 0 the first, for --edit set-rank.")] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="chr8:11704300:G>A or chr8:1-100:del, :inv, :dup (1-based); repeatable; --edit variants."),
    ] = None,
    vcf: Annotated[Path | None, typer.Option(help="Variants on both haplotypes, or those of --sample.")] = None,
    sample: Annotated[str | None, typer.Option(help="Of the VCF, with both of its haplotypes.")] = None,
    mutations: Annotated[int | None, typer.Option(help="Bases that mutagenesis changes; 10 without it.")] = None,
    rate: Annotated[float | None, typer.Option(help="... or the chance of each, for --edit mutagenesis.")] = None,
    mutation_window_bp: EditWindowBp = None,
    candidates: Annotated[int | None, typer.Option(help="Of --edit mutagenesis; 100 without it.")] = None,
    direction: Annotated[
        str | None, typer.Option(help="Predicted expression that mutagenesis looks for: lower (default) or raise.")
    ] = None,
    track: Tracks = None,
    head: Head = None,
    centre_bins: CentreBins = None,
    motifs: Annotated[Path | None, typer.Option(help="JASPAR file; also shows motifs lost and gained.")] = None,
    motif: Annotated[list[str] | None, typer.Option(help="Name or id of the motif to edit; repeatable.")] = None,
    offset: Annotated[
        int | None, typer.Option(help="Of the motif, or of the bases to clear, from the TSS; -50 is upstream.")
    ] = None,
    strand: Annotated[str | None, typer.Option(help="Of an inserted motif relative to the gene: + or -.")] = None,
    instance: Annotated[str | None, typer.Option(help="Of an inserted motif: best (default) or sampled.")] = None,
    threshold: Annotated[float | None, typer.Option(help="p-value of motif hits; 1e-4 without it.")] = None,
    features: Annotated[Path | None, typer.Option(help=".npy of DNA features, for --edit features.")] = None,
    sequence: Annotated[Path | None, typer.Option(help="FASTA of the edited window, for --edit sequence.")] = None,
    genome: Genome = None,
    annotation: Annotated[Path | None, typer.Option(help="Annotation that `embed` was given, likewise.")] = None,
    gene_symbols: Symbols = None,
    offsets: Offsets = None,
    dna_model: Annotated[str | None, typer.Option(help="Enformer that made the gene features, likewise.")] = None,
    unphased: Annotated[
        str | None, typer.Option(help="Unphased heterozygous genotypes: error (default) or as_written.")
    ] = None,
    missing_genotypes: Annotated[
        str | None, typer.Option(help="Genotypes not called: error (default), reference or drop.")
    ] = None,
    other_variants: Annotated[
        str | None, typer.Option(help="Alleles such as <INS>, <CNV>, * and breakends: error (default) or drop.")
    ] = None,
    overlapping: Annotated[
        str | None, typer.Option(help="Variants that change the same bases: error (default) or first.")
    ] = None,
    unsorted: Annotated[
        str | None, typer.Option(help="A VCF whose lines are out of order: error (default) or sort.")
    ] = None,
    gene_features: Annotated[
        Path | None, typer.Option(help="Features with donors: each cell then carries its donor's DNA.")
    ] = None,
    donor_column: Annotated[str, typer.Option(help="Column that names each cell's donor.")] = "donor",
    gene_sets: Annotated[
        list[Path] | None, typer.Option("--gene-sets", help=".gmt, or a list of one gene a line; repeatable.")
    ] = None,
    targets: Annotated[
        list[Path] | None, typer.Option("--targets", help="Known targets, likewise: are they found? See recovery/.")
    ] = None,
    compare: Annotated[
        list[str] | None, typer.Option(help="NAME=genes.tsv of another model, beside this one; repeatable.")
    ] = None,
    coexpression: Annotated[
        bool, typer.Option("--coexpression", help="Plain co-expression beside this model; needs a .h5ad.")
    ] = False,
    links: Annotated[Path | None, typer.Option(help="TSV of known links, source and target, to draw.")] = None,
    alternative: Annotated[str, typer.Option(help="Sets' test: greater (shifts more), less, two-sided.")] = "greater",
    minimum_cells: Annotated[int, typer.Option(help="Genes seen in fewer cells are counted and left out.")] = 10,
    sham_genes: Annotated[int, typer.Option(help="Same edit at this many other genes, to normalise shifts.")] = 0,
    any_gene: Annotated[
        bool, typer.Option("--any-gene", help="Of several genes edit those a cell has; else it must have all.")
    ] = False,
    layer: Annotated[int, typer.Option(help="0: the last layer's embeddings, -1: the penultimate's, ...")] = -1,
    batch_size: Annotated[int, typer.Option(help="Cells a model call.")] = 16,
    counts_layer: Annotated[str | None, typer.Option(help="Layer of the .h5ad with raw counts.")] = None,
    use_raw: Annotated[bool, typer.Option("--use-raw", help="Take counts from .raw.")] = False,
    gene_id_column: Annotated[str | None, typer.Option(help="Column of var with the gene ids.")] = None,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    device: Device = None,
    trust_remote_code: TrustRemoteCode = False,
    overwrite: Overwrite = False,
) -> None:
    """Change genes by their DNA or their tokens, and see which genes' contextual embeddings move.

    Example: omics-transformers perturb cells.h5ad --model bio-dta --gene GATA4 --edit variants
    --variant chr8:11704300:G>A --genome hg38.fa --annotation genes.gtf --dna-model enformer --output gata4
    """
    from .perturbation import perturb

    result = perturb(
        cells,
        output,
        model=model,
        gene=gene,
        edit=edit,
        rank=rank,
        variants=variant or None,
        vcf=vcf,
        sample=sample,
        mutations=mutations,
        rate=rate,
        mutation_window_bp=mutation_window_bp,
        candidates=candidates,
        direction=direction,
        tracks=track or None,
        head=head,
        centre_bins=centre_bins,
        motifs=motifs,
        motif=motif or None,
        offset=offset,
        strand=strand,
        instance=instance,
        threshold=threshold,
        features=features,
        sequence=sequence,
        genome=genome,
        annotation=annotation,
        gene_symbols=gene_symbols,
        offsets=parse_json(offsets),
        dna_model=dna_model,
        unphased=unphased,
        missing_genotypes=missing_genotypes,
        other_variants=other_variants,
        overlapping=overlapping,
        unsorted=unsorted,
        gene_features=gene_features,
        donor_column=donor_column,
        gene_sets=gene_sets or None,
        targets=targets or None,
        compare=named_files(compare or []),
        coexpression=coexpression,
        links=links,
        alternative=alternative,
        minimum_cells=minimum_cells,
        sham_genes=sham_genes,
        require_all=not any_gene,
        layer=layer,
        batch_size=batch_size,
        counts_layer=counts_layer,
        use_raw=use_raw,
        gene_id_column=gene_id_column,
        seed=seed,
        device=device,
        trust_remote_code=trust_remote_code,
        overwrite=overwrite,
        progress=True,
    )
    for note in result.summary.get("edit_notes", ()):
        typer.echo(note)
    typer.echo(result.genes.head(10).to_string(index=False))
    if result.recovery is not None:
        shown = ["model", "ranked_by", "gene_set", "n_targets", "average_precision", "average_precision_random"]
        typer.echo(result.recovery.scores[shown].to_string(index=False))
    typer.echo(f"{output / 'report.html'}: the report; tables and figures lie beside it")


def saturate_command(
    gene: Annotated[str, typer.Option(help="Gene id or symbol, as the annotation has it.")],
    genome: Annotated[Path, typer.Option(help="FASTA: plain, gzip or BGZF.")],
    annotation: Annotated[Path, typer.Option(help="GTF, GFF3, UCSC genePred or a table of TSSs.")],
    dna_model: Annotated[str, typer.Option(help="Folder or Hub repository of an Enformer.")],
    track: Annotated[list[int], typer.Option("--track", help="Track to predict; repeatable, the mean of several.")],
    output: Annotated[Path, typer.Option(help="Folder for changes.tsv, bases.tsv, summary.json and figures/.")],
    bases: Annotated[int, typer.Option(help="Bases to change, each to the three others.")] = 200,
    offset: Annotated[int, typer.Option(help="Of their middle from the TSS.")] = 0,
    head: Annotated[str, typer.Option(help="Head of the tracks.")] = "human",
    centre_bins: Annotated[int, typer.Option(help="Positions at the TSS whose predictions are added.")] = 3,
    window_bp: Annotated[int, typer.Option("--window-bp", help="Length of the window that the model reads.")] = 196_608,
    tss_choice: Annotated[str, typer.Option(help="Transcript that gives the TSS, as `embed`.")] = "canonical",
    orient_by_strand: Annotated[
        bool, typer.Option("--orient-by-strand", help="Reverse-complement minus-strand windows.")
    ] = False,
    motifs: Annotated[Path | None, typer.Option(help="JASPAR file, whose hits the figure shows.")] = None,
    gene_symbols: Symbols = None,
    offsets: Offsets = None,
    batch_size: Annotated[int, typer.Option(help="Windows that go through the model together.")] = 8,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Change every base around a TSS to the three others, and see what a DNA model predicts for the gene's expression.

    Example: omics-transformers saturate --gene GATA4 --genome hg38.fa --annotation genes.gtf
    --dna-model EleutherAI/enformer-official-rough --track 4980 --output gata4-saturation
    """
    from .promoter_saturation import saturate

    result: Any = saturate(
        gene,
        output,
        genome=genome,
        annotation=annotation,
        dna_model=dna_model,
        tracks=track,
        bases=bases,
        offset=offset,
        head=head,
        centre_bins=centre_bins,
        window_bp=window_bp,
        tss_choice=tss_choice,
        orient_by_strand=orient_by_strand,
        motifs=motifs,
        gene_symbols=gene_symbols,
        offsets=parse_json(offsets),
        batch_size=batch_size,
        device=device,
        overwrite=overwrite,
        progress=True,
    )
    strongest = result.table.sort_values("predicted_change", key=abs, ascending=False).head(10)
    typer.echo(strongest.to_string(index=False))
    typer.echo(f"{output}: {len(result.table):,} changes of {bases:,} bases")


def named_files(pairs: Sequence[str]) -> dict[str, Path]:
    """Of an option NAME=FILE.

    Raises:
        ValueError: on one that is written otherwise, or a name given twice.
    """
    named: dict[str, Path] = {}
    for pair in pairs:
        name, _, path = pair.partition("=")
        if not name or not path:
            raise ValueError(f"--compare {pair}: expected NAME=FILE, e.g. geneformer=geneformer/genes.tsv")
        if name in named:
            raise ValueError(f"--compare names {name} twice: give each table its own name")
        named[name] = Path(path)
    return named
