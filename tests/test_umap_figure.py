"""Maps of cells: seeded, apart where cells are, drawn by numbers and by names."""

import sys

import numpy as np
import pandas as pd
import pytest

from omics_transformers.pipelines.umap_figure import draw_umap, require_umap, umap_coordinates

PNG = b"\x89PNG"


def two_groups(n_cells: int = 30) -> np.ndarray:
    random = np.random.default_rng(0)
    centres = np.repeat(np.eye(8, dtype=np.float32)[:2] * 10, n_cells // 2, axis=0)
    return (centres + random.normal(size=(n_cells, 8))).astype(np.float32)


def test_coordinates_are_seeded_and_keep_groups_apart() -> None:
    pytest.importorskip("umap")
    embeddings = two_groups()
    embeddings[3] = np.nan
    found = umap_coordinates(embeddings, neighbours=5, seed=1)
    np.testing.assert_array_equal(found, umap_coordinates(embeddings, neighbours=5, seed=1))
    assert np.isnan(found[3]).all() and found.dtype == np.float32 and not np.isnan(np.delete(found, 3, axis=0)).any()
    assert not np.array_equal(found, umap_coordinates(embeddings, neighbours=5, seed=2))
    first, second = np.nanmean(found[:15], axis=0), np.nanmean(found[15:], axis=0)
    spread = np.nanmax([np.nanstd(found[:15], axis=0), np.nanstd(found[15:], axis=0)])
    assert np.linalg.norm(first - second) > 2 * spread


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("umap")
    with pytest.raises(ValueError, match="3 cells have an embedding; a map needs 4"):
        umap_coordinates(two_groups()[:3])
    with pytest.raises(ValueError, match="neighbours is 1"):
        umap_coordinates(two_groups(), neighbours=1)
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r"pip install 'omics-transformers\[umap\]'"):
        require_umap()


@pytest.mark.parametrize(
    "values",
    [
        None,
        pd.Series(np.arange(10.0), name="depth"),
        pd.Series([*"aabbccdde", None], name="kind", dtype="category"),
        pd.Series([f"type{number}" for number in range(10)], name="kind"),
        pd.Series([True, False] * 5, name="is_on"),
    ],
)
def test_figure(values: pd.Series | None) -> None:
    coordinates = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32)
    coordinates[2] = np.nan
    drawn = draw_umap(coordinates, values)
    assert drawn.startswith(PNG) and drawn == draw_umap(coordinates, values)
    assert drawn != draw_umap(-coordinates, values)
