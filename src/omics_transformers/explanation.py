"""From a saved SegmentNT and a locus to what its answer rests on: what `explain` runs.

Attributions, mutagenesis and attention of one window of the genome, and how they agree with known motifs, as tables on
the genome's coordinates (0-based, half-open), figures, and a summary.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .result_folder import require_room, write_result

if TYPE_CHECKING:
    import pandas as pd

    from .pipelines.motif_comparison import Background
    from .pipelines.motif_hits import Motif
    from .pipelines.segmentation_attention import SequenceAttention
    from .pipelines.segmentation_attribution import Baseline, SequenceAttribution
    from .pipelines.segmentation_input import Region
    from .pipelines.segmentation_mutagenesis import Mutagenesis
    from .pipelines.segmentation_target import Quantity, SegmentationTarget
    from .segmentation_model import SegmentationModel

logger = logging.getLogger(__name__)

TABLES = ("attribution", "mutagenesis", "attention_tokens", "attention_heads", "motif_hits", "motif_comparison")
ZOOM_BP = 60  # shown on either side of the region


@dataclass(frozen=True)
class Explanation:
    """What a SegmentNT's answer for a locus rests on.

    Attributes:
        region: the bases whose answer is explained.
        window_start: coordinate of the first base that the model read.
        attribution, mutagenesis, attention: of that window; mutagenesis is None where it was not asked for.
        hits: motif hits in the window, on its own coordinates, with each hit's mean integrated gradients and importance
            under mutagenesis, and the percentiles of their magnitudes among all windows as wide; None without motifs.
        comparison: scores within the hits against the background, a row a kind of scores and motif; None without.
        summary: what was explained, how, and in numbers how well.
    """

    region: "Region"
    window_start: int
    attribution: "SequenceAttribution"
    mutagenesis: "Mutagenesis | None"
    attention: "SequenceAttention"
    hits: "pd.DataFrame | None"
    comparison: "pd.DataFrame | None"
    summary: dict[str, Any]

    def tables(self) -> "dict[str, pd.DataFrame]":
        """By the names of the files, on the genome's coordinates."""
        tables = {
            "attribution": self._on_genome(self.attribution.bases(), "position", "token_start"),
            "attention_tokens": self._on_genome(self.attention.token_table(), "start", "end"),
            "attention_heads": self._on_genome(self.attention.head_table(), "top_start", "top_end"),
        }
        if self.mutagenesis is not None:
            tables["mutagenesis"] = self._on_genome(self.mutagenesis.table(), "position")
        if self.hits is not None and self.comparison is not None:
            tables |= {"motif_hits": self._on_genome(self.hits, "start", "end"), "motif_comparison": self.comparison}
        return tables

    def figures(self) -> dict[str, bytes]:
        """PNG bytes by the names of the files."""
        from .pipelines.explanation_figures import (
            draw_attention_maps,
            draw_attention_received,
            draw_attribution,
            draw_motif_comparison,
            draw_mutagenesis,
        )

        tables = self.tables()
        what = f"{self.summary['element']} at {self.region}"
        target = (self.region.start, self.region.end)
        bases = tables["attribution"]
        hits = tables.get("motif_hits", _no_hits())
        near = bases["position"].between(target[0] - ZOOM_BP, target[1] + ZOOM_BP - 1)
        place: dict[str, Any] = {"contig": self.region.contig, "target": target}
        figures = {
            "attribution": draw_attribution(bases, hits, title=f"What {what} rests on", **place),
            "attribution_zoom": draw_attribution(
                bases[near].reset_index(drop=True), hits, title=f"What {what} rests on, nearby", **place
            ),
            "attention_received": draw_attention_received(
                self.attention.received,
                self.attention.encoded.spans,
                start=self.window_start,
                title=f"Where {self.region} attends to",
                **place,
            ),
            "attention_maps": draw_attention_maps(
                self.attention.binned, title=f"Attention of {self.region} (down) to the window (right)"
            ),
        }
        if self.mutagenesis is not None:
            figures["mutagenesis"] = draw_mutagenesis(
                tables["mutagenesis"], hits, contig=self.region.contig, title=f"Changed bases and {what}"
            )
        if self.comparison is not None:
            figures["motif_comparison"] = draw_motif_comparison(
                self.comparison, title=f"Motifs and what {self.summary['element']} rests on"
            )
        return figures

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the tables as .tsv, summary.json and figures/*.png; returns the folder.

        Raises:
            FileExistsError: where the folder has files, unless `overwrite` is set and all are of an earlier result.
        """
        return write_result(folder, self.tables(), self.summary, self.figures(), overwrite=overwrite)

    def _on_genome(self, table: "pd.DataFrame", *columns: str) -> "pd.DataFrame":
        moved = table.assign(**{column: table[column] + self.window_start for column in columns})
        moved.insert(0, "contig", self.region.contig)
        return moved


def explain(
    region: str,
    output: str | Path | None = None,
    *,
    model: "str | Path | SegmentationModel",
    genome: str | Path,
    element: str,
    motifs: str | Path | None = None,
    quantity: "Quantity" = "log_odds",
    window_bp: int | None = None,
    baseline: "Baseline" = "mask",
    steps: int = 50,
    mutagenesis_bp: int = 200,
    threshold: float = 1e-4,
    background: "Background" = "gc",
    batch_size: int = 4,
    seed: int = 0,
    offsets: Mapping[str, int] | None = None,
    cache_folder: str | Path | None = None,
    device: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Explanation:
    """Say what the model's answer for one element in one region rests on.

    Args:
        region: the bases whose answer is explained, `chr20:1,001-1,010` (1-based, both positions included).
        output: folder for tables, figures/ and summary.json; nothing is written where None.
        model: folder or Hub repository of a SegmentNT, or an opened one.
        genome: FASTA: plain, gzip or BGZF.
        element: one of the model's, e.g. "splice_donor".
        motifs: file in the JASPAR format; without it, no motifs are looked for.
        quantity: what is explained, summed over the region: "log_odds" or "probability".
        window_bp: bases around the region that the model reads; as many as it was trained on where None.
        baseline, steps: of integrated gradients, see `attribute_sequence`.
        mutagenesis_bp: bases in the middle of the region and around it that are changed, three forward passes each; 0
            for none.
        threshold: p-value below which a place is a motif hit.
        background, seed: what hits are compared with, and of its draw; see `compare_with_hits`.
        batch_size: sequences that go through the model together.
        offsets, cache_folder: as `open_genome`.
        device: e.g. cpu or cuda:0; a GPU where there is one.
        overwrite: replace an earlier result in `output`.
        progress: show a progress bar.

    Returns:
        Explanation.

    Raises:
        FileExistsError: where `output` holds something.
        ImportError: without captum and memelite (the extra `interpret`).
        ValueError: on a region that is not in the genome, is N, or is longer than the window, an unknown element, or
            options out of range.
    """
    from .data_scripts.genomes import open_genome
    from .pipelines.motif_comparison import check_background
    from .pipelines.motif_hits import find_hits, read_jaspar
    from .pipelines.segmentation_attention import attend_sequence
    from .pipelines.segmentation_attribution import attribute_sequence
    from .pipelines.segmentation_input import find_region
    from .pipelines.segmentation_target import SegmentationTarget, element_index

    if output is not None:
        require_room(output, TABLES, overwrite=overwrite)
    if mutagenesis_bp < 0:
        raise ValueError(f"mutagenesis_bp is {mutagenesis_bp}: expected 0 for none, or more")
    check_background(background)
    known_motifs = None if motifs is None else read_jaspar(motifs)
    opened = _opened(model, device)
    element_index(opened.model.config, element)
    with open_genome(genome, offsets=offsets, cache_folder=cache_folder) as sequences:
        found = find_region(sequences, region, str(genome))
        start, sequence = _window(sequences, found, opened, window_bp)
    target = SegmentationTarget(element, found.start - start, found.end - start, quantity)
    target.check(sequence)
    hits = None if known_motifs is None else find_hits(sequence, known_motifs, threshold=threshold)
    attribution = attribute_sequence(
        *opened, sequence, target=target, baseline=baseline, steps=steps, batch_size=batch_size
    )
    changed = _mutate(opened, sequence, target, mutagenesis_bp, batch_size, progress)
    attention = attend_sequence(*opened, sequence, query=(target.start, target.end))
    comparison = None
    if hits is not None:
        hits, comparison = _compare(sequence, hits, attribution, changed, attention, background, seed)
    summary = _summarise(found, start, attribution, changed, opened)
    summary |= {
        "motifs": None if known_motifs is None or hits is None else _counted(known_motifs, hits),
        "motif_threshold": threshold,
        "background": background,
        "seed": seed,
        "genome": str(genome),
    }
    result = Explanation(found, start, attribution, changed, attention, hits, comparison, summary)
    if output is not None:
        result.save(output, overwrite=overwrite)
    return result


def _opened(model: "str | Path | SegmentationModel", device: str | None) -> "SegmentationModel":
    from .segmentation_model import open_segmentation_model

    return open_segmentation_model(model, device=device) if isinstance(model, str | Path) else model


def _window(genome: Any, region: "Region", opened: "SegmentationModel", window_bp: int | None) -> tuple[int, str]:
    """The window around a region: coordinate of its first base, and its sequence."""
    from .pipelines.segmentation_target import default_window_bp, longest_window_bp
    from .pipelines.variant_windows import window_around

    longest = longest_window_bp(opened.model.config)
    length = window_bp or default_window_bp(opened.model.config)
    if longest is not None and length > longest:
        raise ValueError(f"window_bp is {length:,}, and the model takes at most {longest:,}")
    if region.end - region.start > length:
        raise ValueError(
            f"the region {region} has {region.end - region.start:,} bp, and the model reads {length:,} at a time: "
            "explain a shorter one, or give a longer window_bp where the model takes it"
        )
    return window_around(genome, region.contig, region.start, region.end, length)


def _mutate(
    opened: "SegmentationModel",
    sequence: str,
    target: "SegmentationTarget",
    length: int,
    batch_size: int,
    progress: bool,
) -> "Mutagenesis | None":
    from .pipelines.segmentation_mutagenesis import saturation_mutagenesis

    if length == 0:
        return None
    length = min(length, len(sequence))
    start = (target.start + target.end) // 2 - length // 2
    start = max(min(start, len(sequence) - length), 0)
    return saturation_mutagenesis(
        *opened,
        sequence,
        target=target,
        start=start,
        end=start + length,
        batch_size=batch_size,
        progress=progress,
    )


def _compare(
    sequence: str,
    hits: "pd.DataFrame",
    attribution: "SequenceAttribution",
    mutagenesis: "Mutagenesis | None",
    attention: "SequenceAttention",
    background: "Background",
    seed: int,
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """The hits with each one's scores, and each kind of scores within a motif's hits against the background.

    Where signs mean something, magnitudes are compared too: a motif can speak for an element, against it, or both.
    """
    import pandas as pd

    from .pipelines.motif_comparison import compare_with_hits, score_hits

    hits = hits.copy()
    bases = attribution.bases()
    signed = {"integrated_gradients": (0, bases["integrated_gradients"].to_numpy())}
    if mutagenesis is not None:
        signed["mutagenesis"] = (mutagenesis.start, mutagenesis.importance)
    scores = {
        **signed,
        **{f"{kind}_magnitude": (start, np.abs(values)) for kind, (start, values) in signed.items()},
        "gradient_norm": (0, bases["gradient_norm"].to_numpy()),
        "attention": (0, attention.received_by_base().mean((0, 1))),
    }
    tables = []
    for kind, (start, values) in scores.items():
        table = compare_with_hits(values, hits, sequence=sequence, start=start, background=background, seed=seed)
        table.insert(0, "scores", kind)
        tables.append(table)
    for kind, (start, values) in signed.items():
        size = score_hits(np.abs(values), hits, sequence=sequence, start=start)
        hits[kind] = score_hits(values, hits, sequence=sequence, start=start)["mean"]
        hits[f"{kind}_percentile"] = size["percentile"]
    return hits, pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def _summarise(
    region: "Region",
    window_start: int,
    attribution: "SequenceAttribution",
    mutagenesis: "Mutagenesis | None",
    opened: "SegmentationModel",
) -> dict[str, Any]:
    return {
        "region": str(region),
        "contig": region.contig,
        "start": region.start,
        "end": region.end,
        "window_start": window_start,
        "window_end": window_start + len(attribution.encoded.sequence),
        "element": attribution.target.element,
        "quantity": attribution.target.quantity,
        "target": attribution.target_value,
        "baseline": attribution.baseline,
        "target_at_baseline": attribution.baseline_value,
        "steps": attribution.steps,
        "sum_of_integrated_gradients": float(attribution.integrated_gradients.sum()),
        "completeness_error": attribution.completeness_error,
        "mutated_bases": 0 if mutagenesis is None else mutagenesis.end - mutagenesis.start,
        "model": opened.model.name_or_path,
    }


def _counted(motifs: "Sequence[Motif]", hits: "pd.DataFrame") -> dict[str, int]:
    found = set(hits["matrix_id"])
    return {"motifs": len(motifs), "without_a_hit": len(motifs) - len(found), "hits": len(hits)}


def _no_hits() -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(columns=["motif", "start", "end", "strand"])
