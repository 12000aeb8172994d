"""The data set of the multiome Performer: cells of RNA, ATAC or both, aligned to one list of genes and binned.

Source: chapter 4 of the thesis: genes that all RNA has, peaks summed by rings about each gene's start, cells with 1 %
of genes and peaks, values normalised, logged, scaled by gene and cut into five bins. Deviation: the start of a gene
is strand-aware, as `modeling/peak_gene_rings.py` says.
"""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ..modeling.peak_gene_rings import LinkCounts, Rings
from ..modeling.value_bins import DEFAULT_NUM_BINS, STRATEGIES, ValueBins
from .bed_files import BedSource
from .fragment_files import is_fragments
from .multiome_aligned import Aligner, chunk_numbers
from .multiome_alignments import Dataset, DatasetAlignments
from .multiome_bins import compare_strategies, fit_bins
from .multiome_cells import pair_and_label
from .multiome_figures import draw_bins, draw_links
from .multiome_fitted import FittedAlignment
from .multiome_folder import describe_multiome
from .multiome_fragments import CellReading
from .multiome_genes import (
    ChosenGenes,
    GeneNames,
    GeneNaming,
    choose_genes,
    read_gene_list,
    read_symbol_table,
    resolve_columns,
)
from .multiome_input import OpenMatrices
from .multiome_inputs import open_inputs
from .multiome_jobs import start_workers
from .multiome_peaks import (
    PeakRules,
    contig_lengths_of,
    read_blacklists,
    require_within_contigs,
)
from .multiome_shards import ShardJob, rows_of, write_shard
from .multiome_sources import MODALITIES, Modality, MultiomeSource
from .whole_folder import require_free, whole_folder

logger = logging.getLogger(__name__)

DEFAULT_BINNING = "gene_normalized"


@dataclass(frozen=True)
class MultiomeReport:
    """Totals of a build; `content` is what report.json holds."""

    output: Path
    n_cells: int
    n_genes: int
    cells_of_dataset: dict[str, int]
    content: dict[str, Any]


