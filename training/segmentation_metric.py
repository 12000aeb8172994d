"""How well probabilities of genomic elements, base by base, agree with labels: MCC, AUPRC, F1 and segment overlap.

`evaluate.load("training/segmentation_metric.py", elements=[...])`, or use the class directly. Nothing is kept of what
is added but counts: a histogram of the probabilities for each element, label and block of windows, and sums of segment
overlaps. So memory is flat in the number of windows (1.2 MB a block of 14 elements), and states of processes add up.

Sources: Matthews 1975 (https://doi.org/10.1016/0005-2795(75)90109-9) for MCC; average precision, as scikit-learn
defines it, for AUPRC; SOV'99 of Zemla et al. 1999 (Proteins 34:220-223) for the segment overlap. SOV'99 is taken of one
state, the element's presence, from 0 to 1, within windows: segments end where windows do, and at bases not scored.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import datasets
import evaluate
import numpy as np
import numpy.typing as npt
from scipy.special import digamma

IGNORED_LABEL = -100
SCORES = ("mcc", "auprc", "f1", "precision", "recall", "segment_overlap")

Array = npt.NDArray[Any]
Thresholds = float | Sequence[float] | Literal["best"]

_DESCRIPTION = (
    """MCC, AUPRC, F1, precision, recall and segment overlap (SOV'99) of each genomic element, and averages."""
)
_INPUTS = """
    predictions: (windows, bases, elements) probabilities.
    references: (windows, bases, elements) integers: 1 carries the element, 0 does not, -100 is not scored.
    blocks: (windows,) integers, the block that each window belongs to; all to block 0 where None.
"""
_CITATION = """Zemla et al. 1999, Proteins 34:220-223; Matthews 1975, Biochim Biophys Acta 405:442-451."""


