"""Random candidates keep to their window, count and seed; the choice is the one of a model whose answer is plain."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.genomes import open_genome
from omics_transformers.modeling.modeling_enformer import EnformerForGeneFeatures
from omics_transformers.pipelines.promoter_mutagenesis import choose_by_expression, random_candidates
from omics_transformers.pipelines.promoter_mutagenesis_edit import PromoterEdit
from omics_transformers.training.small_enformer import make_small_enformer


class CountsG:
    """Predicts the number of G, times the track's number plus one."""

    def predicted_expression(
        self, sequences: list[str], *, tracks: list[int], head: str, centre_bins: int
    ) -> torch.Tensor:
        return torch.tensor([[sequence.count("G") * (track + 1.0) for track in tracks] for sequence in sequences])


def random_window(bases: int = 400, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), bases))


@given(seed=st.integers(0, 50), count=st.integers(1, 12), window_bp=st.integers(20, 80))
def test_candidates_by_count(seed: int, count: int, window_bp: int) -> None:
    reference = "N" * 50 + random_window(100) + "N" * 50
    found = random_candidates(reference, count=count, window_bp=window_bp, n_candidates=5, seed=seed)
    assert len({candidate.sequence for candidate in found}) == 5
    for number, candidate in enumerate(found):
        assert len(candidate.mutations) == count == candidate.description["n_mutations"]
        assert candidate.description["candidate"] == number
        places = [int(mutation[:-3]) for mutation in candidate.mutations]
        assert min(places) >= 100 - window_bp // 2 and max(places) < 100 - window_bp // 2 + window_bp
        assert not any("N" in mutation for mutation in candidate.mutations)
    more = random_candidates(reference, count=count, window_bp=window_bp, n_candidates=7, seed=seed)
    assert [one.sequence for one in more[:5]] == [one.sequence for one in found]
    other = random_candidates(reference, count=count, window_bp=window_bp, n_candidates=5, seed=seed + 1)
    assert [one.sequence for one in other] != [one.sequence for one in found]


def test_candidates_by_rate() -> None:
    reference = random_window(2_000)
    found = random_candidates(reference, rate=0.1, window_bp=1_000, n_candidates=60, seed=1)
    numbers = np.array([len(candidate.mutations) for candidate in found])
    assert numbers.mean() == pytest.approx(100, abs=4) and 6 < numbers.std() < 13  # binomial: 100 and 9.5
    rare = random_candidates(reference, rate=1e-6, window_bp=1_000, n_candidates=20)
    assert {len(candidate.mutations) for candidate in rare} == {1}
    everything = random_candidates(reference, rate=1.0, window_bp=100, n_candidates=2)
    assert {len(candidate.mutations) for candidate in everything} == {100}


