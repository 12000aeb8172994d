"""What a region-ranking run writes beside the model: scores, chance and intervals as a table."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .ranking_metric import SCORES
from .segmentation_output import table_text

TABLE_FILE = "ranking.tsv"
ALL_CELL_TYPES = "all"
_COUNTS = ("lists", "groups", "lists_without_order")
SCORE_COLUMNS = (*_COUNTS, *(f"{score}{end}" for score in SCORES for end in ("", "_low", "_high", "_chance")))


def write_ranking_table(path: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    """One row a split and cell type, the first of all cell types together: lists, scores, chance, intervals.

    Args:
        path: of the TSV file; cells are empty where undefined.
        results: split -> what `RankingTrainer.last_result` held.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["split", "cell_type", *SCORE_COLUMNS])
        for split, cell_type, result in _rows(results):
            writer.writerow([split, cell_type, *score_values(result)])


def score_values(result: Mapping[str, Any]) -> list[str]:
    """Texts of `SCORE_COLUMNS`, of what `RegionRankingMetric.compute` gave; empty where undefined."""
    values = [result[name] for name in _COUNTS]
    for score in SCORES:
        low, high = result.get(f"{score}_interval") or (None, None)
        values += [result[score], low, high, result[f"{score}_chance"]]
    return [table_text(value) for value in values]


def _rows(results: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for split, result in results.items():
        yield split, ALL_CELL_TYPES, result
        for cell_type, of_type in result.get("cell_types", {}).items():
            yield split, cell_type, of_type
