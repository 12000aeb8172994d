"""The simulated multiome: links within reach, genes that follow their peaks, types that can be told, a fixed seed."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from omics_transformers.data_scripts.multiome_world import (
    DATASETS,
    MultiomeSettings,
    MultiomeWorld,
    draw_multiome,
    gene_correlations,
    log_activity,
)

SETTINGS = MultiomeSettings(
    n_genes=80, n_contigs=3, n_unlinked_peaks=200, n_rna_cells=200, n_atac_cells=150, n_paired_cells=900
)


@pytest.fixture(scope="module")
def world() -> MultiomeWorld:
    return draw_multiome(SETTINGS, seed=5)


def places(world: MultiomeWorld) -> tuple[np.ndarray, np.ndarray]:
    peak = pd.Index(world.peaks.peak).get_indexer(world.links.peak)
    return peak, pd.Index(world.genes.gene_id).get_indexer(world.links.gene)


def paired(world: MultiomeWorld) -> tuple[np.ndarray, np.ndarray]:
    rna, fragments = (matrix[-SETTINGS.n_paired_cells :].toarray() for matrix in (world.rna, world.fragments))
    return log_activity(rna), log_activity(fragments)


def test_links_lie_within_reach_and_on_the_gene_s_contig(world: MultiomeWorld) -> None:
    peak, gene = places(world)
    peaks, genes = world.peaks.iloc[peak].reset_index(drop=True), world.genes.iloc[gene].reset_index(drop=True)
    assert (peaks.contig == genes.contig).all() and set(genes.strand) == {"+", "-"}
    for number, link in enumerate(world.links.itertuples()):
        tss = genes.start[number] if genes.strand[number] == "+" else genes.end[number] - 1
        nearest = min(abs(base - tss) for base in range(peaks.start[number], peaks.end[number]))
        assert link.distance == nearest < SETTINGS.link_reach_bp
    by_gene = world.links.groupby("gene")
    assert set(by_gene.size()) == {1, 2, 3, 4} and by_gene.ngroups == SETTINGS.n_genes
    np.testing.assert_allclose(by_gene.weight.sum(), 1, atol=1e-6)
    assert not world.links.peak.duplicated().any()
    assert len(world.peaks) == len(world.links) + SETTINGS.n_unlinked_peaks


def test_peaks_are_disjoint_and_genes_within_their_contigs(world: MultiomeWorld) -> None:
    for _, peaks in world.peaks.groupby("contig"):
        assert (peaks.start.to_numpy()[1:] > peaks.end.to_numpy()[:-1]).all()
    assert (world.peaks.start >= 0).all() and (world.genes.start >= 0).all()
    assert (world.genes.groupby("contig").size() >= 26).all()


def test_a_gene_s_rna_follows_its_own_peaks_far_more_than_others(world: MultiomeWorld) -> None:
    peak, gene = places(world)
    rna, atac = paired(world)
    linked = gene_correlations(atac[:, peak], rna[:, gene])
    others = gene_correlations(atac[:, peak], rna[:, (gene + 7) % SETTINGS.n_genes])
    assert np.nanmean(linked) > 0.2 > 0.05 > abs(np.nanmean(others))
    strong = world.links.weight > 0.8
    assert np.nanmean(linked[strong]) > np.nanmean(linked[~strong])


def test_a_gene_follows_its_peaks_within_a_type_too(world: MultiomeWorld) -> None:
    peak, gene = places(world)
    rna, atac = paired(world)
    types = world.cells.cell_type[world.cells.dataset == "paired"].to_numpy()
    within = [gene_correlations(atac[types == name][:, peak], rna[types == name][:, gene]) for name in set(types)]
    assert np.nanmean(within) > 0.15


def test_types_can_be_told_from_either_modality(world: MultiomeWorld) -> None:
    """By the nearest mean of other cells."""
    types = world.cells.cell_type[world.cells.dataset == "paired"].to_numpy()
    names, is_train = np.unique(types), np.arange(len(types)) % 2 == 0
    for values in paired(world):
        means = np.stack([values[is_train & (types == name)].mean(axis=0) for name in names])
        told = names[cdist(values[~is_train], means).argmin(axis=1)]
        assert (told == types[~is_train]).mean() > 0.45  # chance is below 0.3


def test_every_data_set_has_each_type_and_donor_in_their_shares(world: MultiomeWorld) -> None:
    assert world.cells.index.is_unique
    for name in DATASETS:
        cells = world.cells[world.cells.dataset == name]
        by_type = cells.cell_type.value_counts()
        assert len(by_type) == SETTINGS.n_types and 2.5 < by_type.max() / by_type.min() < 3.5
        assert np.ptp(cells.donor.value_counts()) <= 1
        assert set(cells.batch) == {f"{name}_1", f"{name}_2"}


def test_batches_differ_by_their_effect_only() -> None:
    sizes: dict[str, Any] = {"n_genes": 40, "n_unlinked_peaks": 20, "n_rna_cells": 1_500, "n_paired_cells": 10}
    differences = []
    for effect in (0.0, 0.5):
        world = draw_multiome(MultiomeSettings(**sizes, n_atac_cells=0, batch_effect=effect), seed=1)
        batch = world.cells.batch[:1_500].to_numpy()
        means = [np.log(world.rna[:1_500][batch == name].mean(axis=0)) for name in ("rna_1", "rna_2")]
        differences.append(float(np.std(means[0] - means[1])))
    assert differences[0] < 0.12 and differences[1] > 0.4


def test_counts_are_sparse_reads_of_fragments(world: MultiomeWorld) -> None:
    assert world.rna.shape == (1_100, 80) and world.fragments.shape == (1_050, len(world.peaks))
    assert (world.rna.data > 0).all() and (world.fragments.data > 0).all()
    missing = 2 * world.fragments.data - world.reads.data
    assert set(np.unique(missing)) == {0, 1} and 0.15 < missing.mean() < 0.25
    assert 0.1 < world.fragments.nnz / np.prod(world.fragments.shape) < 0.5
    depths = np.log(np.asarray(world.rna.sum(axis=1)).ravel())
    assert 0.2 < depths.std() < 0.6


def test_the_oracle_bounds_what_a_linear_predictor_reaches(world: MultiomeWorld) -> None:
    assert 0.1 < world.oracle.cell_type < world.oracle.state < 0.8
    assert world.expected_activity.shape == (900, 80)


def test_the_same_seed_gives_the_same_world(world: MultiomeWorld) -> None:
    again, other = draw_multiome(SETTINGS, seed=5), draw_multiome(SETTINGS, seed=6)
    pd.testing.assert_frame_equal(world.links, again.links)
    pd.testing.assert_frame_equal(world.cells, again.cells)
    for name in ("rna", "reads"):
        assert (getattr(world, name) != getattr(again, name)).nnz == 0
        assert getattr(world, name).nnz != getattr(other, name).nnz
    assert world.oracle == again.oracle


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"n_genes": 0}, "n_genes is 0: expected one or more"),
        ({"shared_share": 1.2}, "shared_share is 1.2: expected a share"),
        ({"mean_counts": 0.0}, "mean_counts is 0.0: expected more than 0"),
        ({"n_rna_cells": -1}, "n_rna_cells is -1: expected 0 or more"),
        ({"n_types": 1}, "expected two types or more"),
        ({"gene_spacing_bp": 10_000}, "gene_spacing_bp is 10000: expected 42000 or more"),
        ({"link_reach_bp": 1_000, "maximum_links": 3}, "room for 1 peaks, and maximum_links is 3"),
        ({"n_genes": 10, "n_unlinked_peaks": 5_000}, "the genome has room for 1160"),
    ],
)
def test_settings_that_do_not_fit(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MultiomeSettings(**settings)


def test_correlations_are_numpy_s() -> None:
    random = np.random.default_rng(0)
    left, right = random.normal(size=(2, 30, 4))
    right[:, 3] = 0.1  # whose mean is not exact
    expected = [np.corrcoef(left[:, gene], right[:, gene])[0, 1] for gene in range(3)]
    found = gene_correlations(left, right)
    np.testing.assert_allclose(found[:3], expected)
    assert np.isnan(found[3])
