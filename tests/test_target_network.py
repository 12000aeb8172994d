"""Network view: which genes and links are drawn."""

from xml.etree import ElementTree

import numpy as np
import pandas as pd

from omics_transformers.pipelines.target_network import draw_network

GENES = pd.DataFrame(
    {
        "gene_id": [f"G{number}" for number in range(40)],
        "symbol": [f"SYM{number}" if number % 2 else "" for number in range(40)],
        "shift": np.linspace(1, 0, 40),
    }
)


def text_of(figure) -> list[str]:
    return [text.strip() for text in ElementTree.fromstring(figure.svg).itertext()]


def test_the_most_shifted_genes_are_around_the_edited_one() -> None:
    figure = draw_network(GENES, {"targets": ["G1"]}, "GATA4")
    assert {"GATA4", "G0", "SYM1", "SYM23", "targets"} <= set(text_of(figure)) and "G24" not in text_of(figure)
    assert "links" not in figure.caption and figure == draw_network(GENES, {"targets": ["G1"]}, "GATA4")


def test_shifts_beyond_usual_choose_the_genes() -> None:
    figure = draw_network(GENES.assign(shift_normalised=np.linspace(0, 1, 40)), {}, "GATA4")
    assert "SYM39" in text_of(figure) and "G0" not in text_of(figure) and "beyond its usual" in figure.caption


def test_links_among_the_genes_shown_are_counted() -> None:
    links = pd.DataFrame(
        {"source": ["GATA4", "SYM1", "G2", "GATA4", "GATA4"], "target": ["SYM1", "G0", "SYM39", "ABSENT", "SYM1"]}
    )
    assert "2 known links" in draw_network(GENES, {}, "GATA4", links).caption


def test_one_gene_and_equal_shifts() -> None:
    assert "SYM1" in text_of(draw_network(GENES.iloc[[1]], {}, "GATA4"))
    assert "G0" in text_of(draw_network(GENES.assign(shift=0.0), {}, "GATA4"))
