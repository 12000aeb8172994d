"""A simulated regulome made ready for models: cells, DNA features, and edits of the factors' promoters.

Nothing that a model is tested on is among what it learns from. Donors are split: ranks, medians and training see the
cells of some, edits are made in the cells of the others. Of held-out factors no donor's DNA is kept: models know their
promoters from the reference alone. And a motif can be broken by alleles that no donor carries.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from omics_transformers.data_scripts.annotations import read_tss
from omics_transformers.data_scripts.cells import build_cells
from omics_transformers.data_scripts.gene_features import REFERENCE, GeneFeatures, write_gene_features
from omics_transformers.data_scripts.genomes import open_genome
from omics_transformers.data_scripts.promoters import promoter_windows
from omics_transformers.data_scripts.simulated_regulome import MOTIF, simulate_regulome
from omics_transformers.training.embedding import embed_promoters
from omics_transformers.training.small_enformer import make_small_enformer

WINDOW_BP = 2_048
CENTRE_POSITIONS = 8  # 1,024 bp: all of a promoter of the simulated world, and half of the window
POOLS: dict[str, Any] = {"all positions": "all", "centre": CENTRE_POSITIONS}
BASES = "ACGT"


class FactorEdits(NamedTuple):
    """Windows of a factor, ACGT, WINDOW_BP long.

    Attributes:
        reference: as the genome has it.
        known_alleles: every motif that donors' variants break is broken, by their alleles.
        new_alleles: every motif broken at a base, to a letter, at random; few or none of these alleles any donor has.
        neutral: as many bases changed as in `new_alleles`, away from all motifs; several draws.
    """

    reference: str
    known_alleles: str
    new_alleles: str
    neutral: list[str]


def prepare_world(
    folder: Path, seed: int, settings: dict[str, Any], *, held_out_factors: int, test_donors: float
) -> None:
    """Write world/, train.h5ad, held_out.h5ad, cells/ (of train.h5ad), enformer/, features of each pool, split.json.

    Args:
        folder: made if need be; split.json comes last and says that all is there.
        seed: of the world, the Enformer's weights and the split.
        settings: of `RegulomeSettings`.
        held_out_factors: how many factors no donor's DNA is kept of.
        test_donors: share of the donors whose cells are held out.
    """
    regulome = simulate_regulome(folder / "world", seed=seed, overwrite=True, **settings)
    generator = np.random.default_rng([seed, 1])
    factors = regulome.genes.gene_id[regulome.genes.is_factor].to_numpy()
    left_out = sorted(generator.choice(factors, held_out_factors, replace=False).tolist())
    donors = generator.permutation(regulome.donors)
    tested = donors[: max(1, round(test_donors * len(donors)))]
    _split_cells(folder, tested.tolist())
    build_cells(folder / "train.h5ad", folder / "cells", obs_columns=["donor"], minimum_genes=1, overwrite=True)
    model = make_small_enformer(folder / "enformer", seed=seed, overwrite=True)
    files = (folder / "world" / "genome.fa", folder / "world" / "genes.gtf")
    for name, pool in POOLS.items():
        path = features_file(folder, name)
        options: dict[str, Any] = {"window_bp": WINDOW_BP, "pool": pool, "batch_size": 32, "assembly": "simulated"}
        vcf = folder / "world" / "variants.vcf"
        made = embed_promoters(*files, path, model=model, vcf=vcf, **options, overwrite=True, progress=False)
        write_gene_features(path, without_donors_of(made, left_out))
    split = {"held_out_factors": left_out, "test_donors": sorted(tested.tolist())}
    (folder / "split.json").write_text(json.dumps(split, indent=1) + "\n")


def features_file(folder: Path, pool: str) -> Path:
    return folder / f"features of {pool}.safetensors".replace(" ", "_")


def _split_cells(folder: Path, tested: Sequence[str]) -> None:
    import anndata

    cells = anndata.read_h5ad(folder / "world" / "cells.h5ad")
    is_tested = cells.obs["donor"].isin(tested).to_numpy()
    cells[~is_tested].copy().write_h5ad(folder / "train.h5ad")
    cells[is_tested].copy().write_h5ad(folder / "held_out.h5ad")


def without_donors_of(features: GeneFeatures, genes: Sequence[str]) -> GeneFeatures:
    """All donors have the reference's promoter at these genes, and what they had is in no row."""
    assert features.donor_features is not None
    assert features.donor_feature_genes is not None and features.donor_feature_index is not None
    is_left_out = np.isin(features.gene_ids, list(genes))
    kept = ~is_left_out[features.donor_feature_genes]
    number = np.where(kept, np.cumsum(kept) - 1, REFERENCE)
    known = features.donor_feature_index != REFERENCE
    index = np.where(known, number[features.donor_feature_index], REFERENCE).astype(np.int32)
    return replace(
        features,
        donor_features=features.donor_features[kept],
        donor_feature_genes=features.donor_feature_genes[kept],
        donor_feature_index=index,
    )


