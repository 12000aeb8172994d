"""Maps of cells: seeded, apart where cells are, drawn by numbers and by names."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from omics_transformers.pipelines.umap_figure import draw_umap, require_umap, umap_coordinates

PNG = b"\x89PNG"


def two_groups(n_cells: int = 30) -> np.ndarray:
    random = np.random.default_rng(0)
    centres = np.repeat(np.eye(8, dtype=np.float32)[:2] * 10, n_cells // 2, axis=0)
    return (centres + random.normal(size=(n_cells, 8))).astype(np.float32)


RUN = """
import sys
import numpy
from omics_transformers.pipelines.umap_figure import umap_coordinates
embeddings = numpy.load(sys.argv[1])
numpy.save(sys.argv[2], [umap_coordinates(embeddings, neighbours=5, seed=seed) for seed in (1, 1, 2)])
"""


def test_coordinates_are_seeded_and_keep_groups_apart(tmp_path: Path) -> None:
    """In a process that does not compile, which for 30 cells takes longer than the map."""
    pytest.importorskip("umap")
    embeddings = two_groups()
    embeddings[3] = np.nan
    np.save(tmp_path / "embeddings.npy", embeddings)
    arguments = [str(tmp_path / name) for name in ("embeddings.npy", "found.npy")]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", RUN, *arguments], env=environment, check=True, timeout=300)
    found, again, other = np.load(tmp_path / "found.npy")
    np.testing.assert_array_equal(found, again)
    assert np.isnan(found[3]).all() and found.dtype == np.float32 and not np.isnan(np.delete(found, 3, axis=0)).any()
    assert not np.array_equal(found[0], other[0])
    first, second = np.nanmean(found[:15], axis=0), np.nanmean(found[15:], axis=0)
    spread = np.nanmax([np.nanstd(found[:15], axis=0), np.nanstd(found[15:], axis=0)])
    assert np.linalg.norm(first - second) > 2 * spread


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="3 cells have an embedding; a map needs 4"):
        umap_coordinates(two_groups()[:3])
    with pytest.raises(ValueError, match="neighbours is 1"):
        umap_coordinates(two_groups(), neighbours=1)
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r"pip install 'omics-transformers\[umap\]'"):
        require_umap()
    with pytest.raises(ImportError, match=r"pip install 'omics-transformers\[umap\]'"):
        umap_coordinates(two_groups())


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
