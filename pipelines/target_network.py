"""Network view of a perturbation: the edited gene among the genes that move most.

What is drawn are shifts, not regulation: the nearer a gene, the further it moved. Known links between genes, where they
are given, are drawn on top, so that the two can be compared.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .perturbation_canvas import STYLE, Figure, colours_of_genes, finished, gene_labels, one_panel, set_legend

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

GENES = 24
NEAREST, FURTHEST = 0.45, 1.0
EDITED_COLOUR, LINK_COLOUR = "#1b1f23", "#d55e00"


def draw_network(
    genes: "pd.DataFrame",
    gene_sets: Mapping[str, Sequence[str]],
    edited: str,
    links: "pd.DataFrame | None" = None,
) -> Figure:
    """The genes that move most around the edited one, the nearer the more.

    Args:
        genes: gene_id, symbol, and shift or shift_normalised, which is preferred.
        gene_sets: name -> gene ids, in colour.
        edited: name of the edited gene, as `links` has it.
        links: known links, source and target by gene id or symbol, e.g. of TRRUST; only those among the genes shown.
    """
    import matplotlib

    beyond = "shift_normalised" in genes and bool(genes["shift_normalised"].notna().any())
    column = "shift_normalised" if beyond else "shift"
    top = genes.dropna(subset=[column]).nlargest(GENES, column, keep="first")
    values = top[column].to_numpy(dtype=float)
    strength = (values - values.min()) / (np.ptp(values) or 1.0)  # (genes,) 1 the most shifted
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(top)) / max(len(top), 1)
    radius = FURTHEST - (FURTHEST - NEAREST) * strength
    places = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)
    with matplotlib.rc_context(STYLE):
        canvas, axes = one_panel(6.4, 6.4)
        for place, share in zip(places, strength, strict=True):
            axes.plot([0, place[0]], [0, place[1]], color="#c9d0d6", linewidth=0.8 + 2.4 * share, zorder=1)
        n_links = _draw_links(axes, top, edited, places, links)
        axes.scatter(places[:, 0], places[:, 1], s=90, color=colours_of_genes(top, gene_sets), zorder=3)
        axes.scatter([0], [0], s=420, color=EDITED_COLOUR, zorder=3)
        axes.text(0, -0.1, edited, ha="center", va="top", fontsize=10, fontweight="bold", zorder=4)
        for label, place in zip(gene_labels(top), places, strict=True):
            side = "left" if place[0] >= 0 else "right"
            shift = 0.05 if place[0] >= 0 else -0.05
            axes.text(place[0] + shift, place[1] + 0.02, label, ha=side, va="bottom", fontsize=8, zorder=4)
        axes.set_xlim(-1.35, 1.35)
        axes.set_ylim(-1.2, 1.2)
        axes.set_aspect("equal")
        axes.axis("off")
        axes.set_title(f"The {len(top)} genes that move most when {edited} is edited")
        set_legend(canvas, top, gene_sets)
        caption = (
            "The nearer a gene, and the thicker its line, the further its embedding moved"
            f"{' beyond its usual' * beyond}; lines are shifts of the model, no proof of regulation."
            + (f" Orange arrows: {n_links} known links among these genes." if links is not None else "")
        )
        return finished(canvas, "network", caption)


def _draw_links(
    axes: "Axes", top: "pd.DataFrame", edited: str, places: np.ndarray, links: "pd.DataFrame | None"
) -> int:
    if links is None:
        return 0
    where: dict[str, tuple[float, float]] = {edited: (0.0, 0.0)}
    for gene_id, symbol, place in zip(top["gene_id"], top["symbol"], places, strict=True):
        where |= {name: (float(place[0]), float(place[1])) for name in (symbol, gene_id) if name}
    pairs = links[["source", "target"]].drop_duplicates().itertuples(index=False)
    shown = [(where[source], where[target]) for source, target in pairs if source in where and target in where]
    for start, end in shown:
        arrow = {"arrowstyle": "-|>", "color": LINK_COLOUR, "lw": 1.1, "shrinkA": 9, "shrinkB": 7}
        axes.annotate("", end, start, arrowprops=arrow | {"connectionstyle": "arc3,rad=0.12"}, zorder=2)
    return len(shown)
