"""Groups of lists: contigs where there are enough, else blocks of them."""

import numpy as np
import pytest

from omics_transformers.training.ranking_groups import interval_groups


def test_contigs_where_there_are_five() -> None:
    contigs = np.array(["b", "a", "e", "d", "c", "a"])
    assert interval_groups(contigs, np.arange(6) * 10**7, 1000).tolist() == [1, 0, 4, 3, 2, 0]


def test_blocks_of_contigs_where_there_are_fewer() -> None:
    contigs = ["b", "a", "a", "b", "a"]
    starts = [2_999, 0, 999, 1_000, 5_000]
    assert interval_groups(contigs, starts, 1000).tolist() == [3, 0, 0, 2, 1]
    assert interval_groups(np.array([7, 3, 3, 7, 3]), starts, 1000).tolist() == [3, 0, 0, 2, 1]
    assert interval_groups(contigs, starts).tolist() == [1, 0, 0, 1, 0]
    assert interval_groups([], []).tolist() == []


def test_says_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"contigs have shape \(2,\) and starts \(1,\)"):
        interval_groups(["a", "b"], [1])
    with pytest.raises(ValueError, match="block_bp is 0"):
        interval_groups(["a"], [1], 0)