class SegmentationMetric(evaluate.Metric):
    """Scores of each element and their averages, from batches of any size, in any order.

    Probabilities fall into 5,249 bins, 128 a halving of p below 1/2 and of 1 - p above. A threshold is the lower edge
    of a bin, and a base is called where its probability is at least that: counts at thresholds, and so MCC, F1,
    precision and recall, are exact. AUPRC is its expectation over the orders that bases may have within a bin.

    Args:
        elements: names, in the order of the last axis; numbers from 0 where None.
        thresholds: probability from which a base is called: one for all, one an element, or "best", which takes each
            element's best MCC on what was added (too hopeful where it is also what is reported: choose on validation
            data). Rounded to the nearest edge of a bin, at most 0.4 % away. With "best" the segment overlap, which
            needs thresholds while windows pass by, is that at the nearest of 33 (log-odds -4 to 4 in steps of 1/4).
        seed: of the bootstrap.
        options: of `evaluate.Metric`.

    Raises:
        ValueError: for thresholds outside [0, 1], or not as many as elements.
    """

    def __init__(
        self,
        elements: Sequence[str] | None = None,
        thresholds: Thresholds = 0.5,
        *,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(seed=seed, **options)
        self.elements = None if elements is None else list(elements)
        self.thresholds = thresholds
        self._candidates = _candidate_cuts(thresholds)
        if self.elements is not None:
            self._check_elements(len(self.elements))
        self._counts: dict[int, Array] = {}  # block -> (elements, absent or present, bins) int64
        self._overlaps: dict[int, Array] = {}  # block -> (elements, candidates, weighted overlap and its norm)
        self._windows = 0

    def add_batch(self, *, predictions: Any = None, references: Any = None, blocks: Any = None, **_: Any) -> None:
        """Count the bases of some windows.

        Raises:
            ValueError: where shapes do not agree, labels are not 1, 0 or -100, or scored probabilities not in [0, 1].
        """
        probabilities, labels = np.asarray(predictions, dtype=np.float32), np.asarray(references)
        self._check_shapes(probabilities, labels)
        block_of = np.zeros(len(labels), dtype=np.int64) if blocks is None else np.asarray(blocks, dtype=np.int64)
        if block_of.shape != labels.shape[:1]:
            raise ValueError(f"blocks have shape {block_of.shape}, expected a block a window ({len(labels)},)")
        for window, block in enumerate(block_of.tolist()):
            self._add_window(probabilities[window].T, labels[window].T, block)
        self._windows += len(labels)

    def add(self, *, prediction: Any = None, reference: Any = None, block: int = 0, **_: Any) -> None:
        """Count the bases of one window, (bases, elements)."""
        self.add_batch(predictions=[prediction], references=[reference], blocks=[block])

    def compute(
        self, *, predictions: Any = None, references: Any = None, blocks: Any = None, resamples: int = 0, **_: Any
    ) -> dict[str, Any]:
        """Scores of all that was added, which is then forgotten.

        Args:
            predictions, references, blocks: a last batch to add, or the only one.
            resamples: of the blocks, with replacement, for 95 % percentile intervals at the same thresholds; 0: none.

        Returns:
            Averages over the elements that are defined: `mcc`, `auprc`, `f1`, `precision`, `recall`,
            `segment_overlap`; `windows`, `blocks`, and `elements`: for each name these six, `threshold`,
            `scored_bases` and `positive_bases`. With resamples also `mcc_interval` and so on, [low, high]. Where no
            scored base is positive, or none negative, the six are NaN; MCC, F1 and precision are 0 where nothing is
            called.

        Raises:
            ValueError: where nothing was added.
        """
        if predictions is not None or references is not None:
            self.add_batch(predictions=predictions, references=references, blocks=blocks)
        if not self._counts:
            raise ValueError("no window was added: call add_batch(predictions=..., references=...) before compute()")
        ids = sorted(self._counts)
        counts = np.stack([self._counts[block] for block in ids])
        overlaps = np.stack([self._overlaps[block] for block in ids])
        cuts = self._cuts(counts.sum(axis=0))
        nearest = np.abs(self._candidates - cuts).argmin(axis=0)  # (elements,)
        overlaps = overlaps[:, np.arange(len(cuts)), nearest]
        result = {"windows": self._windows, "blocks": len(ids)}
        result |= self._result(counts.sum(axis=0), _scores(counts, overlaps, cuts, np.ones((1, len(ids)))), cuts)
        if resamples:
            drawn = np.random.default_rng(self.seed).multinomial(len(ids), np.full(len(ids), 1 / len(ids)), resamples)
            _add_intervals(result, _scores(counts, overlaps, cuts, drawn.astype(np.float64)), len(ids))
        self.reset()
        return result

    def reset(self) -> None:
        """Forget all that was added."""
        self._counts, self._overlaps, self._windows = {}, {}, 0

    def state(self, block_ids: Iterable[int] | None = None) -> dict[str, Array]:
        """What was counted, as arrays that `merge` takes, and that add up over processes if all name the same blocks.

        Args:
            block_ids: blocks to report, in this order, zeros for those without a window; by default those with windows.

        Returns:
            `blocks` (blocks,) int64; `counts` (blocks, elements, 2, bins) int64, bases by label and bin of probability;
            `overlaps` (blocks, elements, candidates, 2) float64; `windows` (1,) int64.

        Raises:
            ValueError: where windows are in blocks that are not named, or neither windows nor element names are known.
        """
        ids = sorted(self._counts) if block_ids is None else [int(block) for block in block_ids]
        unnamed = sorted(set(self._counts) - set(ids))
        if unnamed:
            raise ValueError(f"windows were added in blocks that are not named: {unnamed[:5]}")
        elements = len(next(iter(self._counts.values()), self.elements or []))
        if not elements:
            raise ValueError("nothing was added, so the number of elements is unknown: give the metric their names")
        counts = np.zeros((len(ids), elements, 2, BINS), dtype=np.int64)
        overlaps = np.zeros((len(ids), elements, len(self._candidates), 2))
        for row, block in enumerate(ids):
            if block in self._counts:
                counts[row], overlaps[row] = self._counts[block], self._overlaps[block]
        windows = np.array([self._windows])
        return {"blocks": np.array(ids, dtype=np.int64), "counts": counts, "overlaps": overlaps, "windows": windows}

    def merge(self, state: Mapping[str, Array]) -> None:
        """Add what another metric of the same elements and thresholds counted, as its `state` gives it.

        Raises:
            ValueError: where it has other elements, or other thresholds.
        """
        self._check_elements(state["counts"].shape[1])
        if state["overlaps"].shape[2] != len(self._candidates):
            raise ValueError(
                f"the state was counted at {state['overlaps'].shape[2]} thresholds, and this metric at "
                f'{len(self._candidates)}: both must have the same thresholds, either given or "best"'
            )
        for row, block in enumerate(state["blocks"].tolist()):
            if state["counts"][row].any():
                self._count(block, state["counts"][row], state["overlaps"][row])
        self._windows += int(state["windows"][0])

    def __len__(self) -> int:
        return self._windows

    def _info(self) -> evaluate.MetricInfo:
        def windows(kind: str) -> datasets.List:
            return datasets.List(datasets.List(datasets.Value(kind)))

        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": windows("float32"), "references": windows("int8")}),
        )

    def _build_data_dir(self) -> str:
        return ""  # nothing is written, so no cache folder is made

    def _add_window(self, probabilities: Array, labels: Array, block: int) -> None:
        """(elements, bases) of one window."""
        is_scored, is_positive = labels != IGNORED_LABEL, labels == 1
        if not ((labels == 0) | is_positive | ~is_scored).all():
            raise ValueError(f"references hold {np.unique(labels)[:5].tolist()}: expected 1, 0, or -100 for not scored")
        probabilities = np.where(is_scored, probabilities, np.float32(0))
        if not ((probabilities >= 0) & (probabilities <= 1)).all():
            raise ValueError(
                f"predictions range from {probabilities.min()} to {probabilities.max()}: expected probabilities from 0 "
                "to 1 (softmax of the logits, entry 1)"
            )
        bins, size = _bins(probabilities), labels.shape[0] * 2 * BINS
        places = (np.arange(len(labels))[:, None] * 2 + is_positive) * BINS + bins
        places[~is_scored] = size  # one more place, for what is not scored
        counts = np.bincount(places.ravel(), minlength=size + 1)[:-1].reshape(-1, 2, BINS)
        cuts = np.broadcast_to(self._candidates, (len(self._candidates), len(labels)))
        overlaps = [segment_overlaps(is_positive, (bins >= cut[:, None]) & is_scored) for cut in cuts]
        self._count(block, counts, np.stack(overlaps, axis=1))

    def _count(self, block: int, counts: Array, overlaps: Array) -> None:
        if block not in self._counts:
            self._counts[block], self._overlaps[block] = np.zeros_like(counts), np.zeros_like(overlaps)
        self._counts[block] += counts
        self._overlaps[block] += overlaps

    def _cuts(self, counts: Array) -> Array:
        """(elements,) first bin that is called; `counts` (elements, 2, bins)."""
        if self.thresholds != "best":
            return np.broadcast_to(self._candidates[0], len(counts))
        above = counts[..., ::-1].cumsum(axis=-1)[..., ::-1].astype(np.float64)  # called at each bin's lower edge
        return np.array([_middle_of_best(_matthews(tp, fp, tp[0], fp[0])) for fp, tp in above])

    def _result(self, counts: Array, scores: Mapping[str, Array], cuts: Array) -> dict[str, Any]:
        names = self.elements or [str(number) for number in range(len(counts))]
        thresholds, bases = BIN_EDGES[cuts], counts.sum(axis=-1)  # (elements, 2) absent, present
        elements = {
            name: {
                "threshold": float(thresholds[number]),
                "scored_bases": int(bases[number].sum()),
                "positive_bases": int(bases[number, 1]),
                **{score: float(scores[score][0, number]) for score in SCORES},
            }
            for number, name in enumerate(names)
        }
        return {score: float(_mean(scores[score])[0]) for score in SCORES} | {"elements": elements}

    def _check_shapes(self, probabilities: Array, labels: Array) -> None:
        if probabilities.ndim != 3 or probabilities.shape != labels.shape:
            raise ValueError(
                f"predictions have shape {probabilities.shape} and references {labels.shape}: expected the same "
                "(windows, bases, elements)"
            )
        self._check_elements(labels.shape[2])

    def _check_elements(self, elements: int) -> None:
        counted = next(iter(getattr(self, "_counts", {}).values()), None)
        known = {
            "names of elements": len(self.elements) if self.elements is not None else elements,
            "thresholds": self._candidates.shape[1] if self._candidates.shape[1] > 1 else elements,
            "elements counted before": len(counted) if counted is not None else elements,
        }
        for what, number in known.items():
            if number != elements:
                raise ValueError(f"there are {elements} elements and {number} {what}: give the metric one each")


