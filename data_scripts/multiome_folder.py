"""What a folder of multiome cells says of itself: multiome.json, report.json, and the card for load_dataset."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .configuration_name import configuration_name
from .multiome_cells import DatasetCells
from .multiome_fitted import MULTIOME_FILE, FittedAlignment


def describe_multiome(
    folder: Path,
    shards: Sequence[Path],
    datasets: Sequence[DatasetCells],
    fitted: FittedAlignment,
    report: Mapping[str, Any],
) -> None:
    """Write the three files.

    Args:
        folder: with its Parquet files.
        shards: those files, in order.
        datasets: the cells written.
        fitted: genes, loci and bins.
        report: of everything left out.
    """
    described = {
        "gene_ids": fitted.gene_ids,
        "gene_symbols": fitted.gene_symbols,
        "feature_extractor": fitted.to_dict(),
        "datasets": [{"name": one.name, "modality": one.modality, "cells": len(one.table)} for one in datasets],
        "cell_types": sorted(set(pd.concat([one.table["cell_type"] for one in datasets]).dropna())),
        "assembly": fitted.assembly,
    }
    _write_json(folder / MULTIOME_FILE, described)
    _write_json(folder / "report.json", report)
    card = _card(configuration_name([*shards, folder / MULTIOME_FILE]), described)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")


def _card(configuration: str, described: Mapping[str, Any]) -> str:
    bins = {name: described["feature_extractor"][f"{name}_bins"] for name in ("rna", "atac")}
    binned = [f"{name.upper()} {one['strategy']}, {one['num_bins']} bins" for name, one in bins.items() if one]
    return _CARD.format(
        configuration=configuration,
        datasets="\n".join(
            f"- {one['name']}: {one['modality']}, {one['cells']:,} cells" for one in described["datasets"]
        ),
        n_cells=sum(one["cells"] for one in described["datasets"]),
        n_genes=len(described["gene_ids"]),
        cell_types=", ".join(described["cell_types"]) or "unknown",
        assembly=described["assembly"] or "not named",
        binned="; ".join(binned),
    )


_CARD = """---
configs:
- config_name: {configuration}
  data_files:
  - split: train
    path: data/train-*.parquet
tags:
- biology
- single-cell
- multiome
---
# Cells of RNA, ATAC or both, aligned to genes and binned

{n_cells:,} cells, {n_genes:,} genes. Assembly: {assembly}. Cell types: {cell_types}.

{datasets}

- dataset, cell: where a cell is from, and its barcode there
- rna_values, atac_values: the bin of each gene's value, 0 for zero ({binned}); null where a cell lacks the modality
- rna_total, atac_total: sum over these genes
- rna_genes, rna_counts, atac_genes, atac_counts, where kept: places of the genes that are not zero, and their counts
  (of ATAC the weighted sums of fragments)
- cell_type, donor, batch: null where unknown

multiome.json holds the genes, their loci and the bins' edges: everything that MultiomeFeatureExtractor needs to treat
new cells alike. report.json accounts for what was left out at each step; figures show it.
"""
