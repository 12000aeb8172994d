"""Vocabulary of k-mers, and DNA to its token ids by array arithmetic, without a loop over bases.

Source: the vocabularies published with the Nucleotide Transformer, and the rule of its public JAX code: a sequence is
cut into k-mers from the left, anew after every N, and what does not fill a k-mer is given letter by letter.
Letters: lower case counts as upper case, U as T, and the IUPAC letters R, Y, S, W, K, M, B, D, H, V as N.
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

BASES = "ATCG"  # in the order of the published k-mers
AMBIGUOUS_LETTERS = "RYSWKMBDHV"
VALID_LETTERS = "ACGTUN" + AMBIGUOUS_LETTERS
REQUIRED_SPECIAL_TOKENS = ("<pad>", "<mask>", "<cls>")
PUBLISHED_SPECIAL_TOKENS = ("<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>")

SPECIAL_TOKEN = re.compile(r"<[^<>\s]+>")
_N, _START, _INVALID = 4, 5, 255  # codes of letters; 0 to 3 are the bases, and _START precedes each sequence
_START_BYTE = 0  # no letter


class TokenizedBases(NamedTuple):
    """Sequences as tokens, all behind one another.

    Attributes:
        ids: (tokens,) uint16, or uint32 for vocabularies beyond 65,536 tokens; each sequence begins with <cls>.
        offsets: (tokens, 2) int64, bases [start, end) within the token's own sequence; (0, 0) for <cls>.
        counts: (sequences,) int64, tokens of each.
    """

    ids: np.ndarray
    offsets: np.ndarray
    counts: np.ndarray


class KmerVocabulary:
    """Tokens by id, and the tables that turn letters into ids.

    Args:
        tokens: in the order of their ids: special tokens as <name>, A, C, G, T and N, and all k-mers of one k.

    Attributes:
        kmer_size: k, bases of a k-mer.
        ids: token -> id.
        special_tokens: tokens of the form <name>, by id.
        widths: (vocabulary,) int64, bases that a token stands for; k for <mask>, which stands in a k-mer's place.

    Raises:
        ValueError: where the tokens are not such a vocabulary.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = list(tokens)
        self.ids = {token: number for number, token in enumerate(self.tokens)}
        self.special_tokens = [token for token in self.tokens if SPECIAL_TOKEN.fullmatch(token)]
        kmers = [token for token in self.tokens if len(token) > 1 and not set(token) - set(BASES)]
        self.kmer_size = len(kmers[-1]) if kmers else 0
        self._check(kmers)
        self._kmer_ids = self._table("".join(kmer) for kmer in itertools.product(BASES, repeat=self.kmer_size))
        self._letter_ids = self._table([*BASES, "N", "<cls>"])  # by code
        self.widths = np.array([self._width(token) for token in self.tokens], dtype=np.int64)

    @classmethod
    def published(cls, kmer_size: int = 6) -> "KmerVocabulary":
        """That of the Nucleotide Transformer v2 and SegmentNT: 4,107 tokens at the default k of 6."""
        kmers = ("".join(kmer) for kmer in itertools.product(BASES, repeat=kmer_size))
        return cls([*PUBLISHED_SPECIAL_TOKENS, *kmers, *BASES, "N"])

    @classmethod
    def read(cls, path: str | PathLike[str]) -> "KmerVocabulary":
        """That of a vocab.txt: a token a line, in the order of their ids."""
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        tokens = [line.strip() for line in lines]
        while tokens and not tokens[-1]:
            tokens.pop()
        first_lines: dict[str, int] = {}
        for number, token in enumerate(tokens, start=1):
            if not token or token in first_lines:
                found = f"{token} again, as in line {first_lines[token]:,}" if token else "no token"
                raise ValueError(f"{path}, line {number:,} holds {found}: expected each token once, a token a line")
            first_lines[token] = number
        try:
            return cls(tokens)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @property
    def kmer_token_ids(self) -> list[int]:
        """First id of the k-mers, and the id behind the last; as the models' configurations have it."""
        return self._id_range(self._kmer_ids, f"{self.kmer_size}-mers")

    @property
    def letter_token_ids(self) -> list[int]:
        """First id of the letters A, T, C, G and N, and the id behind the last."""
        return self._id_range(self._letter_ids[:5], "single letters")

    def encode(self, sequences: Sequence[str | bytes]) -> TokenizedBases:
        """Token ids and offsets of sequences, <cls> first in each.

        Raises:
            ValueError: naming the sequence, the character and its position (0-based) where it is no letter of DNA.
        """
        lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
        codes = _codes(sequences, lengths)
        starts, widths = _cut(codes, self.kmer_size)
        first_codes = codes[starts]
        ids = self._letter_ids[first_codes]
        is_kmer = widths > 1
        ids[is_kmer] = self._kmer_ids[_kmer_numbers(codes, starts[is_kmer], self.kmer_size)]
        # The code in front of each sequence, which becomes its <cls>, shifts all positions by one a sequence.
        firsts = np.flatnonzero(first_codes == _START)
        counts = np.diff(firsts, append=len(starts))
        offsets = np.stack((starts, starts + widths), axis=1) - np.repeat(starts[firsts] + 1, counts)[:, None]
        offsets[firsts] = 0
        return TokenizedBases(ids, offsets, counts)

    def _check(self, kmers: list[str]) -> None:
        known = {*kmers, *self.special_tokens, *BASES, "N"}
        odd = [token for token in self.tokens if token not in known]
        if odd:
            raise ValueError(
                f"{len(odd):,} tokens are neither k-mers of A, C, G and T, nor A, C, G, T or N, nor special tokens "
                f"such as <pad>, e.g. {', '.join(repr(token) for token in odd[:3])}: give the vocabulary of a "
                "Nucleotide Transformer"
            )
        missing = [token for token in (*REQUIRED_SPECIAL_TOKENS, *BASES, "N") if token not in self.ids]
        if missing:
            raise ValueError(f"the vocabulary of {len(self.tokens):,} tokens lacks {', '.join(missing)}")
        if len(self.ids) < len(self.tokens):
            raise ValueError(f"{len(self.tokens) - len(self.ids):,} tokens come more than once")
        if not kmers or len(kmers) != 4**self.kmer_size or len({len(kmer) for kmer in kmers}) > 1:
            sizes = sorted({len(kmer) for kmer in kmers})
            raise ValueError(
                f"the vocabulary has {len(kmers):,} k-mers of {sizes or 'no'} bases: expected all k-mers of one "
                "length, which are 4^k, k at least 2"
            )

    def _table(self, tokens: Iterable[str]) -> np.ndarray:
        dtype = np.uint16 if len(self.tokens) <= 2**16 else np.uint32
        return np.array([self.ids[token] for token in tokens], dtype=dtype)

    def _width(self, token: str) -> int:
        if token == "<mask>":
            return self.kmer_size
        return 0 if token in self.special_tokens else len(token)

    def _id_range(self, ids: np.ndarray, name: str) -> list[int]:
        first, behind = int(ids.min()), int(ids.max()) + 1
        if behind - first != len(ids):
            raise ValueError(
                f"the ids of the {len(ids):,} {name} lie between {first:,} and {behind - 1:,}, with others among them: "
                "the models need them to be consecutive"
            )
        return [first, behind]


