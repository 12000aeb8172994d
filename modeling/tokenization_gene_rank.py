"""Gene rank tokenizer: a cell's counts become its genes, ordered by median-normalised expression.

Source: the rank-value encoding of Theodoris et al. 2023 (https://doi.org/10.1038/s41586-023-06139-9), which Bio-DTA
takes over: counts / the cell's total x 10,000 / the gene's median over the corpus, genes of non-zero value in
descending order, cut at the longest input. Deviations: equal values are ordered by ascending token id (theirs is
undefined), and counts of columns that map to one gene are summed, as their second version does.
"""

import gzip
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

TARGET_SUM = 10_000.0
DEFAULT_MAX_LENGTH = 2048
# Natural logarithms of counts stay below this: exp(30) reads would be a hundred billion times what a cell yields.
LARGEST_LOGGED_COUNT = 30.0

Source = str | PathLike[str] | Mapping[str, Any]
_SPECIAL_TOKEN = re.compile(r"<[^<>\s]+>")
_VERSIONED_ENSEMBL_ID = re.compile(r"(ENS[A-Z]*\d+)\.\d+(?:_PAR_Y)?")


class GeneRankTokenizer(PreTrainedTokenizerFast):
    """Vocabulary of genes, their medians and, where known, their symbols; encodes counts and decodes to genes.

    As text, a cell is its gene ids separated by white space; a gene outside the vocabulary is then an error, since
    there is no token for unknown genes. `save_pretrained` writes `token_dictionary.json`, `gene_medians.json` and
    `gene_symbols.json`, the very files that `omics-transformers build cells` writes.

    Args:
        vocab_file: JSON or JSON.gz, token -> id; ids 0 to n - 1, `<pad>` and `<mask>` among them. Where it has `<cls>`
            and `<eos>` (Geneformer's second version), each cell is put between the two.
        gene_medians_file: JSON or JSON.gz, gene id -> median of its non-zero normalised counts; needed to encode.
        gene_symbols_file: JSON or JSON.gz, gene id -> symbol; optional.

    Raises:
        ValueError: on ids that are not 0 to n - 1, a missing `<pad>` or `<mask>`, a gene without a positive median.
    """

    vocab_files_names = {  # noqa: RUF012 (transformers' own form)
        "vocab_file": "token_dictionary.json",
        "gene_medians_file": "gene_medians.json",
        "gene_symbols_file": "gene_symbols.json",
    }
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012

    def __init__(
        self,
        vocab_file: Source | None = None,
        gene_medians_file: Source | None = None,
        gene_symbols_file: Source | None = None,
        *,
        pad_token: str = "<pad>",
        mask_token: str = "<mask>",
        **kwargs: Any,
    ) -> None:
        if vocab_file is None:
            raise ValueError(
                "no token dictionary: give vocab_file (JSON, gene id -> token id), or load a folder that holds "
                f"{self.vocab_files_names['vocab_file']}"
            )
        token_dictionary = _checked_token_dictionary(_read(vocab_file), str(pad_token), str(mask_token))
        specials = [token for token in token_dictionary if _SPECIAL_TOKEN.fullmatch(token)]
        self.gene_medians = _checked_medians(_read(gene_medians_file), token_dictionary, specials)
        self.gene_symbols: dict[str, str] = _read(gene_symbols_file) if gene_symbols_file is not None else {}
        kwargs.setdefault("model_max_length", DEFAULT_MAX_LENGTH)
        for name, token in (("cls_token", "<cls>"), ("eos_token", "<eos>")):
            if token in token_dictionary:
                kwargs.setdefault(name, token)
        super().__init__(
            tokenizer_object=_backend(token_dictionary), pad_token=pad_token, mask_token=mask_token, **kwargs
        )
        self._index_genes(token_dictionary, specials)

    @classmethod
    def from_dictionaries(
        cls, token_dictionary: Source, gene_medians: Source | None, gene_symbols: Source | None = None, **kwargs: Any
    ) -> "GeneRankTokenizer":
        """The tokenizer of dictionaries, or of paths of JSON or JSON.gz files (Geneformer's, once converted, fit)."""
        return cls(token_dictionary, gene_medians, gene_symbols, **kwargs)

    @classmethod
    def convert_to_native_format(cls, trust_remote_code: bool = False, **kwargs: Any) -> dict[str, Any]:  # noqa: ARG003
        """Transformers' hook: the dictionaries alone make the tokenizer, never a tokenizer.json beside them."""
        kwargs.pop("tokenizer_file", None)
        return kwargs

    def encode_counts(
        self,
        counts: Any,
        gene_ids: Sequence[str],
        *,
        max_length: int | None = None,
        total_counts: Any = None,
    ) -> dict[str, Any]:
        """Rank tokens of cells.

        Args:
            counts: (cells, genes) raw counts, SciPy sparse or dense.
            gene_ids: (genes,) Ensembl ids with or without version; a symbol does where `gene_symbols` has it once.
            max_length: longest cell in tokens, special ones included; `model_max_length` where None.
            total_counts: (cells,) what to divide a cell's counts by; the sum over ALL its genes where None, also those
                outside the vocabulary. Give it when `counts` holds only a part of the genes.

        Returns:
            `input_ids`, a list of (length,) int64 arrays, a cell each and in their order, and `length` (cells,) int64.

        Raises:
            ValueError: where no gene is in the vocabulary, on counts that are negative, not finite or logged, on
                shapes that disagree, and without medians.
        """
        n_cells, cells, columns, values = _checked_counts(counts, gene_ids)
        totals = _checked_totals(np.bincount(cells, weights=values, minlength=n_cells), total_counts)
        cells, tokens, values = _sum_by_token(cells, self._tokens_of_columns(gene_ids)[columns], values)
        # The order of these operations is part of the rule: it decides which values are equal to the last bit.
        ranked = values / totals[cells] * TARGET_SUM / self._medians_by_token[tokens]
        tokens = tokens[np.lexsort((tokens, -ranked, cells))]
        genes_per_cell = np.bincount(cells, minlength=n_cells)
        if not genes_per_cell.all():
            empty = int((genes_per_cell == 0).sum())
            logger.warning("%d of %d cells express no gene of the vocabulary: they have no gene tokens", empty, n_cells)
        input_ids = self._cut(tokens, np.r_[0, genes_per_cell.cumsum()], max_length)
        return {"input_ids": input_ids, "length": np.fromiter(map(len, input_ids), dtype=np.int64, count=n_cells)}

    def decode_genes(self, ids: Iterable[int]) -> list[str]:
        """The gene ids of tokens, in their order; special tokens are no genes and left out."""
        tokens = (self._tokens_by_id[int(token_id)] for token_id in ids)
        return [token for token in tokens if token not in self._special_gene_tokens]

    def token_id_of_gene(self, gene: str) -> int | None:
        """Token id of an Ensembl id (any version) or of a symbol that one gene bears; None where there is none."""
        return self._token_by_name.get(gene, self._token_by_name.get(strip_version(gene)))

    def save_vocabulary(  # type: ignore[override]  # several files, as transformers' other tokenizers write
        self, save_directory: str, filename_prefix: str | None = None
    ) -> tuple[str, ...]:
        """Write the dictionaries as JSON files; medians and symbols only where known."""
        contents = {
            "vocab_file": {token: number for number, token in enumerate(self._tokens_by_id)},
            "gene_medians_file": self.gene_medians,
            "gene_symbols_file": self.gene_symbols,
        }
        written = []
        for key, dictionary in contents.items():
            if dictionary:
                prefix = f"{filename_prefix}-" if filename_prefix else ""
                path = Path(save_directory, prefix + self.vocab_files_names[key])
                path.write_text(json.dumps(dictionary, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
                written.append(str(path))
        return tuple(written)

    def _save_pretrained(
        self,
        save_directory: str | PathLike[str],
        file_names: tuple[str, ...],
        legacy_format: bool | None = None,  # noqa: ARG002 (transformers' signature)
        filename_prefix: str | None = None,
    ) -> tuple[str, ...]:
        if len(self) != len(self._tokens_by_id):
            raise ValueError(
                f"{len(self) - len(self._tokens_by_id)} tokens were added after the tokenizer was made, and would be "
                "lost: put them into the token dictionary instead"
            )
        return file_names + self.save_vocabulary(str(save_directory), filename_prefix)

    def _index_genes(self, token_dictionary: dict[str, int], specials: list[str]) -> None:
        self._tokens_by_id = sorted(token_dictionary, key=token_dictionary.__getitem__)
        self._special_gene_tokens = frozenset(specials)
        self._medians_by_token = np.array([self.gene_medians.get(token, np.nan) for token in self._tokens_by_id])
        genes = {token: number for token, number in token_dictionary.items() if token not in self._special_gene_tokens}
        unversioned = {strip_version(gene): number for gene, number in genes.items()}
        self._token_by_name = _unique_symbols(self.gene_symbols, genes) | unversioned | genes

    def _tokens_of_columns(self, gene_ids: Sequence[str]) -> np.ndarray:
        """(genes,) token id of each column of the counts, -1 outside the vocabulary."""
        if not self.gene_medians:
            raise ValueError(
                "this tokenizer has no gene medians, and counts cannot be ranked without: make it with "
                "GeneRankTokenizer.from_dictionaries(token_dictionary, gene_medians)"
            )
        found = (self.token_id_of_gene(str(gene)) for gene in gene_ids)
        tokens = np.array([-1 if token is None else token for token in found], dtype=np.int64)
        if not (tokens >= 0).any():
            vocabulary = [token for token in self._tokens_by_id if token not in self._special_gene_tokens]
            raise ValueError(
                f"none of the {len(gene_ids):,} genes of the counts is in the vocabulary of {len(vocabulary):,} genes: "
                f"the counts have e.g. {_examples(gene_ids)}, the vocabulary e.g. {_examples(vocabulary)}; give "
                "gene_ids of the vocabulary's kind, or gene_symbols to map symbols"
            )
        logger.info("%d of %d genes of the counts are in the vocabulary", (tokens >= 0).sum(), len(gene_ids))
        return tokens

    def _cut(self, tokens: np.ndarray, starts: np.ndarray, max_length: int | None) -> list[np.ndarray]:
        """Split the cells' tokens (all cells' genes,) at `starts` (cells + 1,), cut each, and add <cls> and <eos>."""
        ends = self.cls_token_id is not None and self.eos_token_id is not None
        longest = self.model_max_length if max_length is None else max_length
        room = int(min(longest, np.iinfo(np.int64).max)) - 2 * ends
        if room < 1:
            raise ValueError(f"max_length is {longest}, and no gene fits in: give at least {1 + 2 * ends}")
        stops = np.minimum(starts[1:], starts[:-1].astype(np.int64) + room)
        cells = [tokens[start:stop] for start, stop in zip(starts[:-1], stops, strict=True)]
        return [np.r_[self.cls_token_id, cell, self.eos_token_id] for cell in cells] if ends else cells


def strip_version(gene_id: str) -> str:
    """`ENSG00000136574.19` -> `ENSG00000136574`; also of `..._PAR_Y`; anything else unchanged."""
    match = _VERSIONED_ENSEMBL_ID.fullmatch(gene_id)
    return match.group(1) if match else gene_id


def _backend(token_dictionary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(WordLevel(token_dictionary))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    ends = [(token, token_dictionary[token]) for token in ("<cls>", "<eos>") if token in token_dictionary]
    single = "<cls> $A <eos>" if len(ends) == 2 else "$A"
    tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=ends if len(ends) == 2 else [])
    return tokenizer


def _read(source: Source | None) -> dict[str, Any]:
    """A dictionary, or that of a JSON or JSON.gz file."""
    if source is None:
        return {}
    if isinstance(source, Mapping):
        return dict(source)
    opened = gzip.open if str(source).endswith(".gz") else open
    try:
        with opened(source, "rt", encoding="utf-8") as file:
            content = json.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{source} is not a whole JSON file ({error}): expected one object of gene ids") from error
    if not isinstance(content, dict):
        raise ValueError(f"{source} holds a JSON {type(content).__name__}, expected one object whose keys are gene ids")
    return content


def _checked_token_dictionary(token_dictionary: dict[str, Any], pad_token: str, mask_token: str) -> dict[str, int]:
    for token in (pad_token, mask_token):
        if token not in token_dictionary:
            raise ValueError(
                f"the token dictionary has no {token}: it must hold it among its {len(token_dictionary):,} tokens, by "
                "custom <pad> as 0 and <mask> as 1"
            )
    ids = list(token_dictionary.values())
    if any(type(number) is not int for number in ids) or sorted(ids) != list(range(len(ids))):
        odd = next((item for item in token_dictionary.items() if type(item[1]) is not int), None)
        raise ValueError(
            f"the ids of the token dictionary must be 0 to {len(ids) - 1:,}, each once: found "
            + (f"{odd[1]!r} for {odd[0]}" if odd else f"{len(set(ids)):,} distinct ones, {min(ids)} to {max(ids):,}")
        )
    return token_dictionary


def _checked_medians(
    gene_medians: dict[str, Any], token_dictionary: dict[str, int], specials: list[str]
) -> dict[str, float]:
    if not gene_medians:
        return {}
    genes = [token for token in token_dictionary if token not in set(specials)]
    medians = {gene: float(gene_medians.get(gene, np.nan)) for gene in genes}
    bad = [gene for gene, median in medians.items() if not (np.isfinite(median) and median > 0)]
    if bad:
        raise ValueError(
            f"{len(bad):,} of {len(genes):,} genes of the vocabulary have no positive median, e.g. "
            f"{', '.join(f'{gene} ({gene_medians.get(gene)})' for gene in bad[:3])}: give medians that were made with "
            "this vocabulary"
        )
    return medians


def _unique_symbols(gene_symbols: dict[str, str], genes: dict[str, int]) -> dict[str, int]:
    """Symbol -> token id, less the symbols that several genes bear."""
    tokens: dict[str, set[int]] = {}
    for gene, symbol in gene_symbols.items():
        if gene in genes:
            tokens.setdefault(symbol, set()).add(genes[gene])
    return {symbol: min(numbers) for symbol, numbers in tokens.items() if len(numbers) == 1}


def _checked_counts(counts: Any, gene_ids: Sequence[str]) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """(cells, genes) sparse or dense -> number of cells; cell, column and float64 value of each stored count."""
    matrix: Any = counts.tocsr() if hasattr(counts, "tocsr") else np.asarray(counts)
    if matrix.ndim != 2 or matrix.shape[1] != len(gene_ids):
        raise ValueError(
            f"counts have shape {tuple(matrix.shape)} and gene_ids {len(gene_ids):,} entries: expected counts of shape "
            "(cells, genes) and one id a column"
        )
    if hasattr(counts, "tocsr"):
        cells = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        columns, values = matrix.indices, matrix.data
    else:
        cells, columns = np.nonzero(matrix)
        values = matrix[cells, columns]
    values = values.astype(np.float64)
    _require_raw_counts(cells, columns, values, gene_ids)
    return matrix.shape[0], cells, columns, values


def _require_raw_counts(cells: np.ndarray, columns: np.ndarray, values: np.ndarray, gene_ids: Sequence[str]) -> None:
    for bad, what in ((~np.isfinite(values), "not finite"), (values < 0, "negative")):
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            raise ValueError(
                f"{int(bad.sum()):,} counts are {what}, the first {values[first]} in cell {cells[first]} for gene "
                f"{gene_ids[columns[first]]}: raw counts are expected"
            )
    if len(values) and values.max() < LARGEST_LOGGED_COUNT and (values != np.rint(values)).any():
        raise ValueError(
            f"the counts look logged or scaled: they are no whole numbers and the largest is {values.max():.4g}, below "
            f"{LARGEST_LOGGED_COUNT:g}; give the raw counts, perhaps kept in a layer or in `raw`"
        )


def _checked_totals(sums: np.ndarray, total_counts: Any) -> np.ndarray:
    if total_counts is None:
        return sums
    totals = np.asarray(total_counts, dtype=np.float64).ravel()
    if totals.shape != sums.shape:
        raise ValueError(f"total_counts has {len(totals):,} entries for {len(sums):,} cells: give one a cell")
    bad = ~(totals >= sums * (1 - 1e-6))
    if bad.any():
        cell = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"{int(bad.sum()):,} cells have total_counts below the sum of their counts, e.g. cell {cell}: "
            f"{totals[cell]:g} < {sums[cell]:g}; the total is over all genes of the cell"
        )
    return totals


def _sum_by_token(
    cells: np.ndarray, tokens: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum the counts of one token in one cell; drop zeros and what is outside the vocabulary (token -1)."""
    kept = (tokens >= 0) & (values > 0)
    cells, tokens, values = cells[kept], tokens[kept], values[kept]
    width = int(tokens.max(initial=0)) + 1
    keys, place = np.unique(cells * width + tokens, return_inverse=True)
    return keys // width, keys % width, np.bincount(place, weights=values, minlength=len(keys))


def _examples(names: Sequence[str]) -> str:
    return ", ".join(str(name) for name in list(names)[:3])


GeneRankTokenizer.register_for_auto_class("AutoTokenizer")
