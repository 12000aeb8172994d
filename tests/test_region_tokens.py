"""Tokens between padding, and the middle piece that fits, on random regions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.pipelines.region_tokens import TokenLimit, central_piece, padding_shares, place_tokens
from omics_transformers.pipelines.segmentation_windows import count_tokens

CLS, PAD = 3, 1
regions = st.lists(st.lists(st.integers(5, 99), max_size=9), min_size=1, max_size=5)
dna = st.text("ACGTN", min_size=1, max_size=300).map(str.encode)


@given(regions, st.integers(10, 14), st.floats(0, 1))
def test_tokens_stand_together_behind_cls_and_padding(lists: list[list[int]], num_tokens: int, share: float) -> None:
    tokens = [np.array([CLS, *one], dtype=np.uint16) for one in lists]
    input_ids, attention_mask = place_tokens(tokens, share, num_tokens=num_tokens, pad_token_id=PAD)
    assert input_ids.shape == attention_mask.shape == (len(lists), num_tokens)
    assert input_ids.dtype == attention_mask.dtype == np.int64
    for row, mask, one in zip(input_ids.tolist(), attention_mask.tolist(), lists, strict=True):
        missing = num_tokens - 1 - len(one)
        before = min(int(share * (missing + 1)), missing)
        assert row == [CLS, *[PAD] * before, *one, *[PAD] * (missing - before)]
        assert mask == [int(token != PAD) for token in row]


def test_a_share_a_region() -> None:
    tokens = [np.array([CLS, 7, 8]), np.array([CLS, 9])]
    together, _ = place_tokens(tokens, [0.5, 1.0], num_tokens=6, pad_token_id=PAD)
    assert together.tolist() == [[CLS, PAD, PAD, 7, 8, PAD], [CLS, PAD, PAD, PAD, PAD, 9]]
    with pytest.raises(ValueError, match="broadcast"):
        place_tokens(tokens, [0.5, 1.0, 0.0], num_tokens=6, pad_token_id=PAD)


def test_places_of_the_padding() -> None:
    assert padding_shares(1) == [0.0]
    assert padding_shares(2) == [0.0, 1.0]
    assert padding_shares(3) == [0.0, 0.5, 1.0]
    tokens = [np.array([CLS, 7, 8])]
    fronts = [
        int((place_tokens(tokens, share, num_tokens=7, pad_token_id=PAD)[0][0] == 7).argmax()) - 1
        for share in padding_shares(3)
    ]
    assert fronts == [0, 2, 4]


@given(dna, st.integers(2, 40))
def test_the_middle_piece_fits(bases: bytes, num_tokens: int) -> None:
    limit = TokenLimit(num_tokens, 6)
    start, end = central_piece(bases, limit)
    assert abs(start - (len(bases) - end)) <= 1
    assert count_tokens(bases[start:end], 6) <= num_tokens
    if limit.takes(bases):
        assert (start, end) == (0, len(bases))
    else:
        assert (end - start) % 6 == 0 or end - start < 6


@pytest.mark.parametrize(
    ("length", "expected"), [(120, (0, 120)), (119, (2, 116)), (121, (0, 120)), (1_000, (440, 560))]
)
def test_without_n_it_is_all_that_the_model_takes(length: int, expected: tuple[int, int]) -> None:
    assert central_piece(b"A" * length, TokenLimit(21, 6)) == expected


def test_n_is_a_token_each() -> None:
    limit = TokenLimit(21, 6)
    assert limit.longest_bp == 120 and limit.takes(b"N" * 20) and not limit.takes(b"N" * 21)
    start, end = central_piece(b"N" * 100, limit)
    assert (start, end) == (41, 59)
