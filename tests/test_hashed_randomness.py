"""Random numbers by hashing: the published generator, their range, and their dependence on every number."""

import numpy as np

from omics_transformers.training.hashed_randomness import hashed, keys_of, uniform


def test_hash_is_splitmix64() -> None:
    """The first outputs of the published generator for the seed 1234567: states step by its golden gamma."""
    states = np.uint64(1234567) + np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert hashed(states).tolist() == expected


def test_uniform_numbers_are_uniform() -> None:
    drawn = uniform(hashed(np.arange(100_000, dtype=np.uint64)))
    assert 0 <= drawn.min() < 1e-4 and 1 - 1e-4 < drawn.max() < 1
    assert np.abs(np.histogram(drawn, 10, (0, 1))[0] - 10_000).max() < 500  # five deviations
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.02


def test_keys_depend_on_every_number_and_on_no_other_row() -> None:
    rows = np.arange(50)
    keys = keys_of(rows, 1, 2, 3)
    assert len(np.unique(keys)) == 50
    assert np.array_equal(keys_of(rows[7:9], 1, 2, 3), keys[7:9])
    for others in ((0, 2, 3), (1, 0, 3), (1, 2, 0), (2, 1, 3), (1, 2)):
        assert not np.isin(keys_of(rows, *others), keys).any()
