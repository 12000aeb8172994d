"""What a perturbation found: tables, a summary, and their files.

`save` writes genes.tsv, sets.tsv, table1.tsv, cells.tsv, summary.json, report.html and figures/, and what is known of
the edit and of targets, all or nothing: into a folder beside the wanted one, which is renamed at the end. How long it
took is not written: the same result, the same bytes.
"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .perturbation_canvas import Figure
from .perturbation_figures import draw_figures
from .perturbation_report import cautions, render_report
from .target_recovery_report import write_recovery

if TYPE_CHECKING:
    import pandas as pd

FILES = (
    "genes.tsv",
    "sets.tsv",
    "table1.tsv",
    "cells.tsv",
    "edit.json",
    "bases.tsv",
    "motif_hits.tsv",
    "variants.tsv",
    "candidates.tsv",
    "summary.json",
    "report.html",
    "recovery",
    "figures",
)


def _no_cells() -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(columns=["cell", "name", "n_genes", "shift", "shift_without_edited", "noise_floor"])


@dataclass(frozen=True)
class PerturbationResult:
    """Tables of one perturbation.

    Attributes:
        genes: one row a gene, the most shifted first: gene_id, symbol, n_cells, cosine_mean, cosine_sd (n - 1; missing
            for one cell), shift = 1 - cosine_mean, rank, shift_low and shift_high (over cells), mean_rank,
            share_of_cells, noise_floor, above_noise; with sham edits n_sham, shift_sham, shift_normalised,
            rank_normalised, shift_standardised; with a mixture p_moved, moved. Edited genes are not among them; see
            `summary["edited_genes"]`.
        sets: one row a gene set, see `perturbation_statistics.gene_set_table` and
            `perturbation_set_effects.add_set_effects`.
        summary: what was done, how many cells had the gene and how many did not, what was left out, and `seconds`: of
            reading, of the model, of the rest of its passes, and of statistics.
        gene_sets: name -> gene ids of the vocabulary, as tested.
        cells: one row an edited cell, see `perturbation_cell_shift.cell_table`.
        edits: of DNA, what was done at each gene, in values of JSON.
        edited_bases, motif_hits: of the edit of one gene, see `promoter_mutagenesis_view`; None where there is none.
        edit_tables: "variants" and "candidates" of the edits, where they have them.
        recovery: TargetRecovery, of this model beside others; None where it was not asked for.
        links: known links between genes, source and target, for the network figure.
    """

    genes: "pd.DataFrame"
    sets: "pd.DataFrame"
    summary: dict[str, Any]
    gene_sets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cells: "pd.DataFrame" = field(default_factory=_no_cells)
    edits: Sequence[Mapping[str, Any]] = ()
    edited_bases: "pd.DataFrame | None" = None
    motif_hits: "pd.DataFrame | None" = None
    edit_tables: "Mapping[str, pd.DataFrame]" = field(default_factory=dict)
    recovery: Any = None
    links: "pd.DataFrame | None" = None

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write one HTML file that needs no other; returns its path."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.part")
        html = self._html(self._figures())
        temporary.write_text(html, encoding="utf-8")
        temporary.replace(path)
        return path

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the files named above, figures as .png and .svg; returns the folder.

        Raises:
            FileExistsError: where the folder has files, unless `overwrite` is set and all are of an earlier result.
        """
        folder = Path(folder)
        _require_room(folder, overwrite)
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            self._write(temporary)
            temporary.chmod(0o755)
            _replace_folder(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return folder

    def _write(self, folder: Path) -> None:
        for name, table in (("genes", self.genes), ("sets", self.sets)):
            table.to_csv(folder / f"{name}.tsv", sep="\t", index=False)
        if len(self.sets):
            paper_table(self).to_csv(folder / "table1.tsv", sep="\t")
        self._write_edit(folder)
        if len(self.cells):
            self.cells.to_csv(folder / "cells.tsv", sep="\t", index=False)
        summary = json.dumps(_without_nan(_without_seconds(self.summary)), indent=2, ensure_ascii=False)
        (folder / "summary.json").write_text(summary + "\n", encoding="utf-8")
        figures = self._figures()
        (folder / "figures").mkdir()
        for figure in figures:
            (folder / "figures" / f"{figure.name}.png").write_bytes(figure.png)
            (folder / "figures" / f"{figure.name}.svg").write_bytes(figure.svg)
        (folder / "report.html").write_text(self._html(figures), encoding="utf-8")
        if self.recovery is not None:
            edited = self.summary.get("symbol") or self.summary["gene_id"]
            told = " ".join(cautions(self.summary))
            write_recovery(
                self.recovery,
                folder / "recovery",
                title=f"Known targets when {edited} is edited",
                cautions={"the edited model": told} if told else None,
            )

    def _write_edit(self, folder: Path) -> None:
        if self.edits:
            text = json.dumps(_without_nan({"edits": list(self.edits)}), indent=2, ensure_ascii=False)
            (folder / "edit.json").write_text(text + "\n", encoding="utf-8")
        tables = {"bases": self.edited_bases, "motif_hits": self.motif_hits, **self.edit_tables}
        for name, table in tables.items():
            if table is not None:
                table.to_csv(folder / f"{name}.tsv", sep="\t", index=False)

    def _figures(self) -> list[Figure]:
        return draw_figures(
            self.genes,
            self.gene_sets,
            self.summary,
            recovery=self.recovery,
            edited_bases=self.edited_bases,
            motif_hits=self.motif_hits,
            links=self.links,
        )

    def _html(self, figures: Sequence[Figure]) -> str:
        return render_report(self.genes, self.sets, _without_seconds(self.summary), figures, recovery=self.recovery)


def paper_table(result: PerturbationResult) -> "pd.DataFrame":
    """The gene sets as Table 1 of Bio-DTA lays them out: one row a set, in the order given, as text.

    Args:
        result: with gene sets.

    Returns:
        index: the set's name; columns "P-value" and "FDR adjusted P-value" (Benjamini-Hochberg), such as "6.42e-10"; a
        dash where a set was not tested.

    Raises:
        ValueError: for a result without gene sets.
    """
    import pandas as pd

    if not len(result.sets):
        raise ValueError("the result has no gene sets to lay out: give gene_sets to the pipeline")
    columns = {"P-value": "p_value", "FDR adjusted P-value": "q_value"}
    texts = {
        heading: [f"{value:.2e}" if math.isfinite(value) else "–" for value in result.sets[column]]
        for heading, column in columns.items()
    }
    return pd.DataFrame(texts, index=pd.Index(result.sets["gene_set"], name="gene_set"))


def _without_seconds(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if key != "seconds"}


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
        raise FileExistsError(f"{folder} holds an earlier result: give another folder, or set overwrite=True")


def _replace_folder(temporary: Path, folder: Path) -> None:
    """Put the finished folder in place; an older one is moved aside first, so that one of the two always stands."""
    if not folder.exists():
        temporary.rename(folder)
        return
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
    folder.rename(aside / folder.name)
    temporary.rename(folder)
    shutil.rmtree(aside)


def _without_nan(value: Any) -> Any:
    """JSON knows no NaN: null in its place."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
