"""What a variant does to a SegmentNT's answer: the reference and the alternative allele in one batch, base by base.

Bases are compared through the edit, so that an insertion shifts nothing. What an edit does shift are the k-mers behind
it, unless its length divides by k, and that alone moves probabilities a little: `phases` averages it out by reading
each allele from several first bases.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from .segmentation_target import (
    batches,
    check_vocabulary,
    default_window_bp,
    element_names,
    evaluating,
    log_odds,
    longest_window_bp,
)
from .variant_windows import Variant, VariantWindow, check_alleles, variant_window, warn_of_shifted_kmers

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


class VariantTracks(NamedTuple):
    """Both alleles' answers along the bases that correspond.

    Attributes:
        variant: the variant.
        positions: (bases,) int64, coordinates on the genome.
        distances: (bases,) int64, bp from the edit: 0 within it, 1 next to it.
        reference, alternative: (bases, elements) float64 log odds.
        deleted, inserted: (bases without a counterpart, elements) float64 log odds of the reference's and of the
            alternative's.
    """

    variant: Variant
    positions: np.ndarray
    distances: np.ndarray
    reference: np.ndarray
    alternative: np.ndarray
    deleted: np.ndarray
    inserted: np.ndarray

    def changes(self) -> np.ndarray:
        """(bases, elements) probability of the alternative less that of the reference."""
        return probability(self.alternative) - probability(self.reference)


@dataclass(frozen=True)
class VariantEffects:
    """Effects of variants.

    Attributes:
        effects: one row a variant and element, the most changed variant first: rank (of the variant, 1 first), variant
            (chr:position:REF>ALT, 1-based), name, contig, start (0-based), reference, alternative, element, bases
            (compared), maximum_absolute_change and mean_absolute_change (of the probability), and at the most changed
            base: most_changed_position (0-based), distance_bp (from the edit), reference_probability,
            alternative_probability, change (signed) and log_odds_change; largest_log_odds_change (signed, at whichever
            base it is); deleted_probability and inserted_probability (largest at bases without a counterpart; NaN where
            there are none).
        variants: one row a variant: rank, variant, name, contig, start, reference, alternative, element (the most
            changed), and that element's columns as above.
        not_scored: variants that have no row, and why: variant, name, reason.
        settings: window_bp, distance_bp and phases, as used.
    """

    effects: "pd.DataFrame"
    variants: "pd.DataFrame"
    not_scored: "pd.DataFrame"
    settings: dict[str, Any]


def variant_effects(
    model: Any,
    tokenizer: Any,
    variants: Sequence[Variant],
    genome: Any,
    *,
    window_bp: int | None = None,
    distance_bp: int | None = None,
    phases: int = 1,
    batch_size: int = 8,
    progress: bool = False,
) -> VariantEffects:
    """Compare the alleles of each variant, element by element.

    Args:
        model: SegmentNTForTokenClassification.
        tokenizer: its own.
        variants: of `parse_variant` or `variants_of_rows`.
        genome: as `open_genome` of the package returns.
        window_bp: bases around each variant that the model reads; those that it was trained on where None.
        distance_bp: compare bases at most so far from the edit; the whole window where None.
        phases: how many first bases each allele is read from, log odds averaged: 1 to the model's k.
        batch_size: sequences that go through the model together, rounded to whole pairs of alleles.
        progress: show a progress bar.

    Returns:
        VariantEffects. Variants whose window has no base to compare or more tokens than the model takes are in
        `not_scored`.

    Raises:
        ValueError: on reference alleles that differ from the genome's, unknown contigs, or options out of range; all
            before the model runs.
    """
    import pandas as pd

    reader = _AlleleReader.make(model, tokenizer, genome, window_bp, phases)
    if distance_bp is not None and distance_bp < 1:
        raise ValueError(f"distance_bp is {distance_bp}: expected at least 1, the bases next to the edit")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: expected at least 1")
    check_alleles(variants, genome)
    warn_of_shifted_kmers(variants, phases, reader.kmer_size)
    elements = element_names(model.config)
    rows: list[dict[str, Any]] = []
    not_scored: list[dict[str, str]] = []
    with evaluating(model), tqdm(total=len(variants), unit="variant", disable=not progress) as bar:
        for tracks in reader.read(variants, max(batch_size // 2, 1), not_scored):
            found = _effect_rows(tracks, elements, distance_bp)
            if not found:
                not_scored.append(_reason(tracks.variant, "no A, C, G or T within the distance in both alleles"))
            rows += found
            bar.update()
        bar.update(len(not_scored))
    for entry in not_scored:
        logger.warning("%s is not scored: %s", entry["variant"], entry["reason"])
    settings = {"window_bp": reader.window_bp, "distance_bp": distance_bp, "phases": phases}
    effects, ranked = _rank(pd.DataFrame(rows, columns=EFFECT_COLUMNS))
    return VariantEffects(effects, ranked, pd.DataFrame(not_scored, columns=["variant", "name", "reason"]), settings)


def variant_tracks(
    model: Any, tokenizer: Any, variant: Variant, genome: Any, *, window_bp: int | None = None, phases: int = 1
) -> VariantTracks:
    """Both alleles' answers base by base, e.g. for a figure; arguments and errors as `variant_effects`."""
    reader = _AlleleReader.make(model, tokenizer, genome, window_bp, phases)
    check_alleles([variant], genome)
    not_scored: list[dict[str, str]] = []
    with evaluating(model):
        tracks = list(reader.read([variant], 1, not_scored))
    if not_scored:
        raise ValueError(f"{variant}: {not_scored[0]['reason']}")
    return tracks[0]


