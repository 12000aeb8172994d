"""Tokenizer of the Nucleotide Transformer and SegmentNT: DNA as 6-mers, and as single letters beside N and at the end.

Source: the vocabularies published with the models and the rule of their public JAX code. Deviations: lower case counts
as upper case, U as T and IUPAC letters as N; any other character is an error, never <unk>. Plain sequences take a
vectorised path, which is faster than the backend in Rust by an order of magnitude and equal to it; Rust does the rest.
"""

import logging
import re
from collections.abc import Callable, Sequence
from itertools import compress
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.normalizers import Replace
from tokenizers.normalizers import Sequence as NormalizerSequence
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast
from transformers.tokenization_utils_base import BatchEncoding

from .nucleotide_kmers import (
    AMBIGUOUS_LETTERS,
    KmerVocabulary,
    TokenizedBases,
    first_invalid_character,
    invalid_character_error,
)

logger = logging.getLogger(__name__)

DEFAULT_MAX_LENGTH = 2048
_NAMED_SPECIAL_TOKENS = ("unk", "pad", "mask", "cls", "eos", "bos")
# In no vocabulary, so that the backend raises an error where a character is no letter of DNA.
_NO_TOKEN_FOR_OTHER_CHARACTERS = "a letter of DNA was expected"


class NucleotideKmerTokenizer(PreTrainedTokenizerFast):
    """DNA to token ids and back: `tokenizer(sequences, padding=True, return_tensors="pt")`.

    A sequence is cut into k-mers from the left, anew after every N; what does not fill a k-mer is given letter by
    letter. <cls> comes first, and nothing last. Special tokens within the text, such as <mask>, are taken as such.
    `save_pretrained` writes `vocab.txt`, as the published models have it.

    Args:
        vocab_file: vocab.txt of a checkpoint, a token a line, of any k; that of the Nucleotide Transformer v2 and
            SegmentNT where None.
        vocab: the tokens in the order of their ids, in place of the file.

    Raises:
        ValueError: on a vocabulary that is not made of special tokens, A, C, G, T, N and all k-mers of one length;
            and, when encoding, on a character that is no letter of DNA, naming it and its position (0-based).
    """

    vocab_files_names = {"vocab_file": "vocab.txt"}  # noqa: RUF012 (transformers' own form)
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012

    def __init__(
        self,
        vocab_file: str | PathLike[str] | None = None,
        *,
        vocab: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.kmer_vocabulary = _vocabulary(vocab_file, vocab)
        self._integers = np.array(range(len(self.kmer_vocabulary.tokens)), dtype=object)
        ids = self.kmer_vocabulary.ids
        kwargs.setdefault("model_max_length", DEFAULT_MAX_LENGTH)
        for name in _NAMED_SPECIAL_TOKENS:
            if f"<{name}>" in ids:
                kwargs.setdefault(f"{name}_token", f"<{name}>")
        super().__init__(tokenizer_object=_backend(self.kmer_vocabulary), **kwargs)

    @classmethod
    def convert_to_native_format(cls, trust_remote_code: bool = False, **kwargs: Any) -> dict[str, Any]:  # noqa: ARG003
        """Transformers' hook: vocab.txt alone makes the tokenizer, never a tokenizer.json beside it."""
        kwargs.pop("tokenizer_file", None)
        return kwargs

    @property
    def kmer_size(self) -> int:
        """Bases of a k-mer."""
        return self.kmer_vocabulary.kmer_size

    def encode_bases(self, sequence: str | bytes) -> np.ndarray:
        """Token ids of one sequence, <cls> first: (tokens,) uint16 (uint32 beyond 65,536 tokens).

        Args:
            sequence: letters of DNA as text or ASCII bytes; no special tokens.

        Raises:
            ValueError: naming the first character that is no letter of DNA, and its position (0-based).
        """
        return self.kmer_vocabulary.encode([sequence]).ids

    def encode_batch_bases(self, sequences: Sequence[str | bytes], *, padding: bool = True) -> dict[str, Any]:
        """Token ids of many sequences, as `encode_bases`.

        Returns:
            With padding, `input_ids` and `attention_mask`, (sequences, tokens) int64 each, <pad> on the right. Without,
            `input_ids` alone, a list of (tokens,) uint16 arrays.
        """
        tokens = self.kmer_vocabulary.encode(sequences)
        if not padding:
            return {"input_ids": np.split(tokens.ids, np.cumsum(tokens.counts)[:-1]) if len(sequences) else []}
        is_token = _is_token(tokens.counts, int(tokens.counts.max(initial=0)))
        return {"input_ids": self._padded(tokens.ids, is_token), "attention_mask": is_token.astype(np.int64)}

    def token_base_offsets(self, input_ids: Any) -> np.ndarray:
        """The bases that each token stands for, from the ids alone.

        Args:
            input_ids: (..., tokens) ids; <mask> stands for a whole k-mer, as in the models.

        Returns:
            (..., tokens, 2) int64, bases [start, end) within the sequence; empty for <cls>, <pad> and the like. Unlike
            an offset mapping, which counts characters of the text, also right where the text had special tokens.
        """
        ids = np.asarray(input_ids)
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < len(self.kmer_vocabulary.tokens):
            raise ValueError(
                f"ids reach from {int(ids.min())} to {int(ids.max())}, and the vocabulary has "
                f"{len(self.kmer_vocabulary.tokens):,} tokens"
            )
        widths = self.kmer_vocabulary.widths[ids]
        ends = widths.cumsum(axis=-1)
        return np.stack((ends - widths, ends), axis=-1)

    def save_vocabulary(  # type: ignore[override]  # a tuple of any length, as transformers' other tokenizers return
        self, save_directory: str, filename_prefix: str | None = None
    ) -> tuple[str, ...]:
        """Write vocab.txt, a token a line."""
        path = Path(save_directory, (f"{filename_prefix}-" if filename_prefix else "") + "vocab.txt")
        path.write_text("\n".join(self.kmer_vocabulary.tokens), encoding="utf-8")
        return (str(path),)

    def _save_pretrained(
        self,
        save_directory: str | PathLike[str],
        file_names: tuple[str, ...],
        legacy_format: bool | None = None,  # noqa: ARG002 (transformers' signature)
        filename_prefix: str | None = None,
    ) -> tuple[str, ...]:
        if self._n_added_later():
            raise ValueError(
                f"{self._n_added_later()} tokens were added after the tokenizer was made, and would be lost: put them "
                "into vocab.txt instead"
            )
        return file_names + self.save_vocabulary(str(save_directory), filename_prefix)

    def _n_added_later(self) -> int:
        return len(self) - len(self.kmer_vocabulary.tokens)

    def _encode_plus(  # type: ignore[override]  # options by name, which are handed on
        self, text: Any, text_pair: Any = None, **options: Any
    ) -> BatchEncoding:
        """Transformers' hook behind `tokenizer(...)`, `encode` and `tokenize`."""
        if text_pair is not None or (not options.get("is_split_into_words") and _has_pairs(text)):
            raise ValueError(
                "a pair of sequences was given, and the Nucleotide Transformer reads single ones: encode each by itself"
            )
        sequences = [text] if isinstance(text, str) else text
        if self._is_plain(sequences, options):
            return self._encode_plain(sequences, is_batched=sequences is text, options=options)
        splits = options.get("split_special_tokens")
        splits = self.split_special_tokens if splits is None else splits
        tokens = self.added_tokens_decoder.values()
        self._check_letters(sequences, [token.content for token in tokens if not (splits and token.special)])
        return super()._encode_plus(text, **options)

    def _is_plain(self, sequences: Any, options: dict[str, Any]) -> bool:
        """Whether the vectorised path does what is asked for."""
        truncation, max_length = _name(options.get("truncation_strategy")), options.get("max_length")
        padding_side = options.get("padding_side") or self.padding_side
        return (
            isinstance(sequences, list | tuple)
            and len(sequences) > 0
            and all(isinstance(sequence, str) and "<" not in sequence for sequence in sequences)
            and options.get("add_special_tokens", True)
            and not any(options.get(name) for name in _OPTIONS_FOR_THE_BACKEND)
            and (_name(options.get("padding_strategy")) == "do_not_pad" or padding_side == "right")
            and (truncation == "do_not_truncate" or (truncation != "only_second" and self.truncation_side == "right"))
            and (max_length is None or max_length > 0)
            and not self._n_added_later()
        )

    def _encode_plain(self, sequences: Sequence[str], *, is_batched: bool, options: dict[str, Any]) -> BatchEncoding:
        backend, text = super()._encode_plus, list(sequences) if is_batched else sequences[0]
        max_length, return_tensors = options.get("max_length"), options.get("return_tensors")
        tokens = self.kmer_vocabulary.encode(sequences)
        if _name(options.get("truncation_strategy")) != "do_not_truncate" and max_length is not None:
            tokens = _truncated(tokens, max_length)
        longest = int(tokens.counts.max())
        ids: Any = range(longest)  # only their number is looked at
        self._eventual_warn_about_too_long_sequence(ids, max_length, options.get("verbose", True))
        length = _padded_length(longest, options)
        if length is not None and length < longest:  # the backend then leaves the longer ones as they are
            return backend(text, **options)
        wanted = [True, options.get("return_attention_mask") is not False, options.get("return_offsets_mapping", False)]
        if length is None and (return_tensors is None or int(tokens.counts.min()) < longest):
            columns = _as_lists(tokens, wanted)
        else:
            columns = self._as_arrays(tokens, longest if length is None else length, wanted)
        if return_tensors is None:
            columns = [_nested(column, self._integers) for column in columns]
            columns = columns if is_batched else [column[0] for column in columns]
        return KmerBatchEncoding(
            dict(zip(compress(("input_ids", "attention_mask", "offset_mapping"), wanted), columns, strict=True)),
            lambda: backend(text, **options).encodings,
            tensor_type=return_tensors,
        )

    def _as_arrays(self, tokens: TokenizedBases, length: int, wanted: list[bool]) -> list[Any]:
        """Ids, attention mask and offsets, those of them that are wanted, as (sequences, length) arrays."""
        is_token = _is_token(tokens.counts, length)
        columns = [self._padded(tokens.ids, is_token)]
        if wanted[1]:
            columns.append(is_token.astype(np.int64))
        if wanted[2]:
            columns.append(np.zeros((*is_token.shape, 2), dtype=np.int64))
            columns[-1][is_token] = tokens.offsets
        return columns

    def _padded(self, ids: np.ndarray, is_token: np.ndarray) -> np.ndarray:
        input_ids = np.full(is_token.shape, self.pad_token_id, dtype=np.int64)
        input_ids[is_token] = ids
        return input_ids

    def _check_letters(self, sequences: Any, tokens: list[str]) -> None:
        """Raise where any text, once these tokens are taken out, is no DNA."""
        pattern = re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)))
        for number, sequence in enumerate(sequences):
            if isinstance(sequence, list | tuple):
                self._check_letters(sequence, tokens)
            elif isinstance(sequence, str):
                plain = pattern.sub(lambda token: "N" * len(token[0]), sequence)
                position = first_invalid_character(plain)
                if position is not None:
                    raise invalid_character_error(plain, position, number if len(sequences) > 1 else None)


