"""Result folders: all or nothing, never over something else."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from omics_transformers.result_folder import require_room, result_folder, write_parts, write_result

TABLE = pd.DataFrame({"name": ["a", "b"], "value": [1 / 3, np.nan]})


def test_tables_summary_and_figures(tmp_path: Path) -> None:
    summary = {"value": float("nan"), "nested": {"list": [1, float("inf"), "x"]}, "none": None}
    folder = write_result(tmp_path / "deep" / "result", {"table": TABLE}, summary, {"figure": b"png"})
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "figures/figure.png",
        "summary.json",
        "table.tsv",
    ]
    assert (folder / "table.tsv").read_text() == "name\tvalue\na\t0.33333333\nb\t\n"
    assert json.loads((folder / "summary.json").read_text()) == {
        "value": None,
        "nested": {"list": [1, None, "x"]},
        "none": None,
    }
    assert (folder / "figures" / "figure.png").read_bytes() == b"png"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["result"]


def test_an_earlier_result_is_replaced_on_request_only(tmp_path: Path) -> None:
    folder = tmp_path / "result"
    write_result(folder, {"table": TABLE}, {"run": 1}, {"old": b"png"})
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_result(folder, {"table": TABLE}, {"run": 2}, {})
    assert json.loads((folder / "summary.json").read_text()) == {"run": 1}
    write_result(folder, {"table": TABLE}, {"run": 2}, {}, overwrite=True)
    assert json.loads((folder / "summary.json").read_text()) == {"run": 2}
    assert not (folder / "figures").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_other_files_are_never_lost(tmp_path: Path) -> None:
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"holds other files, e\.g\. thesis\.txt"):
        require_room(tmp_path / "result", ["table"], overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is a file"):
        require_room(tmp_path / "file", ["table"], overwrite=True)
    (tmp_path / "empty").mkdir()
    require_room(tmp_path / "empty", [], overwrite=False)
    require_room(tmp_path / "absent", [], overwrite=False)


def test_further_files_beside_the_tables(tmp_path: Path) -> None:
    folder = tmp_path / "result"
    for run in (1, 2):
        with result_folder(folder) as new:
            (new / "tracks").mkdir()
            (new / "tracks" / "scores.bw").write_bytes(b"track")
            write_parts(new, {"table": TABLE}, {"run": run}, {})
    assert json.loads((folder / "summary.json").read_text()) == {"run": 2}
    assert sorted(path.name for path in folder.iterdir()) == ["summary.json", "table.tsv", "tracks"]
    require_room(folder, ["table"], overwrite=True, others=["tracks"])
    with pytest.raises(FileExistsError, match=r"holds other files, e\.g\. tracks"):
        require_room(folder, ["table"], overwrite=True)
    with pytest.raises(KeyboardInterrupt), result_folder(folder) as new:
        (new / "half").write_text("")
        raise KeyboardInterrupt
    assert (folder / "tracks" / "scores.bw").exists() and [path.name for path in tmp_path.iterdir()] == ["result"]


def test_nothing_is_left_of_what_fails(tmp_path: Path) -> None:
    write_result(tmp_path / "result", {"table": TABLE}, {"run": 1}, {})
    with pytest.raises(TypeError):
        write_result(tmp_path / "result", {"table": TABLE}, {"run": object()}, {}, overwrite=True)
    assert json.loads((tmp_path / "result" / "summary.json").read_text()) == {"run": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["result"]
