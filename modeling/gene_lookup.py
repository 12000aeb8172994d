"""Which gene of a list a name stands for: its id, the id with or without version, or a symbol that one gene bears."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

_VERSIONED = re.compile(r"^(ENS[A-Z]*\d+)(?:\.\d+)?(?:_PAR_Y)?$")


class GeneLookup:
    """Finds genes by name; an id goes before a symbol.

    Attributes:
        ambiguous_symbols: symbols that several genes bear, which find none.

    Raises:
        ValueError: on a gene given twice, versions apart, and another number of symbols than ids.
    """

    def __init__(self, gene_ids: Sequence[str], gene_symbols: Sequence[str] | None = None) -> None:
        """`gene_ids (genes,)`; `gene_symbols (genes,)`, "" where unknown."""
        ids: dict[str, int] = {}
        for gene, name in enumerate(map(_unversioned, gene_ids)):
            if name in ids:
                raise ValueError(f"gene_ids have {gene_ids[ids[name]]} and {gene_ids[gene]}: give each gene once")
            ids[name] = gene
        if gene_symbols is not None and len(gene_symbols) != len(gene_ids):
            raise ValueError(
                f"{len(gene_symbols):,} gene_symbols for {len(gene_ids):,} gene_ids: give one a gene, an empty one "
                "where it is unknown"
            )
        symbols: dict[str, int] = {}
        ambiguous = set()
        for gene, symbol in enumerate(gene_symbols or ()):
            if symbol and symbols.setdefault(symbol, gene) != gene:
                ambiguous.add(symbol)
        self.ambiguous_symbols = frozenset(ambiguous - set(ids))
        self._gene_of = {name: gene for name, gene in symbols.items() if name not in ambiguous} | ids

    def find(self, names: Iterable[str]) -> np.ndarray:
        """int64 `(names,)`: the gene of each name, -1 where there is none."""
        found = self._gene_of
        return np.array([found.get(name, found.get(_unversioned(name), -1)) for name in names], dtype=np.int64)


def _unversioned(name: str) -> str:
    match = _VERSIONED.fullmatch(name)
    return match.group(1) if match else name
