"""Figures of the studies of the multiome Performer: training curves, occupancy of bins, and scores of the arms.

Source: "Developing a Multimodal Single-Cell Foundation Model with scATAC", figures 4.3 and B.5.
"""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..pipelines.png_figures import COLOURS, GREY, STYLE, png_bytes
from .multiome_studies import few_cells

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = {"training_accuracy": "training", "validation_accuracy": "validation"}
_GROUP_WIDTH = 0.8  # of the distance between groups of bars


def curves_figure(curves: pd.DataFrame) -> bytes:
    """PNG of figure 4.3: accuracy on training and on validation cells by step, a colour a method.

    Args:
        curves: as `training_curves` gives them; thick lines are means over the seeds that were still trained, thin ones
            the seeds.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.0, 3.4), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (column, title) in zip(panels, _PANELS.items(), strict=True):
            for colour, (method, part) in zip(_colours(curves), curves.groupby("method", sort=False), strict=True):
                _draw_curves(axes, part, column, colour, str(method))
            axes.set_title(title)
            axes.set_xlabel("step")
        panels[0].set_ylabel("accuracy")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
        return png_bytes(figure)


def bins_figure(occupancy: pd.DataFrame) -> bytes:
    """PNG of figure B.5: the share of non-zero values in each bin, a panel a modality, a colour a strategy."""
    import matplotlib
    from matplotlib.figure import Figure

    nonzero = occupancy[occupancy["bin"] > 0]
    modalities, strategies = (list(dict.fromkeys(nonzero[name])) for name in ("modality", "strategy"))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.0 * len(modalities), 3.2), layout="constrained")
        panels = figure.subplots(1, len(modalities), sharey=True, squeeze=False)[0]
        width = _GROUP_WIDTH / len(strategies)
        for axes, modality in zip(panels, modalities, strict=True):
            for number, strategy in enumerate(strategies):
                part = nonzero[(nonzero["modality"] == modality) & (nonzero["strategy"] == strategy)]
                places = part["bin"] + (number - (len(strategies) - 1) / 2) * width
                colour = COLOURS[number % len(COLOURS)]
                axes.bar(places, part["share_of_nonzero"], width, color=colour, label=strategy)
            axes.set_title({"rna": "RNA", "atac": "ATAC"}[modality])
            axes.set_xlabel("bin")
        panels[0].set_ylabel("share of non-zero values")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(strategies), frameon=False)
        return png_bytes(figure)


def scores_figure(summary: pd.DataFrame, results: pd.DataFrame) -> bytes:
    """PNG: MCC of each method with its interval over seeds, and a dot a seed; a colour a number of cells a type.

    Args:
        summary, results: as `summary_table` gives and takes them.
    """
    import matplotlib
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(summary["method"]))
    few, few_of_results = (few_cells(table) for table in (summary, results))
    numbers = list(dict.fromkeys(few))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 1.2 + 0.4 * len(methods) * max(1, 0.6 * len(numbers))), layout="constrained")
        axes = figure.subplots()
        height = _GROUP_WIDTH / len(numbers)
        for place, number in enumerate(numbers):
            part = summary[few == number].set_index("method").reindex(methods)
            at = np.arange(len(methods)) + (place - (len(numbers) - 1) / 2) * height
            colour = GREY if number == 0 else COLOURS[(place + 1) % len(COLOURS)]
            axes.barh(at, part["mcc"], height, color=colour, label=f"{number} cells a type" if number else "all cells")
            axes.hlines(at, part["mcc_low"].astype(float), part["mcc_high"].astype(float), color="black", linewidth=1)
            dots = results[few_of_results == number]
            rows = at[[methods.index(method) for method in dots["method"]]]
            axes.plot(dots["mcc"], rows, ".", color="black", markersize=3)
        axes.set_yticks(range(len(methods)), methods)
        axes.invert_yaxis()
        axes.set_xlim(min(0.0, float(results["mcc"].min())), 1)  # intervals of two seeds reach far beyond
        axes.set_xlabel("MCC on test cells")
        if len(numbers) > 1:
            figure.legend(loc="outside upper center", ncols=len(numbers), frameon=False)
        return png_bytes(figure)


def _draw_curves(axes: "Axes", part: pd.DataFrame, column: str, colour: str, label: str) -> None:
    for _, of_seed in part.groupby("seed"):
        axes.plot(of_seed["step"], of_seed[column], color=colour, linewidth=0.5, alpha=0.5)
    mean = part.groupby("step")[column].mean()
    axes.plot(mean.index, mean, color=colour, linewidth=1.8, label=label)


def _colours(curves: pd.DataFrame) -> list[str]:
    methods = curves["method"].nunique()
    return [COLOURS[number % len(COLOURS)] for number in range(methods)]
