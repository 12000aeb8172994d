"""K-mer frequencies and lengths of whole regions, for linear models that rank them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .kmer_features import kmer_codes

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class RegionKmerFeatures:
    """Which features a region has: its log length, k-mer frequencies, and those of k-mers of either strand.

    The columns of a matrix, in this order: `length`, the logarithm of the bp; for each k from 1 on the 4^k frequencies,
    among the region's k-mers without N, in the order of `kmer_codes`; for each k those of the pairs of a k-mer and its
    reverse complement, by the lower code.

    Attributes:
        longest_kmer: the largest k.
    """

    longest_kmer: int = 5

    def __post_init__(self) -> None:
        if self.longest_kmer < 1:
            raise ValueError(f"longest_kmer is {self.longest_kmer}: expected 1 or more")

    def __len__(self) -> int:
        return 1 + sum(4**k + len(_lower_of_pairs(k)) for k in self._sizes)

    @property
    def length(self) -> int:
        """Column of the log length."""
        return 0

    @property
    def gc(self) -> list[int]:
        """Columns that add up to the GC content: frequencies of C and G."""
        return [2, 3]

    def matrix(self, sequences: Sequence[bytes]) -> npt.NDArray[np.float32]:
        """ASCII letters of each region -> (regions, features). Memory: 8 bytes a region and k-mer beside it."""
        lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        # An N between two regions: no k-mer without N spans both.
        letters = np.frombuffer(b"N".join(sequences), dtype=np.uint8)
        region = np.repeat(np.arange(len(sequences)), lengths + 1)
        frequencies, of_pairs = [], []
        for k in self._sizes:
            codes = kmer_codes(letters, k)
            places = region[: len(codes)] * (4**k + 1) + codes
            counts = np.bincount(places, minlength=len(sequences) * (4**k + 1)).reshape(len(sequences), -1)[:, :-1]
            frequency = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).astype(np.float32)
            lower = _lower_of_pairs(k)
            other = _reverse_complements(k)[lower]
            frequencies.append(frequency)
            of_pairs.append(frequency[:, lower] + np.where(other == lower, np.float32(0), frequency[:, other]))
        log_length = np.log(np.maximum(lengths, 1))[:, None].astype(np.float32)
        return np.concatenate([log_length, *frequencies, *of_pairs], axis=1)

    @property
    def _sizes(self) -> range:
        return range(1, self.longest_kmer + 1)


def _lower_of_pairs(k: int) -> npt.NDArray[np.int64]:
    """Codes of k-mers that are at most those of their reverse complements."""
    return np.flatnonzero(np.arange(4**k) <= _reverse_complements(k))


def _reverse_complements(k: int) -> npt.NDArray[np.int64]:
    """(4^k,) code of each k-mer's reverse complement; the complement of digit d is 3 - d."""
    codes, reversed_codes = np.arange(4**k), np.zeros(4**k, dtype=np.int64)
    for _ in range(k):
        reversed_codes = 4 * reversed_codes + 3 - codes % 4
        codes = codes // 4
    return reversed_codes
