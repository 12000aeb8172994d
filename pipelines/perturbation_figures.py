"""Figures of a perturbation, from its tables: the most shifted genes, the gene sets, shift against expression.

Each figure is drawn once and kept as PNG and SVG bytes, the same bytes for the same tables. Colours are those of
Okabe and Ito, which readers who do not see red or green can tell apart.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

GREY = "#9aa3ab"
SET_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
TOP_GENES = 20
LABELLED_GENES = 8
LARGEST_NUMBER_OF_SETS = 12
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


def draw_figures(
    genes: "pd.DataFrame", gene_sets: Mapping[str, Sequence[str]], summary: Mapping[str, Any]
) -> list[Figure]:
    """All figures that the tables allow.

    Args:
        genes: the table of a PerturbationResult.
        gene_sets: name -> gene ids, as tested.
        summary: of the same result.
    """
    import matplotlib

    if len(genes) == 0:
        return []
    edited = summary.get("symbol") or summary["gene_id"]
    shown = dict(list(gene_sets.items())[:LARGEST_NUMBER_OF_SETS])
    with matplotlib.rc_context(STYLE):
        figures = [_top_genes(genes, shown, edited, "shift")]
        if "shift_normalised" in genes and genes["shift_normalised"].notna().any():
            figures += [_top_genes(genes, shown, edited, "shift_normalised"), _shift_against_sham(genes, shown, edited)]
        if shown:
            figures.append(_gene_sets(genes, shown, edited))
        figures.append(_shift_against_cells(genes, shown, edited))
    return figures


def _top_genes(genes: "pd.DataFrame", gene_sets: Mapping[str, Sequence[str]], edited: str, column: str) -> Figure:
    top = genes.dropna(subset=[column]).nlargest(TOP_GENES, column, keep="first").iloc[::-1]
    canvas, axes = _canvas(6.4, 1.2 + 0.22 * len(top))
    axes.barh(np.arange(len(top)), top[column], color=_colours(top, gene_sets), height=0.72)
    axes.set_yticks(np.arange(len(top)), _labels(top))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.6, len(top) - 0.4)
    _legend(canvas, top, gene_sets)
    if column == "shift":
        axes.set_xlabel("shift of the contextual embedding (1 − mean cosine similarity)")
        axes.set_title(f"Genes that move most when {edited} is edited")
        caption = f"The {len(top)} genes whose embeddings move most when {edited} is edited."
        return _finished(canvas, "top_genes", caption)
    axes.set_xlabel("log of the shift, less its mean under sham edits of other genes")
    axes.set_title(f"Genes that move most when {edited} is edited, beyond their usual")
    caption = (
        f"The same, relative to how far each gene moves when other genes are edited: {len(top)} genes that respond to "
        f"{edited} in particular."
    )
    return _finished(canvas, "top_genes_normalised", caption)


def _gene_sets(genes: "pd.DataFrame", gene_sets: Mapping[str, Sequence[str]], edited: str) -> Figure:
    column = "shift_normalised" if "shift_normalised" in genes else "shift"
    in_any = genes["gene_id"].isin([gene for members in gene_sets.values() for gene in members])
    groups = {"genes of no set": genes[~in_any]}
    groups |= {name: genes[genes["gene_id"].isin(members)] for name, members in gene_sets.items()}
    values = {name: _positive(group[column], column) for name, group in groups.items()}
    values = {name: found for name, found in values.items() if len(found)}
    canvas, axes = _canvas(6.4, 1.3 + 0.5 * len(values))
    colours = dict(zip(gene_sets, _set_colours(len(gene_sets)), strict=True))
    generator = np.random.default_rng(0)
    for row, (name, found) in enumerate(reversed(values.items())):
        colour = colours.get(name, GREY)
        axes.boxplot([found], positions=[row], orientation="horizontal", widths=0.5, showfliers=False, **_box(colour))
        drawn = found if len(found) <= 400 else generator.choice(found, 400, replace=False)
        axes.scatter(
            drawn,
            row + generator.uniform(-0.18, 0.18, len(drawn)),
            s=4,
            color=colour,
            alpha=0.5,
            linewidths=0,
            rasterized=True,
        )
    axes.set_yticks(range(len(values)), [f"{_short(name)} ({len(found)})" for name, found in reversed(values.items())])
    if column == "shift":
        axes.set_xscale("log")
        axes.set_xlabel("shift (1 − mean cosine similarity)")
    else:
        axes.set_xlabel("log of the shift, less its mean under sham edits")
    if "genes of no set" in values:
        axes.axvline(np.median(values["genes of no set"]), color=GREY, linewidth=0.8, zorder=0)
    axes.set_title(f"Shift of gene sets when {edited} is edited")
    caption = "Shift of the genes of each set, and of the genes of none; boxes show median and quartiles."
    return _finished(canvas, "gene_sets", caption)


def _shift_against_cells(genes: "pd.DataFrame", gene_sets: Mapping[str, Sequence[str]], edited: str) -> Figure:
    canvas, axes = _canvas(6.4, 4.2)
    shown = genes[genes["shift"] > 0]
    _scatter(axes, shown["n_cells"], shown["shift"], shown, gene_sets)
    if len(shown):
        axes.set_xscale("log")
        axes.set_yscale("log")
        _label_points(axes, shown.head(LABELLED_GENES), "n_cells", "shift")
    axes.set_xlabel(f"cells that express the gene, among those that express {edited}")
    axes.set_ylabel("shift (1 − mean cosine similarity)")
    axes.set_title("Shift against expression")
    caption = (
        f"Each dot is a gene; sets of more than {LARGEST_SET_IN_COLOUR} genes are not coloured. Genes in few cells "
        "have less certain shifts, and often expressed genes may move more or less than others whatever is edited."
    )
    return _finished(canvas, "shift_against_cells", caption)


def _shift_against_sham(genes: "pd.DataFrame", gene_sets: Mapping[str, Sequence[str]], edited: str) -> Figure:
    canvas, axes = _canvas(6.4, 4.6)
    shown = genes[(genes["shift"] > 0) & (genes["shift_sham"] > 0)]
    _scatter(axes, shown["shift_sham"], shown["shift"], shown, gene_sets)
    if len(shown):
        axes.set_xscale("log")
        axes.set_yscale("log")
        line = np.array([shown["shift_sham"].min(), shown["shift_sham"].max()])
        ratio = np.exp(shown["shift_normalised"].median())
        axes.plot(line, line * ratio, color="black", linewidth=0.8, linestyle="--", label="median ratio")
        _label_points(axes, shown.nlargest(LABELLED_GENES, "shift_normalised"), "shift_sham", "shift")
    axes.set_xlabel("usual shift: geometric mean under sham edits of other genes")
    axes.set_ylabel(f"shift when {edited} is edited")
    axes.set_title("Shift against the gene's usual shift")
    caption = f"Genes above the dashed line, the median ratio, respond to {edited} more than a typical gene does."
    return _finished(canvas, "shift_against_sham", caption)


def _canvas(width: float, height: float) -> "tuple[Canvas, Axes]":
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), layout="constrained")
    return canvas, canvas.subplots()


def _finished(canvas: "Canvas", name: str, caption: str) -> Figure:
    images = []
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        buffer = io.BytesIO()
        canvas.savefig(buffer, format=kind, dpi=150, metadata=metadata)
        images.append(buffer.getvalue())
    return Figure(name, caption, *images)


def _scatter(
    axes: "Axes", x: "pd.Series", y: "pd.Series", genes: "pd.DataFrame", gene_sets: Mapping[str, Sequence[str]]
) -> None:
    axes.scatter(x, y, s=8, color=GREY, alpha=0.5, linewidths=0, rasterized=True)
    for colour, (name, members) in zip(_set_colours(len(gene_sets)), gene_sets.items(), strict=True):
        inside = genes["gene_id"].isin(members)
        if 0 < inside.sum() <= LARGEST_SET_IN_COLOUR:
            axes.scatter(
                x[inside], y[inside], s=16, color=colour, alpha=0.9, linewidths=0, label=_short(name), rasterized=True
            )
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)


def _label_points(axes: "Axes", genes: "pd.DataFrame", x: str, y: str) -> None:
    placed: list[np.ndarray] = []
    for label, row in zip(_labels(genes), genes.to_dict("records"), strict=True):
        place = axes.transData.transform((row[x], row[y]))
        if any(abs(place[0] - other[0]) < 60 and abs(place[1] - other[1]) < 9 for other in placed):
            continue  # it would be written over another
        placed.append(place)
        axes.annotate(label, (row[x], row[y]), xytext=(4, 3), textcoords="offset points", fontsize=7)


def _legend(canvas: "Canvas", genes: "pd.DataFrame", gene_sets: Mapping[str, Sequence[str]]) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(color=colour, label=_short(name))
        for colour, (name, members) in zip(_set_colours(len(gene_sets)), gene_sets.items(), strict=True)
        if genes["gene_id"].isin(members).any()
    ]
    if handles:
        handles.append(Patch(color=GREY, label="in no set"))
        canvas.legend(handles=handles, frameon=False, fontsize=8, loc="outside lower center", ncols=3)


def _colours(genes: "pd.DataFrame", gene_sets: Mapping[str, Sequence[str]]) -> list[str]:
    """A gene of several sets has the colour of the first."""
    colour_of: dict[str, str] = {}
    for colour, members in zip(_set_colours(len(gene_sets)), gene_sets.values(), strict=True):
        for gene in members:
            colour_of.setdefault(gene, colour)
    return [colour_of.get(gene, GREY) for gene in genes["gene_id"]]


def _set_colours(count: int) -> list[str]:
    return [SET_COLOURS[number % len(SET_COLOURS)] for number in range(count)]


def _labels(genes: "pd.DataFrame") -> list[str]:
    return [symbol or gene_id for symbol, gene_id in zip(genes["symbol"], genes["gene_id"], strict=True)]


def _short(name: str) -> str:
    return name if len(name) <= 32 else name[:31] + "…"


def _positive(values: "pd.Series", column: str) -> np.ndarray:
    """What can be drawn: finite, and on the logarithmic axis of `shift` positive."""
    array = values.to_numpy(dtype=float)
    return array[np.isfinite(array) & ((array > 0) | (column != "shift"))]


def _box(colour: str) -> dict[str, Any]:
    line = {"color": colour, "linewidth": 1.2}
    return {
        "boxprops": line,
        "whiskerprops": line,
        "capprops": line,
        "medianprops": {"color": "black", "linewidth": 1.4},
    }
