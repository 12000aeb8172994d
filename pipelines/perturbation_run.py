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

from .perturbation_cell_shift import CellShifts, cell_means
from .perturbation_cells import RankedCells
from .perturbation_edits import Batch, EditedBatch, edit_batch, follow
from .perturbation_noise import MORE_PADDING, NoiseFloor, NoiseSums
from .perturbation_statistics import ShiftMoments, ShiftSums, one_minus_cosine
from .perturbation_timer import ModelTimer

Encode = Callable[[dict[str, torch.Tensor]], torch.Tensor]


class GeneEdit(NamedTuple):
    """An edit at one gene.

    Attributes:
        kind: of `perturbation_edits`.
        token_id: the gene.
        features: (F,) float32 that the gene gets; None for edits of its token.
        rank: the gene's new rank, for "set-rank".
    """

    kind: str
    token_id: int
    features: np.ndarray | None = None
    rank: int = 0


class Vocabulary(NamedTuple):
    """What the passes must know of the tokens: how many, which are special (the first ids), and two of these."""

    size: int
    num_special_tokens: int
    pad_token_id: int
    mask_token_id: int


class PerturbationRun:
    """Measures how far the embeddings of all genes move under edits, and under sham edits at other genes.

    Edits are of one gene, or of several at once: then they are made one after the other, in the order given.

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
        self._timer = ModelTimer(device)

    def model_seconds(self) -> float:
        """How long the model worked, over all passes so far."""
        return self._timer.seconds()

    @torch.inference_mode()
    def measure(
        self,
        cells: np.ndarray,
        edit: GeneEdit | Sequence[GeneEdit],
        sham_edits: Sequence[GeneEdit | Sequence[GeneEdit]],
        batch_size: int,
        *,
        cell_shifts: CellShifts | None = None,
        sham_cell_shifts: Sequence[CellShifts] = (),
        need_all: bool = True,
    ) -> tuple[ShiftMoments, list[ShiftMoments]]:
        """The moments of 1 - cosine by token, under the edit and under each sham edit.

        Args:
            cells: (cells,) int64, which cells; what an edited gene concerns is left as it is in cells that lack it.
            edit: the edit; the edited genes themselves are measured too, where they still have a token.
            sham_edits: each is made in those of the cells that have its gene; that gene itself is not measured.
            batch_size: cells a call, each once as reference and once edited.
            cell_shifts: is given the shift of each cell.
            sham_cell_shifts: one a sham edit, or none: are given the shifts of cells under it.
            need_all: a sham edit of several genes is made in cells that have all of them; else in those with any.
        """
        edits = _as_edits(edit)
        shams = [_as_edits(sham) for sham in sham_edits]
        sums = ShiftSums(self._vocabulary.size, self._device)
        sham_sums = [ShiftSums(self._vocabulary.size, self._device) for _ in shams]
        sham_cells: list[CellShifts | None] = [*sham_cell_shifts] or [None] * len(shams)
        for batch_cells in self._batches(cells, batch_size):
            batch, variants = self._batch(batch_cells)
            edited, features = self._edited(batch, variants, edits)
            states = self._states([batch, edited.batch], features)  # (2 B, G, H)
            reference = states[: len(batch_cells)]
            self._add(sums, batch, reference, edited, states[len(batch_cells) :])
            if cell_shifts is not None:
                self._add_cells(cell_shifts, batch_cells, batch, reference, edited, states[len(batch_cells) :], edits)
            for sham, sham_sum, of_cells in zip(shams, sham_sums, sham_cells, strict=True):
                self._add_sham(sham_sum, of_cells, batch_cells, batch, variants, reference, sham, need_all)
        return sums.result(), [sham_sum.result() for sham_sum in sham_sums]

    @torch.inference_mode()
    def measure_noise(self, cells: np.ndarray, batch_size: int, max_length: int) -> NoiseFloor:
        """What changes without an edit: the cells as in `measure`, and in other order, alone and with more padding.

        Args:
            cells: (cells,) int64, a sample.
            batch_size: cells a call, as in `measure`.
            max_length: the longest cell, in tokens, that the model takes.
        """
        sums = NoiseSums(self._vocabulary.size, self._device)
        none = torch.empty(0, dtype=torch.int64, device=self._device)
        n_special = self._vocabulary.num_special_tokens
        for batch_cells in self._batches(cells, batch_size):
            batch, variants = self._batch(batch_cells)
            longest = batch.input_ids.shape[1]
            other = _widened(Batch(*(tensor.flip(0) for tensor in batch)), min(MORE_PADDING, max_length - longest))
            first = self._states([batch, batch], variants)[: len(batch_cells)]
            second = self._states([other], variants).flip(0)[:, :longest]
            cell, column = self._genes_of(batch).nonzero(as_tuple=True)
            means = (cell_means(states, batch, none, n_special)[:, 0] for states in (first, second))
            distances = one_minus_cosine(first[cell, column], second[cell, column])
            sums.add(batch.input_ids[cell, column], distances, one_minus_cosine(*means))
        return sums.result()

    @torch.inference_mode()
    def mean_embedding(self, cells: np.ndarray, batch_size: int) -> torch.Tensor:
        """(H,) mean over cells of the mean embedding of their genes, unedited; cells without genes are left out."""
        total: Any = 0.0
        count: Any = 0
        none = torch.empty(0, dtype=torch.int64, device=self._device)
        for batch_cells in self._batches(cells[self._cells.lengths[cells] > 0], 2 * batch_size):
            batch, variants = self._batch(batch_cells)
            states = self._states([batch], variants)
            means = cell_means(states, batch, none, self._vocabulary.num_special_tokens)[:, 0]  # (B, H)
            known = ~means.isnan().any(dim=1, keepdim=True)
            total, count = total + torch.where(known, means, 0).sum(dim=0), count + known.sum()
        return total / count

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
        self, batch: Batch, variants: torch.Tensor | None, edits: Sequence[GeneEdit]
    ) -> tuple[EditedBatch, torch.Tensor | None]:
        """The edited batch, and the variant features with the edits' own rows last."""
        columns = torch.arange(batch.input_ids.shape[1], device=self._device).expand_as(batch.input_ids)
        edited = EditedBatch(batch, columns)
        for edit in edits:
            variant_id = -1
            if edit.features is not None:
                row = torch.from_numpy(edit.features).to(self._device).unsqueeze(0)
                variants = row if variants is None else torch.cat([variants, row])
                variant_id = len(variants) - 1
            step = edit_batch(
                edit.kind,
                edited.batch,
                edit.token_id,
                mask_token_id=self._vocabulary.mask_token_id,
                num_special_tokens=self._vocabulary.num_special_tokens,
                variant_id=variant_id,
                rank=edit.rank,
            )
            edited = follow(edited, step)
        return edited, variants

    def _states(self, batches: Sequence[Batch], variants: torch.Tensor | None) -> torch.Tensor:
        together = Batch(*(torch.cat(tensors) for tensors in zip(*batches, strict=True)))
        inputs = {"input_ids": together.input_ids, "attention_mask": together.attention_mask}
        if variants is not None and len(variants):
            inputs |= {"variant_ids": together.variant_ids, "variant_features": variants}
        return self._timer(self._encode, inputs)

    def _genes_of(self, batch: Batch) -> torch.Tensor:
        return batch.attention_mask.bool() & (batch.input_ids >= self._vocabulary.num_special_tokens)

    def _add(
        self, sums: ShiftSums, batch: Batch, reference: torch.Tensor, edited: EditedBatch, states: torch.Tensor
    ) -> None:
        """Compare each gene's embedding with that of the same gene in the edited cell, wherever it now is."""
        cell, column = (self._genes_of(batch) & (edited.place >= 0)).nonzero(as_tuple=True)
        moved = states[cell, edited.place[cell, column]]  # (tokens, H)
        sums.add(batch.input_ids[cell, column], one_minus_cosine(reference[cell, column], moved))

    def _add_cells(
        self,
        shifts: CellShifts,
        cells: np.ndarray,
        batch: Batch,
        reference: torch.Tensor,
        edited: EditedBatch,
        states: torch.Tensor,
        edits: Sequence[GeneEdit],
    ) -> None:
        tokens = self._tokens_of(edits)
        before = cell_means(reference, batch, tokens, self._vocabulary.num_special_tokens)
        shifts.add(cells, before, cell_means(states, edited.batch, tokens, self._vocabulary.num_special_tokens))

    def _add_sham(
        self,
        sums: ShiftSums,
        cell_shifts: CellShifts | None,
        batch_cells: np.ndarray,
        batch: Batch,
        variants: torch.Tensor | None,
        reference: torch.Tensor,
        sham: Sequence[GeneEdit],
        need_all: bool,
    ) -> None:
        tokens = self._tokens_of(sham)
        present = torch.isin(batch.input_ids, tokens)
        cells = (present.sum(dim=1) >= (len(sham) if need_all else 1)).nonzero().squeeze(1)
        if len(cells) == 0:
            return
        part = Batch(*(tensor[cells] for tensor in batch))
        edited, features = self._edited(part, variants, sham)
        place = edited.place.masked_fill(present[cells], -1)
        states = self._states([edited.batch], features)
        self._add(sums, part, reference[cells], edited._replace(place=place), states)
        if cell_shifts is not None:
            self._add_cells(cell_shifts, batch_cells[cells.cpu().numpy()], part, reference[cells], edited, states, sham)

    def _tokens_of(self, edits: Sequence[GeneEdit]) -> torch.Tensor:
        return torch.tensor([edit.token_id for edit in edits], device=self._device)


def _as_edits(edit: GeneEdit | Sequence[GeneEdit]) -> list[GeneEdit]:
    return [edit] if isinstance(edit, GeneEdit) else list(edit)


def _widened(batch: Batch, columns: int) -> Batch:
    """With so many columns of padding more."""
    padded = (
        torch.nn.functional.pad(tensor, (0, max(columns, 0)), value=value)
        for tensor, value in zip(batch, (0, 0, -1), strict=True)
    )
    return Batch(*padded)
