"""Shuffles keep what they say, reach every order, and each as often."""

from collections import Counter
from itertools import pairwise, permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from omics_transformers.pipelines.promoter_mutagenesis_shuffle import shuffle_bases, shuffle_dinucleotides


@given(st.text("ACGTN", max_size=60), st.integers(0, 99))
def test_composition_is_kept(sequence: str, seed: int) -> None:
    bases = shuffle_bases(sequence, np.random.default_rng(seed))
    assert Counter(bases) == Counter(sequence)
    pairs = shuffle_dinucleotides(sequence, np.random.default_rng(seed))
    assert Counter(pairwise(pairs)) == Counter(pairwise(sequence))
    assert (pairs[:1], pairs[-1:], len(pairs)) == (sequence[:1], sequence[-1:], len(sequence))
    assert pairs == shuffle_dinucleotides(sequence, np.random.default_rng(seed))


def test_every_order_with_the_same_pairs_is_as_likely() -> None:
    sequence = "ACAGATCAG"
    pairs = Counter(pairwise(sequence))
    orders = {"A" + "".join(letters) for letters in permutations(sequence[1:])}
    orders = {order for order in orders if Counter(pairwise(order)) == pairs}
    generator = np.random.default_rng(0)
    found = Counter(shuffle_dinucleotides(sequence, generator) for _ in range(200 * len(orders)))
    assert len(orders) > 5 and orders == set(found)
    assert stats.chisquare(list(found.values())).pvalue > 1e-3


def test_long_sequences_change() -> None:
    sequence = "".join(np.random.default_rng(0).choice(list("ACGT"), 100))
    shuffled = shuffle_dinucleotides(sequence, np.random.default_rng(1))
    assert sum(one != other for one, other in zip(sequence, shuffled, strict=True)) > 40
