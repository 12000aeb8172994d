"""Files of cells to folders of results: each kind of file, and nothing left of what fails."""

import json
import logging
from pathlib import Path
from typing import Any

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from omics_transformers.cell_results import (
    classify_cells,
    embed_cells,
    impute_cells,
    open_classification_pipeline,
    open_imputation_pipeline,
)
from omics_transformers.modeling.configuration_multiome_performer import MultiomePerformerConfig
from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.feature_extraction_multiome import MultiomeFeatureExtractor
from omics_transformers.modeling.modeling_multiome_performer import (
    MultiomePerformerForCellTypeClassification,
    MultiomePerformerForPreTraining,
)
from omics_transformers.training.multiome_data import read_multiome

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 16}
TYPES = [f"type{number}" for number in range(4)]
GENES = [f"ENSG{gene:011d}" for gene in range(40)]
PLACES = [(100_000 * gene + 10_000, 100_000 * gene + 10_400) for gene in range(40)]
PEAKS = [f"chr1:{start}-{end}" for start, end in PLACES]


def make_cells(names: list[str], seed: int = 0, n_cells: int = 12) -> anndata.AnnData:
    counts = np.random.default_rng(seed).poisson(1.5, (n_cells, 40)).astype(np.float32)
    obs = pd.DataFrame({"kind": [TYPES[cell % 4] for cell in range(n_cells)]}, index=[f"c{n}" for n in range(n_cells)])
    return anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=names))


