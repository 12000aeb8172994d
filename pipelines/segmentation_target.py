"""What is explained of a SegmentNT's answer: one element, summed over an interval of bases, by the tokens.

Gradients are taken at the output of the word embeddings, which all that follows sees (token dropout, positions, norms),
whatever the model's variant. The token ids stay as they are: they say which bases the tokens stand for.
Shapes: S sequences, T tokens, L bases, H hidden, E elements.
"""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch

Quantity = Literal["log_odds", "probability"]
# As the tokenizer reads them: uracil as T, IUPAC letters of several bases as N.
_READ_AS = str.maketrans("URYSWKMBDHV", "TNNNNNNNNNN")


@dataclass(frozen=True)
class SegmentationTarget:
    """A number of the model's answer for a sequence.

    Attributes:
        element: one of the model's, e.g. "splice_donor".
        start, end: bases of the sequence, 0-based, half-open; N among them does not count.
        quantity: "log_odds" or "probability", summed over these bases. Probabilities near 0 or 1 have gradients near 0,
            log odds have not; but where few of the bases carry the element, log odds of the others make up the sum.
    """

    element: str
    start: int
    end: int
    quantity: Quantity = "log_odds"

    def __post_init__(self) -> None:
        if self.quantity not in get_args(Quantity):
            raise ValueError(f"quantity is {self.quantity!r}; expected {' or '.join(get_args(Quantity))}")
        if not 0 <= self.start < self.end:
            raise ValueError(f"the target spans bases {self.start}-{self.end}: expected 0 <= start < end")

    def check(self, sequence: str) -> None:
        """Raise ValueError where the sequence has no scored base there."""
        if self.end > len(sequence):
            raise ValueError(f"the target ends at base {self.end:,} of a sequence of {len(sequence):,}")
        if not set(sequence[self.start : self.end]) - {"N"}:
            raise ValueError(
                f"bases {self.start:,}-{self.end:,} of the sequence are all N: there is nothing to explain"
            )


class EncodedSequence(NamedTuple):
    """A sequence as the model reads it.

    Attributes:
        sequence: upper-case ACGTN.
        input_ids: (1, tokens) int64, <cls> first, on the model's device.
        spans: (tokens, 2) int64, the bases [start, end) of each token; start = end for <cls>.
    """

    sequence: str
    input_ids: torch.Tensor
    spans: np.ndarray

    def letters(self) -> list[str]:
        """The bases of each token; "" for <cls>."""
        return [self.sequence[start:end] for start, end in self.spans.tolist()]

    def tokens_within(self, start: int, end: int) -> np.ndarray:
        """Indices of the tokens that share a base with [start, end)."""
        return np.flatnonzero((self.spans[:, 0] < end) & (self.spans[:, 1] > start))


class TargetFunction:
    """Token ids, or embeddings in their place, to the target: (S,)."""

    def __init__(self, model: Any, target: SegmentationTarget) -> None:
        self.model = model
        self.target = target
        self._element = element_index(model.config, target.element)

    def __call__(self, embeddings: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
        """(S, T, H) word embeddings in place of those of the ids (S, T)."""
        handle = self.model.get_input_embeddings().register_forward_hook(lambda *_: embeddings)
        try:
            return self.of_tokens(input_ids)
        finally:
            handle.remove()

    def of_tokens(self, input_ids: torch.Tensor) -> torch.Tensor:
        """(S, T) -> (S,)."""
        outputs = self.model(input_ids=input_ids)
        chosen = slice(self.target.start, self.target.end)
        values = log_odds(outputs.logits[:, chosen, self._element])
        if self.target.quantity == "probability":
            values = values.sigmoid()
        return values.masked_fill(~outputs.base_mask[:, chosen], 0.0).sum(1)


def log_odds(logits: torch.Tensor) -> torch.Tensor:
    """(..., 2) -> (...), float32 or wider: the logarithm of probability / (1 - probability)."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits[..., 1] - logits[..., 0]


def encode_sequence(model: Any, tokenizer: Any, sequence: str | bytes) -> EncodedSequence:
    """Tokens of one sequence and their bases.

    Raises:
        ValueError: where the sequence is empty or no DNA, or the tokenizer's ids are not the model's.
    """
    check_vocabulary(model, tokenizer)
    text = (sequence.decode("ascii") if isinstance(sequence, bytes) else sequence).upper().translate(_READ_AS)
    if not text:
        raise ValueError("the sequence is empty: give at least one base")
    input_ids = torch.as_tensor(tokenizer.encode_batch_bases([text])["input_ids"])
    return EncodedSequence(text, input_ids.to(model.device), tokenizer.token_base_offsets(input_ids[0].numpy()))


def check_vocabulary(model: Any, tokenizer: Any) -> None:
    """Raise ValueError where the tokenizer's ids are not those of the model."""
    names = ("kmer_size", "kmer_token_ids", "letter_token_ids")
    own, read = ([getattr(holder, name) for name in names] for holder in (tokenizer.kmer_vocabulary, model.config))
    if own != read:
        raise ValueError(
            f"the tokenizer has {', '.join(names)} {own}, and the model {read}: use the tokenizer that belongs to it"
        )


def element_names(config: Any) -> list[str]:
    """In the order of the logits."""
    return [config.id2label[number] for number in range(config.num_labels)]


def element_index(config: Any, name: str) -> int:
    """Place of an element among the logits.

    Raises:
        ValueError: with the model's elements, and the likeliest one first.
    """
    names = element_names(config)
    if name in names:
        return names.index(name)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    raise ValueError(
        f"the model has no element {name!r}{f' (did you mean {close[0]!r}?)' if close else ''}: it has "
        f"{', '.join(names)}"
    )


def default_window_bp(config: Any) -> int:
    """The window that the model was trained on, or else the longest that it takes, in bp."""
    longest = longest_window_bp(config)
    window_bp = getattr(config, "window_bp", None)
    if window_bp and longest:
        return min(window_bp, longest)
    return window_bp or longest or (round(config.max_tokens * config.rescaling_factor) - 1) * config.kmer_size


def longest_window_bp(config: Any) -> int | None:
    """So many bp without N never have more tokens than the model takes, though up to k - 1 bases at the end are tokens
    by themselves; None with a rescaling factor, where there is no limit.
    """
    return None if config.rescaling_factor is not None else (config.max_tokens - config.kmer_size) * config.kmer_size


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Without dropout, and afterwards as before."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Consecutive pieces of at most `size` items."""
    if size < 1:
        raise ValueError(f"batch_size is {size}: expected at least 1")
    for start in range(0, len(items), size):
        yield items[start : start + size]
