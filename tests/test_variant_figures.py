"""Figures of variants: drawn without a warning, alike for alike tracks, and as high as there are elements to show."""

import io

import numpy as np
import pytest
from PIL import Image

from omics_transformers.pipelines.segmentation_variants import VariantTracks
from omics_transformers.pipelines.variant_figures import draw_variant
from omics_transformers.pipelines.variant_windows import Variant


def tracks_of(bases: int, elements: int, change: float) -> VariantTracks:
    random = np.random.default_rng(0)
    reference = random.normal(size=(bases, elements))
    positions = 1_000 + np.arange(bases)
    return VariantTracks(
        Variant("chr1", 1_000 + bases // 2, "A", "G", "rs1"),
        positions,
        np.abs(positions - 1_000 - bases // 2),
        reference,
        reference + change * random.normal(size=reference.shape),
        np.zeros((0, elements)),
        np.zeros((0, elements)),
    )


@pytest.mark.parametrize("change", [0.0, 1.0])
@pytest.mark.parametrize(("bases", "elements"), [(1, 1), (400, 2), (400, 14)])
def test_what_is_drawn(bases: int, elements: int, change: float) -> None:
    names = [f"element {number}" for number in range(elements)]
    tracks = tracks_of(bases, elements, change)
    png = draw_variant(tracks, names)
    assert png == draw_variant(tracks, names)
    image = Image.open(io.BytesIO(png))
    assert image.height == round(150 * (1.4 * min(elements, 4) + 0.8))
    assert len(image.convert("RGB").getcolors(10**6) or []) > 10
