"""Fragments of one data set counted in peaks of a BED file or in tiles, for the cells that are meant."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .bed_files import read_bed
from .cell_labels import read_labels
from .disjoint_peaks import make_disjoint, natural_key
from .fragment_counts import count_fragments, tiles
from .fragment_files import survey_fragments
from .genomes import contig_alias
from .multiome_input import Input, require_shared_barcodes
from .multiome_peaks import require_within_contigs
from .multiome_sources import MultiomeSource
from .peak_names import peak_names


@dataclass(frozen=True)
class CellReading:
    """Which cells are meant, and of which assembly, the same for every data set of a build.

    Attributes:
        contig_lengths: of the genes' assembly by `contig_alias`; None where it is not named.
        assembly: its name.
        minimum_fragments: without RNA or labels, the cells of fragments are the barcodes with so many or more.
        minimum_shared_barcodes: as `require_shared_barcodes`.
    """

    contig_lengths: Mapping[str, int] | None = None
    assembly: str | None = None
    minimum_fragments: int = 1000
    minimum_shared_barcodes: float = 0.5


def fragments_input(source: MultiomeSource, path: Path, barcodes: pd.Index | None, reading: CellReading) -> Input:
    """Count the fragments of the cells in the peaks or tiles that the source names.

    Args:
        source: peaks or tiles, labels, chain.
        path: fragments.tsv.
        barcodes: of the RNA that they are paired with; None where they stand alone.
        reading: which cells.

    Raises:
        ValueError: for fragments beyond the contigs of the named assembly, no intervals or cells, and as
            `count_fragments`.
    """
    if source.layer is not None and source.atac is None:
        raise ValueError(f"{path} holds fragments, which have no layer {source.layer!r}")
    if source.peaks is None and source.tile_bp is None:
        raise ValueError(
            f"{path} holds fragments: name the intervals to count them in, peaks of a BED file ({path}:peaks=BED) or "
            f"tiles ({path}:tile=5000)"
        )
    survey = survey_fragments(path)
    lengths = reading.contig_lengths if source.chain is None else None
    if lengths is not None:
        ends = pd.DataFrame({"contig": list(survey.contig_ends), "start": 0, "end": list(survey.contig_ends.values())})
        require_within_contigs(
            ends, lengths, source=f"{path}, contigs as far as fragments reach", assembly=reading.assembly
        )
    report: dict = {"fragments in the file": survey.n_fragments}
    at_hand = survey.fragments_of_barcode
    if barcodes is not None:
        require_shared_barcodes(barcodes, at_hand.index, reading.minimum_shared_barcodes, str(path))
        cells = at_hand.index.intersection(barcodes)
    elif source.labels is not None:
        options = {"label_column": source.label_column, "barcode_column": source.barcode_column}
        cells = pd.Index(sorted(read_labels(source.labels, at_hand.index, **options)[0].index))
    else:
        cells = at_hand.index[at_hand >= reading.minimum_fragments]
        report |= {"minimum fragments of a cell": reading.minimum_fragments}
        report["barcodes with fewer fragments, left out"] = len(at_hand) - len(cells)
        if not len(cells):
            raise ValueError(
                f"{path}: none of {len(at_hand):,} barcodes has {reading.minimum_fragments:,} fragments or more; the "
                f"most is {at_hand.max():,}. Lower minimum_fragments, or give labels of cells"
            )
    peaks, found = _bed_peaks(source) if source.peaks else _tiles(source, survey.contig_ends, lengths)
    counted = count_fragments(path, peaks, cells)
    peaks["column"] = np.arange(len(peaks))
    return Input(
        "atac",
        str(path),
        cells,
        None,
        np.ones(len(peaks), dtype=bool),
        pd.DataFrame(index=cells),
        None,
        peaks,
        counted.matrix,
        source.tile_bp is not None,
        report | {"barcodes in the file": len(at_hand)} | found | counted.report,
        at_hand.index,
    )


def _bed_peaks(source: MultiomeSource) -> tuple[pd.DataFrame, dict]:
    """Disjoint: peaks that overlap become one, so that none of their fragments counts twice."""
    assert source.peaks is not None
    table, counts = read_bed(source.peaks)
    table["name"] = table["name"].where(table["name"] != "", peak_names(table))
    peaks, _, overlaps = make_disjoint(table, np.zeros((0, len(table))), overlapping="merge", source=str(source.peaks))
    return peaks, {"peaks": Path(source.peaks).name, **counts, **overlaps}


def _tiles(
    source: MultiomeSource, contig_ends: Mapping[str, int], lengths: Mapping[str, int] | None
) -> tuple[pd.DataFrame, dict]:
    assert source.tile_bp is not None
    ends = {name: (lengths or {}).get(contig_alias(name), end) for name, end in contig_ends.items()}
    table = tiles({name: ends[name] for name in sorted(ends, key=natural_key)}, source.tile_bp)
    return table, {"tile_bp": source.tile_bp, "tiles": len(table)}
