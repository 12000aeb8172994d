"""Peaks of one sample put onto the genome at hand: lifted, cleaned of the blacklist, and checked to be of its assembly.

Source: "Region Ranking on scATAC", section 3.2.1. Coordinates are 0-based, half-open.
"""

import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from .accessibility_inputs import PeakAccessibility
from .annotation_build import BeyondContig, within_genome
from .disjoint_peaks import Overlapping, make_disjoint
from .genome_files import GenomeFiles
from .interval_lift import lift_intervals
from .interval_regions import merge_intervals

logger = logging.getLogger(__name__)

OtherContigs = Literal["error", "drop"]
LongPeaks = Literal["split", "drop", "error"]

_CHROMOSOME = re.compile(r"(chr)?(\d{1,3}[A-Za-z]?|[XYZW]|[IVX]+)", re.IGNORECASE)
_PEAKS_LOOKED_AT = 2_000
_FEWEST_TO_JUDGE = 100


@dataclass(frozen=True)
class PlacementRules:
    """How peaks come to lie on the genome; those of `build_regions`.

    Attributes:
        contigs: that the splits use, as the genome names them.
        blacklist: contig, start, end; merged.
        chain: liftOver chain file, None where peaks are of the genome's assembly.
        minimum_match: as `lift_intervals`.
        overlapping: as `make_disjoint`.
        other_contigs: peaks on chromosomes in no split: `error`, or `drop`. Those on unplaced scaffolds and the like
            are always dropped; both are counted.
        beyond_contig: as `within_genome`.
        long_peaks: those longer than a span: `split` into spans like others, `drop`, or `error`.
        span_bp: length of a span.
        maximum_blacklisted: the largest share of a sample's peaks that may be blacklisted.
        maximum_n_peaks: the largest share of a sample's peaks that may be N for a half or more.
    """

    contigs: Collection[str]
    blacklist: pd.DataFrame
    chain: str | Path | None = None
    minimum_match: float = 0.95
    overlapping: Overlapping = "error"
    other_contigs: OtherContigs = "error"
    beyond_contig: BeyondContig = "error"
    long_peaks: LongPeaks = "split"
    span_bp: int = 3_000
    maximum_blacklisted: float = 0.03
    maximum_n_peaks: float = 0.001


@dataclass
class PlacedPeaks:
    """Peaks on the genome's contigs, by contig and start, disjoint.

    Attributes:
        sample: its name.
        cell_types: their names.
        peaks: contig, start, end (int64), name (as in the input).
        means: (cell types, peaks) float64, mean fragments a cell.
        report: what was left out, and why.
    """

    sample: str
    cell_types: list[str]
    peaks: pd.DataFrame
    means: npt.NDArray[np.float64]
    report: dict = field(default_factory=dict)


def place_peaks(accessibility: PeakAccessibility, genome: GenomeFiles, rules: PlacementRules) -> PlacedPeaks:
    """Put peaks onto the genome.

    Args:
        accessibility: of one sample, on its own assembly.
        genome: at hand.
        rules: see there.

    Raises:
        ValueError: where nothing is left, peaks overlap, reach beyond their contig, are on a chromosome in no split, or
            seem to be of another assembly.
    """
    for name, choices in (("other_contigs", OtherContigs), ("long_peaks", LongPeaks)):
        if getattr(rules, name) not in get_args(choices):
            raise ValueError(f"{name} is {getattr(rules, name)!r}; expected one of {', '.join(get_args(choices))}")
    source: str = f"sample {accessibility.sample}"
    report: dict = {}
    peaks = accessibility.peaks.assign(row=np.arange(len(accessibility.peaks)))
    if rules.chain is not None:
        peaks, report["lift"] = lift_intervals(peaks, rules.chain, minimum_match=rules.minimum_match)
    peaks = _on_contigs(peaks, genome, rules, source, report)
    peaks = _within_contigs(peaks, genome, rules, source, report)
    means = accessibility.means[:, peaks["row"].to_numpy()]
    peaks, means, disjoint = make_disjoint(peaks, means, overlapping=rules.overlapping, source=source)
    report |= disjoint
    placed = PlacedPeaks(accessibility.sample, accessibility.cell_types, peaks, means, report)
    placed = _without_blacklisted(placed, rules, source)
    _check_n(placed, genome, rules, source)
    placed = _without_long(placed, rules, source)
    order = np.lexsort((placed.peaks["start"], placed.peaks["contig"].map(_order(genome.contigs))))
    report["kept"] = len(order)
    return _take(placed, order)