class KmerBatchEncoding(BatchEncoding):
    """A batch from the vectorised path; the backend's encodings (`tokens()`, `char_to_token()`) are made on request.

    Pickled, it keeps the data alone: what a worker of a DataLoader sends stays small.
    """

    def __init__(self, data: dict[str, Any], make_encodings: Callable[[], Any], *, tensor_type: Any) -> None:
        self._made: Any = None
        self._make_encodings: Callable[[], Any] | None = make_encodings
        super().__init__(data, tensor_type=tensor_type, n_sequences=1)

    @property
    def _encodings(self) -> Any:
        if self._made is None and self._make_encodings is not None:
            self._made, self._make_encodings = self._make_encodings(), None
        return self._made

    @_encodings.setter
    def _encodings(self, value: Any) -> None:
        self._made = value

    @property
    def is_fast(self) -> bool:
        return self._made is not None or self._make_encodings is not None

    def __getstate__(self) -> dict[str, Any]:
        return {"data": self.data}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.data, self._made, self._make_encodings, self._n_sequences = state["data"], None, None, 1


_OPTIONS_FOR_THE_BACKEND = (
    "is_split_into_words",
    "return_overflowing_tokens",
    "return_special_tokens_mask",
    "return_token_type_ids",
    "return_length",
    "split_special_tokens",
    "stride",
)


