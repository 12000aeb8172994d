"""From a saved SegmentNT, a genome and variants to a ranked table of effects: what `variant-effect` runs."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .result_folder import require_room, write_result

if TYPE_CHECKING:
    import pandas as pd

    from .pipelines.segmentation_variants import VariantEffects
    from .pipelines.variant_windows import Variant
    from .segmentation_model import SegmentationModel

logger = logging.getLogger(__name__)

TABLES = ("effects", "variants", "not_scored")


@dataclass(frozen=True)
class VariantEffectResult:
    """Effects of variants on the model's answer.

    Attributes:
        effects: one row a variant and element, see `VariantEffects.effects`.
        variants: one row a variant, the most changed first, see `VariantEffects.variants`.
        not_scored: variants without an effect, and why.
        summary: what was done, how many variants were scored, and what was left out.
        figures: PNG bytes of the most changed variants, by name.
    """

    effects: "pd.DataFrame"
    variants: "pd.DataFrame"
    not_scored: "pd.DataFrame"
    summary: dict[str, Any]
    figures: Mapping[str, bytes] = field(default_factory=dict)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write effects.tsv, variants.tsv, not_scored.tsv, summary.json and figures/*.png; returns the folder.

        Raises:
            FileExistsError: where the folder has files, unless `overwrite` is set and all are of an earlier result.
        """
        tables = {name: getattr(self, name) for name in TABLES}
        return write_result(folder, tables, self.summary, self.figures, overwrite=overwrite)


def variant_effect(
    variants: Sequence[str],
    output: str | Path | None = None,
    *,
    model: "str | Path | SegmentationModel",
    genome: str | Path,
    vcf: str | Path | None = None,
    window_bp: int | None = None,
    distance_bp: int | None = None,
    phases: int = 1,
    batch_size: int = 8,
    plots: int = 5,
    offsets: Mapping[str, int] | None = None,
    cache_folder: str | Path | None = None,
    device: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> VariantEffectResult:
    """Compare the model's answer with the reference and with the alternative allele of each variant.

    Args:
        variants: `chr20:1000:A>G` each, 1-based; insertions and deletions with the base in front, as in a VCF.
        output: folder for tables, figures/ and summary.json; nothing is written where None.
        model: folder or Hub repository of a SegmentNT, or an opened one.
        genome: FASTA: plain, gzip or BGZF; every reference allele is held against it.
        vcf: file of further variants, of which every alternative allele is one; genotypes are not looked at.
        window_bp, distance_bp, phases, batch_size: see `variant_effects`.
        plots: how many of the most changed variants are drawn.
        offsets, cache_folder: as `open_genome`.
        device: e.g. cpu or cuda:0; a GPU where there is one.
        overwrite: replace an earlier result in `output`.
        progress: show a progress bar.

    Returns:
        VariantEffectResult.

    Raises:
        FileExistsError: where `output` holds something.
        ValueError: on variants that cannot be read, reference alleles that the genome does not have, no variant at all,
            or options out of range; all before the model runs.
    """
    from .data_scripts.genomes import open_genome
    from .pipelines.segmentation_variants import variant_effects
    from .segmentation_model import open_segmentation_model

    if output is not None:
        require_room(output, TABLES, overwrite=overwrite)
    if plots < 0:
        raise ValueError(f"plots is {plots}: expected 0 or more")
    chosen, left_out = read_variants(variants, vcf)
    opened = open_segmentation_model(model, device=device) if isinstance(model, str | Path) else model
    with open_genome(genome, offsets=offsets, cache_folder=cache_folder) as sequences:
        found = variant_effects(
            *opened,
            chosen,
            sequences,
            window_bp=window_bp,
            distance_bp=distance_bp,
            phases=phases,
            batch_size=batch_size,
            progress=progress,
        )
        figures = _draw(opened, found, sequences, plots)
    summary = {
        "variants": len(chosen),
        "scored": len(found.variants),
        "not_scored": len(found.not_scored),
        "left_out": left_out,
        **found.settings,
        "model": opened.model.name_or_path,
        "genome": str(genome),
        "vcf": None if vcf is None else str(vcf),
    }
    result = VariantEffectResult(found.effects, found.variants, found.not_scored, summary, figures)
    if output is not None:
        result.save(output, overwrite=overwrite)
    return result


def read_variants(texts: Sequence[str], vcf: str | Path | None) -> "tuple[list[Variant], dict[str, int]]":
    """Those given and those of the file, and how many of the file's alternative alleles were left out, by reason.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: on variants that cannot be read, or no variant at all.
    """
    from .data_scripts.variant_rows import read_variant_rows
    from .pipelines.variant_windows import parse_variant, variants_of_rows

    chosen = [parse_variant(text) for text in texts]
    left_out: dict[str, int] = {}
    if vcf is not None:
        rows = variants_of_rows(read_variant_rows(vcf))
        chosen, left_out = chosen + rows.variants, rows.left_out
        for reason, number in left_out.items():
            logger.warning("%s: %d times left out: %s", vcf, number, reason)
    if not chosen:
        raise ValueError("there is no variant to look at: give chr:position:REF>ALT, or a VCF file with some")
    return chosen, left_out


def _draw(opened: "SegmentationModel", found: "VariantEffects", genome: Any, plots: int) -> dict[str, bytes]:
    """Figures of the variants with the lowest ranks; they go through the model once more."""
    from .pipelines.segmentation_target import element_names
    from .pipelines.segmentation_variants import variant_tracks
    from .pipelines.variant_figures import draw_variant
    from .pipelines.variant_windows import Variant

    figures = {}
    for row in found.variants.head(plots).to_dict("records"):
        variant = Variant(*(row[name] for name in ("contig", "start", "reference", "alternative", "name")))
        tracks = variant_tracks(
            *opened, variant, genome, window_bp=found.settings["window_bp"], phases=found.settings["phases"]
        )
        figures[f"variant_{row['rank']}"] = draw_variant(tracks, element_names(opened.model.config))
    return figures
