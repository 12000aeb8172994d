"""Figure of a locus: one row an element, called segments beneath each, and gene models below.

Laid out as by pyGenomeTracks (https://doi.org/10.1093/bioinformatics/btaa692), from arrays and tables only. The same
input gives the same bytes.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .segmentation_tracks import colours_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

LARGEST_PLOT_BP = 2_000_000
SUFFIXES = (".png", ".svg", ".pdf")
ANNOTATION_COLUMNS = ("name", "strand", "exons", "cds")
_BINS = 1_500  # about the pixels across
_MOST_GENE_ROWS = 14
_LABEL_SHARE = 0.0075  # of the figure's width, a letter of a transcript's name
_UNKNOWN = "#e5e7ea"
_GENE = "#24313d"
_STYLE: Any = {
    "svg.hashsalt": "omics-transformers",
    "svg.fonttype": "none",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
}
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


class GeneRows(NamedTuple):
    """Transcripts (positions in the table) that share each row, and how many found no room."""

    rows: list[list[int]]
    n_left_out: int


def draw_locus(
    probabilities: np.ndarray,
    segments: "pd.DataFrame",
    thresholds: Mapping[str, float],
    *,
    contig: str,
    start: int,
    annotation: "pd.DataFrame | None" = None,
    title: str | None = None,
) -> "Canvas":
    """Draw a locus.

    Args:
        probabilities: (bases, elements) float32, NaN where unknown; those columns are grey. Where there are more bases
            than pixels, the mean of each pixel's bases is drawn dark, and their maximum light.
        segments: called ones, as `call_segments` returns them.
        thresholds: element -> probability from which a base is called, in the order of the columns.
        contig, start: where the first base lies, 0-based.
        annotation: one row a transcript: name, strand, exons and cds (lists of 0-based, half-open intervals; cds empty
            for non-coding ones), and contig, if there are several. Coding sequence is drawn thick.
        title: above the figure; the region by default.

    Raises:
        ValueError: for more than `LARGEST_PLOT_BP`, or an annotation without these columns.
    """
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    require_plottable(len(probabilities))
    end = start + len(probabilities)
    transcripts = _transcripts_within(annotation, contig, start, end)
    genes = _pack(transcripts, start, end)
    heights = [1.0] * len(thresholds) + ([0.4 + 0.75 * max(1, len(genes.rows))] if annotation is not None else [])
    with matplotlib.rc_context(_STYLE):
        canvas = Canvas(figsize=(10, 0.9 + 0.42 * sum(heights)), layout="constrained")
        panels = canvas.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        colours = colours_of(list(thresholds))
        for number, (element, threshold) in enumerate(thresholds.items()):
            called = segments.loc[segments["element"] == element, ["start", "end"]].to_numpy()
            _draw_element(panels[number], probabilities[:, number], start, called, threshold, colours[element])
            panels[number].set_ylabel(element, rotation=0, ha="right", va="center", labelpad=10)
        if annotation is not None:
            _draw_genes(panels[-1], transcripts, genes, start, end)
        panels[0].set_title(title or f"{contig}:{start + 1:,}-{end:,}")
        panels[-1].set_xlim(start, end)
        panels[-1].set_xlabel(f"position on {contig} (bp)")
        panels[-1].xaxis.set_major_formatter("{x:,.0f}")
    return canvas


def save_figure(canvas: "Canvas", path: Path) -> None:
    """Write a figure; the path's ending says the format.

    Raises:
        ValueError: for an ending other than .png, .svg and .pdf.
    """
    import matplotlib

    require_figure_path(path)
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        canvas.savefig(buffer, format=path.suffix[1:].lower(), dpi=150, metadata=_METADATA[path.suffix.lower()])
    path.write_bytes(buffer.getvalue())


def require_plottable(n_bases: int) -> None:
    """Raise ValueError for more bases than a figure shows."""
    if n_bases > LARGEST_PLOT_BP:
        raise ValueError(
            f"{n_bases:,} bp are too many for a figure: plot at most {LARGEST_PLOT_BP:,}, or open the bigWigs in a "
            "genome browser"
        )


def require_figure_path(path: Path) -> None:
    """Raise ValueError for an ending that says no format."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: the ending of a figure's name should be one of {', '.join(SUFFIXES)}")


def _draw_element(
    axes: "Axes", values: np.ndarray, start: int, called: np.ndarray, threshold: float, colour: str
) -> None:
    edges, mean, maximum = _binned(values)
    places = edges + start
    axes.stairs(np.nan_to_num(maximum), places, fill=True, color=colour, alpha=0.3, linewidth=0)
    axes.stairs(np.nan_to_num(mean), places, fill=True, color=colour, linewidth=0)
    axes.stairs(np.where(np.isnan(mean), 1.0, 0.0), places, fill=True, color=_UNKNOWN, linewidth=0)
    axes.axhline(threshold, color="black", linewidth=0.5, linestyle=(0, (2, 3)))
    axes.broken_barh([(first, last - first) for first, last in called], (-0.24, 0.16), color=colour, linewidth=0.4)
    axes.set_ylim(-0.28, 1.02)
    axes.set_yticks([0, 1])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.tick_params(axis="y", labelsize=6, length=2)