@pytest.fixture(scope="module")
def files(toy_multiome: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models `classifier` and `pretrained`; the same cells as .h5ad, .h5mu, 10x .h5, and fragments with peaks."""
    folder, read = tmp_path_factory.mktemp("files"), read_multiome(toy_multiome)
    extractor = MultiomeFeatureExtractor(**read.feature_extractor)
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "initializer_range": 0.5,
        "classification_head": "linear",
        "id2label": dict(enumerate(TYPES)),
    }
    config = MultiomePerformerConfig(**TINY, num_genes=40, gene_ids=read.gene_ids, **options)
    MultiomePerformerForCellTypeClassification(config).save_pretrained(folder / "classifier")
    MultiomePerformerForPreTraining(config).save_pretrained(folder / "pretrained")
    for name in ("classifier", "pretrained"):
        extractor.save_pretrained(folder / name)
    rna, atac = make_cells(GENES), make_cells(PEAKS, seed=1)
    rna.write_h5ad(folder / "rna.h5ad")
    atac.write_h5ad(folder / "atac.h5ad")
    with mudata.set_options(pull_on_update=False):
        mudata.MuData({"rna": rna, "atac": atac}).write_h5mu(folder / "cells.h5mu")
    both = sparse.hstack([rna.X, atac.X], format="csr")
    with h5py.File(folder / "cells.h5", "w") as file:
        matrix = file.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            matrix[name] = getattr(both, name)
        matrix["shape"], matrix["barcodes"] = both.shape[::-1], rna.obs_names.to_list()
        matrix["features/id"] = matrix["features/name"] = [*GENES, *PEAKS]
        matrix["features/feature_type"] = ["Gene Expression"] * 40 + ["Peaks"] * 40
    cell, peak = atac.X.nonzero()
    lines = [
        f"chr1\t{PLACES[there][0] + 5}\t{PLACES[there][0] + 200}\tc{one}\t1\n"
        for one, there in zip(cell, peak, strict=True)
        for _ in range(int(atac.X[one, there]))
    ]
    (folder / "fragments.tsv").write_text("".join(lines))
    (folder / "peaks.bed").write_text("".join(f"chr1\t{start}\t{end}\n" for start, end in PLACES))
    return folder


def confidences(made: Any) -> np.ndarray:
    return pd.read_csv(made.folder / "cells.tsv", sep="\t")["confidence"].to_numpy()


def test_every_format_says_the_same(files: Path, tmp_path: Path) -> None:
    pipe = open_classification_pipeline(files / "classifier", device="cpu")
    expected = pipe({"rna": files / "rna.h5ad", "atac": files / "atac.h5ad"}).table["confidence"]
    given: dict[str, dict[str, Any]] = {
        "rna.h5ad": {"atac": files / "atac.h5ad"},
        "cells.h5mu": {},
        "cells.h5": {},
    }
    for number, (name, options) in enumerate(given.items()):
        made = classify_cells(files / name, tmp_path / f"made{number}", model=pipe, **options)
        np.testing.assert_allclose(confidences(made), expected, atol=1e-5)
    alone = classify_cells(files / "cells.h5mu", tmp_path / "alone", model=pipe, modality="atac")
    np.testing.assert_allclose(confidences(alone), pipe(files / "atac.h5ad").table["confidence"], atol=1e-5)
    split = classify_cells(files / "cells.h5", tmp_path / "split", model=pipe, atac=files / "cells.h5mu")
    np.testing.assert_allclose(confidences(split), expected, atol=1e-5)


def test_fragments(files: Path, tmp_path: Path) -> None:
    pipe = open_classification_pipeline(files / "classifier", device="cpu")
    expected = pipe(files / "atac.h5ad", counts_are="fragments").table["confidence"]
    options: dict[str, Any] = {"model": pipe, "peaks": files / "peaks.bed"}
    made = classify_cells(files / "fragments.tsv", tmp_path / "alone", minimum_fragments=2, **options)
    np.testing.assert_allclose(made.table.set_index("cell")["confidence"].reindex(expected.index), expected, atol=1e-5)
    assert made.summary["files"]["fragments"]["barcodes with fewer fragments, left out"] == 0
    pair = pipe({"rna": files / "rna.h5ad", "atac": files / "atac.h5ad"}, counts_are="fragments")
    made = classify_cells(files / "rna.h5ad", tmp_path / "pair", atac=files / "fragments.tsv", **options)
    np.testing.assert_allclose(confidences(made), pair.table["confidence"], atol=1e-5)
    with pytest.raises(
        ValueError, match=r"none of 12 barcodes has 1,000 fragments or more; the most is .*--minimum-fr"
    ):
        classify_cells(files / "fragments.tsv", tmp_path / "none", **options)


def test_classify_writes_tables_and_figures(files: Path, tmp_path: Path) -> None:
    made = classify_cells(
        files / "rna.h5ad",
        tmp_path / "made",
        model=files / "classifier",
        labels="kind",
        unknown_threshold=0.4,
        device="cpu",
    )
    summary = json.loads((made.folder / "summary.json").read_text())
    table = pd.read_csv(made.folder / "cells.tsv", sep="\t")
    assert table["cell"].tolist() == [f"c{cell}" for cell in range(12)]
    assert summary["unknown"] == table["is_unknown"].sum() == (table["cell_type"] == "unknown").sum()
    confusion = pd.read_csv(made.folder / "confusion.tsv", sep="\t", index_col=0)
    assert confusion.to_numpy().sum() == summary["comparison"]["cells_compared"] == 12
    assert {path.name for path in (made.folder / "figures").iterdir()} == {"confidence.png", "confusion.png"}
    with pytest.raises(FileExistsError, match="--overwrite"):
        classify_cells(files / "rna.h5ad", tmp_path / "made", model=files / "classifier")


def test_impute(files: Path, tmp_path: Path) -> None:
    pipe = open_imputation_pipeline(files / "pretrained", device="cpu")
    made = impute_cells(
        files / "rna.h5ad", tmp_path / "made", model=pipe, atac=files / "atac.h5ad", reference=files / "atac.h5ad"
    )
    written = anndata.read_h5ad(made.folder / "imputed.h5ad")
    expected = pipe(files / "rna.h5ad")
    np.testing.assert_allclose(written.X, expected.expected, atol=1e-5)
    assert set(written.layers) == {"probability", "observed"} and written.obs["kind"].tolist()[:2] == TYPES[:2]
    assert len(pd.read_csv(made.folder / "genes.tsv", sep="\t")) == 40
    assert len(pd.read_csv(made.folder / "cells.tsv", sep="\t")) == 12
    assert made.summary["comparison"]["gene_mean_of"] == "reference"
    alone = impute_cells(files / "atac.h5ad", tmp_path / "alone", model=pipe, genes=["GENE3"])
    assert alone.summary["direction"] == "rna_from_atac" and len(alone.table) == 1
    assert not (alone.folder / "cells.tsv").exists()


def test_embed(files: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"model": files / "classifier", "device": "cpu", "labels": "kind"}
    made = embed_cells(files / "cells.h5mu", tmp_path / "made", umap=False, **options)
    written = anndata.read_h5ad(made.folder / "embeddings.h5ad")
    assert written.obsm["X_multiome_performer"].shape == (12, 16) and written.obs["kind"].tolist()[:2] == TYPES[:2]
    assert made.summary["neighbour_agreement"]["cells_compared"] == 12 and not (made.folder / "figures").exists()


@pytest.mark.parametrize(
    ("cells", "options", "message"),
    [
        ("absent.h5ad", {}, r"absent\.h5ad does not exist"),
        ("peaks.bed", {}, r"peaks\.bed is neither a matrix of counts nor a fragments file"),
        ("fragments.tsv", {}, "holds fragments: give the peaks"),
        ("fragments.tsv", {"modality": "rna"}, "holds fragments, which are ATAC"),
        ("rna.h5ad", {"peaks": "peaks.bed"}, r"peaks are for fragments, and .*rna\.h5ad holds counts"),
        ("rna.h5ad", {"atac": "atac.h5ad", "peaks": "peaks.bed"}, r"peaks are for fragments, and .*atac\.h5ad"),
        ("rna.h5ad", {"atac": "atac.h5ad", "modality": "rna"}, "a file of ATAC is given beside CELLS"),
        ("rna.h5ad", {"modality": "protein"}, "modality is 'protein'"),
        ("rna.h5ad", {"counts_layer": "counts"}, "has no matrix layers/counts"),
        ("rna.h5ad", {"labels": "types"}, "obs has no column 'types'"),
        ("rna.h5ad", {"model": "pretrained"}, "lacks .* tensors, e.g. classifier"),
        ("rna.h5ad", {"model": "nothing"}, "nothing"),
    ],
)
def test_what_is_refused(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: str, options: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(files)
    (files / "nothing").mkdir(exist_ok=True)
    with pytest.raises((ValueError, OSError), match=message):
        classify_cells(cells, tmp_path / "made", **{"model": "classifier", "device": "cpu", **options})
    assert not list(tmp_path.iterdir())


def test_another_kind_of_model(files: Path, tmp_path: Path) -> None:
    NucleotideTransformerConfig().save_pretrained(files / "other")
    for function in (classify_cells, impute_cells, embed_cells):
        with pytest.raises(
            ValueError, match="other is a nucleotide-transformer, which does not read RNA and ATAC by gene"
        ):
            function(files / "rna.h5ad", tmp_path / "made", model=files / "other")  # type: ignore[operator]


def test_further_modalities_are_said(files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with mudata.set_options(pull_on_update=False):
        rna, protein = make_cells(GENES), make_cells([f"CD{number}" for number in range(40)])
        mudata.MuData({"rna": rna, "prot": protein}).write_h5mu(tmp_path / "cells.h5mu")
        mudata.MuData({"prot": protein}).write_h5mu(tmp_path / "prot.h5mu")
    with caplog.at_level(logging.WARNING):
        classify_cells(tmp_path / "cells.h5mu", tmp_path / "made", model=files / "classifier", device="cpu")
    assert "of the modalities prot, rna, only rna can be read" in caplog.text
    with pytest.raises(ValueError, match="cells have the modalities 'prot'"):
        classify_cells(tmp_path / "prot.h5mu", tmp_path / "other", model=files / "classifier", device="cpu")
