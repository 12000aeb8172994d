"""The studies of the multiome Performer: what is pre-trained and compared in each, and its tables.

Source: "Developing a Multimodal Single-Cell Foundation Model with scATAC", chapter 4: the order of features (section
4.4.1, figure 4.3), strategies of binning (figure B.5) and modalities (tables 4.2 and 4.3). Beyond it: several seeds,
intervals, differences paired by seed, logistic regression beside every study, and cell types scored for each binning.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from .cell_type_arms import Arm, BaselineArm, FeatureOrder, ModelArm
from .encoder_comparison import mean_and_interval
from .multiome_data import MODALITIES, MultiomeFolder

Study = Literal["feature-order", "binning", "modality"]
STUDIES: tuple[Study, ...] = get_args(Study)
SCORES = ("accuracy", "mcc", "weighted_f1", "macro_f1")  # the thesis' F1 is the weighted one
LOGISTIC_RNA, LOGISTIC_BOTH = "Logistic Regression (scRNA)", "Logistic Regression (multiome)"
ORDER_TITLES: dict[FeatureOrder, str] = {
    "fixed": "fixed for all cells",
    "per_cell": "randomized initially",
    "every_step": "randomized every time",
}
# Cells with both modalities serve either way, so that both regimes see the same RNA.
RNA_ONLY: dict[str, Any] = {"kinds": ["rna"], "split_paired": "always"}
MIXED: dict[str, Any] = {"kinds": ["rna", "atac", "both"], "split_paired": "always"}
_ROWS_AT_A_TIME = 4_096


@dataclass(frozen=True)
class Pretraining:
    """A model that arms begin from.

    Attributes:
        name: of its folder.
        data: folder that `build multiome` wrote.
        options: of run_multiome_pretraining.py, which the study sets.
    """

    name: str
    data: str
    options: Mapping[str, Any] = field(default_factory=dict)


class StudyArm(NamedTuple):
    """One row of a study's table.

    Attributes:
        arm: whose model, where it has one, is the pre-trained one.
        pretraining: None of baselines.
    """

    arm: Arm
    pretraining: Pretraining | None = None

    def with_model(self, model: str | None) -> Arm:
        """With the weights of a folder, of arms that have any."""
        return self.arm if isinstance(self.arm, BaselineArm) else dataclasses.replace(self.arm, model=model)


class StudyData(NamedTuple):
    """Folders that `build multiome` wrote: cells with types, and those that models are pre-trained on.

    Attributes:
        labelled: to fine-tune and test on.
        pretraining: may be the same.
        strategy: of their bins.
    """

    labelled: str
    pretraining: str
    strategy: str


def feature_order_arms(data: StudyData) -> list[StudyArm]:
    """RNA alone, pre-trained and fine-tuned in each of three orders; the fixed one first."""
    arms = [StudyArm(BaselineArm("logistic_regression", "rna", data.labelled, LOGISTIC_RNA))]
    for order, title in ORDER_TITLES.items():
        pretraining = Pretraining(f"feature_order_{order}", data.pretraining, {**RNA_ONLY, "feature_order": order})
        arms.append(StudyArm(ModelArm(title, "rna", data.labelled, feature_order=order), pretraining))
    return arms


def binning_arms(data: Sequence[StudyData]) -> list[StudyArm]:
    """RNA alone, pre-trained and fine-tuned on each binning of the same cells; logistic regression on each too.

    Raises:
        ValueError: where two folders have the same strategy, or there is one alone.
    """
    strategies = [one.strategy for one in data]
    if len(set(strategies)) < max(len(strategies), 2):
        folders = ", ".join(f"{one.labelled} ({one.strategy})" for one in data)
        raise ValueError(f"binnings to compare are {folders}: expected two folders or more, each binned otherwise")
    arms = [StudyArm(BaselineArm("logistic_regression", "rna", data[0].labelled, LOGISTIC_RNA))]
    for one in data:
        arms.append(StudyArm(BaselineArm("logistic_bins", "rna", one.labelled, f"Logistic Regression, {one.strategy}")))
        pretraining = Pretraining(f"binning_{one.strategy}", one.pretraining, RNA_ONLY)
        arms.append(StudyArm(ModelArm(f"multiome Performer, {one.strategy}", "rna", one.labelled), pretraining))
    return arms


def modality_arms(data: StudyData, scbert: StudyData | None) -> list[StudyArm]:
    """The six rows of table 4.3; five where no folder is binned as scBERT bins.

    Raises:
        ValueError: where the folder for scBERT is binned otherwise.
    """
    if scbert is not None and scbert.strategy != "scbert":
        raise ValueError(f"{scbert.labelled} is binned as {scbert.strategy}: scBERT needs cells binned as scbert")
    rna_only = Pretraining("modality_rna", data.pretraining, RNA_ONLY)
    mixed = Pretraining("modality_mixed", data.pretraining, MIXED)
    arms = [
        StudyArm(BaselineArm("logistic_regression", "rna", data.labelled, LOGISTIC_RNA)),
        StudyArm(BaselineArm("logistic_regression", "both", data.labelled, LOGISTIC_BOTH)),
        StudyArm(ModelArm("multiome Performer (scRNA)", "rna", data.labelled), rna_only),
        StudyArm(ModelArm("multiome Performer (mixed & scRNA)", "rna", data.labelled), mixed),
        StudyArm(ModelArm("multiome Performer (mixed & multiome)", "both", data.labelled), mixed),
    ]
    if scbert is not None:
        pretraining = Pretraining("modality_scbert", scbert.pretraining, {**RNA_ONLY, "preset": "scbert"})
        arms.insert(2, StudyArm(ModelArm("scBERT", "rna", scbert.labelled), pretraining))
    return arms


def summary_table(results: pd.DataFrame, reference: str) -> pd.DataFrame:
    """A row an arm and number of cells a type: scores over seeds, and the difference in MCC to the reference.

    Args:
        results: as `CellTypeComparison.results`.
        reference: arm that differences are to, of the same seed and number of cells.

    Returns:
        `method`, `modality`, `cells_per_type`, `seeds`, of each of SCORES the mean over seeds and `_low` and `_high` of
        its 95 % interval by Student's t, and the same of `mcc_difference`; in the order of `results`.

    Raises:
        ValueError: where the reference has no results.
    """
    if reference not in set(results["method"]):
        raise ValueError(f"no results of {reference!r}, which others are compared with")
    few = few_cells(results)
    of_reference = results[results["method"] == reference]
    references = pd.Series(of_reference["mcc"].to_numpy(), index=[few[of_reference.index], of_reference["seed"]])
    rows = []
    for (method, modality, number), part in results.groupby(["method", "modality", few], sort=False):
        row = {"method": method, "modality": modality, "cells_per_type": number or None, "seeds": len(part)}
        for score in SCORES:
            row |= _spread(score, part[score])
        pairs = references.reindex(pd.MultiIndex.from_arrays([[number] * len(part), part["seed"]]))
        rows.append(row | _spread("mcc_difference", part["mcc"].to_numpy() - pairs.to_numpy()))
    return pd.DataFrame(rows).astype({"cells_per_type": "Int64"})


def few_cells(table: pd.DataFrame) -> pd.Series:
    """`cells_per_type` as integers, 0 where all cells were used."""
    return pd.to_numeric(table["cells_per_type"]).fillna(0).astype(int)


def training_curves(results: pd.DataFrame, runs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row an evaluation of each model: `method`, `cells_per_type`, `seed`, and what its history holds."""
    tables = []
    for (_, row), run in zip(results.iterrows(), runs, strict=True):
        if run.get("history"):
            table = pd.DataFrame(run["history"])
            for place, name in enumerate(("method", "cells_per_type", "seed")):
                table.insert(place, name, row[name])
            tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def bin_occupancy(folder: MultiomeFolder) -> pd.DataFrame:
    """A row a modality and bin: `strategy`, `modality`, `bin` (0 for zero), `values`, and their `share_of_nonzero`."""
    tables = []
    for modality in MODALITIES:
        bins = folder.feature_extractor.get(f"{modality}_bins")
        rows = np.flatnonzero(folder.cells.has(modality))
        if bins is None or not len(rows):
            continue
        counts = np.zeros(int(bins["num_bins"]) + 1, dtype=np.int64)
        for first in range(0, len(rows), _ROWS_AT_A_TIME):
            values = folder.cells.values(rows[first : first + _ROWS_AT_A_TIME], modality)
            counts += np.bincount(values.ravel(), minlength=len(counts))
        share = counts / max(counts[1:].sum(), 1)
        share[0] = np.nan
        table = {"bin": np.arange(len(counts)), "values": counts, "share_of_nonzero": share}
        tables.append(pd.DataFrame({"strategy": bins["strategy"], "modality": modality, **table}))
    return pd.concat(tables, ignore_index=True)


def _spread(name: str, values: Any) -> dict[str, float | None]:
    known = [None if np.isnan(value) else float(value) for value in np.asarray(values, dtype=float)]
    interval = mean_and_interval(known)
    return {name: interval["mean"], f"{name}_low": interval["low"], f"{name}_high": interval["high"]}
