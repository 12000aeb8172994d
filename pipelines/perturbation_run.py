"""The passes through the model: reference and edited cells in one call, compared gene by gene, summed on the device.

Cells are batched by length, longest first, so that padding is little and a batch that does not fit fails at once. Sums
do not depend on the order of the cells, but for rounding.
Shapes: B cells, G tokens a cell, H hidden, F features a gene.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from .perturbation_cells import RankedCells
from .perturbation_edits import Batch, EditedBatch, edit_batch
from .perturbation_statistics import ShiftMoments, ShiftSums, one_minus_cosine

Encode = Callable[[dict[str, torch.Tensor]], torch.Tensor]


class GeneEdit(NamedTuple):
    """An edit at one gene.

    Attributes:
        kind: of `perturbation_edits`.
        token_id: the gene.
        features: (F,) float32 that the gene gets; None for edits of its token.
    """

    kind: str
    token_id: int
    features: np.ndarray | None = None


class Vocabulary(NamedTuple):
    """What the passes must know of the tokens: how many, which are special (the first ids), and two of these."""

    size: int
    num_special_tokens: int
    pad_token_id: int
    mask_token_id: int


class PerturbationRun:
    """Measures how far the embeddings of all genes move under an edit, and under sham edits at other genes.

    Args:
        encode: model inputs -> (B, G, H) embeddings.
        cells: all cells.
        vocabulary: of the model.
        device: of the model.
        progress: show a progress bar over the batches.
    """

    def __init__(
        self,
        encode: Encode,
        cells: RankedCells,
        vocabulary: Vocabulary,
        device: torch.device,
        *,
        progress: bool = False,
    ) -> None:
        self._encode = encode
        self._cells = cells
        self._vocabulary = vocabulary
        self._device = device
        self._progress = progress

    @torch.inference_mode()
    def measure(
        self, cells: np.ndarray, edit: GeneEdit, sham_edits: Sequence[GeneEdit], batch_size: int
    ) -> tuple[ShiftMoments, list[ShiftMoments]]:
        """The moments of 1 - cosine by token, under the edit and under each sham edit.

        Args:
            cells: (cells,) int64, which cells; each must have the edited gene.
            edit: the edit; the edited gene itself is measured too, where it still has a token.
            sham_edits: each is made in those of the cells that have its gene; that gene itself is not measured.
            batch_size: cells a call, each once as reference and once edited.
        """
        sums = ShiftSums(self._vocabulary.size, self._device)
        sham_sums = [ShiftSums(self._vocabulary.size, self._device) for _ in sham_edits]
        for batch_cells in self._batches(cells, batch_size):
            batch, variants = self._batch(batch_cells)
            edited, features = self._edited(batch, variants, edit)
            states = self._states([batch, edited.batch], features)  # (2 B, G, H)
            reference = states[: len(batch_cells)]
            self._add(sums, batch, reference, edited, states[len(batch_cells) :])
            for sham, sham_sum in zip(sham_edits, sham_sums, strict=True):
                self._add_sham(sham_sum, batch, variants, reference, sham)
        return sums.result(), [sham_sum.result() for sham_sum in sham_sums]

    def _batches(self, cells: np.ndarray, batch_size: int) -> Any:
        by_length = cells[np.argsort(-self._cells.lengths[cells], kind="stable")]
        batches = [by_length[start : start + batch_size] for start in range(0, len(cells), batch_size)]
        return transformers_logging.tqdm(batches, desc="perturbing cells", unit="batch", disable=not self._progress)

    def _batch(self, cells: np.ndarray) -> tuple[Batch, torch.Tensor | None]:
        """The reference's tokens (B, G), and the variant features (n, F) that they refer to."""
        input_ids, attention_mask, variant_ids = self._cells.padded(cells, self._vocabulary.pad_token_id)
        variants = None
        if self._cells.variant_features is not None:
            present, local = np.unique(variant_ids, return_inverse=True)
            absent = int(present[0] == -1)  # the reference's -1 sorts first and stays -1
            variant_ids = local.reshape(variant_ids.shape) - absent
            variants = torch.from_numpy(self._cells.variant_features[present[absent:]]).to(self._device)
        tensors = (torch.from_numpy(array).to(self._device) for array in (input_ids, attention_mask, variant_ids))
        return Batch(*tensors), variants

    def _edited(
        self, batch: Batch, variants: torch.Tensor | None, edit: GeneEdit
    ) -> tuple[EditedBatch, torch.Tensor | None]:
        """The edited batch, and the variant features with the edit's own row last."""
        variant_id = -1
        if edit.features is not None:
            row = torch.from_numpy(edit.features).to(self._device).unsqueeze(0)
            variants = row if variants is None else torch.cat([variants, row])
            variant_id = len(variants) - 1
        edited = edit_batch(
            edit.kind,
            batch,
            edit.token_id,
            mask_token_id=self._vocabulary.mask_token_id,
            num_special_tokens=self._vocabulary.num_special_tokens,
            variant_id=variant_id,
        )
        return edited, variants

    def _states(self, batches: Sequence[Batch], variants: torch.Tensor | None) -> torch.Tensor:
        together = Batch(*(torch.cat(tensors) for tensors in zip(*batches, strict=True)))
        inputs = {"input_ids": together.input_ids, "attention_mask": together.attention_mask}
        if variants is not None and len(variants):
            inputs |= {"variant_ids": together.variant_ids, "variant_features": variants}
        return self._encode(inputs)

    def _add(
        self, sums: ShiftSums, batch: Batch, reference: torch.Tensor, edited: EditedBatch, states: torch.Tensor
    ) -> None:
        """Compare each gene's embedding with that of the same gene in the edited cell, wherever it now is."""
        is_gene = batch.attention_mask.bool() & (batch.input_ids >= self._vocabulary.num_special_tokens)
        cell, column = (is_gene & (edited.place >= 0)).nonzero(as_tuple=True)
        moved = states[cell, edited.place[cell, column]]  # (tokens, H)
        sums.add(batch.input_ids[cell, column], one_minus_cosine(reference[cell, column], moved))

    def _add_sham(
        self, sums: ShiftSums, batch: Batch, variants: torch.Tensor | None, reference: torch.Tensor, sham: GeneEdit
    ) -> None:
        cells = (batch.input_ids == sham.token_id).any(dim=1).nonzero().squeeze(1)
        if len(cells) == 0:
            return
        part = Batch(*(tensor[cells] for tensor in batch))
        edited, features = self._edited(part, variants, sham)
        place = edited.place.masked_fill(part.input_ids == sham.token_id, -1)
        states = self._states([edited.batch], features)
        self._add(sums, part, reference[cells], edited._replace(place=place), states)
