"""The folder of aligned, binned cells, read back: values, counts, labels, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from omics_transformers.training.multiome_data import UNKNOWN, read_multiome


@pytest.fixture(scope="module")
def table(toy_multiome: Path):
    return pq.read_table(toy_multiome / "data")


def test_values_are_those_of_the_rows_in_any_order(toy_multiome: Path, table) -> None:
    cells = read_multiome(toy_multiome).cells
    random = np.random.default_rng(1)
    for modality in ("rna", "atac"):
        rows = random.permutation(np.flatnonzero(cells.has(modality)))[:150]
        expected = np.array([table.column(f"{modality}_values")[int(row)].as_py() for row in rows])
        assert np.array_equal(cells.values(rows, modality), expected)
        assert cells.values(rows, modality).dtype == np.uint8
        assert cells.values([], modality).shape == (0, 40)


def test_counts_are_those_of_the_rows(toy_multiome: Path, table) -> None:
    cells = read_multiome(toy_multiome).cells
    rows = [319, 200, 201]
    for modality in ("rna", "atac"):
        dense = np.zeros((3, 40))
        for place, row in enumerate(rows):
            genes, counts = (table.column(f"{modality}_{what}")[row].as_py() for what in ("genes", "counts"))
            dense[place, genes] = counts
        assert np.array_equal(cells.counts(rows, modality).toarray(), dense)


def test_modalities_and_labels(toy_multiome: Path) -> None:
    folder = read_multiome(toy_multiome)
    cells = folder.cells
    assert (cells.has_rna.sum(), cells.has_atac.sum(), (cells.has_rna & cells.has_atac).sum()) == (240, 200, 120)
    assert cells.dataset_names == ["rna-only", "atac-only", "paired"]
    codes, names = cells.labels("cell_type")
    assert names == ["type0", "type1", "type2", "type3"]
    assert np.flatnonzero(codes == UNKNOWN).tolist() == [119]
    assert codes[[0, 1, 120, 203]].tolist() == [0, 1, 0, 3]
    codes, names = cells.labels("dataset")
    assert [names[code] for code in codes[[0, 120, 319]]] == ["rna-only", "atac-only", "paired"]
    assert folder.num_value_bins == 5


def test_absent_modality_and_label_are_named(toy_multiome: Path) -> None:
    cells = read_multiome(toy_multiome).cells
    with pytest.raises(ValueError, match=r"2 of 3 cells have no ATAC, the first rna-only-3 of rna-only"):
        cells.values([3, 4, 130], "atac")
    with pytest.raises(ValueError, match="no label of cells; expected one of cell_type, donor, batch, dataset"):
        cells.labels("tissue")


def test_other_folders_are_refused(toy_multiome: Path, toy_regions: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder of multiome at .*expected one that `build multiome` wrote"):
        read_multiome(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"has no multiome\.json"):
        read_multiome(toy_regions)
    copy = tmp_path / "multiome_of_other_genes"
    shutil.copytree(toy_multiome, copy)
    described = json.loads((copy / "multiome.json").read_text())
    described["gene_ids"].pop()
    (copy / "multiome.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="expected lists of 39 uint8, as many as genes"):
        read_multiome(copy)
    (copy / "multiome.json").write_text("{}")
    with pytest.raises(ValueError, match="lacks gene_ids, gene_symbols, feature_extractor"):
        read_multiome(copy)


def test_folder_without_counts_says_so(toy_multiome: Path, tmp_path: Path) -> None:
    copy = tmp_path / "multiome_without_counts"
    shutil.copytree(toy_multiome, copy)
    path = copy / "data" / "train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["rna_genes", "rna_counts", "atac_genes", "atac_counts"]), path)
    card = (copy / "README.md").read_text()
    (copy / "README.md").write_text(card.replace("toy_multiome", "toy_multiome_without_counts"))
    cells = read_multiome(copy).cells
    assert not cells.has_counts
    with pytest.raises(ValueError, match="holds bins and no counts"):
        cells.counts([0], "rna")
