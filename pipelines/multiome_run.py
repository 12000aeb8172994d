"""Aligned cells through a multiome model, batch by batch.

A cell without any count of a modality was not measured in it as far as the model can tell: it goes through the other
modality's path alone. Cells without a count in any are not run.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from .aligned_cells import MODALITIES, MultiomeCells

CELLS_A_BLOCK = 1024


def value_batches(
    cells: MultiomeCells,
    feature_extractor: Any,
    *,
    batch_size: int,
    modalities: tuple[str, ...] = MODALITIES,
    progress: bool = False,
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Binned values, a batch at a time; all cells of a batch have the same modalities.

    Args:
        cells: to run.
        feature_extractor: that bins them.
        batch_size: cells a batch.
        modalities: that the model is given.
        progress: show a progress bar, in cells.

    Yields:
        (batch,) int64 places of the cells, ascending, and `rna_values` and `atac_values`, (batch, genes) uint8, of the
        modalities that they have.
    """
    groups = cells_by_modalities(cells, modalities)
    with tqdm(total=sum(map(len, groups.values())), unit="cell", desc="cells", disable=not progress) as bar:
        for present, places in groups.items():
            for first in range(0, len(places), CELLS_A_BLOCK):
                block = places[first : first + CELLS_A_BLOCK]
                binned = feature_extractor(**{name: cells.counts[name][block] for name in present})
                for start in range(0, len(block), batch_size):
                    chosen = slice(start, start + batch_size)
                    names = [f"{name}_values" for name in present]
                    yield block[chosen], {name: np.asarray(binned[name])[chosen] for name in names}
                    bar.update(len(block[chosen]))


def cells_by_modalities(
    cells: MultiomeCells, modalities: tuple[str, ...] = MODALITIES
) -> dict[tuple[str, ...], np.ndarray]:
    """Modalities that cells have values of -> (cells,) int64 places of these cells; without those that have none."""
    has = {name: cells.has_values(name) for name in modalities if name in cells.counts}
    codes = sum((values.astype(int) << bit for bit, values in enumerate(has.values())), np.zeros(len(cells), int))
    groups = {}
    for code in range(2 ** len(has) - 1, 0, -1):
        present = tuple(name for bit, name in enumerate(has) if code >> bit & 1)
        if (codes == code).any():
            groups[present] = np.flatnonzero(codes == code)
    return groups


def gather(
    cells: MultiomeCells,
    batches: Iterator[tuple[np.ndarray, dict[str, np.ndarray]]],
    predict: Callable[[dict[str, np.ndarray]], np.ndarray],
    width: int,
) -> np.ndarray:
    """(cells, width) float32 of what `predict` says of each batch, NaN for cells that were not run."""
    found = np.full((len(cells), width), np.nan, dtype=np.float32)
    for places, values in batches:
        found[places] = predict(values)
    return found


def count_cells(cells: MultiomeCells, modalities: tuple[str, ...] = MODALITIES) -> dict[str, Any]:
    """For a result's summary: cells, and how many have values of what."""
    groups = cells_by_modalities(cells, modalities)
    return {
        "cells": len(cells),
        "cells_with_values_of": {" and ".join(present): len(places) for present, places in groups.items()},
        "cells_without_any_value": len(cells) - sum(map(len, groups.values())),
    }
