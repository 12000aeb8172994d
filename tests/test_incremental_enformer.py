"""Incremental Enformer against whole passes: edits anywhere, clusters, N, batches; what it saves; what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omics_transformers.modeling.configuration_enformer import EnformerConfig
from omics_transformers.modeling.incremental_enformer import IncrementalEnformer
from omics_transformers.modeling.modeling_enformer import EnformerForGeneFeatures

POSITIONS = 24
WINDOW = 128 * POSITIONS


def make_model(**sizes: object) -> EnformerForGeneFeatures:
    """Random weights, and statistics of its own activations, so that one base changes the tower's output plainly."""
    config = {
        "dim": 48,
        "depth": 2,
        "heads": 4,
        "output_heads": {"human": 5, "mouse": 2},
        "target_length": 12,
        "attn_dim_key": 8,
        "dim_divisible_by": 6,
    }
    torch.manual_seed(0)
    model = EnformerForGeneFeatures(EnformerConfig(**{**config, **sizes})).eval()
    for layer in model.transformer:
        layer[0].fn[1].to_out.reset_parameters()  # zero at first, which leaves no attention
    for module in (*model.stem.modules(), *model.conv_tower.modules()):
        if isinstance(module, torch.nn.BatchNorm1d):
            module.momentum = None  # statistics are the mean over what it has seen
        elif isinstance(module, torch.nn.Conv1d):
            torch.nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    with torch.no_grad():
        model.train().run_tower(torch.eye(4)[torch.randint(0, 4, (2, WINDOW))])
    return model.eval()


@pytest.fixture(scope="module")
def model() -> EnformerForGeneFeatures:
    return make_model()


def random_window(seed: int = 0, bases: int = WINDOW) -> str:
    letters = np.random.default_rng(seed).choice(list("ACGT"), bases)
    letters[300:340] = "N"
    return "".join(letters)


@pytest.fixture(scope="module")
def incremental(model: EnformerForGeneFeatures) -> IncrementalEnformer:
    return model.incremental(random_window())


def edit(sequence: str, changes: dict[int, str]) -> str:
    letters = list(sequence)
    for place, base in changes.items():
        letters[place] = base
    return "".join(letters)


def other_base(sequence: str, place: int, step: int = 1) -> str:
    return "ACGTN"[("ACGTN".index(sequence[place]) + step) % 5]


def assert_equal_to_whole_passes(
    model: EnformerForGeneFeatures, incremental: IncrementalEnformer, sequences: list[str]
) -> None:
    with torch.no_grad():
        one_hot = model.one_hot(sequences)
        torch.testing.assert_close(incremental.run_tower(one_hot), model.run_tower(one_hot), rtol=1e-5, atol=1e-5)
        for layer in ("conv_tower", "transformer", "final_pointwise"):
            expected = model.gene_features(sequences, layer=layer, pool=2)
            torch.testing.assert_close(
                incremental.gene_features(sequences, layer=layer, pool=2), expected, rtol=1e-5, atol=1e-5
            )
        expected = model.predicted_expression(sequences, tracks=[4, 0])
        found = incremental.predicted_expression(sequences, tracks=[4, 0])
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


