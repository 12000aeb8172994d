"""A world with known truth: a genome, its genes, donors with variants, and cells in which factors drive their targets.

A factor's promoter carries copies of an activating motif; donors' single-nucleotide variants make or break them; the
number of intact copies sets how active the factor is in that donor's cells, and its activity sets its own and its
targets' expression. Other genes carry motifs that do not vary, and neutral variants. The files have the formats of real
data, so that the whole chain from DNA to a table of perturbed genes can be scored against the planted network.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from .simulated_genome import BASES, write_fasta

MOTIF = b"TGATAAGCCAGT"  # read from either strand of a gene's promoter; twelve bases do not recur by chance
SITE_SPACING_BP = 32


@dataclass(frozen=True)
class RegulomeSettings:
    """Sizes and strengths of a simulated regulome.

    Attributes:
        n_genes: genes, factors included.
        n_factors: genes that regulate others.
        targets_per_factor: genes that each factor regulates; no gene has two factors.
        n_donors: people, each with two haplotypes.
        n_cells: cells, dealt evenly to the donors.
        promoter_bp: length of the stretch around each TSS in which all its motifs and variants lie.
        variable_sites: motif sites of a factor's promoter that differ among donors.
        neutral_variants: variants a gene that touch no motif.
        trans_effect: change of the log odds that a target is on, by one standard deviation of its factor's activity
            among donors; half of the targets are repressed.
        level_effect: change of a target's log expression where it is on, and of the factor's own, by the same.
        dna_effect: correlation, among donors, of a factor's activity with its intact motifs; 0 for a world of the same
            network in which DNA carries no signal.
        cell_noise: standard deviation of a factor's activity between cells of one donor, in those of its activity.
        expressed_fraction: how often a gene is on in a cell; transcription comes in bursts.
        factor_expressed_fraction: the same for factors.
        mean_counts: counts of a gene where it is on.
    """

    n_genes: int = 60
    n_factors: int = 5
    targets_per_factor: int = 8
    n_donors: int = 400
    n_cells: int = 20_000
    promoter_bp: int = 1_024
    variable_sites: int = 4
    neutral_variants: int = 1
    trans_effect: float = 2.0
    level_effect: float = 0.5
    dna_effect: float = 1.0
    cell_noise: float = 0.3
    expressed_fraction: float = 0.2
    factor_expressed_fraction: float = 0.95
    mean_counts: float = 20.0

    def __post_init__(self) -> None:
        regulated = self.n_factors * (1 + self.targets_per_factor)
        if regulated > self.n_genes:
            raise ValueError(
                f"{self.n_factors} factors with {self.targets_per_factor} targets each need {regulated} genes, and "
                f"n_genes is {self.n_genes}: raise n_genes or lower the others"
            )
        if self.n_factors < 1 or self.targets_per_factor < 1 or self.n_donors < 1 or self.n_cells < self.n_donors:
            raise ValueError(
                "a regulome needs at least one factor, one target, one donor, and a cell a donor; found "
                f"n_factors={self.n_factors}, targets_per_factor={self.targets_per_factor}, n_donors={self.n_donors}, "
                f"n_cells={self.n_cells}"
            )
        for name in ("expressed_fraction", "factor_expressed_fraction"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: a fraction between 0 and 1, neither included")
        if not 0 <= self.dna_effect <= 1:
            raise ValueError(f"dna_effect is {self.dna_effect}: a correlation between 0 (no signal in DNA) and 1")
        needed = SITE_SPACING_BP * (2 * self.variable_sites + 2 + self.neutral_variants)
        if self.promoter_bp < needed:
            raise ValueError(f"promoter_bp is {self.promoter_bp}, and the sites asked for need {needed} bp: raise it")


@dataclass
class Regulome:
    """What is true in the simulated world.

    Attributes:
        genes: gene_id, symbol, contig, strand, tss (0-based), is_factor; a row a gene.
        contigs: name -> sequence, uint8 letters.
        variants: contig, position (0-based), reference, alternative (letters), gene, motif_change (1 where it
            makes a motif, -1 where it breaks one, 0 for neutral variants).
        haplotypes: (variants, donors, 2) int8, 1 where the alternative allele is carried.
        intact_motifs: (donors, genes) float, copies in the promoter, mean of the two haplotypes.
        network: factor, target (gene ids), weight (change of the log odds of being on by one standard deviation of
            activity).
        counts: (cells, genes) int32 CSR.
        donor_of_cell: (cells,) int.
    """

    genes: pd.DataFrame
    contigs: dict[str, np.ndarray]
    variants: pd.DataFrame
    haplotypes: np.ndarray
    intact_motifs: np.ndarray
    network: pd.DataFrame
    counts: sparse.csr_matrix
    donor_of_cell: np.ndarray

    @property
    def donors(self) -> list[str]:
        return [f"donor{i:04d}" for i in range(self.haplotypes.shape[1])]


def simulate_regulome(output: str | Path, *, seed: int, overwrite: bool = False, **settings: float) -> Regulome:
    """Write genome.fa, genes.gtf, variants.vcf, cells.h5ad, truth.tsv, donor_activity.tsv and simulation.json.

    Args:
        output: a folder that does not exist yet, or any with `overwrite`; it appears only when complete.
        seed: the same seed and settings give the same bytes.
        settings: fields of `RegulomeSettings`.

    Returns:
        the truth, as in the files.

    Raises:
        FileExistsError: if the folder exists and `overwrite` is false.
        ValueError: if the settings do not fit one another.
    """
    output = Path(output)
    chosen = RegulomeSettings(**settings)  # type: ignore[arg-type]
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists: name another folder, or pass overwrite (--overwrite) to replace it")
    regulome = draw_regulome(chosen, seed=seed)
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, write in _WRITERS.items():
        write(regulome, partial / name)
    (partial / "simulation.json").write_text(json.dumps({"seed": seed, **asdict(chosen)}, indent=1) + "\n")
    if output.exists():
        shutil.rmtree(output)
    partial.rename(output)
    return regulome


def draw_regulome(settings: RegulomeSettings, *, seed: int) -> Regulome:
    """Draw a regulome in memory; the same seed gives the same one."""
    generator = np.random.default_rng(seed)
    genes, contigs = _draw_genes(settings, generator)
    network = _draw_network(settings, genes, generator)
    variants, intact_reference = _plant_motifs_and_variants(settings, genes, contigs, generator)
    haplotypes = _draw_haplotypes(settings, variants, generator)
    intact = _count_intact_motifs(variants, haplotypes, intact_reference)
    donor_of_cell = np.arange(settings.n_cells) % settings.n_donors
    counts = _draw_counts(settings, genes, network, intact, donor_of_cell, generator)
    return Regulome(genes, contigs, variants, haplotypes, intact, network, counts, donor_of_cell)


def _draw_genes(
    settings: RegulomeSettings, generator: np.random.Generator
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Genes a promoter and a body apart on four contigs; which are factors is drawn, so that place tells nothing."""
    n, spacing = settings.n_genes, 3 * settings.promoter_bp
    contig_of_gene = np.arange(n) * 4 // n
    place = np.concatenate([np.arange(count) for count in np.bincount(contig_of_gene)])
    jitter = generator.integers(0, settings.promoter_bp // 2, size=n)
    is_factor = np.zeros(n, dtype=bool)
    is_factor[generator.choice(n, settings.n_factors, replace=False)] = True
    symbols = np.where(is_factor, [f"TF{i}" for i in np.cumsum(is_factor)], [f"GENE{i:04d}" for i in range(n)])
    genes = pd.DataFrame(
        {
            "gene_id": [f"SIMG{i:08d}" for i in range(n)],
            "symbol": symbols,
            "contig": [f"chr{i + 1}" for i in contig_of_gene],
            "strand": generator.choice(["+", "-"], size=n),
            "tss": (place + 1) * spacing + jitter,
            "is_factor": is_factor,
        }
    )
    lengths = genes.groupby("contig").tss.max() + 2 * spacing
    return genes, {contig: generator.choice(BASES, size=length) for contig, length in lengths.items()}


def _draw_network(settings: RegulomeSettings, genes: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    factors = np.flatnonzero(genes.is_factor)
    others = generator.permutation(np.flatnonzero(~genes.is_factor))
    targets = others[: settings.n_factors * settings.targets_per_factor].reshape(settings.n_factors, -1)
    size = settings.trans_effect * generator.uniform(0.75, 1.25, size=targets.shape)
    sign = np.where(np.arange(settings.targets_per_factor) % 2 == 0, 1.0, -1.0)
    gene_ids = genes.gene_id.to_numpy()
    return pd.DataFrame(
        {
            "factor": np.repeat(gene_ids[factors], settings.targets_per_factor),
            "target": gene_ids[targets.ravel()],
            "weight": (size * sign).ravel().round(4),
        }
    )


def _plant_motifs_and_variants(
    settings: RegulomeSettings, genes: pd.DataFrame, contigs: dict[str, np.ndarray], generator: np.random.Generator
) -> tuple[pd.DataFrame, np.ndarray]:
    """Write motifs into the contigs; return the variants, and each gene's intact copies on the reference."""
    motif = np.frombuffer(MOTIF, dtype=np.uint8)
    intact = np.zeros(len(genes))
    rows = []
    for index, gene in enumerate(genes.itertuples()):
        sequence = contigs[gene.contig]
        n_slots = settings.promoter_bp // SITE_SPACING_BP
        start = gene.tss - settings.promoter_bp // 2
        slots = start + SITE_SPACING_BP * generator.permutation(n_slots)
        n_variable = settings.variable_sites if gene.is_factor else 0
        n_fixed = 0 if gene.is_factor else generator.integers(0, settings.variable_sites + 1)
        for slot in slots[: n_variable + n_fixed]:
            sequence[slot : slot + len(motif)] = motif
        intact[index] = n_variable + n_fixed
        for site, slot in enumerate(slots[:n_variable]):
            position = slot + generator.integers(2, len(motif) - 2)
            other = _other_base(sequence[position], generator)
            # Every second site is broken on the reference: there the alternative allele makes a motif.
            if site % 2:
                rows.append((gene.contig, position, other, sequence[position], index, 1))
                sequence[position] = other
                intact[index] -= 1
            else:
                rows.append((gene.contig, position, sequence[position], other, index, -1))
        for slot in slots[n_slots - settings.neutral_variants :]:
            position = slot + generator.integers(len(motif))
            other = _other_base(sequence[position], generator)
            rows.append((gene.contig, position, sequence[position], other, index, 0))
    columns = ["contig", "position", "reference", "alternative", "gene", "motif_change"]
    variants = pd.DataFrame(rows, columns=columns).sort_values(["contig", "position"], ignore_index=True)
    for column in ("reference", "alternative"):
        variants[column] = [chr(base) for base in variants[column]]
    return variants, intact


def _other_base(base: int, generator: np.random.Generator) -> int:
    return int(generator.choice(BASES[base != BASES]))


def _draw_haplotypes(settings: RegulomeSettings, variants: pd.DataFrame, generator: np.random.Generator) -> np.ndarray:
    """(variants, donors, 2) int8: sites in linkage equilibrium, allele frequencies between 0.3 and 0.7."""
    frequency = generator.uniform(0.3, 0.7, size=(len(variants), 1, 1))
    return (generator.random((len(variants), settings.n_donors, 2)) < frequency).astype(np.int8)


def _count_intact_motifs(variants: pd.DataFrame, haplotypes: np.ndarray, intact_reference: np.ndarray) -> np.ndarray:
    """(donors, genes) copies, mean of the two haplotypes."""
    change = variants.motif_change.to_numpy()[:, None] * haplotypes.mean(axis=2)  # (variants, donors)
    in_gene = variants.gene.to_numpy()[None, :] == np.arange(len(intact_reference))[:, None]  # (genes, variants)
    return intact_reference + (in_gene.astype(float) @ change).T


def _draw_counts(
    settings: RegulomeSettings,
    genes: pd.DataFrame,
    network: pd.DataFrame,
    intact: np.ndarray,
    donor_of_cell: np.ndarray,
    generator: np.random.Generator,
) -> sparse.csr_matrix:
    """(cells, genes) counts: zero where the gene is off, Poisson of a log-normal rate where it is on."""
    shape = (len(donor_of_cell), len(genes))
    factors = np.flatnonzero(genes.is_factor)
    activity = _factor_activity(intact[:, factors])  # (donors, factors)
    if settings.dna_effect < 1:  # what does not follow a donor's own motifs follows those of another donor
        of_others = generator.permuted(activity, axis=0)
        activity = settings.dna_effect * activity + np.sqrt(1 - settings.dna_effect**2) * of_others
    activity = activity[donor_of_cell]  # (cells, factors)
    activity = activity + settings.cell_noise * generator.standard_normal(activity.shape)
    drive = activity @ _effects(genes, network)  # (cells, genes), change of log odds
    fraction = np.where(genes.is_factor, settings.factor_expressed_fraction, settings.expressed_fraction)
    log_odds = np.log(fraction / (1 - fraction)) + drive
    log_odds += np.where(genes.is_factor, 0.0, generator.normal(0.0, 0.5, len(genes)))
    is_on = generator.random(shape) < 1 / (1 + np.exp(-log_odds))
    level = np.log(settings.mean_counts) + generator.normal(0.0, 0.5, len(genes))
    level = level + settings.level_effect / settings.trans_effect * drive
    level[:, factors] += settings.level_effect * activity
    level += generator.normal(0.0, 0.7, shape) + generator.normal(0.0, 0.25, (shape[0], 1))
    counts = is_on * generator.poisson(np.exp(level))
    return sparse.csr_matrix(counts.astype(np.int32))


def _factor_activity(intact: np.ndarray) -> np.ndarray:
    """(donors, factors) copies -> mean 0 and standard deviation 1 among donors; 0 where donors do not differ."""
    deviation = intact.std(axis=0)
    return (intact - intact.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)


def _effects(genes: pd.DataFrame, network: pd.DataFrame) -> np.ndarray:
    """(factors, genes) weights of the network."""
    place = pd.Series(np.arange(len(genes)), index=genes.gene_id)
    factor_ids = genes.gene_id[genes.is_factor]
    factor_row = pd.Series(np.arange(len(factor_ids)), index=factor_ids)
    effects = np.zeros((len(factor_ids), len(genes)))
    effects[factor_row[network.factor].to_numpy(), place[network.target].to_numpy()] = network.weight
    return effects


def _write_genome(regulome: Regulome, path: Path) -> None:
    write_fasta(regulome.contigs, path)


def _write_annotation(regulome: Regulome, path: Path) -> None:
    """GTF, 1-based and closed: a gene body of 500 bp downstream of each TSS."""
    with path.open("w") as file:
        file.write("#!genome-build simulated\n")
        for gene in regulome.genes.itertuples():
            first, last = (gene.tss + 1, gene.tss + 500) if gene.strand == "+" else (gene.tss - 498, gene.tss + 1)
            names = f'gene_id "{gene.gene_id}"; gene_name "{gene.symbol}"; gene_type "protein_coding";'
            transcript = f'{names} transcript_id "{gene.gene_id}T1"; transcript_type "protein_coding";'
            for feature, attributes in (("gene", names), ("transcript", transcript), ("exon", transcript)):
                row = (gene.contig, "simulated", feature, first, last, ".", gene.strand, ".", attributes)
                file.write("\t".join(map(str, row)) + "\n")


def _write_variants(regulome: Regulome, path: Path) -> None:
    genotypes = np.char.add(
        np.char.add(regulome.haplotypes[:, :, 0].astype("U1"), "|"), regulome.haplotypes[:, :, 1].astype("U1")
    )
    with path.open("w") as file:
        file.write("##fileformat=VCFv4.3\n")
        for contig, sequence in regulome.contigs.items():
            file.write(f"##contig=<ID={contig},length={len(sequence)}>\n")
        file.write('##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n')
        header = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *regulome.donors]
        file.write("\t".join(header) + "\n")
        for variant, row in zip(regulome.variants.itertuples(), genotypes, strict=True):
            fields = (
                variant.contig,
                variant.position + 1,
                ".",
                variant.reference,
                variant.alternative,
                ".",
                "PASS",
                ".",
                "GT",
            )
            file.write("\t".join([*map(str, fields), *row]) + "\n")


def _write_cells(regulome: Regulome, path: Path) -> None:
    import anndata

    donors = pd.Categorical.from_codes(regulome.donor_of_cell, regulome.donors)
    names = [f"cell{i:06d}" for i in range(regulome.counts.shape[0])]
    anndata.AnnData(
        X=regulome.counts,
        obs=pd.DataFrame({"donor": donors}, index=names),
        var=pd.DataFrame({"symbol": regulome.genes.symbol.to_numpy()}, index=regulome.genes.gene_id.to_numpy()),
    ).write_h5ad(path, compression="gzip")


def _write_truth(regulome: Regulome, path: Path) -> None:
    regulome.network.to_csv(path, sep="\t", index=False)


def _write_activity(regulome: Regulome, path: Path) -> None:
    factors = regulome.genes.is_factor.to_numpy()
    table = pd.DataFrame(regulome.intact_motifs[:, factors], columns=regulome.genes.gene_id[factors])
    table.insert(0, "donor", regulome.donors)
    table.to_csv(path, sep="\t", index=False)


_WRITERS: dict[str, Callable[[Regulome, Path], None]] = {
    "genome.fa": _write_genome,
    "genes.gtf": _write_annotation,
    "variants.vcf": _write_variants,
    "cells.h5ad": _write_cells,
    "truth.tsv": _write_truth,
    "donor_activity.tsv": _write_activity,
}