def build_multiome(
    sources: Sequence[MultiomeSource | str | Path],
    output: str | Path,
    *,
    genes: str | Path | None = None,
    gene_list: str | Path | Sequence[str] | None = None,
    gene_symbols: str | Path | Mapping[str, str] | None = None,
    gene_names: GeneNames = "ids",
    binning: str | None = None,
    num_bins: int | None = None,
    bins_from: str | Path | None = None,
    rings: Rings | None = None,
    minimum_gene_share: float = 0.01,
    minimum_peak_share: float = 0.01,
    minimum_shared_barcodes: float = 0.5,
    minimum_fragments: int = 1000,
    keep_counts: bool = True,
    assembly: str | None = None,
    blacklist: Sequence[BedSource | str | Path] | BedSource | str | Path | None = None,
    chunk_cells: int = 2048,
    cells_per_shard: int = 16_384,
    processes: int = 1,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
) -> MultiomeReport:
    """Write cells, aligned to genes and binned, as a data set: a folder that `load_dataset` reads, one row a cell.

    Columns are those of `multiome_schema`, rows in the sources' order. `multiome.json` holds genes, loci and bin edges;
    `report.json` accounts for what was left out; `figures` show links and bins. The folder appears when it is complete.

    Args:
        sources: data sets of RNA, ATAC or both; see `MultiomeSource`.
        output: folder to make.
        genes: annotation, GTF, GFF3 or genePred; where there is ATAC and `bins_from` has no loci.
        gene_list: genes wanted, in order, as a sequence or a text file; those that a data set lacks are zero there. By
            default the genes that all RNA has, sorted; where all is ATAC, the annotation's.
        gene_symbols: symbol -> gene id, for RNA and annotations that know symbols only: JSON, or a table of gene_id and
            symbol.
        gene_names: what tells genes apart: "ids", or "symbols" as the files write them, without a table.
        binning: one of STRATEGIES; "gene_normalized" by default.
        num_bins: bins of non-zero values; 5 by default.
        bins_from: folder of an earlier build, or of a saved feature extractor: its genes, loci and edges are taken.
        rings: distances and weights of peaks; the thesis' by default.
        minimum_gene_share: cells with a smaller share of the genes non-zero are left out.
        minimum_peak_share: cells with a smaller share of their file's peaks non-zero are left out.
        minimum_shared_barcodes: least share of the smaller file's barcodes that paired files share.
        minimum_fragments: of fragments without labels or RNA, barcodes with fewer are no cells.
        keep_counts: write counts beside the bins.
        assembly: of the annotation, such as hg38: peaks and genes beyond the ends of its contigs are refused.
        blacklist: BED file or files, in the annotation's assembly unless they name a chain; peaks there are left out.
        chunk_cells: cells in memory at a time.
        cells_per_shard: cells of one Parquet file.
        processes: that work side by side; the bytes do not depend on it.
        seed: of the draws of cells where bins are fitted to a sample; the same seed gives the same bytes.
        overwrite: replace the folder.
        progress: show bars.

    Raises:
        FileExistsError: where the folder exists and `overwrite` is false.
        FileNotFoundError: for a file that is not there.
        ValueError: for settings out of range; files that share no gene, or whose peaks are of another assembly; paired
            files whose barcodes differ; values that are no counts; repeated barcodes; ATAC without an annotation; bins
            fitted on other genes; a data set of which no cell is left.
    """
    output = Path(output)
    require_free(output, overwrite=overwrite)
    shares = (minimum_gene_share, minimum_peak_share, minimum_shared_barcodes)
    _check_settings(binning, shares, (chunk_cells, cells_per_shard, processes, minimum_fragments), seed)
    wanted = [one if isinstance(one, MultiomeSource) else MultiomeSource(one) for one in sources]
    fitted = None if bins_from is None else FittedAlignment.from_folder(bins_from)
    _check_sources(wanted, has_loci=genes is not None or (fitted is not None and fitted.loci is not None))
    naming = GeneNaming(gene_names, None if gene_symbols is None else read_symbol_table(gene_symbols))
    listed = None if gene_list is None else read_gene_list(gene_list, naming)
    lengths = None if assembly is None else contig_lengths_of(assembly)
    black = read_blacklists(blacklist)
    reading = CellReading(lengths, assembly, minimum_fragments, minimum_shared_barcodes)
    opened = OpenMatrices()
    with tempfile.TemporaryDirectory(prefix=f"{output.name}.", dir=_parent(output)) as scratch:
        try:
            datasets = _open(wanted, opened, reading)
            modalities = {one for dataset in datasets for one in dataset.inputs}
            if fitted is not None:
                asked = {"binning": binning, "num_bins": num_bins, "rings": rings, "assembly": assembly}
                fitted.require(modalities, gene_list=listed, **asked)  # type: ignore[arg-type]
            chosen = _choose(datasets, naming, fitted, listed, genes)
            rings = rings or (fitted.rings if fitted is not None else Rings())
            rules = PeakRules(rings, black, lengths, assembly, annotated=chosen.annotated)
            if chosen.loci is not None and lengths is not None:
                places = pd.DataFrame({name: getattr(chosen.loci, name) for name in ("contig", "start", "end")})
                require_within_contigs(places, lengths, source=f"genes of {genes or bins_from}", assembly=assembly)
            with start_workers(processes) as workers, whole_folder(output) as partial:
                done = DatasetAlignments(datasets, chosen, rules, Path(scratch), chunk_cells)
                done.run(workers, Aligner(opened), progress=progress, serial=processes == 1)
                done.filter(minimum_gene_share, minimum_peak_share)
                bins = fitted.bins if fitted is not None else {}
                options = (binning or DEFAULT_BINNING, num_bins or DEFAULT_NUM_BINS, chunk_cells, seed)
                bins, compared = _bins(done, modalities, bins, *options)
                jobs = _shard_jobs(partial, done, bins, cells_per_shard, keep_counts=keep_counts)
                bar = tqdm(workers.results(write_shard, jobs), total=len(jobs), unit="shard", disable=not progress)
                occupancy = _summed(bar)
                made = FittedAlignment(
                    str(output), chosen.gene_ids, chosen.symbols, chosen.loci, bins, rings, assembly or _known(fitted)
                )
                content = _content(done, chosen, bins, compared, occupancy)
                content["settings"] = {
                    "minimum_gene_share": minimum_gene_share,
                    "minimum_peak_share": minimum_peak_share,
                    "minimum_shared_barcodes": minimum_shared_barcodes,
                    "rings": rings.to_dict(),
                    "bins_from": None if bins_from is None else Path(bins_from).name,
                    "assembly": made.assembly,
                    "seed": seed,
                }
                _draw(partial / "figures", done.links, rings, compared)
                cells = [dataset.cells for dataset in datasets]
                describe_multiome(partial, [job.path for job in jobs], cells, made, content)
        finally:
            opened.close()
    of_dataset = {dataset.cells.name: len(dataset.cells.table) for dataset in datasets}
    logger.info("%s: %d genes, cells %s", output, len(chosen.gene_ids), of_dataset)
    return MultiomeReport(output, sum(of_dataset.values()), len(chosen.gene_ids), of_dataset, content)


