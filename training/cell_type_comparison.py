"""Cell type classifiers side by side: the same cells, the same splits, the same metrics, intervals over seeds.

Source: the thesis' tables 4.1 and 4.3 ("Developing a Multimodal Single-Cell Foundation Model with scATAC"). Beyond it:
several seeds, each of which also draws the split; differences to logistic regression, paired by seed; few-shot curves.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from .cell_type_arms import Arm, BaselineArm, ModelArm
from .cell_type_splits import CellTypeSplit

__all__ = ["Arm", "BaselineArm", "CellTypeComparison", "CellTypeSplit", "ModelArm", "compare_cell_types"]


class CellTypeComparison(NamedTuple):
    """What a comparison found.

    Attributes:
        results: one row an arm, cells_per_type and seed: `method` (the arm's name), `modality`, `tuning` ("" of
            baselines), `cells_per_type` (missing where all training cells were used), `seed`, the metric's SCORES on
            test cells (`accuracy`, `balanced_accuracy`, `mcc`, `macro_f1`, `weighted_f1`,
            `expected_calibration_error`, `brier_score`), `validation_mcc`, cells of each part, `seconds`.
        summary: one row an arm and cells_per_type: of each score the mean over seeds, its 95 % Student interval, and
            the difference to the logistic regression of the same modality, paired by seed; best MCC first.
        runs: of each row of `results` all that was measured: `test` and `validation` as `CellTypeMetric.compute` gives
            them, `history` (`step`, `epoch`, `training_accuracy`, `training_loss`, `validation_accuracy`,
            `validation_mcc`, `validation_loss` a time), `chosen`, `report`.
    """

    results: pd.DataFrame
    summary: pd.DataFrame
    runs: list[dict[str, Any]]


def compare_cell_types(
    arms: Sequence[Arm],
    data: str | Path | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    split: CellTypeSplit | None = None,
    cells_per_type: Sequence[int | None] = (None,),
    training: Any = None,
    output_dir: str | Path | None = None,
    model_dir: str | Path | None = None,
) -> CellTypeComparison:
    """Train, test and tabulate every arm on every seed's split.

    Args:
        arms: models and baselines, each name with a modality once.
        data: folder that `build multiome` wrote, of the arms that name none.
        seeds: each draws a split, and all that is random in training.
        split: what is held out; 20 % of each type to test and 10 % to validate by default.
        cells_per_type: training cells of each type, None for all.
        training: a `CellTypeTrainingArguments`, of which output_dir and seed are set for each run; defaults where None.
        output_dir: where finished runs are kept, and not repeated by the same call; a temporary folder where None.
        model_dir: folder for the first trained model's first seed; not written where None.

    Raises:
        FileNotFoundError, ValueError: for folders, models and settings that do not fit, before training begins.
    """
    raise NotImplementedError
