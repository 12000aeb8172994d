"""The genes that a model is trained on: the token dictionary of the cells, less those that are left out.

Cells come with the whole dictionary of their corpus (Geneformer's has 25,424 genes), and a run may use fewer: those
with DNA features, or those of a list. Tokens of other genes are then taken out of the cells, and ids are counted anew.
"""

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..data_scripts.gene_features import read_gene_features
from ..modeling.tokenization_gene_rank import GeneRankTokenizer

logger = logging.getLogger(__name__)

TOKEN_DICTIONARY = "token_dictionary.json"
GENE_MEDIANS = "gene_medians.json"
GENE_SYMBOLS = "gene_symbols.json"


@dataclass(frozen=True)
class GeneVocabulary:
    """Tokens by id, the special ones first, and what is known of the genes.

    Attributes:
        tokens: the token of each id; gene ids, after the special tokens (`<pad>`, `<mask>`, ...).
        gene_medians: gene id -> non-zero median; empty where unknown.
        gene_symbols: gene id -> symbol; empty where unknown.
    """

    tokens: list[str]
    gene_medians: dict[str, float] = field(default_factory=dict)
    gene_symbols: dict[str, str] = field(default_factory=dict)

    @property
    def special_tokens(self) -> list[str]:
        return [token for token in self.tokens if _is_special(token)]

    @property
    def num_special_tokens(self) -> int:
        return len(self.special_tokens)

    def __len__(self) -> int:
        return len(self.tokens)

    def restricted(self, kept: npt.NDArray[np.bool_]) -> tuple["GeneVocabulary", npt.NDArray[np.int64]]:
        """The vocabulary of the ids where `kept` (vocabulary,) is true, and the new id of each old one, -1 for none."""
        new_ids = np.where(kept, kept.cumsum() - 1, -1)
        tokens = [token for token, keep in zip(self.tokens, kept, strict=True) if keep]
        medians = {token: self.gene_medians[token] for token in tokens if token in self.gene_medians}
        symbols = {token: self.gene_symbols[token] for token in tokens if token in self.gene_symbols}
        return GeneVocabulary(tokens, medians, symbols), new_ids

    def tokenizer(self, max_length: int) -> GeneRankTokenizer:
        """The tokenizer that goes with the model."""
        dictionary = {token: number for number, token in enumerate(self.tokens)}
        return GeneRankTokenizer.from_dictionaries(
            dictionary, self.gene_medians or None, self.gene_symbols or None, model_max_length=max_length
        )


def read_gene_vocabulary(folder: str | Path) -> GeneVocabulary:
    """Read the dictionaries beside tokenised cells.

    Raises:
        FileNotFoundError: without token_dictionary.json.
        ValueError: where ids are not 0, 1, 2, ..., or special tokens do not come first.
    """
    path = Path(folder, TOKEN_DICTIONARY)
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no {TOKEN_DICTIONARY} (gene id -> token id): expected a folder that `build cells` wrote"
        )
    dictionary = _read_json(path)
    tokens = sorted(dictionary, key=lambda token: dictionary[token])
    if [dictionary[token] for token in tokens] != list(range(len(tokens))):
        raise ValueError(f"{path}: the token ids are not 0 to {len(tokens) - 1}, each once")
    special = [number for number, token in enumerate(tokens) if _is_special(token)]
    if tokens[:2] != ["<pad>", "<mask>"] or special != list(range(len(special))):
        raise ValueError(
            f"{path}: expected the special tokens first, <pad> 0 and <mask> 1, found them as "
            f"{ {tokens[number]: number for number in special} }"
        )
    medians, symbols = (_read_json(Path(folder, name), absent_is_empty=True) for name in (GENE_MEDIANS, GENE_SYMBOLS))
    return GeneVocabulary(tokens, medians, symbols)


def choose_genes(
    vocabulary: GeneVocabulary,
    occurrences: npt.NDArray[np.int64],
    *,
    genes_with_features: Collection[str] | None = None,
    restrict_to: Collection[str] | None = None,
    missing: Literal["error", "drop"] = "error",
) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
    """Which tokens stay in the vocabulary.

    Args:
        vocabulary: of the cells.
        occurrences: (vocabulary,) how many cells hold each token.
        genes_with_features: genes that have DNA features; None for a model that reads no DNA.
        restrict_to: the only genes to keep; None for all.
        missing: what to do where a gene of the cells has no DNA features: raise, or leave it out of the cells. Genes
            that no cell expresses are left out without an error.

    Returns:
        (vocabulary,) true where a token stays, and a report of what does not.

    Raises:
        ValueError: for genes without features under `missing="error"`, and where no gene is left.
    """
    is_special = np.array([_is_special(token) for token in vocabulary.tokens])
    allowed = _membership(vocabulary.tokens, restrict_to) | is_special
    featured = _membership(vocabulary.tokens, genes_with_features) | is_special
    expressed = occurrences > 0
    lacking = [vocabulary.tokens[number] for number in np.flatnonzero(allowed & ~featured & expressed)]
    if lacking and missing == "error":
        raise ValueError(
            f"{len(lacking):,} of the {int((allowed & expressed & ~is_special).sum()):,} genes of the cells have no "
            f"DNA features: {_shown(lacking)}. Embed their promoters, or leave these genes out of the cells with "
            "missing_gene_features=drop (--missing-gene-features drop)"
        )
    kept = allowed & featured
    if not (kept & expressed & ~is_special).any():
        wanted = genes_with_features if restrict_to is None else restrict_to
        raise ValueError(
            f"no gene of the cells is left to train on: the cells have e.g. {_shown(vocabulary.tokens[-3:])}, the "
            f"genes to keep are e.g. {_shown(sorted(wanted or ()))}"
        )
    report = {
        "genes": int((kept & ~is_special).sum()),
        "genes_outside_the_restriction": int((~allowed).sum()),
        "expressed_genes_without_dna_features": len(lacking),
        "unexpressed_genes_without_dna_features": int((allowed & ~featured & ~expressed).sum()),
        "tokens_dropped": int(occurrences[~kept].sum()),
    }
    if not kept.all():
        logger.warning("the vocabulary keeps %d of %d tokens: %s", kept.sum(), len(kept), report)
    return kept, report


def read_gene_list(path: str | Path) -> set[str]:
    """The gene ids of a text file (one a line, `#` begins a comment) or of a file of gene features."""
    path = Path(path)
    if path.suffix == ".safetensors":
        return set(read_gene_features(path).gene_ids)
    if not path.is_file():
        raise FileNotFoundError(f"no list of genes at {path}: expected a text file with a gene id a line")
    lines = (line.split("#", 1)[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    genes = {line for line in lines if line}
    if not genes:
        raise ValueError(f"{path} names no gene: expected a gene id a line")
    return genes


def _is_special(token: str) -> bool:
    return token.startswith("<") and token.endswith(">")


def _membership(tokens: Sequence[str], names: Collection[str] | None) -> npt.NDArray[np.bool_]:
    """(tokens,) whether each is among `names`; all are where that is None."""
    known = None if names is None else set(names)
    return np.array([known is None or token in known for token in tokens])


def _read_json(path: Path, *, absent_is_empty: bool = False) -> dict[str, Any]:
    if absent_is_empty and not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not whole JSON ({error}): build the cells again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected one JSON object of genes")
    return content


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(list(names)[:5])
    return shown + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
