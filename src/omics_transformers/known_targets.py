"""Known targets beside a perturbation: this model, others of which tables are given, and plain co-expression."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from .pipelines.target_recovery import TargetRecovery

COEXPRESSION = "co-expression"


@dataclass(frozen=True, eq=False)
class KnownTargets:
    """What is to be found, and what with, read and checked before anything is computed.

    Attributes:
        sets: name -> gene ids or symbols.
        tables: of other models, name -> table of genes.
        coexpression: whether plain co-expression is to be compared as well.
        top_k: numbers of genes to take; the usual ones where None.
    """

    sets: dict[str, list[str]]
    tables: "dict[str, pd.DataFrame]"
    coexpression: bool = False
    top_k: Sequence[int] | None = None


def read_known_targets(
    targets: Any,
    compare: Mapping[str, str | Path] | None,
    *,
    tokenizer: Any,
    model: str,
    cells: Any,
    coexpression: bool = False,
    top_k: Sequence[int] | None = None,
) -> KnownTargets | None:
    """Sets of targets and other models' tables; None where no targets are given.

    Args:
        targets: as `read_gene_sets`.
        compare: name -> genes.tsv of another perturbation, or another table with gene_id and shift.
        tokenizer: its vocabulary must know some of the targets.
        model: this model's name, which no other may have.
        cells: as `perturb`; co-expression needs counts, which a tokenised folder has none of.
        coexpression, top_k: as `KnownTargets`.

    Raises:
        ValueError: on sets of which the vocabulary knows no gene, tables that are none, names that are taken, cells
            without counts, or a comparison without targets.
    """
    from .pipelines.perturbation_gene_sets import read_gene_sets, require_known_genes

    if targets is None:
        if compare or coexpression:
            raise ValueError("compare and coexpression need targets to be compared by: give targets (--targets FILE)")
        return None
    sets = read_gene_sets(targets)
    require_known_genes(sets, tokenizer)
    taken = sorted({model, COEXPRESSION} & set(compare or {}))
    if taken:
        raise ValueError(
            f"the name {taken[0]!r} of a table to compare with is this model's, or a baseline's: choose another"
        )
    if coexpression and _has_no_counts(cells):
        raise ValueError(
            f"co-expression needs counts, and {cells} holds ranked cells: give the .h5ad that they were made from"
        )
    tables = {name: _read_table(name, path) for name, path in (compare or {}).items()}
    return KnownTargets(sets, tables, coexpression, top_k)


def compare_targets(
    known: KnownTargets,
    genes: "pd.DataFrame",
    *,
    model: str,
    edited: Sequence[str],
    cells: Any,
    tokenizer: Any,
    seed: int = 0,
    counts_layer: str | None = None,
    use_raw: bool = False,
    gene_id_column: str | None = None,
) -> "TargetRecovery":
    """The comparison; arguments as `read_known_targets` and `coexpression_baseline`.

    Args:
        known: what is to be found.
        genes: of the perturbation.
        model: its name in the tables.
        edited: ids of the edited genes; of several, each has its own co-expression.
        cells, counts_layer, use_raw, gene_id_column: as the pipeline.
        tokenizer: its vocabulary are the genes that co-expression ranks.
        seed: of random rankings.
    """
    from .pipelines.target_recovery import TOP_K, compare_recovery
    from .training.coexpression_baseline import coexpression_baseline

    tables = {model: genes, **known.tables}
    for gene_id in edited if known.coexpression else ():
        name = (
            COEXPRESSION if len(edited) == 1 else f"{COEXPRESSION} with {tokenizer.gene_symbols.get(gene_id, gene_id)}"
        )
        tables[name] = coexpression_baseline(
            cells,
            gene_id,
            gene_ids=tokenizer.decode_genes(range(len(tokenizer))),
            gene_symbols=tokenizer.gene_symbols or None,
            counts_layer=counts_layer,
            use_raw=use_raw,
            gene_id_column=gene_id_column,
        )
    return compare_recovery(tables, known.sets, top_k=known.top_k or TOP_K, seed=seed)


def read_links(path: str | Path) -> "pd.DataFrame":
    """Known links, source and target, from a TSV file with these columns, or else from its first two, as TRRUST's.

    Raises:
        FileNotFoundError, ValueError: where there is no such file, or less than two columns.
    """
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no table of links at {path}")
    table = pd.read_csv(path, sep="\t", header=None, dtype=str, comment="#")
    if table.shape[1] < 2:
        raise ValueError(f"{path} has {table.shape[1]} column: expected source and target, parted by tabs")
    first = [str(name).lower() for name in table.iloc[0]]
    if {"source", "target"} <= set(first):
        table = table.iloc[1:].set_axis(first, axis=1)
    elif {"factor", "target"} <= set(first):
        table = table.iloc[1:].set_axis(first, axis=1).rename(columns={"factor": "source"})
    else:
        table = table.rename(columns={0: "source", 1: "target"})
    return table[["source", "target"]].reset_index(drop=True)


def _read_table(name: str, path: str | Path) -> "pd.DataFrame":
    import pandas as pd

    if not Path(path).is_file():
        raise FileNotFoundError(f"no table of genes of {name} at {path}: expected a genes.tsv")
    table = pd.read_csv(path, sep="\t", dtype={"gene_id": str, "symbol": str})
    missing = [column for column in ("gene_id", "shift") if column not in table]
    if missing:
        raise ValueError(f"{path} has no {' and '.join(missing)}: expected a genes.tsv with gene_id and shift")
    return table


def _has_no_counts(cells: Any) -> bool:
    if isinstance(cells, str | Path):
        return Path(cells).is_dir()
    return not hasattr(cells, "var")
