"""How well scores order the regions of a list: exact order, pair accuracy, NDCG and Kendall's tau, beside chance.

`evaluate.load("training/ranking_metric.py")`, or use the class directly. Nothing is kept of what is added but sums over
the lists of each group (contig, or block of one), so memory is flat in the number of lists, states of processes add up,
and a bootstrap over groups costs one matrix product.

Sources: NDCG and pair accuracy as Rax defines them (`rax.ndcg_metric`, `rax.opa_metric`,
https://doi.org/10.1145/3534678.3539065), Kendall's tau-b as `scipy.stats.kendalltau`. They differ where Rax gives 0 for
a list without an order, and breaks ties of scores by place: see `RegionRankingMetric`.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import datasets
import evaluate
import numpy as np
import numpy.typing as npt

SCORES = ("exact_order", "pair_accuracy", "ndcg", "kendall_tau")
CHANCES = tuple(f"{score}_chance" for score in SCORES)
GAINS = ("exponential", "linear")
LABELS = ("ranks", "counts")

Array = npt.NDArray[Any]

_COLUMNS = (*SCORES, *CHANCES, "lists", "lists_without_order")  # of the sums
_LISTS, _WITHOUT_ORDER = _COLUMNS.index("lists"), _COLUMNS.index("lists_without_order")
_PAIRS_AT_A_TIME = 2**21  # of regions, in each array of comparisons

_DESCRIPTION = """Exact order, pair accuracy, NDCG and Kendall's tau of scored lists of regions, each beside chance."""
_INPUTS = """
    predictions: (lists, regions) scores, the lowest for the least accessible region.
    references: (lists, regions) counts, at least 0.
    region_mask: (lists, regions) bool, False where a list has no region; all True where None.
    groups: (lists,) integers, the contig or block that each list lies in; all in group 0 where None.
"""
_CITATION = (
    """Jagerman et al. 2022, Rax, https://doi.org/10.1145/3534678.3539065; Kendall 1945, Biometrika 33:239-251."""
)

logger = logging.getLogger(__name__)