def _vocabulary(vocab_file: str | PathLike[str] | None, vocab: Sequence[str] | None) -> KmerVocabulary:
    if vocab is not None:
        return KmerVocabulary(vocab)
    return KmerVocabulary.published() if vocab_file is None else KmerVocabulary.read(vocab_file)


def _backend(vocabulary: KmerVocabulary) -> Tokenizer:
    """The same rule for the tokenizers library."""
    tokenizer = Tokenizer(WordLevel(vocabulary.ids, unk_token=_NO_TOKEN_FOR_OTHER_CHARACTERS))
    ambiguous = AMBIGUOUS_LETTERS + AMBIGUOUS_LETTERS.lower() + "n"
    replacements: list[tuple[str | Regex, str]]
    replacements = [("a", "A"), ("c", "C"), ("g", "G"), (Regex("[tuU]"), "T"), (Regex(f"[{ambiguous}]"), "N")]
    tokenizer.normalizer = NormalizerSequence([Replace(pattern, letter) for pattern, letter in replacements])
    tokenizer.pre_tokenizer = Split(Regex(f"[ACGT]{{{vocabulary.kmer_size}}}|."), "isolated")
    specials = [("<cls>", vocabulary.ids["<cls>"])]
    tokenizer.post_processor = TemplateProcessing(single="<cls> $A", special_tokens=specials)
    tokenizer.decoder = Fuse()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in vocabulary.special_tokens])
    return tokenizer


