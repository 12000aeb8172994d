"""TileDB-SOMA experiments, and those of the CELLxGENE Census, read by ranges of cells in the order of their joinids.

Data model: https://github.com/single-cell-data/SOMA/blob/main/abstract_specification.md. The Census:
https://chanzuckerberg.github.io/cellxgene-census/cellxgene_census_docsite_data_release_info.html.
TileDB applies an address's filter and reads only the needed columns of obs. Joinids need not be consecutive; memory
holds one range of counts at a time, and 8 bytes a cell where there are gaps.
"""

import importlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp

from .soma_addresses import CENSUS, SomaAddress, census_input

logger = logging.getLogger(__name__)

BUFFER_BYTES = 64 * 2**20  # of one column, that TileDB fills at a time; its default, a gigabyte, is too much a thread
JOINID = "soma_joinid"
CELL_NAME = "obs_id"  # the columns that name cells and genes, as tiledbsoma.io writes them; the Census has one of genes
GENE_NAMES = ("var_id", "feature_id")


class SomaExperiment(NamedTuple):
    """One layer of one measurement of an open experiment."""

    counts: "ExperimentRows"
    gene_index: pd.DataFrame  # var, in the order of the columns
    read_obs: Callable[[], pd.DataFrame]
    obs_columns: tuple[str, ...]  # all there are, read or not
    matrix_name: str
    other_matrices: tuple[str, ...]


def open_experiment(
    address: SomaAddress, *, layer: str | None, measurement: str, needs_column: Callable[[str], bool] | None = None
) -> SomaExperiment:
    """Opens one layer of one measurement.

    Args:
        address: as `soma_address` gives it.
        layer: name in the measurement's X; without it "raw", or the only one there is.
        measurement: its name; case does not matter where no two differ in it alone.
        needs_column: tells of an obs column whether it is read; without it, all are.

    Raises:
        ImportError: names the extra that reads experiments.
        FileNotFoundError: when nothing lies there.
        ValueError: names what is missing and what there is.
    """
    experiment, owner = _open_census(address) if address.location.startswith(CENSUS) else _open(address)
    try:
        return _opened(experiment, owner, address, layer, measurement, needs_column)
    except BaseException:
        owner.close()
        raise


class ExperimentRows:
    """Counts `(cells, genes)` of a SOMA SparseNDArray: rows in the order of `joinids`, columns of `gene_joinids`."""

    def __init__(self, array: Any, joinids: Sequence[int], gene_joinids: np.ndarray, source: str, owner: Any) -> None:
        self.shape = (len(joinids), len(gene_joinids))
        self._array = array
        self._joinids = joinids
        self._source = source
        self._owner = owner
        self._one_reader = threading.Lock()
        self._column_of = np.full(int(gene_joinids.max(initial=-1)) + 2, -1, np.int32)  # the last: no gene
        self._column_of[gene_joinids] = np.arange(len(gene_joinids))

    def read(self, start: int, stop: int) -> sp.csr_matrix:
        """Rows `start` to `stop` (exclusive), each sorted by column; may be called from several threads."""
        wanted = self._joinids[start:stop]
        if not len(wanted):
            return sp.csr_matrix((0, self.shape[1]))
        first, last = int(wanted[0]), int(wanted[-1])
        consecutive = last - first + 1 == len(wanted)
        rows, columns, values = [], [], []
        for table in self._tables(slice(first, last) if consecutive else pa.array(wanted)):
            cells, genes, counts = (column.to_numpy() for column in table.columns)
            rows.append((cells - first if consecutive else np.searchsorted(wanted, cells)).astype(np.int32))
            columns.append(self._columns(genes))
            values.append(counts)
        if not rows:
            return sp.csr_matrix((len(wanted), self.shape[1]))
        entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
        return sp.csr_matrix(entries, shape=(len(wanted), self.shape[1]))

    def close(self) -> None:
        self._owner.close()

    def _tables(self, cells: slice | pa.Array) -> list[pa.Table]:
        names = ["soma_dim_0", "soma_dim_1", "soma_data"]
        try:
            # Reads of one array that began side by side were seen to abort (TileDB-SOMA 2.3); each has threads anyway.
            with self._one_reader:
                return [table.select(names) for table in self._array.read((cells,)).tables()]
        except Exception as error:
            raise ValueError(
                f"{self._source}: counts cannot be read ({_first_line(error)}): damaged or out of reach"
            ) from error

    def _columns(self, genes: np.ndarray) -> np.ndarray:
        columns = self._column_of[np.minimum(genes, len(self._column_of) - 1)]
        if (columns < 0).any():
            raise ValueError(
                f"{self._source}: counts of the gene with {JOINID} {genes[columns < 0][0]}, which var does not have: "
                "the experiment is damaged; Experiment.var_axis_delete deletes genes with their counts"
            )
        return columns


def _open(address: SomaAddress) -> tuple[Any, Any]:
    """The experiment, and what is to be closed."""
    soma = _package("tiledbsoma")
    context = soma.SOMATileDBContext(tiledb_config={"soma.init_buffer_bytes": BUFFER_BYTES})
    try:
        found = soma.open(address.location, context=context)
    except soma.DoesNotExistError as error:
        raise FileNotFoundError(
            f"{address.location} does not exist, is out of reach or is no TileDB-SOMA experiment ({error})"
        ) from error
    except (soma.SOMAError, RuntimeError) as error:
        raise ValueError(f"{address.location} cannot be opened as a TileDB-SOMA experiment ({error})") from error
    if found.soma_type != "SOMAExperiment":
        entries = f" of {_listed(found)}" if found.soma_type == "SOMACollection" else ""
        found.close()
        raise ValueError(f"{address.location} is a {found.soma_type}{entries}; expected a SOMAExperiment: name one")
    return found, found


