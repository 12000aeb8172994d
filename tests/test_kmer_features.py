"""K-mer features against counts in plain Python."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.training.kmer_features import KmerFeatures, kmer_codes


def as_array(sequence: str) -> np.ndarray:
    return np.frombuffer(sequence.encode(), dtype=np.uint8)


def plain_features(sequence: str, place: int, features: KmerFeatures) -> list[float]:
    found: list[float] = []
    for k in range(1, features.longest_kmer + 1):
        names = ["".join(letters) for letters in product("ACGT", repeat=k)]
        for radius in features.radii:
            around = sequence[max(place - radius, 0) : place + radius + 1]
            kmers = [around[start : start + k] for start in range(len(around) - k + 1)]
            kmers = [kmer for kmer in kmers if "N" not in kmer]
            found += [kmers.count(name) / max(len(kmers), 1) for name in names]
    for offset in range(-features.nearest, features.nearest + 1):
        letter = sequence[place + offset] if 0 <= place + offset < len(sequence) else "N"
        found += [float(letter == base) for base in "ACGT"]
    return found


@pytest.mark.parity
@given(st.text("ACGTN", min_size=1, max_size=40))
def test_features_are_those_of_the_definition(sequence: str) -> None:
    features = KmerFeatures(longest_kmer=3, radii=(1, 4, 30), nearest=2)
    places = np.arange(len(sequence))
    expected = [plain_features(sequence, place, features) for place in range(len(sequence))]
    found = features.matrix(as_array(sequence), places)
    assert found.shape == (len(sequence), len(features)) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    weights = np.random.default_rng(0).normal(size=(len(features), 2))
    np.testing.assert_allclose(features.log_odds(as_array(sequence), weights), found @ weights, atol=1e-5)


def test_there_are_1104_by_default() -> None:
    assert len(KmerFeatures()) == 1104
    some = KmerFeatures().matrix(as_array("ACGT" * 50), np.array([5, 100]))
    assert some.shape == (2, 1104)
    np.testing.assert_allclose(some[:, :4], [[4 / 14, 4 / 14, 3 / 14, 3 / 14], [5 / 17, 4 / 17, 4 / 17, 4 / 17]])


def test_kmers_are_numbered_in_base_4() -> None:
    assert kmer_codes(as_array("ACGTN"), 2).tolist() == [1, 6, 11, 16]
    assert kmer_codes(as_array("AC"), 3).tolist() == []
