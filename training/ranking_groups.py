"""Groups that rankings are resampled by: lists of one contig, or of one stretch of it, are not independent."""

from typing import Any

import numpy as np
import numpy.typing as npt

LEAST_CONTIGS = 5  # fewer say too little about how scores vary between them


def interval_groups(contigs: Any, starts: Any, block_bp: int = 1_000_000) -> npt.NDArray[np.int64]:
    """The group of each list, from 0 on: its contig where there are at least 5, else its block of the contig.

    Args:
        contigs: (lists,) names or numbers.
        starts: (lists,) first base of each list's span, 0-based, in bp.
        block_bp: length of a block.

    Returns:
        (lists,) int64, in the order of contigs' names and then of blocks.

    Raises:
        ValueError: where there is not a start a contig, or a block has no length.
    """
    names, places = np.asarray(contigs), np.asarray(starts, dtype=np.int64)
    if names.ndim != 1 or names.shape != places.shape:
        raise ValueError(f"contigs have shape {names.shape} and starts {places.shape}: expected (lists,) both")
    if block_bp < 1:
        raise ValueError(f"block_bp is {block_bp}: expected a positive number of bp")
    distinct, contig = np.unique(names, return_inverse=True)
    if len(distinct) >= LEAST_CONTIGS:
        return contig.astype(np.int64)
    _, group = np.unique(np.stack([contig, places // block_bp]), axis=1, return_inverse=True)
    return group.reshape(-1).astype(np.int64)
