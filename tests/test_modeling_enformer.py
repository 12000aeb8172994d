"""Enformer for gene features: enformer_pytorch's numbers, published names, pooling, a process without the package."""

import subprocess
import sys
from pathlib import Path

import enformer_pytorch
import pytest
import torch
from safetensors.torch import load_file, save_file

from omics_transformers.modeling.configuration_enformer import EnformerConfig
from omics_transformers.modeling.modeling_enformer import OFFICIAL_WEIGHTS, EnformerForGeneFeatures

SIZES = {
    "dim": 48,
    "depth": 2,
    "heads": 4,
    "output_heads": {"human": 3},
    "target_length": 4,
    "attn_dim_key": 8,
    "dim_divisible_by": 6,
}


@pytest.fixture(scope="module")
def published() -> enformer_pytorch.Enformer:
    """enformer_pytorch's own model, with every weight and statistic drawn at random."""
    torch.manual_seed(0)
    model = enformer_pytorch.Enformer(enformer_pytorch.config_enformer.EnformerConfig(**SIZES)).eval()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5) if "running_var" in name else tensor.normal_(0, 0.2)
    return model


@pytest.fixture(scope="module")
def sequences() -> torch.Tensor:
    """(2, 1024, 4): eight positions."""
    return torch.eye(4)[torch.randint(0, 4, (2, 1024), generator=torch.Generator().manual_seed(1))]


def save_published(model: enformer_pytorch.Enformer, folder: Path, names: str) -> Path:
    """A folder as published, with the trunk's names, its parts' names, or both."""
    is_trunk = {"trunk": [True], "parts": [False], "both": [True, False]}[names]
    weights = {
        name: tensor.clone()
        for name, tensor in model.state_dict().items()
        if name.startswith("_heads") or name.startswith("_trunk") in is_trunk
    }
    folder.mkdir()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(folder)
    return folder


@pytest.mark.parity
@pytest.mark.parametrize("names", ["both", "trunk", "parts"])
def test_published_names_load_and_are_saved_once(
    names: str, published: enformer_pytorch.Enformer, sequences: torch.Tensor, tmp_path: Path
) -> None:
    folder = save_published(published, tmp_path / "published", names)
    model, loading = EnformerForGeneFeatures.from_pretrained(folder, output_loading_info=True)
    model.eval()
    assert not any(loading.values())
    with torch.no_grad():
        expected = published(sequences, return_only_embeddings=True)
        torch.testing.assert_close(model(sequences, return_only_embeddings=True), expected, rtol=0, atol=0)
        torch.testing.assert_close(model(sequences)["human"], published(sequences)["human"], rtol=0, atol=0)
        torch.testing.assert_close(model.gene_features(sequences), expected.mean(dim=1), rtol=1e-5, atol=1e-6)
        model.save_pretrained(tmp_path / "saved")
        again = EnformerForGeneFeatures.from_pretrained(tmp_path / "saved").eval()
        assert torch.equal(again.gene_features(sequences), model.gene_features(sequences))
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert set(saved) == {name for name in published.state_dict() if not name.startswith("_trunk")}


def test_layers_and_pooling(published: enformer_pytorch.Enformer, sequences: torch.Tensor, tmp_path: Path) -> None:
    model = EnformerForGeneFeatures.from_pretrained(save_published(published, tmp_path / "p", "both")).eval()
    with torch.no_grad():
        tower = published.conv_tower(published.stem(sequences.transpose(1, 2))).transpose(1, 2)
        hidden = published.transformer(tower)
        last = published.final_pointwise(hidden)
        for layer, states in (("conv_tower", tower), ("transformer", hidden), ("final_pointwise", last)):
            for pool, kept in (
                ("all", slice(2, 6)),
                (1, slice(4, 5)),
                (2, slice(3, 5)),
                (3, slice(3, 6)),
                (8, slice(0, 8)),
            ):
                features = model.gene_features(sequences, layer=layer, pool=pool)
                assert features.shape == (2, model.feature_size(layer))
                torch.testing.assert_close(features, states[:, kept].mean(dim=1), rtol=1e-5, atol=1e-6)
        short = model.gene_features(sequences[:, :256])  # two positions, fewer than target_length: kept whole
        whole = published(sequences[:, :256], return_only_embeddings=True, target_length=-1).mean(dim=1)
        torch.testing.assert_close(short, whole, rtol=1e-5, atol=1e-6)
        published.set_target_length(4)


