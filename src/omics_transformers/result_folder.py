"""A result as a folder of tables, figures and summary.json, all or nothing.

It is written beside the wanted folder, which it becomes at the end; an earlier result stands until then.
"""

import json
import math
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SUMMARY, FIGURES = "summary.json", "figures"


def require_room(folder: str | Path, tables: Collection[str], *, overwrite: bool, others: Collection[str] = ()) -> None:
    """Raise FileExistsError where a result would take the place of something else.

    Args:
        folder: where the result is to go.
        tables: names of the tables that a result of this kind may have.
        overwrite: whether an earlier result may be replaced.
        others: names of further files and folders that it may have.
    """
    folder = Path(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file: give the name of a folder")
    known = {*(f"{name}.tsv" for name in tables), SUMMARY, FIGURES, *others}
    strange = sorted(entry.name for entry in folder.iterdir() if entry.name not in known)
    if strange:
        raise FileExistsError(
            f"{folder} holds other files, e.g. {strange[0]}, which would be lost: give another folder"
        )
    if not overwrite and any(folder.iterdir()):
        raise FileExistsError(f"{folder} holds an earlier result: name another folder, or pass overwrite (--overwrite)")


def write_result(
    folder: str | Path,
    tables: "Mapping[str, pd.DataFrame]",
    summary: Mapping[str, Any],
    figures: Mapping[str, bytes],
    *,
    overwrite: bool = False,
) -> Path:
    """Write <name>.tsv, summary.json and figures/<name>.png; returns the folder.

    Args:
        folder: to make.
        tables: name -> table; floats are written with 8 digits.
        summary: what JSON knows; NaN and infinity become null.
        figures: name -> PNG bytes.
        overwrite: replace an earlier result.

    Raises:
        FileExistsError: as `require_room`.
    """
    folder = Path(folder)
    require_room(folder, list(tables), overwrite=overwrite)
    with result_folder(folder) as new:
        write_parts(new, tables, summary, figures)
    return folder


@contextmanager
def result_folder(folder: str | Path) -> Iterator[Path]:
    """An empty folder to write into, which takes the place of `folder` at the end unless there was an error.

    Whether something may be replaced is for `require_room` to say.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        new = temporary / "new"
        new.mkdir()
        yield new
        _put_in_place(new, folder, temporary / "old")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_parts(
    folder: Path, tables: "Mapping[str, pd.DataFrame]", summary: Mapping[str, Any], figures: Mapping[str, bytes]
) -> None:
    """Tables, summary.json and figures into a folder that is there; arguments as `write_result`."""
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.tsv", sep="\t", index=False, float_format="%.8g")
    text = json.dumps(_without_nan(summary), indent=2, ensure_ascii=False)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")
    if figures:
        (folder / FIGURES).mkdir()
    for name, png in figures.items():
        (folder / FIGURES / f"{name}.png").write_bytes(png)


def _put_in_place(new: Path, folder: Path, aside: Path) -> None:
    if not folder.exists():
        new.rename(folder)
        return
    folder.rename(aside)
    try:
        new.rename(folder)
    except BaseException:
        aside.rename(folder)
        raise


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
