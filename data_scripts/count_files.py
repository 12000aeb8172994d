"""Opens count matrices of single cells: .h5ad, .h5mu, 10x .h5, 10x mtx folders, SOMA experiments; read in chunks.

Formats: https://anndata.readthedocs.io/en/stable/fileformat-prose.html,
https://mudata.readthedocs.io/en/latest/io/spec.html,
https://www.10xgenomics.com/support/software/cell-ranger/latest/analysis/outputs/cr-outputs-h5-matrices and
https://www.10xgenomics.com/support/software/cell-ranger/latest/analysis/outputs/cr-outputs-mex-matrices.
Antibodies and peaks of a 10x file stay in the matrix, marked in the column `feature_types` of `gene_index`.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType

import h5py
import pandas as pd
import scipy.sparse as sp

from .count_matrices import CompressedRows, CountMatrix, DenseRows, SpooledRows, column_entries
from .matrix_market import open_matrix_folder
from .soma_addresses import SomaAddress, is_uri, soma_address
from .soma_experiments import open_experiment

logger = logging.getLogger(__name__)

FORMATS = ".h5ad, .h5mu, 10x .h5, a 10x folder with matrix.mtx or a SOMA experiment"


class CountFile:
    """Counts of one file, `(n_cells, columns)`, with `obs` (cells) and `gene_index` (columns) as data frames.

    `source` names file and matrix for messages; `other_matrices` names what else the file could have been asked for.
    Use as a context manager, or call `close`.
    """

    def __init__(
        self,
        path: Path,
        matrix: CountMatrix,
        *,
        gene_index: pd.DataFrame,
        read_obs: Callable[[], pd.DataFrame],
        matrix_name: str = "matrix",
        other_matrices: tuple[str, ...] = (),
        obs_columns: Sequence[str] | None = None,
        handle: h5py.File | None = None,
    ) -> None:
        self.path = path
        self.matrix = matrix
        self.gene_index = gene_index
        self.source = f"{path}: {matrix_name}"
        self.other_matrices = other_matrices
        self._read_obs = read_obs
        self._obs_columns = obs_columns
        self._handle = handle

    @property
    def n_cells(self) -> int:
        return self.matrix.shape[0]

    @cached_property
    def obs(self) -> pd.DataFrame:
        """Annotation of the cells, index = barcodes as strings, in the order of the rows."""
        obs = self._read_obs()
        if len(obs) != self.n_cells:
            raise ValueError(f"{self.path}: {len(obs)} cells are annotated, the matrix has {self.n_cells} rows")
        return obs.set_axis(obs.index.astype(str), axis=0)

    @property
    def obs_columns(self) -> list[str]:
        """Names of all columns that annotate the cells, of which `obs` may have only those that are needed."""
        return list(map(str, self.obs.columns)) if self._obs_columns is None else list(self._obs_columns)

    def forget_obs(self) -> None:
        """Gives back the memory of `obs`; it is read again when asked for."""
        self.__dict__.pop("obs", None)

    def read(self, start: int, stop: int) -> sp.csr_matrix:
        """Counts of the cells `start` to `stop` (exclusive)."""
        return self.matrix.read(start, stop)

    def chunks(self, chunk_cells: int) -> Iterator[tuple[int, sp.csr_matrix]]:
        """Pairs (first cell, counts `(<= chunk_cells, columns)`), in the file's order."""
        for start in range(0, self.n_cells, chunk_cells):
            yield start, self.read(start, min(start + chunk_cells, self.n_cells))

    def close(self) -> None:
        self.matrix.close()
        if self._handle is not None:
            self._handle.close()

    def __enter__(self) -> "CountFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def open_counts(
    path: str | Path,
    *,
    layer: str | None = None,
    use_raw: bool = False,
    modality: str = "rna",
    needs_column: Callable[[str], bool] | None = None,
) -> CountFile:
    """Opens one input; the format is told from the content, or from a URI.

    `layer` or `use_raw` choose another matrix than `X` of an .h5ad or .h5mu, `modality` the part of an .h5mu; in a SOMA
    experiment `layer` (by default raw) and `modality` choose X and measurement. Where the format has no such choice
    they must be left alone. `needs_column` tells of an obs column whether it is read, where each can be read alone.
    FileNotFoundError or ValueError name the file and the remedy.
    """
    path = Path(path)
    if layer is not None and use_raw:
        raise ValueError(f"layer={layer!r} and use_raw=True exclude each other: name one matrix")
    address = soma_address(path)
    if address is not None:
        return _open_soma(path, address, layer, use_raw, modality, needs_column)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected {FORMATS}")
    if path.is_dir():
        _refuse_matrix_choice(path, layer, use_raw)
        matrix, gene_index, barcodes = open_matrix_folder(path)
        return CountFile(path, matrix, gene_index=gene_index, read_obs=lambda: pd.DataFrame(index=barcodes))
    handle = _open_hdf5(path)
    try:
        return _open_hdf5_counts(handle, path, layer, use_raw, modality)
    except BaseException:
        handle.close()
        raise


