"""Random numbers that are a function of what they are for: seed, epoch, cell, place.

A generator's state depends on who drew before; a hash does not, so a mask is the same on any process or data loader
worker, and after a run was stopped and resumed.
"""

import numpy as np
import numpy.typing as npt


def hashed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64 (Steele et al. 2014): neighbouring integers become independent random ones."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def uniform(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Random integers to [0, 1), from their upper 53 bits."""
    return (values >> np.uint64(11)).astype(np.float64) * 2.0**-53


def keys_of(rows: npt.NDArray[np.int64], *numbers: int) -> npt.NDArray[np.uint64]:
    """(rows,) what a row's random numbers are hashed from, given the other numbers; far apart, to add places to."""
    keys = np.zeros(len(rows), dtype=np.uint64)
    for number in numbers:
        keys = hashed(keys ^ np.uint64(number))
    return hashed(keys ^ rows.astype(np.uint64))
