"""Commands around SegmentNT: build segments, convert, segment, explain, variant-effect."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_options import CacheFolder, Device, Offsets, Overwrite, TrustRemoteCode, parse_json

Genome = Annotated[Path, typer.Option(help="FASTA: plain, gzip or BGZF.")]
Model = Annotated[str, typer.Option(help="Folder or Hub repository of a SegmentNT.")]
WindowOfModel = Annotated[
    int | None, typer.Option("--window-bp", help="Bases that the model reads; as many as it was trained on without it.")
]


def build_segments_command(
    genome: Annotated[list[Path], typer.Option("--genome", help="FASTA: plain, gzip or BGZF; repeatable.")],
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    train: Annotated[
        list[str], typer.Option("--train", help="Contig, or region 20:1-30,000,000 (1-based), to train on; repeatable.")
    ],
    validation: Annotated[list[str] | None, typer.Option("--validation", help="... to validate on.")] = None,
    test: Annotated[list[str] | None, typer.Option("--test", help="... to test on.")] = None,
    annotation: Annotated[
        Path | None,
        typer.Option(help="GTF, GFF3 or UCSC genePred, for genes, exons, introns, splice sites and UTRs."),
    ] = None,
    elements: Annotated[
        list[str] | None,
        typer.Option("--element", help="Element to have, in this order; all that the files tell without it."),
    ] = None,
    beds: Annotated[
        list[str] | None,
        typer.Option("--bed", help="ELEMENT=PATH[:name=NAME][:chain=PATH]; files of one element are joined."),
    ] = None,
    minimum_files: Annotated[
        list[str] | None,
        typer.Option(help="ELEMENT=NUMBER: files in which a region must be present; 1 is the union."),
    ] = None,
    tissue_beds: Annotated[
        list[str] | None,
        typer.Option("--tissue-bed", help="promoter:TISSUE=PATH or enhancer:TISSUE=PATH, options as --bed."),
    ] = None,
    invariant_share: Annotated[float, typer.Option(help="Regions in this share of tissues are invariant.")] = 1.0,
    specific_share: Annotated[
        float, typer.Option(help="Regions in at most this share of tissues, or in one, are specific.")
    ] = 0.0,
    blacklist: Annotated[
        list[str] | None,
        typer.Option("--blacklist", help="BED of bases neither trained on nor scored: PATH[:chain=PATH]."),
    ] = None,
    window_bp: Annotated[int, typer.Option("--window-bp", help="Length of a window, in bp.")] = 6_000,
    step_bp: Annotated[
        int | None, typer.Option("--step-bp", help="From one window's start to the next's; the window's length.")
    ] = None,
    ends: Annotated[str, typer.Option(help="Bases behind the last whole window: drop or keep.")] = "drop",
    split_gap_bp: Annotated[
        int | None,
        typer.Option("--split-gap-bp", help="Least distance of splits on one contig; the window's length."),
    ] = None,
    maximum_masked: Annotated[
        float, typer.Option(help="Windows with a larger share of N or blacklisted bases are dropped.")
    ] = 0.5,
    transcripts: Annotated[str, typer.Option(help="all, or protein_coding_and_lncRNA.")] = "all",
    maximum_level: Annotated[
        int | None, typer.Option(help="Highest GENCODE level kept: 2 leaves out automatic annotation.")
    ] = None,
    splice_site_bp: Annotated[
        int, typer.Option("--splice-site-bp", help="Bases of the intron that are a splice site.")
    ] = 2,
    minimum_intron_bp: Annotated[
        int, typer.Option("--minimum-intron-bp", help="Shorter gaps between exons are no introns.")
    ] = 20,
    minimum_start_codons: Annotated[
        float, typer.Option(help="Least share of start codons that are ATG; 0: no check.")
    ] = 0.6,
    minimum_match: Annotated[float, typer.Option(help="Least share of an interval that a lift keeps.")] = 0.95,
    beyond_contig: Annotated[str, typer.Option(help="Intervals beyond their contig: error, or drop.")] = "error",
    offsets: Offsets = None,
    cache_folder: CacheFolder = None,
    overwrite: Overwrite = False,
) -> None:
    """Genome, annotation and BED files to windows whose bases carry labels of genomic elements.

    Example: omics-transformers build segments --genome hg38.fa.gz --annotation gencode.gtf.gz --output segments
    --train chr1 --validation chr21 --test chr20 --bed CTCF-bound=peaks.bed.gz --blacklist blacklist.bed
    """
    from .data_scripts.bed_files import BedSource, beds_from_text, tissue_beds_from_text
    from .data_scripts.segments import build_segments

    report = build_segments(
        genome,
        annotation,
        output,
        train=train,
        validation=validation or (),
        test=test or (),
        elements=elements or None,
        beds=beds_from_text(beds or ()),
        minimum_files=dict(_element_and_number(text) for text in minimum_files or ()),
        tissue_beds=tissue_beds_from_text(tissue_beds or ()),
        invariant_share=invariant_share,
        specific_share=specific_share,
        blacklist=[BedSource.from_text(text) for text in blacklist or ()] or None,
        window_bp=window_bp,
        step_bp=step_bp,
        ends=ends,  # type: ignore[arg-type]
        split_gap_bp=split_gap_bp,
        maximum_masked=maximum_masked,
        transcripts=transcripts,  # type: ignore[arg-type]
        maximum_level=maximum_level,
        splice_site_bp=splice_site_bp,
        minimum_intron_bp=minimum_intron_bp,
        minimum_start_codons=minimum_start_codons,
        minimum_match=minimum_match,
        beyond_contig=beyond_contig,  # type: ignore[arg-type]
        offsets=parse_json(offsets),
        cache_folder=cache_folder,
        overwrite=overwrite,
    )
    windows = ", ".join(f"{counts['windows']:,} {split}" for split, counts in report["windows"].items())
    typer.echo(f"{output}: windows: {windows}; report.json accounts for what was left out")


def convert_command(
    source: Annotated[str, typer.Argument(help="Folder or Hub repository of published weights.")],
    output: Annotated[Path, typer.Argument(help="Folder to make.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")] = None,
    vocab_file: Annotated[Path | None, typer.Option(help="vocab.txt, where it is not beside the weights.")] = None,
    elements: Annotated[
        list[str] | None,
        typer.Option("--element", help="SegmentNT's elements in order, where config.json has none; repeatable."),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16 or bfloat16; that of the weights without it.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Published Nucleotide Transformer (v1, v2) or SegmentNT weights to a folder that the Auto classes read.

    Example: omics-transformers convert nucleotide-transformer InstaDeepAI/segment_nt segment-nt
    """
    import torch

    from .training.published_nucleotide_transformer import convert_nucleotide_transformer

    if dtype is not None and dtype not in ("float32", "float16", "bfloat16"):
        raise ValueError(f"--dtype is {dtype!r}; expected float32, float16 or bfloat16")
    report = convert_nucleotide_transformer(
        source,
        output,
        revision=revision,
        vocab_file=vocab_file,
        elements=elements or None,
        dtype=None if dtype is None else getattr(torch, dtype),
        overwrite=overwrite,
    )
    unused = f"; {len(report.unused_tensors)} that no computation reads left out" if report.unused_tensors else ""
    typer.echo(f"{output}: {report.model_class}, {report.parameters:,} numbers in {report.tensors} tensors{unused}")


