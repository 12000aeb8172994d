"""Figures of recovered targets: what each shows, and of which k."""

import io
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from omics_transformers.pipelines.target_recovery import TargetRecovery, compare_recovery
from omics_transformers.pipelines.target_recovery_figures import draw_figure_3, draw_recovery


@pytest.fixture(scope="module")
def recovery() -> TargetRecovery:
    generator = np.random.default_rng(0)
    tables = {}
    for model in ("Bio-DTA", "co-expression"):
        shift = generator.random(120)
        tables[model] = pd.DataFrame({"gene_id": [f"G{number}" for number in range(120)], "shift": shift})
    tables["Bio-DTA"]["shift_normalised"] = np.log(tables["Bio-DTA"]["shift"])
    sets = {f"set {number}": [f"G{number}", f"G{number + 40}", f"G{number + 60}"] for number in range(4)}
    return compare_recovery(tables, sets, top_k=[5, 10, 20], draws=50)


def text_of(svg: bytes) -> str:
    return " ".join(ElementTree.fromstring(svg).itertext())


def test_what_is_drawn(recovery: TargetRecovery) -> None:
    figures = draw_recovery(recovery)
    assert [figure.name for figure in figures] == ["precision_recall", "precision_over_k", "figure_3"]
    for figure in figures:
        text = text_of(figure.svg)
        for shown in ("Bio-DTA", "Bio-DTA (beyond usual)", "co-expression", "set 0", "set 3", "95 % of random sets"):
            assert shown in text
        assert Image.open(io.BytesIO(figure.png)).width > 600 and figure.caption.endswith(".")
    assert f"AP {recovery.scores['average_precision'].iloc[0]:.2f}" in text_of(figures[0].svg)
    assert figures == draw_recovery(recovery)


def test_figure_3_is_of_one_k(recovery: TargetRecovery) -> None:
    assert "among the 10 genes that move most" in text_of(draw_figure_3(recovery.top_k).svg)
    assert "precision of the top 20" in text_of(draw_figure_3(recovery.top_k, k=20).svg)
    with pytest.raises(ValueError, match="k is 7, and the table has 5, 10, 20"):
        draw_figure_3(recovery.top_k, k=7)


def test_one_k_and_one_set_are_enough() -> None:
    genes = pd.DataFrame({"gene_id": ["A", "B", "C"], "shift": [3.0, 2.0, 1.0]})
    recovery = compare_recovery({"model": genes}, {"set": ["B"]}, top_k=[2], draws=5)
    assert [figure.name for figure in draw_recovery(recovery)] == ["precision_recall", "figure_3"]
    fewer = compare_recovery({"model": genes}, {"set": ["B"]}, top_k=[20], draws=5)
    assert [figure.name for figure in draw_recovery(fewer)] == ["precision_recall"]
