"""Peaks to genes by rings of distance from the transcription start: one sparse matrix of weights, peaks by genes.

Source: chapter 4 of the thesis behind the multiome Performer: 0-10 kb (gene body included), 10-20 kb and 20-50 kb on
both sides of the gene's start, weights 1/2, 1/3 and 1/6, a peak over several rings in the nearest one. The start is
strand-aware here. Coordinates are 0-based, half-open; `chr1` and `1` are one contig. Needs numpy and scipy only.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

logger = logging.getLogger(__name__)

TSS_FLANKS_BP = (-10_000, -5_000, 5_000, 10_000)
# 7.4 for 10x peaks of the right assembly; 2.3 for sharp peaks of hg19 on hg38, some of which lie only a little off.
MINIMUM_TSS_ENRICHMENT = 4.0
# Below these, whether peaks and genes are of one assembly cannot be told from where the peaks lie.
_GENES_TO_TELL = 200
_HITS_TO_TELL = 100
_LARGEST_FLANK_SHARE_TO_TELL = 0.4


class GeneLoci(NamedTuple):
    """Where genes lie; an unknown locus has the contig "" and is linked to nothing."""

    contig: np.ndarray  # (genes,) object str
    start: np.ndarray  # (genes,) int64, 0-based
    end: np.ndarray  # (genes,) int64, half-open
    strand: np.ndarray  # (genes,) object str, "+" or "-"

    @property
    def tss(self) -> np.ndarray:
        """int64 `(genes,)`: the base at which transcription starts, `start` on + and `end - 1` on -."""
        return np.where(self.strand == "+", self.start, self.end - 1)


@dataclass(frozen=True)
class Rings:
    """Ring k holds the distances from `bounds_bp[k - 1]` (0 for the first) up to, not including, `bounds_bp[k]`.

    Attributes:
        bounds_bp: outer bounds in bp, ascending.
        weights: what a fragment in each ring counts for; positive.
        gene_body: whether a peak that overlaps the gene body is in the first ring, however far the start is.
    """

    bounds_bp: tuple[int, ...] = (10_000, 20_000, 50_000)
    weights: tuple[float, ...] = (1 / 2, 1 / 3, 1 / 6)
    gene_body: bool = True

    def __post_init__(self) -> None:
        bounds, weights = tuple(self.bounds_bp), tuple(float(weight) for weight in self.weights)
        if not bounds or any(int(bound) != bound for bound in bounds) or list(bounds) != sorted({0, *bounds})[1:]:
            raise ValueError(
                f"the bounds of the rings are {bounds}: give whole bp above 0, ascending, e.g. 10000, 20000, 50000"
            )
        if len(weights) != len(bounds):
            raise ValueError(f"{len(bounds)} rings have {len(weights)} weights {weights}: give one weight a ring")
        if not all(np.isfinite(weight) and weight > 0 for weight in weights):
            raise ValueError(f"the weights of the rings are {weights}: give positive numbers")
        object.__setattr__(self, "bounds_bp", tuple(int(bound) for bound in bounds))
        object.__setattr__(self, "weights", weights)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `Rings(**dictionary)` is the way back."""
        return {"bounds_bp": list(self.bounds_bp), "weights": list(self.weights), "gene_body": self.gene_body}


DEFAULT_RINGS = Rings()


class PeakGeneLinks(NamedTuple):
    """Every pair of a peak and a gene that lie within the rings, each once, by peak and then gene."""

    peak: np.ndarray  # (links,) int64, row of the peaks
    gene: np.ndarray  # (links,) int64, row of the genes
    ring: np.ndarray  # (links,) int64, 0 for the nearest
    distance_bp: np.ndarray  # (links,) int64, from the TSS base to the peak's nearest base
    n_peaks: int
    n_genes: int


class LinkCounts(NamedTuple):
    """How many peaks a gene has and how many genes a peak has, within each ring or a nearer one."""

    peaks_per_gene: np.ndarray  # (rings, genes) int64
    genes_per_peak: np.ndarray  # (rings, peaks) int64