def test_the_middle_position_is_the_tss(published: enformer_pytorch.Enformer, tmp_path: Path) -> None:
    model = EnformerForGeneFeatures.from_pretrained(save_published(published, tmp_path / "p", "both")).eval()
    torch.manual_seed(0)
    window = torch.eye(4)[torch.randint(0, 4, (1, 64 * 128))]
    changed = window.clone()
    changed[0, 32 * 128 + 64] = window[0, 32 * 128 + 64].roll(1)  # in the middle of the TSS's bin
    with torch.no_grad():
        both = torch.cat([window, changed])
        moved = [
            model.gene_features(both, layer="conv_tower", pool=n).diff(dim=0).abs().max().item() * n for n in (1, 3)
        ]
    assert moved[0] > 0
    assert moved[1] == pytest.approx(moved[0], rel=0.5)  # the bins beside it add little


@pytest.mark.parity
def test_predicted_expression_is_the_heads_around_the_tss(
    published: enformer_pytorch.Enformer, sequences: torch.Tensor, tmp_path: Path
) -> None:
    model = EnformerForGeneFeatures.from_pretrained(save_published(published, tmp_path / "p", "both")).eval()
    with torch.no_grad():
        tracks = published(sequences)["human"]  # (2, 4, 3): positions 2 to 5 of 8, the TSS begins position 4
        for bins, kept in ((1, slice(2, 3)), (2, slice(1, 3)), (3, slice(1, 4))):
            found = model.predicted_expression(sequences, tracks=[2, 0], centre_bins=bins)
            torch.testing.assert_close(found, tracks[:, kept, [2, 0]].sum(dim=1), rtol=1e-5, atol=1e-6)
        default = model.predicted_expression(sequences, tracks=[2, 0])
        assert torch.equal(default, found) and default.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tracks": [0], "head": "mouse"}, "no head 'mouse': its heads are human"),
        ({"tracks": [0, 3]}, "track 3 is not in head 'human': expected numbers from 0 to 2"),
        ({"tracks": [-1]}, "track -1 is not"),
        ({"tracks": []}, "no tracks are given"),
        ({"tracks": [0], "centre_bins": 9}, "centre_bins is 9; expected a number of positions from 1 to 8"),
        ({"tracks": [0], "centre_bins": 0}, "centre_bins is 0"),
    ],
)
def test_expression_that_the_model_does_not_predict(settings: dict, message: str, sequences: torch.Tensor) -> None:
    model = EnformerForGeneFeatures(EnformerConfig(**SIZES)).eval()
    with pytest.raises(ValueError, match=message):
        model.predicted_expression(sequences, **settings)


def test_strings_are_one_hot_with_n_as_zeros(published: enformer_pytorch.Enformer, tmp_path: Path) -> None:
    model = EnformerForGeneFeatures.from_pretrained(save_published(published, tmp_path / "p", "both")).eval()
    text = "ACGTN" * 26 + "ACGTNA" * 21
    one_hot = torch.zeros(1, 256, 4)
    for place, base in enumerate(text):
        if base != "N":
            one_hot[0, place, "ACGT".index(base)] = 1
    with torch.no_grad():
        assert torch.equal(model.gene_features([text]), model.gene_features(one_hot))


