"""One run of a comparison: an arm on a seed's split, trained or fitted, and tested."""

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import set_seed

from ..modeling.configuration_multiome_performer import MultiomePerformerConfig
from .cell_type_arguments import CellTypeTrainingArguments
from .cell_type_arms import BaselineArm, ModelArm, modalities_of
from .cell_type_baselines import Parts, neighbour_probabilities, predict_baseline
from .cell_type_data import IGNORED_LABEL, CellTypeCollator, CellTypeDataset, LabelledCells
from .cell_type_metric import CellTypeMetric
from .cell_type_models import balanced_weights, make_config, make_model
from .cell_type_probe import fit_linear_probe
from .cell_type_splits import Rows, SplitCells
from .cell_type_trainer import CellTypeTrainer, arguments_of_run, spread
from .multiome_data import MultiomeFolder
from .pretraining_output import last_whole_checkpoint
from .resumable_run import train_until_done_or_stopped

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]
KeepModel = Callable[[CellTypeTrainer], None]


class SplitOfFolder:
    """Cells of one split in the rows and labels that one folder's arms need.

    Args:
        folder: that the arm reads.
        rows: (cells,) int64, of all labelled cells.
        cells: all labelled cells.
        split: of these.

    Attributes:
        seen: (types,) int64, types that training cells have, ascending.
        rows, labels: of each part; labels are places in `seen`, `IGNORED_LABEL` for other types.
        types: of each part, places in `cells.type_names`.
    """

    def __init__(self, folder: MultiomeFolder, rows: Rows, cells: LabelledCells, split: SplitCells) -> None:
        self.folder, self.all_cells, self.split = folder, cells, split
        self.places = Parts(split.training, split.validation, split.test)
        self.seen = np.unique(cells.types[split.training])
        label_of = np.full(len(cells.type_names), IGNORED_LABEL)
        label_of[self.seen] = np.arange(len(self.seen))
        self.rows = Parts(*(rows[some] for some in self.places))
        self.types = Parts(*(cells.types[some] for some in self.places))
        self.labels = Parts(*(label_of[some] for some in self.types))

    @property
    def seen_names(self) -> list[str]:
        """Names of `seen`."""
        return [self.all_cells.type_names[one] for one in self.seen]

    def datasets(self, arm: ModelArm, feature_order: Any, seed: int) -> Parts:
        """A `CellTypeDataset` of each part."""
        return Parts(
            *(
                CellTypeDataset(
                    self.folder.cells,
                    rows,
                    types=types,
                    labels=labels,
                    keys=self.all_cells.keys[places],
                    modalities=modalities_of(arm.modality),
                    feature_order=feature_order,
                    seed=seed,
                )
                for rows, types, labels, places in zip(self.rows, self.types, self.labels, self.places, strict=True)
            )
        )

    def scores(self, validation: Array, test: Array) -> dict[str, Any]:
        """What the metric gives for (cells, types seen) probabilities; no `validation` without its cells."""
        metric, n_types = CellTypeMetric(self.all_cells.type_names), len(self.all_cells.type_names)
        found = {}
        for name, probabilities, types in (
            ("validation", validation, self.types.validation),
            ("test", test, self.types.test),
        ):
            if len(types):
                whole = spread(probabilities, self.seen, n_types)
                found[name] = metric.compute(predictions=whole, references=types)
        return found


def run_baseline(arm: BaselineArm, data: SplitOfFolder, *, seed: int) -> dict[str, Any]:
    """`test` and `validation` as `CellTypeMetric` gives them, `chosen` settings, `seconds`."""
    started = time.monotonic()
    predicted = predict_baseline(arm, data.folder.cells, data.rows, data.labels, n_types=len(data.seen), seed=seed)
    scores = data.scores(predicted.validation, predicted.test)
    return {**scores, "chosen": predicted.chosen, "history": [], "seconds": time.monotonic() - started}


def run_zero_shot(
    arm: ModelArm, data: SplitOfFolder, training: CellTypeTrainingArguments, *, seed: int
) -> dict[str, Any]:
    """The same, by k-nearest neighbours of the embeddings of a model that is not trained."""
    started = time.monotonic()
    set_seed(seed)
    config = make_config(arm, data.folder, data.seen_names)
    model: Any = make_model(arm, config)
    encoder = model.performer.to(training.device).eval()
    parts = data.datasets(arm, config.feature_order, seed)
    embeddings = [embed_cells(encoder, part, batch_size=training.eval_batch_size) for part in parts]
    centre = embeddings[0].mean(axis=0)  # what all cells share says nothing of their types, and hides the rest
    validation, test = neighbour_probabilities(
        embeddings[0] - centre,
        data.labels.training,
        [part - centre for part in embeddings[1:]],
        neighbours=arm.neighbours,
        metric="cosine",
        n_types=len(data.seen),
    )
    chosen = {"neighbours": min(arm.neighbours, len(data.labels.training))}
    scores = data.scores(validation, test)
    return {**scores, "chosen": chosen, "history": [], "seconds": time.monotonic() - started}


