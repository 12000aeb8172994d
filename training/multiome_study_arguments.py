"""What a study of the multiome Performer can be told: the flags of run_multiome_studies.py, and YAML of its runs."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from transformers import HfArgumentParser

from .cell_type_arguments import CellTypeTrainingArguments
from .encoder_arguments import option
from .multiome_pretraining_arguments import MultiomeDataArguments, MultiomeModelArguments, MultiomePretrainingArguments
from .multiome_studies import STUDIES
from .pretraining_arguments import parse_yaml_and_flags, read_yaml

_SET_FOR_PRETRAINING = (
    *("data", "output_dir", "seed", "resume", "resume_from_checkpoint", "model", "model_revision"),
    *("feature_order", "kinds", "kind_weights", "split_paired", "preset"),
)
_SET_FOR_CLASSIFICATION = ("output_dir", "seed", "resume")


@dataclass
class StudyArguments:
    """What is studied, and on what."""

    study: Literal["feature-order", "binning", "modality"] | None = option(None, f"{', '.join(STUDIES)} (required)")
    data: list[str] = field(
        default_factory=list,
        metadata={
            "help": "folder that `build multiome` wrote, of cells with types; for binning one a strategy (required)"
        },
    )
    output_dir: str | None = option(None, "folder for runs, tables and figures (required); a stopped study goes on")
    pretraining_data: list[str] = field(
        default_factory=list,
        metadata={"help": "folders to pre-train on, of the same genes and bins, in the order of data; data by default"},
    )
    scbert_data: str | None = option(None, "for modality: the cells of data, binned as scbert; no such row by default")
    scbert_pretraining_data: str | None = option(None, "folder to pre-train scBERT on; scbert_data by default")
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2, 3, 4], metadata={"help": "of splits and of trainings on cell types"}
    )
    pretrain_each_seed: bool = option(
        False, "pre-train anew with every seed, so that intervals hold its spread too; with the first one by default"
    )
    cells_per_type: list[int] = field(
        default_factory=list, metadata={"help": "training cells of each type, several compared; all by default"}
    )
    split_by: Literal["cell", "donor", "batch", "dataset"] = option("cell", "what whole ones are held out of")
    rare_classes: Literal["error", "drop"] = option("error", "what becomes of types with a single cell")
    pretraining_config: str | None = option(None, "YAML file of options of run_multiome_pretraining.py")
    classification_config: str | None = option(None, "YAML file of training options of run_cell_type_classification.py")
    launcher: str | None = option(
        None, 'command that runs a module, for example "torchrun --nproc-per-node=4"; this Python by default'
    )

    def __post_init__(self) -> None:
        missing = [name for name in ("study", "data", "output_dir") if not getattr(self, name)]
        if missing:
            raise ValueError(f"{', '.join(missing)} not set: give {', '.join(f'--{name}' for name in missing)}")
        if self.study not in STUDIES:
            raise ValueError(f"study is {self.study!r}: expected one of {', '.join(STUDIES)}")
        if self.study != "binning" and len(self.data) > 1:
            raise ValueError(f"data are {', '.join(self.data)}: the study of {self.study} takes one folder")
        if self.pretraining_data and len(self.pretraining_data) != len(self.data):
            raise ValueError(
                f"pretraining_data are {len(self.pretraining_data)} folders and data {len(self.data)}: expected one "
                "for each, in the same order"
            )
        if self.study != "modality" and (self.scbert_data or self.scbert_pretraining_data):
            raise ValueError(f"scBERT is compared in the study of modality, and study is {self.study}")
        if self.scbert_pretraining_data and not self.scbert_data:
            raise ValueError("scbert_pretraining_data is given without scbert_data, which scBERT is fine-tuned on")
        for name in ("seeds", "cells_per_type"):
            values = getattr(self, name)
            if len(set(values)) < len(values) or (name == "seeds" and not values):
                raise ValueError(f"{name} are {values}: expected at least one, each once")


class StudyOptions(NamedTuple):
    """Options of all runs of a kind.

    Attributes:
        pretraining: of run_multiome_pretraining.py, as its YAML file has them.
        classification: of trainings on cell types.
    """

    pretraining: dict[str, Any]
    classification: CellTypeTrainingArguments


def parse_study_arguments(arguments: Sequence[str] | None = None) -> StudyArguments:
    """The flags."""
    (parsed,) = HfArgumentParser(StudyArguments).parse_args_into_dataclasses(arguments)  # type: ignore[arg-type]
    return parsed


def read_study_options(arguments: StudyArguments) -> StudyOptions:
    """The YAML files of both kinds of runs.

    Trainings of the study of feature order do not stop early unless told to: its figure shows what comes after.

    Raises:
        FileNotFoundError: where a file does not exist.
        ValueError: where it has keys that are no options, or that the study sets itself.
    """
    kinds = (MultiomeModelArguments, MultiomeDataArguments, MultiomePretrainingArguments)
    pretraining = _options(arguments.pretraining_config, kinds, _SET_FOR_PRETRAINING)
    given = _options(arguments.classification_config, (CellTypeTrainingArguments,), _SET_FOR_CLASSIFICATION)
    file = [] if arguments.classification_config is None else [arguments.classification_config]
    output = str(Path(str(arguments.output_dir)) / "cell_types")
    (training,) = parse_yaml_and_flags((CellTypeTrainingArguments,), [*file, "--output_dir", output])
    if arguments.study == "feature-order" and "early_stopping_patience" not in given:
        training.early_stopping_patience = None
    return StudyOptions(pretraining, training)


def _options(path: str | None, kinds: tuple[type, ...], set_here: Sequence[str]) -> dict[str, Any]:
    if path is None:
        return {}
    options = read_yaml(Path(path))
    known = {one.name for kind in kinds for one in dataclasses.fields(kind)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ValueError(f"unknown options in {path}: {', '.join(unknown)}")
    taken = sorted(set(options) & set(set_here))
    if taken:
        raise ValueError(f"{path} sets {', '.join(taken)}, which the study sets for each run: leave them out")
    return options
