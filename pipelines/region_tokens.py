"""Regions of DNA as the tokens that a region ranker reads: always as many, with padding before or behind the region's.

Source: "Region Ranking on scATAC", chapter 3: padding at the end (its first version) or at random on both sides (its
second). Which piece of a region with too many tokens is scored, and which regions say nothing, is settled here too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .segmentation_windows import count_tokens


class TokenLimit(NamedTuple):
    """What a model takes.

    Attributes:
        num_tokens: tokens of a region, <cls> included.
        kmer_size: bases of a k-mer token.
    """

    num_tokens: int
    kmer_size: int

    @property
    def longest_bp(self) -> int:
        """Bases of the longest region that fits, which is one without N."""
        return (self.num_tokens - 1) * self.kmer_size

    def takes(self, bases: bytes) -> bool:
        """Whether a region fits: each N is a token, and so is each letter that fills no k-mer."""
        return count_tokens(bases, self.kmer_size) <= self.num_tokens


def place_tokens(
    tokens: Sequence[np.ndarray], padding_share: float | Sequence[float], *, num_tokens: int, pad_token_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lay each region's tokens between padding.

    Args:
        tokens: (tokens,) ids a region, <cls> first; at most `num_tokens`.
        padding_share: of the padding that stands before the region's tokens, behind <cls>: 0 none, 1 all; one for all
            regions, or one each.
        num_tokens: to make of each.
        pad_token_id: of <pad>.

    Returns:
        input_ids and attention_mask, (regions, num_tokens) int64 each.
    """
    input_ids = np.full((len(tokens), num_tokens), pad_token_id, dtype=np.int64)
    shares = np.broadcast_to(padding_share, len(tokens)).tolist()
    for row, region, share in zip(input_ids, tokens, shares, strict=True):
        missing = num_tokens - len(region)
        before = min(int(share * (missing + 1)), missing)
        row[0] = region[0]
        row[1 + before : before + len(region)] = region[1:]
    return input_ids, (input_ids != pad_token_id).astype(np.int64)


def padding_shares(draws: int) -> list[float]:
    """So many places of the padding, evenly spread: one is at the end; of several the last is all in front."""
    return np.linspace(0, 1, draws).tolist()


def central_piece(bases: bytes, limit: TokenLimit) -> tuple[int, int]:
    """The longest piece in the middle that a model takes: (start, end) within the region.

    One that is shorter than the region is a multiple of the k-mer's length long.
    """
    length = min(len(bases), limit.longest_bp)
    while True:
        start = (len(bases) - length) // 2
        if limit.takes(bases[start : start + length]):
            return start, start + length
        length -= length % limit.kmer_size or limit.kmer_size
