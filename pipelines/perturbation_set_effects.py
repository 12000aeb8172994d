"""Sizes of gene sets' effects, and how they compare with other genes that are like them.

Sources: the Hodges-Lehmann estimate and its distribution-free interval (Hollander and Wolfe, Nonparametric Statistical
Methods); AUC with a stratified bootstrap. A rank-sum test against all other genes mixes what the edit does with how
strongly a set is expressed: the matched null draws genes of the same mean rank, found in as many cells.
Shapes: n members of a set, m other genes, R replicates, D draws.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .perturbation_statistics import SMALLEST_SHIFT, benjamini_hochberg, rank_sum

if TYPE_CHECKING:
    import pandas as pd

VALUES_A_CHUNK = 4_000_000
NEIGHBOURS = 20
BISECTIONS = 100


def add_set_effects(
    sets: "pd.DataFrame",
    table: "pd.DataFrame",
    gene_sets: Mapping[str, Sequence[str]],
    tokenizer: Any,
    *,
    alternative: str = "greater",
    level: float = 0.95,
    bootstraps: int = 1000,
    draws: int = 1000,
    seed: int = 0,
) -> "pd.DataFrame":
    """Effect sizes, the two-sided test and the null of matched genes beside the rank-sum tests.

    Args:
        sets: of `gene_set_table`.
        table: of `gene_table`, with mean_rank and n_cells (see `add_rank_columns`).
        gene_sets, tokenizer: as there.
        alternative: of the matched null: "greater", "less" or "two-sided".
        level: of the intervals.
        bootstraps: replicates of the AUC's interval; 0 leaves it out.
        draws: of matched genes; 0 leaves the null out.
        seed: of both; each set has draws of its own, whatever other sets are tested.

    Returns:
        `sets` with p_value_two_sided and q_value_two_sided; auc_low and auc_high; shift_ratio (how many times further a
        gene of the set moves than another: the exponential of the Hodges-Lehmann estimate over log shifts) with
        shift_ratio_low and shift_ratio_high; shift_ratio_matched (geometric mean of the set's shifts over that of
        matched genes), p_value_matched (1 + draws that move as far / 1 + draws) and q_value_matched. Where there are
        sham columns, the matched null is of `shift_normalised`, and its ratio that of shifts beyond the usual.
    """
    rows = []
    shifts = table["shift"].to_numpy()
    logs = np.log(np.maximum(shifts, SMALLEST_SHIFT))
    values = table["shift_normalised"].to_numpy() if "shift_normalised" in table else logs
    for name, genes in gene_sets.items():
        tokens = {tokenizer.token_id_of_gene(gene) for gene in genes} - {None}
        inside = table["token_id"].isin(tokens).to_numpy()
        generator = np.random.default_rng([seed, *name.encode()])
        auc_low, auc_high = auc_interval(
            shifts[inside], shifts[~inside], level=level, bootstraps=bootstraps, generator=generator
        )
        ratio, ratio_low, ratio_high = np.exp(hodges_lehmann(logs[inside], logs[~inside], level=level))
        row = {
            "p_value_two_sided": rank_sum(shifts, inside, "two-sided")["p_value"],
            "auc_low": auc_low,
            "auc_high": auc_high,
            "shift_ratio": ratio,
            "shift_ratio_low": ratio_low,
            "shift_ratio_high": ratio_high,
        }
        likeness = np.column_stack([table["mean_rank"], table["n_cells"]])
        row |= matched_null(values, inside, likeness, alternative=alternative, draws=draws, generator=generator)
        rows.append(row)
    if not rows:
        return sets
    found = sets.reset_index(drop=True)
    for column in rows[0]:
        found[column] = [row[column] for row in rows]
    for kind in ("two_sided", "matched"):
        place = int(found.columns.get_loc(f"p_value_{kind}")) + 1
        found.insert(place, f"q_value_{kind}", benjamini_hochberg(found[f"p_value_{kind}"].to_numpy(dtype=float)))
    return found


def hodges_lehmann(members: np.ndarray, others: np.ndarray, *, level: float = 0.95) -> tuple[float, float, float]:
    """(n,) and (m,) -> the median of all differences of a member and another, and its interval; NaN for no values.

    The interval is the rank-sum test's, turned round (normal approximation). Found by bisection on counts of
    differences, so that the (n, m) differences are never made.
    """
    from scipy import stats

    n, m = len(members), len(others)
    if not n or not m:
        return float("nan"), float("nan"), float("nan")
    members, others = np.sort(members), np.sort(others)
    half = stats.norm.ppf(0.5 + level / 2) * np.sqrt(n * m * (n + m + 1) / 12)
    low = int(np.clip(np.floor(n * m / 2 - half), 1, n * m))
    middle = [_difference(members, others, number) for number in {(n * m + 1) // 2, n * m // 2 + 1}]
    return (
        float(np.mean(middle)),
        _difference(members, others, low),
        _difference(members, others, n * m + 1 - low),
    )


def auc_interval(
    members: np.ndarray, others: np.ndarray, *, level: float, bootstraps: int, generator: np.random.Generator
) -> tuple[float, float]:
    """Percentile interval of how often a member is larger than another, ties as half; both groups drawn again."""
    n, m = len(members), len(others)
    if not n or not m or not bootstraps:
        return float("nan"), float("nan")
    distinct, place = np.unique(np.concatenate([members, others]), return_inverse=True)
    of_members, of_others = place[:n], place[n:]
    found = []
    step = max(1, VALUES_A_CHUNK // (m + n + len(distinct)))
    for first in range(0, bootstraps, step):
        count = min(step, bootstraps - first)
        drawn = of_others[generator.integers(0, m, (count, m))]  # (R, m) places among the distinct values
        rows = np.arange(count)[:, None]
        counts = np.bincount((drawn + rows * len(distinct)).ravel(), minlength=count * len(distinct))
        counts = counts.reshape(count, len(distinct))
        below = counts.cumsum(axis=1) - counts / 2  # of the drawn others, ties as half
        found.append(below[rows, of_members[generator.integers(0, n, (count, n))]].mean(axis=1) / m)
    low, high = np.quantile(np.concatenate(found), [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def matched_null(
    values: np.ndarray,
    inside: np.ndarray,
    likeness: np.ndarray,
    *,
    alternative: str,
    draws: int,
    generator: np.random.Generator,
) -> dict[str, float]:
    """The set's mean against that of random genes outside it that are like its members.

    Args:
        values: (genes,) log shifts; NaN is left out.
        inside: (genes,) bool, the set.
        likeness: (genes, properties); each is taken as its rank among all genes, and a member's place in a draw goes at
            random to one of its 20 nearest others or stays its own, so that no small set is more certain than its few
            draws allow: of one gene, p is 1/21 or more. A gene may come twice in a draw.
        alternative: "greater", "less" or "two-sided".
        draws: sets drawn.
        generator: of the draws.

    Returns:
        shift_ratio_matched and p_value_matched; NaN where there is nothing to compare.
    """
    from scipy import stats
    from scipy.spatial import cKDTree

    known = np.isfinite(values)
    members, others = np.flatnonzero(known & inside), np.flatnonzero(known & ~inside)
    if not len(members) or not len(others) or not draws:
        return {"shift_ratio_matched": float("nan"), "p_value_matched": float("nan")}
    places = stats.rankdata(likeness, axis=0) / len(likeness)
    count = min(NEIGHBOURS, len(others))
    neighbours = cKDTree(places[others]).query(places[members], k=[*range(1, count + 1)])[1]  # (n, neighbours)
    likes = values[others][neighbours]
    candidates = np.column_stack([values[members], likes])  # (n, 1 + neighbours)
    rows = np.arange(len(members))
    step = max(1, VALUES_A_CHUNK // len(members))
    means = []
    for first in range(0, draws, step):
        chosen = generator.integers(0, count + 1, (min(step, draws - first), len(members)))
        means.append(candidates[rows, chosen].mean(axis=1))
    null = np.concatenate(means)  # (D,)
    observed, centre = values[members].mean(), likes.mean()
    hits = {
        "greater": null >= observed,
        "less": null <= observed,
        "two-sided": np.abs(null - centre) >= abs(observed - centre),
    }[alternative]
    return {
        "shift_ratio_matched": float(np.exp(observed - centre)),
        "p_value_matched": float((1 + hits.sum()) / (1 + draws)),
    }


def _difference(members: np.ndarray, others: np.ndarray, number: int) -> float:
    """The `number`-th smallest of all differences (from 1) of two sorted arrays, to rounding."""
    low, high = members[0] - others[-1], members[-1] - others[0]
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        # How many differences are `middle` or less: for each member, the others from member - middle on.
        count = len(members) * len(others) - np.searchsorted(others, members - middle, side="left").sum()
        low, high = (low, middle) if count >= number else (middle, high)
    return float(high)