def first_invalid_character(sequence: str) -> int | None:
    """Position (0-based) of the first character that is no letter of DNA, None where there is none."""
    codes = _CODES[np.frombuffer(sequence.encode("ascii", errors="replace"), dtype=np.uint8)]
    invalid = np.flatnonzero(codes >= _START)
    return int(invalid[0]) if len(invalid) else None


def invalid_character_error(sequence: str, position: int, number: int | None = None) -> ValueError:
    """What is wrong with a character, and what to do about it; `number` of the sequence among several."""
    where = "the sequence" if number is None else f"sequence {number:,}"
    return ValueError(
        f"{where} has {sequence[position]!r} at position {position:,} (0-based): expected letters of DNA, which are A, "
        "C, G, T, U, N and the IUPAC letters R, Y, S, W, K, M, B, D, H, V, in upper or lower case; remove gaps, white "
        "space and line ends, and write N for what is unknown"
    )


def _code_table() -> np.ndarray:
    table = np.full(256, _INVALID, dtype=np.uint8)
    for letters, code in [*zip([*BASES, "U", "N", AMBIGUOUS_LETTERS], [0, 1, 2, 3, 1, _N, _N], strict=True)]:
        table[[ord(letter) for letter in letters + letters.lower()]] = code
    table[_START_BYTE] = _START
    return table


_CODES = _code_table()


def _codes(sequences: Sequence[str | bytes], lengths: np.ndarray) -> np.ndarray:
    """(letters,) uint8 code of each letter, with _START in front of each sequence."""
    start = bytes([_START_BYTE])
    if all(isinstance(sequence, str) for sequence in sequences):
        text = chr(_START_BYTE).join(["", *sequences])  # type: ignore[list-item]  # all are text
        letters = text.encode("ascii", errors="replace")
    else:
        letters = start.join([b"", *(_as_bytes(sequence) for sequence in sequences)])
    codes = _CODES[np.frombuffer(letters, dtype=np.uint8)]
    firsts = np.cumsum(lengths + 1) - lengths - 1
    is_invalid = codes >= _START
    is_invalid[firsts] = False
    if is_invalid.any():
        first = int(is_invalid.argmax())
        number = int(np.searchsorted(firsts, first, side="right")) - 1
        sequence = sequences[number]
        text = sequence if isinstance(sequence, str) else bytes(sequence).decode("latin-1")
        only = None if len(sequences) == 1 else number
        raise invalid_character_error(text, first - int(firsts[number]) - 1, only)
    return codes


def _as_bytes(sequence: str | bytes) -> bytes:
    return sequence.encode("ascii", errors="replace") if isinstance(sequence, str) else bytes(sequence)


def _cut(codes: np.ndarray, kmer_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where tokens start (tokens,) int64 and how many letters they have (tokens,) uint8.

    Letters fall into runs of bases and runs of others, in turn. A run of bases gives k-mers and then single letters,
    any other run single letters only.
    """
    if not len(codes):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint8)
    is_base = codes < _N
    run_starts = np.concatenate(([0], np.flatnonzero(is_base[1:] != is_base[:-1]) + 1))
    run_lengths = np.diff(run_starts, append=len(codes))
    kmers = run_lengths // kmer_size * is_base[run_starts]
    tokens = np.stack((kmers, run_lengths - kmers * kmer_size), axis=1)  # (runs, 2): k-mers, single letters
    widths = np.repeat(np.tile(np.array([kmer_size, 1], dtype=np.uint8), len(tokens)), tokens.ravel())
    return np.cumsum(widths, dtype=np.int64) - widths, widths


def _kmer_numbers(codes: np.ndarray, starts: np.ndarray, kmer_size: int) -> np.ndarray:
    """(k-mers,) number of each k-mer among all, its bases being digits to base 4."""
    numbers: np.ndarray = np.zeros(len(starts), dtype=np.uint16 if kmer_size <= 8 else np.int64)
    for place in range(kmer_size):
        numbers *= 4
        numbers += codes[starts + place]
    return numbers