class TssEnrichment(NamedTuple):
    """How often peaks cover transcription starts, beside how often they cover bases some kb away."""

    tss_share: float  # share of the genes whose TSS base lies in a peak
    flank_share: float  # the same for bases at TSS_FLANKS_BP from the TSS
    odds_ratio: float  # of the two; nan where both are 0
    n_genes: int  # genes with a locus on a contig that has peaks


def peak_gene_weights(
    contig: Sequence[str] | np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    genes: GeneLoci,
    rings: Rings = DEFAULT_RINGS,
) -> sp.csr_matrix:
    """The weight of each peak in each gene's sum; arguments and errors as `peak_gene_links`.

    Returns:
        float32 `(peaks, genes)`, the weight of the nearest ring in which the peak lies, nothing stored where in none.
    """
    links = peak_gene_links(contig, start, end, genes, rings)
    weights = np.asarray(rings.weights, dtype=np.float32)[links.ring]
    return sp.csr_matrix((weights, (links.peak, links.gene)), shape=(links.n_peaks, links.n_genes))


def peak_gene_links(
    contig: Sequence[str] | np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    genes: GeneLoci,
    rings: Rings = DEFAULT_RINGS,
) -> PeakGeneLinks:
    """Which peaks lie in which ring of which genes.

    A peak's distance is the number of bp between the TSS base and the peak's nearest base, 0 where it covers the TSS.

    Args:
        contig: (peaks,) names; peaks may overlap and come in any order.
        start, end: (peaks,) whole bp, 0-based, half-open.
        genes: their loci.
        rings: bounds and gene body; the weights are not read.

    Raises:
        ValueError: on arrays of different lengths, empty or negative intervals, and strands other than + and -.
    """
    start, end = _checked_intervals(contig, start, end, "peaks")
    genes = checked_loci(genes)
    reach = rings.bounds_bp[-1]
    peak_shift, gene_shift = _contigs_laid_out(contig, genes.contig, _length(end, genes) + reach)
    known = np.flatnonzero(genes.contig != "")
    tss = genes.tss[known]
    window_start, window_end = np.maximum(tss - reach + 1, 0), tss + reach
    if rings.gene_body:
        window_start = np.minimum(window_start, genes.start[known])
        window_end = np.maximum(window_end, genes.end[known])
    shift = gene_shift[known]
    peak, row = _overlapping_pairs(start + peak_shift, end + peak_shift, window_start + shift, window_end + shift)
    gene = known[row]
    order = np.argsort(peak * len(genes.contig) + gene)
    peak, gene = peak[order], gene[order]
    distance = np.maximum(np.maximum(start[peak] - genes.tss[gene], genes.tss[gene] - (end[peak] - 1)), 0)
    ring = np.searchsorted(np.asarray(rings.bounds_bp), distance, side="right")
    if rings.gene_body:
        ring[(start[peak] < genes.end[gene]) & (end[peak] > genes.start[gene])] = 0
    return PeakGeneLinks(peak, gene, ring, distance, len(start), len(genes.contig))


def count_links(links: PeakGeneLinks, rings: Rings = DEFAULT_RINGS) -> LinkCounts:
    """Peaks of each gene and genes of each peak, by the outer bound of the rings; cumulative."""
    within = [links.ring <= ring for ring in range(len(rings.bounds_bp))]
    return LinkCounts(
        np.stack([np.bincount(links.gene[nearer], minlength=links.n_genes) for nearer in within]),
        np.stack([np.bincount(links.peak[nearer], minlength=links.n_peaks) for nearer in within]),
    )


def weighted_gene_sums(fragments: sp.csr_matrix, weights: sp.csr_matrix) -> sp.csr_matrix:
    """Fragments in peaks -> weighted sums of genes; the same cell gives the same bytes in whatever chunk it comes.

    Args:
        fragments: (cells, peaks) number of fragments.
        weights: (peaks, genes), as `peak_gene_weights` gives them.

    Returns:
        float32 `(cells, genes)`, indices sorted, no zero stored.
    """
    fragments = sp.csr_matrix(fragments, dtype=np.float64)
    fragments.sum_duplicates()
    sums = sp.csr_matrix(fragments @ weights.astype(np.float64), dtype=np.float32)
    sums.eliminate_zeros()
    sums.sort_indices()
    return sums


