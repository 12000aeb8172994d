"""Ranked cells in memory, read from whatever a user has: AnnData, .h5ad, a tokenised folder, or a `datasets.Dataset`.

Cells are kept as one flat array of tokens and each cell's start in it, as Arrow and CSR do, so that nothing here loops
over cells. With donors, each token also names the row of variant features that its cell's donor has at that gene.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

CELLS_A_CHUNK = 4096
# Columns of `var` that hold Ensembl ids in the files of 10x Genomics, CELLxGENE and Geneformer.
GENE_ID_COLUMNS = ("gene_ids", "ensembl_id", "feature_id", "gene_id")


@dataclass(frozen=True)
class RankedCells:
    """Rank tokens of cells.

    Attributes:
        tokens: (tokens of all cells,) int64.
        starts: (cells + 1,) int64, where each cell starts in `tokens`, and the end.
        variant_ids: (tokens of all cells,) int64 rows of `variant_features`, -1 for the reference; None without donors.
        variant_features: (n_variants, dna_feature_size) float32; None without donors.
        names: (cells,) str as the cells' index has them; None where they have none.
        labels: (cells,) str of the column that was asked for; None where none was.
    """

    tokens: np.ndarray
    starts: np.ndarray
    variant_ids: np.ndarray | None = None
    variant_features: np.ndarray | None = None
    names: np.ndarray | None = None
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(cells,) int64 tokens a cell."""
        return np.diff(self.starts)

    def cells_with(self, token_id: int) -> np.ndarray:
        """The cells that have a token, ascending int64."""
        places = np.flatnonzero(self.tokens == token_id)
        return np.unique(np.searchsorted(self.starts, places, side="right") - 1)

    def cells_with_each(self, token_ids: Sequence[int]) -> np.ndarray:
        """(tokens, cells) bool: which cells have each token."""
        has = np.zeros((len(token_ids), len(self)), dtype=bool)
        for row, token_id in enumerate(token_ids):
            has[row, self.cells_with(token_id)] = True
        return has

    def select(self, cells: np.ndarray) -> "RankedCells":
        """Some of the cells, in the order given: (cells,) int64."""
        lengths = self.lengths[cells]
        starts = np.r_[0, lengths.cumsum()]
        places = np.arange(starts[-1]) + np.repeat(self.starts[cells] - starts[:-1], lengths)
        return RankedCells(
            self.tokens[places],
            starts,
            None if self.variant_ids is None else self.variant_ids[places],
            self.variant_features,
            None if self.names is None else self.names[cells],
            None if self.labels is None else self.labels[cells],
        )

    def genes_a_cell(self, num_special_tokens: int) -> np.ndarray:
        """(cells,) int64 genes a cell; tokens below `num_special_tokens` are none."""
        genes = np.r_[0, (self.tokens >= num_special_tokens).cumsum()]
        return genes[self.starts[1:]] - genes[self.starts[:-1]]

    def mean_ranks(self, cells: np.ndarray, vocab_size: int, num_special_tokens: int) -> np.ndarray:
        """(vocab_size,) float64: each gene's mean rank over those of `cells` that have it, 0 the first; NaN if none."""
        is_gene = self.tokens >= num_special_tokens
        chosen = np.zeros(len(self), dtype=bool)
        chosen[cells] = True
        before = np.r_[0, is_gene.cumsum()]
        rank = before[:-1] - np.repeat(before[self.starts[:-1]], self.lengths)
        counted = is_gene & np.repeat(chosen, self.lengths)
        tokens = self.tokens[counted]
        sums = np.bincount(tokens, weights=rank[counted], minlength=vocab_size)
        counts = np.bincount(tokens, minlength=vocab_size)
        return np.divide(sums, counts, out=np.full(vocab_size, np.nan), where=counts > 0)

    def cells_a_token(self, cells: np.ndarray, vocab_size: int) -> np.ndarray:
        """(vocab_size,) int64: how many of `cells` have each token."""
        chosen = np.zeros(len(self), dtype=bool)
        chosen[cells] = True
        return np.bincount(self.tokens[np.repeat(chosen, self.lengths)], minlength=vocab_size)

    def padded(self, cells: np.ndarray, pad_token_id: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`input_ids`, `attention_mask` and `variant_ids` of some cells, (cells, longest of them) int64 each."""
        lengths = self.lengths[cells]
        columns = np.arange(lengths.max(initial=0))
        present = columns < lengths[:, None]
        places = np.minimum(self.starts[cells][:, None] + columns, len(self.tokens) - 1)
        input_ids = np.where(present, self.tokens[places], pad_token_id)
        if self.variant_ids is None:
            return input_ids, present.astype(np.int64), np.full_like(input_ids, -1)
        return input_ids, present.astype(np.int64), np.where(present, self.variant_ids[places], -1)


def read_cells(
    cells: Any,
    tokenizer: Any,
    *,
    counts_layer: str | None = None,
    use_raw: bool = False,
    gene_id_column: str | None = None,
    max_length: int | None = None,
    donor_column: str = "donor",
    gene_features: Any = None,
    label_column: str | None = None,
) -> RankedCells:
    """Ranked cells of an AnnData or a path of a .h5ad, a tokenised folder (or its path), or a `datasets.Dataset`.

    Args:
        cells: counts are ranked with `tokenizer`; a data set must have `input_ids`, and may have `donor_column`; what
            this function returned is taken as it is, so that cells need be ranked but once.
        tokenizer: a GeneRankTokenizer.
        counts_layer: layer of the AnnData that holds raw counts; `X` where None.
        use_raw: take `raw.X` of the AnnData.
        gene_id_column: column of `var` with the gene ids; where None, the names of `var` or a usual column, whichever
            has more genes of the vocabulary.
        max_length: longest cell in tokens; longer ones are cut.
        donor_column: each cell's donor, in `obs` or in the data set; read only with `gene_features`.
        gene_features: an object with `donors`, `gene_ids`, `donor_features` and `donor_feature_index`, as
            `data_scripts.gene_features.read_gene_features` returns; None: all cells have the reference's DNA.
        label_column: a column of `obs` or of the data set that is kept as `labels`.

    Raises:
        ValueError: on input that is none of these, that cannot be read, or that has no usable genes or donors.
        FileNotFoundError: on a path where nothing is.
    """
    if hasattr(cells, "cells_with_each"):
        return _as_ranked_before(cells, max_length, gene_features, label_column)
    if isinstance(cells, str | PathLike):
        cells = _open(Path(cells), tokenizer)
    if hasattr(cells, "obs") and hasattr(cells, "var"):
        ranked = _rank(cells, tokenizer, counts_layer, use_raw, gene_id_column, max_length)
        donors = cells.obs.get(donor_column) if gene_features is not None else None
        labels = _labels(cells.obs, cells.obs.columns, label_column)
        ranked = replace(ranked, names=np.asarray(cells.obs_names).astype(str), labels=labels)
    elif hasattr(cells, "column_names") and hasattr(cells, "with_format"):
        ranked = _cut(_from_dataset(cells, len(tokenizer)), max_length)
        donors = cells[donor_column] if gene_features is not None and donor_column in cells.column_names else None
        ranked = replace(ranked, labels=_labels(cells, cells.column_names, label_column))
    else:
        raise ValueError(
            f"cells are of type {type(cells).__name__}: expected an AnnData, a path of a .h5ad file or of a tokenised "
            "folder, or a datasets.Dataset with input_ids (of a DatasetDict take one split)"
        )
    if gene_features is None:
        return ranked
    if donors is None:
        raise ValueError(f"gene features of donors were given, and the cells have no column {donor_column!r}")
    return _with_donors(ranked, np.asarray(donors).astype(str), gene_features, tokenizer)


def _as_ranked_before(
    cells: RankedCells, max_length: int | None, gene_features: Any, label_column: str | None
) -> RankedCells:
    if gene_features is not None and cells.variant_features is None:
        raise ValueError("the cells were ranked without gene features of donors: give gene_features when reading them")
    if label_column is not None and cells.labels is None:
        raise ValueError(f"the cells were ranked without the column {label_column!r}: give label_column when reading")
    if max_length is not None and cells.lengths.max(initial=0) > max_length:
        raise ValueError(
            f"the longest cell has {cells.lengths.max():,} tokens, and the model takes {max_length:,}: rank the cells "
            "with max_length"
        )
    return cells


def _labels(source: Any, columns: Sequence[Any], column: str | None) -> np.ndarray | None:
    if column is None:
        return None
    if column not in columns:
        raise ValueError(f"the cells have no column {column!r}; they have: {', '.join(map(str, columns)) or 'none'}")
    return np.asarray(source[column]).astype(str)


def _open(path: Path, tokenizer: Any) -> Any:
    if not path.exists():
        raise FileNotFoundError(f"no cells at {path}: expected a .h5ad file or a folder that `build cells` wrote")
    if path.is_dir():
        return _open_folder(path, tokenizer)
    if path.suffix != ".h5ad":
        raise ValueError(
            f"{path} is neither a .h5ad file nor a folder: make a tokenised folder of it with `build cells`"
        )
    import anndata

    try:
        return anndata.read_h5ad(path)
    except Exception as error:  # anndata and h5py raise many kinds for files that are cut off or no HDF5
        raise ValueError(f"{path} cannot be read as .h5ad: {error}") from error


def _open_folder(path: Path, tokenizer: Any) -> Any:
    from datasets import load_dataset

    dictionary = path / "token_dictionary.json"
    if dictionary.is_file():
        _require_same_vocabulary(json.loads(dictionary.read_text(encoding="utf-8")), tokenizer, dictionary)
    try:
        return load_dataset(str(path), split="train")
    except Exception as error:  # datasets raises many kinds for folders that hold no data
        raise ValueError(f"{path} is no folder that `build cells` wrote: {error}") from error


def _require_same_vocabulary(token_dictionary: dict[str, int], tokenizer: Any, source: Path) -> None:
    vocabulary = tokenizer.get_vocab()
    if token_dictionary == vocabulary:
        return
    names = sorted(token_dictionary.keys() | vocabulary.keys())
    example = next(name for name in names if token_dictionary.get(name) != vocabulary.get(name))
    raise ValueError(
        f"{source} is another vocabulary than the model's: {len(token_dictionary):,} and {len(vocabulary):,} tokens, "
        f"and e.g. {example} is {token_dictionary.get(example)} there and {vocabulary.get(example)} in the model: "
        "build the cells with the model's token dictionary"
    )


def _rank(
    cells: Any,
    tokenizer: Any,
    counts_layer: str | None,
    use_raw: bool,
    gene_id_column: str | None,
    max_length: int | None,
) -> RankedCells:
    counts, var = _counts_of(cells, counts_layer, use_raw)
    gene_ids = _gene_ids_of(var, tokenizer, gene_id_column)
    encoded: list[np.ndarray] = []
    lengths = [np.zeros(1, dtype=np.int64)]
    for start in range(0, counts.shape[0], CELLS_A_CHUNK):
        chunk = tokenizer.encode_counts(counts[start : start + CELLS_A_CHUNK], gene_ids, max_length=max_length)
        encoded += chunk["input_ids"]
        lengths.append(chunk["length"])
    if not encoded:
        raise ValueError("the AnnData has no cells")
    return RankedCells(np.concatenate(encoded).astype(np.int64), np.concatenate(lengths).cumsum())


def _counts_of(cells: Any, counts_layer: str | None, use_raw: bool) -> tuple[Any, Any]:
    if use_raw:
        if cells.raw is None:
            raise ValueError("use_raw=True, and the AnnData has no `raw`")
        return cells.raw.X, cells.raw.var
    if counts_layer is None:
        return cells.X, cells.var
    if counts_layer not in cells.layers:
        raise ValueError(f"the AnnData has no layer {counts_layer!r}; it has: {', '.join(cells.layers) or 'none'}")
    return cells.layers[counts_layer], cells.var


def _gene_ids_of(var: Any, tokenizer: Any, gene_id_column: str | None) -> list[str]:
    if gene_id_column is not None:
        if gene_id_column not in var.columns:
            raise ValueError(
                f"`var` has no column {gene_id_column!r}; it has: {', '.join(map(str, var.columns)) or 'none'}"
            )
        return var[gene_id_column].astype(str).tolist()
    candidates = {"the names of var": var.index.astype(str).tolist()}
    candidates |= {name: var[name].astype(str).tolist() for name in GENE_ID_COLUMNS if name in var.columns}
    found = {
        name: sum(tokenizer.token_id_of_gene(gene) is not None for gene in genes) for name, genes in candidates.items()
    }
    best = max(found, key=found.__getitem__)
    logger.info("gene ids from %s: %d of %d are in the vocabulary", best, found[best], len(var))
    return candidates[best]


def _from_dataset(dataset: Any, vocab_size: int) -> RankedCells:
    if "input_ids" not in dataset.column_names:
        raise ValueError(f"the data set has the columns {', '.join(dataset.column_names)}, and no input_ids")
    column = dataset.select_columns(["input_ids"]).with_format("arrow")[:]["input_ids"].combine_chunks()
    if len(column) == 0:
        raise ValueError("the data set has no cells")
    lengths = np.asarray(column.value_lengths())
    tokens = np.asarray(column.flatten()).astype(np.int64)
    if len(tokens) and not 0 <= tokens.min() <= tokens.max() < vocab_size:
        raise ValueError(
            f"input_ids reach from {tokens.min()} to {tokens.max()}, and the vocabulary has the ids 0 to "
            f"{vocab_size - 1}: build the cells with the model's token dictionary"
        )
    return RankedCells(tokens, np.r_[0, lengths.astype(np.int64).cumsum()])


def _cut(cells: RankedCells, max_length: int | None) -> RankedCells:
    if max_length is None or len(cells.tokens) == 0 or cells.lengths.max() <= max_length:
        return cells
    rank = np.arange(len(cells.tokens)) - np.repeat(cells.starts[:-1], cells.lengths)
    logger.info("%d of %d cells are cut to %d tokens", (cells.lengths > max_length).sum(), len(cells), max_length)
    lengths = np.minimum(cells.lengths, max_length)
    return RankedCells(cells.tokens[rank < max_length], np.r_[0, lengths.cumsum()])


def _with_donors(cells: RankedCells, donors: np.ndarray, gene_features: Any, tokenizer: Any) -> RankedCells:
    known = {donor: row for row, donor in enumerate(gene_features.donors or [])}
    missing = sorted(set(donors.tolist()) - known.keys())
    if missing:
        raise ValueError(
            f"{len(missing):,} donors of the cells have no gene features, e.g. {', '.join(missing[:3])}; the features' "
            f"donors are e.g. {', '.join(list(known)[:3]) or 'none'}"
        )
    donor_of_token = np.repeat([known[donor] for donor in donors.tolist()], cells.lengths)
    row_of_token = _feature_rows(gene_features.gene_ids, tokenizer)[cells.tokens]
    rows = np.asarray(gene_features.donor_feature_index)[donor_of_token, row_of_token]
    variant_ids = np.where(row_of_token >= 0, rows, -1).astype(np.int64)
    return replace(cells, variant_ids=variant_ids, variant_features=np.asarray(gene_features.donor_features))


def _feature_rows(gene_ids: Sequence[str], tokenizer: Any) -> np.ndarray:
    """(vocabulary,) the row of the gene features that a token has, -1 where there is none."""
    rows = np.full(len(tokenizer), -1, dtype=np.int64)
    vocabulary = tokenizer.get_vocab()
    for row, gene in enumerate(gene_ids):
        token = vocabulary.get(gene)
        if token is not None:
            rows[token] = row
    return rows
