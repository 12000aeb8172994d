"""Batches of cells whose values are masked, or of which a whole modality is missing.

Source: "Developing a Multimodal Single-Cell Foundation Model with scATAC", section 4.3.2: non-zero values are masked
and predicted. Which share the thesis leaves open; 15 %, of which 90 % become the mask and 10 % stay, is scBERT's (Yang
et al. 2022). Beyond both: zeros are masked too if asked, and of a cell with both modalities one may be missing as a
whole, with its values as labels, which is what imputation asks of the model. What is masked is a hash of seed, epoch,
step, cell and gene, whatever the batch, the process, or the order of the genes.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch

from .collators import IGNORED_LABEL
from .hashed_randomness import hashed, keys_of, uniform
from .modality_sampler import Kind
from .multiome_data import MODALITIES, Modality

FeatureOrder = Literal["fixed", "per_cell", "every_step"]
_MISSING, _GENES, _ORDER = 101, 102, 103  # purposes of random numbers; those of masks are 0 and 1, the modalities


class CellBatch(NamedTuple):
    """Cells of one kind.

    Attributes:
        rows: (cells,) int64, of the folder.
        kind: what is read of the cells.
        values: modality -> (cells, genes) uint8 bins.
        epoch, step: of the draw; 0 in evaluation.
        missing: the modality whose values are labels only; None where the collator decides.
        counted_as: number of the evaluation that the batch counts in, -1 where in none; None in training.
    """

    rows: npt.NDArray[np.int64]
    kind: Kind
    values: dict[Modality, npt.NDArray[np.uint8]]
    epoch: int = 0
    step: int = 0
    missing: Modality | None = None
    counted_as: int | None = None


@dataclass
class MultiomeMaskingCollator:
    """A `CellBatch` to the model's inputs and labels.

    Attributes:
        mask_value_id: value of a masked gene.
        mask_share: share of the non-zero values that is masked; at least one in each cell that has any.
        mask_replace_share: share of those that become `mask_value_id`; the rest stay, and are predicted all the same.
        zero_share: share of the zeros that is masked too. A model that never saw one cannot predict a zero.
        missing_modality_share: share of the batches of both modalities that are given one of them, each as often, with
            no value masked; the labels are the other's values.
        missing_labels: of a missing modality: `balanced`, the non-zero values and about as many zeros a cell; or `all`.
        feature_order: `fixed`, genes in the folder's order; `per_cell`, in one order a cell; `every_step`, anew.
        genes_per_step: use so many genes, drawn anew each step and the same for all its cells; None for all.
        seed: of all that is random.

    Raises:
        ValueError: where a share is not one.
    """

    mask_value_id: int
    mask_share: float = 0.15
    mask_replace_share: float = 0.9
    zero_share: float = 0.0
    missing_modality_share: float = 0.0
    missing_labels: Literal["balanced", "all"] = "balanced"
    feature_order: FeatureOrder = "fixed"
    genes_per_step: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.mask_share <= 1:
            raise ValueError(f"mask_share is {self.mask_share}: the share of masked values is above 0, up to 1")
        for name in ("mask_replace_share", "zero_share", "missing_modality_share"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is {share}: expected a share, 0 to 1")
        if self.genes_per_step is not None and self.genes_per_step < 1:
            raise ValueError(f"genes_per_step is {self.genes_per_step}: expected a positive number, or none for all")

    def for_evaluation(self) -> Self:
        """The same masks; all genes in their order; a modality is missing only where the batch says so."""
        return replace(self, missing_modality_share=0.0, feature_order="fixed", genes_per_step=None)

    def __call__(self, batch: CellBatch) -> dict[str, torch.Tensor]:
        """To tensors.

        Returns:
            `rna_values`, `atac_values`, (cells, n) uint8, of the modalities that are given; `rna_labels`,
            `atac_labels`, (cells, n) int64, -100 where no value is to be predicted; `gene_positions`, (n,) or
            (cells, n) int64, unless all genes are in their order; `counted_as`, (1,) int64, in evaluation.
        """
        n_genes = next(iter(batch.values.values())).shape[1]
        positions = self._gene_positions(batch, n_genes)
        missing = batch.missing or self._missing(batch)
        tensors: dict[str, npt.NDArray[np.uint8 | np.int64]] = {}
        for number, modality in enumerate(MODALITIES):
            if modality not in batch.values:
                continue
            bins = _at(batch.values[modality], positions)
            genes = np.arange(n_genes) if positions is None else positions
            keys = keys_of(batch.rows, self.seed, batch.epoch, batch.step, number)
            if missing is None:
                values, labels = self._masked(bins, genes, keys)
                tensors |= {f"{modality}_values": values, f"{modality}_labels": labels}
            elif modality == missing:
                tensors[f"{modality}_labels"] = self._labels_of_missing(bins, genes, keys)
            else:
                tensors[f"{modality}_values"] = bins
        if positions is not None:
            tensors["gene_positions"] = positions
        if batch.counted_as is not None:
            tensors["counted_as"] = np.array([batch.counted_as])
        return {name: torch.from_numpy(array) for name, array in tensors.items()}

    def label_rates(self, bin_counts: npt.NDArray[np.int64], *, is_missing: bool) -> npt.NDArray[np.float64]:
        """How likely a value is a label, by its bin, 0 for zero: (bins + 1,).

        Args:
            bin_counts: (genes, bins + 1), of the cells.
            is_missing: of a missing modality, in place of masked values.
        """
        zeros, others = bin_counts[:, 0].sum(), bin_counts[:, 1:].sum()
        rates = np.full(bin_counts.shape[1], 1.0 if is_missing else self.mask_share)
        if not is_missing:
            rates[0] = self.zero_share
        elif self.missing_labels == "balanced":
            rates[0] = min(others / max(zeros, 1), 1.0)
        return rates

    def _gene_positions(self, batch: CellBatch, n_genes: int) -> npt.NDArray[np.int64] | None:
        positions = None
        if self.genes_per_step is not None and self.genes_per_step < n_genes:
            keys = keys_of(np.arange(n_genes), self.seed, batch.epoch, batch.step, _GENES)
            positions = np.sort(np.argpartition(keys, self.genes_per_step)[: self.genes_per_step])
        if self.feature_order == "fixed":
            return positions
        drawn = (
            (self.seed, _ORDER) if self.feature_order == "per_cell" else (self.seed, batch.epoch, batch.step, _ORDER)
        )
        genes = np.arange(n_genes) if positions is None else positions
        keys = keys_of(batch.rows, *drawn)
        return genes[np.argsort(hashed(keys[:, None] + genes.astype(np.uint64)), axis=1)]

    def _missing(self, batch: CellBatch) -> Modality | None:
        if len(batch.values) < len(MODALITIES):
            return None
        draw, which = uniform(keys_of(np.arange(2), self.seed, batch.epoch, batch.step, _MISSING))
        return MODALITIES[int(which < 0.5)] if draw < self.missing_modality_share else None

    def _masked(
        self, bins: npt.NDArray[np.uint8], genes: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Bins (cells, n), genes (n,) or (cells, n), keys (cells,) -> values that the model sees, and labels."""
        places = np.flatnonzero(bins)
        cells, draws = _draws(places, genes, keys)
        chosen = uniform(draws) < self.mask_share
        chosen |= _lowest_of_cells_without(chosen, uniform(draws), cells)
        places, draws = places[chosen], draws[chosen]
        if self.zero_share:
            zeros = np.flatnonzero(bins == 0)
            _, of_zeros = _draws(zeros, genes, keys)
            is_masked = uniform(of_zeros) < self.zero_share
            places, draws = (
                np.concatenate([places, zeros[is_masked]]),
                np.concatenate([draws, of_zeros[is_masked]]),
            )
        values, labels = bins.copy(), _labels(bins, places)
        values.ravel()[places[uniform(hashed(draws)) < self.mask_replace_share]] = self.mask_value_id
        return values, labels

    def _labels_of_missing(
        self, bins: npt.NDArray[np.uint8], genes: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.int64]:
        if self.missing_labels == "all":
            return bins.astype(np.int64)
        others = np.flatnonzero(bins)
        zeros = np.flatnonzero(bins == 0)
        cells, draws = _draws(zeros, genes, keys)
        n_others = np.count_nonzero(bins, axis=1)
        share = n_others / np.maximum(bins.shape[1] - n_others, 1)
        return _labels(bins, np.concatenate([others, zeros[uniform(draws) < share[cells]]]))


