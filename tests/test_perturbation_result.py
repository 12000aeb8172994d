"""Results on disk: every file, the same bytes again, all or nothing, and nothing else overwritten."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from omics_transformers.pipelines.perturbation_result import PerturbationResult, paper_table
from omics_transformers.pipelines.target_recovery import compare_recovery

FILES = ["figures", "genes.tsv", "report.html", "sets.tsv", "summary.json", "table1.tsv"]


def make_result(n_genes: int = 12) -> PerturbationResult:
    shifts = np.linspace(1e-9, 0.3, n_genes)[::-1]
    genes = pd.DataFrame(
        {
            "gene_id": [f"ENSG{number}" for number in range(n_genes)],
            "symbol": [f"SYM{number}" for number in range(n_genes)],
            "n_cells": 7,
            "cosine_mean": 1 - shifts,
            "cosine_sd": np.nan,
            "shift": shifts,
            "rank": range(1, n_genes + 1),
        }
    )
    sets = pd.DataFrame([{"gene_set": "targets", "n_given": 2, "n_tested": 2, "p_value": 0.01, "q_value": 0.01}])
    summary = {
        "gene_id": "ENSG99",
        "symbol": "GATA4",
        "edit": {"kind": "mask"},
        "n_cells": 9,
        "n_cells_with_gene": 7,
        "n_cells_without_gene": 2,
        "n_genes": n_genes,
        "n_genes_in_fewer_cells_than_minimum": 0,
        "minimum_cells": 1,
        "edited_gene": {"shift": float("nan")},
        "alternative": "greater",
        "sham_genes": [],
    }
    return PerturbationResult(genes, sets, summary, {"targets": ["ENSG1", "ENSG2"]})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a result, which no test changes: drawing takes longest."""
    return make_result().save(tmp_path_factory.mktemp("saved") / "deep" / "result")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_file_is_written(saved: Path) -> None:
    result, folder = make_result(), saved
    assert sorted(path.name for path in folder.iterdir()) == FILES
    names = ["gene_set_ridges", "gene_sets", "network", "shift_against_cells", "top_genes"]
    figures = sorted(path.name for path in (folder / "figures").iterdir())
    assert figures == [f"{name}.{kind}" for name in names for kind in ("png", "svg")]
    pd.testing.assert_frame_equal(pd.read_csv(folder / "genes.tsv", sep="\t"), result.genes)
    pd.testing.assert_frame_equal(pd.read_csv(folder / "sets.tsv", sep="\t"), result.sets)
    summary = json.loads((folder / "summary.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert summary["edited_gene"] == {"shift": None} and summary["n_cells_without_gene"] == 2
    assert [path.name for path in folder.parent.iterdir()] == ["result"]


def test_the_same_result_gives_the_same_bytes(tmp_path: Path, saved: Path) -> None:
    assert content(make_result().save(tmp_path / "again")) == content(saved)


def test_the_report_alone(tmp_path: Path, saved: Path) -> None:
    path = make_result().report(tmp_path / "new" / "page.html")
    assert path.read_bytes() == (saved / "report.html").read_bytes()
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]


def test_an_earlier_result_is_replaced_only_on_purpose(tmp_path: Path, saved: Path) -> None:
    make_result(0).save(tmp_path / "result")
    before = content(tmp_path / "result")
    with pytest.raises(FileExistsError, match="holds an earlier result"):
        make_result().save(tmp_path / "result")
    assert content(tmp_path / "result") == before
    make_result().save(tmp_path / "result", overwrite=True)
    assert content(tmp_path / "result") == content(saved)
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_other_files_are_never_lost(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"holds other files, e\.g\. thesis\.doc"):
        make_result().save(tmp_path, overwrite=True)
    with pytest.raises(FileExistsError, match="is a file"):
        make_result().save(tmp_path / "thesis.doc", overwrite=True)
    assert (tmp_path / "thesis.doc").read_text() == "years of work"


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "result").mkdir()
    assert sorted(path.name for path in make_result(0).save(tmp_path / "result").iterdir()) == FILES


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
def test_what_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*arguments: object, **options: object) -> str:
        raise error

    result = make_result(0)
    result.save(tmp_path / "result")
    before = content(tmp_path / "result")
    monkeypatch.setattr("omics_transformers.pipelines.perturbation_result.render_report", fail)
    with pytest.raises(type(error)):
        replace(result, summary=result.summary | {"n_cells": 10}).save(tmp_path / "result", overwrite=True)
    assert content(tmp_path / "result") == before
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_no_genes_at_all(tmp_path: Path) -> None:
    folder = make_result(0).save(tmp_path / "result")
    assert list((folder / "figures").iterdir()) == []
    assert (folder / "genes.tsv").read_text().startswith("gene_id\tsymbol")