def _binned(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges (bins + 1,), mean and maximum (bins,) of the known bases in each; NaN where there are none."""
    n_bins = min(len(values), _BINS)
    edges = np.linspace(0, len(values), n_bins + 1).astype(np.int64)
    is_known = ~np.isnan(values)
    counts = np.add.reduceat(is_known, edges[:-1], dtype=np.int64)
    sums = np.add.reduceat(np.where(is_known, values, 0), edges[:-1], dtype=np.float64)
    mean = np.divide(sums, counts, out=np.full(n_bins, np.nan), where=counts > 0)
    maximum = np.maximum.reduceat(np.where(is_known, values, -1), edges[:-1])
    return edges, mean, np.where(counts > 0, maximum, np.nan)


def _transcripts_within(annotation: "pd.DataFrame | None", contig: str, start: int, end: int) -> list[dict[str, Any]]:
    """Transcripts that reach into the region, from the leftmost."""
    if annotation is None:
        return []
    missing = [name for name in ANNOTATION_COLUMNS if name not in annotation]
    if missing:
        raise ValueError(
            f"the annotation has no column {', '.join(missing)}: expected a row a transcript with "
            f"{', '.join(ANNOTATION_COLUMNS)}, and contig if there are several"
        )
    here = annotation[annotation["contig"] == contig] if "contig" in annotation else annotation
    found = []
    for row in here[list(ANNOTATION_COLUMNS)].to_dict("records"):
        begins, ends = zip(*row["exons"], strict=True)
        if min(begins) < end and max(ends) > start:
            found.append({**row, "start": min(begins), "end": max(ends)})
    return sorted(found, key=lambda row: (row["start"], row["end"], str(row["name"])))


def _pack(transcripts: Sequence[Mapping[str, Any]], start: int, end: int) -> GeneRows:
    """Each transcript, with its name above its left end, into the first row with room."""
    rows: list[list[int]] = []
    behind: list[float] = []
    n_left_out = 0
    for number, transcript in enumerate(transcripts):
        left, right = _label_span(transcript, start, end)
        row = next((row for row, last in enumerate(behind) if last <= left), len(rows))
        if row == _MOST_GENE_ROWS:
            n_left_out += 1
            continue
        if row == len(rows):
            rows.append([])
            behind.append(0.0)
        rows[row].append(number)
        behind[row] = max(transcript["end"], right) + 0.01 * (end - start)
    return GeneRows(rows, n_left_out)


def _label_span(transcript: Mapping[str, Any], start: int, end: int) -> tuple[float, float]:
    """Where the transcript's name begins and about ends: within the region."""
    width = (len(str(transcript["name"])) + 1) * _LABEL_SHARE * (end - start)
    left = max(min(max(transcript["start"], start), end - width), start)
    return left, left + width


def _draw_genes(axes: "Axes", transcripts: Sequence[Mapping[str, Any]], genes: GeneRows, start: int, end: int) -> None:
    for row, members in enumerate(genes.rows):
        for member in members:
            _draw_transcript(axes, transcripts[member], -row, start, end)
    axes.set_ylim(-max(1, len(genes.rows)) + 0.6, 0.8)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylabel("genes", rotation=0, ha="right", va="center", labelpad=10)
    if genes.n_left_out or not transcripts:
        text = f"{genes.n_left_out:,} more transcripts" if transcripts else "no transcripts here"
        axes.text(0.0, -0.02, text, transform=axes.transAxes, fontsize=7, va="top", color=_GENE)


def _draw_transcript(axes: "Axes", transcript: Mapping[str, Any], y: float, start: int, end: int) -> None:
    first, last = max(transcript["start"], start), min(transcript["end"], end)
    axes.plot([first, last], [y, y], color=_GENE, linewidth=0.7, solid_capstyle="butt", zorder=1)
    arrows = np.arange(first, last, (end - start) / 60)[1:]
    axes.plot(arrows, np.full(len(arrows), y), linestyle="", **_arrow(transcript["strand"]))
    for intervals, height in ((transcript["exons"], 0.2), (transcript["cds"], 0.42)):
        bars = [(begin, stop - begin) for begin, stop in intervals if begin < end and stop > start]
        axes.broken_barh(bars, (y - height / 2, height), color=_GENE, linewidth=0.3, zorder=2)
    left, _ = _label_span(transcript, start, end)
    axes.text(left, y + 0.26, str(transcript["name"]), fontsize=6, va="bottom", style="italic", clip_on=True)


def _arrow(strand: str) -> dict[str, Any]:
    marker = {"+": "$>$", "-": "$<$"}.get(strand, "")
    return {"marker": marker, "markersize": 3.5, "color": _GENE, "markeredgewidth": 0.2, "zorder": 1}
