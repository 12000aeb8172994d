"""Two-dimensional maps of cell embeddings, and their figure. Coordinates need umap-learn, an extra of the package."""

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from .png_figures import COLOURS, GREY, STYLE, png_bytes

if TYPE_CHECKING:
    import pandas as pd

_MISSING = "a map of cells needs umap-learn: pip install 'omics-transformers[umap]'"
_MOST_NAMED = 40
_MAP = "viridis"


def umap_coordinates(
    embeddings: np.ndarray,
    *,
    neighbours: int = 15,
    minimum_distance: float = 0.1,
    metric: str = "cosine",
    seed: int = 0,
) -> np.ndarray:
    """Lay cells out by UMAP; the same seed gives the same map.

    Args:
        embeddings: (cells, hidden) float32; rows of NaN are left out.
        neighbours: cells that make a cell's neighbourhood; fewer where there are fewer cells.
        minimum_distance: between points of the map.
        metric: of the embeddings.
        seed: of the layout.

    Returns:
        (cells, 2) float32, NaN for rows of NaN.

    Raises:
        ImportError: without umap-learn.
        ValueError: for fewer than 4 cells, and numbers out of range.
    """
    is_known = ~np.isnan(embeddings).any(axis=1)
    if is_known.sum() < 4:
        raise ValueError(f"{is_known.sum()} cells have an embedding; a map needs 4 or more")
    if neighbours < 2:
        raise ValueError(f"neighbours is {neighbours}; expected 2 or more")
    n_neighbours = min(neighbours, int(is_known.sum()) - 1)
    umap = _import_umap()
    mapper = umap.UMAP(
        n_neighbors=n_neighbours,
        min_dist=minimum_distance,
        metric=metric,
        random_state=seed,
        n_jobs=1,
        init="spectral" if is_known.sum() > 50 else "random",
    )
    coordinates = np.full((len(embeddings), 2), np.nan, dtype=np.float32)
    coordinates[is_known] = mapper.fit_transform(embeddings[is_known])
    return coordinates


def require_umap() -> None:
    """ImportError, saying what to install, where umap-learn is not installed; importing it takes seconds."""
    if find_spec("umap") is None:
        raise ImportError(_MISSING)


def _import_umap() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImportWarning)  # of Tensorflow, which is not needed
            import umap
    except ImportError as error:
        raise ImportError(_MISSING) from error
    return umap


def draw_umap(coordinates: np.ndarray, values: "pd.Series | None" = None) -> bytes:
    """PNG bytes of a map of cells.

    Args:
        coordinates: (cells, 2), NaN for cells that are not drawn.
        values: (cells,) of a column to colour by: numbers by a scale, others by name; cells without one are grey.
    """
    import matplotlib
    from matplotlib.figure import Figure

    is_shown = ~np.isnan(coordinates).any(axis=1)
    size = float(np.clip(20_000 / max(is_shown.sum(), 1), 0.5, 20))
    style: dict[str, Any] = {"s": size, "linewidths": 0, "rasterized": True}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.5, 4.5), layout="constrained")
        axes = figure.subplots()
        shown = coordinates[is_shown]
        # One order of drawing that does not hide the last type under the first.
        order = np.random.default_rng(0).permutation(len(shown))
        if values is None:
            axes.scatter(*shown[order].T, color=COLOURS[0], **style)
        else:
            _draw_values(figure, axes, shown[order], values[is_shown].iloc[order], style)
        axes.set(xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
        axes.set_title(f"{len(shown):,} cells" + ("" if values is None else f", by {values.name}"))
        return png_bytes(figure)


def _draw_values(figure: Any, axes: Any, points: np.ndarray, values: "pd.Series", style: dict[str, Any]) -> None:
    import pandas as pd
    from matplotlib import colormaps

    is_known = values.notna().to_numpy()
    axes.scatter(*points[~is_known].T, color=GREY, label=None if is_known.all() else "none", **style)
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        numbers = values[is_known].astype(float)
        drawn = axes.scatter(*points[is_known].T, c=numbers, cmap=_MAP, **style)
        figure.colorbar(drawn, ax=axes, label=str(values.name), shrink=0.8)
        return
    names = values[is_known].astype(str)
    codes, distinct = pd.factorize(names, sort=True)
    colours = [
        COLOURS[number] if len(distinct) <= len(COLOURS) else colormaps["turbo"](number / max(len(distinct) - 1, 1))
        for number in range(len(distinct))
    ]
    axes.scatter(*points[is_known].T, c=[colours[code] for code in codes], **style)
    for name, colour in list(zip(distinct, colours, strict=True))[:_MOST_NAMED]:
        axes.scatter([], [], color=colour, label=name, s=20, linewidths=0)
    more = len(distinct) - _MOST_NAMED
    title = None if more <= 0 else f"and {more:,} more"
    legend = axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=6, title=title)
    legend.set_in_layout(True)
