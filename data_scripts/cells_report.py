"""What a build of rank tokens reports: every cell and gene left out and why, as JSON, and the data set's card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd

from .cell_inputs import CellInput
from .gene_identifiers import ResolvedGenes
from .gene_ranking import GeneRanking, special_in
from .rank_token_shards import Tally


@dataclass(frozen=True)
class CellsReport:
    """Totals of a build; `content` is what report.json holds."""

    output: Path
    n_cells: int
    n_written: int
    n_tokens: int
    dropped: dict[str, int]  # reason -> cells
    n_genes: int  # of the vocabulary, without special tokens
    content: dict[str, Any]


def make_report(
    output: Path,
    settings: Mapping[str, Any],
    inputs: Sequence[CellInput],
    ranking: GeneRanking,
    records: Sequence[tuple[int, dict[str, Any] | None]],
    *,
    given: Sequence[str],
) -> CellsReport:
    """Sums the shards' records, pairs (number of the input, record), into one report."""
    total, by_input = Tally(), [Tally() for _ in inputs]
    for number, record in records:
        assert record is not None, "a shard is missing"
        by_input[number].add(Tally(**record["tally"]))
    for tally in by_input:
        total.add(tally)
    assert total.n_cells == total.n_written + sum(total.dropped.values())
    gene_lists, files = _GeneLists(ranking), []
    for one, tally in zip(inputs, by_input, strict=True):
        files.append({"path": str(one.path), "matrix": one.source.rsplit(": ", 1)[-1], "cells": _cells(tally)})
        files[-1]["genes"] = gene_lists.describe(one.genes)
    special = special_in(ranking.token_dictionary)
    content = {
        "cells": _cells(total),
        "vocabulary": {
            "genes": len(ranking.genes),
            "special_tokens": special,
            "given": list(given),
            "never_detected": ranking.never_detected,
        },
        "files": files,
        "gene_lists": gene_lists.lists,
        "settings": dict(settings),
    }
    return CellsReport(
        output, total.n_cells, total.n_written, total.n_tokens, total.dropped, len(ranking.genes), content
    )


def data_card(report: CellsReport, obs_columns: Sequence[str], configuration: str) -> str:
    """README.md of the folder: the configuration that `load_dataset` reads, then prose."""
    template = resources.files("omics_transformers.model_cards").joinpath("rank_tokens_dataset.md")
    settings = report.content["settings"]
    dropped = [f"| {reason} | {n_cells:,} |" for reason, n_cells in report.dropped.items()]
    return (
        Template(template.read_text(encoding="utf-8"))
        .substitute(
            configuration=configuration,
            n_written=f"{report.n_written:,}",
            n_cells=f"{report.n_cells:,}",
            n_genes=f"{report.n_genes:,}",
            mean_length=f"{report.n_tokens / max(1, report.n_written):,.0f}",
            max_length=f"{settings['max_length']:,}",
            minimum_genes=settings["minimum_genes"],
            special_tokens=", ".join(f"`{token}`" for token in report.content["vocabulary"]["special_tokens"]),
            given=", ".join(name.replace("_", " ") for name in report.content["vocabulary"]["given"]) or "nothing",
            inputs="\n".join(
                f"- {Path(one['path']).name}: {one['cells']['written']:,} cells" for one in report.content["files"]
            ),
            dropped="\n".join(dropped),
            obs_columns="\n".join(f"- `{name}`: carried from obs" for name in obs_columns),
        )
        .rstrip()
    )


def _cells(tally: Tally) -> dict[str, Any]:
    return {
        "read": tally.n_cells,
        "written": tally.n_written,
        "dropped": tally.dropped,
        "cut_to_max_length": tally.n_cells_cut,
        "tokens": tally.n_tokens,
        "tokens_cut": tally.n_tokens_cut,
    }


class _GeneLists:
    """Names of dropped and summed columns, once for all the inputs that share them."""

    def __init__(self, ranking: GeneRanking) -> None:
        self.lists: list[dict[str, Any]] = []
        self._vocabulary = set(ranking.genes)
        self._described: dict[int, dict[str, Any]] = {}

    def describe(self, genes: ResolvedGenes) -> dict[str, Any]:
        if id(genes) not in self._described:
            self._described[id(genes)] = self._describe(genes)
        return self._described[id(genes)]

    def _describe(self, genes: ResolvedGenes) -> dict[str, Any]:
        gene_ids = pd.Series(genes.gene_ids)
        reasons = pd.Series(genes.drop_reasons)
        reasons[(reasons == "") & ~gene_ids.isin(self._vocabulary)] = "not in any kept cell"
        names = pd.Series(genes.names)
        dropped = {str(reason): list(group) for reason, group in names[reasons != ""].groupby(reasons)}
        kept = gene_ids[reasons == ""]
        shared = kept[kept.duplicated(keep=False)]
        summed = {str(gene): list(group) for gene, group in names[shared.index].groupby(shared)}
        self.lists.append({"dropped": dropped, "summed": summed})
        return {
            "columns": len(names),
            "kept_columns": len(kept),
            "genes": int(kept.nunique()),
            "identifiers_from": genes.identifier_column,
            "versions_stripped": genes.n_versions_stripped,
            "symbols_mapped": genes.n_symbols_mapped,
            "summed_columns": int(np.sum([len(group) for group in summed.values()])),
            "dropped": {reason: len(group) for reason, group in dropped.items()},
            "gene_list": len(self.lists) - 1,
        }
