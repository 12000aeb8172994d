"""Figures of recovered targets: precision against recall, precision over k, and Figure 3 of Bio-DTA, side by side.

Random rankings are drawn as what they are, a distribution: grey, the band that 95 % of them stay within.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .perturbation_canvas import GREY, STYLE, Figure, finished, panels, set_colours, short

if TYPE_CHECKING:
    import pandas as pd

BAND_COLOUR = "#dde2e6"
PANELS_A_ROW = 3
RANKED_BY_PHRASES = {"shift": "", "shift_normalised": " (beyond usual)", "shift_standardised": " (standardised)"}


def draw_recovery(recovery: Any, *, k: int | None = None) -> list[Figure]:
    """All of them.

    Args:
        recovery: a TargetRecovery.
        k: of `figure_3`; the median of those in the table where None.
    """
    over_k = [draw_over_k(recovery.top_k)] if recovery.top_k["k"].nunique() > 1 else []
    bars = [draw_figure_3(recovery.top_k, k=k)] if len(recovery.top_k) else []
    return [draw_precision_recall(recovery.curve, recovery.scores), *over_k, *bars]


def draw_precision_recall(curve: "pd.DataFrame", scores: "pd.DataFrame | None" = None) -> Figure:
    """Precision against recall, a panel a gene set and a line a model.

    Args:
        curve, scores: of a TargetRecovery; with the scores, the legend has each average precision.
    """
    import matplotlib

    sets = list(dict.fromkeys(curve["gene_set"]))
    with matplotlib.rc_context(STYLE):
        canvas, grid = _grid(len(sets), legend=True)
        for axes, gene_set in zip(grid, sets, strict=False):
            inside = curve[curve["gene_set"] == gene_set]
            _, widest = max(inside.groupby(["model", "ranked_by"], sort=False), key=lambda item: len(item[1]))
            axes.fill_between(
                widest["recall"], widest["precision_random_low"], widest["precision_random_high"], **_band()
            )
            axes.plot(widest["recall"], widest["precision_random"], color=GREY, linewidth=1, linestyle="--")
            for colour, label, rows in _lines(curve, inside):
                axes.plot(rows["recall"], rows["precision"], color=colour, linewidth=1.3, label=label)
            axes.set_title(short(gene_set, 36))
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1.02)
            axes.set_xlabel("recall")
            axes.set_ylabel("precision")
            if scores is not None:
                _write_average_precisions(axes, scores[scores["gene_set"] == gene_set], curve)
        _shared_legend(canvas, curve)
        caption = (
            "Precision against recall of the targets as more and more genes are taken, those that move most first. "
            "Grey: 95 % of random rankings, dashed their median. AP: average precision."
        )
        return finished(canvas, "precision_recall", caption)


def draw_over_k(top_k: "pd.DataFrame") -> Figure:
    """Precision among the top k genes over k, a panel a gene set and a line a model; of a TargetRecovery."""
    import matplotlib

    sets = list(dict.fromkeys(top_k["gene_set"]))
    with matplotlib.rc_context(STYLE):
        canvas, grid = _grid(len(sets), legend=True)
        for axes, gene_set in zip(grid, sets, strict=False):
            inside = top_k[top_k["gene_set"] == gene_set]
            band = inside.drop_duplicates("k").sort_values("k")
            axes.fill_between(band["k"], band["precision_random_low"], band["precision_random_high"], **_band())
            axes.plot(band["k"], band["precision_random"], color=GREY, linewidth=1, linestyle="--")
            for colour, label, rows in _lines(top_k, inside):
                axes.plot(
                    rows["k"], rows["precision"], color=colour, linewidth=1.3, marker="o", markersize=3, label=label
                )
            axes.set_title(short(gene_set, 36))
            axes.set_xscale("log")
            axes.set_ylim(0, None)
            axes.set_xlabel("genes taken")
            axes.set_ylabel("precision")
        _shared_legend(canvas, top_k)
        caption = (
            "Share of targets among the k genes that move most. Grey: 95 % of random sets of k genes, exact "
            "(hypergeometric), dashed their mean."
        )
        return finished(canvas, "precision_over_k", caption)


def draw_figure_3(top_k: "pd.DataFrame", *, k: int | None = None) -> Figure:
    """Precision and recall of each model in each gene set, as Figure 3 of Bio-DTA, with random sets as a band.

    Args:
        top_k: of a TargetRecovery.
        k: how many genes are taken, one of the table's; the median of them where None.

    Raises:
        ValueError: on a k that the table does not have.
    """
    import matplotlib

    known = sorted(top_k["k"].unique().tolist())
    chosen = known[(len(known) - 1) // 2] if k is None else k
    if chosen not in known:
        raise ValueError(f"k is {chosen}, and the table has {', '.join(map(str, known))}")
    table = top_k[top_k["k"] == chosen]
    sets, models = list(dict.fromkeys(table["gene_set"])), _models(table)
    width = 0.8 / len(models)
    with matplotlib.rc_context(STYLE):
        canvas, grid = panels(max(6.4, 2.0 + 1.5 * len(sets)), 6.2, 2, 1, sharex=True)
        for axes, measure in zip(grid, ("precision", "recall"), strict=True):
            for place, gene_set in enumerate(sets):
                inside = table[table["gene_set"] == gene_set]
                for number, (model, colour) in enumerate(zip(models, set_colours(len(models)), strict=True)):
                    row = inside[(inside["model"] == model[0]) & (inside["ranked_by"] == model[1])]
                    if len(row):
                        left = place - 0.4 + (number + 0.5) * width
                        axes.bar(left, row[measure].iloc[0], width * 0.9, color=colour, zorder=2)
                        low, high, mean = (row[f"{measure}_random{end}"].iloc[0] for end in ("_low", "_high", ""))
                        axes.bar(left, high - low, width, bottom=low, color=GREY, alpha=0.45, linewidth=0, zorder=3)
                        axes.hlines(mean, left - width / 2, left + width / 2, color="black", linewidth=1, zorder=4)
            axes.set_ylabel(f"{measure} of the top {chosen}")
        grid[1].set_xticks(range(len(sets)), [short(name, 24) for name in sets], rotation=20, ha="right")
        grid[0].set_title(f"Targets among the {chosen} genes that move most")
        _shared_legend(canvas, table, bars=True)
        caption = (
            f"The layout of Figure 3 of Bio-DTA: precision and recall of each set's genes among the {chosen} genes "
            "that move most. Grey: 95 % of random sets of as many genes, black their mean."
        )
        return finished(canvas, "figure_3", caption)


def _grid(count: int, *, legend: bool) -> Any:
    columns = min(max(count, 1), PANELS_A_ROW)
    rows = -(-max(count, 1) // columns)
    canvas, grid = panels(max(4.8, 3.3 * columns), 3.0 * rows + 0.5 * legend, rows, columns)
    for axes in grid[count:]:
        axes.axis("off")
    return canvas, grid


def _band() -> dict[str, Any]:
    return {"color": BAND_COLOUR, "linewidth": 0, "zorder": 0}


def _models(table: "pd.DataFrame") -> list[tuple[str, str]]:
    """(model, ranked by), in the table's order."""
    return list(dict.fromkeys(zip(table["model"], table["ranked_by"], strict=True)))