def tss_enrichment(
    contig: Sequence[str] | np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    genes: GeneLoci,
    *,
    flanks_bp: Sequence[int] = TSS_FLANKS_BP,
) -> TssEnrichment:
    """The odds that peaks cover TSSs, over those for bases at `flanks_bp` from them; arguments as `peak_gene_links`.

    Accessible chromatin is at promoters above all, so their ratio is far above 1 where peaks and genes are of one
    assembly, and about 1 where they are not.
    """
    start, end = _checked_intervals(contig, start, end, "peaks")
    genes = checked_loci(genes)
    flanks = np.asarray(flanks_bp, dtype=np.int64)
    length = _length(end, genes) + int(np.abs(flanks).max())
    peak_shift, gene_shift = _contigs_laid_out(contig, genes.contig, length)
    scored = np.flatnonzero((genes.contig != "") & np.isin(gene_shift, peak_shift))
    at_tss = genes.tss[scored]
    at_flanks = at_tss[:, None] + flanks
    starts, ends = np.sort(start + peak_shift), np.sort(end + peak_shift)
    tss_share = _covered_share(at_tss + gene_shift[scored], starts, ends)
    inside = at_flanks >= 0
    flank_share = _covered_share((at_flanks + gene_shift[scored][:, None])[inside], starts, ends)
    return TssEnrichment(tss_share, flank_share, _odds_ratio(tss_share, flank_share), len(scored))


def require_same_assembly(
    contig: Sequence[str] | np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    genes: GeneLoci,
    *,
    minimum_ratio: float = MINIMUM_TSS_ENRICHMENT,
    assembly: str | None = None,
) -> TssEnrichment:
    """Refuse peaks of another assembly than the genes'; arguments as `peak_gene_links`.

    Where there are too few genes or covered bases to tell, or peaks cover nearly everything, a warning is logged.

    Args:
        minimum_ratio: of `tss_enrichment`.
        assembly: the genes', for the message.

    Raises:
        ValueError: where the ratio is below `minimum_ratio` and enough is there to tell.
    """
    found = tss_enrichment(contig, start, end, genes)
    hits = found.n_genes * (found.tss_share + found.flank_share * len(TSS_FLANKS_BP))
    if found.n_genes < _GENES_TO_TELL or hits < _HITS_TO_TELL or found.flank_share > _LARGEST_FLANK_SHARE_TO_TELL:
        logger.warning(
            "cannot tell whether peaks and genes are of one assembly: %d genes on contigs with peaks, peaks over "
            "%.1f %% of their starts and %.1f %% of the bases some kb away",
            *(found.n_genes, 100 * found.tss_share, 100 * found.flank_share),
        )
    elif found.odds_ratio < minimum_ratio:
        raise ValueError(
            f"the peaks look like those of another assembly than the genes' ({assembly or 'not named'}): they cover "
            f"{found.tss_share:.1%} of {found.n_genes:,} transcription starts and {found.flank_share:.1%} of the bases "
            f"5 and 10 kb away, an odds ratio of {found.odds_ratio:.2f} where at least {minimum_ratio:g} is expected; "
            "lift the peaks over to the genes' assembly (liftOver), or lower the expected ratio if promoters were left "
            "out on purpose"
        )
    return found


def contig_key(name: str) -> str:
    """What the names of one contig have in common: chr20, Chr20 and 20 -> 20; chrM and MT -> M."""
    short = re.sub(r"^chr", "", name, flags=re.IGNORECASE)
    return "M" if short.upper() == "MT" else short


def checked_loci(genes: GeneLoci) -> GeneLoci:
    """Loci as arrays of the right types; ValueError on different lengths, no intervals, and no strand."""
    contig = np.asarray(genes.contig, dtype=object)
    strand = np.asarray(genes.strand, dtype=object)
    known = contig != ""
    start, end = np.asarray(genes.start), np.asarray(genes.end)
    if len(start) == len(end) == len(contig):
        start, end = np.where(known, start, 0), np.where(known, end, 1)
    start, end = _checked_intervals(contig, start, end, "genes")
    if len(strand) != len(contig):
        raise ValueError(f"{len(contig):,} genes have {len(strand):,} strands: give one a gene")
    wrong = np.flatnonzero(known & (strand != "+") & (strand != "-"))
    if len(wrong):
        gene = wrong[0]
        raise ValueError(
            f"{len(wrong):,} genes have no strand, the first number {gene} at {contig[gene]}:{start[gene]}-{end[gene]} "
            f"with {strand[gene]!r}: give + or -, or leave its contig empty"
        )
    return GeneLoci(contig, start, end, strand)


