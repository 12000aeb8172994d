"""Every storage of counts gives the same matrix, and every damaged file an error that names it."""

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

from omics_transformers.data_scripts.count_files import open_counts

N_CELLS, N_GENES = 30, 12


@pytest.fixture
def cells() -> anndata.AnnData:
    counts = np.random.default_rng(0).poisson(0.7, (N_CELLS, N_GENES)).astype(np.float32)
    obs = pd.DataFrame({"disease": ["normal", "cancer"] * 15}, index=[f"cell{i}" for i in range(N_CELLS)])
    var = pd.DataFrame({"gene_symbols": [f"GENE{i}" for i in range(N_GENES)]})
    var.index = [f"ENSG{i:011d}" for i in range(N_GENES)]
    return anndata.AnnData(sp.csr_matrix(counts), obs=obs, var=var)


def dense(path, chunk_cells=7, **options):
    """All counts of a file, read in chunks."""
    with open_counts(path, **options) as file:
        chunks = list(file.chunks(chunk_cells))
        assert [start for start, _ in chunks] == list(range(0, file.n_cells, chunk_cells))
        return np.vstack([chunk.toarray() for _, chunk in chunks])


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
@pytest.mark.parametrize("storage", [sp.csr_matrix, sp.csc_matrix, np.asarray])
def test_h5ad_in_every_storage(cells, tmp_path, storage, compression):
    counts = cells.X.toarray()
    cells.X = storage(counts)
    cells.write_h5ad(tmp_path / "cells.h5ad", compression=compression)
    np.testing.assert_array_equal(dense(tmp_path / "cells.h5ad"), counts)
    with open_counts(tmp_path / "cells.h5ad") as file:
        assert file.obs.index.tolist() == cells.obs_names.tolist()
        assert file.obs["disease"].tolist() == cells.obs["disease"].tolist()
        assert file.gene_index.index.tolist() == cells.var_names.tolist()
        assert file.n_cells == N_CELLS


def test_layer_and_raw(cells, tmp_path):
    counts = cells.X.toarray()
    cells.layers["counts"] = sp.csr_matrix(counts * 2)
    cells.raw = cells.copy()
    cells = cells[:, :5].copy()
    cells.write_h5ad(tmp_path / "cells.h5ad")
    np.testing.assert_array_equal(dense(tmp_path / "cells.h5ad", layer="counts"), counts[:, :5] * 2)
    np.testing.assert_array_equal(dense(tmp_path / "cells.h5ad", use_raw=True), counts)
    with open_counts(tmp_path / "cells.h5ad", use_raw=True) as file:
        assert len(file.gene_index) == N_GENES
        assert file.other_matrices == ("X", "layers/counts")


def test_h5mu_modality_and_common_obs(cells, tmp_path):
    path = tmp_path / "cells.h5mu"
    reversed_obs = cells.obs[::-1].assign(donor=np.arange(N_CELLS)[::-1])
    del cells.obs["disease"]
    with h5py.File(path, "w") as file:
        anndata.io.write_elem(file, "mod/rna", cells)
        anndata.io.write_elem(file, "obs", reversed_obs)
    np.testing.assert_array_equal(dense(path), cells.X.toarray())
    with open_counts(path) as opened:
        assert opened.obs["donor"].tolist() == list(range(N_CELLS))
    with pytest.raises(ValueError, match=r"no modality 'atac'; it has \['rna'\]"):
        open_counts(path, modality="atac")


def write_tenx(path, cells, version):
    counts = sp.csr_matrix(cells.X)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if version == 3 else "GRCh38")
        group["barcodes"] = cells.obs_names.to_numpy().astype("S")
        for name, values in (("data", counts.data.astype("i4")), ("indices", counts.indices.astype("i8"))):
            group.create_dataset(name, data=values, compression="gzip", shuffle=True, chunks=(50,))
        group["indptr"], group["shape"] = counts.indptr, np.array([N_GENES, N_CELLS])
        ids, names = cells.var_names.to_numpy().astype("S"), cells.var["gene_symbols"].to_numpy().astype("S")
        if version == 3:
            group["features/id"], group["features/name"] = ids, names
            group["features/feature_type"] = np.array([b"Gene Expression"] * N_GENES)
        else:
            group["genes"], group["gene_names"] = ids, names


@pytest.mark.parametrize("version", [2, 3])
def test_tenx_h5(cells, tmp_path, version):
    write_tenx(tmp_path / "matrix.h5", cells, version)
    np.testing.assert_array_equal(dense(tmp_path / "matrix.h5"), cells.X.toarray())
    with open_counts(tmp_path / "matrix.h5") as file:
        assert file.gene_index["gene_symbols"].tolist() == cells.var["gene_symbols"].tolist()
        assert file.obs.index.tolist() == cells.obs_names.tolist()
    with pytest.raises(ValueError, match=r"layer='counts' applies to \.h5ad"):
        open_counts(tmp_path / "matrix.h5", layer="counts")


def test_errors_name_the_file_and_the_remedy(cells, tmp_path):
    path = tmp_path / "cells.h5ad"
    cells.write_h5ad(path, compression="gzip")
    with pytest.raises(ValueError, match="no matrix layers/spliced; it has X"):
        open_counts(path, layer="spliced")
    with pytest.raises(ValueError, match="exclude each other"):
        open_counts(path, layer="spliced", use_raw=True)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.h5ad does not exist"):
        open_counts(tmp_path / "nowhere.h5ad")
    (tmp_path / "text.h5ad").write_text("barcode,gene\n" * 100)
    with pytest.raises(ValueError, match=r"text\.h5ad is not an HDF5 file; expected \.h5ad"):
        open_counts(tmp_path / "text.h5ad")
    (tmp_path / "cut.h5ad").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"cut\.h5ad is cut short"):
        open_counts(tmp_path / "cut.h5ad")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["weights"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"other\.h5 is HDF5 with the entries \['weights'\]"):
        open_counts(tmp_path / "other.h5")


def test_an_indptr_that_does_not_fit_is_refused(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "r+") as file:
        file["X/indptr"][5] = 10**6
    with pytest.raises(ValueError, match="indptr does not describe 30 rows"):
        open_counts(tmp_path / "cells.h5ad")


def test_mtx_folder(cells, tmp_path):
    (tmp_path / "barcodes.tsv").write_text("\n".join(cells.obs_names) + "\n")
    genes = [f"{gene}\t{symbol}\tGene Expression" for gene, symbol in cells.var["gene_symbols"].items()]
    (tmp_path / "features.tsv").write_text("\n".join(genes) + "\n")
    scipy.io.mmwrite(tmp_path / "matrix.mtx", cells.X.T.tocoo().astype(int))
    np.testing.assert_array_equal(dense(tmp_path), cells.X.toarray())