def _label(model: tuple[str, str]) -> str:
    return short(model[0]) + RANKED_BY_PHRASES.get(model[1], f" by {model[1]}")


def _lines(table: "pd.DataFrame", inside: "pd.DataFrame") -> list[tuple[str, str, "pd.DataFrame"]]:
    models = _models(table)
    found = []
    for model, colour in zip(models, set_colours(len(models)), strict=True):
        rows = inside[(inside["model"] == model[0]) & (inside["ranked_by"] == model[1])]
        if len(rows):
            found.append((colour, _label(model), rows))
    return found


def _write_average_precisions(axes: Any, scores: "pd.DataFrame", table: "pd.DataFrame") -> None:
    models = _models(table)
    colours = dict(zip(models, set_colours(len(models)), strict=True))
    for number, row in enumerate(scores.to_dict("records")):
        text, colour = f"AP {row['average_precision']:.2f}", colours.get((row["model"], row["ranked_by"]), GREY)
        axes.text(
            0.98, 0.97 - 0.075 * number, text, color=colour, transform=axes.transAxes, ha="right", va="top", fontsize=8
        )


def _shared_legend(canvas: Any, table: "pd.DataFrame", *, bars: bool = False) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    models = _models(table)
    pairs: Sequence[tuple[str, tuple[str, str]]] = list(zip(set_colours(len(models)), models, strict=True))
    handles: list[Any] = [
        Patch(color=colour, label=_label(model)) if bars else Line2D([], [], color=colour, label=_label(model))
        for colour, model in pairs
    ]
    handles.append(Patch(color=BAND_COLOUR, label="95 % of random sets"))
    canvas.legend(handles=handles, frameon=False, fontsize=8, loc="outside lower center", ncols=3)
