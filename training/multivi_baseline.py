"""MultiVI's latent space of cells, by scvi-tools: trained on the training cells, and read for the others.

Source: Ashuach et al. 2023 (https://doi.org/10.1038/s41592-023-01909-9). Here its regions are the genes' accessibility,
as the model sees it, and not the peaks, so that all read the same. RNA alone is SCVI's, ATAC alone PeakVI's.
"""

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import anndata
import mudata
import numpy as np
import numpy.typing as npt

from .cell_type_splits import Rows
from .multiome_data import Modality, MultiomeCells

logger = logging.getLogger(__name__)

_MANY_CELLS = 10_000  # from here on a GPU is worth its start
_LATENT = 20  # numbers a cell; the default of two of the three models falls with the genes, to 2 of 40


def require_multivi() -> Any:
    """scvi-tools' package.

    Raises:
        ImportError: where it is not installed, saying how it is.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import scvi
    except ImportError as error:
        raise ImportError(
            f"the baseline multivi needs scvi-tools ({error}): pip install 'omics-transformers[multivi]'"
        ) from error
    return scvi


def latent_space(
    cells: MultiomeCells,
    rows: Sequence[Rows],
    modalities: Sequence[Modality],
    *,
    seed: int,
    maximum_epochs: int = 200,
) -> list[npt.NDArray[np.float32]]:
    """Latent means of cells.

    Args:
        cells: of a folder with counts.
        rows: (cells,) int64 of each part, those to train on first.
        modalities: "rna", "atac", or both.
        seed: of weights and batches.
        maximum_epochs: fewer where the loss on a tenth of the training cells no longer falls.

    Returns:
        (cells, latent) float32 of each part.

    Raises:
        ImportError: without scvi-tools.
    """
    scvi = require_multivi()
    training = len(rows[0])
    order = np.random.default_rng(seed).permutation(training)
    held_out = max(training // 10, 1)
    indices = [np.sort(order[held_out:]), np.sort(order[:held_out]), np.arange(training, sum(map(len, rows)))]
    previous_seed, scvi.settings.seed = scvi.settings.seed, seed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _model(scvi, _table(cells, np.concatenate(rows), modalities), modalities)
            model.train(
                max_epochs=maximum_epochs,
                accelerator="auto" if training > _MANY_CELLS else "cpu",
                batch_size=min(128, max(training // 4, 2)),
                early_stopping=True,
                datasplitter_kwargs={"external_indexing": indices},
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            latent = np.asarray(model.get_latent_representation(), dtype=np.float32)
    finally:
        scvi.settings.seed = previous_seed
    return np.split(latent, np.cumsum([len(some) for some in rows])[:-1])


def _table(cells: MultiomeCells, rows: Rows, modalities: Sequence[Modality]) -> Any:
    """AnnData of one modality, MuData of two."""
    names = [str(row) for row in rows]
    tables = {one: anndata.AnnData(cells.counts(rows, one), obs={"row": names}) for one in modalities}
    for one, table in tables.items():
        table.obs_names = names
        table.var_names = [f"{one}{gene}" for gene in range(cells.n_genes)]
    return mudata.MuData(tables) if len(modalities) > 1 else tables[modalities[0]]


def _model(scvi: Any, training: Any, modalities: Sequence[Modality]) -> Any:
    if len(modalities) > 1:
        places = {"rna_layer": "rna", "atac_layer": "atac"}
        scvi.model.MULTIVI.setup_mudata(training, modalities=places)
        return scvi.model.MULTIVI(training, n_latent=_LATENT)
    kind = scvi.model.SCVI if modalities[0] == "rna" else scvi.model.PEAKVI
    kind.setup_anndata(training)
    return kind(training, n_latent=_LATENT)