class RegionRankingMetric(evaluate.Metric):
    """Scores of lists of regions, from batches of any size, in any order; each score is a mean over lists.

    - `exact_order`: every two regions with different counts stand in the right order; regions with the same count may
      stand in any. Scores tied where counts differ earn the probability that random tie-breaking gets all right.
      Chance: the share of the n! orders that are right, the product of the factorials of the ties over n!.
    - `pair_accuracy`: share of a list's pairs with different counts that stand in the right order, tied scores for one
      half. Chance: 1/2.
    - `ndcg`: tied scores share the mean discount of their places. Chance: every region at the mean discount, which is
      the expectation over random orders, so it depends on the list alone, and is far above 0.
    - `kendall_tau`: tau-b; 0 where all scores of a list tie (SciPy: NaN). Chance: 0.

    A list with fewer than two different counts among its regions has no order: it is in no score, and is counted in
    `lists_without_order`.

    Args:
        labels: what NDCG's gains are of: "ranks", the dense ranks of a list's counts, from 0 (counts, means over cells,
            are small fractions, whose exponential gains are almost linear), or "counts".
        gain: of NDCG: "exponential", 2^label - 1, or "linear", the label.
        seed: of the bootstrap.
        options: of `evaluate.Metric`.

    Raises:
        ValueError: for other labels or gains.
    """

    def __init__(
        self,
        labels: Literal["ranks", "counts"] = "ranks",
        gain: Literal["exponential", "linear"] = "exponential",
        *,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(seed=seed, **options)
        for name, value, known in (("labels", labels, LABELS), ("gain", gain, GAINS)):
            if value not in known:
                raise ValueError(f"{name} is {value!r}: expected one of {', '.join(known)}")
        self.labels, self.gain = labels, gain
        self._sums: dict[int, Array] = {}  # group -> (columns,) float64

    def add_batch(
        self, *, predictions: Any = None, references: Any = None, region_mask: Any = None, groups: Any = None, **_: Any
    ) -> None:
        """Add the scores of some lists. What stands where `region_mask` is False does not matter.

        Raises:
            ValueError: where shapes do not agree, a score is NaN, or a count negative, NaN or infinite.
        """
        scores, counts = np.asarray(predictions, dtype=np.float64), np.asarray(references, dtype=np.float64)
        mask = np.ones(counts.shape, dtype=bool) if region_mask is None else np.asarray(region_mask, dtype=bool)
        group_of = np.zeros(len(counts), dtype=np.int64) if groups is None else np.asarray(groups, dtype=np.int64)
        _check_batch(scores, counts, mask, group_of)
        if not len(counts):
            return
        rows = np.empty((len(counts), len(_COLUMNS)))
        for some in _slices(*counts.shape):
            rows[some] = self._score_lists(scores[some], counts[some], mask[some])
        ids, group_of = np.unique(group_of, return_inverse=True)
        sums = np.stack([np.bincount(group_of, column, minlength=len(ids)) for column in rows.T], axis=1)
        for group, of_group in zip(ids.tolist(), sums, strict=True):
            self._sums[group] = self._sums.get(group, 0.0) + of_group

    def add(
        self, *, prediction: Any = None, reference: Any = None, region_mask: Any = None, group: int = 0, **_: Any
    ) -> None:
        """Add one list, (regions,)."""
        mask = None if region_mask is None else [region_mask]
        self.add_batch(predictions=[prediction], references=[reference], region_mask=mask, groups=[group])

    def compute(
        self,
        *,
        predictions: Any = None,
        references: Any = None,
        region_mask: Any = None,
        groups: Any = None,
        resamples: int = 0,
        **_: Any,
    ) -> dict[str, Any]:
        """Scores of all that was added, which is then forgotten.

        Args:
            predictions, references, region_mask, groups: a last batch to add, or the only one.
            resamples: of the groups, with replacement, for 95 % percentile intervals; 0: none.

        Returns:
            `exact_order`, `pair_accuracy`, `ndcg`, `kendall_tau`, each with `<name>_chance`, NaN where no list has an
            order; with resamples also `<name>_interval`, [low, high], or None with fewer than two groups; `lists` that
            are scored, `groups` they lie in, and `lists_without_order`.

        Raises:
            ValueError: where nothing was added.
        """
        if predictions is not None or references is not None:
            self.add_batch(predictions=predictions, references=references, region_mask=region_mask, groups=groups)
        if not self._sums:
            raise ValueError("no list was added: call add_batch(predictions=..., references=...) before compute()")
        sums = np.stack([self._sums[group] for group in sorted(self._sums)])
        without_order = int(sums[:, _WITHOUT_ORDER].sum())
        sums = sums[sums[:, _LISTS] > 0]
        if not len(sums):
            logger.warning("none of %d lists has two regions with different counts: scores are NaN", without_order)
        means = _means(sums.sum(axis=0, keepdims=True))
        result: dict[str, Any] = {name: float(means[name][0]) for name in (*SCORES, *CHANCES)}
        result |= {"lists": int(sums[:, _LISTS].sum()), "groups": len(sums), "lists_without_order": without_order}
        if resamples:
            result |= _intervals(sums, resamples, seed=self.seed)
        self.reset()
        return result

    def reset(self) -> None:
        """Forget all that was added."""
        self._sums = {}

    def state(self, group_ids: Iterable[int] | None = None) -> dict[str, Array]:
        """What was summed, as arrays that `merge` takes, and that add up over processes if all name the same groups.

        Args:
            group_ids: groups to report, in this order, zeros for those without a list; by default those with lists.

        Returns:
            `groups` (groups,) int64; `sums` (groups, columns) float64: over lists, each score and its chance, lists
            scored, and lists without an order.

        Raises:
            ValueError: where lists are in groups that are not named.
        """
        ids = sorted(self._sums) if group_ids is None else [int(group) for group in group_ids]
        unnamed = sorted(set(self._sums) - set(ids))
        if unnamed:
            raise ValueError(f"lists were added in groups that are not named: {unnamed[:5]}")
        nothing = np.zeros(len(_COLUMNS))
        sums = np.array([self._sums.get(group, nothing) for group in ids]).reshape(len(ids), len(_COLUMNS))
        return {"groups": np.array(ids, dtype=np.int64), "sums": sums}

    def merge(self, state: Mapping[str, Array]) -> None:
        """Add what another metric with the same labels and gain summed, as its `state` gives it.

        Raises:
            ValueError: where it is not such a state.
        """
        if state["sums"].shape != (len(state["groups"]), len(_COLUMNS)):
            raise ValueError(
                f"the state's sums have shape {state['sums'].shape}: expected ({len(state['groups'])} groups, "
                f"{len(_COLUMNS)}), as state() of a RegionRankingMetric gives them"
            )
        for group, sums in zip(state["groups"].tolist(), state["sums"], strict=True):
            if sums.any():
                self._sums[group] = self._sums.get(group, 0.0) + sums

    def __len__(self) -> int:
        return int(sum(sums[_LISTS] + sums[_WITHOUT_ORDER] for sums in self._sums.values()))

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("float64")
        features = {name: datasets.List(number) for name in ("predictions", "references")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(features),
        )

    def _build_data_dir(self) -> str:
        return ""  # nothing is written, so no cache folder is made

    def _score_lists(self, scores: Array, counts: Array, mask: Array) -> Array:
        """(lists, regions) -> (lists, columns), what each list adds to the sums."""
        counts, scores = np.where(mask, counts, -1.0), np.where(mask, scores, 0.0)  # no count is as low as -1
        both = mask[:, :, None] & mask[:, None, :]
        above = (counts[:, :, None] > counts[:, None, :]) & both  # (lists, regions, regions): first above second
        scored_above = (scores[:, :, None] > scores[:, None, :]) & both
        same = ~(above | above.transpose(0, 2, 1)) & both
        scored_same = ~(scored_above | scored_above.transpose(0, 2, 1)) & both
        gains = self._gains(counts, mask)
        values = {
            "exact_order": _exact_order(above, same, scored_above, scored_same),
            "pair_accuracy": _pair_accuracy(above, scored_above, scored_same),
            "ndcg": _ndcg(gains, scored_above, scored_same, mask),
            "kendall_tau": _kendall_tau(above, scored_above),
            "exact_order_chance": _right_share_of_orders(same, both),
            "pair_accuracy_chance": np.full(len(counts), 0.5),
            "ndcg_chance": _ndcg(gains, np.zeros_like(both), both, mask),
            "kendall_tau_chance": np.zeros(len(counts)),
        }
        has_order: Array = np.any(above, axis=(1, 2))
        scored = np.where(has_order[:, None], np.stack([values[name] for name in (*SCORES, *CHANCES)], axis=1), 0.0)
        return np.column_stack([scored, has_order, ~has_order])

    def _gains(self, counts: Array, mask: Array) -> Array:
        """(lists, regions) up to a factor a list, which NDCG does not see: so powers of 2 do not overflow."""
        labels = counts if self.labels == "counts" else _dense_ranks(counts)
        labels = np.where(mask, labels, 0.0)
        if self.gain == "linear":
            return labels
        most = labels.max(axis=1, keepdims=True)
        return np.exp2(labels - most) * -np.expm1(-labels * np.log(2))


def _check_batch(scores: Array, counts: Array, mask: Array, group_of: Array) -> None:
    if counts.ndim != 2 or not scores.shape == counts.shape == mask.shape:
        raise ValueError(
            f"predictions have shape {scores.shape}, references {counts.shape} and region_mask {mask.shape}: expected "
            "the same (lists, regions)"
        )
    if group_of.shape != counts.shape[:1]:
        raise ValueError(f"groups have shape {group_of.shape}, expected a group a list ({len(counts)},)")
    is_bad = mask & np.isnan(scores)
    if is_bad.any():
        raise ValueError(
            f"{is_bad.sum():,} of {mask.sum():,} predictions are NaN, first in list {is_bad.any(axis=1).argmax()}: a "
            "score must have a place in the order; has the training diverged?"
        )
    is_bad = mask & ~(np.isfinite(counts) & (counts >= 0))
    if is_bad.any():
        raise ValueError(
            f"{is_bad.sum():,} of {mask.sum():,} references are negative, NaN or infinite, first {counts[is_bad][0]} "
            f"in list {is_bad.any(axis=1).argmax()}: expected counts of at least 0, and False in region_mask where a "
            "list has no region"
        )


def _slices(lists: int, regions: int) -> Iterator[slice]:
    step = max(_PAIRS_AT_A_TIME // max(regions, 1) ** 2, 1)
    return (slice(first, first + step) for first in range(0, lists, step))


def _exact_order(above: Array, same: Array, scored_above: Array, scored_same: Array) -> Array:
    """(lists,) probability that the order is right when ties of scores are broken at random."""
    is_wrong = (above & scored_above.transpose(0, 2, 1)).any(axis=(1, 2))
    return np.where(is_wrong, 0.0, _right_share_of_orders(same & scored_same, scored_same))


def _right_share_of_orders(same: Array, tied: Array) -> Array:
    """(lists,) share of the orders within `tied` groups that are right, when those of `same` groups do not matter.

    A factorial is the product over a group of how many of it stand at or before each place.
    """
    at_or_before = np.tri(same.shape[1], dtype=bool)
    factors = (same & at_or_before).sum(axis=2) / np.maximum((tied & at_or_before).sum(axis=2), 1)
    return np.where((tied & at_or_before).any(axis=2), factors, 1.0).prod(axis=1)


def _pair_accuracy(above: Array, scored_above: Array, scored_same: Array) -> Array:
    right = (above & scored_above).sum(axis=(1, 2)) + (above & scored_same).sum(axis=(1, 2)) / 2
    return right / np.maximum(above.sum(axis=(1, 2)), 1)


def _kendall_tau(above: Array, scored_above: Array) -> Array:
    concordant = (above & scored_above).sum(axis=(1, 2))
    discordant = (above & scored_above.transpose(0, 2, 1)).sum(axis=(1, 2))
    norm = np.sqrt(above.sum(axis=(1, 2)) * scored_above.sum(axis=(1, 2), dtype=np.float64))
    return (concordant - discordant) / np.where(norm > 0, norm, 1.0)


def _ndcg(gains: Array, scored_above: Array, scored_same: Array, mask: Array) -> Array:
    """(lists,); tied scores share the mean discount of their places."""
    discounts = 1 / np.log2(np.arange(2, gains.shape[1] + 2))  # (regions,) of the places from the first on
    summed = np.concatenate([[0.0], discounts.cumsum()])
    before, tied = scored_above.sum(axis=1), scored_same.sum(axis=1)
    shared = (summed[before + tied] - summed[before]) / np.maximum(tied, 1)
    ideal = (np.sort(np.where(mask, gains, 0.0), axis=1)[:, ::-1] * discounts).sum(axis=1)
    return (gains * shared).sum(axis=1) / np.where(ideal > 0, ideal, 1.0)


def _dense_ranks(counts: Array) -> Array:
    """(lists, regions) how many different counts of the list lie below each region's."""
    order = np.argsort(counts, axis=1)
    ascending = np.take_along_axis(counts, order, axis=1)
    # Masked regions stand first, and lie below none: their step up is not one of the list.
    is_step = np.zeros(counts.shape, dtype=np.int64)
    is_step[:, 1:] = (ascending[:, 1:] > ascending[:, :-1]) & (ascending[:, :-1] >= 0)
    ranks = np.empty(counts.shape)
    np.put_along_axis(ranks, order, is_step.cumsum(axis=1).astype(np.float64), axis=1)
    return ranks


def _means(sums: Array) -> dict[str, Array]:
    """(samples, columns) -> each score and chance, (samples,); NaN without lists."""
    lists = sums[:, _LISTS]
    means = np.full((len(sums), len(_COLUMNS)), np.nan)
    np.divide(sums, lists[:, None], out=means, where=lists[:, None] > 0)
    return {name: means[:, column] for column, name in enumerate(_COLUMNS)}


def _intervals(sums: Array, resamples: int, *, seed: int) -> dict[str, list[float] | None]:
    """`<score>_interval`; every group has lists, so every resample has some."""
    groups = len(sums)
    if groups < 2:
        logger.warning(
            "the lists lie in %d group: no interval can be drawn. Give each list the contig or block it lies in", groups
        )
        return {f"{score}_interval": None for score in SCORES}
    drawn = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), resamples)
    means = _means(drawn.astype(np.float64) @ sums)
    return {f"{score}_interval": np.percentile(means[score], [2.5, 97.5]).tolist() for score in SCORES}
