"""A sample's accessibility: mean fragments a cell, of each type of cells, at each peak.

After the thesis' order: peaks detected in too few of the sample's cells are left out (all cells of the file count here,
with a label or without), reads become fragments, and cells of a type are averaged. Nothing below 0.1 is set to 0 here.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from .accessibility_sources import AccessibilitySource
from .bed_files import read_bed
from .cell_clusters import LeidenOptions, leiden_clusters
from .cell_labels import CellTypes, cell_types_of, find_label_column, labels_of_obs, read_labels
from .count_files import FORMATS, CountFile, open_counts
from .disjoint_peaks import OVERLAPPING, Overlapping, make_disjoint, natural_key
from .fragment_counts import FRAGMENT_RULES, FragmentRule, count_fragments, tiles
from .fragment_files import FRAGMENT_LINE, FragmentSurvey, is_fragments, shown_names, survey_fragments
from .genomes import contig_alias
from .peak_names import peak_names, read_peaks
from .pseudobulk import Pseudobulk, fragments_of_reads
from .rank_values import require_counts

logger = logging.getLogger(__name__)

Counts = Literal["reads", "fragments"]
COUNTS = ("reads", "fragments")


@dataclass(frozen=True)
class PeakAccessibility:
    """Mean fragment counts of one sample, on the input's own assembly."""

    sample: str
    peaks: pd.DataFrame  # contig, start, end (int64, 0-based half-open), name; in order, disjoint
    cell_types: list[str]  # sorted
    n_cells: dict[str, int]  # of each type
    means: np.ndarray  # (types, peaks) float64: fragments a cell, over all cells of the type
    report: dict


