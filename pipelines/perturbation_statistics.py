"""How far each gene's contextual embedding moved, and which gene sets moved more than the others.

Sources: cosine similarity before and after the edit, and the Wilcoxon rank-sum test with Benjamini-Hochberg correction,
as Bio-DTA, "In silico mutagenesis". Deviations: 1 - cosine is computed as half the squared distance of the normalised
vectors in float64, since for small mutations it is near the last bit of a cosine; and a gene's shift can be divided by
its usual shift under other genes' edits, because genes differ in how easily they move.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch

from .perturbation_gene_sets import close_names as close_names
from .perturbation_gene_sets import read_gene_sets as read_gene_sets

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

Alternative = Literal["greater", "less", "two-sided"]
# A shift of exactly zero has no logarithm; this is the square of what float32 rounding alone makes.
SMALLEST_SHIFT = 1e-16


def one_minus_cosine(reference: torch.Tensor, edited: torch.Tensor) -> torch.Tensor:
    """(rows, hidden) twice -> (rows,) 1 - cosine similarity, accurate where the two are nearly equal.

    In float64, or float32 on devices without it. Equal to 0.5 * |u - v|^2 for the normalised vectors u and v, which
    loses no digits, while 1 - u.v loses all below 1e-16 (1e-7 in float32).
    """
    dtype = torch.float32 if reference.device.type == "mps" else torch.float64
    difference = _normalised(reference.to(dtype)) - _normalised(edited.to(dtype))
    return 0.5 * difference.square().sum(dim=-1)


class ShiftSums:
    """Running sums a token of 1 - cosine over cells, kept on the device: count, sum, and sum of squares."""

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._sums = torch.zeros(3, vocab_size, dtype=dtype, device=device)

    def add(self, tokens: torch.Tensor, distances: torch.Tensor) -> None:
        """Add one observation a row: `tokens` (rows,) int64, `distances` (rows,) 1 - cosine."""
        values = torch.stack([torch.ones_like(distances), distances, distances.square()])
        self._sums.index_add_(1, tokens, values.to(self._sums.dtype))

    def result(self) -> "ShiftMoments":
        """The moments of all that was added, on the CPU."""
        count, total, squares = self._sums.double().cpu().numpy()
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = total / count
            variance = np.maximum(squares - total * mean, 0) / (count - 1)
        return ShiftMoments(count.astype(np.int64), mean, np.sqrt(np.where(count > 1, variance, np.nan)))


class ShiftMoments(NamedTuple):
    """Of each token, (vocabulary,): how many cells, mean and standard deviation (n - 1) of 1 - cosine; NaN if none."""

    n_cells: np.ndarray
    mean: np.ndarray
    standard_deviation: np.ndarray


class GeneTable(NamedTuple):
    """The genes' shifts, the edited gene apart from them.

    Attributes:
        genes: token_id, gene_id, symbol, n_cells, cosine_mean, cosine_sd (NaN for one cell), shift = 1 - cosine_mean,
            rank (1: the most shifted); one row a gene, in that order.
        edited_gene: the same of the edited gene, less its rank; None where its token is gone, or for several genes.
        n_left_out: genes that too few cells express.
        edited_genes: gene_id, symbol and the same of each edited gene that still has a token.
    """

    genes: "pd.DataFrame"
    edited_gene: dict[str, Any] | None
    n_left_out: int
    edited_genes: list[dict[str, Any]]


def gene_table(
    moments: ShiftMoments,
    gene_ids: Sequence[str],
    gene_symbols: Mapping[str, str],
    *,
    edited_token: int | Sequence[int],
    minimum_cells: int = 1,
) -> GeneTable:
    """One row a gene that `minimum_cells` cells express, the most shifted first; equal shifts by ascending token id.

    Args:
        moments: of the edit, by token.
        gene_ids: the token of each id.
        gene_symbols: gene id -> symbol; "" in the table where unknown.
        edited_token: the gene or genes that were edited; they are reported apart, being no answer to their own edit.
        minimum_cells: genes in fewer cells are left out and counted.
    """
    import pandas as pd

    tokens = np.flatnonzero(moments.n_cells).tolist()
    table = pd.DataFrame(
        {
            "token_id": tokens,
            "gene_id": [gene_ids[token] for token in tokens],
            "symbol": [gene_symbols.get(gene_ids[token], "") for token in tokens],
            "n_cells": moments.n_cells[tokens],
            "cosine_mean": 1 - moments.mean[tokens],
            "cosine_sd": moments.standard_deviation[tokens],
            "shift": moments.mean[tokens],
        }
    )
    edited_tokens = [edited_token] if isinstance(edited_token, int) else list(edited_token)
    is_edited = table["token_id"].isin(edited_tokens)
    edited_genes = table[is_edited].drop(columns="token_id").to_dict("records")
    edited = [{key: row[key] for key in row if key not in ("gene_id", "symbol")} for row in edited_genes]
    others = table[~is_edited]
    genes = others[others["n_cells"] >= minimum_cells]
    genes = genes.sort_values(["shift", "token_id"], ascending=[False, True], ignore_index=True)
    ranked = genes.assign(rank=np.arange(1, len(genes) + 1))
    only = edited[0] if len(edited) == len(edited_tokens) == 1 else None
    return GeneTable(ranked, only, len(others) - len(genes), edited_genes)


def add_intervals(table: "pd.DataFrame", *, level: float = 0.95) -> "pd.DataFrame":
    """The table with shift_low and shift_high: Student's interval of the mean shift over cells; missing for one cell.

    Cells are taken as independent; those of one donor are not, and their interval is too narrow.
    """
    from scipy import stats

    n = table["n_cells"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        half = stats.t.ppf(0.5 + level / 2, n - 1) * table["cosine_sd"].to_numpy() / np.sqrt(n)
    return table.assign(shift_low=table["shift"] - half, shift_high=table["shift"] + half)


def add_rank_columns(table: "pd.DataFrame", mean_ranks: np.ndarray, n_cells: int) -> "pd.DataFrame":
    """The table with mean_rank (0: the strongest gene of its cell) and share_of_cells, both before the edit.

    Args:
        table: of `gene_table`.
        mean_ranks: (vocabulary,) over the cells that have the gene.
        n_cells: that were edited.
    """
    return table.assign(
        mean_rank=mean_ranks[table["token_id"].to_numpy()], share_of_cells=table["n_cells"] / max(n_cells, 1)
    )


def add_sham_columns(table: "pd.DataFrame", sham_moments: Sequence[ShiftMoments]) -> "pd.DataFrame":
    """Each gene's shift relative to its usual shift, i.e. under the same kind of edit at other genes.

    Args:
        table: of `gene_table`.
        sham_moments: one a sham gene, without the sham gene's own row.

    Returns:
        The table with n_sham (edits that the gene was seen under), shift_sham (geometric mean of its shifts under
        them), shift_normalised (log of shift less the mean log of the sham shifts), rank_normalised and
        shift_standardised (shift_normalised in standard deviations, n - 1, of the sham shifts' logs; missing for fewer
        than two); missing where no sham edit shares a cell with the gene.
    """
    import pandas as pd

    tokens = table["token_id"].to_numpy()
    shifts = np.stack([np.where(moments.n_cells > 0, moments.mean, np.nan)[tokens] for moments in sham_moments])
    logs = np.log(np.maximum(shifts, SMALLEST_SHIFT))  # (sham genes, genes); NaN stays NaN
    n_sham = np.isfinite(logs).sum(axis=0)
    mean_log = np.where(n_sham > 0, np.nansum(logs, axis=0) / np.maximum(n_sham, 1), np.nan)
    normalised = np.log(np.maximum(table["shift"].to_numpy(), SMALLEST_SHIFT)) - mean_log
    squares = np.nansum((logs - mean_log) ** 2, axis=0)
    deviation = np.sqrt(np.where(n_sham > 1, squares / np.maximum(n_sham - 1, 1), np.nan))
    order = np.lexsort((tokens, -normalised))  # NaN last
    rank = np.empty(len(table))
    rank[order] = np.arange(1, len(table) + 1)
    rank[np.isnan(normalised)] = np.nan
    return table.assign(
        n_sham=n_sham,
        shift_sham=np.exp(mean_log),
        shift_normalised=normalised,
        rank_normalised=pd.array(rank, dtype="Float64").astype("Int64"),
        shift_standardised=np.divide(normalised, deviation, out=np.full(len(table), np.nan), where=deviation > 0),
    )


def gene_set_table(
    table: "pd.DataFrame",
    gene_sets: Mapping[str, Sequence[str]],
    tokenizer: Any,
    *,
    alternative: Alternative = "greater",
) -> "pd.DataFrame":
    """Wilcoxon rank-sum test of each set's shifts against those of all other genes of the table.

    Args:
        table: of `gene_table`, with or without sham columns.
        gene_sets: name -> gene ids or symbols.
        tokenizer: maps them to tokens.
        alternative: "greater" (the paper's claim: the set shifts more, its cosine drops more), "less" or "two-sided".

    Returns:
        One row a set: gene_set, n_given, n_in_vocabulary, n_tested (in the table), shift_median, shift_median_others,
        statistic (Mann-Whitney U), auc (U / (n1 n2): how often a gene of the set shifts more than another), p_value,
        q_value (Benjamini-Hochberg over the sets tested); with sham columns also auc_normalised, p_value_normalised
        and q_value_normalised. A set with no gene in the table, or all of it, has no p-value.
    """
    import pandas as pd

    rows = []
    for name, genes in gene_sets.items():
        tokens = {tokenizer.token_id_of_gene(gene) for gene in genes} - {None}
        inside = table["token_id"].isin(tokens).to_numpy()
        row: dict[str, Any] = {"gene_set": name, "n_given": len(genes), "n_in_vocabulary": len(tokens)}
        row |= {"n_tested": int(inside.sum())} | rank_sum(table["shift"].to_numpy(), inside, alternative)
        if "shift_normalised" in table:
            tested = rank_sum(table["shift_normalised"].to_numpy(), inside, alternative)
            row |= {f"{key}_normalised": tested[key] for key in ("auc", "p_value")}
        if row["n_tested"] < len(genes):
            logger.info("gene set %s: %d of %d genes tested", name, row["n_tested"], len(genes))
        rows.append(row)
    columns = ["gene_set", "n_given", "n_in_vocabulary", "n_tested", "shift_median", "shift_median_others"]
    columns += ["statistic", "auc", "p_value"]
    sets = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    for suffix in ("", "_normalised"):
        if f"p_value{suffix}" in sets:
            p_values = sets[f"p_value{suffix}"]
            place = int(sets.columns.get_loc(p_values.name)) + 1
            sets.insert(place, f"q_value{suffix}", benjamini_hochberg(p_values.to_numpy(dtype=float)))
    return sets


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """(tests,) p-values -> (tests,) q-values; NaN is no test and stays NaN."""
    from scipy import stats

    q_values = np.full(len(p_values), np.nan)
    tested = ~np.isnan(p_values)
    if tested.any():
        q_values[tested] = stats.false_discovery_control(p_values[tested], method="bh")
    return q_values


def _normalised(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)


def rank_sum(values: np.ndarray, inside: np.ndarray, alternative: Alternative) -> dict[str, float]:
    """Mann-Whitney's test of `values` (genes,) inside a set against those outside; values that are not finite left out.

    Returns shift_median, shift_median_others, statistic, auc and p_value, NaN where one side is empty.
    """
    from scipy import stats

    known = np.isfinite(values)
    members, others = values[known & inside], values[known & ~inside]
    result = {"shift_median": np.nan, "shift_median_others": np.nan, "statistic": np.nan, "auc": np.nan}
    if len(members):
        result["shift_median"] = float(np.median(members))
    if len(others):
        result["shift_median_others"] = float(np.median(others))
    if not len(members) or not len(others):
        return result | {"p_value": np.nan}
    test = stats.mannwhitneyu(members, others, alternative=alternative)
    statistic = float(test.statistic)
    return result | {
        "statistic": statistic,
        "auc": statistic / (len(members) * len(others)),
        "p_value": float(test.pvalue),
    }
