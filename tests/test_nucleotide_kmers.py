"""Vocabularies of k-mers, and the vectorised cutting of DNA against the rule a letter at a time."""

import gzip
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.modeling.nucleotide_kmers import BASES, KmerVocabulary

SPECIALS = ["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>"]
LETTERS = "ACGTNacgtnuURYSWKMBDHVryswkmbdhv"


def shuffled_vocabulary(kmer_size: int, seed: int) -> KmerVocabulary:
    tokens = KmerVocabulary.published(kmer_size).tokens
    return KmerVocabulary([tokens[number] for number in np.random.default_rng(seed).permutation(len(tokens))])


def plain_tokens(sequence: str, kmer_size: int) -> list[str]:
    """The rule as it is written down, a letter at a time."""
    letters = sequence.upper().replace("U", "T")
    letters = "".join(letter if letter in "ACGT" else "N" for letter in letters)
    tokens = ["<cls>"]
    while letters:
        kmer = letters[:kmer_size]
        size = kmer_size if len(kmer) == kmer_size and "N" not in kmer else 1
        tokens.append(letters[:size])
        letters = letters[size:]
    return tokens


def plain_offsets(tokens: list[str]) -> list[list[int]]:
    ends = np.cumsum([0 if token == "<cls>" else len(token) for token in tokens]).tolist()
    return [[start, end] for start, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parity
@given(
    sequences=st.lists(st.text(LETTERS, max_size=60), min_size=1, max_size=5),
    kmer_size=st.integers(2, 6),
    as_bytes=st.booleans(),
)
def test_equals_the_rule_a_letter_at_a_time(sequences: list[str], kmer_size: int, as_bytes: bool) -> None:
    vocabulary = shuffled_vocabulary(kmer_size, seed=kmer_size)
    found = vocabulary.encode([sequence.encode() for sequence in sequences] if as_bytes else sequences)
    expected = [plain_tokens(sequence, kmer_size) for sequence in sequences]
    assert found.counts.tolist() == list(map(len, expected))
    assert [vocabulary.tokens[number] for number in found.ids] == list(chain(*expected))
    assert found.offsets.tolist() == list(chain(*map(plain_offsets, expected)))


def test_the_published_vocabulary() -> None:
    vocabulary = KmerVocabulary.published()
    first = ["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>", "AAAAAA", "AAAAAT", "AAAAAC", "AAAAAG", "AAAATA"]
    assert vocabulary.tokens[:11] == first and vocabulary.tokens[4101:] == ["GGGGGG", *"ATCGN"]
    assert vocabulary.kmer_size == 6 and len(vocabulary.tokens) == 4107
    assert vocabulary.kmer_token_ids == [6, 4102] and vocabulary.letter_token_ids == [4102, 4107]
    expected = [3, 369, 369, 366, 4102, 4104, 4105, 4105, 4102]  # printed by a user of the published tokenizer
    assert vocabulary.encode(["ATTCCGATTCCGATTCCAACGGA"]).ids.tolist() == expected


def test_the_vocabulary_of_the_first_version() -> None:
    published = KmerVocabulary.published().tokens
    vocabulary = KmerVocabulary([*SPECIALS[:4], *published[6:], *SPECIALS[4:]])
    assert vocabulary.kmer_token_ids == [4, 4100] and vocabulary.letter_token_ids == [4100, 4105]
    expected = [3, 367, 367, 364, 4100, 4102, 4103, 4103, 4100]
    assert vocabulary.encode(["ATTCCGATTCCGATTCCAACGGA"]).ids.tolist() == expected


def test_many_tokens_need_wider_ids() -> None:
    vocabulary = KmerVocabulary.published(8)
    found = vocabulary.encode(["GGGGGGGGAAAAAAAT"])
    assert found.ids.dtype == np.uint32 and found.ids.tolist() == [3, 6 + 4**8 - 1, 7]
    assert KmerVocabulary.published().encode(["GGG"]).ids.dtype == np.uint16


def test_nothing_and_empty_sequences() -> None:
    vocabulary = KmerVocabulary.published()
    assert [column.shape for column in vocabulary.encode([])] == [(0,), (0, 2), (0,)]
    found = vocabulary.encode(["", "ACGTAC", ""])
    assert found.counts.tolist() == [1, 2, 1] and found.ids.tolist() == [3, 3, 728, 3]


def test_files(tmp_path: Path) -> None:
    vocabulary = KmerVocabulary.published(3)
    path = tmp_path / "vocab.txt"
    for text in ("\n".join(vocabulary.tokens), "\r\n".join(vocabulary.tokens) + "\r\n\r\n"):
        path.write_text(text, newline="")
        assert KmerVocabulary.read(path).tokens == vocabulary.tokens
    path.write_text("\n".join([*vocabulary.tokens[:9], "<pad>", *vocabulary.tokens[9:]]))
    with pytest.raises(ValueError, match=r"vocab\.txt, line 10 holds <pad> again, as in line 2"):
        KmerVocabulary.read(path)
    path.write_text("\n".join([*vocabulary.tokens[:9], "", *vocabulary.tokens[9:]]))
    with pytest.raises(ValueError, match=r"line 10 holds no token"):
        KmerVocabulary.read(path)
    path.write_text("\n".join(vocabulary.tokens[:-1]))
    with pytest.raises(ValueError, match=r"vocab\.txt: the vocabulary of 74 tokens lacks N"):
        KmerVocabulary.read(path)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([*SPECIALS, *BASES, "N", "L", "hello"], "2 tokens are neither.*'L', 'hello'"),
        (["<pad>", "<cls>", *BASES, "N"], "lacks <mask>"),
        ([*SPECIALS, *BASES, "N"], r"0 k-mers of no bases: expected all k-mers of one length"),
        ([*SPECIALS, *BASES, "N", "AAC", "AAAA"], r"2 k-mers of \[3, 4\] bases"),
        ([*SPECIALS, *BASES, "N", "A"], "1 tokens come more than once"),
        ([*KmerVocabulary.published(2).tokens[:-6], *BASES, "N"], r"15 k-mers of \[2\] bases"),
    ],
)
def test_other_vocabularies_are_named(tokens: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KmerVocabulary(tokens)


def test_ids_that_are_not_consecutive_are_named() -> None:
    with pytest.raises(ValueError, match=r"the ids of the 16 2-mers lie between \d+ and \d+, with others among them"):
        _ = shuffled_vocabulary(2, seed=0).kmer_token_ids


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        (["ACGTX"], r"the sequence has 'X' at position 4 \(0-based\)"),
        (["ACGT", "", "AC-T", "X"], r"sequence 2 has '-' at position 2 \(0-based\)"),
        (["ACGT\n"], r"'\\n' at position 4.*remove gaps, white space and line ends"),
        (["AÉ"], "'É' at position 1"),
        (["A\U0001f9ecC?"], "position 1"),
        (["A\x00C"], r"'\\x00' at position 1"),
        ([b"AC GT"], "' ' at position 2"),
        (["AC", b"A*GT"], r"sequence 1 has '\*' at position 1"),
        (["<mask>"], "'<' at position 0"),
    ],
)
def test_characters_that_are_no_dna_are_named(sequences: list[str | bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KmerVocabulary.published().encode(sequences)


@pytest.mark.real_data
def test_chromosome_20_with_its_runs_of_n(data_folder: Path) -> None:
    with gzip.open(data_folder / "genome" / "chr20.GRCh37.fa.gz") as file:
        letters = b"".join(file.read(250_000).split(b"\n")[1:])
    vocabulary = KmerVocabulary.published()
    found = vocabulary.encode([letters])
    assert letters.count(b"N") >= 60_000 and (found.ids == 4106).sum() == letters.count(b"N")
    assert "".join(vocabulary.tokens[number] for number in found.ids[1:]).encode() == letters.upper()
    assert np.array_equal(found.offsets[1:, 0], np.append(0, found.offsets[1:-1, 1]))
