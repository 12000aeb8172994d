"""Tables of a comparison of cell type classifiers: every run, and means over seeds with intervals.

Intervals are Student's t at 95 %, of the mean over seeds: each seed draws split and weights, so they hold the spread of
both, on these cells. Differences are to the logistic regression of the same modality and seed.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from .cell_type_metric import SCORES
from .encoder_comparison import mean_and_interval

REFERENCE = "logistic_regression"
KEYS = ("method", "modality", "tuning", "cells_per_type")
_PAIRED = ["modality", "cells_per_type", "seed"]
_PARTS = ("training_cells", "validation_cells", "test_cells")


def results_table(runs: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row a run.

    Args:
        runs: with `method`, `modality`, `tuning`, `cells_per_type`, `baseline` ("" of models), `seed`, `test`,
            `validation` where there is one, `report` of the split, and `seconds`.
    """
    rows = []
    for run in runs:
        row = {name: run[name] for name in (*KEYS, "baseline", "seed")}
        row |= {name: run["test"][name] for name in SCORES}
        row["validation_mcc"] = run.get("validation", {}).get("mcc")
        row |= {name: run["report"][name] for name in _PARTS}
        row["unseen_test_cells"] = sum(run["report"]["unseen_in_training"].values())
        rows.append(row | {"seconds": run["seconds"]})
    table = pd.DataFrame(rows)
    table["cells_per_type"] = table["cells_per_type"].astype("Int64")
    return table


def summarise(results: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    """One row an arm and cells_per_type, by cells_per_type (all cells first), best mean MCC first.

    Args:
        results: as `results_table` gives it.
        reference: baseline that differences are to, of the same modality, cells_per_type and seed, the first where
            there are several; columns are empty where there is none.

    Returns:
        `KEYS`, `seeds`, and of each score `<score>`, `<score>_low`, `<score>_high`, `<score>_difference`,
        `<score>_difference_low`, `<score>_difference_high`; the bounds are empty for a single seed.
    """
    of_reference = results[results["baseline"] == reference].drop_duplicates(_PAIRED).set_index(_PAIRED)
    rows = []
    for keys, runs in results.groupby(list(KEYS), dropna=False, sort=False):
        row: dict[str, Any] = dict(zip(KEYS, keys, strict=True)) | {"seeds": len(runs)}
        places = pd.MultiIndex.from_frame(runs[_PAIRED])
        paired = of_reference.reindex(places)
        for score in SCORES:
            row |= _named(score, mean_and_interval(runs[score].tolist()))
            difference = runs[score].to_numpy() - paired[score].to_numpy()
            known = [None if pd.isna(value) else float(value) for value in difference]
            row |= _named(f"{score}_difference", mean_and_interval(known))
        rows.append(row)
    table = pd.DataFrame(rows)
    table["cells_per_type"] = table["cells_per_type"].astype("Int64")
    return table.sort_values(
        ["cells_per_type", "mcc"], ascending=[False, False], na_position="first", ignore_index=True, kind="stable"
    )


def summary_text(summary: pd.DataFrame, reference: str = REFERENCE) -> str:
    """The table that people read: score and interval, and the difference of MCC."""
    columns = {"accuracy": "accuracy", "mcc": "MCC", "macro_f1": "macro-F1", "weighted_f1": "weighted F1"}
    rows = [
        {
            "method": row["method"],
            "modality": row["modality"],
            "tuning": row["tuning"] or "-",
            "cells a type": "all" if pd.isna(row["cells_per_type"]) else str(row["cells_per_type"]),
            **{title: _with_interval(row, name) for name, title in columns.items()},
            f"MCC less {reference}'s": _with_interval(row, "mcc_difference", sign="+"),
        }
        for row in summary.to_dict("records")
    ]
    return pd.DataFrame(rows).to_string(index=False)


def _named(name: str, interval: dict[str, float | None]) -> dict[str, float | None]:
    return {name: interval["mean"], f"{name}_low": interval["low"], f"{name}_high": interval["high"]}


def _with_interval(row: dict[Any, Any], name: str, sign: str = "") -> str:
    mean, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if pd.isna(mean):
        return "-"
    if pd.isna(low):
        return f"{mean:{sign}.3f}"
    return f"{mean:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"
