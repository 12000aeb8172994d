"""What a segmentation run writes beside the model: scores by element, as JSON and as a table."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .segmentation_metric import SCORES

METRICS_FILE = "metrics.json"
TABLE_FILE = "elements.tsv"
_COUNTS = ("threshold", "scored_bases", "positive_bases")


def write_element_table(path: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    """One row a split and element: threshold, bases, each score and its interval; empty where undefined.

    Args:
        path: of the TSV file.
        results: split -> what `SegmentationMetric.compute` gave.
    """
    intervals = [f"{score}_{end}" for score in SCORES for end in ("low", "high")]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["split", "element", *_COUNTS, *SCORES, *intervals])
        for split, result in results.items():
            for name, element in result["elements"].items():
                ends = [value for score in SCORES for value in element.get(f"{score}_interval", [None, None])]
                values = [*(element[column] for column in (*_COUNTS, *SCORES)), *ends]
                writer.writerow([split, name, *(table_text(value) for value in values)])


def without_nan(content: Any) -> Any:
    """The same with None in place of NaN, which JSON does not have."""
    if isinstance(content, Mapping):
        return {name: without_nan(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


def table_text(value: float | int | None) -> str:
    """A number in a table, with six digits; empty where it is undefined."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"