def _check_settings(binning: str | None, shares: Sequence[float], numbers: Sequence[int], seed: int) -> None:
    if binning is not None and binning not in STRATEGIES:
        raise ValueError(f"binning is {binning!r}; expected one of {', '.join(STRATEGIES)}")
    for name, share in zip(
        ("minimum_gene_share", "minimum_peak_share", "minimum_shared_barcodes"), shares, strict=True
    ):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}; expected a share, 0 to 1")
    for name, number in zip(("chunk_cells", "cells_per_shard", "processes", "minimum_fragments"), numbers, strict=True):
        if number < 1:
            raise ValueError(f"{name} is {number}; expected 1 or more")
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected a whole number of at least 0")


def _check_sources(sources: Sequence[MultiomeSource], *, has_loci: bool) -> None:
    if not sources:
        raise ValueError("no source is given; expected files of RNA, ATAC or both, one data set or more")
    names = [one.dataset for one in sources]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(
            f"two sources are called {', '.join(repeated)}: name them otherwise (PATH:name=NAME), or give each once"
        )
    for one in sources:
        path = Path(one.path)
        has_atac = one.atac is not None or one.modality in ("atac", "both")
        if not has_loci and (has_atac or (path.is_file() and not h5py.is_hdf5(path) and is_fragments(path))):
            _refuse_without_loci(one)


def _refuse_without_loci(source: MultiomeSource) -> None:
    raise ValueError(
        f"{source.dataset} has ATAC, and no annotation says where genes lie: give one (genes), GTF, GFF3 or genePred, "
        "of the assembly of the peaks, or name that of the RNA alone (PATH:modality=rna)"
    )


def _parent(output: Path) -> Path:
    output.parent.mkdir(parents=True, exist_ok=True)
    return output.parent


def _open(sources: Sequence[MultiomeSource], opened: OpenMatrices, reading: CellReading) -> list[Dataset]:
    datasets = []
    for source in sources:
        inputs = open_inputs(source, opened, reading)
        datasets.append(Dataset(source, inputs, pair_and_label(source, inputs)))
    return datasets


def _choose(
    datasets: Sequence[Dataset],
    naming: GeneNaming,
    fitted: FittedAlignment | None,
    listed: Sequence[str] | None,
    annotation: str | Path | None,
) -> ChosenGenes:
    """The genes; and the columns of each data set's RNA resolved."""
    vocabulary = fitted.gene_ids if fitted is not None else listed
    for dataset in datasets:
        rna = dataset.inputs.get("rna")
        if rna is not None and rna.features is not None:
            dataset.columns = resolve_columns(rna.features, naming, vocabulary=vocabulary, source=rna.source)
    files = {dataset.cells.name: dataset.columns for dataset in datasets if dataset.columns is not None}
    with_atac = [dataset for dataset in datasets if "atac" in dataset.inputs]
    if fitted is not None:
        found = choose_genes(files, naming, gene_list=fitted.gene_ids)
        report = found.report | {"taken from": fitted.source}
        return ChosenGenes(fitted.gene_ids, fitted.gene_symbols, fitted.loci, report=report)
    if with_atac and annotation is None:
        _refuse_without_loci(with_atac[0].source)
    if annotation is not None and not with_atac:
        logger.warning("no source has ATAC: the annotation %s is not read", annotation)
    return choose_genes(files, naming, gene_list=listed, annotation=annotation if with_atac else None)


