"""What imputation found: the other modality's values of each gene and cell, and how they compare with measured ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .aligned_cells import MultiomeCells
from .png_figures import BLUE, GREY, STYLE, png_bytes

if TYPE_CHECKING:
    import pandas as pd

_BINS = np.linspace(-1, 1, 61).tolist()


@dataclass(frozen=True)
class ImputationResult:
    """Imputed values.

    Attributes:
        probabilities: (cells, genes) float32, of a value that is not zero; NaN for cells without any count.
        expected: (cells, genes) float32, expected log(1 + normalised count).
        genes: a row a gene, index = gene ids: symbol, mean_probability, mean_expected; with measured values also
            mean_observed, pearson and spearman across cells (NaN without variance).
        cell_scores: a row a cell, index = barcodes; with measured values pearson and spearman across genes, and those
            of the gene-mean predictor, gene_mean_pearson and gene_mean_spearman.
        cells: what was read.
        summary: how it was made, counts, and the correlations' medians.
        observed: (cells, genes) float32 measured log(1 + normalised count); None where there are none.
    """

    probabilities: np.ndarray
    expected: np.ndarray
    genes: "pd.DataFrame"
    cell_scores: "pd.DataFrame"
    cells: MultiomeCells
    summary: Mapping[str, Any]
    observed: np.ndarray | None = None

    def anndata(self) -> Any:
        """A new AnnData: cells x genes, X = `expected`, layers `probability` and, where measured, `observed`."""
        import anndata

        layers = {"probability": self.probabilities}
        if self.observed is not None:
            layers["observed"] = self.observed
        columns = [name for name in self.cell_scores if name not in self.cells.obs]
        obs = self.cells.obs.join(self.cell_scores[columns])
        return anndata.AnnData(self.expected, obs=obs, var=self.genes.copy(), layers=layers)

    def figures(self) -> dict[str, bytes]:
        """Name -> PNG bytes: how correlations are distributed; nothing without measured values."""
        if self.observed is None:
            return {}
        return {"correlations": draw_correlations(self.genes, self.cell_scores)}


def draw_correlations(genes: "pd.DataFrame", cells: "pd.DataFrame") -> bytes:
    """PNG bytes: Pearson's correlation of genes across cells, and of cells across genes beside the gene mean's."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.0, 3.0), layout="constrained")
        of_genes, of_cells = figure.subplots(1, 2)
        known = genes["pearson"].dropna()
        of_genes.hist(known, bins=_BINS, color=BLUE)
        of_genes.axvline(0, color=GREY, linewidth=1.0)
        of_genes.set_title(f"{len(known):,} genes, across cells")
        of_genes.set_ylabel("genes")
        of_cells.hist(cells["pearson"].dropna(), bins=_BINS, color=BLUE, label="model")
        of_cells.hist(cells["gene_mean_pearson"].dropna(), bins=_BINS, color=GREY, histtype="step", label="gene mean")
        of_cells.legend(frameon=False)
        of_cells.set_title(f"{cells['pearson'].notna().sum():,} cells, across genes")
        of_cells.set_ylabel("cells")
        for axes in (of_genes, of_cells):
            axes.set_xlabel("Pearson's correlation")
        return png_bytes(figure)
