"""How well tables of perturbed genes find planted targets: scores of each table, and their summary over seeds.

Means are over a world's factors first, then over seeds; the random band is of that mean over factors, as wide as means
of random rankings are. Intervals are of 95 %, Student's t over seeds; differences are paired by seed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from omics_transformers.pipelines.target_recovery import BAND, RandomDraws, auroc, average_precision
from omics_transformers.pipelines.target_recovery_ranking import RankedTargets, rank_targets
from omics_transformers.training.encoder_comparison import mean_and_interval

SCORES = (
    "average_precision",
    "auroc",
    "precision_at_k",
    "average_precision_of_others",
    "mean_of_targets",
    "mean_shift",
)
# What each other model is held against: the paper's own comparison.
REFERENCE = ("adapter-free", "delete", "shift")
DRAWS = 2_000


def score_table(
    table: pd.DataFrame, column: str, factor: str, targets: Mapping[str, Sequence[str]]
) -> dict[str, float | int]:
    """Recovery of a factor's targets by a table of genes that its edit moved.

    Args:
        table: gene_id, and `column`, larger first; genes without a value are left out.
        column: to rank by.
        factor: whose edit it was.
        targets: factor -> gene ids.

    Returns:
        n_genes, n_targets, average_precision, auroc, precision_at_k (k is n_targets; equal values count by their share)
        average_precision_of_others: the mean, over the other factors, of how well the same table finds their targets,
        which tells how far targets are found because they move under any edit; mean_of_targets, of
        `column`; and mean_shift, over genes.
    """
    known = table[np.isfinite(table[column].to_numpy(dtype=float))]
    known = known[known["gene_id"] != factor]
    ranked = rank_targets(known, column, targets[factor])
    others = [rank_targets(known, column, genes) for other, genes in targets.items() if other != factor]
    of_others = [average_precision(one.is_target[None], one)[0] for one in others]
    k = np.array([ranked.n_targets])
    return {
        "n_genes": ranked.n_genes,
        "n_targets": ranked.n_targets,
        "average_precision": float(average_precision(ranked.is_target[None], ranked)[0]),
        "auroc": float(auroc(ranked.is_target[None], ranked)[0]),
        "precision_at_k": float(ranked.hits_at(k)[0] / ranked.n_targets),
        "average_precision_of_others": float(np.mean(of_others)) if of_others else float("nan"),
        "mean_of_targets": float(ranked.values[ranked.is_target].mean()),
        "mean_shift": float(known["shift"].mean()),
    }


def beyond_neutral(table: pd.DataFrame, neutral: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Adds shift_beyond_neutral: log shift less the mean log shift under neutral edits of the same gene.

    Whatever a change of the gene's DNA moves, be it a motif or not, drops out. Genes that depend on a factor's token
    move most under any change of it: that targets are found under an edit of motifs does not tell that the model reads
    motifs. That they move more than under neutral edits (the mean of the targets is above 0) does.
    """
    usual = pd.concat([one.set_index("gene_id")["shift"] for one in neutral], axis=1)
    smallest = np.finfo(np.float64).tiny
    logs = np.log(usual.clip(lower=smallest)).mean(axis=1).reindex(table["gene_id"]).to_numpy()
    return table.assign(shift_beyond_neutral=np.log(table["shift"].clip(lower=smallest)).to_numpy() - logs)


def random_band(sizes: Sequence[tuple[int, int]], *, draws: int = DRAWS, seed: int = 0) -> dict[str, float]:
    """Mean average precision of random rankings over several factors: mean, and the low and high end of 95 %.

    Args:
        sizes: n_genes and n_targets of each factor.
        draws: random rankings of each.
        seed: of the draws.
    """
    of_factors = [_random(genes, targets, draws, seed + number) for number, (genes, targets) in enumerate(sizes)]
    means = np.mean(of_factors, axis=0)
    low, high = np.quantile(means, BAND)
    return {"mean": float(means.mean()), "low": float(low), "high": float(high)}


def _random(genes: int, targets: int, draws: int, seed: int) -> npt.NDArray[np.float64]:
    places = np.arange(genes)
    ranked = RankedTargets(places < targets, -places.astype(float), places + 1)
    return RandomDraws(draws, seed).like(ranked).average_precision


