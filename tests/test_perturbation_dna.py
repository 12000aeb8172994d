"""Features of edited sequences through a small Enformer, random mutations, and checks of what is given."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.modeling.configuration_enformer import EnformerConfig
from omics_transformers.modeling.modeling_enformer import EnformerForGeneFeatures
from omics_transformers.pipelines.perturbation_dna import (
    GeneFeatureRow,
    checked_sequence,
    edited_features,
    list_mutations,
    mutate_at_random,
)
from omics_transformers.pipelines.perturbation_edits import RandomMutations, ReplaceFeatures, ReplaceSequence

WINDOW = 1024
METADATA = {"layer": "final_pointwise", "pool": "2", "window_bp": str(WINDOW)}


def random_sequence(seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), WINDOW))


@pytest.fixture(scope="module")
def dna_model() -> EnformerForGeneFeatures:
    torch.manual_seed(0)
    config = EnformerConfig(
        dim=24, depth=1, heads=2, output_heads={"human": 2}, target_length=-1, attn_dim_key=8, dim_divisible_by=12
    )
    return EnformerForGeneFeatures(config)


@pytest.fixture(scope="module")
def row(dna_model: EnformerForGeneFeatures) -> GeneFeatureRow:
    dna_model.eval()
    with torch.inference_mode():
        features = dna_model.gene_features([random_sequence(seed) for seed in range(8)], pool=2).numpy()
    return GeneFeatureRow(features[0], features.std(axis=0))


def test_a_sequence_gets_its_own_features(dna_model: EnformerForGeneFeatures, row: GeneFeatureRow) -> None:
    sequence = random_sequence(5)
    found = edited_features(ReplaceSequence(sequence), row, METADATA, dna_model.train())
    with torch.inference_mode():
        expected = dna_model.eval().gene_features([sequence], layer="final_pointwise", pool=2)[0]
    np.testing.assert_allclose(found.features, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert found.mutations == []
    same = edited_features(ReplaceSequence(sequence, random_sequence()), row, METADATA, dna_model)
    np.testing.assert_allclose(same.features, found.features, rtol=1e-3, atol=1e-4)


def test_the_reference_sequence_changes_nothing(dna_model: EnformerForGeneFeatures, row: GeneFeatureRow) -> None:
    reference = random_sequence()
    found = edited_features(ReplaceSequence(reference, reference), row, METADATA, dna_model)
    np.testing.assert_allclose(found.features, row.features, atol=1e-6)


def test_random_mutations(dna_model: EnformerForGeneFeatures, row: GeneFeatureRow) -> None:
    edit = RandomMutations(random_sequence(), count=20, window_bp=100, seed=4)
    found = edited_features(edit, row, METADATA, dna_model)
    assert len(found.mutations) == 20
    assert row.standardised_size(found.features - row.features) > 0
    again = edited_features(edit, row, METADATA, dna_model)
    assert again.mutations == found.mutations
    np.testing.assert_array_equal(again.features, found.features)


@given(seed=st.integers(0, 99), count=st.integers(1, 30), window_bp=st.integers(40, 200))
def test_mutations_are_as_many_as_asked_and_near_the_tss(seed: int, count: int, window_bp: int) -> None:
    reference = "N" * 100 + "ACGT" * 50 + "N" * 100
    found = list_mutations(reference, mutate_at_random(reference, count=count, window_bp=window_bp, seed=seed))
    assert len(found) == count
    for mutation in found:
        place = int(mutation[:-3])
        assert 200 - window_bp // 2 <= place < 200 - window_bp // 2 + window_bp
        assert reference[place] == mutation[-3] != mutation[-1]
        assert mutation[-1] in "ACGT"


def test_every_other_base_is_as_likely() -> None:
    reference = "A" * 3000
    mutated = mutate_at_random(reference, count=3000, window_bp=3000, seed=0)
    assert all(900 < mutated.count(base) < 1100 for base in "CGT")


def test_sequences_are_cleaned(caplog: pytest.LogCaptureFixture) -> None:
    assert checked_sequence("acgtnRY") == "ACGTNNN"
    assert "2 letters of the sequence are neither" in caplog.text


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (ReplaceFeatures(np.ones(7)), r"shape \(7,\), and the model expects \(48,\)"),
        (ReplaceFeatures(np.full(48, np.nan)), "48 of the edit's 48 features are not finite"),
        (ReplaceSequence("ACGT" * 8), "the edited sequence has 32 bp.*windows of 1,024 bp"),
        (ReplaceSequence("A" * 1024, "ACGT" * 8), "the reference sequence has 32 bp"),
        (ReplaceSequence("ACGTX"), "'X' at position 4"),
        (RandomMutations("ACGT" * 256, count=501), "501 random mutations.*500 bases other than N lie in the 500 bp"),
        (RandomMutations("ACGT" * 256, count=0), "0 random mutations"),
        (ReplaceSequence("A" * 1024, "CG" * 512), "differ from those that the model holds"),
    ],
)
def test_bad_edits_are_named(
    dna_model: EnformerForGeneFeatures, row: GeneFeatureRow, edit: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        edited_features(edit, row, METADATA, dna_model)


def test_what_is_missing_is_named(dna_model: EnformerForGeneFeatures, row: GeneFeatureRow) -> None:
    edit = ReplaceSequence(random_sequence())
    with pytest.raises(ValueError, match="no layer, pool, window_bp in gene_features_metadata"):
        edited_features(edit, row, None, dna_model)
    with pytest.raises(ValueError, match="no pool in gene_features_metadata"):
        edited_features(edit, row, {"layer": "transformer", "window_bp": 1024}, dna_model)
    with pytest.raises(ValueError, match="needs a DNA model"):
        edited_features(edit, row, METADATA, None)
    with pytest.raises(ValueError, match=r"shape \(1, 24\) for layer 'transformer'.*\(1, 48\)"):
        edited_features(edit, row, METADATA | {"layer": "transformer"}, dna_model)
