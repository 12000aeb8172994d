"""The scaling of DNA features and of variants' differences, against plain formulas."""

import pytest
import torch

from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.gene_feature_table import GeneFeatureTable

GENES, FEATURES = 30, 6


def make_table(scaling: str) -> tuple[GeneFeatureTable, torch.Tensor]:
    """A table whose features are strongly correlated, the last of them constant."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(FEATURES, FEATURES, generator=generator) * torch.tensor([30.0, 3, 1, 1, 0.3, 0.3])[:, None]
    features = 5 + torch.randn(GENES + 2, FEATURES, generator=generator) @ mixing
    features[:, -1] = 4.0
    table = GeneFeatureTable(BioDTAConfig(vocab_size=GENES + 2, dna_feature_size=FEATURES, feature_scaling=scaling))
    table.set(features)
    return table, features


def test_standardised_features_have_mean_0_and_deviation_1_over_genes() -> None:
    table, features = make_table("standardize")
    scaled = table.standardized(features[2:]).double()
    torch.testing.assert_close(scaled.mean(0), torch.zeros(FEATURES).double(), atol=1e-5, rtol=0)
    deviation = torch.ones(FEATURES).double()
    deviation[-1] = 0  # constant features stay zero
    torch.testing.assert_close(scaled.std(0, correction=0), deviation, atol=1e-5, rtol=0)


def test_whitened_features_are_uncorrelated_of_equal_variance_and_1_in_size() -> None:
    table, features = make_table("whiten")
    scaled = table.standardized(features[2:]).double()
    covariance = scaled.T @ scaled / GENES
    kept = int((covariance.diagonal() > 0).sum())
    assert kept == FEATURES - 1  # the constant one has no direction
    expected = torch.diag(torch.cat([torch.full((kept,), FEATURES / kept), torch.zeros(FEATURES - kept)])).double()
    torch.testing.assert_close(covariance, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("scaling", ["standardize", "whiten"])
def test_differences_of_the_variants_given_are_1_in_size(scaling: str) -> None:
    table, features = make_table(scaling)
    genes = torch.arange(2, 22)
    variants = features[genes] + 0.001 * torch.randn(20, FEATURES, generator=torch.Generator().manual_seed(1))
    table.set_difference_scale(variants, genes)
    scaled = table.standardized_difference(variants, genes)
    torch.testing.assert_close(scaled.square().mean().sqrt(), torch.tensor(1.0), atol=1e-2, rtol=0)
    assert not table.standardized_difference(features[genes], genes).any()


def test_before_any_variant_is_known_a_difference_is_in_standard_deviations() -> None:
    for scaling in ("standardize", "whiten"):
        table, features = make_table(scaling)
        difference = torch.randn(1, FEATURES)
        expected = difference / features[2:].std(0, correction=0).clamp(min=1e-30).where(
            features[2:].std(0) > 0, torch.ones(FEATURES)
        )
        found = table.standardized_difference(features[5:6] + difference, torch.tensor([5]))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_variants_that_change_nothing_leave_the_scale_alone() -> None:
    table, features = make_table("whiten")
    table.set_difference_scale(features[3:5], torch.tensor([3, 4]))
    assert table.difference_scale.item() == 1
    assert torch.equal(table.difference_rotation, torch.eye(FEATURES))
