"""Sequence view of an edit of DNA: reference and edited bases around what changed, with the motifs of both.

Takes the tables of `promoter_mutagenesis_view`, where places are compared one by one, so that behind an insertion or a
deletion most bases differ; or one with gaps, "-", where inserted bases bear the offset of the base in front.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from .perturbation_canvas import GREY, STYLE, Figure, finished, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BASE_COLOURS = {"A": "#009e73", "C": "#0072b2", "G": "#e69f00", "T": "#d55e00", "N": GREY}
CHANGE_COLOURS = {"lost": "#d55e00", "gained": "#009e73", "kept": GREY}
MARGIN = 10
BASES_A_PANEL = 80
LARGEST_NUMBER_OF_PANELS = 6
MOTIF_ROWS = 6


def draw_sequence_edit(bases: "pd.DataFrame", hits: "pd.DataFrame | None" = None, *, gene: str) -> Figure | None:
    """Both sequences base by base, in panels around the changes, from the first on; None where nothing changed.

    Args:
        bases: one row a base: position (0-based in the window), offset (from the TSS), reference, edited, is_changed.
        hits: one row a motif hit: motif, start, end (as position), strand, change (lost, gained or kept).
        gene: name, for the title.

    Raises:
        ValueError: on tables without their columns.
    """
    import matplotlib

    _require("bases", bases, ("position", "offset", "reference", "edited", "is_changed"))
    if hits is not None:
        _require("motif hits", hits, ("motif", "start", "end", "strand", "change"))
    windows = _windows(bases)
    if not windows:
        return None
    shown = windows[:LARGEST_NUMBER_OF_PANELS]
    rows = [_rows_of_hits(_hits_within(hits, bases, window)) for window in shown]
    heights = [1.5 + 0.28 * max((row + 1 for row, _ in found), default=0) for found in rows]
    with matplotlib.rc_context(STYLE):
        width = 1.2 + 0.105 * BASES_A_PANEL
        canvas, grid = panels(width, 0.6 + 0.62 * sum(heights), len(shown), 1, height_ratios=heights)
        for axes, window, found in zip(grid, shown, rows, strict=True):
            _draw_panel(axes, bases.iloc[window[0] : window[1]], found)
        grid[0].set_title(f"The edit at {gene}: reference above, edited below")
        grid[-1].set_xlabel("bp from the transcription start site")
        changed = int(bases["is_changed"].sum())
        seen = sum(int(bases["is_changed"].iloc[start:end].sum()) for start, end in shown)
        caption = f"{seen:,} of {changed:,} changed bases, boxed" + (
            f"; {len(windows) - len(shown)} more places are not drawn." if len(windows) > len(shown) else "."
        )
        if hits is not None:
            counts = hits["change"].value_counts()
            caption += " Motifs: " + ", ".join(f"{int(counts.get(kind, 0))} {kind}" for kind in CHANGE_COLOURS) + "."
        return finished(canvas, "sequence_edit", caption)


def _windows(bases: "pd.DataFrame") -> list[tuple[int, int]]:
    """Rows to draw together: changes that are near each other, with a margin, and no more than fit."""
    changed = np.flatnonzero(bases["is_changed"].to_numpy(dtype=bool))
    windows: list[tuple[int, int]] = []
    start = end = -1
    for place in changed.tolist():
        if start >= 0 and place + 1 + MARGIN - start <= BASES_A_PANEL and place - end <= 2 * MARGIN:
            end = place + 1 + MARGIN
            continue
        if start >= 0:
            windows.append((start, min(end, len(bases))))
        start = max(place - MARGIN, windows[-1][1] if windows else 0, 0)
        end = place + 1 + MARGIN
    if start >= 0:
        windows.append((start, min(end, len(bases))))
    return windows


def _hits_within(hits: "pd.DataFrame | None", bases: "pd.DataFrame", window: tuple[int, int]) -> list[dict[str, Any]]:
    if hits is None:
        return []
    start, end = bases["position"].iloc[window[0]], bases["position"].iloc[window[1] - 1] + 1
    inside = hits[(hits["start"] < end) & (hits["end"] > start)]
    order = {"lost": 0, "gained": 1, "kept": 2}
    return sorted(inside.to_dict("records"), key=lambda hit: (order.get(hit["change"], 3), hit["start"]))


def _rows_of_hits(hits: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """Each hit with a row in which it overlaps no other; those of most interest first, as many as fit."""
    ends: list[list[tuple[int, int]]] = [[] for _ in range(MOTIF_ROWS)]
    placed = []
    for hit in hits:
        span = (hit["start"], max(hit["end"], hit["start"] + len(hit["motif"]) + 2))
        for row, taken in enumerate(ends):
            if all(span[1] <= start or span[0] >= end for start, end in taken):
                taken.append(span)
                placed.append((row, hit))
                break
    return placed


def _draw_panel(axes: "Axes", bases: "pd.DataFrame", hits: list[tuple[int, dict[str, Any]]]) -> None:
    from matplotlib.patches import Rectangle

    first = int(bases["position"].iloc[0])
    for column, reference, edited, is_changed in zip(
        range(len(bases)), bases["reference"], bases["edited"], bases["is_changed"], strict=True
    ):
        for y, base in ((1, reference), (0, edited)):
            colour = BASE_COLOURS.get(base, GREY)
            style: dict[str, Any] = {"family": "monospace", "ha": "center", "va": "center", "fontsize": 8}
            axes.text(column, y, base, color=colour, fontweight="bold" if is_changed else "normal", **style)
        if is_changed:
            box = Rectangle((column - 0.5, -0.45), 1, 1.9, facecolor="#fff3d6", edgecolor="#8a6d1a", linewidth=0.6)
            axes.add_patch(box)
    for row, hit in hits:
        height, colour = 1.9 + row, CHANGE_COLOURS.get(hit["change"], GREY)
        start, end = max(hit["start"] - first, 0) - 0.5, min(hit["end"] - first, len(bases)) - 0.5
        axes.add_patch(Rectangle((start, height - 0.12), end - start, 0.24, facecolor=colour, linewidth=0))
        arrow = "›" if hit["strand"] == "+" else "‹"
        axes.text(
            start, height + 0.18, f"{hit['motif']} {arrow} {hit['change']}", color=colour, fontsize=7, va="bottom"
        )
    axes.set_xlim(-1, BASES_A_PANEL)
    axes.set_ylim(-0.7, 1.7 + max((row + 1 for row, _ in hits), default=0))
    axes.set_yticks([1, 0], ["reference", "edited"])
    axes.tick_params(axis="y", length=0)
    ticks = np.flatnonzero((bases["offset"] % 10 == 0) & ~bases["offset"].duplicated())
    axes.set_xticks(ticks, [f"{offset:+,}" for offset in bases["offset"].iloc[ticks]])
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _require(what: str, table: "pd.DataFrame", columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in table]
    if missing:
        raise ValueError(
            f"the table of {what} has no {', '.join(missing)}; its columns are {', '.join(map(str, table.columns))}"
        )
