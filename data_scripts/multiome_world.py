"""Cells in which genes follow the peaks near them, measured as RNA, as ATAC, or as both: known truth for imputation.

A cell's state is a point among programmes: its type's place, and continuous variation within the type. Each gene has
one to four linked peaks within reach of its TSS. Their accessibility follows the programmes and a local state that
belongs to the gene in that cell, so that cells of one type differ too; the gene's expression follows the accessibility
of its linked peaks. Unlinked peaks lie among them. Three data sets, each in two batches with effects of their own, hold
cells with RNA, with ATAC and with both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from ..modeling.peak_gene_rings import GeneLoci, peak_gene_weights

DATASETS = ("rna", "atac", "paired")
BATCHES_PER_DATASET = 2
SLOT_BP = 1_000  # a slot holds at most one peak, so peaks are disjoint
SHORTEST_PEAK_BP, LONGEST_PEAK_BP = 300, 900
SHORTEST_GENE_BP, LONGEST_GENE_BP = 2_000, 20_000
_CELLS_AT_A_TIME = 1_024

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class MultiomeSettings:
    """Sizes and strengths of a simulated multiome.

    Attributes:
        n_genes, n_contigs: genes, dealt evenly to the contigs.
        n_unlinked_peaks: peaks that drive no gene, anywhere in the genome.
        maximum_links: a gene has one to this many linked peaks, every number as likely.
        link_reach_bp: farthest that a linked peak lies from its gene's TSS.
        gene_spacing_bp: length of the stretch of a contig that one gene lies in, its linked peaks too.
        n_types: cell types.
        type_imbalance: cells of the most frequent type for one of the rarest.
        n_donors: people; every data set has cells of each.
        n_rna_cells, n_atac_cells, n_paired_cells: cells of the three data sets.
        n_programmes: dimensions of the state that cells share.
        type_spread: standard deviation of the types' places among the programmes.
        state_spread: of the cells of a type around its place.
        donor_spread: of the donors around all.
        linked_effect: standard deviation, among peaks, of the change of the log odds that a linked peak is open, by one
            unit of a programme.
        unlinked_effect: the same for unlinked peaks, each in a direction of its own.
        shared_share: share of that variance in which the peaks of one gene agree.
        local_effect: change of the log odds of a gene's linked peaks by one standard deviation of its local state.
        expression_effect: change of a gene's log expression from all its linked peaks closed to all open.
        expression_noise: standard deviation of log expression that no peak tells.
        batch_effect: standard deviation of the log effect of a batch on a gene or a peak.
        mean_counts: of a gene in a cell, over genes and cells.
        dispersion: of RNA counts, variance = mean + dispersion * mean ** 2.
        mean_fragments: of a peak in a cell, over peaks and cells.
        depth_spread: standard deviation of the logarithm of a cell's depth, in each modality by itself.
        one_end_share: share of the peaks of a cell, among those with fragments, in which one fragment has its other end
            outside, so that its reads are odd.
    """

    n_genes: int = 300
    n_contigs: int = 3
    n_unlinked_peaks: int = 750
    maximum_links: int = 4
    link_reach_bp: int = 50_000
    gene_spacing_bp: int = 120_000
    n_types: int = 6
    type_imbalance: float = 3.0
    n_donors: int = 4
    n_rna_cells: int = 2_000
    n_atac_cells: int = 1_500
    n_paired_cells: int = 1_500
    n_programmes: int = 8
    type_spread: float = 0.5
    state_spread: float = 0.5
    donor_spread: float = 0.15
    linked_effect: float = 1.0
    unlinked_effect: float = 0.2
    shared_share: float = 0.7
    local_effect: float = 0.8
    expression_effect: float = 4.0
    expression_noise: float = 0.2
    batch_effect: float = 0.2
    mean_counts: float = 3.0
    dispersion: float = 0.2
    mean_fragments: float = 0.6
    depth_spread: float = 0.3
    one_end_share: float = 0.2

    def __post_init__(self) -> None:
        for name in ("n_genes", "n_contigs", "maximum_links", "n_donors", "n_paired_cells", "n_programmes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected one or more")
        for name in ("shared_share", "one_end_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected a share from 0 to 1")
        for name in ("mean_counts", "mean_fragments", "dispersion"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: expected more than 0")
        for name in ("n_unlinked_peaks", "n_rna_cells", "n_atac_cells", "depth_spread", "batch_effect"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: expected 0 or more")
        if self.n_types < 2 or self.type_imbalance < 1:
            raise ValueError(
                f"n_types is {self.n_types} and type_imbalance {self.type_imbalance}: expected two types or more, and "
                "an imbalance of 1 or more"
            )
        self._check_places()

    def _check_places(self) -> None:
        room = 2 * (LONGEST_GENE_BP + SLOT_BP)
        if self.gene_spacing_bp < room:
            raise ValueError(f"gene_spacing_bp is {self.gene_spacing_bp}: expected {room} or more, room for a gene")
        within = 2 * (self.link_reach_bp // SLOT_BP) - 1
        if within < self.maximum_links:
            raise ValueError(
                f"link_reach_bp is {self.link_reach_bp}, which has room for {max(within, 0)} peaks, and maximum_links "
                f"is {self.maximum_links}: raise link_reach_bp"
            )
        free = self.n_genes * (self.gene_spacing_bp // SLOT_BP - self.maximum_links)
        if self.n_unlinked_peaks > free:
            raise ValueError(
                f"n_unlinked_peaks is {self.n_unlinked_peaks}, and the genome has room for {free}: raise "
                "gene_spacing_bp"
            )


class OracleCorrelation(NamedTuple):
    """Median Pearson correlation, over genes, of expected with observed ATAC activity, across the paired cells.

    Activity is the weighted sum of fragments by the default rings, per 10,000 of a cell, and log1p of that.

    Attributes:
        state: where all that sets a cell's accessibility is known: no imputation can be expected to reach more.
        cell_type: where the cell's type alone is known.
    """

    state: float
    cell_type: float


@dataclass
class MultiomeWorld:
    """What is true in the simulated world. Coordinates are 0-based, half-open.

    Attributes:
        genes: gene_id, symbol, contig, start, end, strand, tss; a row a gene.
        peaks: peak (contig:start-end), contig, start, end; a row a peak, in the order of the genome.
        links: peak, gene (id), weight (of the peak in the gene's expression; those of a gene sum to 1), distance (bp
            from the TSS to the peak's nearest base).
        cells: dataset, cell_type, donor, batch; the index is the cell's name; the data sets one behind the other.
        programmes: (cells, programmes) float64.
        rna: (cells of rna and paired, genes) int32 CSR, counts.
        fragments: (cells of atac and paired, peaks) int32 CSR.
        reads: as `fragments`; ends of fragments within each peak: two a fragment, or one less.
        expected_activity: (paired cells, genes) float32, expected weighted fragments by the default rings, before the
            cell's depth and the batch's effects.
        oracle: what that expectation tells of what is observed.
    """

    genes: pd.DataFrame
    peaks: pd.DataFrame
    links: pd.DataFrame
    cells: pd.DataFrame
    programmes: Array
    rna: sparse.csr_matrix
    fragments: sparse.csr_matrix
    reads: sparse.csr_matrix
    expected_activity: Array
    oracle: OracleCorrelation

    @property
    def has_rna(self) -> Array:
        """(cells,) bool."""
        return (self.cells.dataset != "atac").to_numpy()

    @property
    def has_atac(self) -> Array:
        """(cells,) bool."""
        return (self.cells.dataset != "rna").to_numpy()


def draw_multiome(settings: MultiomeSettings, *, seed: int) -> MultiomeWorld:
    """Draw a world in memory; the same seed gives the same one."""
    generator = np.random.default_rng(seed)
    genes = _draw_genes(settings, generator)
    peaks, links = _draw_peaks(settings, genes, generator)
    cells = _draw_cells(settings, generator)
    programmes = _draw_programmes(settings, cells, generator)
    law = _draw_law(settings, genes, peaks, links, cells, generator)
    has_rna, has_atac, is_paired = (cells.dataset.isin(names) for names in (DATASETS[::2], DATASETS[1:], DATASETS[2:]))
    loci = GeneLoci(*(genes[name].to_numpy() for name in ("contig", "start", "end", "strand")))
    rings = peak_gene_weights(peaks.contig.to_numpy(), peaks.start.to_numpy(), peaks.end.to_numpy(), loci)
    rna, fragments, expected = [], [], []
    for rows in _chunks(len(cells)):
        openness, log_expression = _state_of_cells(settings, law, programmes[rows], generator)
        batch = law.batch_of_cell[rows]
        counts = _draw_counts(settings, law, log_expression, batch, generator)
        rna.append(sparse.csr_matrix(counts[has_rna[rows]]))
        means = openness * law.fragments_if_open
        drawn = _draw_fragments(settings, law, means, batch, generator)
        fragments.append(sparse.csr_matrix(drawn[has_atac[rows]]))
        expected.append((means[is_paired[rows]] @ rings).astype(np.float32))
    all_fragments = sparse.vstack(fragments, format="csr")
    reads = all_fragments.copy()
    has_one_end_outside = generator.random(reads.nnz) < settings.one_end_share
    reads.data = 2 * reads.data - has_one_end_outside.astype(np.int32)
    expected_activity = np.concatenate(expected)
    observed = (all_fragments[-len(expected_activity) :] @ rings).toarray()
    types = pd.Categorical(cells.cell_type[is_paired]).codes
    oracle = _oracle(expected_activity, observed, types)
    return MultiomeWorld(
        *(genes, peaks, links, cells, programmes),
        *(sparse.vstack(rna, format="csr"), all_fragments, reads, expected_activity, oracle),
    )


class _Law(NamedTuple):
    """How states become counts."""

    base: Array  # (peaks,) log odds of being open
    loadings: Array  # (programmes, peaks)
    gene_of_peak: Array  # (peaks,) int64, -1 where unlinked
    link_weights: sparse.csr_matrix  # (peaks, genes), columns sum to 1
    expression: Array  # (genes,) mean counts where all linked peaks are half open
    fragments_if_open: Array  # (peaks,)
    batch_of_cell: Array  # (cells,) int64
    batch_on_genes: Array  # (batches, genes) factors
    batch_on_peaks: Array  # (batches, peaks) factors


def _draw_genes(settings: MultiomeSettings, generator: np.random.Generator) -> pd.DataFrame:
    number = np.arange(settings.n_genes)
    contig = number * settings.n_contigs // settings.n_genes
    first_of_contig = np.searchsorted(contig, contig)
    stretch = (number - first_of_contig) * settings.gene_spacing_bp
    room = settings.gene_spacing_bp // 2 - LONGEST_GENE_BP - SLOT_BP
    tss = (
        stretch + settings.gene_spacing_bp // 2 + generator.integers(-room // 4, room // 4, len(number), endpoint=True)
    )
    length = generator.integers(SHORTEST_GENE_BP, LONGEST_GENE_BP, len(number), endpoint=True)
    is_plus = generator.random(len(number)) < 0.5
    start = np.where(is_plus, tss, tss + 1 - length)
    return pd.DataFrame(
        {
            "gene_id": [f"ENSG{1 + place:011d}" for place in number],
            "symbol": [f"GENE{1 + place}" for place in number],
            "contig": np.array([f"chr{1 + place}" for place in range(settings.n_contigs)], dtype=object)[contig],
            "start": start,
            "end": start + length,
            "strand": np.where(is_plus, "+", "-").astype(object),
            "tss": tss,
        }
    )


def _draw_peaks(
    settings: MultiomeSettings, genes: pd.DataFrame, generator: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Linked peaks in slots near their gene's TSS, the nearer the likelier; unlinked ones in slots that are left."""
    per_stretch = settings.gene_spacing_bp // SLOT_BP
    contig_codes = pd.factorize(genes.contig)[0]
    stretch = (np.arange(len(genes)) - np.searchsorted(contig_codes, contig_codes)) * settings.gene_spacing_bp
    slot = stretch[:, None] + SLOT_BP * np.arange(per_stretch)  # (genes, slots) starts
    tss = genes.tss.to_numpy()[:, None]
    farthest = np.maximum(tss - slot, slot + SLOT_BP - 1 - tss)
    chance = np.where(farthest <= settings.link_reach_bp, 1 / (SLOT_BP + farthest), 0.0)
    key = np.where(chance > 0, generator.random(slot.shape) ** (1 / np.maximum(chance, 1e-12) / SLOT_BP), -1.0)
    rank = np.argsort(np.argsort(-key, axis=1, kind="stable"), axis=1, kind="stable")
    number = np.minimum(generator.integers(1, settings.maximum_links, len(genes), endpoint=True), (chance > 0).sum(1))
    is_linked = rank < number[:, None]
    free = np.flatnonzero(~is_linked)
    chosen = is_linked.ravel().copy()
    chosen[generator.choice(free, settings.n_unlinked_peaks, replace=False)] = True
    row, column = np.nonzero(chosen.reshape(is_linked.shape))
    length = generator.integers(SHORTEST_PEAK_BP, LONGEST_PEAK_BP, len(row), endpoint=True)
    start = slot[row, column] + generator.integers(0, SLOT_BP - length, endpoint=True)
    peaks = pd.DataFrame({"contig": genes.contig.to_numpy()[row], "start": start, "end": start + length})
    peaks.insert(0, "peak", peaks.contig + ":" + peaks.start.astype(str) + "-" + peaks.end.astype(str))
    linked = is_linked[row, column]
    of_gene = genes.tss.to_numpy()[row]
    distance = np.maximum(np.maximum(start - of_gene, of_gene - (start + length - 1)), 0)
    weight = generator.gamma(2.0, size=len(row)) * np.exp(-distance / 20_000)
    links = pd.DataFrame(
        {"peak": peaks.peak, "gene": genes.gene_id.to_numpy()[row], "weight": weight, "distance": distance}
    )[linked].reset_index(drop=True)
    links["weight"] = (links.weight / links.groupby("gene").weight.transform("sum")).round(9)
    return peaks, links


def _draw_cells(settings: MultiomeSettings, generator: np.random.Generator) -> pd.DataFrame:
    numbers = (settings.n_rna_cells, settings.n_atac_cells, settings.n_paired_cells)
    share = settings.type_imbalance ** -np.linspace(0, 1, settings.n_types)
    bounds = np.cumsum(share) / share.sum()
    tables = []
    for dataset, number in zip(DATASETS, numbers, strict=True):
        place = np.arange(number)
        kind = np.searchsorted(bounds, (place + 0.5) / max(number, 1))  # of each type its share, rounded
        table = {
            "dataset": dataset,
            "cell_type": [f"type_{1 + code}" for code in generator.permutation(kind)],
            "donor": [f"donor_{1 + code}" for code in generator.permutation(place % settings.n_donors)],
            "batch": [f"{dataset}_{1 + code}" for code in generator.permutation(place % BATCHES_PER_DATASET)],
        }
        tables.append(pd.DataFrame(table, index=[f"{dataset}{cell:06d}" for cell in range(number)]))
    return pd.concat(tables)


def _draw_programmes(settings: MultiomeSettings, cells: pd.DataFrame, generator: np.random.Generator) -> Array:
    programmes = generator.normal(0, settings.state_spread, (len(cells), settings.n_programmes))
    for name, spread in (("cell_type", settings.type_spread), ("donor", settings.donor_spread)):
        codes, names = pd.factorize(cells[name], sort=True)
        programmes += generator.normal(0, spread, (len(names), settings.n_programmes))[codes]
    return programmes


def _draw_law(
    settings: MultiomeSettings,
    genes: pd.DataFrame,
    peaks: pd.DataFrame,
    links: pd.DataFrame,
    cells: pd.DataFrame,
    generator: np.random.Generator,
) -> _Law:
    peak = pd.Index(peaks.peak).get_indexer(links.peak)
    gene = pd.Index(genes.gene_id).get_indexer(links.gene)
    gene_of_peak = np.full(len(peaks), -1)
    gene_of_peak[peak] = gene
    of_gene = generator.normal(size=(settings.n_programmes, len(genes)))
    own = generator.normal(size=(settings.n_programmes, len(peaks)))
    shared = np.sqrt(settings.shared_share) * of_gene[:, gene_of_peak] + np.sqrt(1 - settings.shared_share) * own
    loadings = np.where(gene_of_peak >= 0, settings.linked_effect * shared, settings.unlinked_effect * own)
    batches = [f"{dataset}_{1 + number}" for dataset in DATASETS for number in range(BATCHES_PER_DATASET)]
    sizes = (len(genes), len(peaks))
    expression, strength = (np.exp(generator.normal(0, 0.7, size)) for size in sizes)
    on_genes, on_peaks = (np.exp(generator.normal(0, settings.batch_effect, (len(batches), size))) for size in sizes)
    return _Law(
        base=generator.normal(-0.5, 0.5, len(peaks)),
        loadings=loadings,
        gene_of_peak=gene_of_peak,
        link_weights=sparse.csr_matrix((links.weight.to_numpy(), (peak, gene)), shape=(len(peaks), len(genes))),
        expression=settings.mean_counts * expression / expression.mean(),
        fragments_if_open=2 * settings.mean_fragments * strength / strength.mean(),
        batch_of_cell=pd.Index(batches).get_indexer(cells.batch),
        batch_on_genes=on_genes,
        batch_on_peaks=on_peaks,
    )


def _state_of_cells(
    settings: MultiomeSettings, law: _Law, programmes: Array, generator: np.random.Generator
) -> tuple[Array, Array]:
    """(cells, peaks) shares of the time that peaks are open, and (cells, genes) log of expression over its base."""
    n_genes = len(law.expression)
    local = generator.normal(size=(len(programmes), n_genes))
    log_odds = law.base + programmes @ law.loadings
    log_odds += np.where(law.gene_of_peak >= 0, settings.local_effect * local[:, law.gene_of_peak], 0.0)
    openness = 1 / (1 + np.exp(-log_odds))
    of_peaks = settings.expression_effect * ((openness - 0.5) @ law.link_weights)
    return openness, of_peaks + generator.normal(0, settings.expression_noise, of_peaks.shape)


def _draw_counts(
    settings: MultiomeSettings, law: _Law, log_expression: Array, batch: Array, generator: np.random.Generator
) -> Array:
    """(cells, genes) int32, negative binomial."""
    depth = np.exp(generator.normal(0, settings.depth_spread, (len(batch), 1)))
    means = law.expression * np.exp(log_expression) * law.batch_on_genes[batch] * depth
    size = 1 / settings.dispersion
    return generator.poisson(generator.gamma(size, means / size)).astype(np.int32)


def _draw_fragments(
    settings: MultiomeSettings, law: _Law, means: Array, batch: Array, generator: np.random.Generator
) -> Array:
    """(cells, peaks) int32, Poisson."""
    depth = np.exp(generator.normal(0, settings.depth_spread, (len(batch), 1)))
    return generator.poisson(means * law.batch_on_peaks[batch] * depth).astype(np.int32)


def _chunks(cells: int) -> Iterator[slice]:
    for first in range(0, cells, _CELLS_AT_A_TIME):
        yield slice(first, min(first + _CELLS_AT_A_TIME, cells))


def _oracle(expected: Array, observed: Array, cell_type: Array) -> OracleCorrelation:
    by_type = np.stack([expected[cell_type == code].mean(axis=0) for code in range(cell_type.max() + 1)])
    logs = [log_activity(values) for values in (expected, by_type[cell_type], observed)]
    state, known_type = (np.nanmedian(gene_correlations(values, logs[2])) for values in logs[:2])
    return OracleCorrelation(float(state), float(known_type))


def log_activity(values: Array) -> Array:
    """(cells, genes): log1p of each cell's values per 10,000 of their sum."""
    total = values.sum(axis=1, keepdims=True)
    return np.log1p(np.divide(10_000.0 * values, total, out=np.zeros(values.shape), where=total > 0))


def gene_correlations(predicted: Array, observed: Array) -> Array:
    """(genes,) Pearson correlation across cells of two (cells, genes) arrays; NaN where either is constant."""
    left, right = (values - values.mean(axis=0) for values in (predicted, observed))
    norm = np.sqrt((left**2).sum(axis=0) * (right**2).sum(axis=0))
    varies = (np.ptp(predicted, axis=0) > 0) & (np.ptp(observed, axis=0) > 0)
    return np.divide((left * right).sum(axis=0), norm, out=np.full(norm.shape, np.nan), where=varies)
