"""The noise floor: largest of each gene, the usual where the sample lacks it, and batches that change nothing."""

import numpy as np
import pandas as pd
import pytest
import torch

from omics_transformers.pipelines.perturbation_noise import NoiseSums, add_noise_columns


def make_sums(parts: int) -> tuple[NoiseSums, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    tokens, values = generator.integers(0, 6, 300), generator.random(300) ** 6
    sums = NoiseSums(8, torch.device("cpu"))
    for part in np.array_split(np.arange(300), parts):
        cells = torch.tensor([values[part].mean(), float("nan")])
        sums.add(torch.from_numpy(tokens[part]), torch.from_numpy(values[part]), cells)
    return sums, tokens, values


@pytest.mark.parametrize("parts", [1, 7])
def test_floors_by_plain_numpy(parts: int) -> None:
    sums, tokens, values = make_sums(parts)
    noise = sums.result()
    floor = noise.of_genes(np.arange(8))
    for token in range(6):
        assert floor[token] == values[tokens == token].max()
    assert floor[6] == floor[7] == np.quantile(values, 0.99)
    assert noise.n_cells == parts  # of a cell without genes nothing is known
    assert noise.of_cells() == max(values[part].mean() for part in np.array_split(np.arange(300), parts))
    assert noise.summary()["median"] == np.median(values) and noise.summary()["largest"] == values.max()


def test_shifts_below_the_floor_are_flagged() -> None:
    noise = make_sums(2)[0].result()
    table = pd.DataFrame({"token_id": [0, 1, 7], "shift": [2.0, 1e-9, 0.0]})
    found = add_noise_columns(table, noise)
    assert found["above_noise"].tolist() == [True, False, False]
    assert found["noise_floor"].tolist() == noise.of_genes(np.array([0, 1, 7])).tolist()


def test_nothing_sampled() -> None:
    noise = NoiseSums(4, torch.device("cpu")).result()
    assert noise.n_cells == 0 and np.isnan(noise.of_cells()) and np.isnan(noise.of_genes(np.arange(4))).all()
    assert noise.summary() == {"n_cells": 0}
