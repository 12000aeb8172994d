"""Data sets on their way: every matrix read once, aligned to the genes and kept on disk; then cells filtered."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ..modeling.peak_gene_rings import LinkCounts
from .gene_identifiers import ResolvedGenes
from .multiome_aligned import (
    AlignedChunk,
    AlignedCounts,
    Aligner,
    align_here,
    align_jobs,
    aligned,
    chunk_numbers,
    save_alignment,
)
from .multiome_cells import DatasetCells, filter_cells
from .multiome_genes import ChosenGenes
from .multiome_input import Input
from .multiome_jobs import Workers
from .multiome_peaks import N_FATES, Alignment, PeakRules, align_genes, align_peaks
from .multiome_sources import Modality, MultiomeSource

_FATES = (
    "in columns of genes",
    "in columns of no gene of the build",
    "in peaks on the blacklist",
    "in peaks not lifted",
)
_ATAC_FATES = ("in peaks linked to a gene", "in peaks linked to no gene", *_FATES[2:])


@dataclass
class Dataset:
    """One data set.

    Attributes:
        source: where it is from.
        inputs: by modality.
        cells: at first all, then those that are left.
        columns: the genes of the RNA's columns; None without RNA.
        report: by modality, what became of columns and counts.
    """

    source: MultiomeSource
    inputs: dict[Modality, Input]
    cells: DatasetCells
    columns: ResolvedGenes | None = None
    report: dict[str, Any] | None = None


class DatasetAlignments:
    """Every data set's counts on the way from its files to aligned rows on disk.

    Attributes:
        folders: of each data set by modality, where aligned counts are.
        links: of each data set with ATAC, for the figure.
    """

    def __init__(
        self, datasets: Sequence[Dataset], genes: ChosenGenes, rules: PeakRules, scratch: Path, chunk_cells: int
    ) -> None:
        self.datasets = datasets
        self.n_genes = len(genes.gene_ids)
        self.folders: list[dict[Modality, Path]] = []
        self.links: dict[str, LinkCounts] = {}
        self._scratch = scratch
        self._chunk_cells = chunk_cells
        self._alignments: list[dict[Modality, Alignment]] = []
        self._peaks_shown: list[np.ndarray | None] = []
        for dataset in datasets:
            alignments = {one: _alignment(dataset, one, genes, rules) for one in dataset.inputs}
            dataset.report = {one: alignment.report for one, alignment in alignments.items()}
            self._alignments.append(alignments)
            links = alignments["atac"].links if "atac" in alignments else None
            if links is not None:
                self.links[dataset.cells.name] = links

    def run(self, workers: Workers, aligner: Aligner, *, progress: bool, serial: bool) -> None:
        """Read every matrix once."""
        total = sum(len(one.barcodes) for dataset in self.datasets for one in dataset.inputs.values())
        with tqdm(desc="aligning", total=total, unit=" cells", disable=not progress) as bar:
            for number, dataset in enumerate(self.datasets):
                self.folders.append({one: self._scratch / f"{number}-{one}" for one in dataset.inputs})
                self._peaks_shown.append(None)
                for modality, one in dataset.inputs.items():
                    shown = []
                    by_fate = np.zeros(N_FATES)
                    counts = AlignedCounts(self.folders[number][modality], self.n_genes)
                    for chunk in self._chunks(number, modality, workers, aligner, serial=serial):
                        counts.append(chunk.counts)
                        shown.append(chunk.nonzero_features)
                        by_fate += chunk.by_fate
                        bar.update(chunk.counts.shape[0])
                    counts.finish()
                    if modality == "atac":
                        self._peaks_shown[number] = np.concatenate(shown)
                    assert dataset.report is not None
                    dataset.report[modality] |= one.report | _fates(by_fate, modality)

    def _chunks(
        self, number: int, modality: Modality, workers: Workers, aligner: Aligner, *, serial: bool
    ) -> Iterator[AlignedChunk]:
        dataset, alignment = self.datasets[number], self._alignments[number][modality]
        one = dataset.inputs[modality]
        if one.fragments is not None:
            for rows in chunk_numbers(one.fragments.shape[0], self._chunk_cells):
                yield aligned(one.fragments[rows], alignment.weights, alignment.fate, are_reads=False)
            return
        path = self._scratch / f"{number}-{modality}.npz"
        save_alignment(alignment, path)
        are_reads = modality == "atac" and dataset.source.counts == "reads"
        jobs = align_jobs(one, path, are_reads=are_reads, chunk_cells=self._chunk_cells)
        yield from workers.results(aligner.align if serial else align_here, jobs)

    def filter(self, minimum_gene_share: float, minimum_peak_share: float) -> None:
        """Leave out cells that show too little, in every data set."""
        for number, dataset in enumerate(self.datasets):
            shown = {one: np.diff(AlignedCounts(self.folders[number][one], 1).ends) for one in dataset.inputs}
            atac = dataset.inputs.get("atac")
            dataset.cells = filter_cells(
                dataset.cells,
                genes_shown=shown,
                peaks_shown=self._peaks_shown[number],
                n_genes=self.n_genes,
                n_peaks=0 if atac is None else int(atac.is_feature.sum()),
                minimum_gene_share=minimum_gene_share,
                minimum_peak_share=minimum_peak_share,
            )

    def cells(self) -> pd.DataFrame:
        """All cells that are left, `dataset` their data set's number."""
        tables = [dataset.cells.table.assign(dataset=number) for number, dataset in enumerate(self.datasets)]
        return pd.concat(tables, ignore_index=True)


def _alignment(dataset: Dataset, modality: Modality, genes: ChosenGenes, rules: PeakRules) -> Alignment:
    one = dataset.inputs[modality]
    if modality == "rna":
        assert dataset.columns is not None
        return align_genes(genes.columns_of(dataset.columns), len(genes.gene_ids), one.is_feature)
    assert one.peaks is not None and genes.loci is not None
    return align_peaks(
        one.peaks,
        len(one.is_feature),
        genes.loci,
        rules,
        chain=dataset.source.chain,
        are_tiles=one.are_tiles,
        source=one.source,
    )


def _fates(by_fate: np.ndarray, modality: Modality) -> dict[str, Any]:
    """Counts by what became of their columns, other types of columns aside."""
    names = _ATAC_FATES if modality == "atac" else _FATES[:2]
    numbers = by_fate[: len(names)]
    what = "fragments" if modality == "atac" else "counts"
    report: dict[str, Any] = {
        f"{what} {name}": float(number) for name, number in zip(names, numbers, strict=True) if number
    }
    report[f"share of {what} lost"] = round(1 - float(numbers[0]) / max(1.0, float(numbers.sum())), 6)
    return report
