"""The tables together: which columns come with which options, and what is said of options that are wrong."""

import logging

import numpy as np
import pytest
import torch

from omics_transformers.modeling.tokenization_gene_rank import GeneRankTokenizer
from omics_transformers.pipelines.perturbation_noise import NoiseFloor, NoiseSums
from omics_transformers.pipelines.perturbation_statistics import ShiftMoments
from omics_transformers.pipelines.perturbation_tables import PerturbationTables, TableOptions, make_tables

N_GENES = 40


def make_moments(seed: int) -> ShiftMoments:
    shifts = np.exp(np.random.default_rng(seed).normal(-8, 1, N_GENES))
    counts = np.r_[0, 0, np.full(N_GENES, 5)]
    counts[2] = 1
    return ShiftMoments(counts, np.r_[np.nan, np.nan, shifts], np.full(N_GENES + 2, 1e-4))


def make(
    *, shams: int = 0, noise: NoiseFloor | None = None, sets: dict[str, list[str]] | None = None, **options: object
) -> PerturbationTables:
    names = ["<pad>", "<mask>", *[f"G{number}" for number in range(N_GENES)]]
    return make_tables(
        make_moments(0),
        [make_moments(seed) for seed in range(1, shams + 1)],
        noise or NoiseSums(N_GENES + 2, torch.device("cpu")).result(),
        np.arange(N_GENES + 2.0),
        GeneRankTokenizer.from_dictionaries({name: number for number, name in enumerate(names)}, None),
        sets or {},
        edited_tokens=[9],
        n_cells=10,
        options=TableOptions(**options),
    )


def test_columns_of_each_option() -> None:
    plain = make()
    assert {"shift_low", "mean_rank", "share_of_cells"} <= set(plain.genes)
    assert not {"noise_floor", "n_sham", "moved"} & set(plain.genes)
    assert plain.n_above_noise is None and plain.mixture is None and plain.edited_gene is not None
    assert len(plain.genes) == N_GENES - 1 and len(plain.sets) == 0
    floor = np.full(N_GENES + 2, 1e-4)
    full = make(shams=3, noise=NoiseFloor(floor, floor, floor[:2]), mixture=True, minimum_cells=2)
    assert full.n_left_out == 1 and "moved" in full.genes and full.mixture["fitted_on"] == "shift_normalised"
    assert full.n_above_noise == (full.genes["shift"] > 1e-4).sum() > 0


def test_sets_have_tests_and_effects() -> None:
    sets = make(sets={"set": ["G1", "G3", "G5"]}, bootstraps=50, matched_draws=50).sets
    assert {"p_value", "q_value", "auc_low", "shift_ratio_high", "p_value_matched"} <= set(sets)
    assert sets["n_tested"].tolist() == [3]


def test_a_mixture_of_too_few_genes_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = make(mixture=True, minimum_cells=9)
    assert found.mixture is None and "moved" not in found.genes and "no mixture" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alternative": "more"}, "alternative is 'more'"),
        ({"level": 0.0}, "level is 0.0"),
        ({"matched_draws": -1}, "matched_draws is -1"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TableOptions(**options)
