"""Figures of an explanation, from its tables: attributions along the locus, mutagenesis, attention, motifs.

Coordinates on the figures are those of the genome. Each function returns PNG bytes, the same for the same input.
"""

from typing import TYPE_CHECKING

import numpy as np

from .png_figures import (
    BASE_COLOURS,
    BLUE,
    COLOURS,
    GREY,
    ORANGE,
    STYLE,
    label_positions,
    png_bytes,
    stacked_panels,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_MOTIF_ROWS = 12
MOST_LETTERS = 160  # bases whose letters can still be read
MOST_COLUMNS = 600  # of a heat map
LEAST_MAP_PIXELS = 48
BASES = "ACGT"


def draw_attribution(
    bases: "pd.DataFrame", hits: "pd.DataFrame", *, contig: str, target: tuple[int, int], title: str
) -> bytes:
    """Attributions along a locus, with the motif hits beneath.

    Args:
        bases: one row a base, in order: position, base, gradient_norm, integrated_gradients.
        hits: motif, start, end, strand.
        contig: for the axis.
        target: bases [start, end) that are explained; shaded.
        title: above the figure.
    """
    import matplotlib

    first, last = int(bases["position"].iloc[0]), int(bases["position"].iloc[-1]) + 1
    rows = _motif_rows(hits, first, last)
    with matplotlib.rc_context(STYLE):
        figure, panels = stacked_panels([1.4, 1.4] + ([_motif_height(rows)] if rows else []))
        edges = np.append(bases["position"].to_numpy(), last)
        for axes, column, label in (
            (panels[0], "gradient_norm", "gradient's\nlength"),
            (panels[1], "integrated_gradients", "integrated\ngradients"),
        ):
            axes.axvspan(*target, color="#f4e4b8", linewidth=0)
            axes.stairs(bases[column].to_numpy(), edges, fill=True, color=BLUE)
            axes.set_ylabel(label, rotation=0, ha="right", va="center")
        panels[1].axhline(0, color=GREY, linewidth=0.6)
        if len(bases) <= MOST_LETTERS:
            _write_letters(panels[1], bases)
        if rows:
            _draw_motifs(panels[2], hits, rows)
        panels[0].set_title(title)
        panels[-1].set_xlim(first, last)
        label_positions(panels[-1], contig)
        return png_bytes(figure)


def draw_mutagenesis(table: "pd.DataFrame", hits: "pd.DataFrame", *, contig: str, title: str) -> bytes:
    """Effects of each change as a heat map, and the importance of each base above it.

    Args:
        table: of `Mutagenesis.table`, with positions on the genome.
        hits: motif, start, end, strand.
        contig, title: for axis and figure.
    """
    import matplotlib

    first, last = int(table["position"].iloc[0]), int(table["position"].iloc[-1]) + 1
    rows = _motif_rows(hits, first, last)
    effects = table[[f"effect_{base}" for base in BASES]].to_numpy(float).T
    largest = float(np.nanmax(np.abs(effects))) if np.isfinite(effects).any() else 0.0
    largest = largest or 1.0
    with matplotlib.rc_context(STYLE):
        figure, panels = stacked_panels([1.4, 1.0] + ([_motif_height(rows)] if rows else []))
        importance, edges = table["importance"].fillna(0).to_numpy(), np.append(table["position"].to_numpy(), last)
        for base, colour in BASE_COLOURS.items():
            panels[0].stairs(np.where(table["base"] == base, importance, 0.0), edges, fill=True, color=colour)
        panels[0].axhline(0, color=GREY, linewidth=0.6)
        panels[0].set_ylabel("importance", rotation=0, ha="right", va="center")
        panels[0].set_title(title)
        if len(table) <= MOST_LETTERS:
            _write_letters(panels[0], table)
        image = panels[1].imshow(
            effects, aspect="auto", extent=(first, last, 3.5, -0.5), cmap="RdBu", vmin=-largest, vmax=largest
        )
        panels[1].set_yticks(range(4), list(BASES))
        panels[1].set_ylabel("changed to", rotation=0, ha="right", va="center")
        figure.colorbar(image, ax=panels[1], label="effect", pad=0.01)
        if rows:
            _draw_motifs(panels[2], hits, rows)
        panels[-1].set_xlim(first, last)
        label_positions(panels[-1], contig)
        return png_bytes(figure)


def draw_attention_received(
    received: np.ndarray, spans: np.ndarray, *, contig: str, start: int, target: tuple[int, int], title: str
) -> bytes:
    """Attention that tokens receive, a row a head, as log2 of its ratio to even attention.

    Args:
        received: (layers, heads, tokens), adding up to 1 over the tokens.
        spans: (tokens, 2) bases [start, end) of each token in the window; those without bases are left out.
        contig: for the axis.
        start: coordinate of the window's first base.
        target: bases [start, end) that are explained, on the genome; marked.
        title: above the figure.
    """
    import matplotlib

    layers, heads, tokens = received.shape
    has_bases = spans[:, 1] > spans[:, 0]
    ratios = received.reshape(layers * heads, tokens)[:, has_bases] * tokens
    begins = spans[has_bases, 0] + start
    columns = np.linspace(0, len(begins), min(len(begins), MOST_COLUMNS) + 1).astype(int)
    widths = np.diff(columns)
    binned = np.add.reduceat(ratios, columns[:-1], axis=1) / widths
    edges = np.append(begins[columns[:-1]], spans[-1, 1] + start)
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = stacked_panels([min(1.0 + 0.09 * layers * heads, 14.0)])
        mesh = axes.pcolormesh(
            edges,
            np.arange(layers * heads + 1),
            np.log2(np.maximum(binned, 2.0**-9)),
            cmap="RdBu_r",
            vmin=-3,
            vmax=3,
            rasterized=True,
        )
        axes.set_yticks(np.arange(layers) * heads + heads / 2, [f"layer {layer}" for layer in range(layers)])
        axes.invert_yaxis()
        axes.hlines(np.arange(1, layers) * heads, edges[0], edges[-1], color="black", linewidth=0.4)
        for place in target:
            axes.axvline(place, color="black", linewidth=0.6, linestyle=":")
        axes.set_title(title)
        label_positions(axes, contig)
        figure.colorbar(mesh, ax=axes, label="log2(attention received / even)", pad=0.01)
        return png_bytes(figure)


def draw_attention_maps(binned: np.ndarray, *, title: str) -> bytes:
    """All maps as one mosaic: a row a layer, a column a head; within each, queries downwards and tokens to the right.

    Args:
        binned: (layers, heads, query bins, token bins) of `SequenceAttention`.
        title: above the figure.
    """
    import matplotlib

    strengths = np.sqrt(binned / binned.max(axis=(2, 3), keepdims=True))
    for axis in (2, 3):  # so that the frame is thin beside a map of few bins
        strengths = strengths.repeat(-(-LEAST_MAP_PIXELS // strengths.shape[axis]), axis=axis)
    layers, heads, queries, tokens = strengths.shape
    framed = np.pad(strengths, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    mosaic = framed.transpose(0, 2, 1, 3).reshape(layers * (queries + 1), heads * (tokens + 1))[:-1, :-1]
    size = 10.0 / max(heads, 6)
    with matplotlib.rc_context({**STYLE, "axes.spines.left": False, "axes.spines.bottom": False}):
        figure, (axes,) = stacked_panels([max(layers * size, 1.5)], width=heads * size + 1.5)
        axes.imshow(mosaic, aspect="auto", cmap="magma", vmin=0, vmax=1, interpolation="nearest")
        axes.set_yticks(np.arange(layers) * (queries + 1) + queries / 2, [f"layer {row}" for row in range(layers)])
        axes.set_xticks(np.arange(heads) * (tokens + 1) + tokens / 2, [f"head {column}" for column in range(heads)])
        axes.tick_params(length=0)
        axes.set_title(title)
        return png_bytes(figure)


def draw_motif_comparison(comparison: "pd.DataFrame", *, title: str) -> bytes:
    """AUROC of each kind of score within each motif's hits; filled where q < 0.05.

    Args:
        comparison: of `compare_with_hits`, with the column `scores` that names the kind.
        title: above the figure.
    """
    import matplotlib
    from matplotlib.figure import Figure

    known = comparison.dropna(subset=["auroc"])
    # The best motifs are at the top, and motifs of one name are told apart by their ids.
    order = known.groupby("matrix_id")["auroc"].max().sort_values(ascending=False).index[:30].tolist()
    names = known.drop_duplicates("matrix_id").set_index("matrix_id")["motif"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 1.4 + 0.25 * max(len(order), 1)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0.5, color=GREY, linewidth=0.8)
        for number, (kind, group) in enumerate(known.groupby("scores", sort=False)):
            colour = COLOURS[number % len(COLOURS)]
            group = group[group["matrix_id"].isin(order)]
            rows = [order.index(one) for one in group["matrix_id"]]
            filled = np.where(group["q_value"] < 0.05, colour, "white").tolist()
            axes.scatter(group["auroc"], rows, s=28, facecolors=filled, edgecolors=colour, clip_on=False)
            axes.scatter([], [], s=28, color=colour, label=str(kind))
        axes.set_yticks(range(len(order)), [f"{names[one]} ({one})" for one in order])
        axes.set_ylim(max(len(order), 1) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.set_xlabel("AUROC of hits against the background")
        axes.set_title(title)
        if len(known):
            figure.legend(frameon=False, loc="outside lower center", ncols=2)
        return png_bytes(figure)


def _motif_rows(hits: "pd.DataFrame", first: int, last: int) -> dict[str, int]:
    """Motif -> row, for those with a hit in [first, last), the most hits first."""
    within = hits[(hits["start"] < last) & (hits["end"] > first)]
    names = within["motif"].value_counts(sort=True).index[:MOST_MOTIF_ROWS]
    return {name: row for row, name in enumerate(names)}


def _motif_height(rows: dict[str, int]) -> float:
    return 0.3 + 0.17 * len(rows)


def _draw_motifs(axes: "Axes", hits: "pd.DataFrame", rows: dict[str, int]) -> None:
    for motif, row in rows.items():
        for strand, colour in (("+", BLUE), ("-", ORANGE)):
            chosen = hits[(hits["motif"] == motif) & (hits["strand"] == strand)]
            pairs = list(zip(chosen["start"], chosen["end"] - chosen["start"], strict=True))
            axes.broken_barh(pairs, (row - 0.35, 0.7), facecolors=colour)
    axes.set_yticks(list(rows.values()), list(rows))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _write_letters(axes: "Axes", bases: "pd.DataFrame") -> None:
    """Along the panel's lower edge."""
    for position, base in zip(bases["position"], bases["base"], strict=True):
        axes.text(
            position + 0.5,
            0.0,
            base,
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=5,
            color=BASE_COLOURS[base],
        )