def _order(contigs: Mapping[str, int]) -> dict[str, int]:
    return {name: number for number, name in enumerate(contigs)}


def _take(placed: PlacedPeaks, rows: npt.NDArray[np.generic]) -> PlacedPeaks:
    peaks = placed.peaks.iloc[rows].reset_index(drop=True)
    return PlacedPeaks(placed.sample, placed.cell_types, peaks, placed.means[:, rows], placed.report)


def _on_contigs(
    peaks: pd.DataFrame, genome: GenomeFiles, rules: PlacementRules, source: str, report: dict
) -> pd.DataFrame:
    """Peaks on contigs that a split uses, under the genome's names."""
    names = {contig: genome.find(contig) for contig in peaks["contig"].unique()}
    elsewhere = peaks.loc[~peaks["contig"].map(names).isin(rules.contigs), "contig"].value_counts()
    elsewhere = elsewhere[elsewhere > 0]
    is_chromosome = [_CHROMOSOME.fullmatch(str(name)) is not None for name in elsewhere.index]
    chromosomes = {str(name): int(number) for name, number in elsewhere[is_chromosome].items()}
    if chromosomes and rules.other_contigs == "error":
        counted = [f"{name} ({number:,})" for name, number in chromosomes.items()]
        raise ValueError(
            f"{source} has {sum(chromosomes.values()):,} peaks on chromosomes in no split: {_shown(counted)}. Name "
            'them in train, validation or test, or leave their peaks out with other_contigs="drop"'
        )
    report["on chromosomes in no split"] = chromosomes
    report["on scaffolds in no split"] = int(elsewhere.sum()) - sum(chromosomes.values())
    found = peaks.assign(contig=peaks["contig"].map(names))
    found = found[found["contig"].isin(rules.contigs)].reset_index(drop=True)
    if found.empty:
        raise ValueError(
            f"{source} has no peak on the contigs used, {_shown(rules.contigs)}; its {len(peaks):,} peaks are on "
            f"{_shown(names)}. Are they named otherwise, or of another genome?"
        )
    absent = sorted(set(rules.contigs) - set(found["contig"]))
    if absent:
        logger.warning("%s has no peak on %s", source, _shown(absent))
        report["contigs without a peak"] = absent
    return found


def _within_contigs(
    peaks: pd.DataFrame, genome: GenomeFiles, rules: PlacementRules, source: str, report: dict
) -> pd.DataFrame:
    """Peaks wholly on the sequence at hand: what is cut off of a peak would take its reads along."""
    inside, outside = within_genome(peaks, genome, source=source, beyond_contig=rules.beyond_contig)
    whole = (inside["end"] - inside["start"]).to_numpy() == (peaks["end"] - peaks["start"]).to_numpy()[
        np.searchsorted(peaks["row"].to_numpy(), inside["row"].to_numpy())
    ]
    report |= {reason: number for reason, number in outside.items() if not reason.startswith("cut")}
    if not whole.all():
        report["across the end of the sequence at hand"] = int((~whole).sum())
    return inside[whole].reset_index(drop=True)


