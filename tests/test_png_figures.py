"""What figures share: panels of the heights asked for, positions in full, and the same bytes for the same figure."""

import io

import matplotlib
import pytest
from PIL import Image

from omics_transformers.pipelines.png_figures import STYLE, label_positions, png_bytes, stacked_panels


def draw(heights: list[float]) -> bytes:
    with matplotlib.rc_context(STYLE):
        figure, panels = stacked_panels(heights, width=6.0)
        panels[0].plot([1_000_000, 1_000_100], [0, 1])
        label_positions(panels[-1], "chr1")
        figure.canvas.draw()
        assert panels[-1].get_xticklabels()[1].get_text().startswith("1,000,0")
        assert "chr1" in panels[-1].get_xlabel()
        return png_bytes(figure)


@pytest.mark.parametrize("heights", [[1.0], [1.0, 0.5, 2.0]])
def test_size_and_bytes(heights: list[float]) -> None:
    first, second = draw(heights), draw(heights)
    assert first == second
    image = Image.open(io.BytesIO(first))
    assert image.size == (900, round(150 * (sum(heights) + 0.8)))
