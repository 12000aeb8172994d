"""Barcodes must be unique, and pairs must share them; matrices stay open, a few at a time."""

import re
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from omics_transformers.data_scripts.multiome_input import (
    MatrixKey,
    OpenMatrices,
    require_shared_barcodes,
    require_unique_barcodes,
)


def test_barcodes_that_are_not_unique_are_named() -> None:
    require_unique_barcodes(pd.Index(["a", "b"]), "file")
    with pytest.raises(ValueError, match=r"file: 2 barcodes occur more than once, e.g. a, b: make them unique"):
        require_unique_barcodes(pd.Index(["a", "b", "a", "b", "a"]), "file")


@pytest.mark.parametrize(("share", "is_refused"), [(0.5, False), (0.51, True), (0.0, False)])
def test_pairs_share_barcodes_of_the_smaller_file(share: float, is_refused: bool) -> None:
    few, many = pd.Index(["a", "x"]), pd.Index([*"abcdef"])
    for rna, atac in ((few, many), (many, few)):
        if is_refused:
            message = f"1 barcodes are in both of the paired files, of {len(rna)} of the RNA"
            with pytest.raises(ValueError, match=re.escape(message)):
                require_shared_barcodes(rna, atac, share, "files")
        else:
            require_shared_barcodes(rna, atac, share, "files")
    with pytest.raises(ValueError, match="0 barcodes are in both"):
        require_shared_barcodes(few, pd.Index(["q"]), 0.0, "files")


def test_matrices_stay_open_a_few_at_a_time(tmp_path: Path) -> None:
    keys = []
    for name in "abc":
        anndata.AnnData(np.eye(2, dtype=np.float32)).write_h5ad(tmp_path / f"{name}.h5ad")
        keys.append(MatrixKey(tmp_path / f"{name}.h5ad", None, "rna"))
    opened = OpenMatrices(capacity=2)
    first = opened.get(keys[0])
    assert opened.get(keys[1]) is not first and opened.get(keys[0]) is first
    opened.get(keys[2])
    assert opened.get(keys[0]) is first  # the second was used least lately
    opened.close()
    assert opened.get(keys[0]) is not first
    opened.close()
