"""The report: whole, self-contained, escaped, and saying what was done."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from omics_transformers.pipelines.perturbation_figures import Figure
from omics_transformers.pipelines.perturbation_report import render_report

SUMMARY = {
    "gene_id": "ENSG1",
    "symbol": "GATA4",
    "edit": {"kind": "delete"},
    "n_cells": 1200,
    "n_cells_with_gene": 1000,
    "n_cells_without_gene": 200,
    "n_genes": 2,
    "n_genes_in_fewer_cells_than_minimum": 3,
    "minimum_cells": 5,
    "edited_gene": None,
    "alternative": "greater",
    "sham_genes": [],
}
GENES = pd.DataFrame(
    {
        "gene_id": ["ENSG2", "ENSG3"],
        "symbol": ["<script>alert(1)</script>", ""],
        "n_cells": [12345, 1],
        "cosine_mean": [0.5, 1.0],
        "cosine_sd": [0.1, float("nan")],
        "shift": [0.5, 3.21e-9],
        "rank": [1, 2],
    }
)
SETS = pd.DataFrame([{"gene_set": "targets & more", "n_given": 3, "p_value": 1.2e-7, "q_value": float("nan")}])


class Text(HTMLParser):
    """The text of a page, and what it refers to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self.feed(html)
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += " " + data


def test_it_says_what_was_done_and_found() -> None:
    page = Text(render_report(GENES, SETS, SUMMARY, [Figure("top_genes", "A caption.", b"png", b"svg")]))
    assert "In 1,000 cells that express GATA4, its token was removed" in page.text
    assert "Of 1,200 cells, 200 lack GATA4" in page.text
    assert "3 genes in fewer than 5 cells are left out" in page.text
    for shown in ("12,345", "3.21e-09", "targets & more", "1.2e-07", "A caption.", "–"):
        assert shown in page.text


def test_it_needs_no_other_file_and_runs_nothing() -> None:
    page = Text(render_report(GENES, SETS, SUMMARY, [Figure("top_genes", "A caption.", b"png", b"svg")]))
    assert page.references == ["data:image/png;base64,cG5n"]
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text  # as text, escaped in the file


def test_without_sets_or_figures() -> None:
    page = Text(render_report(GENES.head(0), SETS.head(0), SUMMARY, []))
    assert "Gene sets" not in page.text
    assert "No gene was left to draw" in page.text


def test_sham_edits_are_explained_only_where_there_are_some() -> None:
    assert "usual shift" not in Text(render_report(GENES, SETS, SUMMARY, [])).text
    assert "at 2 other genes" in Text(render_report(GENES, SETS, SUMMARY | {"sham_genes": ["a", "b"]}, [])).text


@pytest.mark.parametrize("kind", ["delete", "mask", "overexpress", "features", "sequence", "random-mutations"])
def test_every_edit_has_its_words(kind: str) -> None:
    assert "GATA4" in render_report(GENES, SETS, SUMMARY | {"edit": {"kind": kind}}, [])
