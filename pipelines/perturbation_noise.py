"""The numerical noise floor: how far embeddings move when nothing is edited.

The same cells go through the model twice, the second time in the other order, alone instead of in pairs, and with more
padding; what differs is rounding. A shift below that says nothing about the edit.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    import pandas as pd

# Of all genes of the sampled cells, for a gene that none of them has.
QUANTILE = 0.99
MORE_PADDING = 7


class NoiseSums:
    """1 - cosine of genes and cells without an edit, gathered batch by batch and kept on the device."""

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._largest = torch.full((vocab_size,), -torch.inf, dtype=dtype, device=device)
        self._genes: list[torch.Tensor] = []
        self._cells: list[torch.Tensor] = []

    def add(self, tokens: torch.Tensor, distances: torch.Tensor, cell_distances: torch.Tensor) -> None:
        """Add genes, `tokens` and `distances` (rows,), and cells, `cell_distances` (cells,)."""
        self._largest.scatter_reduce_(0, tokens, distances.to(self._largest.dtype), "amax")
        self._genes.append(distances)
        self._cells.append(cell_distances)

    def result(self) -> "NoiseFloor":
        """The floors of all that was added."""
        genes, cells = (
            torch.cat(parts).double().cpu().numpy() if parts else np.empty(0) for parts in (self._genes, self._cells)
        )
        return NoiseFloor(self._largest.double().cpu().numpy(), genes, cells[np.isfinite(cells)])


class NoiseFloor:
    """What `NoiseSums` gathered.

    Args:
        largest: (vocabulary,) the largest 1 - cosine of each gene over the sampled cells; -inf where none has it.
        genes: (genes of all sampled cells,) 1 - cosine of each.
        cells: (sampled cells,) 1 - cosine of each cell's mean embedding.
    """

    def __init__(self, largest: np.ndarray, genes: np.ndarray, cells: np.ndarray) -> None:
        self._largest = largest
        self._genes = genes
        self._cells = cells

    @property
    def n_cells(self) -> int:
        """How many cells were sampled."""
        return len(self._cells)

    def of_genes(self, tokens: np.ndarray) -> np.ndarray:
        """(genes,) the floor of each: its largest, or the 99th percentile of all where the sample lacks it."""
        usual = np.quantile(self._genes, QUANTILE) if len(self._genes) else np.nan
        return np.where(np.isfinite(self._largest[tokens]), self._largest[tokens], usual)

    def of_cells(self) -> float:
        """The largest of the sampled cells; NaN where none was sampled."""
        return float(self._cells.max()) if len(self._cells) else float("nan")

    def summary(self) -> dict[str, Any]:
        """Of the genes of the sampled cells: how many cells, and median, 99th percentile and largest 1 - cosine."""
        if not len(self._genes):
            return {"n_cells": 0}
        median, high = np.quantile(self._genes, [0.5, QUANTILE])
        return {
            "n_cells": len(self._cells),
            "median": float(median),
            "percentile_99": float(high),
            "largest": float(self._genes.max()),
            "cell_largest": self.of_cells(),
        }


def add_noise_columns(table: "pd.DataFrame", noise: NoiseFloor) -> "pd.DataFrame":
    """The table of genes with noise_floor (1 - cosine without an edit) and above_noise (the shift is larger)."""
    floor = noise.of_genes(table["token_id"].to_numpy())
    return table.assign(noise_floor=floor, above_noise=table["shift"].to_numpy() > floor)
