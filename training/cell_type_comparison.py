"""Cell type classifiers side by side: the same cells, the same splits, the same metrics, intervals over seeds.

Source: the thesis' tables 4.1 and 4.3 ("Developing a Multimodal Single-Cell Foundation Model with scATAC"). Beyond it:
several seeds, each of which also draws the split; differences to logistic regression, paired by seed; few-shot curves.
"""

import json
import logging
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from .cell_type_arguments import CellTypeTrainingArguments, settings_of_arm
from .cell_type_arms import Arm, BaselineArm, ModelArm, modalities_of
from .cell_type_data import LabelledCells, labelled_cells
from .cell_type_models import require_fitting_model
from .cell_type_runs import KeepModel, SplitOfFolder, run_baseline, run_model, run_zero_shot
from .cell_type_splits import CellTypeSplit, SplitCells, split_cells
from .cell_type_summary import results_table, summarise
from .multiome_data import Modality, MultiomeFolder, read_multiome
from .multivi_baseline import require_multivi
from .pretraining_output import write_json

logger = logging.getLogger(__name__)

__all__ = ["Arm", "BaselineArm", "CellTypeComparison", "CellTypeSplit", "ModelArm", "compare_cell_types"]

_TRAINING = (
    "learning_rate",
    "weight_decay",
    "lr_scheduler_type",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "minimum_steps",
    "max_steps",
    "early_stopping_patience",
)  # that decide what a run gives


class CellTypeComparison(NamedTuple):
    """What a comparison found.

    Attributes:
        results: one row an arm, cells_per_type and seed: `method` (the arm's name), `modality`, `tuning` ("" of
            baselines), `baseline` ("" of models), `cells_per_type` (missing where all training cells were used),
            `seed`, the metric's SCORES on test cells (`accuracy`, `balanced_accuracy`, `mcc`, `macro_f1`,
            `weighted_f1`, `expected_calibration_error`, `brier_score`), `validation_mcc`, cells of each part,
            `seconds`.
        summary: one row an arm and cells_per_type: of each score the mean over seeds, its 95 % Student interval, and
            the difference to the logistic regression of the same modality, paired by seed; best MCC first.
        runs: of each row of `results` all that was measured: `test` and `validation` as `CellTypeMetric.compute` gives
            them, `history` (`step`, `epoch`, `training_accuracy`, `training_loss`, `validation_accuracy`,
            `validation_mcc`, `validation_loss` a time), `chosen`, `report`.
        report: cells that were compared on, and those left out.
    """

    results: pd.DataFrame
    summary: pd.DataFrame
    runs: list[dict[str, Any]]
    report: dict[str, Any]


class _Run(NamedTuple):
    """An arm, on a seed's split."""

    arm: Arm
    cells_per_type: int | None
    seed: int

    @property
    def name(self) -> str:
        """Of its folder and file."""
        cells = "all" if self.cells_per_type is None else str(self.cells_per_type)
        return f"{re.sub(r'[^A-Za-z0-9._-]', '-', self.arm.name)}-{self.arm.modality}-{cells}-{self.seed}"

    @property
    def is_trained(self) -> bool:
        """Whether all processes take part."""
        return isinstance(self.arm, ModelArm) and self.arm.tuning != "zero_shot"


