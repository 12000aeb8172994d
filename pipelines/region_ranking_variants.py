"""What variants do to the accessibility of the region around them: a ranker's score of either allele.

The region is centred on the variant and as long with the reference as it is asked to be; an insertion makes it longer,
a deletion shorter. An indel shifts the k-mers behind it, unless its length divides by k, and that alone moves scores:
`phases` averages it out by reading each allele from several first bases.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from .region_ranking_run import Score
from .region_tokens import TokenLimit
from .segmentation_windows import count_tokens
from .variant_windows import Variant, VariantWindow, check_alleles, variant_window, warn_of_shifted_kmers

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

EFFECT_COLUMNS = [
    "variant",
    "name",
    "contig",
    "start",
    "reference",
    "alternative",
    "region_start",
    "region_end",
    "reference_score",
    "alternative_score",
    "effect",
]
_VARIANTS_A_BLOCK = 256


@dataclass(frozen=True)
class RegionVariantEffects:
    """Effects of variants on the accessibility of the regions around them.

    Attributes:
        variants: one row a variant, the largest absolute effect first: rank, variant (chr:position:REF>ALT, 1-based),
            name, contig, start (0-based), reference, alternative, region_start, region_end (0-based, half-open, of the
            reference), reference_score, alternative_score (float32), effect (alternative - reference: above 0 the
            variant opens the region).
        not_scored: variants without a row, and why: variant, name, reason.
        summary: how it was made.
    """

    variants: "pd.DataFrame"
    not_scored: "pd.DataFrame"
    summary: dict[str, Any]


def score_variants(
    variants: Sequence[Variant],
    genome: Any,
    score: Score,
    limit: TokenLimit,
    *,
    region_bp: int,
    phases: int,
    progress: bool = False,
) -> RegionVariantEffects:
    """Score the region around each variant with either allele.

    Args:
        variants: as they are to be looked at; one given twice has two rows.
        genome: has `resolve`, `starts`, `contigs` and `fetch(..., pad=)`, such as `open_genome` returns.
        score: upper-case ACGTN sequences -> (sequences,) float32.
        limit: what the model takes.
        region_bp: of `require_region_bp`.
        phases: how many first bases each allele is read from, scores averaged: 1 to the model's k.
        progress: show a progress bar.

    Raises:
        ValueError: on reference alleles that differ from the genome's, unknown contigs, or phases out of range; all
            before the model runs.
    """
    import pandas as pd

    require_phases(phases, limit)
    check_alleles(variants, genome)
    warn_of_shifted_kmers(variants, phases, limit.kmer_size)
    rows: list[dict[str, Any]] = []
    not_scored: list[dict[str, str]] = []
    with tqdm(total=len(variants), unit="variant", desc="variants", disable=not progress) as bar:
        for first in range(0, len(variants), _VARIANTS_A_BLOCK):
            block = variants[first : first + _VARIANTS_A_BLOCK]
            windows = _windows(block, genome, limit, region_bp, phases, not_scored)
            rows += _effect_rows(windows, score, phases)
            bar.update(len(block))
    for entry in not_scored:
        logger.warning("%s is not scored: %s", entry["variant"], entry["reason"])
    summary = {"variants": len(variants), "scored": len(rows), "region_bp": region_bp, "phases": phases}
    return RegionVariantEffects(
        _ranked(pd.DataFrame(rows, columns=EFFECT_COLUMNS)),
        pd.DataFrame(not_scored, columns=["variant", "name", "reason"]),
        summary,
    )


def require_phases(phases: int, limit: TokenLimit) -> None:
    """Raise ValueError for more first bases than a k-mer has."""
    if not 1 <= phases <= limit.kmer_size:
        raise ValueError(f"phases is {phases}: expected 1 to {limit.kmer_size}, the bases of a k-mer")


def require_region_bp(region_bp: int, limit: TokenLimit) -> None:
    """Raise ValueError for a length that the model does not take even without N."""
    if not limit.kmer_size <= region_bp <= limit.longest_bp:
        raise ValueError(
            f"region_bp is {region_bp:,}: expected {limit.kmer_size} (a k-mer) to {limit.longest_bp:,}, which is "
            f"{limit.num_tokens:,} tokens, all that the model takes"
        )
    n_tokens = count_tokens(b"A" * region_bp, limit.kmer_size)
    if n_tokens > limit.num_tokens:
        raise ValueError(
            f"region_bp is {region_bp:,}, which is {n_tokens:,} tokens, as each base that fills no k-mer is one, and "
            f"the model takes {limit.num_tokens:,}: take {region_bp - region_bp % limit.kmer_size:,}"
        )


def _windows(
    variants: Sequence[Variant],
    genome: Any,
    limit: TokenLimit,
    region_bp: int,
    phases: int,
    not_scored: list[dict[str, str]],
) -> list[tuple[Variant, VariantWindow]]:
    """The windows that the model takes; the others' variants go to `not_scored`."""
    found = []
    for variant in variants:
        _, removed, inserted = variant.edit()
        reason = None
        if len(removed) >= region_bp:
            reason = f"it removes {len(removed):,} bases of a region of {region_bp:,}"
        else:  # the reference's length is what is asked for, and the window's that of the longer allele
            window = variant_window(variant, genome, region_bp + max(len(inserted) - len(removed), 0))
            reason = _misfit(window, limit, phases)
        if reason is None:
            found.append((variant, window))
        else:
            not_scored.append({"variant": str(variant), "name": variant.name, "reason": reason})
    return found


def _misfit(window: VariantWindow, limit: TokenLimit, phases: int) -> str | None:
    read = _alleles(window, phases)
    if any(not allele.strip(b"N") for allele in read):
        return "its region is nothing but N"
    n_tokens = max(count_tokens(allele, limit.kmer_size) for allele in read)
    if n_tokens <= limit.num_tokens:
        return None
    return (
        f"its region has {n_tokens:,} tokens with the longer allele, and the model takes {limit.num_tokens:,}: take a "
        "smaller region_bp"
    )


def _alleles(window: VariantWindow, phases: int) -> list[bytes]:
    """Reference and alternative from each first base, in turn; none of these lies behind the edit."""
    starts = range(min(phases, window.edit_start + 1))
    return [allele[start:].encode() for start in starts for allele in (window.reference, window.alternative)]


def _effect_rows(windows: Sequence[tuple[Variant, VariantWindow]], score: Score, phases: int) -> list[dict[str, Any]]:
    read = [_alleles(window, phases) for _, window in windows]
    scores = score([allele for alleles in read for allele in alleles])
    parts = np.split(scores, np.cumsum([len(alleles) for alleles in read])[:-1]) if read else []
    return [
        {
            "variant": str(variant),
            "name": variant.name,
            "contig": variant.contig,
            "start": variant.start,
            "reference": variant.reference,
            "alternative": variant.alternative,
            "region_start": window.start,
            "region_end": window.start + len(window.reference),
            "reference_score": np.float32(reference),
            "alternative_score": np.float32(alternative),
            "effect": np.float32(alternative - reference),
        }
        for (variant, window), part in zip(windows, parts, strict=True)
        for reference, alternative in [part.reshape(-1, 2).mean(axis=0, dtype=np.float64)]
    ]


def _ranked(table: "pd.DataFrame") -> "pd.DataFrame":
    table = table.iloc[np.argsort(-table["effect"].abs().to_numpy(dtype=float), kind="stable")].reset_index(drop=True)
    table.insert(0, "rank", table["effect"].abs().rank(method="min", ascending=False).astype("Int64"))
    return table