def probability(log_odds_of: np.ndarray) -> np.ndarray:
    """Log odds to probabilities."""
    return 0.5 * (1.0 + np.tanh(0.5 * log_odds_of))


@dataclass(frozen=True)
class _AlleleReader:
    """Runs the model on both alleles of variants."""

    model: Any
    tokenizer: Any
    genome: Any
    window_bp: int
    phases: int
    kmer_size: int

    @classmethod
    def make(cls, model: Any, tokenizer: Any, genome: Any, window_bp: int | None, phases: int) -> "_AlleleReader":
        check_vocabulary(model, tokenizer)
        kmer_size = model.config.kmer_size
        if not 1 <= phases <= kmer_size:
            raise ValueError(f"phases is {phases}: expected 1 to {kmer_size}, the bases of a k-mer")
        longest = longest_window_bp(model.config)
        if window_bp is not None and not 2 <= window_bp <= (longest or window_bp):
            raise ValueError(
                f"window_bp is {window_bp:,}: expected 2 or more"
                + (
                    f", and at most {longest:,}, which the model takes whatever an edit does to its tokens"
                    if longest
                    else ""
                )
            )
        return cls(model, tokenizer, genome, window_bp or default_window_bp(model.config), phases, kmer_size)

    def read(
        self, variants: Sequence[Variant], pairs_a_call: int, not_scored: list[dict[str, str]]
    ) -> Iterable[VariantTracks]:
        """Tracks of the variants in order; those whose window the model cannot take go to `not_scored`."""
        for chosen in batches(variants, pairs_a_call):
            windows = [(variant, variant_window(variant, self.genome, self.window_bp)) for variant in chosen]
            fitting = []
            for variant, window in windows:
                reason = self._misfit(window)
                if reason is None:
                    fitting.append((variant, window))
                else:
                    not_scored.append(_reason(variant, reason))
            if fitting:
                yield from self._tracks(fitting)

    def _misfit(self, window: VariantWindow) -> str | None:
        """Why the model cannot take a window, or None: with N in it, tokens can be too many."""
        config = self.model.config
        if config.rescaling_factor is not None or "N" not in window.reference:
            return None
        read = [allele[phase:] for allele in (window.reference, window.alternative) for phase in range(self.phases)]
        longest = max(map(len, self.tokenizer.encode_batch_bases(read, padding=False)["input_ids"]))
        if longest <= config.max_tokens:
            return None
        return f"its window has {longest:,} tokens, many of them N, and the model takes {config.max_tokens:,}"

    def _tracks(self, windows: list[tuple[Variant, VariantWindow]]) -> Iterable[VariantTracks]:
        sequences = [allele for _, window in windows for allele in (window.reference, window.alternative)]
        edits = [window.edit_start for _, window in windows for _ in range(2)]
        answers = self._log_odds(sequences, edits)
        for number, (variant, window) in enumerate(windows):
            yield _align(variant, window, answers[2 * number], answers[2 * number + 1])

    def _log_odds(self, sequences: list[str], edits: list[int]) -> list[np.ndarray]:
        """(bases, elements) float64 of each sequence, NaN at N, averaged over the phases.

        A phase must not begin behind the edit, and a base is averaged over the phases that hold it.
        """
        sums = [np.zeros((len(sequence), self.model.config.num_labels)) for sequence in sequences]
        counts = [np.zeros((len(sequence), 1)) for sequence in sequences]
        for phase in range(self.phases):
            chosen = [number for number, edit in enumerate(edits) if phase <= edit and phase < len(sequences[number])]
            if not chosen:
                continue
            for number, answer in zip(chosen, self._run([sequences[one][phase:] for one in chosen]), strict=True):
                sums[number][phase:] += answer
                counts[number][phase:] += 1
        return [total / count for total, count in zip(sums, counts, strict=True)]

    @torch.inference_mode()
    def _run(self, sequences: list[str]) -> list[np.ndarray]:
        encoded = self.tokenizer.encode_batch_bases(sequences)
        inputs = {name: torch.as_tensor(values, device=self.model.device) for name, values in encoded.items()}
        outputs = self.model(**inputs)
        values = log_odds(outputs.logits).double().masked_fill(~outputs.base_mask.unsqueeze(2), torch.nan)
        answers = values.cpu().numpy()
        return [one[: len(sequence)] for one, sequence in zip(answers, sequences, strict=True)]