def test_few_distinct_candidates(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = random_candidates("AAAAACCCCC", count=1, window_bp=1, n_candidates=9)
    assert sorted(candidate.mutations[0] for candidate in found) == ["5C>A", "5C>G", "5C>T"]
    assert "3 of 9 random candidates are distinct" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "count is None and rate None"),
        ({"count": 1, "rate": 0.1}, "count is 1 and rate 0.1: give one"),
        ({"rate": 1.5}, "rate is 1.5"),
        ({"count": 1, "n_candidates": 0}, "n_candidates is 0"),
        ({"count": 1, "window_bp": 401}, "401 bp around"),
        ({"count": 500, "window_bp": 400}, "500 random mutations were asked for"),
    ],
)
def test_candidates_that_cannot_be_made(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_candidates(random_window(), **settings)


@pytest.mark.parametrize("direction", ["lower", "raise"])
def test_the_choice_is_the_one_that_moves_most(direction: Any) -> None:
    reference = random_window()
    candidates = random_candidates(reference, count=10, window_bp=200, n_candidates=30, seed=2)
    chosen = choose_by_expression(candidates, CountsG(), tracks=[0, 2], direction=direction, batch_size=7)
    counts = np.array([candidate.sequence.count("G") for candidate in candidates])
    before = reference.count("G")
    best = counts.argmin() if direction == "lower" else counts.argmax()
    change = np.mean([np.log2((k * counts + 1) / (k * before + 1)) for k in (1, 3)], axis=0)
    assert chosen.edit.sequence == candidates[best].sequence
    assert chosen.predicted_change == pytest.approx(change[best]) and chosen.moves_as_asked
    assert (chosen.noise_floor, chosen.recomputed_share) == (0, 1)
    table = chosen.table
    assert table["predicted_change"].to_numpy() == pytest.approx(change)
    assert table["expression"].to_numpy() == pytest.approx(2 * counts)
    assert (table["reference_expression"] == 2 * before).all()
    assert table.index[table["is_chosen"]].tolist() == [best] == table.index[table["rank"] == 1].tolist()
    assert sorted(table["rank"]) == list(range(1, 31))
    assert table["mutations"][3].split(",") == candidates[3].mutations
    description = chosen.edit.description
    assert description["how"] == "random mutations" and description["chosen_of"] == 30
    assert description["predicted_change"] == chosen.predicted_change


def test_no_candidate_moves_as_asked(caplog: pytest.LogCaptureFixture) -> None:
    candidates = [PromoterEdit("AAGGAA", "AAGAAA", {}), PromoterEdit("AGGGAA", "AAGAAA", {})]
    with caplog.at_level(logging.WARNING):
        chosen = choose_by_expression(candidates, CountsG(), tracks=[0], direction="lower")
    assert not chosen.moves_as_asked and chosen.edit.sequence == "AAGGAA" and chosen.predicted_change > 0
    assert "none of 2 candidates would lower predicted expression" in caplog.text


def test_a_choice_within_rounding_is_said(caplog: pytest.LogCaptureFixture) -> None:
    class RoundsByBatch(CountsG):
        def predicted_expression(self, sequences: list[str], **settings: Any) -> torch.Tensor:
            return super().predicted_expression(sequences, **settings) + (5.0 if len(sequences) == 1 else 0.0)

    with caplog.at_level(logging.WARNING):
        candidates = [PromoterEdit("AAGAAA", "AAGGAA", {}), PromoterEdit("AATGAA", "AAGGAA", {})]
        chosen = choose_by_expression(candidates, RoundsByBatch(), tracks=[0])
    assert chosen.noise_floor == pytest.approx(np.log2(8 / 3)) and chosen.moves_as_asked
    assert "-0.58 in predicted expression is within the DNA model's rounding, 1.4" in caplog.text


def test_choices_that_are_refused() -> None:
    candidates = [PromoterEdit("AAGG", "AAGA", {}), PromoterEdit("AGGG", "AAAA", {})]
    with pytest.raises(ValueError, match="2 candidates of 2 reference windows"):
        choose_by_expression(candidates, CountsG(), tracks=[0])
    with pytest.raises(ValueError, match="0 candidates of 0"):
        choose_by_expression([], CountsG(), tracks=[0])
    with pytest.raises(ValueError, match="direction is 'down'"):
        choose_by_expression(candidates, CountsG(), tracks=[0], direction="down")  # type: ignore[arg-type]


def with_statistics_of_dna(model: EnformerForGeneFeatures) -> None:
    """Without them a random Enformer's predictions change by little more than rounding."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.momentum = None  # the mean over what it has seen
    letters = torch.randint(0, 4, (2, 4096), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.train().predicted_expression(torch.eye(4)[letters], tracks=[0])
    model.eval()


@pytest.mark.real_data
def test_gata4_through_a_small_enformer(data_folder: Path, tmp_path: Path) -> None:
    """16,384 bp of the real locus, the last 2 kb replaced by N, as at the ends of a short piece."""
    model = make_small_enformer(tmp_path / "enformer", seed=0, dim=48, output_heads={"human": 2})
    with_statistics_of_dna(model)
    path = data_folder / "genome/GATA4_chr8_11496144-11627216.hg19.fa"
    tss = 11_561_710
    with open_genome(path, offsets={"8": 11_496_144}) as genome:
        reference = genome.fetch("chr8", tss - 8_192, tss + 6_192).decode() + "N" * 2_000
    candidates = random_candidates(reference, count=20, window_bp=500, n_candidates=12, seed=0)
    chosen = choose_by_expression(candidates, model, tracks=[1], batch_size=4)
    with torch.no_grad():
        whole = model.predicted_expression([reference, *(one.sequence for one in candidates)], tracks=[1])
    expected = torch.log2((whole[1:, 0] + 1) / (whole[0, 0] + 1)).numpy()
    np.testing.assert_allclose(chosen.table["predicted_change"], expected, atol=2e-6)
    assert chosen.predicted_change == pytest.approx(expected.min(), abs=2e-6)
    assert np.ptp(expected) > 50 * chosen.noise_floor
    assert chosen.recomputed_share < 0.15
