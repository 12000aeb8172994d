"""The report: whole, self-contained, escaped, and saying what was done."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from omics_transformers.pipelines.perturbation_canvas import Figure
from omics_transformers.pipelines.perturbation_edits import EDITS
from omics_transformers.pipelines.perturbation_report import EDIT_PHRASES, render_report
from omics_transformers.pipelines.target_recovery import target_recovery

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


@pytest.mark.parametrize("kind", [*EDITS, "several"])
def test_every_edit_has_its_words(kind: str) -> None:
    assert EDIT_PHRASES[kind] in Text(render_report(GENES, SETS, SUMMARY | {"edit": {"kind": kind}}, [])).text


def test_an_edit_of_another_kind_is_named() -> None:
    assert "an edit was made: swap" in render_report(GENES, SETS, SUMMARY | {"edit": {"kind": "swap"}}, [])


@pytest.mark.parametrize(
    ("more", "said", "unsaid"),
    [
        ({}, [], ["claim about biology"]),
        ({"dna_weights_origin": "EleutherAI/enformer-official-rough"}, [], ["claim about biology"]),
        (
            {"dna_weights_origin": "random, seed 0"},
            ["weights of the DNA model are not pre-trained (random, seed 0)", "makes no claim about biology"],
            ["cell model"],
        ),
        ({"dna_weights_origin": ""}, ["not known where the weights of the DNA model came from"], []),
        ({"weights_origin": "random"}, ["weights of the cell model are not pre-trained"], ["DNA model"]),
    ],
)
def test_weights_that_know_no_biology_are_owned_up_to(more: dict, said: list[str], unsaid: list[str]) -> None:
    text = Text(render_report(GENES, SETS, SUMMARY | more, [])).text
    assert all(words in text for words in said) and not any(words in text for words in unsaid)


def test_recovered_targets_are_shown() -> None:
    recovery = target_recovery(GENES, {"targets": ["ENSG3"]}, top_k=[1, 2], draws=20)
    text = Text(render_report(GENES, SETS, SUMMARY, [], recovery=recovery)).text
    assert "Known targets among the genes that move most" in text and "average precision" in text
    assert "Known targets" not in Text(render_report(GENES, SETS, SUMMARY, [])).text


def test_truth_values_are_words() -> None:
    text = Text(render_report(GENES.assign(above_noise=[True, False]), SETS, SUMMARY, [])).text
    assert "above noise" in text and "yes" in text