def compare_cell_types(
    arms: Sequence[Arm],
    data: str | Path | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    split: CellTypeSplit | None = None,
    cells_per_type: Sequence[int | None] = (None,),
    training: CellTypeTrainingArguments | None = None,
    output_dir: str | Path | None = None,
    keep_model: KeepModel | None = None,
) -> CellTypeComparison:
    """Train, test and tabulate every arm on every seed's split.

    Args:
        arms: models and baselines, each name with a modality once.
        data: folder that `build multiome` wrote, of the arms that name none.
        seeds: each draws a split, and all that is random in training.
        split: what is held out; 20 % of each type to test and 10 % to validate by default.
        cells_per_type: training cells of each type, None for all.
        training: options of which output_dir, seed and steps are set for each run; defaults where None.
        output_dir: where finished runs are kept, and not repeated by the same call; a temporary folder where None.
        keep_model: takes the trainer of the first trained arm with the first seed and the first cells_per_type; such a
            run is not finished before it was called.

    Returns:
        Tables and all that was measured. Under several processes models are trained by all, and the rest is the main
        one's; the others get tables of the trained models alone.

    Raises:
        FileNotFoundError, ValueError: for folders, models and settings that do not fit, before training begins, and
            where output_dir holds runs of other settings.
        ImportError: for MultiVI without scvi-tools, likewise.
        KeyboardInterrupt: after Ctrl-C; the same call goes on.
    """
    if output_dir is None:
        with tempfile.TemporaryDirectory() as folder:
            return compare_cell_types(
                arms,
                data,
                seeds=seeds,
                split=split,
                cells_per_type=cells_per_type,
                training=training,
                output_dir=folder,
                keep_model=keep_model,
            )
    output = Path(output_dir)
    training = training or CellTypeTrainingArguments(output_dir=str(output))
    comparison = _Comparison(arms, data, split or CellTypeSplit(), training, output)
    runs = comparison.planned(seeds, cells_per_type)
    comparison.split_all(runs)
    is_main = training.process_index == 0
    results = {}
    # Baselines come last, so that other processes need not wait for the main one.
    for run in sorted(runs, key=lambda run: not run.is_trained):
        if run.is_trained or is_main:
            kept = keep_model if run == next((one for one in runs if one.is_trained), None) else None
            results[run.name] = comparison.result(run, keep_model=kept, is_main=is_main)
    found = [results[run.name] for run in runs if run.name in results]
    table = results_table(found)
    return CellTypeComparison(table, summarise(table), found, comparison.cells.report)


