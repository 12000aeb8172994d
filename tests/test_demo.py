"""The demo in small: all its commands run, its score is right, and its chance is that of drawing genes at random."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from omics_transformers import demo


def test_the_demo_runs_from_nothing_to_a_report(tmp_path: Path) -> None:
    world = {"n_genes": 20, "n_factors": 1, "targets_per_factor": 3, "n_donors": 6, "n_cells": 200}
    text = demo.run_demo(tmp_path / "demo", seed=1, max_steps=3, world=world)
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert set(summary["models"]) == set(demo.MODELS)
    assert all(len(rows) == 1 and row["genes"] == 19 for rows in summary["models"].values() for row in rows)
    assert "by chance" in text and "found" in text
    report = Path(text.rsplit(": ", 1)[1])
    assert report.is_file()
    with pytest.raises(FileExistsError, match="overwrite"):
        demo.run_demo(tmp_path / "demo", seed=1)


def test_the_score_counts_targets_among_as_many_genes_that_move_most(tmp_path: Path) -> None:
    genes = pd.DataFrame({"gene_id": list("abcdef"), "shift": [6.0, 5, 4, 3, 2, 1], "rank": range(1, 7)})
    genes.sample(frac=1, random_state=0).to_csv(tmp_path / "genes.tsv", sep="\t", index=False)
    (tmp_path / "summary.json").write_text(json.dumps({"gene_id": "x"}))
    score = demo._score(tmp_path, {"a", "c", "f", "not in the table"})
    assert score == {
        "factor": "x",
        "targets": 3,
        "genes": 6,
        "found": 2,
        "average_precision": 0.722,
    }  # (1 + 2/3 + 1/2) / 3


def test_the_report_is_that_of_the_factor_with_most_targets_found(tmp_path: Path) -> None:
    common = {"genes": 19, "targets": 3, "average_precision": 0.5}
    rows = [{**common, "factor": factor, "found": found} for factor, found in (("A", 1), ("B", 2), ("C", 0))]
    text = demo._describe(tmp_path, {"seconds": 1, "models": dict.fromkeys(demo.MODELS, rows)})
    assert text.count("3 of 9 found, 1.4 by chance") == len(demo.MODELS)
    assert text.endswith(f"Report of B, 2 of 3 targets found: {tmp_path / 'perturbed/over-donors/B/report.html'}")


def test_chance_is_that_of_random_draws() -> None:
    """Against all draws of 2 of 5 genes, twice."""
    rows = [{"genes": 5, "targets": 2, "found": 1}, {"genes": 5, "targets": 2, "found": 2}]
    draws = [len({0, 1} & set(draw)) for draw in itertools.combinations(range(5), 2)]
    expected = np.mean([first + second >= 3 for first, second in itertools.product(draws, draws)])
    assert demo._chance_of(rows) == pytest.approx(expected)


def test_a_failing_command_ends_the_demo_with_its_own_message(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"omics-transformers build cells(.|\n)*absent.h5ad does not exist"):
        demo._run(tmp_path, ["build", "cells", tmp_path / "absent.h5ad", "--output", tmp_path / "out"])
