"""Figures of cell-type classification: how sure the model is, and which types it takes for which."""

from typing import TYPE_CHECKING

import numpy as np

from .png_figures import BLUE, ORANGE, STYLE, png_bytes

if TYPE_CHECKING:
    import pandas as pd

_BINS = np.linspace(0, 1, 41).tolist()
_MOST_WRITTEN = 20


def draw_confidence(confidence: "pd.Series", unknown_threshold: float) -> bytes:
    """PNG bytes: a histogram of the best types' probabilities, (cells,) with NaN where there is none."""
    import matplotlib
    from matplotlib.figure import Figure

    known = confidence.dropna()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.0, 3.0), layout="constrained")
        axes = figure.subplots()
        axes.hist(known, bins=_BINS, color=BLUE)
        if unknown_threshold > 0:
            axes.axvline(unknown_threshold, color=ORANGE, linewidth=1.0, label=f"unknown below {unknown_threshold:g}")
            axes.legend(frameon=False)
        without = f", {len(confidence) - len(known):,} without a count" if len(known) < len(confidence) else ""
        axes.set_title(f"{len(known):,} cells{without}")
        axes.set_xlabel("probability of the best type")
        axes.set_ylabel("cells")
        return png_bytes(figure)


def draw_confusion(confusion: "pd.DataFrame") -> bytes:
    """PNG bytes: of each label, which share is predicted as which type; rows labels, columns predictions."""
    import matplotlib
    from matplotlib.figure import Figure

    counts = confusion.to_numpy(np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = [0.32 * n + 2.5 for n in (shares.shape[1], max(shares.shape[0], 1))]
    with matplotlib.rc_context({**STYLE, "axes.spines.top": True, "axes.spines.right": True}):
        figure = Figure(figsize=(size[0] + 0.8, size[1]), layout="constrained")
        axes = figure.subplots()
        if len(shares):
            image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            figure.colorbar(image, ax=axes, label="share of the label's cells", shrink=0.8)
        if max(shares.shape) <= _MOST_WRITTEN:
            for row, column in np.argwhere(shares >= 0.005):
                colour = "white" if shares[row, column] > 0.6 else "black"
                axes.text(column, row, f"{shares[row, column]:.2f}", ha="center", va="center", color=colour, fontsize=6)
        axes.set_xticks(range(shares.shape[1]), confusion.columns, rotation=90)
        axes.set_yticks(
            range(len(shares)),
            [f"{name} ({int(n):,})" for name, n in zip(confusion.index, counts.sum(axis=1), strict=True)],
        )
        axes.set_xlabel("predicted")
        axes.set_ylabel("label (cells)")
        return png_bytes(figure)
