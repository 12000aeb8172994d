"""Rank values: kernels against a plain per-cell formula, and the recognition of values that are no counts."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from omics_transformers.data_scripts.rank_values import (
    EMPTY,
    EXCLUDED,
    KEPT,
    NOT_A_GENE,
    NOT_IN_VOCABULARY,
    TOO_FEW_GENES,
    normalise_cells,
    rank_cells,
    require_counts,
)


def rank_one_cell(row, gene_of_column, medians, tokens, max_length):
    """The formula, cell by cell: counts / total * 10,000 / median, descending, ties by token id, cut."""
    total = row[gene_of_column != NOT_A_GENE].sum()
    counts = np.zeros(len(medians))
    for count, gene in zip(row, gene_of_column, strict=True):
        if gene >= 0:
            counts[gene] += count
    values = counts / total * 10_000 / medians if total else counts
    genes = [gene for gene in range(len(medians)) if counts[gene] > 0]
    ordered = sorted(genes, key=lambda gene: (-values[gene], tokens[gene]))
    return [int(tokens[gene]) for gene in ordered][:max_length], total, len(genes)


@st.composite
def chunks(draw):
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n_cells, n_columns, n_genes = rng.integers(1, 12), rng.integers(1, 60), rng.integers(1, 40)
    counts = rng.poisson(draw(st.sampled_from([0.05, 0.5, 3.0])), (n_cells, n_columns)).astype(np.float32)
    gene_of_column = rng.integers(-2, n_genes, n_columns).astype(np.int32)
    if draw(st.booleans()):
        gene_of_column = np.sort(gene_of_column)
    # Few distinct medians, powers of two and odd ones: many exact and many near ties.
    medians = rng.choice(draw(st.sampled_from([[1.0], [1.0, 2.0, 4.0], [0.3, 0.7, 1.1, 1.1000000001]])), n_genes)
    tokens = np.sort(rng.choice(300, n_genes, replace=False)).astype(np.uint16)
    return counts, gene_of_column, medians, tokens, rng.random(n_cells) < 0.9


@pytest.mark.parity
@given(chunk=chunks(), minimum_genes=st.integers(1, 5), max_length=st.integers(1, 30))
@settings(deadline=None, max_examples=150)
def test_ranks_equal_the_plain_formula(chunk, minimum_genes, max_length):
    counts, gene_of_column, medians, tokens, candidates = chunk
    ranked = rank_cells(
        sp.csr_matrix(counts),
        gene_of_column,
        median_of_gene=medians,
        token_of_gene=tokens,
        candidates=candidates,
        minimum_genes=minimum_genes,
        max_length=max_length,
    )
    rows = iter(np.split(ranked.tokens, ranked.offsets[1:-1]))
    for cell, row in enumerate(counts):
        expected, total, n_genes = rank_one_cell(row, gene_of_column, medians, tokens, max_length)
        outcome = (
            EXCLUDED
            if not candidates[cell]
            else EMPTY
            if total == 0
            else TOO_FEW_GENES
            if n_genes < minimum_genes
            else KEPT
        )
        assert ranked.outcome[cell] == outcome
        if outcome == KEPT:
            assert next(rows).tolist() == expected
            assert ranked.detected[cell] == n_genes
    assert (ranked.outcome == KEPT).sum() == len(ranked.offsets) - 1


def rank_dense(counts, **options):
    n_genes = counts.shape[1]
    defaults = {
        "median_of_gene": np.ones(n_genes),
        "token_of_gene": np.arange(10, 10 + n_genes).astype(np.uint16),
        "candidates": np.ones(len(counts), bool),
        "minimum_genes": 1,
        "max_length": 100,
    }
    return rank_cells(sp.csr_matrix(counts), np.arange(n_genes, dtype=np.int32), **(defaults | options))


def test_equal_values_come_in_ascending_token_id_even_among_thousands():
    counts = np.ones((1, 5000))
    counts[0, 4321] = 2
    tokens = rank_dense(counts, max_length=5000).tokens
    assert tokens[0] == 4331
    assert (np.diff(tokens[1:].astype(int)) > 0).all()


def test_total_counts_genes_outside_the_vocabulary_but_not_other_features():
    counts = sp.csr_matrix(np.array([[2.0, 6.0, 92.0]]))
    values = normalise_cells(
        counts,
        np.array([0, NOT_IN_VOCABULARY, NOT_A_GENE], np.int32),
        n_genes=1,
        candidates=np.ones(1, bool),
        minimum_genes=1,
    )
    assert values.genes.tolist() == [0]
    assert values.values.tolist() == [2500.0]


def test_first_and_last_token_frame_each_cell_within_the_length():
    ranked = rank_dense(np.array([[3.0, 2.0, 1.0], [1.0, 0.0, 0.0]]), max_length=4, first_token=2, last_token=3)
    assert ranked.tokens.tolist() == [2, 10, 11, 3, 2, 10, 3]
    assert ranked.offsets.tolist() == [0, 4, 7]


def test_unsorted_and_repeated_column_indices_are_summed():
    counts = sp.csr_matrix((np.array([1.0, 5.0, 3.0]), np.array([2, 0, 2]), np.array([0, 3])), shape=(1, 3))
    counts.has_sorted_indices = False
    values = normalise_cells(
        counts, np.arange(3, dtype=np.int32), n_genes=3, candidates=np.ones(1, bool), minimum_genes=1
    )
    assert values.genes.tolist() == [0, 2]
    assert values.values.tolist() == [5 / 9 * 10_000, 4 / 9 * 10_000]


def normalised(counts):
    return counts / counts.sum(axis=1, keepdims=True) * 10_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda counts: counts - 1, "negative .*gene"),
        (lambda counts: np.where(counts > 2, np.nan, counts), "NaN or infinite"),
        (normalised, "every cell sums to 10000: they look normalised"),
        (lambda counts: np.log1p(normalised(counts)), r"exp\(x\) - 1 sums to 10000 in every cell.*log1p"),
        (lambda counts: np.log2(1 + counts), "they look logged"),
        (lambda counts: counts * 30.7, "allow fractional counts"),
    ],
)
def test_values_that_are_no_counts_are_named(change, message):
    counts = np.random.default_rng(0).poisson(2.0, (20, 30)).astype(float)
    with pytest.raises(ValueError, match=message) as raised:
        require(sp.csr_matrix(change(counts)))
    assert "file.h5ad: X" in str(raised.value)


def test_what_a_column_is_and_what_to_do_can_be_said_otherwise():
    counts = sp.csr_matrix(np.random.default_rng(0).poisson(2.0, (20, 30)) * 30.7)
    with pytest.raises(ValueError, match=r"at cell 'cell0', peak 'gene0'\); .*SoupX\): round them"):
        require(counts, feature="peak", if_estimated="round them")


def require(counts, allow_fractional=False, **texts):
    require_counts(
        counts,
        source="file.h5ad: X",
        cell_ids=pd.Index([f"cell{i}" for i in range(counts.shape[0])]),
        genes=pd.Index([f"gene{i}" for i in range(counts.shape[1])]),
        allow_fractional=allow_fractional,
        **texts,
    )


def test_the_first_offender_is_named_by_cell_and_gene():
    counts = np.zeros((3, 4))
    counts[1, 2] = 1.5
    counts[2, 3] = 2
    with pytest.raises(ValueError, match=r"1 of 2 values are not whole numbers .*1\.5 at cell 'cell1', gene 'gene2'"):
        require(sp.csr_matrix(counts))


def test_fractional_counts_are_taken_when_allowed():
    require(sp.csr_matrix(np.array([[0.5, 2.0]])), allow_fractional=True)


def test_an_index_beyond_the_genes_is_refused():
    counts = sp.csr_matrix(np.ones((1, 2)))
    counts.indices = np.array([0, 7], np.int32)
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        require(counts)
