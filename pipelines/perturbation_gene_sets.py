"""Gene sets as users have them: mappings, .gmt files, files of one gene a line; and what is near an unknown name."""

import difflib
import logging
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


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


def require_known_genes(gene_sets: Mapping[str, Sequence[str]], tokenizer: Any) -> None:
    """Name the sets of which the vocabulary knows no gene.

    Raises:
        ValueError: where that is so of all sets: they are of another species, or other ids.
    """
    unknown = [
        name for name, genes in gene_sets.items() if all(tokenizer.token_id_of_gene(gene) is None for gene in genes)
    ]
    if unknown and len(unknown) == len(gene_sets):
        raise ValueError(
            f"no gene of the {len(gene_sets):,} gene sets is in the vocabulary, e.g. of {unknown[0]!r}: "
            f"{', '.join(list(gene_sets[unknown[0]])[:3])}; give gene ids or symbols of the vocabulary, such as "
            f"{', '.join(tokenizer.decode_genes(range(len(tokenizer)))[:2])}"
        )
    if unknown:
        logger.warning(
            "%d of %d gene sets have no gene of the vocabulary and are not tested: %s",
            len(unknown),
            len(gene_sets),
            ", ".join(unknown[:5]),
        )


def close_names(name: str, names: Sequence[str], count: int = 3) -> list[str]:
    """The names most like one that was not found, whatever the case."""
    by_upper = {known.upper(): known for known in names}
    return [by_upper[match] for match in difflib.get_close_matches(name.upper(), by_upper, n=count, cutoff=0.6)]


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
