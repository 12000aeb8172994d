"""Exact medians in bounded memory, against numpy's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omics_transformers.data_scripts.gene_medians import (
    NonZeroMedians,
    medians_by_passes,
    merged_histograms,
    non_zero_medians,
    value_histogram,
    values_within,
)
from omics_transformers.data_scripts.rank_values import CellValues


def medians_of(genes, values, n_genes, **options):
    passes = []

    def one_pass():
        passes.append(1)
        for start in range(0, len(genes), 100):
            yield CellValues(genes[start : start + 100], values[start : start + 100])

    return non_zero_medians(one_pass, n_genes, **options), len(passes)


@pytest.mark.parity
@given(
    seed=st.integers(0, 2**32 - 1),
    n_values=st.integers(0, 2000),
    kind=st.sampled_from(["continuous", "few values", "one value", "extremes"]),
    values_in_memory=st.sampled_from([1, 20, 10**6]),
)
@settings(deadline=None, max_examples=100)
def test_medians_equal_numpy_to_the_last_bit(seed, n_values, kind, values_in_memory):
    rng = np.random.default_rng(seed)
    genes = rng.integers(0, 5, n_values).astype(np.int32)
    values = {
        "continuous": np.minimum(rng.lognormal(1, 2, n_values), 10_000),
        "few values": rng.choice([1.0, 2.0, 10 / 3, np.nextafter(1.0, 2)], n_values),
        "one value": np.full(n_values, 2.5),
        "extremes": rng.choice([1e-300, 1e-13, 10_000.0], n_values),
    }[kind]
    found, _ = medians_of(genes, values, 6, values_in_memory=values_in_memory)
    for gene in range(6):
        of_gene = values[genes == gene]
        assert found.n_cells[gene] == len(of_gene)
        if len(of_gene):
            assert found.medians[gene] == np.median(of_gene)
        else:
            assert np.isnan(found.medians[gene])


def test_two_passes_serve_when_memory_suffices_and_more_when_it_does_not():
    rng = np.random.default_rng(0)
    genes, values = np.zeros(20_000, np.int32), np.minimum(rng.lognormal(1, 1, 20_000), 10_000)
    assert medians_of(genes, values, 1)[1] == 2
    found, n_passes = medians_of(genes, values, 1, values_in_memory=10)
    assert n_passes > 2
    assert found.medians[0] == np.median(values)


def test_medians_survive_json_to_the_last_bit():
    medians = NonZeroMedians(np.array([10 / 3, np.nan]), np.array([3, 0]))
    again = NonZeroMedians.from_json(medians.to_json())
    np.testing.assert_array_equal(again.medians, medians.medians)
    np.testing.assert_array_equal(again.n_cells, medians.n_cells)


@pytest.mark.parity
@given(seed=st.integers(0, 2**32 - 1), n_parts=st.integers(1, 6), values_in_memory=st.sampled_from([1, 20, 10**6]))
@settings(deadline=None, max_examples=30)
def test_parts_on_many_machines_give_the_medians_of_the_whole(seed, n_parts, values_in_memory):
    rng = np.random.default_rng(seed)
    chunks = []
    for n_values in rng.integers(0, 300, n_parts):
        values = np.round(np.minimum(rng.lognormal(1, 2, n_values), 10_000), int(rng.integers(1, 9))) + 1e-3
        chunks.append(CellValues(rng.integers(0, 4, n_values).astype(np.int32), values))
    whole = non_zero_medians(lambda: chunks, 5, values_in_memory=values_in_memory)

    def count(bounds):
        parts = [value_histogram([chunk], bounds) for chunk in chunks]
        kept = [part.bins.copy() for part in parts]
        total = merged_histograms([merged_histograms(parts[:2]), *(merged_histograms([part]) for part in parts[2:])])
        for part, bins in zip(parts, kept, strict=True):
            np.testing.assert_array_equal(part.bins, bins)  # Dask may use a part again
        return total

    def collect(bounds):
        return [values_within([chunk], bounds) for chunk in reversed(chunks)]

    found = medians_by_passes(count, collect, 5, values_in_memory=values_in_memory)
    np.testing.assert_array_equal(found.medians, whole.medians)
    np.testing.assert_array_equal(found.n_cells, whole.n_cells)
