"""Packed batches against padded ones of the same cells, and against transformers' own flattening."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from transformers import DataCollatorWithFlattening

from omics_transformers.training.cell_block import Cell, CellBlock
from omics_transformers.training.collators import DonorVariants, MaskedGeneCollator
from omics_transformers.training.packed_cells import PackedGeneCollator

VOCABULARY, SPECIAL = 52, 3


def make_cells(lengths: list[int], *, seed: int = 0) -> list[Cell]:
    random = np.random.default_rng(seed)
    tokens = [random.permutation(VOCABULARY - 1)[:length] + 1 for length in lengths]
    return [Cell(some.astype(np.uint16), number, seed, number % 4 - 1) for number, some in enumerate(tokens)]


def make_variants() -> DonorVariants:
    """Donor 0 has a variant of every even gene, donor 1 of every gene, donor 2 of none; a row a (donor, gene)."""
    rows = np.full((3, VOCABULARY), -1, dtype=np.int32)
    rows[0, SPECIAL + 1 :: 2] = np.arange(24)
    rows[1, SPECIAL:] = np.arange(24, 73)
    return DonorVariants(rows, torch.arange(73.0)[:, None].repeat(1, 5))


def make_collators(**changes: Any) -> tuple[PackedGeneCollator, MaskedGeneCollator]:
    packed = PackedGeneCollator(VOCABULARY, SPECIAL, **changes)
    return packed, packed.padded()


@given(st.lists(st.integers(0, 50), min_size=1, max_size=9), st.integers(0, 2**31), st.booleans())
def test_holds_what_the_padded_batch_holds(lengths: list[int], seed: int, gather: bool) -> None:
    packed_collator, padded_collator = make_collators(
        seed=seed, donor_variants=make_variants(), gather_variants=gather, mlm_probability=0.3
    )
    cells = make_cells(lengths, seed=seed % 7)
    packed, padded = packed_collator(cells), padded_collator(cells)
    filled = padded["attention_mask"].bool()
    for name in ("input_ids", "labels", "variant_ids"):
        assert packed[name].shape == (1, sum(lengths))
        assert torch.equal(packed[name][0], padded[name][filled]), name
    assert torch.equal(packed["variant_features"], padded["variant_features"])
    block = CellBlock.of(cells)
    assert all(np.array_equal(packed_collator(block)[name], packed[name]) for name in packed)


def test_keys_and_dtypes_are_those_of_transformers_flattening_collator() -> None:
    cells = make_cells([5, 1, 12])
    packed = make_collators()[0](cells)
    flattened = DataCollatorWithFlattening(return_flash_attn_kwargs=True)(
        [{"input_ids": cell.input_ids, "labels": cell.input_ids} for cell in cells]
    )
    assert set(packed) == set(flattened)
    for name, expected in flattened.items():
        assert type(packed[name]) is type(expected), name
        if isinstance(expected, torch.Tensor):
            assert (packed[name].dtype, packed[name].shape) == (expected.dtype, expected.shape), name
    for name in ("position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"):
        assert np.array_equal(packed[name], flattened[name]), name


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9), st.integers(0, 2**31))
def test_places_are_what_the_model_would_find(lengths: list[int], seed: int) -> None:
    for collator in make_collators(seed=seed, precompute_places=True):
        batch = collator(make_cells(lengths))
        distinct, places = torch.unique(batch["input_ids"], return_inverse=True)
        assert torch.equal(batch["distinct_token_ids"], distinct)
        assert torch.equal(batch["token_places"], places)
        masked = (batch["labels"].reshape(-1) != -100).nonzero().squeeze(1)
        assert torch.equal(batch["masked_positions"], masked)
        assert {batch[name].dtype for name in ("distinct_token_ids", "token_places", "masked_positions")} == {
            torch.int64
        }
        assert not {"distinct_token_ids", "token_places", "masked_positions"} & set(
            make_collators()[0](make_cells([3]))
        )


@pytest.mark.gpu
def test_a_data_loader_pins_tensors_and_leaves_integers() -> None:
    collator, _ = make_collators(precompute_places=True, donor_variants=make_variants())
    (batch,) = DataLoader(make_cells([5, 3]), batch_size=2, collate_fn=collator, pin_memory=True)
    assert isinstance(batch["max_length_q"], int)
    assert all(value.is_pinned() for value in batch.values() if isinstance(value, torch.Tensor))


def test_refuses_to_pad() -> None:
    with pytest.raises(ValueError, match="pad_to_multiple_of is 8, and packed batches have no padding"):
        PackedGeneCollator(VOCABULARY, pad_to_multiple_of=8)
    with pytest.raises(ValueError, match="token ids 1 to 60, and the vocabulary has 52"):
        make_collators()[0]([Cell([1, 60], 0)])
