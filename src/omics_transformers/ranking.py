"""From a saved region ranker and a genome to ordered regions, variants and tracks: what `rank` runs."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .ranking_tracks import Loci, draw_tracks, write_track
from .result_folder import require_room, result_folder, write_parts

if TYPE_CHECKING:
    import pandas as pd

    from .data_scripts.genomes import Genome
    from .pipelines.region_ranking import RegionRankingPipeline
    from .pipelines.region_ranking_input import LongRegions
    from .pipelines.region_ranking_result import RegionRanking
    from .pipelines.region_ranking_run import ScoreSettings
    from .pipelines.region_ranking_variants import RegionVariantEffects
    from .pipelines.variant_windows import Variant

logger = logging.getLogger(__name__)

TABLES = ("regions", "variants", "not_scored")
BED, TRACKS, TRACK = "regions.bed", "tracks", "scores.bw"


@dataclass(frozen=True)
class RankedGenome:
    """What `rank_regions` wrote.

    Attributes:
        folder: regions.tsv and regions.bed, variants.tsv and not_scored.tsv, tracks/scores.bw, as far as they were
            asked for; figures/ and summary.json.
        summary: the content of summary.json.
        regions: as `RegionRanking.regions`; None where none were asked for.
        variants: as `RegionVariantEffects.variants`; None where none were asked for.
    """

    folder: Path
    summary: dict[str, Any]
    regions: "pd.DataFrame | None" = None
    variants: "pd.DataFrame | None" = None


def rank_regions(
    genome: str | Path,
    output: str | Path,
    *,
    model: "str | Path | RegionRankingPipeline",
    bed: str | Path | None = None,
    regions: Sequence[str] | None = None,
    vcf: str | Path | None = None,
    variants: Sequence[str] | None = None,
    track: Sequence[str] | None = None,
    cell_type: str | None = None,
    region_bp: int | None = None,
    step_bp: int | None = None,
    maximum_unknown: float = 0.5,
    phases: int = 1,
    padding_draws: int = 1,
    reverse_complement: bool = False,
    long_regions: "LongRegions" = "error",
    batch_size: int | None = None,
    offsets: Mapping[str, int] | None = None,
    cache_folder: str | Path | None = None,
    device: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> RankedGenome:
    """Order regions by accessibility, score variants by what they do to it, and write scores along loci.

    All is read and checked before the model runs, and the folder is there whole or not at all.

    Args:
        genome: FASTA: plain, gzip or BGZF.
        output: folder for the tables, tracks/, figures/ and summary.json.
        model: folder or Hub repository of a region ranker, or a pipeline that holds one. It runs in float32.
        bed: file of regions (0-based, half-open, as BED is), in any order; names are kept.
        regions: further ones: `chr20:1,001-1,500` (1-based, both positions included) or contigs.
        vcf: file of variants, of which every alternative allele is one; genotypes are not looked at.
        variants: further ones: `chr20:1000:A>G` each, 1-based.
        track: loci along which scores are written, as `regions`; those that share bases become one.
        cell_type: one of the model's, where its scores depend on it.
        region_bp: length of the region around variants and steps; the model's own, or 500, where None.
        step_bp: bases of a track that share a value; a fifth of `region_bp` where None.
        maximum_unknown: steps whose region has a larger share of N have no value.
        phases: how many first bases each allele is read from, scores averaged: 1 to the model's k.
        padding_draws, reverse_complement, long_regions, batch_size: as the pipeline takes them.
        offsets, cache_folder: as `open_genome`.
        device: e.g. cpu or cuda:0; a GPU where there is one.
        overwrite: replace an earlier result in `output`.
        progress: show progress bars.

    Returns:
        RankedGenome.

    Raises:
        FileExistsError: where `output` holds something.
        FileNotFoundError: naming the file that is not there.
        ValueError: where nothing is asked for; for letters that are not DNA, unknown contigs, regions beyond them or
            too long, reference alleles that the genome does not have, another kind of model, a cell type that is
            unknown, missing or of no use, loci without a value, and numbers out of range; all before the model runs.
    """
    from .data_scripts.genomes import open_genome

    require_room(output, TABLES, overwrite=overwrite, others=(BED, TRACKS))
    _require_something(bed, regions, vcf, variants, track)
    with open_genome(genome, offsets=offsets, cache_folder=cache_folder) as opened:
        intervals = _read_intervals(opened, regions, bed)
        alleles, left_out = _read_alleles(opened, variants, vcf)
        pipe = open_ranking_pipeline(model, device=device)
        settings = pipe.score_settings(
            cell_type=cell_type,
            padding_draws=padding_draws,
            reverse_complement=reverse_complement,
            batch_size=batch_size,
        )
        options: dict[str, Any] = {
            "cell_type": cell_type,
            "padding_draws": padding_draws,
            "reverse_complement": reverse_complement,
            "batch_size": batch_size,
            "progress": progress,
        }
        steps = pipe.track_settings(region_bp=region_bp, step_bp=step_bp, maximum_unknown=maximum_unknown)
        pipe.require_phases(phases)
        loci = Loci.read(opened, track, pipe, steps)
        _warn_of_unused(bool(alleles), bool(loci.regions), phases, step_bp)
        made = _Made()
        if intervals:
            made.ranking = pipe(intervals, genome=opened, long_regions=long_regions, **options)
        if alleles:
            made.effects = pipe.variants(alleles, opened, region_bp=region_bp, phases=phases, **options)
        made.summary = {
            **pipe.summary(settings),
            "genome": str(genome),
            "bed": None if bed is None else str(bed),
            "vcf": None if vcf is None else str(vcf),
            "left_out": left_out,
        }
        with result_folder(output) as folder:
            _write(folder, made, loci, pipe, settings, progress)
    return RankedGenome(
        Path(output),
        made.summary,
        None if made.ranking is None else made.ranking.regions,
        None if made.effects is None else made.effects.variants,
    )


def open_ranking_pipeline(
    model: "str | Path | RegionRankingPipeline", *, device: str | None = None
) -> "RegionRankingPipeline":
    """A pipeline around a saved region ranker, in float32; no code but this package's runs.

    Args:
        model: folder or Hub repository that run_region_ranking.py wrote; a pipeline is given back as it is.
        device: e.g. cpu or cuda:0; a GPU where there is one.

    Raises:
        ValueError: where it is another kind of model, or lacks tensors.
        OSError: where there is no model.
    """
    from .modeling.modeling_nt_region_ranker import NTRegionRanker
    from .modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
    from .pipelines.region_ranking import RegionRankingPipeline, require_region_ranker
    from .saved_model import open_saved_model

    if not isinstance(model, str | Path):
        return model
    opened = open_saved_model(model, NTRegionRanker, check=require_region_ranker, device=device)
    return RegionRankingPipeline(opened, NucleotideKmerTokenizer.from_pretrained(model), device=opened.device)


@dataclass
class _Made:
    ranking: "RegionRanking | None" = None
    effects: "RegionVariantEffects | None" = None
    summary: dict[str, Any] = field(default_factory=dict)


def _require_something(*inputs: Any) -> None:
    for name, given in zip(("regions", "variants", "track"), (inputs[1], inputs[3], inputs[4]), strict=True):
        if isinstance(given, str):
            raise ValueError(f"{name} is the text {given!r}: give a list, such as [{given!r}]")
    if not any(inputs):
        raise ValueError(
            "there is nothing to score: give a BED file or regions, a VCF file or variants, or loci for a track "
            "(--bed, --region, --vcf, --variant, --track)"
        )


def _warn_of_unused(has_variants: bool, has_track: bool, phases: int, step_bp: int | None) -> None:
    if phases != 1 and not has_variants:
        logger.warning("phases is %d, and there is no variant that it would be used for", phases)
    if step_bp is not None and not has_track:
        logger.warning("step_bp is %d, and there is no track that it would be used for", step_bp)


def _read_intervals(
    genome: "Genome", regions: Sequence[str] | None, bed: str | Path | None
) -> list[tuple[str, int, int, str]]:
    from .pipelines.region_ranking_input import read_regions
    from .segmentation_regions import regions_of_bed

    found = [] if bed is None else regions_of_bed(genome, bed)
    found += read_regions(list(regions), genome)[1] if regions else []
    return [(*region, name) for region, name in found]


def _read_alleles(
    genome: "Genome", variants: Sequence[str] | None, vcf: str | Path | None
) -> "tuple[list[Variant], dict[str, int]]":
    from .pipelines.variant_windows import check_alleles
    from .variant_effects import read_variants

    if vcf is None and not variants:
        return [], {}
    alleles, left_out = read_variants(variants or (), vcf)
    check_alleles(alleles, genome)
    return alleles, left_out


def _write(
    folder: Path,
    made: _Made,
    loci: Loci,
    pipe: "RegionRankingPipeline",
    settings: "ScoreSettings",
    progress: bool,
) -> None:
    """Everything but the place of the folder; the summary grows by what is written."""
    tables, figures = {}, {}
    if made.ranking is not None:
        tables["regions"] = made.ranking.regions
        figures["scores"] = made.ranking.figure()
        made.ranking.to_bed(folder / BED)
        made.summary["regions"] = dict(made.ranking.summary)
    if made.effects is not None:
        tables["variants"], tables["not_scored"] = made.effects.variants, made.effects.not_scored
        made.summary["variants"] = made.effects.summary
    if loci.regions:
        write_track(folder / TRACKS / TRACK, loci, pipe, settings, progress=progress)
        figures |= draw_tracks(folder / TRACKS / TRACK, loci, None if made.ranking is None else made.ranking.regions)
        made.summary["track"] = {**loci.settings._asdict(), "loci": loci.as_rows()}
    write_parts(folder, tables, made.summary, figures)
