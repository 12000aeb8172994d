"""From a gene and a DNA model to the effect of every base around its TSS, in files: what `saturate` runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .promoter_windows import Promoter, WindowLayout, opened_promoters
from .result_folder import require_room, write_result

if TYPE_CHECKING:
    import pandas as pd

    from .pipelines.promoter_mutagenesis_saturation import PromoterSaturation

TABLES = ("changes", "bases", "motif_hits")


def saturate(
    gene: str,
    output: str | Path | None = None,
    *,
    genome: str | Path,
    annotation: str | Path,
    dna_model: str | Path,
    tracks: Sequence[int],
    bases: int = 200,
    offset: int = 0,
    head: str = "human",
    centre_bins: int = 3,
    window_bp: int = 196_608,
    tss_choice: str = "canonical",
    orient_by_strand: bool = False,
    motifs: str | Path | None = None,
    gene_symbols: Mapping[str, str] | str | Path | None = None,
    offsets: Mapping[str, int] | None = None,
    batch_size: int = 8,
    device: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> "PromoterSaturation":
    """Change each base of a stretch of a promoter to the three others, and write what the DNA model predicts.

    Positions, strands and letters are the window's; the files have `gene_offset` as well, in the gene's direction.

    Args:
        gene: id or symbol, as the annotation has it.
        output: folder for changes.tsv (one row a change), bases.tsv (one row a base), motif_hits.tsv, summary.json and
            figures/; nothing is written where None.
        genome, annotation, window_bp, tss_choice, orient_by_strand, gene_symbols, offsets: as `embed_promoters`.
        dna_model: folder or Hub repository of an Enformer.
        tracks, head, centre_bins: what to predict, see `EnformerForGeneFeatures.predicted_expression`.
        bases: how many to change.
        offset: of their middle from the TSS, in the gene's direction: -50 is upstream.
        motifs: JASPAR file, whose hits the figure shows.
        batch_size: windows that go through the model together.
        device: of the model; cpu by default.
        overwrite: replace an earlier result.
        progress: show a progress bar.

    Raises:
        ValueError: as `read_tss`, `promoter_windows` and `saturate_promoter`.
        FileExistsError: where `output` holds something, unless `overwrite` is set and it is of an earlier run.
    """
    from .modeling.modeling_enformer import EnformerForGeneFeatures
    from .pipelines.promoter_mutagenesis_saturation import saturate_promoter

    if output is not None:
        require_room(output, TABLES, overwrite=overwrite)
    layout = WindowLayout(window_bp, tss_choice, orient_by_strand)
    files: dict[str, Any] = {"gene_symbols": gene_symbols, "offsets": offsets}
    with opened_promoters([gene], genome, annotation, layout, **files) as (_, (promoter,)):
        pass
    model = EnformerForGeneFeatures.from_pretrained(dna_model).to(device or "cpu").eval()
    found = saturate_promoter(
        promoter.sequence,
        model,
        tracks=tracks,
        window_bp=bases,
        offset=offset if promoter.strand_in_window == "+" else -offset,
        head=head,
        centre_bins=centre_bins,
        batch_size=batch_size,
        progress=progress,
    )
    if output is not None:
        told = {"tracks": list(tracks), "head": head, "centre_bins": centre_bins}
        told |= {"dna_model": str(dna_model), "dna_weights_origin": model.config.weights_origin}
        _write(Path(output), promoter, found, told, motifs, overwrite)
    return found


def _write(
    output: Path,
    promoter: Promoter,
    found: "PromoterSaturation",
    told: dict[str, Any],
    motifs: str | Path | None,
    overwrite: bool,
) -> None:
    from .pipelines.explanation_figures import draw_mutagenesis

    hits = _hits(found, motifs)
    bases = found.per_base()
    way = 1 if promoter.strand_in_window == "+" else -1
    of_changes, of_bases = (table.assign(gene_offset=way * table["offset"]) for table in (found.table, bases))
    tables = {"changes": of_changes, "bases": of_bases, **({} if motifs is None else {"motif_hits": hits})}
    name = promoter.symbol or promoter.gene_id
    summary = {
        "gene_id": promoter.gene_id,
        "symbol": promoter.symbol,
        **promoter.place(),
        **told,
        "n_changes": len(found.table),
        "n_unknown_bases": found.n_unknown,
        "reference_expression": found.reference_expression,
        "noise_floor": found.noise_floor,
        "n_changes_above_noise": int((found.table["predicted_change"].abs() > found.noise_floor).sum()),
        "recomputed_share": found.recomputed_share,
    }
    title = f"{name}: log2 change of predicted expression; bp of the window, the TSS at {len(promoter.sequence) // 2:,}"
    drawn = bases.rename(columns={f"change_{base}": f"effect_{base}" for base in "ACGT"})
    figures = {"saturation": draw_mutagenesis(drawn, hits, contig="window", title=title)}
    write_result(output, tables, summary, figures, overwrite=overwrite)


def _hits(found: "PromoterSaturation", motifs: str | Path | None) -> "pd.DataFrame":
    import pandas as pd

    if motifs is None:
        return pd.DataFrame(columns=["matrix_id", "motif", "start", "end", "strand"])
    from .pipelines.motif_hits import find_hits, read_jaspar

    hits = find_hits(found.reference_sequence[found.start : found.end], read_jaspar(motifs))
    return hits.assign(start=hits["start"] + found.start, end=hits["end"] + found.start)
