"""The simulated world: its files agree with one another, its truth shows in its cells, and its seed fixes its bytes."""

import json
from dataclasses import asdict
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from omics_transformers.data_scripts.simulated_regulome import (
    MOTIF,
    Regulome,
    RegulomeSettings,
    draw_regulome,
    simulate_regulome,
)

SMALL = {"n_genes": 24, "n_factors": 2, "targets_per_factor": 4, "n_donors": 20, "n_cells": 2_000, "promoter_bp": 512}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Regulome]:
    folder = tmp_path_factory.mktemp("world") / "regulome"
    return folder, simulate_regulome(folder, seed=3, **SMALL)


def read_fasta(path: Path) -> dict[str, str]:
    records = path.read_text().split(">")[1:]
    return {record.split("\n", 1)[0]: record.split("\n", 1)[1].replace("\n", "") for record in records}


def read_variants(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", skiprows=lambda line: line < 6)


def motif_copies(sequence: str) -> int:
    return sequence.count(MOTIF.decode())


def test_the_same_seed_gives_the_same_bytes(world: tuple[Path, Regulome], tmp_path: Path) -> None:
    folder, _ = world
    simulate_regulome(tmp_path / "again", seed=3, **SMALL)
    simulate_regulome(tmp_path / "other", seed=4, **SMALL)
    names = {path.name for path in folder.iterdir()}
    assert names >= {"genome.fa", "genes.gtf", "variants.vcf", "cells.h5ad", "truth.tsv"}
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
        assert (folder / name).read_bytes() != (tmp_path / "other" / name).read_bytes(), name


def test_reference_alleles_stand_in_the_genome(world: tuple[Path, Regulome]) -> None:
    folder, _ = world
    genome = read_fasta(folder / "genome.fa")
    variants = read_variants(folder / "variants.vcf")
    assert len(variants) == 2 * 4 + 24
    for variant in variants.itertuples():
        assert genome[variant[1]][variant.POS - 1] == variant.REF
        assert variant.REF != variant.ALT


def test_intact_motifs_are_those_that_the_donors_sequences_hold(world: tuple[Path, Regulome]) -> None:
    """Counted independently: variants applied to the written genome, motifs counted in the written sequence."""
    folder, regulome = world
    genome, variants = read_fasta(folder / "genome.fa"), read_variants(folder / "variants.vcf")
    activity = pd.read_csv(folder / "donor_activity.tsv", sep="\t", index_col="donor")
    half = SMALL["promoter_bp"] // 2
    for donor in list(activity.index)[:5]:
        for gene in regulome.genes[regulome.genes.is_factor].itertuples():
            copies = []
            for haplotype in (0, 1):
                letters = list(genome[gene.contig])
                for variant in variants[variants["#CHROM"] == gene.contig].itertuples():
                    if variants.at[variant.Index, donor].split("|")[haplotype] == "1":
                        letters[variant.POS - 1] = variant.ALT
                copies.append(motif_copies("".join(letters)[gene.tss - half : gene.tss + half]))
            assert activity.at[donor, gene.gene_id] == np.mean(copies)


def test_annotation_gives_each_gene_its_start_site(world: tuple[Path, Regulome]) -> None:
    folder, regulome = world
    columns = ["contig", "source", "feature", "first", "last", "score", "strand", "frame", "attributes"]
    table = pd.read_csv(folder / "genes.gtf", sep="\t", comment="#", names=columns)
    transcripts = table[table.feature == "transcript"]
    start = np.where(transcripts.strand == "+", transcripts["first"] - 1, transcripts["last"] - 1)
    assert start.tolist() == regulome.genes.tss.tolist()
    assert transcripts.attributes.str.extract('gene_id "([^"]+)"')[0].tolist() == regulome.genes.gene_id.tolist()


def test_a_factors_activity_shows_in_its_targets_and_in_no_other_gene(world: tuple[Path, Regulome]) -> None:
    folder, _ = world
    cells, truth = anndata.read_h5ad(folder / "cells.h5ad"), pd.read_csv(folder / "truth.tsv", sep="\t")
    activity = pd.read_csv(folder / "donor_activity.tsv", sep="\t", index_col="donor")
    is_on = pd.DataFrame(cells.X.toarray() > 0, columns=cells.var_names).groupby(cells.obs.donor.to_numpy()).mean()
    others = set(cells.var_names) - set(truth.factor) - set(truth.target)
    for factor, edges in truth.groupby("factor"):
        correlation = is_on.corrwith(activity[factor].reindex(is_on.index))
        assert (np.sign(correlation[edges.target].to_numpy()) == np.sign(edges.weight)).all()
        assert correlation[edges.target].abs().min() > correlation[sorted(others)].abs().median()


@pytest.mark.parametrize("effect", [0.0, 0.6, 1.0])
def test_a_factors_expression_follows_its_dna_as_far_as_asked(effect: float) -> None:
    """Read from counts: a donor's mean level of each factor beside its intact motifs, and its targets beside both."""
    settings = RegulomeSettings(n_donors=1_000, n_cells=20_000, cell_noise=0.1, dna_effect=effect)
    regulome = draw_regulome(settings, seed=1)
    values = pd.DataFrame(np.log1p(regulome.counts.toarray()), columns=regulome.genes.gene_id)
    means = values.groupby(regulome.donor_of_cell).mean()
    motifs = pd.DataFrame(regulome.intact_motifs, columns=regulome.genes.gene_id)
    for factor, edges in regulome.network.groupby("factor"):
        targets = means[edges.target] @ np.sign(edges.weight.to_numpy())
        assert np.corrcoef(targets, motifs[factor])[0, 1] == pytest.approx(effect, abs=0.13)
        assert np.corrcoef(targets, means[factor])[0, 1] > 0.7  # the network is there whatever DNA says


def test_without_the_setting_the_world_is_as_it_was() -> None:
    """All of DNA's effect draws nothing more: the world of earlier results stays the same."""
    counts = draw_regulome(RegulomeSettings(**SMALL), seed=3).counts  # type: ignore[arg-type]
    other = draw_regulome(RegulomeSettings(**SMALL, dna_effect=0.0), seed=3).counts  # type: ignore[arg-type]
    assert (counts.sum(), (counts != other).nnz > 0) == (535_997, True)


def test_places_and_names_do_not_tell_the_truth(world: tuple[Path, Regulome]) -> None:
    """Which genes are factors or targets is drawn apart from their order in the files."""
    regulome = draw_regulome(RegulomeSettings(n_genes=400, n_factors=20, targets_per_factor=9), seed=0)
    place = pd.Series(range(400), index=regulome.genes.gene_id)
    distance = place[regulome.network.target].to_numpy() - place[regulome.network.factor].to_numpy()
    assert abs(np.corrcoef(np.abs(distance), regulome.network.weight)[0, 1]) < 0.3
    assert regulome.network.target.is_unique and not set(regulome.network.target) & set(regulome.network.factor)


def test_nothing_half_is_left_and_nothing_is_overwritten_unasked(world: tuple[Path, Regulome], tmp_path: Path) -> None:
    folder, _ = world
    with pytest.raises(FileExistsError, match="overwrite"):
        simulate_regulome(folder, seed=3, **SMALL)
    simulate_regulome(tmp_path / "new", seed=3, **SMALL)
    simulate_regulome(tmp_path / "new", seed=5, overwrite=True, **SMALL)
    assert json.loads((tmp_path / "new" / "simulation.json").read_text())["seed"] == 5
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_genes": 10}, "need 45 genes, and n_genes is 10"),
        ({"n_cells": 5}, "n_cells=5"),
        ({"promoter_bp": 64}, "promoter_bp is 64"),
        ({"expressed_fraction": 1.0}, "expressed_fraction is 1.0"),
        ({"dna_effect": -0.5}, "dna_effect is -0.5"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RegulomeSettings(**settings)


def test_the_documentation_lists_every_setting_with_its_default() -> None:
    page = (Path(__file__).parents[1] / "docs" / "simulated_world.md").read_text().replace("\n", " ")
    for name, value in asdict(RegulomeSettings()).items():
        assert f"`{name}` {value:g}" in page or f"`{name}` {value}" in page, name