def segment_command(
    genome: Annotated[Path, typer.Argument(help="FASTA: plain, gzip or BGZF.")],
    output: Annotated[Path, typer.Option(help="Folder for tracks/, segments.bed, segments.tsv, summary.json.")],
    model: Model,
    regions: Annotated[
        list[str] | None, typer.Option("--region", help="chr20:1,000-2,000 (1-based) or a contig; repeatable.")
    ] = None,
    bed: Annotated[Path | None, typer.Option(help="BED of further regions.")] = None,
    window_bp: WindowOfModel = None,
    overlap: Annotated[float, typer.Option(help="Share of a window that the next one sees too.")] = 0.5,
    batch_size: Annotated[int | None, typer.Option(help="Windows a model call.")] = None,
    reverse_complement: Annotated[
        bool, typer.Option("--reverse-complement", help="Average with the other strand's answer.")
    ] = False,
    split_at_n: Annotated[int, typer.Option(help="Runs of N of this length split the sequence, in bp.")] = 12,
    thresholds: Annotated[
        str | None,
        typer.Option(help="Probability of a call, or JSON file of element: probability; else the model's own, or 0.5."),
    ] = None,
    minimum_length: Annotated[int, typer.Option(help="Shorter segments are left out and counted, in bp.")] = 1,
    merge_gap: Annotated[int, typer.Option(help="Segments at most so far apart become one, in bp.")] = 0,
    decimals: Annotated[int, typer.Option(help="Of probabilities in tracks and calls; 0: not rounded.")] = 3,
    processes: Annotated[int, typer.Option(help="Processes that write tracks; the bytes do not depend on it.")] = 1,
    annotation: Annotated[Path | None, typer.Option(help="GTF, GFF3 or genePred drawn beneath the plots.")] = None,
    plot: Annotated[list[str] | None, typer.Option("--plot", help="Region to draw; repeatable.")] = None,
    offsets: Offsets = None,
    cache_folder: CacheFolder = None,
    device: Device = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; by the device without it.")] = None,
    trust_remote_code: TrustRemoteCode = False,
    overwrite: Overwrite = False,
) -> None:
    """Probability of each genomic element at each base, as bigWig; calls as BED and table; plots of loci.

    Whole chromosomes go through in flat memory, and the same command goes on with a run that was stopped.

    Example: omics-transformers segment hg38.fa.gz --model segment-nt --region chr20 --output chr20
    """
    from .segmentation import segment

    made = segment(
        genome,
        output,
        model=model,
        regions=regions or None,
        bed=bed,
        window_bp=window_bp,
        overlap=overlap,
        batch_size=batch_size,
        reverse_complement=reverse_complement,
        split_at_n=split_at_n,
        thresholds=_thresholds(thresholds),
        minimum_length=minimum_length,
        merge_gap=merge_gap,
        decimals=decimals or None,
        processes=processes,
        annotation=annotation,
        plot=plot or None,
        offsets=parse_json(offsets),
        cache_folder=cache_folder,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        overwrite=overwrite,
        progress=True,
    )
    typer.echo(f"{made.folder}: tracks/*.bw, segments.bed, segments.tsv, summary.json")


