"""What a DNA model predicts for edits of one promoter, beside what it predicts for the reference.

A change of expression is log2((edited + 1) / (reference + 1)), the mean over the chosen tracks: 1 is a doubling of a
strong signal, and weak ones stay finite. DNA models that offer `incremental`, as EnformerForGeneFeatures does,
recompute only what an edit reaches.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

logger = logging.getLogger(__name__)


class Tracks(NamedTuple):
    """Which of a DNA model's predictions are read: tracks of a head, summed over the centre positions."""

    tracks: Sequence[int]
    head: str = "human"
    centre_bins: int = 3


class PromoterReader:
    """A DNA model that reads edits of one reference window.

    Args:
        dna_model: has `predicted_expression(sequences, tracks=, head=, centre_bins=) -> (sequences, tracks)`, and
            `gene_features(sequences, layer=, pool=) -> (sequences, size)` where features are asked for. It is put into
            evaluation mode.
        reference: the window, ACGTN.
        tracks: what to predict.
        batch_size: windows that go through the model together.
        progress: show a progress bar.

    Attributes:
        reference_expression: (tracks,) float64.
        noise_floor: the change of expression between the reference read as edits are and alone in a whole pass: what is
            not larger may be rounding.
    """

    def __init__(
        self, dna_model: Any, reference: str, tracks: Tracks, *, batch_size: int = 8, progress: bool = False
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: expected at least 1")
        if hasattr(dna_model, "eval"):
            dna_model.eval()  # batch statistics and dropout of training would drown what an edit changes
        self.tracks, self.batch_size, self.progress = tracks, batch_size, progress
        self.reference = reference
        alone = self._predict(dna_model, [reference])
        self._model = dna_model.incremental(reference) if hasattr(dna_model, "incremental") else dna_model
        self.reference_expression = self._predict(self._model, [reference] * batch_size)[-1]
        self.noise_floor = float(np.abs(self.change(alone))[0])

    @property
    def recomputed_share(self) -> float:
        """Share of the DNA model's convolutions that was computed; 1 for whole passes."""
        return float(getattr(self._model, "recomputed_share", 1.0))

    def change(self, expression: np.ndarray) -> np.ndarray:
        """(sequences, tracks) predictions to (sequences,) changes against the reference, log2."""
        return np.log2((expression + 1) / (self.reference_expression + 1)).mean(axis=-1)

    def expression(self, sequences: Sequence[str]) -> np.ndarray:
        """(sequences, tracks) float64."""
        return np.concatenate([self._predict(self._model, batch) for batch in self._batches(sequences)])

    def expression_and_feature_change(
        self,
        sequences: Sequence[str],
        *,
        layer: str,
        pool: Any,
        standard_deviation: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """(sequences, tracks) predictions, and (sequences,) root mean square changes of the features.

        Args:
            sequences: edits of the reference.
            layer, pool: of the features.
            standard_deviation: (size,) of each feature between genes, the unit of changes; else the features' own.
        """
        settings = {"layer": layer, "pool": pool}
        reference = self._features_and_expression([self.reference] * self.batch_size, settings)[0][-1]
        unit = 1.0 if standard_deviation is None else np.asarray(standard_deviation, dtype=np.float64)
        expression, changes = [], []
        for batch in self._batches(sequences):
            features, predicted = self._features_and_expression(batch, settings)
            expression.append(predicted)
            changes.append(np.sqrt((((features - reference) / unit) ** 2).mean(axis=1)))
        return np.concatenate(expression), np.concatenate(changes)

    def _features_and_expression(self, sequences: list[str], settings: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        if not hasattr(self._model, "features_and_expression"):
            with torch.inference_mode():
                features = self._model.gene_features(sequences, **settings)
            return _to_numpy(features), self._predict(self._model, sequences)
        with torch.inference_mode():
            features, predicted = self._model.features_and_expression(sequences, **self.tracks._asdict(), **settings)
        return _to_numpy(features), _to_numpy(predicted)

    def _predict(self, model: Any, sequences: list[str]) -> np.ndarray:
        with torch.inference_mode():
            return _to_numpy(model.predicted_expression(sequences, **self.tracks._asdict()))

    def _batches(self, sequences: Sequence[str]) -> Iterator[list[str]]:
        with tqdm(total=len(sequences), unit="window", disable=not self.progress) as bar:
            for first in range(0, len(sequences), self.batch_size):
                batch = list(sequences[first : first + self.batch_size])
                yield batch
                bar.update(len(batch))


def _to_numpy(values: Any) -> np.ndarray:
    return torch.as_tensor(values).double().cpu().numpy()
