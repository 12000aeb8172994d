"""Do the genes that move most hold the known targets? Precision, recall and more, beside random genes.

Source: Bio-DTA, "In silico mutagenesis", which compares the top genes of each model with one random set. Deviation: the
random set is its whole distribution, exact (hypergeometric) for whatever depends on the hits among the top k alone, and
of seeded draws for AUROC and average precision. Genes of equal value are never ordered by chance: among the top k they
count by the share of them that fits in, as if all their orders were averaged.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .perturbation_gene_sets import read_gene_sets
from .perturbation_statistics import benjamini_hochberg
from .target_recovery_ranking import RankedTargets, rank_targets, tables_of_shared_genes, target_ids, with_bare_ids

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

RANKED_BY = ("shift", "shift_normalised")
TOP_K = (10, 20, 50, 100, 200, 500)
BAND = (0.025, 0.975)
DRAWS = 1_000
VALUES_A_CHUNK = 4_000_000


class TargetRecovery(NamedTuple):
    """How well each model's ranking finds each set of targets.

    Attributes:
        scores: one row a model, column ranked by, and gene set: model, ranked_by, gene_set, n_given, n_targets (among
            the ranked genes), n_genes (ranked), auroc and average_precision, each with `_random` (mean of the draws),
            `_random_low` and `_random_high` (95 % of the draws lie between), `_p_value` (of AUROC: Mann-Whitney U,
            one-sided; of average precision: share of draws as good, the observation among them) and `_q_value`
            (Benjamini-Hochberg over the rows).
        top_k: one row a model, column, gene set and k: hits (fractional where genes of equal value lie on both sides
            of k), precision, recall, f1, each with `_random` (mean), `_random_low` and `_random_high` (95 % of random
            sets of k genes lie between), enrichment (hits / those expected), p_value (hypergeometric, of as many hits
            or more), q_value (Benjamini-Hochberg over the rows).
        curve: one row a model, column, gene set and number of genes taken, where the hits change: k, hits, precision,
            recall, and precision_random (median), precision_random_low and precision_random_high of random rankings at
            the same recall; of genes of equal value, all are taken at once.
    """

    scores: "pd.DataFrame"
    top_k: "pd.DataFrame"
    curve: "pd.DataFrame"


def target_recovery(genes: "pd.DataFrame", targets: Any, **options: Any) -> TargetRecovery:
    """Of one model; arguments and errors as `compare_recovery`."""
    return compare_recovery({"model": genes}, targets, **options)


def compare_recovery(
    tables: Mapping[str, "pd.DataFrame"],
    targets: Any,
    *,
    ranked_by: Sequence[str] | Mapping[str, Sequence[str]] = RANKED_BY,
    top_k: Sequence[int] = TOP_K,
    universe: Literal["shared", "own"] = "shared",
    draws: int = DRAWS,
    seed: int = 0,
) -> TargetRecovery:
    """Models side by side against sets of targets.

    Args:
        tables: name -> table of genes with gene_id, perhaps symbol, and the columns to rank by, larger first: a
            perturbation's `genes`, or that of `coexpression_baseline`.
        targets: name -> gene ids or symbols, or path(s) of .gmt files or lists, as `read_gene_sets`.
        ranked_by: columns to rank by, for all models or for each; one that a table lacks, or that has no value, is
            passed over, if another is there.
        top_k: numbers of genes to take; larger ones than there are genes are passed over and logged.
        universe: "shared": rank only the genes that all tables have a value for, so that all models have the same task
            (what that leaves out is logged); "own": all genes of each table.
        draws: random rankings behind the bands of AUROC and average precision.
        seed: of the draws.

    Raises:
        ValueError: on a table without its columns or with a gene twice, a gene set of which no gene, or every gene, is
            ranked, or numbers out of range.
    """
    import pandas as pd

    _require_numbers(top_k, draws)
    sets = read_gene_sets(targets)
    if not tables or not sets:
        raise ValueError(f"{len(tables)} tables of genes and {len(sets)} sets of targets were given: give one of each")
    scores, at_k, curves = [], [], []
    random = RandomDraws(draws, seed)
    for labels, ranked in _rankings(tables, sets, ranked_by, universe):
        scores.append(labels | _scores(ranked, random))
        at_k.append(_with_labels(_top_k(ranked, top_k), labels))
        curves.append(_with_labels(_curve(ranked, random), labels))
    score_table, k_table = pd.DataFrame(scores), pd.concat(at_k, ignore_index=True)
    for name in ("auroc", "average_precision"):
        place = int(score_table.columns.get_loc(f"{name}_p_value")) + 1
        score_table.insert(place, f"{name}_q_value", benjamini_hochberg(score_table[f"{name}_p_value"].to_numpy()))
    k_table["q_value"] = benjamini_hochberg(k_table["p_value"].to_numpy(dtype=float))
    return TargetRecovery(score_table, k_table, pd.concat(curves, ignore_index=True))


class RandomRankings(NamedTuple):
    """What random targets score.

    Attributes:
        auroc, average_precision: (draws,).
        precision: (3, targets) low end of the band, median and high end of the precision where so many are found.
    """

    auroc: npt.NDArray[np.float64]
    average_precision: npt.NDArray[np.float64]
    precision: npt.NDArray[np.float64]


class RandomDraws:
    """Random rankings, drawn once for each number of genes and of targets."""

    def __init__(self, draws: int, seed: int) -> None:
        self._draws = draws
        self._seed = seed
        self._known: dict[bytes, RandomRankings] = {}

    def like(self, ranked: RankedTargets) -> RandomRankings:
        """As many targets, drawn at random among genes tied as these are."""
        key = np.r_[ranked.n_targets, ranked.group_ends].tobytes()
        if key not in self._known:
            self._known[key] = self._draw(ranked)
        return self._known[key]

    def _draw(self, ranked: RankedTargets) -> RandomRankings:
        generator = np.random.default_rng(self._seed)
        rows = max(1, VALUES_A_CHUNK // ranked.n_genes)
        scores, places = [], []
        for start in range(0, self._draws, rows):
            keys = generator.random((min(rows, self._draws - start), ranked.n_genes))
            chosen = np.sort(np.argpartition(keys, ranked.n_targets - 1, axis=1)[:, : ranked.n_targets], axis=1)
            is_target = np.zeros(keys.shape, dtype=bool)
            np.put_along_axis(is_target, chosen, True, axis=1)
            scores.append(np.stack([auroc(is_target, ranked), average_precision(is_target, ranked)]))
            places.append((chosen + 1).astype(np.int32))
        found = np.arange(1, ranked.n_targets + 1)
        # Later in the ranking is less precise.
        late, middle, early = np.quantile(np.concatenate(places), [BAND[1], 0.5, BAND[0]], axis=0)
        areas, precisions = np.concatenate(scores, axis=1)
        return RandomRankings(areas, precisions, found / np.stack([late, middle, early]))


def auroc(is_target: npt.NDArray[np.bool_], ranked: RankedTargets) -> npt.NDArray[np.float64]:
    """(rankings, genes) targets, in the order of the ranking -> (rankings,) chance that a target is above another."""
    starts = np.r_[0, ranked.group_ends[:-1]]
    middle = np.repeat((starts + ranked.group_ends + 1) / 2, ranked.group_ends - starts)  # mean rank of equal values
    n_others = ranked.n_genes - ranked.n_targets
    above = is_target @ middle - ranked.n_targets * (ranked.n_targets + 1) / 2
    return 1 - above / (ranked.n_targets * n_others)


def average_precision(is_target: npt.NDArray[np.bool_], ranked: RankedTargets) -> npt.NDArray[np.float64]:
    """(rankings, genes) targets, in the order of the ranking -> (rankings,), as scikit-learn defines it."""
    hits = np.cumsum(is_target, axis=1)[:, ranked.group_ends - 1]
    found = np.diff(hits, axis=1, prepend=0)
    return (found * hits / ranked.group_ends).sum(axis=1) / ranked.n_targets


def _rankings(
    tables: Mapping[str, "pd.DataFrame"],
    sets: Mapping[str, Sequence[str]],
    ranked_by: Sequence[str] | Mapping[str, Sequence[str]],
    universe: str,
) -> Iterator[tuple[dict[str, Any], RankedTargets]]:
    if universe not in ("shared", "own"):
        raise ValueError(f'universe is {universe!r}; expected "shared" or "own"')
    columns = {name: ranked_by[name] if isinstance(ranked_by, Mapping) else ranked_by for name in tables}
    chosen = tables_of_shared_genes(tables, columns, restrict=universe == "shared")
    wanted = target_ids([with_bare_ids(name, table) for name, table in tables.items()], sets)
    for (model, column), table in chosen.items():
        for gene_set, genes in sets.items():
            labels = {"model": model, "ranked_by": column, "gene_set": gene_set, "n_given": len(genes)}
            yield labels, rank_targets(table, column, wanted[gene_set], model=model, gene_set=gene_set)


def _scores(ranked: RankedTargets, random: RandomDraws) -> dict[str, float]:
    from scipy import stats

    row: dict[str, float] = {"n_targets": ranked.n_targets, "n_genes": ranked.n_genes}
    observed, drawn = ranked.is_target[None], random.like(ranked)
    values = {"auroc": auroc(observed, ranked)[0], "average_precision": average_precision(observed, ranked)[0]}
    for name, value in values.items():
        of_draws = getattr(drawn, name)
        low, high = np.quantile(of_draws, BAND)
        row |= {
            name: float(value),
            f"{name}_random": float(of_draws.mean()),
            f"{name}_random_low": float(low),
            f"{name}_random_high": float(high),
            f"{name}_p_value": float((1 + (of_draws >= value - 1e-12).sum()) / (1 + len(of_draws))),
        }
    members, others = ranked.values[ranked.is_target], ranked.values[~ranked.is_target]
    return row | {"auroc_p_value": float(stats.mannwhitneyu(members, others, alternative="greater").pvalue)}


def _top_k(ranked: RankedTargets, top_k: Sequence[int]) -> "pd.DataFrame":
    import pandas as pd

    fitting = np.array([k for k in dict.fromkeys(top_k) if k <= ranked.n_genes], dtype=np.int64)
    if len(fitting) < len(set(top_k)):
        logger.info("of top_k, %d are more than the %d ranked genes", len(set(top_k)) - len(fitting), ranked.n_genes)
    return pd.DataFrame({"k": fitting} | at_top(ranked.hits_at(fitting), fitting, ranked.n_targets, ranked.n_genes))


def at_top(
    hits: npt.NDArray[np.float64], k: npt.NDArray[np.int64], n_targets: int, n_genes: int
) -> dict[str, npt.NDArray[np.float64]]:
    """What the hits among the top k mean, beside random sets of k genes; the columns of `TargetRecovery.top_k`.

    Args:
        hits: (numbers,) targets among the top k; fractional where equal values lie on both sides of k.
        k: (numbers,) genes taken.
        n_targets: among the ranked genes.
        n_genes: ranked.
    """
    from scipy import stats

    random = stats.hypergeom(n_genes, n_targets, k)
    low, high, expected = random.ppf(BAND[0]), random.ppf(BAND[1]), k * n_targets / n_genes
    of_hits = {"precision": 1 / k, "recall": np.full(len(k), 1 / n_targets), "f1": 2 / (k + n_targets)}
    columns: dict[str, Any] = {"hits": hits, "hits_random": expected}
    for name, factor in of_hits.items():
        columns[name] = hits * factor
        columns[f"{name}_random"] = expected * factor
        columns[f"{name}_random_low"] = low * factor
        columns[f"{name}_random_high"] = high * factor
    columns["enrichment"] = hits / expected
    columns["p_value"] = random.sf(np.floor(hits + 1e-9) - 1)
    return columns


def _curve(ranked: RankedTargets, random: RandomDraws) -> "pd.DataFrame":
    import pandas as pd

    hits = np.cumsum(ranked.is_target)[ranked.group_ends - 1]
    changes = np.flatnonzero(np.diff(hits, prepend=0))
    k, found = ranked.group_ends[changes], hits[changes]
    low, median, high = random.like(ranked).precision[:, found - 1]
    return pd.DataFrame(
        {
            "k": k,
            "hits": found,
            "precision": found / k,
            "recall": found / ranked.n_targets,
            "precision_random": median,
            "precision_random_low": low,
            "precision_random_high": high,
        }
    )


def _with_labels(table: "pd.DataFrame", labels: Mapping[str, Any]) -> "pd.DataFrame":
    for place, name in enumerate(("model", "ranked_by", "gene_set")):
        table.insert(place, name, labels[name])
    return table


def _require_numbers(top_k: Sequence[int], draws: int) -> None:
    if not top_k or any(int(k) != k or k < 1 for k in top_k):
        raise ValueError(f"top_k is {list(top_k)}: give whole numbers of at least 1")
    if draws < 1:
        raise ValueError(f"draws is {draws}: give at least 1, better 1,000")