def _without_blacklisted(placed: PlacedPeaks, rules: PlacementRules, source: str) -> PlacedPeaks:
    is_blacklisted = overlaps_any(placed.peaks, rules.blacklist)
    share = is_blacklisted.mean() if len(is_blacklisted) else 0.0
    placed.report["blacklisted"] = int(is_blacklisted.sum())
    if share > rules.maximum_blacklisted and len(is_blacklisted) >= _FEWEST_TO_JUDGE:
        raise ValueError(
            f"{int(is_blacklisted.sum()):,} of {len(is_blacklisted):,} peaks of {source} are blacklisted "
            f"({share:.1%}); expected at most {rules.maximum_blacklisted:.1%}. Are peaks, blacklist and genome of "
            "one assembly? Peaks of another one need its liftOver chain; maximum_blacklisted=1 leaves this check out"
        )
    return _take(placed, np.flatnonzero(~is_blacklisted))


def _check_n(placed: PlacedPeaks, genome: GenomeFiles, rules: PlacementRules, source: str) -> None:
    """Reads do not map to N: peaks that are N are of another assembly. Some peaks, evenly spaced, are looked at."""
    number = min(len(placed.peaks), _PEAKS_LOOKED_AT)
    chosen = placed.peaks.iloc[np.linspace(0, len(placed.peaks) - 1, number).astype(np.int64)]
    places = chosen[["contig", "start", "end"]].itertuples(index=False, name=None)
    is_n = [2 * genome.fetch(contig, start, end).count(b"N") >= end - start for contig, start, end in places]
    placed.report["peaks looked at for N"] = number
    placed.report["of them N for a half or more"] = sum(is_n)
    if number >= _FEWEST_TO_JUDGE and sum(is_n) > rules.maximum_n_peaks * number:
        first = chosen.iloc[is_n.index(True)]
        raise ValueError(
            f"{sum(is_n):,} of {number:,} peaks of {source} are N for a half or more in {genome}, e.g. {first['name']} "
            f"({sum(is_n) / number:.2%}); expected at most {rules.maximum_n_peaks:.2%}, since reads do not map to N. "
            "Are peaks and genome of one assembly? Peaks of another one need its liftOver chain; maximum_n_peaks=1 "
            "leaves this check out"
        )


def _without_long(placed: PlacedPeaks, rules: PlacementRules, source: str) -> PlacedPeaks:
    length = (placed.peaks["end"] - placed.peaks["start"]).to_numpy()
    is_long = length > rules.span_bp
    placed.report["longer than a span"] = int(is_long.sum())
    if not is_long.any():
        return placed
    longest = placed.peaks.iloc[int(length.argmax())]
    found = (
        f"{int(is_long.sum()):,} of {len(length):,} peaks of {source} are longer than a span of {rules.span_bp:,} bp, "
        f"the longest {longest['name']} with {int(length.max()):,} bp"
    )
    if np.median(length) > rules.span_bp:
        raise ValueError(f"{found}; half of them are, so spans hold no two regions: give a longer span_bp")
    if rules.long_peaks == "error":
        raise ValueError(f'{found}; give a longer span_bp, or long_peaks="split" or "drop"')
    logger.warning("%s: %s", found, "left out" if rules.long_peaks == "drop" else "split where spans end")
    return _take(placed, np.flatnonzero(~is_long)) if rules.long_peaks == "drop" else placed


def overlaps_any(intervals: pd.DataFrame, others: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """(intervals,) whether an interval shares a base with any of the others; columns contig, start, end of both."""
    merged = merge_intervals(others)
    result = np.zeros(len(intervals), dtype=np.bool_)
    by_contig = {str(contig): group for contig, group in merged.groupby("contig")}
    for contig, rows in intervals.groupby("contig").indices.items():
        if (there := by_contig.get(str(contig))) is not None:
            part = intervals.iloc[rows]
            first = np.searchsorted(there["end"], part["start"], side="right")
            result[rows] = first < np.searchsorted(there["start"], part["end"])
    return result


def _shown(names: Collection[str], limit: int = 8) -> str:
    texts = list(names)
    return ", ".join(texts[:limit]) + (f", ... ({len(texts) - limit:,} more)" if len(texts) > limit else "")
