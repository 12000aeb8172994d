"""Figures of a multiome build: peaks per gene and genes per peak by ring, and how full the bins of each strategy are.

After Figures B.4 and B.5 of the thesis. Colours are those of Okabe and Ito; the same numbers give the same bytes.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..modeling.peak_gene_rings import LinkCounts, Rings
from .multiome_sources import Modality

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
LARGEST_NUMBER_OF_DATASETS = 8
_STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
}


def draw_links(path: Path, links: Mapping[str, LinkCounts], rings: Rings) -> None:
    """Two panels a data set, of the first eight: how many peaks genes have, and how many genes peaks have."""
    import matplotlib
    from matplotlib.figure import Figure

    shown = dict(list(links.items())[:LARGEST_NUMBER_OF_DATASETS])
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 0.6 + 2.2 * len(shown)), layout="constrained")
        panels = figure.subplots(len(shown), 2, squeeze=False)
        for row, (name, counts) in zip(panels, shown.items(), strict=True):
            _distribution(row[0], counts.peaks_per_gene, rings, f"{name}: peaks per gene", "genes")
            _distribution(row[1], counts.genes_per_peak, rings, f"{name}: genes per peak", "peaks")
        panels[0, 0].legend(frameon=False)
        path.write_bytes(_png(figure))


def draw_bins(path: Path, compared: Mapping[Modality, Mapping[str, Any]]) -> None:
    """A panel a modality: of each strategy the share of non-zero counts in each bin."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 0.6 + 2.6 * len(compared)), layout="constrained")
        panels = figure.subplots(len(compared), 1, squeeze=False)[:, 0]
        for axes, (modality, numbers) in zip(panels, compared.items(), strict=True):
            strategies = {name: one for name, one in numbers.items() if isinstance(one, Mapping)}
            for place, (name, one) in enumerate(strategies.items()):
                shares = np.asarray(one["share of each bin"])
                offset = (place - (len(strategies) - 1) / 2) * 0.8 / len(strategies)
                axes.bar(
                    np.arange(len(shares)) + offset, shares, 0.8 / len(strategies), color=COLOURS[place], label=name
                )
            axes.set_title(f"{modality.upper()}: {numbers['non-zero counts']:,} non-zero counts")
            axes.set_xlabel("bin (0: taken for zero)")
            axes.set_ylabel("share of non-zero counts")
        panels[0].legend(frameon=False)
        path.write_bytes(_png(figure))


def _distribution(axes: "Axes", numbers: np.ndarray, rings: Rings, title: str, what: str) -> None:
    """How many of `what` have 0, 1, 2, ... : a line for each bound of the rings, cumulative."""
    from matplotlib.ticker import MaxNLocator

    longest = int(np.quantile(numbers[-1], 0.99)) + 2 if numbers.size else 2
    for row, bound, colour in zip(numbers, rings.bounds_bp, COLOURS * len(numbers), strict=False):
        times = np.bincount(np.minimum(row, longest), minlength=longest + 1)
        axes.stairs(times, np.arange(longest + 2) - 0.5, color=colour, label=f"within {bound // 1000:g} kb")
    axes.set_title(title)
    axes.set_xlabel(f"number (the last: {longest} or more)")
    axes.set_ylabel(what)
    axes.set_yscale("symlog")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()