def _open_census(address: SomaAddress) -> tuple[Any, Any]:
    version, _, organism = address.location.removeprefix(CENSUS).partition("/")
    if address.location != str(census_input(version, organism)):
        raise ValueError(f"{address.location}: expected {CENSUS}VERSION/ORGANISM, e.g. census:2025-01-30/homo_sapiens")
    census = _package("cellxgene_census").open_soma(
        census_version=version, tiledb_config={"soma.init_buffer_bytes": BUFFER_BYTES}
    )
    organisms = census["census_data"]
    if organism not in organisms:
        message = f"the Census of {version} has no organism {organism}; it has {_listed(organisms)}"
        census.close()
        raise ValueError(message)
    return organisms[organism], census


def _opened(
    experiment: Any,
    owner: Any,
    address: SomaAddress,
    layer: str | None,
    measurement: str,
    needs_column: Callable[[str], bool] | None,
) -> SomaExperiment:
    where = address.location
    measurement = _measurement(experiment, measurement, where)
    layers = experiment.ms[measurement].X if "X" in experiment.ms[measurement] else {}
    layer = _layer(list(layers), layer, f"{where}: ms/{measurement}/X")
    source = f"{where}: ms/{measurement}/X/{layer}"
    if layers[layer].soma_type != "SOMASparseNDArray":
        raise ValueError(f"{source} is a {layers[layer].soma_type}; expected a SOMASparseNDArray: write it from CSR")
    genes = _sorted(experiment.ms[measurement].var.read().concat()).to_pandas()
    names = next((genes[name] for name in GENE_NAMES if name in genes), genes[JOINID])
    rows = ExperimentRows(layers[layer], _joinids(experiment.obs, address), genes[JOINID].to_numpy(), source, owner)
    return SomaExperiment(
        counts=rows,
        gene_index=genes.drop(columns=[JOINID, *{"var_id"} & set(genes)]).set_axis(pd.Index(names.astype(str)), axis=0),
        read_obs=lambda: _read_obs(experiment.obs, address, needs_column),
        obs_columns=tuple(experiment.obs.schema.names),
        matrix_name=f"ms/{measurement}/X/{layer}",
        other_matrices=tuple(f"ms/{measurement}/X/{name}" for name in layers if name != layer),
    )


def _measurement(experiment: Any, wanted: str, where: str) -> str:
    names = list(experiment.ms) if "ms" in experiment else []
    alike = [name for name in names if name.lower() == wanted.lower()]
    if wanted not in names and len(alike) != 1:
        raise ValueError(f"{where} has no measurement {wanted!r} (modality); it has {_listed(names)}")
    return wanted if wanted in names else alike[0]


def _layer(names: list[str], wanted: str | None, where: str) -> str:
    if wanted is None:
        wanted = names[0] if len(names) == 1 else "raw"
    if wanted not in names:
        raise ValueError(f"{where} has no layer {wanted!r}; it has {_listed(names)}: name the one with counts (layer)")
    return wanted


def _joinids(obs: Any, address: SomaAddress) -> Sequence[int]:
    """Joinids of the cells, ascending; a range, which takes no memory, where they are consecutive."""
    joinids = _read_cells(obs, address, [])[JOINID].to_numpy()
    if address.obs_value_filter is not None:
        logger.info("%s: %d cells meet %r", address.location, len(joinids), address.obs_value_filter)
    if len(joinids) and joinids[-1] - joinids[0] + 1 == len(joinids):
        return range(int(joinids[0]), int(joinids[-1]) + 1)
    return joinids


def _read_obs(obs: Any, address: SomaAddress, needs_column: Callable[[str], bool] | None) -> pd.DataFrame:
    """The needed columns; the index names the cells, by `obs_id` or, where that is missing as in the Census, joinid."""
    names = obs.schema.names
    index = CELL_NAME if CELL_NAME in names else JOINID
    if needs_column is None:
        columns = [name for name in names if name not in (index, JOINID)]
    else:
        columns = [name for name in names if needs_column(name)]
    table = _read_cells(obs, address, [*columns, index])
    return table.select(columns).to_pandas().set_axis(pd.Index(table[index].to_pandas().astype(str)), axis=0)


def _read_cells(obs: Any, address: SomaAddress, columns: Sequence[str]) -> pa.Table:
    """Rows that meet the filter, by joinid."""
    try:
        read = obs.read(column_names=list(dict.fromkeys([JOINID, *columns])), value_filter=address.obs_value_filter)
        table = read.concat()
    except Exception as error:
        if address.obs_value_filter is None:
            raise ValueError(
                f"{address.location}: obs cannot be read ({_first_line(error)}): damaged or out of reach"
            ) from error
        raise ValueError(
            f"{address.location}: the filter {address.obs_value_filter!r} fails ({_first_line(error)}); obs has "
            f"{_listed(obs.schema.names)}. Expected e.g. \"is_primary_data == True and tissue_general == 'heart'\""
        ) from error
    return _sorted(table)


def _sorted(table: pa.Table) -> pa.Table:
    joinids = table[JOINID].to_numpy()
    return table.take(np.argsort(joinids)) if (np.diff(joinids) < 0).any() else table


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{name} cannot be imported ({error}): SOMA experiments and the Census need it, which comes with "
            "pip install 'omics-transformers[census]'"
        ) from error


def _first_line(error: Exception) -> str:
    """TileDB-SOMA puts the calls that led to an error behind it."""
    return str(error).partition("\n")[0]


def _listed(names: Any) -> str:
    return ", ".join(map(str, names)) or "none"
