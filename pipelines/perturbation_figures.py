"""Figures of a perturbation, from its tables: the most shifted genes, the gene sets, shift against expression.

Each figure is drawn once and kept as PNG and SVG bytes, the same bytes for the same tables.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .gene_set_ridges import draw_ridges
from .perturbation_canvas import (
    GREY,
    LARGEST_SET_IN_COLOUR,
    STYLE,
    Figure,
    colours_of_genes,
    finished,
    gene_labels,
    label_points,
    one_panel,
    scatter_genes,
    set_colours,
    set_legend,
    short,
)
from .perturbation_volcano import draw_volcano
from .sequence_edit_figure import draw_sequence_edit
from .target_network import draw_network
from .target_recovery_figures import draw_recovery

if TYPE_CHECKING:
    import pandas as pd

TOP_GENES = 20
LABELLED_GENES = 8
LARGEST_NUMBER_OF_SETS = 12


def draw_figures(
    genes: "pd.DataFrame",
    gene_sets: Mapping[str, Sequence[str]],
    summary: Mapping[str, Any],
    *,
    recovery: Any = None,
    edited_bases: "pd.DataFrame | None" = None,
    motif_hits: "pd.DataFrame | None" = None,
    links: "pd.DataFrame | None" = None,
) -> list[Figure]:
    """All figures that the tables allow.

    Args:
        genes: the table of a PerturbationResult.
        gene_sets: name -> gene ids, as tested.
        summary: of the same result.
        recovery: TargetRecovery, of this model or of several side by side.
        edited_bases, motif_hits: of the edit, see `draw_sequence_edit`.
        links: known links between genes, see `draw_network`.
    """
    import matplotlib

    edited = summary.get("symbol") or summary["gene_id"]
    shown = dict(list(gene_sets.items())[:LARGEST_NUMBER_OF_SETS])
    sequence = None if edited_bases is None else draw_sequence_edit(edited_bases, motif_hits, gene=edited)
    figures = [] if sequence is None else [sequence]
    if len(genes):
        with matplotlib.rc_context(STYLE):
            figures += _of_genes(genes, shown, edited)
        more = draw_volcano(genes, shown, edited), draw_ridges(genes, shown, edited)
        figures += [figure for figure in more if figure is not None]
        figures.append(draw_network(genes, shown, edited, links))
    return figures if recovery is None else [*figures, *draw_recovery(recovery)]


def _of_genes(genes: "pd.DataFrame", shown: Mapping[str, Sequence[str]], edited: str) -> list[Figure]:
    figures = [_top_genes(genes, shown, edited, "shift")]
    if "shift_normalised" in genes and genes["shift_normalised"].notna().any():
        figures += [_top_genes(genes, shown, edited, "shift_normalised"), _shift_against_sham(genes, shown, edited)]
    if shown:
        figures.append(_gene_sets(genes, shown, edited))
    return [*figures, _shift_against_cells(genes, shown, edited)]


def _top_genes(genes: "pd.DataFrame", gene_sets: Mapping[str, Sequence[str]], edited: str, column: str) -> Figure:
    top = genes.dropna(subset=[column]).nlargest(TOP_GENES, column, keep="first").iloc[::-1]
    canvas, axes = one_panel(6.4, 1.2 + 0.22 * len(top))
    axes.barh(np.arange(len(top)), top[column], color=colours_of_genes(top, gene_sets), height=0.72)
    axes.set_yticks(np.arange(len(top)), gene_labels(top))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.6, len(top) - 0.4)
    set_legend(canvas, top, gene_sets)
    if column == "shift":
        axes.set_xlabel("shift of the contextual embedding (1 − mean cosine similarity)")
        axes.set_title(f"Genes that move most when {edited} is edited")
        caption = f"The {len(top)} genes whose embeddings move most when {edited} is edited."
        return finished(canvas, "top_genes", caption)
    axes.set_xlabel("log of the shift, less its mean under sham edits of other genes")
    axes.set_title(f"Genes that move most when {edited} is edited, beyond their usual")
    caption = (
        f"The same, relative to how far each gene moves when other genes are edited: {len(top)} genes that respond to "
        f"{edited} in particular."
    )
    return finished(canvas, "top_genes_normalised", caption)


def _gene_sets(genes: "pd.DataFrame", gene_sets: Mapping[str, Sequence[str]], edited: str) -> Figure:
    column = "shift_normalised" if "shift_normalised" in genes else "shift"
    in_any = genes["gene_id"].isin([gene for members in gene_sets.values() for gene in members])
    groups = {"genes of no set": genes[~in_any]}
    groups |= {name: genes[genes["gene_id"].isin(members)] for name, members in gene_sets.items()}
    values = {name: _positive(group[column], column) for name, group in groups.items()}
    values = {name: found for name, found in values.items() if len(found)}
    canvas, axes = one_panel(6.4, 1.3 + 0.5 * len(values))
    colours = dict(zip(gene_sets, set_colours(len(gene_sets)), strict=True))
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
    axes.set_yticks(range(len(values)), [f"{short(name)} ({len(found)})" for name, found in reversed(values.items())])
    if column == "shift":
        axes.set_xscale("log")
        axes.set_xlabel("shift (1 − mean cosine similarity)")
    else:
        axes.set_xlabel("log of the shift, less its mean under sham edits")
    if "genes of no set" in values:
        axes.axvline(np.median(values["genes of no set"]), color=GREY, linewidth=0.8, zorder=0)
    axes.set_title(f"Shift of gene sets when {edited} is edited")
    caption = "Shift of the genes of each set, and of the genes of none; boxes show median and quartiles."
    return finished(canvas, "gene_sets", caption)


def _shift_against_cells(genes: "pd.DataFrame", gene_sets: Mapping[str, Sequence[str]], edited: str) -> Figure:
    canvas, axes = one_panel(6.4, 4.2)
    shown = genes[genes["shift"] > 0]
    scatter_genes(axes, shown["n_cells"], shown["shift"], shown, gene_sets)
    if len(shown):
        axes.set_xscale("log")
        axes.set_yscale("log")
        label_points(axes, shown.head(LABELLED_GENES), "n_cells", "shift")
    axes.set_xlabel(f"cells that express the gene, among those that express {edited}")
    axes.set_ylabel("shift (1 − mean cosine similarity)")
    axes.set_title("Shift against expression")
    caption = (
        f"Each dot is a gene; sets of more than {LARGEST_SET_IN_COLOUR} genes are not coloured. Genes in few cells "
        "have less certain shifts, and often expressed genes may move more or less than others whatever is edited."
    )
    return finished(canvas, "shift_against_cells", caption)


def _shift_against_sham(genes: "pd.DataFrame", gene_sets: Mapping[str, Sequence[str]], edited: str) -> Figure:
    canvas, axes = one_panel(6.4, 4.6)
    shown = genes[(genes["shift"] > 0) & (genes["shift_sham"] > 0)]
    scatter_genes(axes, shown["shift_sham"], shown["shift"], shown, gene_sets)
    if len(shown):
        axes.set_xscale("log")
        axes.set_yscale("log")
        line = np.array([shown["shift_sham"].min(), shown["shift_sham"].max()])
        ratio = np.exp(shown["shift_normalised"].median())
        axes.plot(line, line * ratio, color="black", linewidth=0.8, linestyle="--", label="median ratio")
        label_points(axes, shown.nlargest(LABELLED_GENES, "shift_normalised"), "shift_sham", "shift")
    axes.set_xlabel("usual shift: geometric mean under sham edits of other genes")
    axes.set_ylabel(f"shift when {edited} is edited")
    axes.set_title("Shift against the gene's usual shift")
    caption = f"Genes above the dashed line, the median ratio, respond to {edited} more than a typical gene does."
    return finished(canvas, "shift_against_sham", caption)


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
