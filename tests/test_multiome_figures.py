"""Figures are drawn, the same bytes for the same numbers and others for others."""

from pathlib import Path

import numpy as np

from omics_transformers.data_scripts.multiome_figures import draw_bins, draw_links
from omics_transformers.modeling.peak_gene_rings import LinkCounts, Rings


def links(seed: int) -> LinkCounts:
    random = np.random.default_rng(seed)
    return LinkCounts(np.cumsum(random.poisson(2, (3, 50)), axis=0), np.cumsum(random.poisson(1, (3, 80)), axis=0))


def test_links(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        draw_links(tmp_path / name, {f"data set {number}": links(seed) for number in range(10)}, Rings())
    drawn = [(tmp_path / name).read_bytes() for name in ("one", "again", "other")]
    assert drawn[0].startswith(b"\x89PNG") and drawn[0] == drawn[1] != drawn[2]


def test_bins(tmp_path: Path) -> None:
    shares = {name: {"share of each bin": [0.0, 0.5, 0.5], "edges": [1.0]} for name in ("quartile", "absolute")}
    compared = {"cells": 5, "non-zero counts": 9, **shares}
    draw_bins(tmp_path / "one", {"rna": compared, "atac": compared | {"scbert": None}})
    draw_bins(tmp_path / "other", {"rna": compared})
    drawn = [(tmp_path / name).read_bytes() for name in ("one", "other")]
    assert drawn[0].startswith(b"\x89PNG") and drawn[0] != drawn[1]