def _has_pairs(text: Any) -> bool:
    return isinstance(text, list | tuple) and any(isinstance(sequence, list | tuple) for sequence in text)


def _name(strategy: Any) -> str:
    """A strategy of padding or truncation, which may be an enumeration, by its name."""
    return str(getattr(strategy, "value", strategy))


def _padded_length(longest: int, options: dict[str, Any]) -> int | None:
    """Tokens to pad to, None without padding."""
    strategy, max_length = _name(options.get("padding_strategy")), options.get("max_length")
    if strategy == "do_not_pad":
        return None
    length = max_length if strategy == "max_length" and max_length is not None else longest
    multiple = options.get("pad_to_multiple_of") or 1
    return -(-length // multiple) * multiple


def _truncated(tokens: TokenizedBases, max_length: int) -> TokenizedBases:
    if int(tokens.counts.max()) <= max_length:
        return tokens
    firsts = tokens.counts.cumsum() - tokens.counts
    is_kept = np.arange(len(tokens.ids)) - np.repeat(firsts, tokens.counts) < max_length
    return TokenizedBases(tokens.ids[is_kept], tokens.offsets[is_kept], np.minimum(tokens.counts, max_length))


def _is_token(counts: np.ndarray, length: int) -> np.ndarray:
    """(sequences, length) bool, False at padding."""
    return np.arange(length) < counts[:, None]


def _as_lists(tokens: TokenizedBases, wanted: list[bool]) -> list[Any]:
    """Ids, attention mask and offsets, those of them that are wanted, as a list of arrays each."""
    stops = tokens.counts.cumsum()[:-1]
    flat = [tokens.ids.astype(np.int64), np.ones(len(tokens.ids), dtype=np.int64), tokens.offsets]
    return [np.split(column, stops) for column in compress(flat, wanted)]


def _nested(column: Any, integers: np.ndarray) -> list[Any]:
    """(sequences, tokens) or (sequences, tokens, 2), padded or a list of arrays, as lists; offsets as tuples.

    Ids and attention mask share the Python integers of a table, which is several times as fast as making new ones.
    """
    if column[0].ndim == 1:
        return [integers[row].tolist() for row in column]
    return [list(zip(row[:, 0].tolist(), row[:, 1].tolist(), strict=True)) for row in column]


NucleotideKmerTokenizer.register_for_auto_class("AutoTokenizer")
