"""What the figures of perturbations share: canvas, colours, names, and the bytes of PNG and SVG.

The same tables give the same bytes. Colours are those of Okabe and Ito, which readers who do not see red or green can
tell apart.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

GREY = "#9aa3ab"
SET_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
LARGEST_SET_IN_COLOUR = 300  # a larger one would hide all other dots
STYLE: Any = {
    "svg.hashsalt": "omics-transformers",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
}


class Figure(NamedTuple):
    """A figure's file name without ending, its caption, and its bytes."""

    name: str
    caption: str
    png: bytes
    svg: bytes


def one_panel(width: float, height: float) -> "tuple[Canvas, Axes]":
    """A canvas, in inches, with one panel."""
    canvas, grid = panels(width, height, 1, 1)
    return canvas, grid[0]


def panels(width: float, height: float, rows: int, columns: int, **options: Any) -> "tuple[Canvas, list[Axes]]":
    """A canvas, in inches, with panels row by row; options as matplotlib's `subplots`."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), layout="constrained")
    return canvas, list(canvas.subplots(rows, columns, squeeze=False, **options).ravel())


def finished(canvas: "Canvas", name: str, caption: str) -> Figure:
    """The canvas as PNG and SVG, laid out once: it takes as long as drawing."""
    images = []
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        buffer = io.BytesIO()
        canvas.savefig(buffer, format=kind, dpi=150, metadata=metadata)
        images.append(buffer.getvalue())
        canvas.set_layout_engine(None)
    return Figure(name, caption, *images)


def set_colours(count: int) -> list[str]:
    """So many colours, which repeat after the sixth."""
    return [SET_COLOURS[number % len(SET_COLOURS)] for number in range(count)]


def colours_of_genes(genes: "pd.DataFrame", gene_sets: Mapping[str, Sequence[str]]) -> list[str]:
    """A colour a gene, grey in no set; a gene of several sets has the colour of the first."""
    colour_of: dict[str, str] = {}
    for colour, members in zip(set_colours(len(gene_sets)), gene_sets.values(), strict=True):
        for gene in members:
            colour_of.setdefault(gene, colour)
    return [colour_of.get(gene, GREY) for gene in genes["gene_id"]]


def set_legend(canvas: "Canvas", genes: "pd.DataFrame", gene_sets: Mapping[str, Sequence[str]]) -> None:
    """Below the panels, the sets that the genes belong to."""
    from matplotlib.patches import Patch

    handles = [
        Patch(color=colour, label=short(name))
        for colour, (name, members) in zip(set_colours(len(gene_sets)), gene_sets.items(), strict=True)
        if genes["gene_id"].isin(members).any()
    ]
    if handles:
        handles.append(Patch(color=GREY, label="in no set"))
        canvas.legend(handles=handles, frameon=False, fontsize=8, loc="outside lower center", ncols=3)


def scatter_genes(
    axes: "Axes", x: "pd.Series", y: "pd.Series", genes: "pd.DataFrame", gene_sets: Mapping[str, Sequence[str]]
) -> None:
    """A dot a gene; sets that are not too large in their colours, above the others."""
    axes.scatter(x, y, s=8, color=GREY, alpha=0.5, linewidths=0, rasterized=True)
    for colour, (name, members) in zip(set_colours(len(gene_sets)), gene_sets.items(), strict=True):
        inside = genes["gene_id"].isin(members)
        if 0 < inside.sum() <= LARGEST_SET_IN_COLOUR:
            axes.scatter(
                x[inside], y[inside], s=16, color=colour, alpha=0.9, linewidths=0, label=short(name), rasterized=True
            )
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)


def label_points(axes: "Axes", genes: "pd.DataFrame", x: str, y: str) -> None:
    """Names beside the dots, less those that would be written over another."""
    placed: list[Any] = []
    for label, row in zip(gene_labels(genes), genes.to_dict("records"), strict=True):
        place = axes.transData.transform((row[x], row[y]))
        if any(abs(place[0] - other[0]) < 60 and abs(place[1] - other[1]) < 9 for other in placed):
            continue
        placed.append(place)
        axes.annotate(label, (row[x], row[y]), xytext=(4, 3), textcoords="offset points", fontsize=7)


def gene_labels(genes: "pd.DataFrame") -> list[str]:
    """Symbols, or ids where there is none."""
    return [symbol or gene_id for symbol, gene_id in zip(genes["symbol"], genes["gene_id"], strict=True)]


def short(name: str, length: int = 32) -> str:
    """A name that fits into a legend."""
    return name if len(name) <= length else name[: length - 1] + "…"
