"""Clusters of cells by their accessibility, for data without labels: TF-IDF, SVD, nearest neighbours, Leiden.

TF-IDF is log(1 + TF x IDF x 10,000), Signac's first method (Stuart et al. 2021,
https://doi.org/10.1038/s41592-021-01282-5); the first component of the SVD follows sequencing depth and is dropped, as
there. Leiden (Traag et al. 2019, https://doi.org/10.1038/s41598-019-41695-z) maximises modularity on the unweighted
graph that joins each cell with its nearest neighbours by the angle between their components, since the length of a
cell's vector follows its depth. Deviation: components keep their scale, so that weak ones count less.
"""

import random
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD
from sklearn.neighbors import kneighbors_graph
from sklearn.preprocessing import normalize

MINIMUM_CELLS = 4
_SCALE = 10_000.0


@dataclass(frozen=True)
class LeidenOptions:
    """How cells are clustered.

    Attributes:
        n_components: of the SVD, the first included; fewer where there are fewer cells or peaks.
        drop_first: leave out the first component.
        n_neighbours: of each cell in the graph; fewer where there are fewer cells.
        resolution: the higher, the more clusters.
        seed: of SVD and Leiden.
    """

    n_components: int = 30
    drop_first: bool = True
    n_neighbours: int = 15
    resolution: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"n_components": 2 if self.drop_first else 1, "n_neighbours": 1, "seed": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} is {getattr(self, name)}; expected {value} or more")
        if not self.resolution > 0:
            raise ValueError(f"resolution is {self.resolution}; expected more than 0")


def leiden_clusters(counts: sp.csr_matrix, options: LeidenOptions | None = None) -> list[str | None]:
    """A cluster for each cell, the same for the same counts, options and seed.

    Args:
        counts: `(cells, peaks)` fragments or reads.
        options: how; the defaults where not given.

    Returns:
        cluster_0, cluster_1, ... in order of size, the largest first; None for a cell without a count.

    Raises:
        ImportError: without igraph.
        ValueError: for fewer than 4 cells with a count, or fewer than 3 peaks with one.
    """
    options = options or LeidenOptions()
    _require_igraph()
    counts = sp.csr_matrix(counts, dtype=np.float64)
    has_count = np.asarray(counts.sum(axis=1)).ravel() > 0
    is_open = np.asarray(counts.sum(axis=0)).ravel() > 0
    if has_count.sum() < MINIMUM_CELLS or is_open.sum() < 3:
        raise ValueError(
            f"{has_count.sum()} cells and {is_open.sum()} peaks have a count; expected {MINIMUM_CELLS} cells and 3 "
            "peaks, or more, to cluster. Give labels of cells instead"
        )
    components = _components(tf_idf(counts[has_count][:, is_open]), options)
    numbers = _by_size(_leiden(components, options))
    clusters: list[str | None] = [None] * len(has_count)
    for cell, number in zip(np.flatnonzero(has_count).tolist(), numbers.tolist(), strict=True):
        clusters[cell] = f"cluster_{number}"
    return clusters


def tf_idf(counts: sp.csr_matrix) -> sp.csr_matrix:
    """log(1 + TF x IDF x 10,000), float64 `(cells, peaks)`.

    TF is a count's share of its cell's sum, IDF the number of cells / the peak's sum. No sum may be 0.
    """
    share = sp.diags_array(1 / np.asarray(counts.sum(axis=1)).ravel())
    rarity = sp.diags_array(counts.shape[0] / np.asarray(counts.sum(axis=0)).ravel())
    values = sp.csr_matrix(share @ counts @ rarity)
    values.data = np.log1p(values.data * _SCALE)
    return values


def _components(values: sp.csr_matrix, options: LeidenOptions) -> np.ndarray:
    """float64 `(cells, components)`, each cell's of length 1."""
    n_components = min(options.n_components, min(values.shape) - 1)
    svd = TruncatedSVD(n_components, algorithm="arpack", random_state=options.seed)
    return normalize(svd.fit_transform(values)[:, 1 if options.drop_first else 0 :])


def _leiden(components: np.ndarray, options: LeidenOptions) -> np.ndarray:
    """int64 `(cells,)`: a number for each cluster, in no order."""
    igraph = _require_igraph()
    n_cells = len(components)
    joined = kneighbors_graph(components, min(options.n_neighbours, n_cells - 1), mode="connectivity")
    first, second = sp.triu(joined.maximum(joined.T), k=1).nonzero()
    graph = igraph.Graph(n=n_cells, edges=np.stack([first, second], axis=1).tolist())
    igraph.set_random_number_generator(random.Random(options.seed))
    try:
        found = graph.community_leiden("modularity", resolution=options.resolution, n_iterations=-1)
    finally:
        igraph.set_random_number_generator(random)  # igraph's own default
    return np.array(found.membership, dtype=np.int64)


def _by_size(numbers: np.ndarray) -> np.ndarray:
    """Clusters renumbered by size, descending; of equal ones that with the earliest cell first."""
    _, first, inverse, sizes = np.unique(numbers, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return rank[inverse]


def _require_igraph():  # type: ignore[no-untyped-def]
    try:
        import igraph
    except ImportError as error:
        raise ImportError(
            "clustering cells needs igraph: pip install 'omics-transformers[atac]', or give labels of cells"
        ) from error
    return igraph
