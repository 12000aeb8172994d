"""What the figures of explanations and variant effects share: colours, canvas, and PNG bytes.

Colours are those of Okabe and Ito, which readers who do not see red or green can tell apart.
"""

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY, BLUE, ORANGE = "#9aa3ab", "#0072b2", "#d55e00"
COLOURS = (BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
BASE_COLOURS = {"A": "#009e73", "C": "#0072b2", "G": "#e69f00", "T": "#d55e00", "N": GREY}
STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
}


def stacked_panels(heights: list[float], width: float = 10.0) -> "tuple[Figure, list[Axes]]":
    """A figure of panels above one another that share their x axis; heights in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, sum(heights) + 0.8), layout="constrained")
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    return figure, list(panels)


def label_positions(axes: "Axes", contig: str) -> None:
    """Name the x axis, of 0-based coordinates."""
    axes.set_xlabel(f"position on {contig} (bp, 0-based)")
    axes.xaxis.set_major_formatter("{x:,.0f}")


def png_bytes(figure: "Figure") -> bytes:
    """The same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()
