"""Files of a comparison of models by the targets that they recover: tables, figures, and one HTML file.

`write_recovery` writes all or nothing: into a folder beside the wanted one, which is renamed at the end.
"""

import base64
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .perturbation_report import PAGE_STYLE, SCORES_SHOWN, TABLE_MACRO, TOP_K_SHOWN, report_rows, report_values
from .target_recovery import TargetRecovery
from .target_recovery_figures import draw_recovery

FILES = ("scores.tsv", "top_k.tsv", "curve.tsv", "report.html", "figures")

TEMPLATE = (
    TABLE_MACRO
    + """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
"""
    + PAGE_STYLE
    + """</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for text in cautions %}
<p class="caution">{{ text }}</p>
{% endfor %}
<h2>How to read this</h2>
<p class="note">Each model ranks the same genes, those that an edit moves most first. A model has found a set of targets
only where it lies above what random rankings reach, and above plain co-expression on the same cells, which needs no
deep model.</p>
<h2>Targets over the whole ranking</h2>
<div class="scroll">{{ table(scores) }}</div>
<p class="note">Average precision is 1 where all targets come first; by chance, 95 % of random rankings of the same
genes lie in the range beside it, and p is the share of them that do as well.</p>
<h2>Targets among the top genes</h2>
<div class="scroll">{{ table(top_k) }}</div>
<p class="note">By chance: 95 % of random sets of k genes (hypergeometric); p: of as many hits or more; q:
Benjamini-Hochberg over all rows.</p>
<h2>Figures</h2>
{% for figure in figures %}
<figure>
<img src="data:image/png;base64,{{ figure.data }}" alt="{{ figure.caption }}">
<figcaption>{{ figure.caption }}</figcaption>
</figure>
{% endfor %}
</body>
</html>
"""
)


def write_recovery(
    recovery: TargetRecovery,
    folder: str | os.PathLike[str],
    *,
    title: str = "Recovered targets",
    k: int | None = None,
    cautions: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write scores.tsv, top_k.tsv, curve.tsv, figures/*.png and *.svg, and report.html, which needs no other file.

    Args:
        recovery: of `compare_recovery`.
        folder: to make.
        title: of the report.
        k: of `figure_3`, see `draw_figure_3`.
        cautions: model -> what a reader must know of it, e.g. that its weights are random.
        overwrite: replace an earlier comparison in the folder.

    Returns:
        The folder.

    Raises:
        FileExistsError: where the folder has files, unless `overwrite` is set and all are of an earlier comparison.
    """
    folder = Path(folder)
    _require_room(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        _write(temporary, recovery, title, k, [f"{model}: {text}" for model, text in (cautions or {}).items()])
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder


def _write(folder: Path, recovery: TargetRecovery, title: str, k: int | None, cautions: list[str]) -> None:
    from jinja2 import Environment, StrictUndefined

    figures = draw_recovery(recovery, k=k)
    for name, table in zip(recovery._fields, recovery, strict=True):
        table.to_csv(folder / f"{name}.tsv", sep="\t", index=False)
    (folder / "figures").mkdir()
    for figure in figures:
        (folder / "figures" / f"{figure.name}.png").write_bytes(figure.png)
        (folder / "figures" / f"{figure.name}.svg").write_bytes(figure.svg)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    values: dict[str, Any] = {
        "title": title,
        "cautions": cautions,
        "scores": report_rows(recovery.scores, SCORES_SHOWN),
        "top_k": report_rows(recovery.top_k, TOP_K_SHOWN),
        "figures": [{"caption": one.caption, "data": base64.b64encode(one.png).decode()} for one in figures],
    }
    html = environment.from_string(TEMPLATE).render(**values, **report_values())
    (folder / "report.html").write_text(html, encoding="utf-8")


def _require_room(folder: Path, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file: give the name of a folder")
    strange = sorted(entry.name for entry in folder.iterdir() if entry.name not in FILES)
    if strange:
        raise FileExistsError(
            f"{folder} holds other files, e.g. {strange[0]}, which would be lost: give another folder"
        )
    if not overwrite and any(folder.iterdir()):
        raise FileExistsError(f"{folder} holds an earlier comparison: give another folder, or set overwrite=True")
