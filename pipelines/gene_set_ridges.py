"""Ridges of a perturbation: how the shifts of each gene set are spread, above those of all other genes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .perturbation_canvas import GREY, STYLE, Figure, finished, one_panel, set_colours, short

if TYPE_CHECKING:
    import pandas as pd

HEIGHT = 0.9  # of the highest ridge, in units of the distance between two
POINTS = 300
OTHERS = "genes of no set"


def draw_ridges(genes: "pd.DataFrame", gene_sets: Mapping[str, Sequence[str]], edited: str) -> Figure | None:
    """A ridge a set; None where no set has a gene with a shift.

    Args:
        genes: gene_id, and shift or shift_normalised, which is preferred.
        gene_sets: name -> gene ids.
        edited: name of the edited gene.
    """
    import matplotlib

    beyond = "shift_normalised" in genes and bool(genes["shift_normalised"].notna().any())
    values = _logs(genes, "shift_normalised" if beyond else "shift")
    in_any = genes["gene_id"].isin([gene for members in gene_sets.values() for gene in members]).to_numpy()
    groups = {OTHERS: values[~in_any]}
    groups |= {name: values[genes["gene_id"].isin(members).to_numpy()] for name, members in gene_sets.items()}
    groups = {name: found[np.isfinite(found)] for name, found in groups.items()}
    groups = {name: found for name, found in groups.items() if len(found)}
    if not groups.keys() - {OTHERS}:
        return None
    grid = _grid(np.concatenate(list(groups.values())))
    colours = dict(zip(gene_sets, set_colours(len(gene_sets)), strict=True))
    with matplotlib.rc_context(STYLE):
        canvas, axes = one_panel(6.4, 1.4 + 0.55 * len(groups))
        for row, (name, found) in enumerate(reversed(groups.items())):
            colour, density = colours.get(name, GREY), _density(found, grid)
            top = row + HEIGHT * density / density.max()
            axes.fill_between(grid, row, top, color=colour, alpha=0.35, linewidth=0, zorder=2 * (len(groups) - row))
            axes.plot(grid, top, color=colour, linewidth=1.2, zorder=2 * (len(groups) - row) + 1)
            axes.plot(
                found, np.full(len(found), row - 0.06), "|", color=colour, markersize=5, alpha=0.5, rasterized=True
            )
            axes.vlines(np.median(found), row, row + HEIGHT, color="black", linewidth=1.2, zorder=99)
        axes.set_yticks(
            range(len(groups)), [f"{short(name)} ({len(found)})" for name, found in reversed(groups.items())]
        )
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(-0.25, len(groups) - 1 + 1.1)
        axes.set_xlabel("log of the shift, less its mean under sham edits" if beyond else "log10 of the shift")
        axes.set_title(f"Spread of the shifts of gene sets when {edited} is edited")
        caption = "Density of the shifts of each set's genes; black: the median. Each ridge has its own height."
        return finished(canvas, "gene_set_ridges", caption)


def _logs(genes: "pd.DataFrame", column: str) -> npt.NDArray[np.float64]:
    values = genes[column].to_numpy(dtype=float)
    if column == "shift_normalised":
        return values
    return np.log10(np.where(values > 0, values, np.nan))


def _grid(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    margin = 0.1 * np.ptp(values) or 1.0
    return np.linspace(values.min() - margin, values.max() + margin, POINTS)


def _density(values: npt.NDArray[np.float64], grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Gaussian kernels of Silverman's width, and no narrower than the grid can show."""
    spread = values.std() * (4 / 3 / len(values)) ** 0.2
    width = max(float(spread), 2 * float(grid[1] - grid[0]))
    edges = np.r_[grid, 2 * grid[-1] - grid[-2]] - (grid[1] - grid[0]) / 2
    counts = np.histogram(values, edges)[0]  # so that large sets cost no more than small ones
    kernel = np.exp(-0.5 * ((grid[:, None] - grid[None]) / width) ** 2)
    return kernel @ counts
