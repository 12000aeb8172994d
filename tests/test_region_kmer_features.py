"""K-mer frequencies of regions against counting them one by one."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.training.region_kmer_features import RegionKmerFeatures


def names(longest: int) -> list[str]:
    """What each column behind the length counts, as the docstring says."""
    kmers = ["".join(letters) for k in range(1, longest + 1) for letters in itertools.product("ACGT", repeat=k)]
    return kmers + [f"{kmer}/{reverse(kmer)}" for kmer in kmers if kmer <= reverse(kmer)]


def reverse(kmer: str) -> str:
    return kmer.translate(str.maketrans("ACGT", "TGCA"))[::-1]


def frequency(sequence: str, name: str) -> float:
    k = len(name.split("/")[0])
    found = [sequence[start : start + k] for start in range(len(sequence) - k + 1)]
    found = [kmer for kmer in found if "N" not in kmer]
    return sum(kmer in name.split("/") for kmer in found) / max(len(found), 1)


@pytest.mark.parity
@given(st.lists(st.text("ACGTN", min_size=1, max_size=12), min_size=1, max_size=4))
def test_frequencies_are_those_counted_one_by_one(sequences: list[str]) -> None:
    features = RegionKmerFeatures(3)
    found = features.matrix([sequence.encode() for sequence in sequences])
    assert found.shape == (len(sequences), len(features)) and found.dtype == np.float32
    columns = names(3)
    assert len(columns) == len(features) - 1
    expected = [[np.log(len(sequence)), *(frequency(sequence, name) for name in columns)] for sequence in sequences]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_columns_of_length_and_gc() -> None:
    features = RegionKmerFeatures()
    assert len(features) == 1 + 1364 + 2 + 10 + 32 + 136 + 512
    row = features.matrix([b"GGCATN"])[0]
    assert row[features.gc].sum() == pytest.approx(3 / 5)
    assert row[features.length] == pytest.approx(np.log(6))


def test_needs_a_kmer() -> None:
    with pytest.raises(ValueError, match="longest_kmer is 0"):
        RegionKmerFeatures(0)
