"""Vectors of genes from a text file, such as gene2vec's: a gene and its numbers a line.

Source: scBERT (Yang et al. 2022), whose gene tokens are gene2vec's vectors (Du et al. 2019, 200 numbers), frozen.
"""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)


class GeneVectors(NamedTuple):
    """Vectors of a model's genes.

    Attributes:
        vectors: (genes, size) float32; 0 where the file has none.
        is_found: (genes,) bool.
    """

    vectors: npt.NDArray[np.float32]
    is_found: npt.NDArray[np.bool_]


def read_gene_vectors(path: str | Path, gene_ids: list[str], gene_symbols: list[str], *, size: int) -> GeneVectors:
    """Vectors of these genes, by id or symbol; the first line may be word2vec's, of two numbers.

    Args:
        path: of the text file, numbers set apart by spaces or tabs.
        gene_ids: of the model.
        gene_symbols: as many; "" where unknown.
        size: numbers of a vector.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where a line is not a gene and `size` finite numbers, a gene has two, or no gene is found.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of gene vectors at {path}")
    names, vectors = _read(path, size)
    place_of = {name: place for place, name in enumerate(names)}
    if len(place_of) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"{path} has {len(twice)} genes more than once, e.g. {', '.join(twice[:5])}: keep one each")
    places = np.array(
        [place_of.get(gene, place_of.get(symbol, -1)) for gene, symbol in zip(gene_ids, gene_symbols, strict=True)]
    )
    is_found = places >= 0
    if not is_found.any():
        raise ValueError(
            f"{path} has vectors of {len(names):,} genes, e.g. {', '.join(names[:3])}, and none of the folder's "
            f"{len(gene_ids):,}, e.g. {', '.join(gene_ids[:3])}: are both Ensembl ids or symbols of the same species?"
        )
    logger.info(
        "vectors of %d genes found; %d genes have none; %d vectors are of other genes",
        int(is_found.sum()),
        int((~is_found).sum()),
        len(names) - len(np.unique(places[is_found])),
    )
    return GeneVectors(np.where(is_found[:, None], vectors[places], np.float32(0)), is_found)


def _read(path: Path, size: int) -> tuple[list[str], npt.NDArray[np.float32]]:
    names, rows = [], []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            fields = line.split()
            if not fields or (number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields)):
                continue
            try:
                row = np.array(fields[1:], dtype=np.float32)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}; expected a gene and {size} numbers") from error
            if len(row) != size or not np.isfinite(row).all():
                raise ValueError(
                    f"{path}, line {number}: {fields[0]} has {len(row)} numbers, or one that is not finite; expected "
                    f"the {size} of the model's hidden_size"
                )
            names.append(fields[0])
            rows.append(row)
    if not rows:
        raise ValueError(f"{path} holds no vectors: expected a gene and {size} numbers a line")
    return names, np.stack(rows)