EDITS = {
    "first base": [0],
    "last base": [WINDOW - 1],
    "centre": [WINDOW // 2],
    "both ends": [0, WINDOW - 1],
    "two neighbours": [777, 778],
    "two clusters that just touch": [1000, 1000 + 640],
    "clusters": [3, 20, 1500, 1530, 1531, 2900],
    "a known base becomes N, an N known": [295, 310, 339],
    "a stretch": list(range(1200, 1700)),
    "most of the window": list(range(0, WINDOW, 100)),
}


@pytest.mark.parity
@pytest.mark.parametrize("places", EDITS.values(), ids=EDITS)
def test_each_edit_alone(places: list[int], model: EnformerForGeneFeatures, incremental: IncrementalEnformer) -> None:
    reference = random_window()
    edited = edit(reference, {place: other_base(reference, place) for place in places})
    with torch.no_grad():
        assert (model.run_tower(model.one_hot([edited])) - incremental._tower).abs().max() > 0.005
    assert_equal_to_whole_passes(model, incremental, [edited])


@pytest.mark.parity
def test_all_edits_in_one_batch(model: EnformerForGeneFeatures, incremental: IncrementalEnformer) -> None:
    reference = random_window()
    edited = [edit(reference, {place: other_base(reference, place) for place in places}) for places in EDITS.values()]
    assert_equal_to_whole_passes(model, incremental, [reference, *edited, random_window(7)])


@pytest.mark.parity
@settings(max_examples=40)
@given(
    places=st.lists(
        st.lists(st.tuples(st.integers(0, WINDOW - 1), st.integers(1, 4)), max_size=12), min_size=1, max_size=5
    )
)
def test_any_edits(
    places: list[list[tuple[int, int]]], model: EnformerForGeneFeatures, incremental: IncrementalEnformer
) -> None:
    reference = random_window()
    edited = [edit(reference, {place: other_base(reference, place, step) for place, step in one}) for one in places]
    one_hot = model.one_hot(edited)
    with torch.no_grad():
        torch.testing.assert_close(incremental.run_tower(one_hot), model.run_tower(one_hot), rtol=1e-5, atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("downsamples", [3, 5])
def test_other_depths(downsamples: int) -> None:
    model = make_model(num_downsamples=downsamples, target_length=-1)
    reference = random_window(bases=1024)
    edited = [edit(reference, {place: other_base(reference, place)}) for place in range(0, 1024, 93)]
    assert_equal_to_whole_passes(model, model.incremental(reference), edited)


def test_positions_beyond_the_reach_are_the_references_own(incremental: IncrementalEnformer) -> None:
    reference = random_window()
    edited = edit(reference, {WINDOW // 2: other_base(reference, WINDOW // 2)})
    tower = incremental.run_tower(incremental.model.one_hot([edited]))
    is_same = (tower == incremental._tower).all(dim=2)[0]
    middle = POSITIONS // 2
    assert is_same[: middle - 4].all() and is_same[middle + 4 :].all() and not is_same[middle]


def test_no_change_gives_exactly_the_reference(
    model: EnformerForGeneFeatures, incremental: IncrementalEnformer
) -> None:
    reference = random_window()
    found = incremental.gene_features([reference, reference])
    assert torch.equal(found[0], found[1])
    with torch.no_grad():
        torch.testing.assert_close(found[:1], model.gene_features([reference]))


def test_the_share_recomputed(model: EnformerForGeneFeatures) -> None:
    reference = random_window()
    incremental = model.incremental(reference)
    assert incremental.recomputed_share == 0
    edited = edit(reference, {WINDOW // 2: other_base(reference, WINDOW // 2)})
    incremental.gene_features([reference])
    assert incremental.recomputed_share == 0
    incremental.gene_features([edited] * 3)
    # 16 outputs of the stem's convolution and 12 or so of each block's, of two for each base of the window.
    assert 16 / (2 * WINDOW) < incremental.recomputed_share * 4 / 3 < 120 / (2 * WINDOW)
    whole = model.incremental(reference)
    whole.gene_features([random_window(3)])
    assert whole.recomputed_share == 1


def test_features_and_expression_in_one_pass(incremental: IncrementalEnformer) -> None:
    sequences = [edit(random_window(), {1500: "A", 1501: "A"}), random_window()]
    for layer in ("conv_tower", "transformer", "final_pointwise"):
        features, expression = incremental.features_and_expression(
            sequences, tracks=[1], head="mouse", centre_bins=2, layer=layer, pool=3
        )
        assert torch.equal(features, incremental.gene_features(sequences, layer=layer, pool=3))
        expected = incremental.predicted_expression(sequences, tracks=[1], head="mouse", centre_bins=2)
        assert torch.equal(expression, expected)


def test_references_as_strings_and_one_hot(model: EnformerForGeneFeatures) -> None:
    reference = random_window()
    edited = [edit(reference, {5: "A", 6: "A"})]
    one_hot = model.one_hot([reference])
    expected = model.incremental(reference).gene_features(edited)
    for given_reference in (one_hot, one_hot[0]):
        assert torch.equal(model.incremental(given_reference).gene_features(model.one_hot(edited)), expected)


def test_the_memory_is_counted(model: EnformerForGeneFeatures) -> None:
    channels = [4, 24, *(block[0][2].out_channels for block in model.conv_tower)]
    positions = [WINDOW >> level for level in range(8)]
    expected = 4 * sum(size * number for size, number in zip(channels, positions, strict=True))
    assert model.incremental(random_window()).memory_bytes == expected


def test_bfloat16(model: EnformerForGeneFeatures) -> None:
    reference = random_window()
    edited = [edit(reference, {1500: "A", 1501: "A", 1502: "A"})]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.incremental(reference).gene_features(edited)
        expected = model.gene_features(edited)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


@pytest.mark.gpu
@pytest.mark.parity
def test_on_a_gpu() -> None:
    model = make_model().cuda()
    reference = random_window()
    edited = [edit(reference, {place: other_base(reference, place) for place in places}) for places in EDITS.values()]
    assert_equal_to_whole_passes(model, model.incremental(reference), edited)


def test_what_is_refused(model: EnformerForGeneFeatures, incremental: IncrementalEnformer) -> None:
    with pytest.raises(ValueError, match=r"training mode.*call eval\(\)"):
        make_model().train().incremental(random_window())
    with pytest.raises(ValueError, match="multiple of 128 bp"):
        model.incremental("ACGT" * 33)
    with pytest.raises(ValueError, match="2 reference windows"):
        model.incremental(torch.zeros(2, 256, 4))
    with pytest.raises(ValueError, match="edited windows have 256 bp and the reference 3,072"):
        incremental.gene_features(["ACGT" * 64])
    with pytest.raises(ValueError, match="from 1 to 24"):
        incremental.gene_features([random_window()], pool=25)
    with pytest.raises(ValueError, match="expected final_pointwise"):
        incremental.gene_features([random_window()], layer="stem")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no head 'rat'"):
        incremental.predicted_expression([random_window()], tracks=[0], head="rat")