@dataclass(frozen=True)
class AccessibilityReading:
    """How inputs are read, the same for every sample of a build; the defaults are the thesis'.

    Attributes:
        counts: what a matrix of counts holds: "reads", halved as `fragments_of_reads` does, or "fragments". The counts
            of a fragments file are fragments whatever is said here.
        minimum_cell_share: a peak is kept where at least this share of the cells of the sample have a fragment in it.
        minimum_cells: types of fewer cells are left out.
        minimum_types: fewer are an error.
        fragment_rule: as `count_fragments`.
        minimum_fragments: without labels, the cells of a fragments file are the barcodes with so many or more.
        overlapping: as `make_disjoint`. "error" looks at all peaks, before any count is read. "merge" and "drop" see
            to the peaks that are kept, but to all of them where fragments are counted, which needs disjoint peaks.
        leiden: how cells without labels are clustered.
        chunk_cells: cells in memory at a time.
    """

    counts: Counts = "reads"
    minimum_cell_share: float = 0.01
    minimum_cells: int = 1
    minimum_types: int = 2
    fragment_rule: FragmentRule = "fragment"
    minimum_fragments: int = 1000
    overlapping: Overlapping = "error"
    leiden: LeidenOptions = field(default_factory=LeidenOptions)
    chunk_cells: int = 2048

    def __post_init__(self) -> None:
        for name, choices in (("counts", COUNTS), ("fragment_rule", FRAGMENT_RULES), ("overlapping", OVERLAPPING)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(choices)}")
        if not 0 <= self.minimum_cell_share <= 1:
            raise ValueError(f"minimum_cell_share is {self.minimum_cell_share}; expected a share, 0 to 1")
        for name in ("minimum_cells", "minimum_types", "minimum_fragments", "chunk_cells"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")


def read_accessibility(
    source: AccessibilitySource | str | Path,
    reading: AccessibilityReading | None = None,
    *,
    contig_lengths: Mapping[str, int] | None = None,
) -> PeakAccessibility:
    """Read one sample. Memory: types x peaks and one chunk of cells; with fragments or clusters, cells x peaks, sparse.

    Args:
        source: the sample.
        reading: how; the defaults where not given.
        contig_lengths: for tiles, of the input's own assembly. Without them, tiles reach as far as fragments do.

    Raises:
        FileNotFoundError: where a file is missing.
        ImportError: for clusters without igraph.
        ValueError: what the input has wrong, and how to mend it.
    """
    source = source if isinstance(source, AccessibilitySource) else AccessibilitySource(source)
    reading = reading or AccessibilityReading()
    path = Path(source.path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected {FORMATS}, or fragments.tsv")
    if path.is_dir() or h5py.is_hdf5(path):
        found = _from_counts(source, reading)
    elif is_fragments(path):
        found = _from_fragments(source, reading, contig_lengths)
    else:
        raise ValueError(
            f"{path} is neither a matrix of counts nor a fragments file; expected {FORMATS}, or {FRAGMENT_LINE}"
        )
    logger.info("%s: %s", path, found.report)
    return found


def _from_counts(source: AccessibilitySource, reading: AccessibilityReading) -> PeakAccessibility:
    given = [name for name, value in (("peaks", source.peaks), ("tiles", source.tile_bp)) if value is not None]
    if given:
        raise ValueError(f"{source.path} holds counts of its own peaks; {given[0]} are for fragments.tsv only")
    with open_counts(source.path, layer=source.layer, modality=source.modality) as file:
        if not file.n_cells:
            raise ValueError(f"{file.source} holds no cell")
        peaks, columns, report = _peaks_of_file(file, source)
        if reading.overlapping == "error":
            make_disjoint(peaks, np.zeros((0, len(peaks))), source=file.source)
        labels, account = _labels_of_file(file, source, columns, reading)
        types = _cell_types(labels, account["labels"], source, reading)
        sums = Pseudobulk(types.codes, n_types=len(types.names), n_peaks=len(peaks))
        for start, fragments in _fragment_chunks(file, columns, reading):
            sums.add(start, fragments)
    report = {"counts": reading.counts, "cells in the file": len(labels), **account, **types.report, **report}
    return _kept(source, peaks, types, sums, report, reading, len(labels))


def _from_fragments(
    source: AccessibilitySource, reading: AccessibilityReading, contig_lengths: Mapping[str, int] | None
) -> PeakAccessibility:
    if source.layer is not None:
        raise ValueError(f"{source.path} holds fragments, which have no layer {source.layer!r}")
    if source.peaks is None and source.tile_bp is None:
        raise ValueError(
            f"{source.path} holds fragments: name the intervals to count them in, peaks of a BED file "
            f"({source.path}:peaks=BED) or tiles ({source.path}:tile=5000)"
        )
    survey = survey_fragments(source.path)
    peaks, report = _peaks_of_bed(source, reading) if source.peaks else _tiles(source, survey, contig_lengths)
    barcodes, labels, account = _cells_of_fragments(source, reading, survey)
    matrix, _, counted = count_fragments(source.path, peaks, barcodes, rule=reading.fragment_rule)
    if labels is None:
        labels = pd.Series(leiden_clusters(matrix, reading.leiden), index=barcodes, dtype=object)
    types = _cell_types(labels, account["labels"], source, reading)
    sums = Pseudobulk(types.codes, n_types=len(types.names), n_peaks=len(peaks))
    for start in range(0, len(barcodes), reading.chunk_cells):
        sums.add(start, matrix[start : start + reading.chunk_cells].astype(np.float64))
    report = {"counts": "fragments", **counted, "cells": len(barcodes), **account, **types.report, **report}
    return _kept(source, peaks, types, sums, report, reading, len(barcodes))


def _peaks_of_file(file: CountFile, source: AccessibilitySource) -> tuple[pd.DataFrame, np.ndarray | None, dict]:
    """The peaks; int64 `(peaks,)` their columns, None where all are peaks; and a report."""
    features = file.gene_index
    report = {"columns in the file": len(features)}
    columns = None
    if "feature_types" in features:
        is_peak = (features["feature_types"].astype(str) == "Peaks").to_numpy()
        if not is_peak.any():
            kinds = ", ".join(f"{kind} ({n:,})" for kind, n in features["feature_types"].value_counts().items())
            raise ValueError(f"{file.source} has no column of the feature type 'Peaks'; it has {kinds}")
        report["columns that are no peaks, left out"] = int((~is_peak).sum())
        if not is_peak.all():
            columns = np.flatnonzero(is_peak)
            features = features[is_peak]
    peaks = read_peaks(features, coordinates=source.coordinates, source=file.source)
    if peaks.empty:
        raise ValueError(f"{file.source} has no columns; expected peaks")
    return peaks, columns, report | {"peaks in the file": len(peaks)}


def _fragment_chunks(
    file: CountFile, columns: np.ndarray | None, reading: AccessibilityReading
) -> Iterator[tuple[int, sp.csr_matrix]]:
    """Pairs (first cell, fragments `(cells, peaks)` float64), checked."""
    for start, counts in file.chunks(reading.chunk_cells):
        others = ", ".join(file.other_matrices)
        require_counts(
            counts,
            source=file.source,
            cell_ids=file.obs.index[start : start + counts.shape[0]],
            genes=file.gene_index.index,
            allow_fractional=False,
            advice=f"The file also has {others}: choose the one with counts (layer)." if others else "",
            feature="peak",
            if_estimated="round them if so",
        )
        # Built anew: the file's rows may be unsorted or store an entry twice.
        counts = sp.csr_matrix((counts.data.astype(np.float64), counts.indices, counts.indptr), shape=counts.shape)
        counts.sum_duplicates()
        counts = counts if columns is None else counts[:, columns]
        yield start, fragments_of_reads(counts) if reading.counts == "reads" else counts


def _labels_of_file(
    file: CountFile, source: AccessibilitySource, columns: np.ndarray | None, reading: AccessibilityReading
) -> tuple[pd.Series, dict]:
    """The label of each cell, index = barcodes, and where it is from."""
    obs = file.obs
    if source.labels is not None:
        options = {"label_column": source.label_column, "barcode_column": source.barcode_column}
        labels, report = read_labels(source.labels, obs.index, **options)
        return pd.Series(obs.index.map(labels), index=obs.index, dtype=object), report
    column = source.label_column
    try:
        column = column or find_label_column(obs.columns)
    except ValueError as error:
        raise ValueError(f"{file.source}: {error}") from error
    if column is not None:
        return labels_of_obs(obs, column, source=file.source), {"labels": f"column {column} of obs"}
    shown = ", ".join(map(str, obs.columns)) or "no columns"
    logger.warning("%s: no column of obs tells the types of cells (%s): clustering them", file.source, shown)
    matrix = sp.vstack([chunk for _, chunk in _fragment_chunks(file, columns, reading)], format="csr")
    clusters = leiden_clusters(matrix, reading.leiden)
    return pd.Series(clusters, index=obs.index, dtype=object), {"labels": "Leiden clusters"}


def _cell_types(
    labels: pd.Series, label_source: str, source: AccessibilitySource, reading: AccessibilityReading
) -> CellTypes:
    return cell_types_of(
        labels,
        source=f"{source.path} ({label_source})",
        minimum_types=reading.minimum_types,
        minimum_cells=reading.minimum_cells,
    )


def _peaks_of_bed(source: AccessibilitySource, reading: AccessibilityReading) -> tuple[pd.DataFrame, dict]:
    """Disjoint peaks, in order, and a report."""
    assert source.peaks is not None
    table, counts = read_bed(source.peaks)
    table["name"] = table["name"].where(table["name"] != "", peak_names(table))
    peaks, _, overlaps = make_disjoint(
        table, np.zeros((0, len(table))), overlapping=reading.overlapping, source=str(source.peaks)
    )
    return peaks, {"peaks": Path(source.peaks).name, **counts, **overlaps}


def _tiles(
    source: AccessibilitySource, survey: FragmentSurvey, contig_lengths: Mapping[str, int] | None
) -> tuple[pd.DataFrame, dict]:
    """Tiles of all contigs, in order, and a report: contigs whose fragments reach beyond them among it."""
    assert source.tile_bp is not None
    lengths = contig_lengths or survey.contig_ends
    table = tiles({name: lengths[name] for name in sorted(lengths, key=natural_key)}, source.tile_bp)
    length_of = {contig_alias(name): length for name, length in lengths.items()}
    beyond = {name: end for name, end in survey.contig_ends.items() if end > length_of.get(contig_alias(name), end)}
    report: dict = {"tile_bp": source.tile_bp, "tiles": len(table)}
    if beyond:
        # No error: of a genome of which only a piece is at hand, the length given is where the piece ends.
        report["end of fragments on contigs that end before"] = beyond
        logger.warning("%s has fragments beyond the end of %s", source.path, shown_names(beyond))
    return table, report


def _cells_of_fragments(
    source: AccessibilitySource, reading: AccessibilityReading, survey: FragmentSurvey
) -> tuple[pd.Index, pd.Series | None, dict]:
    """Barcodes of the cells, their labels (None: to be clustered), and a report."""
    if source.labels is not None:
        options = {"label_column": source.label_column, "barcode_column": source.barcode_column}
        labels, report = read_labels(source.labels, survey.fragments_of_barcode.index, **options)
        return labels.index, labels, report
    if source.label_column is not None:
        raise ValueError(
            f"{source.path} holds fragments and no types of cells: name the table that has the column "
            f"{source.label_column!r} ({source.path}:labels=CSV)"
        )
    is_cell = survey.fragments_of_barcode >= reading.minimum_fragments
    if not is_cell.any():
        raise ValueError(
            f"{source.path}: none of {len(is_cell):,} barcodes has {reading.minimum_fragments:,} fragments or more; "
            f"the most is {survey.fragments_of_barcode.max():,}. Lower minimum_fragments, or give labels of cells"
        )
    report = {"labels": "Leiden clusters", "minimum fragments of a cell": reading.minimum_fragments}
    report["barcodes with fewer fragments, left out"] = int((~is_cell).sum())
    return survey.fragments_of_barcode.index[is_cell], None, report


def _kept(
    source: AccessibilitySource,
    peaks: pd.DataFrame,
    types: CellTypes,
    sums: Pseudobulk,
    report: dict,
    reading: AccessibilityReading,
    n_cells: int,
) -> PeakAccessibility:
    """The peaks detected in enough cells, in order and disjoint."""
    share = reading.minimum_cell_share
    # 1e-9: a share such as 0.07 of 100 cells is 7, whatever the floating point says.
    is_kept = sums.detected >= share * n_cells - 1e-9
    if not is_kept.any():
        raise ValueError(
            f"{source.path}: no peak is detected in {share:.2%} of the {n_cells:,} cells or more; the widest is in "
            f"{sums.detected.max():,}. Lower minimum_cell_share"
        )
    disjoint, means, overlaps = make_disjoint(
        peaks[is_kept], sums.means()[:, is_kept], overlapping=reading.overlapping, source=str(source.path)
    )
    report = {"file": Path(source.path).name, "sample": source.sample, **report}
    report["minimum share of cells"] = share
    report["peaks detected in fewer cells, left out"] = int((~is_kept).sum())
    report |= {key: value for key, value in overlaps.items() if key not in report}
    report["peaks kept"] = len(disjoint)
    return PeakAccessibility(source.sample, disjoint, types.names, types.n_cells, means, report)