def _at(bins: npt.NDArray[np.uint8], positions: npt.NDArray[np.int64] | None) -> npt.NDArray[np.uint8]:
    if positions is None:
        return bins
    return bins[:, positions] if positions.ndim == 1 else np.take_along_axis(bins, positions, axis=1)


def _draws(
    places: npt.NDArray[np.int64], genes: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """Of flat places in (cells, n): their cells, and random integers that depend on cell and gene alone."""
    cells, columns = np.divmod(places, genes.shape[-1])
    gene = genes[columns] if genes.ndim == 1 else genes.ravel()[places]
    return cells, hashed(keys[cells] + gene.astype(np.uint64))


def _lowest_of_cells_without(
    chosen: npt.NDArray[np.bool_], draw: npt.NDArray[np.float64], cells: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Of places (places,), sorted by cell: where the lowest draw of each cell is that has none chosen."""
    if not len(cells):
        return chosen
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    lengths = np.diff(np.append(starts, len(cells)))
    lowest = np.where(np.logical_or.reduceat(chosen, starts), -1.0, np.minimum.reduceat(draw, starts))
    return draw == np.repeat(lowest, lengths)


def _labels(bins: npt.NDArray[np.uint8], places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    labels = np.full(bins.shape, IGNORED_LABEL, dtype=np.int64)
    labels.ravel()[places] = bins.ravel()[places]
    return labels
