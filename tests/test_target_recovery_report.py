"""The folder of a comparison: its files, that the report needs no other, and that nothing is lost."""

from pathlib import Path

import pandas as pd
import pytest

from omics_transformers.pipelines.target_recovery import TargetRecovery, compare_recovery
from omics_transformers.pipelines.target_recovery_report import write_recovery


@pytest.fixture
def recovery() -> TargetRecovery:
    genes = pd.DataFrame({"gene_id": [f"G{number}" for number in range(30)], "shift": range(30)})
    tables = {"<b>ours</b>": genes, "co-expression": genes.assign(shift=-genes["shift"])}
    return compare_recovery(tables, {"targets": ["G28", "G3"]}, top_k=[5, 10], draws=50)


def test_every_file_is_written(tmp_path: Path, recovery: TargetRecovery) -> None:
    folder = write_recovery(recovery, tmp_path / "deep" / "out", title="GATA4", cautions={"ours": "random weights"})
    assert sorted(path.name for path in folder.iterdir()) == [
        "curve.tsv",
        "figures",
        "report.html",
        "scores.tsv",
        "top_k.tsv",
    ]
    names = sorted(path.name for path in (folder / "figures").iterdir())
    assert names == [
        f"{name}.{kind}" for name in ("figure_3", "precision_over_k", "precision_recall") for kind in ("png", "svg")
    ]
    pd.testing.assert_frame_equal(pd.read_csv(folder / "scores.tsv", sep="\t"), recovery.scores)
    html = (folder / "report.html").read_text()
    assert "&lt;b&gt;ours" in html and "<b>ours" not in html and "ours: random weights" in html
    assert "http" not in html.replace("http-equiv", "") and html.count("data:image/png;base64,") == 3


def test_the_same_comparison_gives_the_same_bytes(tmp_path: Path, recovery: TargetRecovery) -> None:
    first, second = (write_recovery(recovery, tmp_path / name) for name in ("a", "b"))
    for path in first.rglob("*.*"):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes()


def test_nothing_is_lost(tmp_path: Path, recovery: TargetRecovery) -> None:
    write_recovery(recovery, tmp_path / "out")
    with pytest.raises(FileExistsError, match="holds an earlier comparison"):
        write_recovery(recovery, tmp_path / "out")
    write_recovery(recovery, tmp_path / "out", overwrite=True)
    with pytest.raises(ValueError, match="k is 7"):
        write_recovery(recovery, tmp_path / "out", k=7, overwrite=True)
    assert (tmp_path / "out" / "report.html").is_file() and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds other files, e.g. notes.txt"):
        write_recovery(recovery, tmp_path / "out", overwrite=True)
    with pytest.raises(FileExistsError, match="is a file"):
        write_recovery(recovery, tmp_path / "out" / "notes.txt")
