"""What the collator masks, and what a batch holds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.training.collators import Cell, DonorVariants, MaskedGeneCollator

VOCABULARY, SPECIAL = 52, 4


def make_cells(count: int, *, seed: int = 0, epoch: int = 0, shortest: int = 5, longest: int = 48) -> list[Cell]:
    """<cls>, distinct genes, <eos>."""
    random = np.random.default_rng(seed)
    genes = [random.permutation(VOCABULARY - SPECIAL)[: random.integers(shortest, longest)] for _ in range(count)]
    return [
        Cell(np.r_[2, some + SPECIAL, 3].astype(np.uint16), number, epoch, number % 3)
        for number, some in enumerate(genes)
    ]


def make_collator(**changes: object) -> MaskedGeneCollator:
    return MaskedGeneCollator(**{"vocab_size": VOCABULARY, "num_special_tokens": SPECIAL, **changes})


def make_variants() -> DonorVariants:
    """Donor 0 has a variant of every even gene, donor 1 of every gene, donor 2 of none; a row a (donor, gene)."""
    rows = np.full((3, VOCABULARY), -1, dtype=np.int32)
    rows[0, SPECIAL::2] = np.arange(24)
    rows[1, SPECIAL:] = np.arange(24, 72)
    return DonorVariants(rows, torch.arange(72.0)[:, None].repeat(1, 5))


def test_pads_to_the_longest_and_restores_by_labels() -> None:
    cells = make_cells(6)
    batch = make_collator()(cells)
    longest = max(len(cell.input_ids) for cell in cells)
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape == (6, longest)
    restored = torch.where(batch["labels"] == -100, batch["input_ids"], batch["labels"])
    for cell, row, mask in zip(cells, restored, batch["attention_mask"], strict=True):
        length = len(cell.input_ids)
        assert row[:length].tolist() == cell.input_ids.tolist()
        assert (row[length:] == 0).all()
        assert mask.tolist() == [1] * length + [0] * (longest - length)
    assert make_collator(pad_to_multiple_of=8)(cells)["input_ids"].shape[1] % 8 == 0


def test_shares_of_masked_replaced_and_kept_tokens() -> None:
    batch = make_collator()(make_cells(3000))
    genes = (batch["attention_mask"] == 1) & ~torch.isin(batch["input_ids"], torch.tensor([2, 3]))
    masked = batch["labels"] != -100
    assert masked.sum() / genes.sum() == pytest.approx(0.15, abs=0.006)
    seen, true = batch["input_ids"][masked], batch["labels"][masked]
    assert (seen == 1).float().mean() == pytest.approx(0.8, abs=0.02)
    assert (seen == true).float().mean() == pytest.approx(0.1 + 0.1 / 48, abs=0.015)
    others = seen[(seen != 1) & (seen != true)]
    assert (others >= SPECIAL).all()
    counts = torch.bincount(others, minlength=VOCABULARY)[SPECIAL:]
    assert (counts > 0.4 * counts.float().mean()).all()  # every gene is drawn, none preferred
    assert (counts < 2 * counts.float().mean()).all()


@given(st.integers(0, 2**31), st.integers(1, 12), st.sampled_from([0.01, 0.15, 0.6, 1.0]))
def test_never_masks_specials_and_masks_in_every_cell(seed: int, count: int, probability: float) -> None:
    cells = make_cells(count, seed=seed, shortest=1)
    batch = make_collator(mlm_probability=probability, seed=seed)(cells)
    masked = batch["labels"] != -100
    assert (batch["labels"][masked] >= SPECIAL).all()
    assert (masked.sum(dim=1) >= 1).all()
    if probability == 1.0:
        assert masked.sum().item() == sum(len(cell.input_ids) - 2 for cell in cells)


def test_cells_without_genes_have_no_labels() -> None:
    batch = make_collator()([Cell([2, 3], 0), Cell([], 1), Cell([2, 9, 3], 2)])
    assert (batch["labels"] != -100).sum(dim=1).tolist() == [0, 0, 1]
    assert (make_collator()([Cell([], 0)])["labels"]).shape == (1, 0)
    unforced = make_collator(mlm_probability=1e-9, mask_at_least_one=False)(make_cells(4))
    assert (unforced["labels"] == -100).all()


@given(st.integers(0, 2**31), st.permutations(range(8)))
def test_masks_depend_on_seed_epoch_and_cell_and_not_on_the_batch(seed: int, order: list[int]) -> None:
    cells = make_cells(8)
    collator = make_collator(seed=seed)
    together = collator(cells)
    for place in order:
        length = len(cells[place].input_ids)
        alone = collator([cells[place]])
        for name in ("input_ids", "labels"):
            assert alone[name][0].tolist() == together[name][place, :length].tolist()


def test_another_epoch_cell_or_seed_gives_other_masks() -> None:
    cell = make_cells(1, shortest=40)[0]
    labels = [
        tuple(make_collator(seed=seed)([cell._replace(number=number, epoch=epoch)])["labels"][0].tolist())
        for seed in range(4)
        for epoch in range(4)
        for number in range(4)
    ]
    assert len(set(labels)) == len(labels)


def test_cells_without_a_number_draw_from_the_global_generator() -> None:
    columns = [{"input_ids": [2, *range(5, 40), 3], "length": 37}] * 3
    torch.manual_seed(1)
    first, second = make_collator()(columns), make_collator()(columns)
    torch.manual_seed(1)
    assert torch.equal(make_collator()(columns)["labels"], first["labels"])
    assert not torch.equal(first["labels"], second["labels"])
    assert not torch.equal(first["labels"][0], first["labels"][1])


@pytest.mark.parametrize("gather", [True, False])
def test_variants_are_those_of_the_tokens_that_the_model_sees(gather: bool) -> None:
    cells = make_cells(9)
    variants = make_variants()
    batch = make_collator(donor_variants=variants, gather_variants=gather)(cells)
    ids, features = batch["variant_ids"], batch["variant_features"]
    for cell, tokens, variant_ids in zip(cells, batch["input_ids"].tolist(), ids.tolist(), strict=True):
        for token, variant in zip(tokens, variant_ids, strict=True):
            expected = variants.rows[cell.donor, token]
            found = -1 if variant == -1 else features[variant, 0].item()
            assert found == expected
    assert (ids[batch["input_ids"] < SPECIAL] == -1).all()  # a masked gene's own DNA is not there to see
    if gather:
        assert sorted(ids[ids >= 0].unique().tolist()) == list(range(len(features)))
    else:
        assert features is variants.features


def test_cells_of_the_reference_have_no_variants() -> None:
    batch = make_collator(donor_variants=make_variants())([Cell([2, 5, 6, 3], 0), Cell([2, 5, 6, 3], 1, 0, 2)])
    assert (batch["variant_ids"] == -1).all()
    assert batch["variant_features"].shape == (0, 5)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"mlm_probability": 0.0}, "mlm_probability is 0.0"),
        ({"mask_replace_prob": 0.8, "random_replace_prob": 0.3}, "nor their sum above 1"),
    ],
)
def test_refuses_impossible_shares(changes: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make_collator(**changes)


def test_refuses_tokens_outside_the_vocabulary_and_cells_without_tokens() -> None:
    with pytest.raises(ValueError, match=r"token ids 5 to 52, and the vocabulary has 52"):
        make_collator()([Cell([5, 52], 0)])
    with pytest.raises(ValueError, match="lacks input_ids"):
        make_collator()([{"length": 3}])
