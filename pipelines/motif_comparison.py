"""Whether scores of bases, such as attributions, are higher or lower where known motifs lie than elsewhere.

A motif's hits are compared with windows of the same width and GC content, or of any place, drawn with a seed: bases of
one hit depend on one another, so the test counts hits and not bases. Wilcoxon rank-sum test with Benjamini-Hochberg
correction over the motifs.
"""

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

Background = Literal["gc", "positions"]
# Windows of a hit's own GC content; where there are fewer, contents beside it count too.
FEWEST_MATCHED_WINDOWS = 20


def compare_with_hits(
    scores: np.ndarray,
    hits: "pd.DataFrame",
    *,
    sequence: str,
    start: int = 0,
    background: Background = "gc",
    controls: int = 100,
    seed: int = 0,
) -> "pd.DataFrame":
    """Scores within each motif's hits against the background: higher, lower, or neither.

    Args:
        scores: (bases,) of the bases from `start` on; give magnitudes where signs do not matter. What is not finite is
            not scored.
        hits: of `find_hits`: matrix_id, motif, start, end, in bases of the sequence. Hits of both strands at one place
            count once.
        sequence: all of it, ACGTN; scores at N do not count.
        start: base of the sequence that the first score belongs to.
        background: "gc", windows with as many G and C as the hit; "positions", any windows. None overlaps a hit of the
            same motif.
        controls: windows drawn for each hit, with replacement.
        seed: of the draw.

    Returns:
        One row a motif, by p-value: matrix_id, motif, n_hits (places), n_hits_not_scored (wholly or in part),
        mean_in_hits, mean_background, auroc (the chance that a hit's mean score exceeds a background window's),
        rank_sum_p (two-sided; counts distinct background windows), q_value, auroc_bases (bases within hits against all
        others, without matching). NaN where a motif has no scored hit or no background.

    Raises:
        ValueError: on scores beyond the sequence, or an unknown background.
    """
    import pandas as pd
    from scipy import stats

    check_background(background)
    if controls < 1:
        raise ValueError(f"controls is {controls}: expected at least 1 window a hit")
    bases = _ScoredBases.make(scores, sequence, start)
    rows = [
        {"matrix_id": matrix_id, "motif": motif, **_compare_motif(bases, group, start, background, controls, seed)}
        for (matrix_id, motif), group in hits.groupby(["matrix_id", "motif"], sort=True)
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    tested = table["rank_sum_p"].notna()
    if tested.any():
        table.loc[tested, "q_value"] = stats.false_discovery_control(table.loc[tested, "rank_sum_p"].to_numpy(float))
    return table.sort_values(["rank_sum_p", "matrix_id"], ignore_index=True)


def check_background(background: str) -> None:
    """Raise ValueError where it is none."""
    if background not in get_args(Background):
        raise ValueError(f"background is {background!r}; expected {' or '.join(get_args(Background))}")


def score_hits(scores: np.ndarray, hits: "pd.DataFrame", *, sequence: str, start: int = 0) -> "pd.DataFrame":
    """How each single hit scores, and how that stands among all windows of its width.

    Args:
        scores, hits, sequence, start: as `compare_with_hits`.

    Returns:
        One row a hit, with the index of `hits`: mean (its bases' mean score) and percentile (share of the windows of
        its width, all over the scored bases, whose mean is lower, equal ones counted half). NaN where a hit is not
        scored, wholly or in part.

    Raises:
        ValueError: on scores beyond the sequence.
    """
    import pandas as pd

    bases = _ScoredBases.make(scores, sequence, start)
    table = pd.DataFrame({"mean": np.nan, "percentile": np.nan}, index=hits.index, dtype=float)
    widths = (hits["end"] - hits["start"]).to_numpy(dtype=np.int64)
    for width in np.unique(widths).tolist():
        rows = np.flatnonzero(widths == width)
        places = hits["start"].to_numpy(dtype=np.int64)[rows] - start
        is_scored = bases.is_complete(places, width)
        rows, places = rows[is_scored], places[is_scored]
        found, everywhere = bases.means(places, width), np.sort(bases.means(bases.windows(width), width))
        ranks = [np.searchsorted(everywhere, found, side=side) for side in ("left", "right")]
        table.iloc[rows, 0] = found
        table.iloc[rows, 1] = np.mean(ranks, axis=0) / max(len(everywhere), 1)
    return table


COLUMNS = [
    "matrix_id",
    "motif",
    "n_hits",
    "n_hits_not_scored",
    "mean_in_hits",
    "mean_background",
    "auroc",
    "rank_sum_p",
    "q_value",
    "auroc_bases",
]


class _ScoredBases(NamedTuple):
    """Scores, (bases,) with NaN where not scored, and sums from the first base to before each, (bases + 1,)."""

    scores: np.ndarray
    score_sums: np.ndarray
    gc_sums: np.ndarray
    missing_sums: np.ndarray

    @classmethod
    def make(cls, scores: np.ndarray, sequence: str, start: int) -> "_ScoredBases":
        end = start + len(scores)
        if start < 0 or end > len(sequence):
            raise ValueError(f"scores of bases {start:,}-{end:,} do not fit a sequence of {len(sequence):,} bases")
        letters = np.frombuffer(sequence[start:end].encode("ascii"), dtype=np.uint8)
        scores = np.asarray(scores, dtype=float)
        scores = np.where((letters == ord("N")) | ~np.isfinite(scores), np.nan, scores)
        is_gc = (letters == ord("G")) | (letters == ord("C"))
        return cls(scores, *(_sums(values) for values in (np.nan_to_num(scores), is_gc, np.isnan(scores))))

    def means(self, starts: np.ndarray, width: int) -> np.ndarray:
        """Mean score of the windows [start, start + width)."""
        return (self.score_sums[starts + width] - self.score_sums[starts]) / width

    def gc(self, starts: np.ndarray, width: int) -> np.ndarray:
        """How many G and C the windows have."""
        return self.gc_sums[starts + width] - self.gc_sums[starts]

    def is_complete(self, starts: np.ndarray, width: int) -> np.ndarray:
        """Whether the windows lie within the scored bases, without a gap."""
        inside = (starts >= 0) & (starts + width <= len(self.scores))
        places = np.where(inside, starts, 0)
        ends = np.minimum(places + width, len(self.scores))
        return inside & (self.missing_sums[ends] == self.missing_sums[places])

    def windows(self, width: int) -> np.ndarray:
        """Starts of all windows without a gap."""
        starts = np.arange(max(len(self.scores) - width + 1, 0))
        return starts[self.is_complete(starts, width)]


def _compare_motif(
    bases: _ScoredBases, hits: "pd.DataFrame", start: int, background: Background, controls: int, seed: int
) -> dict[str, Any]:
    places = np.unique(hits["start"].to_numpy(dtype=np.int64)) - start
    width = int(hits["end"].iloc[0] - hits["start"].iloc[0])
    is_scored = bases.is_complete(places, width)
    in_hits = _covered(places, width, len(bases.scores))
    row = {"n_hits": int(is_scored.sum()), "n_hits_not_scored": int((~is_scored).sum())}
    candidates = bases.windows(width)
    hit_sums = _sums(in_hits)
    candidates = candidates[hit_sums[candidates + width] == hit_sums[candidates]]
    places = places[is_scored]
    if not len(places) or not len(candidates):
        return row | dict.fromkeys(("mean_in_hits", "mean_background", "auroc", "rank_sum_p", "auroc_bases"), np.nan)
    drawn = _draw(bases, places, candidates, width, background, controls, np.random.default_rng(seed))
    found, expected = bases.means(places, width), bases.means(drawn, width)
    known = ~np.isnan(bases.scores)
    return row | {
        "mean_in_hits": found.mean(),
        "mean_background": expected.mean(),
        "auroc": _auroc(found, expected),
        "rank_sum_p": _rank_sum_p(found, bases.means(np.unique(drawn), width)),
        "auroc_bases": _auroc(bases.scores[in_hits & known], bases.scores[~in_hits & known]),
    }


def _draw(
    bases: _ScoredBases,
    places: np.ndarray,
    candidates: np.ndarray,
    width: int,
    background: Background,
    controls: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Starts of `controls` background windows for each hit."""
    if background == "positions":
        return random.choice(candidates, size=len(places) * controls)
    contents = bases.gc(candidates, width)
    order = np.argsort(contents, kind="stable")
    candidates, contents = candidates[order], contents[order]
    fewest = min(FEWEST_MATCHED_WINDOWS, len(candidates))
    drawn = []
    for wanted in bases.gc(places, width).tolist():
        differences = np.abs(contents - wanted)
        farthest = np.partition(differences, fewest - 1)[fewest - 1]
        drawn.append(random.choice(candidates[differences <= farthest], size=controls))
    return np.concatenate(drawn)


def _covered(starts: np.ndarray, width: int, length: int) -> np.ndarray:
    """(length,) bool: within one of the windows, whose ends may lie outside."""
    covered = np.zeros(length, dtype=bool)
    for start in starts.tolist():
        covered[max(start, 0) : max(start + width, 0)] = True
    return covered


def _auroc(positives: np.ndarray, negatives: np.ndarray) -> float:
    """The chance that a positive exceeds a negative, ties counted half."""
    from scipy import stats

    statistic = stats.mannwhitneyu(positives, negatives, method="asymptotic").statistic
    return float(statistic / (len(positives) * len(negatives)))


def _rank_sum_p(positives: np.ndarray, negatives: np.ndarray) -> float:
    from scipy import stats

    return float(stats.mannwhitneyu(positives, negatives, alternative="two-sided").pvalue)


def _sums(values: np.ndarray) -> np.ndarray:
    """(n,) -> (n + 1,) of what lies before each place."""
    return np.concatenate([[0], np.cumsum(values)])