def _overlapping_pairs(
    peak_start: np.ndarray, peak_end: np.ndarray, window_start: np.ndarray, window_end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of two intervals that overlap, the first begins within the second or the second strictly within the first."""
    by_start = np.argsort(peak_start, kind="stable")
    sorted_starts = peak_start[by_start]
    window, peak = _members(
        by_start, np.searchsorted(sorted_starts, window_start), np.searchsorted(sorted_starts, window_end)
    )
    by_start = np.argsort(window_start, kind="stable")
    sorted_starts = window_start[by_start]
    peak_around, window_within = _members(
        by_start, np.searchsorted(sorted_starts, peak_start, side="right"), np.searchsorted(sorted_starts, peak_end)
    )
    return np.concatenate([peak, peak_around]), np.concatenate([window, window_within])


def _members(order: np.ndarray, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each owner the members `order[first:last]`: owner and member of every pair."""
    numbers = last - first
    before = np.cumsum(numbers) - numbers
    owner = np.repeat(np.arange(len(first)), numbers)
    return owner, order[np.arange(len(owner)) + np.repeat(first - before, numbers)]


def _covered_share(positions: np.ndarray, sorted_starts: np.ndarray, sorted_ends: np.ndarray) -> float:
    """A base is in a peak where more peaks have begun than have ended."""
    begun = np.searchsorted(sorted_starts, positions, side="right")
    ended = np.searchsorted(sorted_ends, positions, side="right")
    return float((begun > ended).mean()) if positions.size else 0.0


def _odds_ratio(share: float, other: float) -> float:
    numerator, denominator = share * (1 - other), other * (1 - share)
    return numerator / denominator if denominator else float("inf") if numerator else float("nan")


def _contigs_laid_out(
    peak_contig: Iterable[str], gene_contig: Iterable[str], length: int
) -> tuple[np.ndarray, np.ndarray]:
    """What to add to the coordinates of peaks and of genes so that contigs lie one behind the other."""
    peak_names, gene_names = list(peak_contig), list(gene_contig)
    names = sorted(set(peak_names) | set(gene_names))
    keys = {name: contig_key(name) for name in names}
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys.values()))}
    offset = {name: numbers[keys[name]] * length for name in names}
    peaks = np.fromiter(map(offset.__getitem__, peak_names), dtype=np.int64, count=len(peak_names))
    return peaks, np.fromiter(map(offset.__getitem__, gene_names), dtype=np.int64, count=len(gene_names))


def _length(end: np.ndarray, genes: GeneLoci) -> int:
    return int(max(end.max(initial=0), genes.end.max(initial=0))) + 1


def _checked_intervals(
    contig: Sequence[str] | np.ndarray, start: np.ndarray, end: np.ndarray, what: str
) -> tuple[np.ndarray, np.ndarray]:
    start, end = np.asarray(start), np.asarray(end)
    if not len(contig) == len(start) == len(end):
        raise ValueError(
            f"{what} have {len(contig):,} contigs, {len(start):,} starts and {len(end):,} ends: give as many of each"
        )
    if len(start) and not (np.issubdtype(start.dtype, np.integer) and np.issubdtype(end.dtype, np.integer)):
        raise ValueError(f"starts and ends of {what} are {start.dtype} and {end.dtype}: give whole numbers of bp")
    wrong = np.flatnonzero((start < 0) | (end <= start))
    if len(wrong):
        row = wrong[0]
        raise ValueError(
            f"{len(wrong):,} {what} are no intervals, the first number {row}: {contig[row]}:{start[row]}-{end[row]}; "
            "0-based, half-open coordinates are expected, with a start of at least 0 and an end above it"
        )
    return start.astype(np.int64), end.astype(np.int64)
