"""The figure of a locus: what is drawn, that large ones are binned, and that bytes repeat."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.pipelines.segmentation_calls import call_segments
from omics_transformers.pipelines.segmentation_figure import (
    LARGEST_PLOT_BP,
    _binned,
    _pack,
    draw_locus,
    require_plottable,
    save_figure,
)

THRESHOLDS = {"exon": 0.5, "intron": 0.25}
ANNOTATION = pd.DataFrame(
    {
        "name": ["GENE1", "GENE2", "ELSEWHERE", "OUTSIDE"],
        "contig": ["7", "7", "8", "7"],
        "strand": ["+", "-", "+", "+"],
        "exons": [[(120, 160), (200, 260)], [(150, 180), (300, 500)], [(110, 120)], [(10, 90)]],
        "cds": [[(130, 160), (200, 220)], [], [], []],
    }
)


def probabilities(n_bases: int = 300) -> np.ndarray:
    values = np.random.default_rng(0).random((n_bases, 2), dtype=np.float32)
    values[40:60] = np.nan
    return values


def draw(values: np.ndarray, **options: object) -> object:
    segments = call_segments(values, tuple(THRESHOLDS), THRESHOLDS, contig="7", start=100)
    return draw_locus(values, segments, THRESHOLDS, contig="7", start=100, **options)  # type: ignore[arg-type]


def texts(canvas: object) -> list[str]:
    return [text.get_text() for axes in canvas.axes for text in axes.texts]  # type: ignore[attr-defined]


def test_a_row_an_element_and_the_genes_beneath() -> None:
    canvas = draw(probabilities(), annotation=ANNOTATION)
    axes = canvas.axes  # type: ignore[attr-defined]
    assert [panel.get_ylabel() for panel in axes] == ["exon", "intron", "genes"]
    assert axes[0].get_title(loc="left") == "7:101-400"
    assert axes[-1].get_xlabel() == "position on 7 (bp)"
    assert axes[0].get_xlim() == (100, 400)
    assert texts(canvas) == ["GENE1", "GENE2"]
    mean = axes[0].patches[1].get_data()
    np.testing.assert_allclose(mean.values, np.nan_to_num(probabilities()[:, 0]))
    np.testing.assert_array_equal(mean.edges, np.arange(100, 401))
    unknown = axes[0].patches[2].get_data().values
    assert np.flatnonzero(unknown).tolist() == list(range(40, 60))


def test_called_segments_are_drawn_beneath_their_element() -> None:
    values = np.zeros((50, 2), dtype=np.float32)
    values[10:20, 0] = 0.9
    values[30:34, 0] = 0.9
    canvas = draw(values)
    spans = [path.get_extents().intervalx.tolist() for path in canvas.axes[0].collections[0].get_paths()]  # type: ignore[attr-defined]
    assert spans == [[110, 120], [130, 134]]
    assert not canvas.axes[1].collections[0].get_paths()  # type: ignore[attr-defined]


@given(st.lists(st.floats(0, 1, width=32) | st.just(float("nan")), min_size=1, max_size=4_000))
def test_bins_hold_mean_and_maximum(numbers: list[float]) -> None:
    values = np.float32(numbers)
    edges, mean, maximum = _binned(values)
    assert edges[0] == 0 and edges[-1] == len(values) and len(mean) == min(len(values), 1_500)
    for place in range(0, len(mean), 97):
        part = values[edges[place] : edges[place + 1]]
        known = part[~np.isnan(part)]
        expected = (np.nan, np.nan) if not len(known) else (known.astype(float).mean(), known.max())
        np.testing.assert_allclose((mean[place], maximum[place]), expected, rtol=1e-6, atol=1e-12)


@given(st.lists(st.tuples(st.integers(0, 900), st.integers(1, 300)), max_size=30))
def test_transcripts_of_a_row_do_not_overlap(spans: list[tuple[int, int]]) -> None:
    transcripts = [{"name": f"G{start}", "start": start, "end": start + length} for start, length in sorted(spans)]
    genes = _pack(transcripts, 0, 1_000)
    placed = [number for row in genes.rows for number in row]
    assert len(placed) + genes.n_left_out == len(transcripts) and len(set(placed)) == len(placed)
    for row in genes.rows:
        for one, two in pairwise(row):
            assert transcripts[one]["end"] < transcripts[two]["start"]
    assert len(genes.rows) <= 14


def test_transcripts_without_room_are_counted_in_the_figure() -> None:
    many = pd.DataFrame({"name": "G", "strand": "+", "exons": [[(120, 300)]] * 20, "cds": [[]] * 20})
    assert "6 more transcripts" in texts(draw(probabilities(), annotation=many))
    assert texts(draw(probabilities(), annotation=many.iloc[:0])) == ["no transcripts here"]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    for name in ("one", "two"):
        save_figure(draw(probabilities(5_000), annotation=ANNOTATION), tmp_path / f"{name}{suffix}")  # type: ignore[arg-type]
    one = (tmp_path / f"one{suffix}").read_bytes()
    assert one == (tmp_path / f"two{suffix}").read_bytes()
    assert len(one) > 5_000


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"2,000,001 bp are too many for a figure"):
        require_plottable(LARGEST_PLOT_BP + 1)
    with pytest.raises(ValueError, match="the annotation has no column cds"):
        draw(probabilities(), annotation=ANNOTATION.drop(columns="cds"))
    with pytest.raises(ValueError, match=r"x.jpeg: the ending of a figure's name should be one of .png, .svg, .pdf"):
        save_figure(draw(probabilities()), tmp_path / "x.jpeg")  # type: ignore[arg-type]
