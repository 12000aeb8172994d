"""How far each gene's contextual embedding moved, and which gene sets moved more than the others.

Sources: cosine similarity before and after the edit, and the Wilcoxon rank-sum test with Benjamini-Hochberg correction,
as Bio-DTA, "In silico mutagenesis". Deviations: 1 - cosine is computed as half the squared distance of the normalised
vectors in float64, since for small mutations it is near the last bit of a cosine; and a gene's shift can be divided by
its usual shift under other genes' edits, because genes differ in how easily they move.
"""

import difflib
import logging
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch

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
        edited_gene: the same of the edited gene, less its rank; None where its token is gone.
        n_left_out: genes that too few cells express.
    """

    genes: "pd.DataFrame"
    edited_gene: dict[str, Any] | None
    n_left_out: int


def gene_table(
    moments: ShiftMoments,
    gene_ids: Sequence[str],
    gene_symbols: Mapping[str, str],
    *,
    edited_token: int,
    minimum_cells: int = 1,
) -> GeneTable:
    """One row a gene that `minimum_cells` cells express, the most shifted first; equal shifts by ascending token id.

    Args:
        moments: of the edit, by token.
        gene_ids: the token of each id.
        gene_symbols: gene id -> symbol; "" in the table where unknown.
        edited_token: the gene that was edited; it is reported apart, being no answer to its own edit.
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
    is_edited = table["token_id"] == edited_token
    edited = table[is_edited].drop(columns=["token_id", "gene_id", "symbol"]).to_dict("records")
    others = table[~is_edited]
    genes = others[others["n_cells"] >= minimum_cells]
    genes = genes.sort_values(["shift", "token_id"], ascending=[False, True], ignore_index=True)
    ranked = genes.assign(rank=np.arange(1, len(genes) + 1))
    return GeneTable(ranked, edited[0] if edited else None, len(others) - len(genes))


def add_sham_columns(table: "pd.DataFrame", sham_moments: Sequence[ShiftMoments]) -> "pd.DataFrame":
    """Each gene's shift relative to its usual shift, i.e. under the same kind of edit at other genes.

    Args:
        table: of `gene_table`.
        sham_moments: one a sham gene, without the sham gene's own row.

    Returns:
        The table with n_sham (edits that the gene was seen under), shift_sham (geometric mean of its shifts under
        them), shift_normalised (log of shift less the mean log of the sham shifts) and rank_normalised; missing where
        no sham edit shares a cell with the gene.
    """
    import pandas as pd

    tokens = table["token_id"].to_numpy()
    shifts = np.stack([np.where(moments.n_cells > 0, moments.mean, np.nan)[tokens] for moments in sham_moments])
    logs = np.log(np.maximum(shifts, SMALLEST_SHIFT))  # (sham genes, genes); NaN stays NaN
    n_sham = np.isfinite(logs).sum(axis=0)
    mean_log = np.where(n_sham > 0, np.nansum(logs, axis=0) / np.maximum(n_sham, 1), np.nan)
    normalised = np.log(np.maximum(table["shift"].to_numpy(), SMALLEST_SHIFT)) - mean_log
    order = np.lexsort((tokens, -normalised))  # NaN last
    rank = np.empty(len(table))
    rank[order] = np.arange(1, len(table) + 1)
    rank[np.isnan(normalised)] = np.nan
    return table.assign(
        n_sham=n_sham,
        shift_sham=np.exp(mean_log),
        shift_normalised=normalised,
        rank_normalised=pd.array(rank, dtype="Float64").astype("Int64"),
    )


def read_gene_sets(gene_sets: Any) -> dict[str, list[str]]:
    """Gene sets from a mapping of names to ids or symbols, or from files: .gmt, or one gene a line.

    Args:
        gene_sets: a mapping, a path, or a list of paths. A file of one gene a line is a set named after the file.

    Raises:
        ValueError: on a set without genes, a name given twice, or a file that is neither.
        FileNotFoundError: on a path where no file is.
    """
    if gene_sets is None:
        return {}
    if isinstance(gene_sets, Mapping):
        sets = {str(name): list(dict.fromkeys(map(str, genes))) for name, genes in gene_sets.items()}
    else:
        paths = [gene_sets] if isinstance(gene_sets, str | PathLike) else list(gene_sets)
        sets = {}
        for path in paths:
            for name, genes in _read_gene_set_file(Path(path)).items():
                if name in sets:
                    raise ValueError(f"{path}: the gene set {name!r} was already given; give each set its own name")
                sets[name] = genes
    for name, genes in sets.items():
        if not genes:
            raise ValueError(f"the gene set {name!r} has no genes")
    return sets


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
        row |= {"n_tested": int(inside.sum())} | _rank_sum(table["shift"].to_numpy(), inside, alternative)
        if "shift_normalised" in table:
            tested = _rank_sum(table["shift_normalised"].to_numpy(), inside, alternative)
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


def close_names(name: str, names: Sequence[str], count: int = 3) -> list[str]:
    """The names most like one that was not found, whatever the case."""
    by_upper = {known.upper(): known for known in names}
    return [by_upper[match] for match in difflib.get_close_matches(name.upper(), by_upper, n=count, cutoff=0.6)]


def _normalised(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)


def _rank_sum(values: np.ndarray, inside: np.ndarray, alternative: Alternative) -> dict[str, float]:
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


def _read_gene_set_file(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        raise FileNotFoundError(f"no gene sets at {path}: expected a .gmt file, or a text file of one gene a line")
    lines = [line.rstrip("\r\n") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("#")]
    if path.suffix == ".gmt":
        return _parse_gmt(path, lines)
    odd = next((line for line in lines if len(line.split()) != 1), None)
    if odd is not None:
        raise ValueError(f"{path}: {odd[:60]!r} is not one gene; expected one gene a line (name sets of GMT form .gmt)")
    return {path.stem: list(dict.fromkeys(line.strip() for line in lines))}


def _parse_gmt(path: Path, lines: Sequence[str]) -> dict[str, list[str]]:
    sets: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        name, *rest = line.split("\t")
        if len(rest) < 2:
            raise ValueError(f"{path}, line {number}: expected name, description and genes, parted by tabs")
        if name in sets:
            raise ValueError(f"{path}, line {number}: the gene set {name!r} is there twice")
        # Enrichr's files may give a weight after a comma.
        sets[name] = list(dict.fromkeys(gene.split(",")[0].strip() for gene in rest[1:] if gene.strip()))
    return sets
