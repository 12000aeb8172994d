"""Peaks of one data set put beside the genes: lifted, cleaned of the blacklist, checked to be of the genes' assembly.

Source: chapter 4 of the thesis; rings and weights as `modeling/peak_gene_rings.py` says. Every column of the matrix has
a fate, so that each fragment is accounted for. Coordinates are 0-based, half-open.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..modeling.peak_gene_rings import (
    GeneLoci,
    LinkCounts,
    PeakGeneLinks,
    Rings,
    count_links,
    peak_gene_links,
    require_same_assembly,
)
from .bed_files import BedSource, read_bed
from .fragment_files import shown_names
from .genomes import contig_alias
from .interval_lift import lift_intervals

logger = logging.getLogger(__name__)

# Fates of a matrix's columns; `Alignment.fate` holds their numbers.
ALIGNED, NO_GENE, BLACKLISTED, NOT_LIFTED, OTHER_FEATURE = range(5)
N_FATES = 5
_QUANTILES = {"smallest": 0.0, "quartile": 0.25, "median": 0.5, "upper quartile": 0.75, "largest": 1.0}


@dataclass(frozen=True)
class Alignment:
    """From the columns of one matrix to the genes.

    Attributes:
        weights: float32 `(columns, genes)`: what a count of a column adds to a gene; 1 for a gene's own column.
        fate: uint8 `(columns,)`: one of the fates above.
        links: peaks per gene and genes per peak, by cumulative ring; None for RNA.
        report: what was left out.
    """

    weights: sp.csr_matrix
    fate: np.ndarray
    links: LinkCounts | None
    report: dict[str, Any]


@dataclass(frozen=True)
class PeakRules:
    """What holds for the peaks of all data sets.

    Attributes:
        rings: bounds and weights.
        blacklist: contig, start, end, of the genes' assembly; None for none.
        contig_lengths: of the genes' assembly by `contig_alias`; None where it is not named.
        assembly: its name, for messages.
        minimum_match: as `lift_intervals`.
        annotated: all genes at hand, by which peaks of another assembly are told; None: those that are aligned to.
    """

    rings: Rings
    blacklist: pd.DataFrame | None = None
    contig_lengths: Mapping[str, int] | None = None
    assembly: str | None = None
    minimum_match: float = 0.95
    annotated: GeneLoci | None = None


def align_genes(gene_of_column: np.ndarray, n_genes: int, is_gene_expression: np.ndarray) -> Alignment:
    """Of RNA: columns of one gene are summed; `gene_of_column (columns,)` is -1 for none."""
    columns = np.flatnonzero(gene_of_column >= 0)
    weights = sp.csr_matrix(
        (np.ones(len(columns), np.float32), (columns, gene_of_column[columns])), shape=(len(gene_of_column), n_genes)
    )
    fate = np.full(len(gene_of_column), NO_GENE, dtype=np.uint8)
    fate[columns] = ALIGNED
    fate[~is_gene_expression] = OTHER_FEATURE
    distinct = len(np.unique(gene_of_column[columns]))
    report = {
        "columns in the file": len(gene_of_column),
        "columns that are no genes, left out": int(np.count_nonzero(~is_gene_expression)),
        "columns of other genes, left out": int(np.count_nonzero(fate == NO_GENE)),
        "columns of genes": len(columns),
        "genes found": distinct,
        "genes missing, zero here": n_genes - distinct,
    }
    return Alignment(weights, fate, None, report)


def align_peaks(
    peaks: pd.DataFrame,
    n_columns: int,
    genes: GeneLoci,
    rules: PeakRules,
    *,
    chain: str | Path | None = None,
    are_tiles: bool = False,
    source: str,
) -> Alignment:
    """Of ATAC: each peak's weight in the genes about it.

    Args:
        peaks: contig, start, end, name, of the file's assembly; column: where in the matrix.
        n_columns: of the matrix; those that are no peaks are ignored.
        genes: their loci.
        rules: rings, blacklist and assembly.
        chain: liftOver chain from the file's assembly to the genes'.
        are_tiles: tiles are everywhere, so where they lie tells no assembly.
        source: file, for messages.

    Raises:
        FileNotFoundError, ValueError: as `lift_intervals`; for peaks that seem to be of another assembly, or beyond
            the ends of the named one's contigs, and where no peak is near a gene.
    """
    fate = np.full(n_columns, OTHER_FEATURE, dtype=np.uint8)
    fate[peaks["column"]] = NOT_LIFTED
    report: dict[str, Any] = {"columns in the file": n_columns, "peaks in the file": len(peaks)}
    if chain is not None:
        peaks, report["lift"] = lift_intervals(peaks, chain, minimum_match=rules.minimum_match)
    fate[peaks["column"]] = NO_GENE
    if rules.contig_lengths is not None:
        require_within_contigs(peaks, rules.contig_lengths, source=source, assembly=rules.assembly)
    report["assembly check"] = _check_assembly(peaks, rules.annotated or genes, rules, source, are_tiles=are_tiles)
    if rules.blacklist is not None:
        from .region_peaks import overlaps_any  # slow to import, and processes that align need it not

        named = peaks.assign(contig=_aliases(peaks["contig"]))
        is_black = overlaps_any(named, rules.blacklist)
        fate[peaks["column"][is_black]] = BLACKLISTED
        report["peaks on the blacklist, left out"] = int(is_black.sum())
        peaks = peaks[~is_black]
    links = peak_gene_links(*_places(peaks), genes, rules.rings)
    if not len(links.peak):
        raise ValueError(
            f"{source}: none of {len(peaks):,} peaks (on {shown_names(list(peaks['contig'].unique()))}) lies within "
            f"{rules.rings.bounds_bp[-1]:,} bp of any of {len(genes.contig):,} genes (on "
            f"{shown_names(list(pd.unique(genes.contig)))}). Are both of one genome?"
        )
    column = peaks["column"].to_numpy(np.int64)[links.peak]
    values = np.asarray(rules.rings.weights, dtype=np.float32)[links.ring]
    weights = sp.csr_matrix((values, (column, links.gene)), shape=(n_columns, links.n_genes))
    fate[column] = ALIGNED
    counts = count_links(links, rules.rings)
    report |= _described(links, counts, rules.rings)
    logger.info("%s: %d of %d peaks are linked to genes", source, report["peaks linked to a gene"], links.n_peaks)
    return Alignment(weights, fate, counts, report)


def contig_lengths_of(assembly: str) -> dict[str, int]:
    """Lengths in bp by `contig_alias`; ValueError where bioframe does not know the assembly."""
    import bioframe  # slow to import

    try:
        sizes = bioframe.assembly_info(assembly).chromsizes
    except ValueError as error:
        known = bioframe.assemblies_available()["provider_build"].unique()
        raise ValueError(f"assembly is {assembly!r}; known are {', '.join(known)}; or leave it out") from error
    return {contig_alias(str(name)): int(length) for name, length in sizes.items()}


def require_within_contigs(
    places: pd.DataFrame, contig_lengths: Mapping[str, int], *, source: str, assembly: str | None
) -> None:
    """ValueError where a place (contig, start, end) ends beyond its contig, which is a sign of another assembly."""
    length = places["contig"].map({name: contig_lengths.get(contig_alias(name)) for name in places["contig"].unique()})
    is_beyond = (places["end"] > length.astype(float).fillna(np.inf)).to_numpy()
    if is_beyond.any():
        row = places.iloc[int(is_beyond.argmax())]
        raise ValueError(
            f"{source}: {int(is_beyond.sum()):,} of {len(places):,} end beyond their contig in {assembly}, the first "
            f"{row['contig']}:{row['start']:,}-{row['end']:,} ({length.iloc[int(is_beyond.argmax())]:,.0f} bp there): "
            "they are of another assembly; name the liftOver chain (PATH:chain=CHAIN), or the right assembly"
        )


def read_blacklists(sources: Sequence[BedSource | str | Path] | BedSource | str | Path | None) -> pd.DataFrame | None:
    """Intervals of BED files, lifted where they name a chain, contigs by `contig_alias`; None for none."""
    if sources is None:
        return None
    tables = []
    for one in [sources] if isinstance(sources, BedSource | str | Path) else sources:
        bed = one if isinstance(one, BedSource) else BedSource(one)
        table, _ = read_bed(bed)
        table = table if bed.chain is None else lift_intervals(table, bed.chain)[0]
        tables.append(table.assign(contig=_aliases(table["contig"]))[["contig", "start", "end"]])
    return pd.concat(tables, ignore_index=True) if tables else None


def _aliases(contigs: pd.Series) -> pd.Series:
    return contigs.map({name: contig_alias(name) for name in contigs.unique()})


def _places(peaks: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    names = {name: contig_alias(name) if name.startswith("NC_") else name for name in peaks["contig"].unique()}
    contig = peaks["contig"].map(names).to_numpy(object)
    return contig, peaks["start"].to_numpy(np.int64), peaks["end"].to_numpy(np.int64)


def _check_assembly(peaks: pd.DataFrame, genes: GeneLoci, rules: PeakRules, source: str, *, are_tiles: bool) -> Any:
    if are_tiles:
        return "none: tiles lie everywhere"
    try:
        found = require_same_assembly(*_places(peaks), genes, assembly=rules.assembly)
    except ValueError as error:
        raise ValueError(f"{source}: {error}; a chain is named as PATH:chain=CHAIN") from error
    shares = {"share of TSSs in peaks": found.tss_share, "share of bases 5 and 10 kb away": found.flank_share}
    return {name: round(share, 4) for name, share in shares.items()} | {"genes": found.n_genes}


def _described(links: PeakGeneLinks, counts: LinkCounts, rings: Rings) -> dict[str, Any]:
    """The numbers of Figure B.4."""
    report: dict[str, Any] = {
        "peaks linked to a gene": len(np.unique(links.peak)),
        "peaks linked to no gene": links.n_peaks - len(np.unique(links.peak)),
        "genes without a peak": links.n_genes - len(np.unique(links.gene)),
    }
    for what, numbers in (("peaks per gene", counts.peaks_per_gene), ("genes per peak", counts.genes_per_peak)):
        report[what] = {
            f"within {bound:,} bp": {"mean": round(float(row.mean()), 4), "with none": int((row == 0).sum())}
            | {name: float(np.quantile(row, share)) for name, share in _QUANTILES.items()}
            for bound, row in zip(rings.bounds_bp, numbers, strict=True)
        }
    return report
