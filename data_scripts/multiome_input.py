"""One modality of one data set, opened: cells, features, and where its counts are."""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .count_files import CountFile, open_counts
from .fragment_files import shown_names
from .multiome_sources import Modality


@dataclass(frozen=True)
class MatrixKey:
    """Which matrix of which file, for opening it anywhere."""

    path: Path
    layer: str | None
    part: str  # modality of an .h5mu

    def open(self) -> CountFile:
        return open_counts(self.path, layer=self.layer, modality=self.part)


@dataclass(frozen=True)
class Input:
    """One modality of one data set.

    Attributes:
        modality: "rna" or "atac".
        source: file and matrix, for messages.
        barcodes: of the rows.
        features: of a matrix: a row a column; None for fragments.
        is_feature: bool `(columns,)`: that are genes, or peaks; columns of other types are not.
        obs: of the cells; without columns for fragments.
        matrix: what to open; None for fragments.
        peaks: of ATAC: contig, start, end, name, and column of the matrix; of the file's assembly.
        fragments: int32 `(cells, peaks)`, counted from fragments.tsv; None for a matrix.
        are_tiles: whether the peaks are tiles.
        report: of fragments, what was counted and left out.
        all_barcodes: of the file, those of fragments that are no cells among them.
    """

    modality: Modality
    source: str
    barcodes: pd.Index
    features: pd.DataFrame | None
    is_feature: np.ndarray
    obs: pd.DataFrame
    matrix: MatrixKey | None
    peaks: pd.DataFrame | None
    fragments: sp.csr_matrix | None
    are_tiles: bool
    report: dict
    all_barcodes: pd.Index


class OpenMatrices:
    """Keeps the matrices used last open, so that chunks need not open a file again."""

    def __init__(self, capacity: int = 4) -> None:
        self._capacity = capacity
        self._files: OrderedDict[MatrixKey, CountFile] = OrderedDict()

    def get(self, key: MatrixKey) -> CountFile:
        if key not in self._files:
            self._files[key] = key.open()
            if len(self._files) > self._capacity:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(key)
        return self._files[key]

    def close(self) -> None:
        while self._files:
            self._files.popitem()[1].close()


def require_unique_barcodes(barcodes: pd.Index, source: str) -> None:
    repeated = barcodes[barcodes.duplicated()]
    if len(repeated):
        raise ValueError(
            f"{source}: {repeated.nunique():,} barcodes occur more than once, e.g. "
            f"{shown_names(repeated.unique(), 3)}: make them unique (anndata: obs_names_make_unique), or split the "
            "file by sample"
        )


def require_shared_barcodes(rna: pd.Index, atac: pd.Index, minimum_shared: float, source: str) -> None:
    """ValueError, showing both, where too small a share of the smaller file's barcodes is in the other."""
    shared = len(rna.intersection(atac))
    smaller = min(len(rna), len(atac))
    if shared < minimum_shared * smaller or not shared:
        raise ValueError(
            f"{source}: {shared:,} barcodes are in both of the paired files, of {len(rna):,} of the RNA "
            f"({shown_names(rna, 3)}) and {len(atac):,} of the ATAC ({shown_names(atac, 3)}); expected at least "
            f"{minimum_shared:.0%} of the smaller number. Are they of the same cells, with the same prefix and suffix "
            "(such as -1)? Barcodes of the two chemistries must be translated beforehand"
        )
