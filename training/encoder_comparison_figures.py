"""Figures of a comparison of encoders: heads on the ranking task, and MCC of each element by encoder."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..pipelines.png_figures import BLUE, COLOURS, GREY, ORANGE, STYLE, png_bytes
from .encoder_comparison import ARMS, MEAN_OF_ELEMENTS, HeadResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOUR_OF_ENCODER = {"trained": BLUE, "frozen": ORANGE}
_COLOUR_OF_ARM = dict(zip((arm.name for arm in ARMS), (GREY, *COLOURS), strict=False))
_GROUP_WIDTH = 0.8  # of the distance between groups of bars
_MOST = 1.05  # shares and MCC are at most 1


def heads_figure(results: Sequence[HeadResult]) -> bytes:
    """PNG: exact order of each head with its encoder trained and frozen, with intervals, and chance as a line."""
    heads = list(dict.fromkeys(result.head for result in results))
    encoders = list(dict.fromkeys(result.encoder for result in results))
    bars = {
        encoder: [
            _bar(result.test["exact_order"], result.test.get("exact_order_interval"))
            for head in heads
            for result in results
            if (result.head, result.encoder) == (head, encoder)
        ]
        for encoder in encoders
    }
    return _grouped_bars(
        heads,
        bars,
        titles={encoder: f"{encoder} encoder" for encoder in encoders},
        colours=_COLOUR_OF_ENCODER,
        y_label="regions of a span in exact order (share of test rows)",
        chance=results[0].test["exact_order_chance"],
    )


def segmentation_figure(table: Mapping[str, Mapping[str, Any]]) -> bytes:
    """PNG: mean MCC of each element and encoder, with intervals over seeds, and a dot a seed."""
    elements = [MEAN_OF_ELEMENTS, *(element for element in table if element != MEAN_OF_ELEMENTS)]
    arms = list(table[MEAN_OF_ELEMENTS])
    bars = {
        arm: [_bar(row["mean"], (row["low"], row["high"]), row["seeds"]) for row in (table[e][arm] for e in elements)]
        for arm in arms
    }
    titles = {arm.name: arm.title for arm in ARMS}
    return _grouped_bars(elements, bars, titles=titles, colours=_COLOUR_OF_ARM, y_label="MCC on test windows")


def _bar(
    value: float | None, interval: Sequence[float | None] | None, points: Sequence[float | None] = ()
) -> dict[str, Any]:
    low, high = interval or (None, None)
    return {"value": value, "low": low, "high": high, "points": [point for point in points if point is not None]}


def _grouped_bars(
    groups: Sequence[str],
    bars: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    titles: Mapping[str, str],
    colours: Mapping[str, str],
    y_label: str,
    chance: float | None = None,
) -> bytes:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(5.0, 2.0 + 0.8 * len(groups)), 4.2), layout="constrained")
        axes = figure.subplots()
        width = _GROUP_WIDTH / len(bars)
        for number, (name, of_group) in enumerate(bars.items()):
            places = np.arange(len(groups)) + (number - (len(bars) - 1) / 2) * width
            _draw(axes, places, of_group, width=width, colour=colours[name], label=titles[name])
        if chance is not None:
            axes.axhline(chance, color="black", linestyle="--", linewidth=1, label=f"chance ({chance:.3f})")
        axes.axhline(0, color="black", linewidth=0.6)
        rotation = 0 if len(groups) <= 5 else 40
        axes.set_xticks(range(len(groups)), groups, rotation=rotation, ha="center" if not rotation else "right")
        axes.set_xlim(-0.5, len(groups) - 0.5)
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -_MOST), min(high, _MOST))  # intervals of two seeds reach far beyond
        axes.set_ylabel(y_label)
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        return png_bytes(figure)


def _draw(
    axes: "Axes", places: Any, bars: Sequence[Mapping[str, Any]], *, width: float, colour: str, label: str
) -> None:
    axes.bar(
        places, [np.nan if bar["value"] is None else bar["value"] for bar in bars], width, color=colour, label=label
    )
    for place, bar in zip(places.tolist(), bars, strict=True):
        if bar["low"] is not None and bar["high"] is not None:
            axes.plot([place, place], [bar["low"], bar["high"]], color="black", linewidth=1)
        axes.plot([place] * len(bar["points"]), bar["points"], ".", color="black", markersize=3)
