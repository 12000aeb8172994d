"""What an earlier build fitted comes back whole, and is refused where something else is asked for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omics_transformers.data_scripts.multiome_fitted import FittedAlignment
from omics_transformers.modeling.peak_gene_rings import GeneLoci, Rings
from omics_transformers.modeling.value_bins import ValueBins

BINS = ValueBins("gene_normalized", np.arange(1.0, 5.0), np.arange(6.0), scales=np.array([1.0, 2.0]))
LOCI = GeneLoci(np.array(["chr1", "chr2"], object), np.array([5, 6]), np.array([7, 9]), np.array(["+", "-"], object))
FITTED = FittedAlignment("x", ["g1", "g2"], ["A", ""], LOCI, {"rna": BINS, "atac": BINS}, Rings((5, 9), (1, 2)), "hg38")


def write(folder: Path, content: dict[str, Any], name: str = "multiome.json") -> Path:
    (folder / name).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("name", ["multiome.json", "preprocessor_config.json"])
def test_what_was_fitted_comes_back(tmp_path: Path, name: str) -> None:
    fitted: dict[str, Any] = FITTED.to_dict()
    content = {"feature_extractor": fitted} if name == "multiome.json" else fitted | {"feature_extractor_type": "x"}
    found = FittedAlignment.from_folder(write(tmp_path, content, name))
    assert found.to_dict() == fitted and found.source == str(tmp_path / name) and found.rings == FITTED.rings
    assert found.loci is not None and found.loci.start.dtype == np.int64


def test_bins_of_other_genes_are_refused(tmp_path: Path) -> None:
    fitted = FITTED.to_dict() | {"gene_ids": ["g1", "g2", "g3"]}
    with pytest.raises(ValueError, match="the bins of RNA were fitted on 2 genes, it names 3"):
        FittedAlignment.from_folder(write(tmp_path, {"feature_extractor": fitted}))
    fitted |= {"rna_bins": None, "atac_bins": None}
    with pytest.raises(ValueError, match="has loci of 2 genes, it names 3"):
        FittedAlignment.from_folder(write(tmp_path, {"feature_extractor": fitted}))
    with pytest.raises(ValueError, match="names no genes"):
        FittedAlignment.from_folder(write(tmp_path, {"feature_extractor": None}))
    with pytest.raises(FileNotFoundError, match=r"has neither multiome.json of `build multiome` nor"):
        FittedAlignment.from_folder(tmp_path / "nowhere")


NOTHING: dict[str, Any] = dict.fromkeys(("gene_list", "binning", "num_bins", "rings", "assembly"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"gene_list": ["g1", "g3"]}, r"2 there, 2 listed, 2 in one only \(g2, g3\)"),
        ({"gene_list": ["g2", "g1"]}, "in another order"),
        ({"binning": "quartile"}, "binning is 'quartile', x was made with 'gene_normalized'"),
        ({"num_bins": 7}, "num_bins is 7, x was made with 5"),
        ({"rings": Rings()}, "rings is Rings"),
        ({"assembly": "hg19"}, "assembly is 'hg19', x was made with 'hg38'"),
    ],
)
def test_what_was_not_fitted_is_refused(asked: dict, message: str) -> None:
    FITTED.require({"rna", "atac"}, **NOTHING)
    FITTED.require({"rna"}, gene_list=["g1", "g2"], binning="gene_normalized", num_bins=5, rings=None, assembly="hg38")
    with pytest.raises(ValueError, match=message):
        FITTED.require({"rna"}, **(NOTHING | asked))


def test_a_modality_that_was_not_fitted_is_refused() -> None:
    rna_only = FittedAlignment("x", ["g1", "g2"], ["", ""], None, {"rna": BINS}, Rings(), None)
    with pytest.raises(ValueError, match="x has no bins for ATAC"):
        rna_only.require({"rna", "atac"}, **NOTHING)
    unplaced = FittedAlignment("x", ["g1", "g2"], ["", ""], None, {"atac": BINS}, Rings(), None)
    with pytest.raises(ValueError, match="x has no loci of genes for ATAC"):
        unplaced.require({"atac"}, **NOTHING)
