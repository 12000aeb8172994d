"""Volcano-like plot of a perturbation: how much further than usual each gene moved, against its false discovery rate.

A gene's p-value comes from sham edits: the chance that one more edit at another gene moves it as far, its log shifts
under sham edits taken as normal (a prediction interval of Student's t). Without sham edits there is nothing that a
single gene's shift could be tested against, and no such figure.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .perturbation_canvas import (
    LARGEST_SET_IN_COLOUR,
    STYLE,
    Figure,
    finished,
    label_points,
    one_panel,
    scatter_genes,
)
from .perturbation_statistics import benjamini_hochberg

if TYPE_CHECKING:
    import pandas as pd

LABELLED_GENES = 12
SIGNIFICANT = 0.05
SMALLEST_Q = 1e-300


def gene_p_values(genes: "pd.DataFrame") -> npt.NDArray[np.float64]:
    """(genes,) one-sided p-values from n_sham and shift_standardised; NaN where fewer than three sham edits were seen.

    A gene's log shift under the edit is set against those under n sham edits with mean m and standard deviation s (n -
    1): (log shift - m) / (s sqrt(1 + 1/n)) is Student's t of n - 1 degrees of freedom if the edit is one more of them.
    """
    from scipy import stats

    n = genes["n_sham"].to_numpy(dtype=float)
    standardised = genes["shift_standardised"].to_numpy(dtype=float)
    tested = (n >= 3) & np.isfinite(standardised)
    p_values = np.full(len(genes), np.nan)
    p_values[tested] = stats.t.sf(standardised[tested] / np.sqrt(1 + 1 / n[tested]), n[tested] - 1)
    return p_values


def gene_q_values(genes: "pd.DataFrame") -> npt.NDArray[np.float64]:
    """(genes,) Benjamini-Hochberg over `gene_p_values`, or the table's own `q_value` where it has one."""
    if "q_value" in genes:
        return genes["q_value"].to_numpy(dtype=float)
    if not {"n_sham", "shift_standardised"} <= set(genes.columns):
        return np.full(len(genes), np.nan)
    return benjamini_hochberg(gene_p_values(genes))


def draw_volcano(genes: "pd.DataFrame", gene_sets: Mapping[str, Sequence[str]], edited: str) -> Figure | None:
    """Log of the shift beyond usual against -log10 of q; None where no gene has a q-value.

    Args:
        genes: the table of a PerturbationResult with sham columns, or with columns shift and q_value.
        gene_sets: name -> gene ids, in colour.
        edited: name of the edited gene.
    """
    import matplotlib

    beyond = "shift_normalised" in genes
    column = "shift_normalised" if beyond else "shift"
    table = genes.assign(q=gene_q_values(genes), x=genes[column] / np.log(2) if beyond else genes[column])
    table = table[np.isfinite(table["q"]) & np.isfinite(table["x"].to_numpy(dtype=float))]
    if not len(table):
        return None
    table = table.assign(y=-np.log10(table["q"].clip(lower=SMALLEST_Q)))
    significant = int((table["q"] <= SIGNIFICANT).sum())
    with matplotlib.rc_context(STYLE):
        canvas, axes = one_panel(6.4, 4.6)
        scatter_genes(axes, table["x"], table["y"], table, gene_sets)
        axes.axhline(-np.log10(SIGNIFICANT), color="black", linewidth=0.8, linestyle="--")
        axes.set_ylim(bottom=min(0, table["y"].min()))
        label_points(axes, table[table["q"] <= SIGNIFICANT].nlargest(LABELLED_GENES, "y"), "x", "y")
        axes.set_xlabel("log2 of the shift beyond usual" if beyond else "shift (1 − mean cosine similarity)")
        axes.set_ylabel("−log10 of the false discovery rate")
        axes.set_title(f"Shift when {edited} is edited, against its false discovery rate")
        caption = (
            f"Each dot is a gene; {significant:,} of {len(table):,} lie above the dashed line, a false discovery rate "
            f"of {SIGNIFICANT:.0%}. "
            + ("Tested against the gene's own shifts under sham edits of other genes. " if beyond else "")
            + f"Sets of more than {LARGEST_SET_IN_COLOUR} genes are not coloured."
        )
        return finished(canvas, "volcano", caption)
