"""Saturation: every change once, against whole passes one by one, and the table of bases."""

import numpy as np
import pytest
import torch

from omics_transformers.modeling.configuration_enformer import EnformerConfig
from omics_transformers.modeling.modeling_enformer import EnformerForGeneFeatures
from omics_transformers.pipelines.promoter_mutagenesis_saturation import BASES, PromoterSaturation, saturate_promoter

WINDOW = 4096
LETTERS = np.random.default_rng(0).choice(list("ACGT"), WINDOW)
LETTERS[[2051, 2052, 3000]] = "N"
REFERENCE = "".join(LETTERS)


@pytest.fixture(scope="module")
def model() -> EnformerForGeneFeatures:
    """Weights and statistics with which one base changes predictions plainly."""
    torch.manual_seed(0)
    sizes = {"dim": 24, "depth": 1, "heads": 2, "attn_dim_key": 8, "dim_divisible_by": 12}
    model = EnformerForGeneFeatures(EnformerConfig(**sizes, output_heads={"human": 3}, target_length=-1))
    for module in (*model.stem.modules(), *model.conv_tower.modules()):
        if isinstance(module, torch.nn.BatchNorm1d):
            module.momentum = None  # statistics are the mean over what it has seen
        elif isinstance(module, torch.nn.Conv1d):
            torch.nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    with torch.no_grad():
        model.train().run_tower(torch.eye(4)[torch.randint(0, 4, (2, 4096))])
    return model.eval()


@pytest.fixture(scope="module")
def found(model: EnformerForGeneFeatures) -> PromoterSaturation:
    return saturate_promoter(REFERENCE, model, tracks=[1, 2], window_bp=20, pool=4, batch_size=7)


@pytest.mark.parity
def test_each_change_is_that_of_its_own_window(model: EnformerForGeneFeatures, found: PromoterSaturation) -> None:
    assert (found.start, found.end, found.n_unknown, len(found.table)) == (2038, 2058, 2, 3 * 18)
    assert not found.table.duplicated(["position", "alternative"]).any()
    with torch.no_grad():
        before = model.predicted_expression([REFERENCE], tracks=[1, 2]).double().numpy()
        features = model.gene_features([REFERENCE], pool=4).double().numpy()
        for row in found.table.itertuples():
            assert REFERENCE[row.position] == row.reference != row.alternative and row.offset == row.position - 2048
            edited = REFERENCE[: row.position] + row.alternative + REFERENCE[row.position + 1 :]
            after = model.predicted_expression([edited], tracks=[1, 2]).double().numpy()
            assert row.expression == pytest.approx(after.mean(), rel=1e-5)
            change = np.log2((after + 1) / (before + 1)).mean()
            assert row.predicted_change == pytest.approx(change, abs=1e-6)
            size = np.sqrt(((model.gene_features([edited], pool=4).double().numpy() - features) ** 2).mean())
            assert row.feature_change == pytest.approx(size, rel=0.05, abs=1e-6)
    assert found.table["predicted_change"].abs().max() > max(100 * found.noise_floor, 0.01)
    assert found.recomputed_share < 0.5


def test_the_table_of_bases(found: PromoterSaturation) -> None:
    bases = found.per_base()
    assert "".join(bases["base"]) == REFERENCE[2038:2058]
    assert bases["offset"].tolist() == list(range(-10, 10))
    assert bases.loc[bases["base"] == "N", "importance":].isna().all(axis=None)
    for row in bases[bases["base"] != "N"].itertuples():
        changes = found.table[found.table["position"] == row.position].set_index("alternative")
        assert getattr(row, f"change_{row.base}") == 0
        for base in BASES.replace(row.base, ""):
            assert getattr(row, f"change_{base}") == changes.loc[base, "predicted_change"]
        assert row.importance == pytest.approx(-changes["predicted_change"].mean())
        assert row.feature_change == pytest.approx(changes["feature_change"].mean())


def test_the_strongest_change_is_an_edit(found: PromoterSaturation) -> None:
    for direction, best in (
        ("lower", found.table["predicted_change"].min()),
        ("raise", found.table["predicted_change"].max()),
    ):
        edit = found.strongest(direction)  # type: ignore[arg-type]
        assert edit.description["predicted_change"] == best and edit.description["direction"] == direction
        (mutation,) = edit.mutations
        row = found.table[found.table["predicted_change"] == best].iloc[0]
        assert mutation == f"{row['position']}{row['reference']}>{row['alternative']}"
    with pytest.raises(ValueError, match="no change of base 2,051"):
        found.edit(2051, "A")
    with pytest.raises(ValueError, match="direction is 'up'"):
        found.strongest("up")  # type: ignore[arg-type]


def test_features_in_units_of_their_spread(model: EnformerForGeneFeatures) -> None:
    spread = np.full(48, 0.01)
    plain, scaled = (
        saturate_promoter(REFERENCE, model, tracks=[0], window_bp=2, offset=-100, standard_deviation=unit)
        for unit in (None, spread)
    )
    np.testing.assert_allclose(scaled.table["feature_change"], 100 * plain.table["feature_change"])
    assert plain.table["offset"].unique().tolist() == [-101, -100]


def test_stretches_that_are_refused(model: EnformerForGeneFeatures) -> None:
    with pytest.raises(ValueError, match="do not lie within the reference window"):
        saturate_promoter(REFERENCE, model, tracks=[0], window_bp=20, offset=2040)
    with pytest.raises(ValueError, match=r"all 2 bp around the base \+4 from the TSS are N"):
        saturate_promoter(REFERENCE, model, tracks=[0], window_bp=2, offset=4)
    with pytest.raises(ValueError, match="track 7 is not in head"):
        saturate_promoter(REFERENCE, model, tracks=[7])
