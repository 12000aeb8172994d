"""The files of the simulated world: readable as real data are, in agreement, and fixed by the seed."""

import gzip
import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from omics_transformers.data_scripts.accessibility_inputs import AccessibilityReading, read_accessibility
from omics_transformers.data_scripts.accessibility_sources import AccessibilitySource
from omics_transformers.data_scripts.accessible_world import AccessibleWorld
from omics_transformers.data_scripts.genome_files import GenomeFiles
from omics_transformers.data_scripts.simulated_accessibility import CONTIGS, simulate_accessibility

SMALL = {"contigs": {"chrA": 40, "chrB": 10}, "cells_per_type": 25}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AccessibleWorld]:
    folder = tmp_path_factory.mktemp("world") / "accessibility"
    return folder, simulate_accessibility(folder, seed=3, **SMALL)


def read_fragments(folder: Path) -> pd.DataFrame:
    names = ["contig", "start", "end", "cell", "reads"]
    return pd.read_csv(folder / "fragments.tsv.gz", sep="\t", names=names)


def test_the_same_seed_gives_the_same_bytes(made: tuple[Path, AccessibleWorld], tmp_path: Path) -> None:
    folder, _ = made
    simulate_accessibility(tmp_path / "again", seed=3, **SMALL)
    simulate_accessibility(tmp_path / "other", seed=4, **SMALL)
    names = {path.name for path in folder.iterdir()}
    assert names == {path.name for path in (tmp_path / "again").iterdir()}
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
        if name != "cells.tsv":
            assert (folder / name).read_bytes() != (tmp_path / "other" / name).read_bytes(), name


def test_the_files_say_what_is_true(made: tuple[Path, AccessibleWorld]) -> None:
    folder, world = made
    with GenomeFiles(folder / "genome.fa") as genome:
        assert genome.contigs == {"chrA": 40 * 600, "chrB": 10 * 600}
    text = (folder / "genome.fa").read_text().split(">chrB\n")[1].replace("\n", "")
    assert text == world.contigs["chrB"].tobytes().decode()
    truth = pd.read_csv(folder / "truth.tsv", sep="\t")
    pd.testing.assert_frame_equal(truth, world.peaks.drop(columns="span"), check_dtype=False)
    bed = pd.read_csv(folder / "peaks.bed", sep="\t", names=["contig", "start", "end", "peak"])
    pd.testing.assert_frame_equal(bed, truth[["contig", "start", "end", "peak"]])
    cells = anndata.read_h5ad(folder / "cells.h5ad")
    assert cells.var_names.tolist() == truth.peak.tolist()
    assert (world.reads != cells.X).nnz == 0
    labels = pd.read_csv(folder / "cells.tsv", sep="\t", index_col="barcode").cell_type
    assert labels.to_dict() == cells.obs.cell_type.to_dict() and set(labels) == {"alpha", "beta"}
    said = json.loads((folder / "simulation.json").read_text())
    assert (said["seed"], said["cells_per_type"], said["contigs"]) == (3, 25, SMALL["contigs"])
    assert said["order_kept"] == world.order_kept
    assert said["fragments"] == world.fragments.sum() == len(read_fragments(folder))


def test_fragments_are_those_that_the_reads_are_ends_of(made: tuple[Path, AccessibleWorld]) -> None:
    folder, world = made
    fragments = read_fragments(folder)
    assert (fragments.end - fragments.start >= 2).all() and (fragments.start >= 0).all()
    for _, of_contig in fragments.groupby("contig"):
        assert of_contig.start.is_monotonic_increasing
    assert fragments.contig.unique().tolist() == ["chrA", "chrB"]
    cell = fragments.cell.str.removeprefix("cell").astype(int)
    ends = np.zeros(world.reads.shape, dtype=np.int64)
    overlapping = np.zeros_like(ends)
    for number, peak in enumerate(world.peaks.itertuples()):
        on_contig = fragments.contig == peak.contig
        overlaps = on_contig & (fragments.start < peak.end) & (fragments.end > peak.start)
        np.add.at(overlapping[:, number], cell[overlaps], 1)
        for place in (fragments.start, fragments.end - 1):  # where the transposase cut
            inside = on_contig & (place >= peak.start) & (place < peak.end)
            np.add.at(ends[:, number], cell[inside], 1)
    np.testing.assert_array_equal(overlapping, world.fragments.toarray())
    np.testing.assert_array_equal(ends, world.reads.toarray())


def test_both_inputs_are_read_as_the_same_accessibility(made: tuple[Path, AccessibleWorld]) -> None:
    folder, world = made
    from_fragments = AccessibilitySource(
        folder / "fragments.tsv.gz", peaks=folder / "peaks.bed", labels=folder / "cells.tsv"
    )
    reading = AccessibilityReading(minimum_cell_share=0.0)
    for source in (folder / "cells.h5ad", from_fragments):
        found = read_accessibility(source, reading)
        assert found.cell_types == ["alpha", "beta"]
        for number in range(2):
            expected = np.asarray(world.fragments[world.type_of_cell == number].mean(axis=0)).ravel()
            np.testing.assert_allclose(found.means[number], expected)


def test_gzip_holds_no_time_and_no_name(made: tuple[Path, AccessibleWorld]) -> None:
    head = (made[0] / "fragments.tsv.gz").read_bytes()[:10]
    assert head[:2] == b"\x1f\x8b" and head[3] == 0 and head[4:8] == bytes(4)
    with gzip.open(made[0] / "fragments.tsv.gz", "rt") as file:
        assert len(next(file).split("\t")) == 5


def test_replaces_a_folder_only_when_told_to(made: tuple[Path, AccessibleWorld], tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="overwrite"):
        simulate_accessibility(made[0], seed=0)
    with pytest.raises(ValueError, match="gc_share is 2"):
        simulate_accessibility(tmp_path / "world", seed=0, gc_share=2)
    with pytest.raises(TypeError, match="colour"):
        simulate_accessibility(tmp_path / "world", seed=0, colour=1)
    assert not (tmp_path / "world").exists()
    simulate_accessibility(tmp_path / "world", seed=0, **SMALL)
    simulate_accessibility(tmp_path / "world", seed=1, overwrite=True, **SMALL)
    assert json.loads((tmp_path / "world" / "simulation.json").read_text())["seed"] == 1
    assert not list(tmp_path.glob("*.partial"))
    assert len(CONTIGS) == 7  # five of them to test, so that intervals come from contigs