EFFECT_COLUMNS = [
    "variant",
    "name",
    "contig",
    "start",
    "reference",
    "alternative",
    "element",
    "bases",
    "maximum_absolute_change",
    "mean_absolute_change",
    "most_changed_position",
    "distance_bp",
    "reference_probability",
    "alternative_probability",
    "change",
    "log_odds_change",
    "largest_log_odds_change",
    "deleted_probability",
    "inserted_probability",
]


def _align(variant: Variant, window: VariantWindow, reference: np.ndarray, alternative: np.ndarray) -> VariantTracks:
    """Keep the pairs of bases that both alleles' answers are known at."""
    pairs = window.pairs()
    known = ~np.isnan(reference[pairs[:, 0], 0]) & ~np.isnan(alternative[pairs[:, 1], 0])
    pairs = pairs[known]
    edited, put = np.zeros((2, 0), dtype=np.int64)
    if window.removed != window.inserted:
        edited = window.edit_start + np.arange(window.removed)
        put = window.edit_start + np.arange(window.inserted)
    return VariantTracks(
        variant,
        positions=window.start + pairs[:, 0],
        distances=window.distances()[pairs[:, 0]],
        reference=reference[pairs[:, 0]],
        alternative=alternative[pairs[:, 1]],
        deleted=reference[edited],
        inserted=alternative[put],
    )


def _effect_rows(tracks: VariantTracks, elements: list[str], distance_bp: int | None) -> list[dict[str, Any]]:
    """A row of the table for each element, without a rank; none where there is no base to compare."""
    near = np.flatnonzero(tracks.distances <= (distance_bp or tracks.distances.max(initial=0)))
    if not len(near):
        return []
    variant, changes = tracks.variant, tracks.changes()[near]
    shifts = (tracks.alternative - tracks.reference)[near]
    most = np.abs(changes).argmax(0)
    described = {
        "variant": str(variant),
        "name": variant.name,
        "contig": variant.contig,
        "start": variant.start,
        "reference": variant.reference,
        "alternative": variant.alternative,
    }
    rows = []
    for column, element in enumerate(elements):
        place = near[most[column]]
        rows.append(
            {
                **described,
                "element": element,
                "bases": len(near),
                "maximum_absolute_change": abs(changes[most[column], column]),
                "mean_absolute_change": np.abs(changes[:, column]).mean(),
                "most_changed_position": tracks.positions[place],
                "distance_bp": tracks.distances[place],
                "reference_probability": probability(tracks.reference[place, column]),
                "alternative_probability": probability(tracks.alternative[place, column]),
                "change": changes[most[column], column],
                "log_odds_change": shifts[most[column], column],
                "largest_log_odds_change": shifts[np.abs(shifts[:, column]).argmax(), column],
                "deleted_probability": _largest(tracks.deleted[:, column]),
                "inserted_probability": _largest(tracks.inserted[:, column]),
            }
        )
    return rows


def _rank(effects: "pd.DataFrame") -> "tuple[pd.DataFrame, pd.DataFrame]":
    """The effects by their variant's largest change, and each variant's most changed element.

    A variant that was given twice has two places.
    """
    n_elements = max(effects["element"].nunique(), 1)
    number = np.arange(len(effects)) // n_elements  # of the variant, as rows come variant by variant
    largest = effects.groupby(number)["maximum_absolute_change"].transform("max")
    order = np.lexsort((np.arange(len(effects)), number, -largest.to_numpy(dtype=float)))
    effects = effects.iloc[order].reset_index(drop=True)
    effects.insert(0, "rank", np.arange(len(effects)) // n_elements + 1)
    first = effects.groupby("rank")["maximum_absolute_change"].idxmax().to_numpy(dtype=np.int64)
    return effects, effects.iloc[first].reset_index(drop=True)


def _largest(log_odds_of: np.ndarray) -> float:
    known = log_odds_of[~np.isnan(log_odds_of)]
    return float(probability(known.max())) if len(known) else float("nan")


def _reason(variant: Variant, reason: str) -> dict[str, str]:
    return {"variant": str(variant), "name": variant.name, "reason": reason}
