"""K-mer frequencies around a base and the letters beside it, for linear models of segments.

Two forms of the same: a matrix for bases that are drawn, and the product with weights for all bases of a window, which
needs no matrix.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_LETTERS = np.full(256, 4, dtype=np.int64)
_LETTERS[list(b"ACGT")] = range(4)


@dataclass(frozen=True)
class KmerFeatures:
    """Which features a base has.

    Attributes:
        longest_kmer: frequencies of k-mers from 1 to this length.
        radii: bp on either side within which k-mers are counted, for each.
        nearest: places on either side whose letter is a feature.
    """

    longest_kmer: int = 4
    radii: tuple[int, ...] = (8, 64, 512)
    nearest: int = 10

    def __len__(self) -> int:
        return len(self.radii) * sum(4**k for k in self._kmer_sizes) + 4 * (2 * self.nearest + 1)

    def matrix(self, sequence: Array, places: Array) -> npt.NDArray[np.float32]:
        """(bases,) ASCII letters and (places,) bases of interest -> (places, features).

        Frequencies are of the k-mers without N that lie wholly within the radius and the sequence.
        """
        columns = []
        for k in self._kmer_sizes:
            code = kmer_codes(sequence, k)
            for radius in self.radii:
                width = max(2 * radius + 2 - k, 0)
                around = np.pad(code, (radius, radius + k), constant_values=4**k)[places[:, None] + np.arange(width)]
                numbered = around + (4**k + 1) * np.arange(len(places))[:, None]
                counts = np.bincount(numbered.ravel(), minlength=len(places) * (4**k + 1)).reshape(len(places), -1)
                within = counts[:, :-1].astype(np.float32)
                columns.append(within / np.maximum(within.sum(axis=1, keepdims=True), 1))
        letters = np.pad(kmer_codes(sequence, 1), self.nearest, constant_values=4)
        near = letters[places[:, None] + np.arange(2 * self.nearest + 1)]  # (places, nearest places)
        columns.append((near[..., None] == np.arange(4)).reshape(len(places), -1).astype(np.float32))
        return np.concatenate(columns, axis=1)

    def log_odds(self, sequence: Array, weights: Array) -> npt.NDArray[np.float64]:
        """`matrix` of every base times weights (features, elements), without making it: (bases, elements).

        A sum of weights over the k-mers within a radius is a difference of cumulative sums.
        """
        bases, total = np.arange(len(sequence)), np.zeros((len(sequence), weights.shape[1]))
        parts = iter(np.split(weights, self._boundaries()))
        nothing = np.zeros((1, weights.shape[1]))
        for k in self._kmer_sizes:
            code = kmer_codes(sequence, k)
            valid = np.concatenate([[0], (code < 4**k).cumsum()])
            for radius in self.radii:
                of_kmer = np.concatenate([next(parts), nothing])
                sums = np.concatenate([nothing, of_kmer[code].cumsum(axis=0)])
                first, last = _kmers_within(bases, len(sequence), k, radius)
                total += (sums[last] - sums[first]) / np.maximum(valid[last] - valid[first], 1)[:, None]
        letters = np.pad(kmer_codes(sequence, 1), self.nearest, constant_values=4)
        for place, of_letter in enumerate(next(parts).reshape(2 * self.nearest + 1, 4, -1)):
            total += np.concatenate([of_letter, nothing])[letters[place : place + len(sequence)]]
        return total

    @property
    def _kmer_sizes(self) -> range:
        return range(1, self.longest_kmer + 1)

    def _boundaries(self) -> Array:
        sizes = [4**k for k in self._kmer_sizes for _ in self.radii]
        return np.cumsum(sizes)


def kmer_codes(sequence: Array, k: int) -> npt.NDArray[np.int64]:
    """(bases,) ASCII letters -> (bases - k + 1,) number of the k-mer that begins at each, 4^k where it holds an N."""
    letters = _LETTERS[sequence]
    starts = max(len(letters) - k + 1, 0)
    codes, is_valid = np.zeros(starts, dtype=np.int64), np.ones(starts, dtype=bool)
    for place in range(k):
        letter = letters[place : place + starts]
        codes = 4 * codes + letter
        is_valid &= letter < 4
    return np.where(is_valid, codes, 4**k)


def _kmers_within(places: Array, bases: int, k: int, radius: int) -> tuple[Array, Array]:
    """First and one behind the last start of the k-mers within `radius` of each place."""
    first = np.maximum(places - radius, 0)
    last = np.minimum(places + radius, bases - 1) - k + 2
    return np.minimum(first, max(bases - k + 1, 0)), np.maximum(last, np.minimum(first, max(bases - k + 1, 0)))
