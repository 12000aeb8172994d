"""Vocabulary and medians that rank-value encoding needs: as given, or derived from the corpus.

Derived, the vocabulary is the special tokens (ids from 0) and then every gene with a count in a kept cell, by gene id.
A given vocabulary is kept whole: genes that the corpus never shows get the median of all medians, so that the tokenizer
can still rank them.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .gene_medians import NonZeroMedians

logger = logging.getLogger(__name__)

FRAME_TOKENS = ("<cls>", "<eos>")


@dataclass(frozen=True)
class GeneRanking:
    """Genes in ascending order of their token ids, with what the kernels need of them."""

    token_dictionary: dict[str, int]  # special tokens and genes, by id
    gene_medians: dict[str, float]
    genes: list[str]
    token_of_gene: np.ndarray  # (genes,) uint16 where all ids fit, else int32
    median_of_gene: np.ndarray  # (genes,) float64
    first_token: int = -1  # <cls>, or -1
    last_token: int = -1  # <eos>, or -1
    never_detected: list[str] = field(default_factory=list)


def checked_token_dictionary(token_dictionary: Mapping[str, Any], special_tokens: Sequence[str]) -> dict[str, int]:
    """The dictionary by id; ValueError unless ids are 0 to n - 1 and the special tokens are in it."""
    wrong = [token for token, number in token_dictionary.items() if type(number) is not int]
    if wrong:
        raise ValueError(
            f"token dictionary: {wrong[0]!r} has id {token_dictionary[wrong[0]]!r}; expected a whole number"
        )
    ordered = dict(sorted(token_dictionary.items(), key=lambda item: item[1]))
    if list(ordered.values()) != list(range(len(ordered))):
        raise ValueError(
            f"token dictionary: {len(ordered)} tokens have ids from {min(ordered.values(), default=0)} to "
            f"{max(ordered.values(), default=0)}; expected each of 0 to {len(ordered) - 1} once"
        )
    missing = [token for token in special_tokens if token not in ordered]
    if missing:
        raise ValueError(
            f"token dictionary: the special tokens {', '.join(missing)} are missing; it has "
            f"{', '.join(special_in(ordered)) or 'none'}"
        )
    unused = [token for token in FRAME_TOKENS if token in ordered and token not in special_tokens]
    if unused:
        logger.warning("the token dictionary has %s, but special_tokens does not: cells are built without", unused)
    return ordered


def checked_gene_medians(gene_medians: Mapping[str, Any]) -> dict[str, float]:
    """Medians as floats; ValueError unless all are positive numbers."""
    wrong = [
        gene for gene, median in gene_medians.items() if not (isinstance(median, int | float) and 0 < median < np.inf)
    ]
    if wrong:
        raise ValueError(
            f"gene medians: {len(wrong)} are not positive numbers, e.g. {wrong[0]}: {gene_medians[wrong[0]]!r}"
        )
    return {gene: float(median) for gene, median in gene_medians.items()}


def checked_special_tokens(special_tokens: Sequence[str]) -> tuple[str, ...]:
    """ValueError unless <pad> and <mask> are there, and <cls> and <eos> both or neither."""
    special_tokens = tuple(special_tokens)
    frame = [token for token in FRAME_TOKENS if token in special_tokens]
    repeated = len(set(special_tokens)) < len(special_tokens)
    if repeated or len(frame) == 1 or not {"<pad>", "<mask>"} <= set(special_tokens):
        raise ValueError(
            f"special_tokens are {', '.join(special_tokens) or 'none'}; expected <pad>, <mask>, and either both of "
            "<cls> and <eos> or neither, each once"
        )
    return special_tokens


def special_in(token_dictionary: Mapping[str, int]) -> list[str]:
    """Special tokens are written in angle brackets."""
    return [token for token in token_dictionary if token.startswith("<") and token.endswith(">")]


def derived_token_dictionary(genes: Sequence[str], special_tokens: Sequence[str]) -> dict[str, int]:
    """Special tokens first, then genes by id."""
    return {token: number for number, token in enumerate([*special_tokens, *sorted(genes)])}


def make_ranking(
    token_dictionary: dict[str, int], gene_medians: Mapping[str, float], special_tokens: Sequence[str]
) -> GeneRanking:
    """Joins checked vocabulary and medians; ValueError where a gene of the vocabulary has no median."""
    special = set(special_in(token_dictionary))
    genes = [token for token in token_dictionary if token not in special]
    lacking = [gene for gene in genes if gene not in gene_medians]
    if lacking:
        raise ValueError(
            f"{len(lacking)} of the {len(genes)} genes of the token dictionary have no median, e.g. {lacking[0]}: give "
            "medians of the same corpus, or none to have them derived"
        )
    dtype = np.uint16 if len(token_dictionary) <= 1 << 16 else np.int32
    framed = FRAME_TOKENS[0] in special_tokens
    return GeneRanking(
        token_dictionary=token_dictionary,
        gene_medians={gene: gene_medians[gene] for gene in genes},
        genes=genes,
        token_of_gene=np.array([token_dictionary[gene] for gene in genes], dtype),
        median_of_gene=np.array([gene_medians[gene] for gene in genes], np.float64),
        first_token=token_dictionary[FRAME_TOKENS[0]] if framed else -1,
        last_token=token_dictionary[FRAME_TOKENS[1]] if framed else -1,
    )


def ranking_from_corpus(
    genes: Sequence[str],
    found: NonZeroMedians,
    token_dictionary: dict[str, int] | None,
    special_tokens: Sequence[str],
) -> GeneRanking:
    """Medians `found` of `genes`, and the vocabulary where none is given."""
    medians = {gene: float(median) for gene, median in zip(genes, found.medians, strict=True) if not np.isnan(median)}
    if not medians:
        raise ValueError("no median can be derived: no cell is kept that has a count in any gene of the vocabulary")
    if token_dictionary is None:
        return make_ranking(derived_token_dictionary(list(medians), special_tokens), medians, special_tokens)
    never_detected = [gene for gene in genes if gene not in medians]
    if never_detected:
        filler = float(np.median(list(medians.values())))
        logger.warning(
            "%d genes of the vocabulary have no count in any kept cell, e.g. %s: their median is set to %g, "
            "the median of all medians",
            len(never_detected),
            never_detected[0],
            filler,
        )
        medians |= dict.fromkeys(never_detected, filler)
    ranking = make_ranking(token_dictionary, medians, special_tokens)
    ranking.never_detected.extend(never_detected)
    return ranking
