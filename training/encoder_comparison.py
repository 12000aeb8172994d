"""Tables of a comparison of encoders: heads on the ranking task, and what their encoders are worth in segmentation.

Source: "Region Ranking on scATAC", figures 3.3 and 3.4. Beyond it: intervals, and differences paired by seed. Intervals
over seeds are Student's t at 95 %, of the mean over seeds: they hold the spread of training, not that of the genome.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from .ranking_metric import SCORES
from .segmentation_output import table_text

MEAN_OF_ELEMENTS = "mean over elements"


class Arm(NamedTuple):
    """An encoder to segment with.

    Attributes:
        name: in tables and names of folders.
        title: in figures.
    """

    name: str
    title: str


RANDOM = Arm("random", "random encoder")
GIVEN = Arm("given", "given encoder")
ATAC_AWARE = Arm("atac_aware", "ATAC-aware (original)")
ATAC_AWARE_WITHOUT_DUPLICATES = Arm("atac_aware_without_duplicates", "ATAC-aware (random padding, no duplicates)")
ARMS = (RANDOM, GIVEN, ATAC_AWARE, ATAC_AWARE_WITHOUT_DUPLICATES)


class HeadResult(NamedTuple):
    """A region ranker's scores.

    Attributes:
        head: of the ranker.
        is_frozen: whether its encoder was.
        validation, test: as metrics.json has them.
    """

    head: str
    is_frozen: bool
    validation: Mapping[str, Any]
    test: Mapping[str, Any]

    @property
    def encoder(self) -> str:
        return "frozen" if self.is_frozen else "trained"


def best_head(results: Sequence[HeadResult]) -> str:
    """The head whose ranker with a trained encoder orders most validation rows exactly; the first of equals."""
    trained = [result for result in results if not result.is_frozen]
    return max(trained, key=lambda result: result.validation["exact_order"] or 0.0).head


def mean_and_interval(values: Sequence[float | None]) -> dict[str, float | None]:
    """`mean`, and with two seeds or more `low` and `high` of its 95 % interval by Student's t; None where undefined."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return {"mean": None, "low": None, "high": None}
    mean = float(np.mean(known))
    if len(known) < 2:
        return {"mean": mean, "low": None, "high": None}
    half = float(stats.t.ppf(0.975, len(known) - 1) * np.std(known, ddof=1) / math.sqrt(len(known)))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def compare_segmentations(
    metrics: Mapping[str, Sequence[Mapping[str, Any]]], baseline: str
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """MCC of each element and arm over seeds, and its difference to the baseline.

    Args:
        metrics: arm -> a seed's `test` of metrics.json each, in the same order of seeds for all arms.
        baseline: arm that differences are to.

    Returns:
        element -> arm -> `mean`, `low`, `high`, `seeds` (a number each), and `difference` (`mean`, `low`, `high`,
        `seeds`) to the baseline's run of the same seed; the last element is the mean over the elements that are defined
        in every run. And the names of those that are not.
    """
    elements = list(next(iter(metrics.values()))[0]["elements"])
    mcc = {
        arm: {element: [run["elements"][element]["mcc"] for run in runs] for element in elements}
        for arm, runs in metrics.items()
    }
    undefined = [element for element in elements if any(None in of_arm[element] for of_arm in mcc.values())]
    averaged = [element for element in elements if element not in undefined]
    for of_arm in mcc.values():
        by_seed = zip(*(of_arm[element] for element in averaged), strict=True)
        seeds = len(next(iter(of_arm.values())))
        of_arm[MEAN_OF_ELEMENTS] = [float(np.mean(values)) for values in by_seed] if averaged else [None] * seeds
    table = {
        element: {arm: _row(of_arm[element], mcc[baseline][element]) for arm, of_arm in mcc.items()}
        for element in (*elements, MEAN_OF_ELEMENTS)
    }
    return table, undefined


def write_heads_table(path: Path, results: Sequence[HeadResult]) -> None:
    """One row a head and encoder, trained or frozen: scores on the test rows, intervals over the genome, chance."""
    scores = [f"{score}{end}" for score in SCORES for end in ("", "_low", "_high", "_chance")]
    columns = ["head", "encoder", "lists", "groups", *scores, "validation_exact_order"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        for result in results:
            values = [result.test["lists"], result.test["groups"]]
            for score in SCORES:
                low, high = result.test.get(f"{score}_interval") or (None, None)
                values += [result.test[score], low, high, result.test[f"{score}_chance"]]
            values.append(result.validation["exact_order"])
            writer.writerow([result.head, result.encoder, *map(table_text, values)])


def write_segmentation_table(path: Path, table: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]) -> None:
    """One row an element and arm: mean MCC, interval, each seed's, and the difference to the baseline."""
    columns = ["element", "encoder", "mcc", "mcc_low", "mcc_high", *(f"mcc_seed_{seed}" for seed in seeds)]
    columns += [f"difference{end}" for end in ("", "_low", "_high")]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        for element, arms in table.items():
            for arm, row in arms.items():
                ends = ("mean", "low", "high")
                values = [*(row[end] for end in ends), *row["seeds"], *(row["difference"][end] for end in ends)]
                writer.writerow([element, arm, *map(table_text, values)])


def _row(values: list[float | None], baseline: list[float | None]) -> dict[str, Any]:
    differences = [
        None if value is None or base is None else value - base for value, base in zip(values, baseline, strict=True)
    ]
    return {
        **mean_and_interval(values),
        "seeds": values,
        "difference": {**mean_and_interval(differences), "seeds": differences},
    }