def located(path: Path, folder: Path) -> Path:
    """The path as a process elsewhere finds it: one that is not absolute, nor a URI, lies in `folder`."""
    return path if is_uri(path) else folder / path


def input_files(path: Path) -> dict[str, Path]:
    """The files that an input consists of, by their names in it; none where it is read over the network.

    FileNotFoundError where it does not exist.
    """
    address = soma_address(path)
    if address is not None and address.is_remote:
        return {}
    base = path if address is None else Path(address.location)
    if not base.exists():
        raise FileNotFoundError(f"{base} does not exist")
    if not base.is_dir():
        return {base.name: base}
    files = base.iterdir() if address is None else base.rglob("*")
    return {str(file.relative_to(base)): file for file in sorted(files) if file.is_file()}


def _open_soma(
    path: Path,
    address: SomaAddress,
    layer: str | None,
    use_raw: bool,
    modality: str,
    needs_column: Callable[[str], bool] | None,
) -> CountFile:
    if use_raw:
        raise ValueError(f"{path} is a SOMA experiment, where .raw is a measurement: give modality='raw', not use_raw")
    experiment = open_experiment(address, layer=layer, measurement=modality, needs_column=needs_column)
    return CountFile(
        path,
        experiment.counts,
        gene_index=experiment.gene_index,
        read_obs=experiment.read_obs,
        matrix_name=experiment.matrix_name,
        other_matrices=experiment.other_matrices,
        obs_columns=experiment.obs_columns,
    )