def summarise(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """One entry a world, group of factors (all, seen, held out), arm, edit and column ranked by.

    Args:
        rows: world, seed, arm, edit, ranked_by, factor, held_out, and what `score_table` gives.

    Returns:
        Of each: scores (mean, low, high over seeds), `seeds` (average precision of each), `random` (the band, mean over
        seeds), `seeds_above_band`, `seeds_within_band`, and `less_adapter_free` (paired by seed, of the seeds that have
        both; None where there is none).
    """
    summary = []
    for world, of_world in rows.groupby("world", sort=False):
        for group, chosen in _groups(of_world):
            means = chosen.groupby(["arm", "edit", "ranked_by", "seed"], sort=False)[list(SCORES)].mean()
            bands = _bands(chosen)
            for key in dict.fromkeys(zip(*(means.index.get_level_values(level) for level in range(3)), strict=True)):
                labels = {"world": world, "factors": group} | dict(zip(("arm", "edit", "ranked_by"), key, strict=True))
                summary.append(labels | _entry(means, key, bands))
    return summary


def _groups(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    is_held_out = rows["held_out"].to_numpy(dtype=bool)
    groups = [("all", rows), ("seen", rows[~is_held_out]), ("held out", rows[is_held_out])]
    return [(name, part) for name, part in groups if len(part)]


def _bands(rows: pd.DataFrame) -> dict[tuple[Any, ...], dict[str, float]]:
    """(arm, edit, ranked by, seed) -> random band; those of the same sizes are drawn once."""
    drawn: dict[tuple[tuple[int, int], ...], dict[str, float]] = {}
    bands = {}
    for key, part in rows.groupby(["arm", "edit", "ranked_by", "seed"], sort=False):
        sizes = tuple(zip(part["n_genes"].tolist(), part["n_targets"].tolist(), strict=True))
        if sizes not in drawn:
            drawn[sizes] = random_band(sizes)
        bands[key] = drawn[sizes]
    return bands


def _entry(
    means: pd.DataFrame, key: tuple[Any, ...], bands: Mapping[tuple[Any, ...], dict[str, float]]
) -> dict[str, Any]:
    of_seeds = means.loc[key]
    precision = of_seeds["average_precision"]
    random = pd.DataFrame({seed: bands[(*key, seed)] for seed in of_seeds.index}).T
    entry: dict[str, Any] = {score: _rounded(mean_and_interval(of_seeds[score].tolist())) for score in SCORES}
    entry["seeds"] = {str(seed): round(value, 4) for seed, value in precision.items()}
    entry["random"] = {name: round(float(random[name].mean()), 4) for name in random}
    entry["seeds_above_band"] = int((precision > random["high"]).sum())
    entry["seeds_within_band"] = int(precision.between(random["low"], random["high"]).sum())
    entry["less_adapter_free"] = None
    if REFERENCE in means.index.droplevel("seed") and key != REFERENCE:
        difference = (precision - means.loc[REFERENCE]["average_precision"]).dropna()
        entry["less_adapter_free"] = _rounded(mean_and_interval(difference.tolist()))
    return entry


def _rounded(interval: Mapping[str, float | None]) -> dict[str, float | None]:
    return {
        name: None if value is None or not np.isfinite(value) else float(f"{value:.4g}")
        for name, value in interval.items()
    }


def as_table(summary: Sequence[Mapping[str, Any]]) -> str:
    """Markdown for people: a line an entry."""
    columns = ["world", "factors", "arm", "edit", "ranked by", "average precision", "random", "seeds above"]
    columns += ["AUROC", "precision at k", "of other factors", "mean of targets", "less adapter-free"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for one in summary:
        cells = [str(one[name]) for name in ("world", "factors", "arm", "edit", "ranked_by")]
        random = one["random"]
        cells += [
            _shown(one["average_precision"]),
            f"{random['mean']:.2f} ({random['low']:.2f} to {random['high']:.2f})",
            f"{one['seeds_above_band']} of {len(one['seeds'])}",
        ]
        cells += [_shown(one[name]) for name in ("auroc", "precision_at_k", "average_precision_of_others")]
        mean = one["mean_of_targets"]["mean"]
        cells.append("" if mean is None else f"{mean:.3g}")
        cells.append("" if one["less_adapter_free"] is None else _shown(one["less_adapter_free"]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _shown(interval: Mapping[str, float | None]) -> str:
    if interval["mean"] is None:
        return ""
    if interval["low"] is None:
        return f"{interval['mean']:.2f}"
    return f"{interval['mean']:.2f} ({interval['low']:.2f} to {interval['high']:.2f})"