def explain_command(
    region: Annotated[str, typer.Argument(help="Bases whose answer is explained: chr20:1,001-1,010 (1-based).")],
    genome: Genome,
    model: Model,
    element: Annotated[str, typer.Option(help="One of the model's, e.g. splice_donor.")],
    output: Annotated[Path, typer.Option(help="Folder for tables, figures/ and summary.json.")],
    motifs: Annotated[Path | None, typer.Option(help="Known motifs in the JASPAR format.")] = None,
    quantity: Annotated[str, typer.Option(help="What is explained: log_odds or probability.")] = "log_odds",
    window_bp: WindowOfModel = None,
    baseline: Annotated[str, typer.Option(help="Of integrated gradients: mask or n.")] = "mask",
    steps: Annotated[int, typer.Option(help="Of integrated gradients.")] = 50,
    mutagenesis_bp: Annotated[
        int, typer.Option("--mutagenesis-bp", help="Bases changed to each other base; 0 for none.")
    ] = 200,
    threshold: Annotated[float, typer.Option(help="p-value below which a place is a motif hit.")] = 1e-4,
    background: Annotated[str, typer.Option(help="What hits are compared with: gc or positions.")] = "gc",
    batch_size: Annotated[int, typer.Option(help="Sequences a model call.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the background's draw.")] = 0,
    offsets: Offsets = None,
    cache_folder: CacheFolder = None,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """What a model's answer rests on: gradients, changed bases, attention, and how they agree with known motifs.

    Needs the extra `interpret` (pip install "omics-transformers[interpret]").

    Example: omics-transformers explain chr20:1,001-1,010 --genome hg38.fa --model segment-nt --element splice_donor
    --motifs motifs.jaspar --output explained
    """
    from .explanation import explain

    made = explain(
        region,
        output,
        model=model,
        genome=genome,
        element=element,
        motifs=motifs,
        quantity=quantity,  # type: ignore[arg-type]
        window_bp=window_bp,
        baseline=baseline,  # type: ignore[arg-type]
        steps=steps,
        mutagenesis_bp=mutagenesis_bp,
        threshold=threshold,
        background=background,  # type: ignore[arg-type]
        batch_size=batch_size,
        seed=seed,
        offsets=parse_json(offsets),
        cache_folder=cache_folder,
        device=device,
        overwrite=overwrite,
        progress=True,
    )
    if made.comparison is not None:
        typer.echo(made.comparison.head(10).to_string(index=False))
    typer.echo(f"{output}: tables, figures/ and summary.json")


def variant_effect_command(
    genome: Genome,
    model: Model,
    output: Annotated[Path, typer.Option(help="Folder for tables, figures/ and summary.json.")],
    variants: Annotated[list[str] | None, typer.Argument(help="chr20:1000:A>G each, 1-based.")] = None,
    vcf: Annotated[Path | None, typer.Option(help="VCF with further variants; genotypes are not looked at.")] = None,
    window_bp: WindowOfModel = None,
    distance_bp: Annotated[
        int | None, typer.Option("--distance-bp", help="Bases on either side of which changes count; all without it.")
    ] = None,
    phases: Annotated[int, typer.Option(help="Windows a variant, moved base by base, that are averaged.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Sequences a model call.")] = 8,
    plots: Annotated[int, typer.Option(help="How many of the most changed variants are drawn.")] = 5,
    offsets: Offsets = None,
    cache_folder: CacheFolder = None,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """What variants change in the segmentation: reference against alternative allele, ranked.

    Example: omics-transformers variant-effect chr20:1000:A>G --genome hg38.fa --model segment-nt --output effects
    """
    from .variant_effects import variant_effect

    made = variant_effect(
        variants or (),
        output,
        model=model,
        genome=genome,
        vcf=vcf,
        window_bp=window_bp,
        distance_bp=distance_bp,
        phases=phases,
        batch_size=batch_size,
        plots=plots,
        offsets=parse_json(offsets),
        cache_folder=cache_folder,
        device=device,
        overwrite=overwrite,
        progress=True,
    )
    typer.echo(made.variants.head(10).to_string(index=False))
    typer.echo(f"{output}: tables, figures/ and summary.json")


def _thresholds(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return json.loads(Path(text).read_text(encoding="utf-8"))


def _element_and_number(text: str) -> tuple[str, Any]:
    element, _, number = text.rpartition("=")
    if not element or not number.isdecimal():
        raise ValueError(f"--minimum-files {text}: expected ELEMENT=NUMBER, e.g. CTCF-bound=2")
    return element, int(number)