def factor_edits(folder: Path, factors: Sequence[str], *, seed: int, neutral_draws: int) -> dict[str, FactorEdits]:
    """The edits of each factor, in a world that `prepare_world` has made."""
    world = folder / "world"
    tss = read_tss(world / "genes.gtf").set_index("gene_id", drop=False).loc[list(factors)]
    promoter_bp = json.loads((world / "simulation.json").read_text())["promoter_bp"]
    variants = read_variants(world / "variants.vcf")
    edits = {}
    with open_genome(world / "genome.fa") as genome:
        windows = promoter_windows(genome, tss, window_bp=WINDOW_BP)
        for row, gene in enumerate(windows.genes.itertuples()):
            reference = windows.sequence(row).decode()
            near = variants[(variants.contig == gene.contig) & variants.position.between(gene.start, gene.end - 1)]
            alleles = [(one.position - gene.start, one.alternative) for one in near.itertuples()]
            generator = np.random.default_rng([seed, row])
            broken = break_motifs(reference, generator)
            count = sum(one != other for one, other in zip(reference, broken, strict=True))
            edits[str(gene.gene_id)] = FactorEdits(
                reference,
                break_motifs_by_alleles(reference, alleles),
                broken,
                [change_elsewhere(reference, count, promoter_bp, generator) for _ in range(neutral_draws)],
            )
    return edits


def read_variants(path: Path) -> pd.DataFrame:
    """contig, position (0-based), reference, alternative, of a VCF of single bases."""
    with path.open() as file:
        n_header = sum(line.startswith("##") for line in file)
    table = pd.read_csv(path, sep="\t", skiprows=n_header, usecols=["#CHROM", "POS", "REF", "ALT"])
    table = table.set_axis(["contig", "position", "reference", "alternative"], axis=1)
    return table.assign(position=table.position - 1)


def break_motifs(sequence: str, generator: np.random.Generator) -> str:
    """One base of every intact motif becomes another, at random."""
    letters = list(sequence)
    for start in motif_starts(sequence):
        place = start + int(generator.integers(len(MOTIF)))
        letters[place] = str(generator.choice([base for base in BASES if base != sequence[place]]))
    return "".join(letters)


def break_motifs_by_alleles(sequence: str, alleles: Sequence[tuple[int, str]]) -> str:
    """The alleles (place, letter) that lie in an intact motif, and break it, all at once."""
    letters = list(sequence)
    inside = {place for start in motif_starts(sequence) for place in range(start, start + len(MOTIF))}
    for place, allele in alleles:
        if place in inside:
            letters[place] = allele
    return "".join(letters)


def change_elsewhere(sequence: str, count: int, promoter_bp: int, generator: np.random.Generator) -> str:
    """`count` bases of the promoter become others, at random, none in an intact motif, and none that makes one."""
    first = len(sequence) // 2 - promoter_bp // 2
    is_free = np.zeros(len(sequence), dtype=bool)
    is_free[first : first + promoter_bp] = True
    for start in motif_starts(sequence):
        is_free[start : start + len(MOTIF)] = False
    while True:
        letters = list(sequence)
        for place in generator.choice(np.flatnonzero(is_free), count, replace=False):
            letters[place] = str(generator.choice([base for base in BASES if base != sequence[place]]))
        changed = "".join(letters)
        if motif_starts(changed) == motif_starts(sequence):
            return changed


def motif_starts(sequence: str) -> list[int]:
    """Where intact motifs begin; they do not overlap."""
    motif, starts = MOTIF.decode(), []
    start = sequence.find(motif)
    while start >= 0:
        starts.append(start)
        start = sequence.find(motif, start + len(motif))
    return starts


def read_truth(folder: Path) -> dict[str, list[str]]:
    """factor -> its direct targets, gene ids."""
    network = pd.read_csv(folder / "world" / "truth.tsv", sep="\t")
    return {str(factor): sorted(edges.target) for factor, edges in network.groupby("factor")}