def test_the_mean_is_float32_in_bfloat16(
    published: enformer_pytorch.Enformer, sequences: torch.Tensor, tmp_path: Path
) -> None:
    folder = save_published(published, tmp_path / "p", "both")
    exact = EnformerForGeneFeatures.from_pretrained(folder).eval()
    half = EnformerForGeneFeatures.from_pretrained(folder, dtype=torch.bfloat16).eval()
    with torch.no_grad():
        features, expected = half.gene_features(sequences), exact.gene_features(sequences)
    assert features.dtype == torch.float32
    assert not torch.equal(features, features.bfloat16().float())
    torch.testing.assert_close(features, expected, rtol=0.2, atol=0.2)


def test_the_official_weights_get_their_own_gammas(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    def remember(cls: type, name: str, *arguments: object, **settings: object) -> EnformerForGeneFeatures:
        seen.update(settings, name=name)
        return EnformerForGeneFeatures(EnformerConfig(**SIZES))

    monkeypatch.setattr(enformer_pytorch.Enformer, "from_pretrained", classmethod(remember))
    EnformerForGeneFeatures.from_pretrained(OFFICIAL_WEIGHTS)
    assert seen["use_tf_gamma"] is True
    EnformerForGeneFeatures.from_pretrained(OFFICIAL_WEIGHTS, use_tf_gamma=False)
    assert seen["use_tf_gamma"] is False


@pytest.mark.slow
@pytest.mark.parity
def test_the_published_window_with_the_official_gammas() -> None:
    """196,608 bp; heads of 192 channels, for which the gammas of the official weights are made."""
    sizes = {**SIZES, "dim": 192, "heads": 1, "depth": 1, "target_length": 896, "use_tf_gamma": True}
    torch.manual_seed(0)
    model = EnformerForGeneFeatures(EnformerConfig(**sizes)).eval()
    model.transformer[0][0].fn[1].to_out.reset_parameters()
    published = enformer_pytorch.Enformer(enformer_pytorch.config_enformer.EnformerConfig(**sizes)).eval()
    published.load_state_dict(model.state_dict(), strict=False)
    window = torch.eye(4)[torch.randint(0, 4, (1, 196_608))]
    with torch.no_grad():
        expected = published(window, return_only_embeddings=True)
        assert expected.shape == (1, 896, 384)
        torch.testing.assert_close(model.gene_features(window), expected.mean(dim=1), rtol=1e-4, atol=1e-6)


def test_windows_that_the_model_cannot_take() -> None:
    model = EnformerForGeneFeatures(EnformerConfig(**SIZES))
    with pytest.raises(ValueError, match="multiple of 128 bp"):
        model.gene_features(["ACGT" * 33])
    with pytest.raises(ValueError, match=r"expected \(batch, bases, 4\)"):
        model.gene_features(torch.zeros(1, 4, 128))
    with pytest.raises(ValueError, match="from 1 to 2"):
        model.gene_features(["ACGT" * 64], pool=3)
    with pytest.raises(ValueError, match="expected final_pointwise"):
        model.gene_features(["ACGT" * 64], layer="stem")  # type: ignore[arg-type]
    official = EnformerForGeneFeatures(EnformerConfig(**{**SIZES, "use_tf_gamma": True}))
    with pytest.raises(ValueError, match="exist for 196,608 bp only"):
        official.gene_features(["ACGT" * 64])


def test_a_process_without_the_package_loads_what_was_saved(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = EnformerForGeneFeatures(EnformerConfig(**SIZES)).eval()
    model.save_pretrained(tmp_path / "model")
    code = """
import sys
sys.modules["omics_transformers"] = None
import torch
from transformers import AutoModel
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
features = model.gene_features(["ACGT" * 64]).detach()
torch.save(torch.cat([features, model.incremental("AACC" * 64).gene_features(["ACGT" * 64])]), sys.argv[2])
"""
    environment = {"HF_MODULES_CACHE": str(tmp_path / "modules"), "PATH": "", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code, tmp_path / "model", tmp_path / "features.pt"]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path, timeout=120)
    found = torch.load(tmp_path / "features.pt", weights_only=True)
    torch.testing.assert_close(found, model.gene_features(["ACGT" * 64] * 2).detach())
