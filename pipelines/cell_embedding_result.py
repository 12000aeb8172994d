"""What cell embedding found: vectors of cells, their map, and whether neighbours have the same label."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .aligned_cells import MultiomeCells
from .umap_figure import draw_umap, umap_coordinates

if TYPE_CHECKING:
    import pandas as pd

EMBEDDING_NAME = "X_multiome_performer"
UMAP_NAME = "X_umap_multiome_performer"
_CELLS_A_BLOCK = 1024


@dataclass(frozen=True)
class CellEmbeddingResult:
    """Embeddings of cells.

    Attributes:
        embeddings: (cells, hidden) float32, in the order of `cells.obs`; NaN for cells without any count.
        cells: what was read.
        summary: how it was made, counts, and the neighbours' agreement with labels.
    """

    embeddings: np.ndarray
    cells: MultiomeCells
    summary: Mapping[str, Any]

    def anndata(self, *, inplace: bool = False, name: str = EMBEDDING_NAME) -> Any:
        """The AnnData (of a pair, the RNA's) with the embeddings in `obsm`.

        Args:
            inplace: write into the AnnData that was given; cells of it that were not read have NaN there. Else into a
                copy of the cells that were read.
            name: of the entry of `obsm`.
        """
        target = self.cells.annotated(inplace=inplace)
        places = self.cells.obs.index.get_indexer(target.obs_names)
        target.obsm[name] = np.where(places[:, None] >= 0, self.embeddings[places], np.float32(np.nan))
        return target

    def umap(self, *, neighbours: int = 15, minimum_distance: float = 0.1, seed: int = 0) -> "pd.DataFrame":
        """Coordinates of a map, a row a cell: umap_1, umap_2 (float32); arguments and errors as `umap_coordinates`."""
        import pandas as pd

        found = umap_coordinates(self.embeddings, neighbours=neighbours, minimum_distance=minimum_distance, seed=seed)
        return pd.DataFrame(found, index=self.cells.obs.index, columns=["umap_1", "umap_2"])

    def umap_figure(
        self, colour: str | None = None, *, coordinates: "pd.DataFrame | None" = None, seed: int = 0
    ) -> bytes:
        """PNG bytes of the map.

        Args:
            colour: column of `obs` to colour by.
            coordinates: of `umap`, where they are there already.
            seed: of the map otherwise.

        Raises:
            ValueError: where there is no such column.
        """
        if colour is not None:
            self.cells.require_column(colour)
        found = self.umap(seed=seed) if coordinates is None else coordinates
        return draw_umap(found.to_numpy(), None if colour is None else self.cells.obs[colour])


def neighbour_agreement(embeddings: np.ndarray, labels: "pd.Series", neighbours: int = 15) -> dict[str, Any]:
    """How far the nearest cells, by the cosine of embeddings less their mean, have a cell's own label.

    Args:
        embeddings: (cells, hidden); rows of NaN are left out.
        labels: (cells,); cells without one are left out, and counted.
        neighbours: nearest other cells that are looked at; fewer where there are fewer cells.

    Returns:
        share_of_neighbours (mean share of a cell's neighbours with its label), share_expected (the same of neighbours
        at random), majority_accuracy (cells whose neighbours' commonest label is theirs; the first of equals in order
        of names), cells_compared, cells_left_out, neighbours.
    """
    import pandas as pd

    texts = labels.astype(object).where(labels.notna(), "").astype(str)
    is_used = ~np.isnan(embeddings).any(axis=1) & (texts != "").to_numpy()
    codes, names = pd.factorize(texts[is_used], sort=True)
    n_cells = len(codes)
    report = {"cells_compared": n_cells, "cells_left_out": len(labels) - n_cells}
    n_neighbours = min(neighbours, n_cells - 1)
    if n_neighbours < 1:
        nothing = dict.fromkeys(("share_of_neighbours", "share_expected", "majority_accuracy"), float("nan"))
        return {**nothing, **report, "neighbours": 0}
    units = embeddings[is_used].astype(np.float32)
    units -= units.mean(axis=0)
    units /= np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1e-12)
    same = np.zeros(n_cells)
    is_right = np.zeros(n_cells, dtype=bool)
    for first in range(0, n_cells, _CELLS_A_BLOCK):
        rows = np.arange(first, min(first + _CELLS_A_BLOCK, n_cells))
        similarity = units[rows] @ units.T
        similarity[rows - first, rows] = -np.inf  # a cell is not its own neighbour
        nearest = codes[np.argpartition(-similarity, n_neighbours - 1, axis=1)[:, :n_neighbours]]
        same[rows] = (nearest == codes[rows, None]).mean(axis=1)
        keys = (rows - first)[:, None] * len(names) + nearest
        votes = np.bincount(keys.ravel(), minlength=len(rows) * len(names)).reshape(len(rows), len(names))
        is_right[rows] = votes.argmax(axis=1) == codes[rows]
    sizes = np.bincount(codes)
    return {
        "share_of_neighbours": float(same.mean()),
        "share_expected": float((sizes * (sizes - 1)).sum() / (n_cells * (n_cells - 1))),
        "majority_accuracy": float(is_right.mean()),
        **report,
        "neighbours": n_neighbours,
    }