class _Comparison:
    """Folders, cells and splits that the runs share; everything is checked when it is made."""

    def __init__(
        self,
        arms: Sequence[Arm],
        data: str | Path | None,
        split: CellTypeSplit,
        training: CellTypeTrainingArguments,
        output: Path,
    ) -> None:
        _require_distinct(arms)
        self.arms, self.split, self.training, self.output = arms, split, training, output
        self._data_of = {_key(arm): _folder_of(arm, data) for arm in arms}
        modalities: dict[str, set[Modality]] = {}
        for arm in arms:
            modalities.setdefault(self._data(arm), set()).update(modalities_of(arm.modality))
        self.folders = {name: read_multiome(name) for name in modalities}
        for arm in arms:
            _require_fitting(arm, self.folders[self._data(arm)])
        self.cells: LabelledCells = labelled_cells(self.folders, modalities, split)
        self._splits: dict[tuple[int | None, int], SplitCells] = {}

    def planned(self, seeds: Sequence[int], cells_per_type: Sequence[int | None]) -> list[_Run]:
        """All runs, by cells_per_type, seed and arm."""
        for name, values in (("seeds", list(seeds)), ("cells_per_type", list(cells_per_type))):
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} are {values}: expected at least one, each once")
        return [_Run(arm, number, seed) for number in cells_per_type for seed in seeds for arm in self.arms]

    def split_all(self, runs: Sequence[_Run]) -> None:
        """Draw all splits, so that none fails after a training; and the same for finished runs of other settings."""
        for run in runs:
            key = (run.cells_per_type, run.seed)
            if key not in self._splits:
                self._splits[key] = split_cells(
                    self.split,
                    self.cells.keys,
                    self.cells.types,
                    self.cells.groups,
                    type_names=self.cells.type_names,
                    seed=run.seed,
                    cells_per_type=run.cells_per_type,
                )
            self._finished(run)

    def result(self, run: _Run, *, keep_model: KeepModel | None, is_main: bool) -> dict[str, Any]:
        """What a run gives; from its file where it is finished."""
        finished = self._finished(run)
        if finished is not None:
            logger.info("run %s is finished, and is not repeated", run.name)
            return finished
        split, name = self._splits[run.cells_per_type, run.seed], self._data(run.arm)
        cells = SplitOfFolder(self.folders[name], self.cells.rows[name], self.cells, split)
        logger.info("run %s: %s", run.name, split.report)
        if isinstance(run.arm, BaselineArm):
            measured = run_baseline(run.arm, cells, seed=run.seed)
        elif run.is_trained:
            folder = self._file(run).with_suffix("")
            measured = run_model(run.arm, cells, self.training, seed=run.seed, folder=folder, keep_model=keep_model)
        else:
            measured = run_zero_shot(run.arm, cells, self.training, seed=run.seed)
        logger.info("run %s: MCC %.4f on %d test cells", run.name, measured["test"]["mcc"], len(split.test))
        tuning = run.arm.tuning if isinstance(run.arm, ModelArm) else ""
        result: dict[str, Any] = {"method": run.arm.name, "modality": run.arm.modality, "tuning": tuning}
        result |= {"baseline": run.arm.baseline if isinstance(run.arm, BaselineArm) else ""}
        result |= {"cells_per_type": run.cells_per_type, "seed": run.seed, **measured, "report": split.report}
        if is_main:
            self._file(run).parent.mkdir(parents=True, exist_ok=True)
            write_json(self._file(run), {"settings": self._settings(run), "result": result})
        return result

    def _finished(self, run: _Run) -> dict[str, Any] | None:
        """The result in the run's file, or None; ValueError where it is of other settings."""
        path = self._file(run)
        if not path.is_file():
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        before, now = content["settings"], json.loads(json.dumps(self._settings(run), default=str))
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        if changed:
            shown = "; ".join(f"{name} was {before.get(name)} and is {now.get(name)}" for name in changed)
            raise ValueError(f"{path} is of other settings: {shown}. Give those, or another output folder")
        return content["result"]

    def _settings(self, run: _Run) -> dict[str, Any]:
        options = {name: getattr(self.training, name) for name in _TRAINING} if run.is_trained else {}
        return {
            "arm": settings_of_arm(run.arm),
            "data": str(Path(self._data(run.arm)).resolve()),
            "split": vars(self.split),
            "cells": len(self.cells),
            "training": options,
            "processes": self.training.world_size if run.is_trained else 1,
        }

    def _file(self, run: _Run) -> Path:
        return self.output / "runs" / f"{run.name}.json"

    def _data(self, arm: Arm) -> str:
        return self._data_of[_key(arm)]


def _key(arm: Arm) -> tuple[str, str]:
    return arm.name, arm.modality


def _folder_of(arm: Arm, data: str | Path | None) -> str:
    folder = arm.data if arm.data is not None else data
    if folder is None:
        raise ValueError(f"arm {arm.name!r} names no data, and none are given: give the folder of `build multiome`")
    return str(folder)


def _require_distinct(arms: Sequence[Arm]) -> None:
    keys = [_key(arm) for arm in arms]
    twice = sorted({f"{name} ({modality})" for name, modality in keys if keys.count((name, modality)) > 1})
    if not arms or twice:
        raise ValueError(
            f"several arms are called {', '.join(twice)}: give each a name of its own" if twice else "there are no arms"
        )


def _require_fitting(arm: Arm, folder: MultiomeFolder) -> None:
    if isinstance(arm, ModelArm):
        require_fitting_model(arm, folder)
        return
    if arm.baseline == "multivi":
        require_multivi()
    if arm.baseline in ("logistic_regression", "pca_knn", "multivi") and not folder.cells.has_counts:
        raise ValueError(
            f"the baseline {arm.baseline} needs counts, and {folder.folder} holds bins alone: build it with counts "
            "(build multiome, keep_counts), or choose logistic_bins"
        )