def run_model(
    arm: ModelArm,
    data: SplitOfFolder,
    training: CellTypeTrainingArguments,
    *,
    seed: int,
    folder: Path,
    keep_model: KeepModel | None = None,
) -> dict[str, Any]:
    """The same, by training; all processes take part.

    Args:
        arm: model and tuning.
        data: cells.
        training: arguments, from which those of this run follow.
        seed: of weights and batches.
        folder: for checkpoints, from which a stopped run goes on, and which are then removed.
        keep_model: takes the trainer with the best weights.

    Raises:
        KeyboardInterrupt: after Ctrl-C; with one process a checkpoint has been saved.
    """
    started = time.monotonic()
    set_seed(seed)
    n_types, labels = len(data.seen), data.labels.training
    weights = balanced_weights(labels, n_types) if arm.class_weights == "balanced" else None
    config = make_config(arm, data.folder, data.seen_names, weights)
    model: Any = make_model(arm, config)
    parts = data.datasets(arm, config.feature_order, seed)
    arguments = arguments_of_run(
        training,
        output_dir=folder,
        seed=seed,
        training_cells=len(labels),
        has_validation=len(data.rows.validation) > 0,
        learning_rate=arm.learning_rate,
    )
    trainer = CellTypeTrainer(
        model,
        arguments,
        train_dataset=parts.training,
        eval_dataset=parts.validation if len(parts.validation) else None,
        cell_types=data.all_cells.type_names,
        seen=data.seen,
        is_frozen=arm.tuning == "frozen",
    )
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    folder.mkdir(parents=True, exist_ok=True)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    chosen: dict[str, Any] = {"parameters": parameters, "trained_parameters": trained}
    if is_linear_probe(arm, config):
        encoder = trainer.accelerator.unwrap_model(trainer.model).performer.eval()
        embedded = [embed_cells(encoder, part, batch_size=arguments.eval_batch_size) for part in parts[:2]]
        embeddings = Parts(embedded[0], embedded[1], None)
        chosen |= fit_linear_probe(model.classifier.output, embeddings, data.labels, is_balanced=weights is not None)
    else:
        train_until_done_or_stopped(trainer, last_whole_checkpoint(folder))
        chosen |= _best_step(trainer)
        if learned_nothing(trainer.history):
            logger.warning(
                "arm %s learned nothing: MCC on the validation cells was 0 each time; a lower learning rate, or "
                "another seed or head, may mend it",
                arm.name,
            )
    result: dict[str, Any] = {}
    for name, part in (("validation", parts.validation), ("test", parts.test)):
        if len(part):
            trainer.predict(part, metric_key_prefix=name)
            result[name] = trainer.last_result
    if keep_model is not None:
        keep_model(trainer)
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        shutil.rmtree(folder, ignore_errors=True)
    return {**result, "chosen": chosen, "history": trainer.history, "seconds": time.monotonic() - started}


def is_linear_probe(arm: ModelArm, config: MultiomePerformerConfig) -> bool:
    """Whether a linear head is all that is trained, and so has an optimum to be solved for."""
    return arm.tuning == "frozen" and config.classification_head == "linear"


def learned_nothing(history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all validation cells were always given one type, as where no unit of the head is active any more."""
    return bool(history) and not any(entry["validation_mcc"] for entry in history)


def _best_step(trainer: CellTypeTrainer) -> dict[str, Any]:
    """The step whose weights were kept: the best on the validation cells, or the last where there are none."""
    last = trainer.state.global_step
    return {"step": trainer.state.best_global_step or last, "steps": last, "epochs": trainer.state.epoch}


@torch.no_grad()
def embed_cells(encoder: Any, dataset: CellTypeDataset, *, batch_size: int) -> npt.NDArray[np.float32]:
    """(cells, hidden) float32 of a model in evaluation mode, on its own device."""
    collator = CellTypeCollator()
    batches = []
    for first in range(0, len(dataset), batch_size):
        numbers = range(first, min(first + batch_size, len(dataset)))
        batch = collator(dataset.__getitems__(numbers))
        del batch["labels"]
        placed = {name: tensor.to(encoder.device) for name, tensor in batch.items()}
        batches.append(encoder(**placed).cell_embedding.float().cpu().numpy())
    return np.concatenate(batches) if batches else np.zeros((0, encoder.config.hidden_size), dtype=np.float32)