def segment_overlaps(truth: Array, called: Array) -> Array:
    """SOV'99 of the runs of True in each row, before the division.

    For each pair of overlapping segments, s1 of `truth` and s2 of `called`: (overlap + allowance) / extent * len(s1),
    where the allowance is the least of extent - overlap, overlap, len(s1) // 2 and len(s2) // 2. The norm is the sum of
    len(s1) over these pairs, and over the segments of `truth` that have none.

    Args:
        truth, called: (rows, bases) bool.

    Returns:
        (rows, 2) float64: the weighted overlap, and the norm.
    """
    rows, bases = truth.shape
    starts, ends = _runs(truth)
    called_starts, called_ends = _runs(called)
    both_starts, both_ends = _runs(truth & called)  # one a pair
    first = np.searchsorted(starts, both_starts, side="right") - 1
    second = np.searchsorted(called_starts, both_starts, side="right") - 1
    length, called_length = (ends - starts)[first], (called_ends - called_starts)[second]
    overlap = both_ends - both_starts
    extent = length + called_length - overlap
    allowance = np.minimum.reduce([extent - overlap, overlap, length // 2, called_length // 2])
    is_missed = np.ones(len(starts), dtype=bool)
    is_missed[first] = False
    row, row_missed = both_starts // (bases + 1), starts[is_missed] // (bases + 1)
    weighted = np.bincount(row, (overlap + allowance) / extent * length, minlength=rows)
    norm = np.bincount(row, length, minlength=rows)
    norm = norm + np.bincount(row_missed, (ends - starts)[is_missed], minlength=rows)
    return np.stack([weighted, norm], axis=1).astype(np.float64)  # without segments bincount gives integers


def _runs(flags: Array) -> tuple[Array, Array]:
    """Starts and ends of the runs of True in (rows, bases), as places in rows of bases + 1 with a False in front."""
    rows, bases = flags.shape
    flat = np.zeros(rows * (bases + 1) + 1, dtype=bool)
    flat[:-1].reshape(rows, bases + 1)[:, 1:] = flags
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return changes[::2], changes[1::2]


def _bins(probabilities: Array) -> Array:
    """float32 of any shape -> bins, int32: leading bits of p below 1/2 and of 1 - p, which is exact there, above."""
    is_low = probabilities < 0.5
    rest = np.where(is_low, probabilities, np.float32(1) - probabilities)
    # Of 1 - p a bin holds its upper edge and not the lower, hence the bits of the next lower number.
    codes = (rest.view(np.int32) - ~is_low) >> _SHIFT
    high = np.where(rest <= _FINEST, rest * 2**24, codes - _code(_FINEST) + _BINS_OF_OCTAVE + 1)
    return np.where(is_low, np.maximum(codes - _code(_LOWEST), 0), BINS - 1 - high.astype(np.int32))


def _bin_edges() -> Array:
    """(BINS,) lower edges of the bins, float64 numbers that float32 holds too."""
    low = (np.arange(_code(_LOWEST), _code(np.float32(0.5)) + 1, dtype=np.int32) << _SHIFT).view(np.float32)
    low = low.astype(np.float64)
    steps = np.arange(_BINS_OF_OCTAVE, -1, -1) * 2.0**-24
    return np.concatenate([[0.0], low[1:-1], 1 - low[low > _FINEST][::-1], 1 - steps])


def _code(value: np.float32) -> int:
    return int(value.view(np.int32)) >> _SHIFT


_SHIFT = 16  # of the 23 bits of a float32's mantissa, seven stay
_BINS_OF_OCTAVE = 2 ** (23 - _SHIFT)
_LOWEST = np.float32(2.0**-25)  # all below falls into the first bin
_FINEST = np.float32(2.0**-17)  # with 1 - p up to here, float32 numbers are as far apart as bins: each has its own
BIN_EDGES = _bin_edges()
BINS = len(BIN_EDGES)


def _candidate_cuts(thresholds: Thresholds) -> Array:
    """(candidates, elements or 1) bins from which a base is called where segments are compared."""
    if isinstance(thresholds, str):
        if thresholds != "best":
            raise ValueError(f'thresholds is {thresholds!r}: expected numbers from 0 to 1, or "best"')
        return _nearest_bins(1 / (1 + np.exp(-np.arange(-4, 4.25, 0.25))))[:, None]
    values = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"thresholds is {thresholds}: expected probabilities from 0 to 1, one or one an element")
    return _nearest_bins(values)[None]


def _nearest_bins(values: Array) -> Array:
    above = np.clip(np.searchsorted(BIN_EDGES, values), 1, BINS - 1)
    return np.where(values - BIN_EDGES[above - 1] < BIN_EDGES[above] - values, above - 1, above)


def _scores(counts: Array, overlaps: Array, cuts: Array, weights: Array) -> dict[str, Array]:
    """Each score, (samples, elements), of blocks weighted in `weights` (samples, blocks).

    `counts` (blocks, elements, 2, bins), `overlaps` (blocks, elements, 2), `cuts` (elements,).
    """
    scores = {name: np.full((len(weights), len(cuts)), np.nan) for name in SCORES}
    for element, cut in enumerate(cuts):
        flat = counts[:, element].reshape(len(counts), -1).astype(np.float64)
        for first in range(0, len(weights), 50):  # some at a time: each has 5,249 bins twice
            rows = slice(first, first + 50)
            some = _counted_scores((weights[rows] @ flat).reshape(-1, 2, BINS), cut)
            for name, values in some.items():
                scores[name][rows, element] = values
        summed = weights @ overlaps[:, element]  # (samples, 2)
        scores["segment_overlap"][:, element] = _ratio(summed[:, 0], summed[:, 1])
        is_undefined = np.isnan(scores["mcc"][:, element])
        scores["segment_overlap"][is_undefined, element] = np.nan
    return scores


def _counted_scores(counts: Array, cut: int) -> dict[str, Array]:
    """(samples, 2, bins) -> each score but the segment overlap, (samples,)."""
    above = counts[..., ::-1].cumsum(axis=-1)
    false_positives, true_positives = above[:, 0], above[:, 1]
    negatives, positives = false_positives[:, -1], true_positives[:, -1]
    precisions = _ratio(true_positives, true_positives + false_positives)
    tp, fp, precision = (values[:, BINS - 1 - cut] for values in (true_positives, false_positives, precisions))
    scores = {
        "mcc": _matthews(tp, fp, positives, negatives),
        "auprc": _average_precision(counts[..., ::-1], true_positives, false_positives),
        "f1": _ratio(2 * tp, positives + tp + fp),
        "precision": precision,
        "recall": _ratio(tp, positives),
    }
    is_defined = (positives > 0) & (negatives > 0)
    return {name: np.where(is_defined, values, np.nan) for name, values in scores.items()}


def _average_precision(counts: Array, true_positives: Array, false_positives: Array) -> Array:
    """Expected average precision, (samples,), where each order of the bases of a bin is as likely as any other.

    Of a bin's n bases, a positive, behind N others, A of them positive, the r-th is positive with probability a / n,
    and then the expected precision is (A + 1 + (r - 1) c) / (N + r), c = (a - 1) / (n - 1). Summed over r with harmonic
    numbers. `counts` (samples, 2, bins) from the highest bin down, and their cumulative sums.
    """
    positive, total = counts[:, 1], counts.sum(axis=1)
    before = true_positives + false_positives - total  # N
    others = _ratio(positive - 1, total - 1)  # c
    harmonic = digamma(before + total + 1) - digamma(before + 1)
    sums = others * total + (true_positives - positive + 1 - others * (before + 1)) * harmonic
    return _ratio((_ratio(positive, total) * sums).sum(axis=1), true_positives[:, -1])


def _matthews(tp: Array, fp: Array, positives: Array, negatives: Array) -> Array:
    called = tp + fp
    spread = positives * negatives * called * (positives + negatives - called)
    return _ratio(tp * (negatives - fp) - fp * (positives - tp), np.sqrt(spread))


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Division that gives 0 where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _middle_of_best(values: Array) -> int:
    """Place of the maximum; the middle of the first run of bins that share it, which no base tells apart."""
    best = int(values.argmax())
    if values[best] == 0:
        return int(np.searchsorted(BIN_EDGES, 0.5))  # nothing to choose by
    differs = values[best:] != values[best]
    length = int(differs.argmax()) if differs.any() else len(differs)
    return best + length // 2


def _mean(values: Array) -> Array:
    """(samples, elements) -> (samples,), over the elements that are defined; NaN where none is."""
    is_defined = ~np.isnan(values)
    number = is_defined.sum(axis=1)
    return np.where(number > 0, np.where(is_defined, values, 0.0).sum(axis=1) / np.maximum(number, 1), np.nan)


def _add_intervals(result: dict[str, Any], scores: Mapping[str, Array], blocks: int) -> None:
    for score in SCORES:
        result[f"{score}_interval"] = _interval(_mean(scores[score]), blocks)
        for number, element in enumerate(result["elements"].values()):
            element[f"{score}_interval"] = _interval(scores[score][:, number], blocks)


def _interval(values: Array, blocks: int) -> list[float]:
    """95 % percentile interval of the resamples in which the score is defined; NaN with a single block."""
    values = values[~np.isnan(values)]
    if blocks < 2 or not len(values):
        return [float("nan")] * 2
    return np.percentile(values, [2.5, 97.5]).tolist()