def test_cells_are_written_and_times_are_not(tmp_path: Path) -> None:
    result = make_result(0)
    cells = pd.DataFrame({"cell": [0, 3], "name": ["a", "b"], "shift": [0.5, 0.25]})
    timed = replace(result, cells=cells, summary=result.summary | {"seconds": {"model": 1.5}})
    folder = timed.save(tmp_path / "result")
    pd.testing.assert_frame_equal(pd.read_csv(folder / "cells.tsv", sep="\t"), cells)
    assert "seconds" not in json.loads((folder / "summary.json").read_text())
    slower = replace(timed, summary=result.summary | {"seconds": {"model": 99.0}})
    assert content(slower.save(tmp_path / "again")) == content(folder)
    assert timed.report(tmp_path / "page.html").read_bytes() == (folder / "report.html").read_bytes()
    result.save(folder, overwrite=True)  # of a result without cells: the earlier one's go too
    assert not (folder / "cells.tsv").exists()


def test_the_table_of_the_paper() -> None:
    sets = pd.DataFrame(
        {
            "gene_set": ["GATA4 direct", "housekeeping genes", "absent"],
            "p_value": [6.42e-10, 0.724, np.nan],
            "q_value": [3.85e-09, 0.724, np.nan],
        }
    )
    found = paper_table(replace(make_result(), sets=sets))
    assert found.index.tolist() == ["GATA4 direct", "housekeeping genes", "absent"]
    assert found["P-value"].tolist() == ["6.42e-10", "7.24e-01", "–"]
    assert found["FDR adjusted P-value"].tolist() == ["3.85e-09", "7.24e-01", "–"]
    with pytest.raises(ValueError, match="has no gene sets to lay out"):
        paper_table(replace(make_result(), sets=pd.DataFrame()))


def test_what_is_known_of_the_edit_and_of_targets_lies_beside_it(tmp_path: Path) -> None:
    plain = make_result(30)
    summary = plain.summary | {"edit_notes": ["Two <variants> applied."], "edit_phrase": "its promoter was changed"}
    bases = pd.DataFrame(
        {
            "position": [4, 5],
            "offset": [0, 1],
            "reference": ["A", "C"],
            "edited": ["A", "G"],
            "is_changed": [False, True],
        }
    )
    result = replace(
        plain,
        summary=summary | {"dna_weights_origin": "random, seed 0"},
        edits=[{"gene": "ENSG99", "predicted_change": float("nan")}],
        edited_bases=bases,
        edit_tables={"candidates": pd.DataFrame({"rank": [1]}), "variants": pd.DataFrame({"variant": ["chr1:1:A>C"]})},
        recovery=compare_recovery({"a model": plain.genes}, {"targets": ["SYM1", "SYM2"]}, draws=50),
        links=pd.DataFrame({"source": ["GATA4"], "target": ["SYM0"]}),
    )
    folder = result.save(tmp_path / "result")
    more = ["bases.tsv", "candidates.tsv", "edit.json", "recovery", "variants.tsv"]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, *more])
    assert json.loads((folder / "edit.json").read_text()) == {"edits": [{"gene": "ENSG99", "predicted_change": None}]}
    assert {"sequence_edit.png", "figure_3.svg"} <= {path.name for path in (folder / "figures").iterdir()}
    assert pd.read_csv(folder / "recovery" / "scores.tsv", sep="\t")["model"].tolist() == ["a model"]
    for report in (folder / "report.html", folder / "recovery" / "report.html"):
        assert "makes no claim about biology" in " ".join(report.read_text().split())
    report_text = (folder / "report.html").read_text()
    assert "its promoter was changed" in report_text and "Two &lt;variants&gt; applied." in report_text
    assert make_result(0).save(folder, overwrite=True) == folder  # all of it is known as an earlier result's
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_table_1_is_the_papers(saved: Path) -> None:
    table = pd.read_csv(saved / "table1.tsv", sep="\t", dtype=str)
    assert table.to_dict("records") == [
        {"gene_set": "targets", "P-value": "1.00e-02", "FDR adjusted P-value": "1.00e-02"}
    ]