def _bins(
    done: DatasetAlignments,
    modalities: set[Modality],
    given: Mapping[Modality, ValueBins],
    binning: str,
    num_bins: int,
    chunk_cells: int,
    seed: int,
) -> tuple[dict[Modality, ValueBins], dict[Modality, dict[str, Any]]]:
    """Bins of each modality, given or fitted; and how full those of each strategy are."""
    cells = done.cells()
    bins, compared = dict(given), {}
    for modality in MODALITIES:
        if modality not in modalities:
            continue
        having = cells[cells[f"{modality}_row"] >= 0]

        def rows(numbers: np.ndarray, having: pd.DataFrame = having, modality: Modality = modality):  # type: ignore[no-untyped-def]
            return rows_of(having.iloc[numbers], done.folders, modality, done.n_genes)

        if modality not in bins:
            options = {"num_bins": num_bins, "chunk_cells": chunk_cells, "seed": seed}
            bins[modality] = fit_bins(rows, len(having), done.n_genes, binning, **options)
        compared[modality] = compare_strategies(rows, len(having), bins[modality], seed=seed)
    return bins, compared


def _shard_jobs(
    folder: Path, done: DatasetAlignments, bins: dict[Modality, ValueBins], cells_per_shard: int, *, keep_counts: bool
) -> list[ShardJob]:
    cells = done.cells()
    names = [dataset.cells.name for dataset in done.datasets]
    slices = chunk_numbers(len(cells), cells_per_shard)
    paths = [folder / "data" / f"train-{number:05d}-of-{len(slices):05d}.parquet" for number in range(len(slices))]
    return [
        ShardJob(path, cells.iloc[rows].reset_index(drop=True), names, done.folders, bins, done.n_genes, keep_counts)
        for path, rows in zip(paths, slices, strict=True)
    ]


def _summed(shards) -> dict[Modality, np.ndarray]:  # type: ignore[no-untyped-def]
    total: dict[Modality, np.ndarray] = {}
    for occupancy in shards:
        for modality, numbers in occupancy.items():
            total[modality] = total.get(modality, np.zeros_like(numbers)) + numbers
    return total


def _content(
    done: DatasetAlignments,
    genes: ChosenGenes,
    bins: Mapping[Modality, ValueBins],
    compared: Mapping[Modality, dict[str, Any]],
    occupancy: Mapping[Modality, np.ndarray],
) -> dict[str, Any]:
    """What report.json holds, but for the settings."""
    datasets = {
        dataset.cells.name: {
            "files": [Path(path).name for path in (dataset.source.path, dataset.source.atac) if path is not None],
            "modality": dataset.cells.modality,
            "cells": dataset.cells.report,
            **(dataset.report or {}),
        }
        for dataset in done.datasets
    }
    binned = {
        modality: {
            "strategy": bins[modality].strategy,
            "edges": bins[modality].edges.tolist(),
            "values fitted": bins[modality].values_fitted,
            "values seen while fitting": bins[modality].values_seen,
            "genes without a value": bins[modality].genes_unseen,
            "values in each bin": occupancy[modality].tolist(),
            "strategies compared": numbers,
        }
        for modality, numbers in compared.items()
    }
    return {"genes": genes.report, "data sets": datasets, "bins": binned}


def _draw(folder: Path, links: Mapping[str, LinkCounts], rings: Rings, compared: Mapping[Modality, Any]) -> None:
    folder.mkdir()
    if links:
        draw_links(folder / "peak_gene_links.png", links, rings)
    draw_bins(folder / "value_bins.png", compared)


def _known(fitted: FittedAlignment | None) -> str | None:
    return None if fitted is None else fitted.assembly
