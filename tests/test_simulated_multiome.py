"""The files of the simulated multiome: readable as real data are, in agreement, and fixed by the seed."""

import json
from pathlib import Path
from typing import Any

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest

from omics_transformers.data_scripts.count_files import open_counts
from omics_transformers.data_scripts.gene_identifiers import resolve_genes
from omics_transformers.data_scripts.multiome_world import MultiomeWorld
from omics_transformers.data_scripts.peak_names import read_peaks
from omics_transformers.data_scripts.simulated_multiome import simulate_multiome

SMALL: dict[str, Any] = {
    "n_genes": 30,
    "n_unlinked_peaks": 40,
    "n_rna_cells": 60,
    "n_atac_cells": 50,
    "n_paired_cells": 70,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MultiomeWorld]:
    folder = tmp_path_factory.mktemp("world") / "multiome"
    return folder, simulate_multiome(folder, seed=3, **SMALL)


def test_the_same_seed_gives_the_same_bytes(made: tuple[Path, MultiomeWorld], tmp_path: Path) -> None:
    folder, _ = made
    simulate_multiome(tmp_path / "again", seed=3, **SMALL)
    simulate_multiome(tmp_path / "other", seed=4, **SMALL)
    names = {path.name for path in folder.iterdir()}
    assert names == {"genes.gtf", "rna.h5ad", "atac.h5ad", "paired.h5mu", "truth.tsv", "simulation.json"}
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
        assert (folder / name).read_bytes() != (tmp_path / "other" / name).read_bytes(), name


def test_single_modality_files_hold_the_counts_and_labels(made: tuple[Path, MultiomeWorld]) -> None:
    folder, world = made
    rna, atac = (anndata.read_h5ad(folder / name) for name in ("rna.h5ad", "atac.h5ad"))
    assert (world.rna[:60] != rna.X).nnz == 0 and (world.reads[:50] != atac.X).nnz == 0
    assert (
        rna.var_names.tolist() == world.genes.gene_id.tolist() and atac.var_names.tolist() == world.peaks.peak.tolist()
    )
    for file, dataset in ((rna, "rna"), (atac, "atac")):
        truth = world.cells[world.cells.dataset == dataset].drop(columns="dataset")
        pd.testing.assert_frame_equal(file.obs.astype(object), truth.astype(object))


def test_the_paired_file_holds_both_of_the_same_cells(made: tuple[Path, MultiomeWorld]) -> None:
    folder, world = made
    with mudata.set_options(pull_on_update=False):
        both = mudata.read_h5mu(folder / "paired.h5mu")
    assert both["rna"].obs_names.equals(both["atac"].obs_names) and both.n_obs == 70
    assert (world.rna[60:] != both["rna"].X).nnz == 0 and (world.reads[50:] != both["atac"].X).nnz == 0
    assert {"cell_type", "donor", "batch"} <= set(both.obs.columns)


def test_this_package_s_readers_take_the_files(made: tuple[Path, MultiomeWorld]) -> None:
    folder, world = made
    for name in ("rna.h5ad", "paired.h5mu"):
        with open_counts(folder / name, modality="rna") as file:
            genes = resolve_genes(file.gene_index)
            assert genes.gene_ids.tolist() == world.genes.gene_id.tolist()
            assert genes.symbols[world.genes.gene_id[0]] == "GENE1"
            assert "cell_type" in file.obs
    with open_counts(folder / "paired.h5mu", modality="atac") as file:
        peaks = read_peaks(file.gene_index)
        assert peaks.start.tolist() == world.peaks.start.tolist() and peaks.end.tolist() == world.peaks.end.tolist()


def test_genes_and_links_as_written(made: tuple[Path, MultiomeWorld]) -> None:
    folder, world = made
    lines = [line.split("\t") for line in (folder / "genes.gtf").read_text().splitlines()[1:]]
    genes = [line for line in lines if line[2] == "gene"]
    assert [int(line[3]) - 1 for line in genes] == world.genes.start.tolist()
    assert [int(line[4]) for line in genes] == world.genes.end.tolist()
    assert [line[6] for line in genes] == world.genes.strand.tolist()
    assert all(f'gene_id "{gene}"' in line[8] for gene, line in zip(world.genes.gene_id, genes, strict=True))
    pd.testing.assert_frame_equal(pd.read_csv(folder / "truth.tsv", sep="\t"), world.links)
    said = json.loads((folder / "simulation.json").read_text())
    assert (said["seed"], said["n_genes"], said["links"]) == (3, 30, len(world.links))
    np.testing.assert_allclose(said["oracle"]["state"], world.oracle.state)


def test_a_data_set_without_cells_is_not_written(tmp_path: Path) -> None:
    simulate_multiome(tmp_path / "world", seed=0, **{**SMALL, "n_rna_cells": 0, "n_atac_cells": 0})
    assert not (tmp_path / "world" / "rna.h5ad").exists() and (tmp_path / "world" / "paired.h5mu").exists()


def test_an_existing_folder_is_kept(made: tuple[Path, MultiomeWorld]) -> None:
    with pytest.raises(FileExistsError, match="pass overwrite"):
        simulate_multiome(made[0], seed=3, **SMALL)
