"""What a comparison of cell type classifiers is made of: models to fine-tune or to read embeddings of, and baselines.

Source: the six rows of the thesis' table 4.3 ("Developing a Multimodal Single-Cell Foundation Model with scATAC").
Beyond it: frozen and LoRA tuning, k-nearest neighbours of frozen embeddings, and more baselines.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from .multiome_data import Modality

CellModality = Literal["rna", "atac", "both"]
Tuning = Literal["full", "frozen", "lora", "zero_shot"]
Baseline = Literal["logistic_regression", "logistic_bins", "pca_knn", "multivi", "majority"]
ClassificationHead = Literal["convolutional", "linear"]
FeatureOrder = Literal["fixed", "per_cell", "every_step"]
CELL_MODALITIES: tuple[str, ...] = get_args(CellModality)
TUNINGS: tuple[str, ...] = get_args(Tuning)
BASELINES: tuple[str, ...] = get_args(Baseline)


def modalities_of(modality: str) -> tuple[Modality, ...]:
    """The ones that a cell needs: both of "both"."""
    return ("rna", "atac") if modality == "both" else (modality,)  # type: ignore[return-value]


@dataclass(frozen=True)
class ModelArm:
    """A multiome Performer with a head for cell types, or its embeddings as they are.

    Attributes:
        name: of its rows in the tables, each once.
        modality: what cells are shown as.
        data: folder that `build multiome` wrote; the comparison's own where None. Another folder must hold the same
            cells; those that are not in all folders are left out of the whole comparison, and counted.
        model: folder or Hub repository of a pre-trained multiome Performer of the same genes; random weights where
            None.
        preset: "scbert": sizes of scBERT, for random weights; the data must be binned as "scbert".
        config: fields of `MultiomePerformerConfig`: sizes of random weights, or choices such as `pooling`.
        tuning: "full"; "frozen", the head alone (a linear probe with the linear head); "lora"; or "zero_shot", the
            k-nearest neighbours of frozen cell embeddings among the training cells, by the cosine of embeddings less
            their mean.
        classification_head: of the model; the configuration's own where None.
        class_weights: "balanced": cells / (types x cells of the type) of the training cells, or "none".
        feature_order: order in which a cell's genes are shown; the model's own where None.
        learning_rate: peak; that of the training options where None.
        lora_rank: of the adapters on queries and values.
        neighbours: of "zero_shot".

    Raises:
        ValueError: for choices that there are not, or that exclude each other.
    """

    name: str
    modality: CellModality = "rna"
    data: str | Path | None = None
    model: str | Path | None = None
    preset: Literal["scbert"] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    tuning: Tuning = "full"
    classification_head: ClassificationHead | None = None
    class_weights: Literal["balanced", "none"] = "none"
    feature_order: FeatureOrder | None = None
    learning_rate: float | None = None
    lora_rank: int = 8
    neighbours: int = 15

    def __post_init__(self) -> None:
        _require_choices(
            self,
            modality=CELL_MODALITIES,
            tuning=TUNINGS,
            preset=("scbert", None),
            classification_head=(*get_args(ClassificationHead), None),
            class_weights=("balanced", "none"),
            feature_order=(*get_args(FeatureOrder), None),
        )
        if self.preset is not None and self.model is not None:
            raise ValueError(f"arm {self.name!r}: preset and model are both given: the sizes are the model's own")
        if self.preset == "scbert" and self.modality != "rna":
            raise ValueError(f"arm {self.name!r}: scBERT reads RNA alone, and modality is {self.modality!r}")
        for name in ("lora_rank", "neighbours"):
            if getattr(self, name) < 1:
                raise ValueError(f"arm {self.name!r}: {name} is {getattr(self, name)}: expected 1 or more")


@dataclass(frozen=True)
class BaselineArm:
    """A classifier without a foundation model.

    Attributes:
        baseline: "logistic_regression" on log1p of normalised counts; "logistic_bins" on the bins that the model sees;
            "pca_knn", k-nearest neighbours of principal components of log1p counts; "multivi", logistic regression
            on the latent space of MultiVI (SCVI of RNA alone, PeakVI of ATAC alone); "majority".
        modality, data: as of `ModelArm`.
        name: of its rows in the tables; the baseline's by default.
        maximum_epochs: of MultiVI, which stops early.

    Raises:
        ValueError: for choices that there are not.
    """

    baseline: Baseline
    modality: CellModality = "rna"
    data: str | Path | None = None
    name: str = ""
    maximum_epochs: int = 200

    def __post_init__(self) -> None:
        _require_choices(self, baseline=BASELINES, modality=CELL_MODALITIES)
        if not self.name:
            object.__setattr__(self, "name", self.baseline)


Arm = ModelArm | BaselineArm


def arm_from_options(options: Mapping[str, Any]) -> Arm:
    """An arm from the keys of a YAML file: a baseline where it names one.

    Raises:
        ValueError: where keys are no options of such an arm.
    """
    kind = BaselineArm if "baseline" in options else ModelArm
    known = [one.name for one in dataclasses.fields(kind)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"unknown options of an arm: {', '.join(unknown)}; expected some of {', '.join(known)}")
    if kind is ModelArm and not options.get("name"):
        raise ValueError(f"an arm of a model has no name: {dict(options)}; give name: NAME, or baseline: NAME")
    return kind(**options)


def _require_choices(arm: Any, **choices: tuple[str | None, ...]) -> None:
    for name, known in choices.items():
        if getattr(arm, name) not in known:
            shown = ", ".join(str(one) for one in known)
            raise ValueError(f"{name} of arm {arm.name!r} is {getattr(arm, name)!r}: expected one of {shown}")