def _open_hdf5(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if "truncated" in str(error):
            raise ValueError(f"{path} is cut short ({error}): copy or download it again") from error
        if not h5py.is_hdf5(path):
            raise ValueError(f"{path} is not an HDF5 file; expected {FORMATS}") from error
        raise ValueError(f"{path} cannot be opened as HDF5 ({error}): it may be damaged or locked") from error


def _open_hdf5_counts(handle: h5py.File, path: Path, layer: str | None, use_raw: bool, modality: str) -> CountFile:
    if "mod" in handle:
        if modality not in handle["mod"]:
            raise ValueError(f"{path} has no modality {modality!r}; it has {sorted(handle['mod'])}")
        return _open_anndata(handle, handle["mod"][modality], path, layer, use_raw)
    if "obs" in handle and "var" in handle:
        return _open_anndata(handle, handle, path, layer, use_raw)
    group = _tenx_group(handle, path)
    _refuse_matrix_choice(path, layer, use_raw)
    return _open_tenx(handle, group, path)


def _refuse_matrix_choice(path: Path, layer: str | None, use_raw: bool) -> None:
    if layer is not None or use_raw:
        chosen = "use_raw=True" if use_raw else f"layer={layer!r}"
        raise ValueError(f"{path} is 10x output, which holds one matrix: {chosen} applies to .h5ad and .h5mu only")


def _open_anndata(handle: h5py.File, root: h5py.Group, path: Path, layer: str | None, use_raw: bool) -> CountFile:
    choices = [name for name in ("X", "raw/X") if name in root]
    choices += [f"layers/{name}" for name in root.get("layers", {})]
    name = "raw/X" if use_raw else "X" if layer is None else f"layers/{layer}"
    if name not in choices:
        raise ValueError(f"{path} has no matrix {name}; it has {', '.join(choices) or 'none'}")
    var_name = "raw/var" if use_raw else "var"
    return CountFile(
        path,
        _stored_matrix(root[name], path),
        gene_index=_read_frame(root, var_name, path),
        read_obs=lambda: _read_cells(handle, root, path),
        matrix_name=name,
        other_matrices=tuple(choice for choice in choices if choice != name),
        handle=handle,
    )


def _stored_matrix(stored: h5py.Group | h5py.Dataset, path: Path) -> CountMatrix:
    if isinstance(stored, h5py.Dataset):
        return DenseRows(stored, path)
    encoding = str(stored.attrs.get("encoding-type", stored.attrs.get("h5sparse_format", "")))
    shape = stored.attrs.get("shape", stored.attrs.get("h5sparse_shape"))
    missing = {"data", "indices", "indptr"} - set(stored)
    if not encoding.startswith(("csr", "csc")) or shape is None or missing:
        raise ValueError(f"{path}: {stored.name} is encoded as {encoding!r}; expected csr_matrix, csc_matrix or array")
    n_cells, n_columns = int(shape[0]), int(shape[1])
    if encoding.startswith("csr"):
        return CompressedRows(stored, (n_cells, n_columns), path)
    source = f"{path}: {stored.name}"
    return SpooledRows(column_entries(stored, n_columns, path), (n_cells, n_columns), source)


def _read_cells(handle: h5py.File, root: h5py.Group, path: Path) -> pd.DataFrame:
    """Cells of the modality; an .h5mu's common table adds the columns that the modality's own lacks."""
    obs = _read_frame(root, "obs", path)
    if root.name == "/" or "obs" not in handle:
        return obs
    common = _read_frame(handle, "obs", path).reindex(obs.index)
    return obs.join(common[[column for column in common if column not in obs]])


def _read_frame(root: h5py.Group, name: str, path: Path) -> pd.DataFrame:
    from anndata.io import read_elem  # slow to import, and only .h5ad and .h5mu need it

    if not isinstance(root.get(name), h5py.Group):
        raise ValueError(f"{path}: {name} is not a table as anndata >= 0.7 writes it: read the file and write it again")
    try:
        return read_elem(root[name])
    except Exception as error:
        raise ValueError(f"{path}: the table {name} cannot be read ({error}): the file is damaged") from error


def _tenx_group(handle: h5py.File, path: Path) -> h5py.Group:
    """`matrix` of Cell Ranger >= 3, or the one genome's group of Cell Ranger 2."""
    groups = [
        group for group in handle.values() if isinstance(group, h5py.Group) and {"barcodes", "indptr"} <= set(group)
    ]
    if len(groups) == 1:
        return groups[0]
    found = f"matrices of {len(groups)} genomes" if groups else f"the entries {sorted(handle)}"
    raise ValueError(f"{path} is HDF5 with {found}; expected .h5ad, .h5mu or 10x .h5 of one genome")


def _open_tenx(handle: h5py.File, group: h5py.Group, path: Path) -> CountFile:
    missing = {"data", "indices", "indptr", "shape"} - set(group)
    if missing or not ({"features", "genes"} & set(group)):
        raise ValueError(f"{path}: {group.name} lacks {', '.join(sorted(missing)) or 'features'}: not 10x output")
    if "features" in group:
        features = group["features"]
        columns = {"gene_symbols": features["name"].asstr()[:], "feature_types": features["feature_type"].asstr()[:]}
        gene_ids = features["id"].asstr()[:]
    else:
        columns, gene_ids = {"gene_symbols": group["gene_names"].asstr()[:]}, group["genes"].asstr()[:]
    n_columns, n_cells = (int(length) for length in group["shape"][:])
    return CountFile(
        path,
        CompressedRows(group, (n_cells, n_columns), path),  # columns of genes x cells are rows of cells x genes
        gene_index=pd.DataFrame(columns, index=pd.Index(gene_ids)),
        read_obs=lambda: pd.DataFrame(index=pd.Index(group["barcodes"].asstr()[:])),
        handle=handle,
    )
