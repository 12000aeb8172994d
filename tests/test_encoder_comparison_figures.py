"""Figures are drawn whatever is undefined, and are the same bytes for the same numbers."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.image import imread

from omics_transformers.training.encoder_comparison import HeadResult, compare_segmentations
from omics_transformers.training.encoder_comparison_figures import heads_figure, segmentation_figure

BLUE, ORANGE, GREY = (0, 114, 178), (213, 94, 0), (154, 163, 171)


def share_of_colour(png: bytes, colour: tuple[int, int, int]) -> float:
    pixels: npt.NDArray[Any] = imread(io.BytesIO(png), format="png")[..., :3]
    return float((np.abs(pixels * 255 - np.array(colour)) < 2).all(axis=2).mean())


def head(name: str, is_frozen: bool, exact: float | None) -> HeadResult:
    scores = {"exact_order": exact, "exact_order_chance": 1 / 6}
    if exact is not None and not is_frozen:
        scores["exact_order_interval"] = [exact - 0.1, exact + 0.1]  # type: ignore[assignment]
    return HeadResult(name, is_frozen, scores, scores)


def segmentation(**mcc: float | None) -> dict[str, Any]:
    return {"elements": {name: {"mcc": value} for name, value in mcc.items()}}


def test_bars_of_heads_are_as_high_as_their_scores() -> None:
    figure = heads_figure([head("linear", False, 0.8), head("linear", True, 0.4)])
    blue, orange = share_of_colour(figure, BLUE), share_of_colour(figure, ORANGE)
    assert 1.8 < blue / orange < 2.1
    assert figure == heads_figure([head("linear", False, 0.8), head("linear", True, 0.4)])
    one_missing = heads_figure([head("linear", False, 0.8), head("linear", True, None)])
    assert share_of_colour(one_missing, ORANGE) < 0.01 < share_of_colour(one_missing, BLUE)


def test_bars_of_elements_are_as_high_as_their_mcc() -> None:
    metrics = {
        "random": [segmentation(exon=0.3, absent=None), segmentation(exon=0.3, absent=None)],
        "given": [segmentation(exon=0.6, absent=None), segmentation(exon=0.6, absent=None)],
    }
    figure = segmentation_figure(compare_segmentations(metrics, "given")[0])
    assert 1.8 < share_of_colour(figure, BLUE) / share_of_colour(figure, GREY) < 2.2
    many = [segmentation(**{f"element_{number}": number / 14 - 0.5 for number in range(14)})]
    assert len(segmentation_figure(compare_segmentations({"random": many}, "random")[0])) > 10_000
