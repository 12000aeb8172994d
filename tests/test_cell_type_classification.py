"""The cell-type pipeline on small models: against one plain pass a cell, and what it refuses."""

import logging
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from omics_transformers.modeling.configuration_multiome_performer import MultiomePerformerConfig
from omics_transformers.modeling.feature_extraction_multiome import MultiomeFeatureExtractor
from omics_transformers.modeling.modeling_multiome_performer import (
    MultiomePerformerForCellTypeClassification,
    MultiomePerformerForPreTraining,
)
from omics_transformers.pipelines.cell_type_classification import CellTypeClassificationPipeline
from omics_transformers.training.multiome_data import read_multiome

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 16}
TYPES = [f"type{number}" for number in range(4)]


def make_pipeline(folder: Path, **changes: Any) -> CellTypeClassificationPipeline:
    read = read_multiome(folder)
    torch.manual_seed(0)
    sizes = {**TINY, "num_genes": 40, "gene_ids": read.gene_ids, "id2label": dict(enumerate(TYPES))}
    config = MultiomePerformerConfig(**{**sizes, "initializer_range": 0.5, "classification_head": "linear", **changes})
    extractor = MultiomeFeatureExtractor(**read.feature_extractor)
    model = MultiomePerformerForCellTypeClassification(config)
    return CellTypeClassificationPipeline(model, feature_extractor=extractor, device="cpu")


def make_cells(modality: str, n_cells: int = 12) -> anndata.AnnData:
    """RNA on the model's 40 genes, or ATAC on a peak at each gene's TSS."""
    counts = np.random.default_rng(0 if modality == "rna" else 1).poisson(1.5, (n_cells, 40)).astype(np.float32)
    obs = pd.DataFrame(
        {"cell_type": [TYPES[cell % 4] for cell in range(n_cells)]}, index=map("c{}".format, range(n_cells))
    )
    names = [f"ENSG{gene:011d}" for gene in range(40)]
    if modality == "atac":
        names = [f"chr1:{100_000 * gene + 10_000}-{100_000 * gene + 10_400}" for gene in range(40)]
    return anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=names))


@pytest.fixture(scope="module")
def pipe(toy_multiome: Path) -> CellTypeClassificationPipeline:
    return make_pipeline(toy_multiome)


def plain_probabilities(pipe: CellTypeClassificationPipeline, **cells: anndata.AnnData) -> np.ndarray:
    """One cell at a time through the feature extractor's own functions and the model."""
    extractor, aligned = pipe.feature_extractor, {}
    if "rna" in cells:
        aligned["rna"] = extractor.align_rna(cells["rna"].X, cells["rna"].var_names).counts
    if "atac" in cells:
        places = cells["atac"].var_names.str.extract(r"(.*):(\d+)-(\d+)")
        numbers = (places[column].astype(int).to_numpy() for column in (1, 2))
        aligned["atac"] = extractor.align_atac(
            cells["atac"].X, places[0].to_numpy(object), *numbers, counts_are="reads"
        ).counts
    found = []
    for row in range(next(iter(aligned.values())).shape[0]):
        values = extractor(**{name: counts[row : row + 1] for name, counts in aligned.items()}, return_tensors="pt")
        with torch.inference_mode():
            found.append(pipe.model(**{name: tensor.long() for name, tensor in values.items()}).logits.softmax(-1))
    return torch.cat(found).numpy()


@pytest.mark.parity
@pytest.mark.parametrize("given", [("rna",), ("atac",), ("rna", "atac")])
@pytest.mark.parametrize("batch_size", [1, 5, None])
def test_equals_a_plain_pass_a_cell(
    pipe: CellTypeClassificationPipeline, given: tuple[str, ...], batch_size: int | None
) -> None:
    cells = {name: make_cells(name) for name in given}
    found = pipe(cells if len(cells) == 2 else cells[given[0]], batch_size=batch_size)
    expected = plain_probabilities(pipe, **cells)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    assert found.probabilities.dtype == np.float32 and np.ptp(expected, axis=0).max() > 0.01
    assert found.table["cell_type"].tolist() == [TYPES[best] for best in expected.argmax(1)]
    np.testing.assert_allclose(found.table["confidence"], expected.max(1), atol=1e-5)
    np.testing.assert_allclose(found.table["entropy"], -(expected * np.log(expected)).sum(1), atol=1e-4)
    assert found.table["second_type"].tolist() == [TYPES[second] for second in np.argsort(-expected)[:, 1]]
    assert found.summary["modalities"] == list(given) and found.summary["cells"] == 12


def test_unknown_threshold_and_labels(pipe: CellTypeClassificationPipeline) -> None:
    cells = make_cells("rna")
    cells.obs["cell_type"] = cells.obs["cell_type"].astype(object)
    cells.obs.iloc[0, 0], cells.obs.iloc[1, 0] = None, "type9"
    confidence = pipe(cells).table["confidence"]
    threshold = float(confidence.median())
    found = pipe(cells, unknown_threshold=threshold, labels="cell_type")
    assert found.table["is_unknown"].tolist() == (confidence < threshold).tolist()
    assert found.summary["unknown"] == 6 and (found.table["cell_type"] == "unknown").sum() == 6
    assert set(found.table["best_type"]) <= set(TYPES)
    compared = found.summary["comparison"]
    assert compared["cells_compared"] == 10 and compared["cells_without_label"] == 1
    assert compared["types_that_the_model_does_not_know"] == {"type9": 1}
    right = (found.table["cell_type"] == cells.obs["cell_type"])[2:]
    assert compared["accuracy"] == pytest.approx(right.mean())
    assert found.confusion is not None and found.confusion.to_numpy().sum() == 10
    assert set(found.figures()) == {"confidence", "confusion"}


def test_cells_without_a_count(pipe: CellTypeClassificationPipeline) -> None:
    rna, atac = make_cells("rna"), make_cells("atac")
    for part, rows in ((rna, [0, 1]), (atac, [0, 2])):
        dense = part.X.toarray()
        dense[rows] = 0
        part.X = sparse.csr_matrix(dense)
    found = pipe({"rna": rna, "atac": atac})
    first = found.table.iloc[0]
    assert first["cell_type"] == "unknown" and np.isnan(first["confidence"]) and first["best_type"] is None
    assert found.summary["cells_without_any_value"] == found.summary["unknown"] == 1
    assert found.summary["cells_with_values_of"] == {"rna and atac": 9, "atac": 1, "rna": 1}
    alone = plain_probabilities(pipe, atac=atac)[1], plain_probabilities(pipe, rna=rna)[2]
    np.testing.assert_allclose(found.probabilities[1:3], alone, atol=1e-5)
    rna.X = sparse.csr_matrix(rna.shape, dtype=np.float32)
    with pytest.raises(ValueError, match="none of the 12 cells has a count"):
        pipe(rna)


def test_into_anndata(pipe: CellTypeClassificationPipeline) -> None:
    cells = make_cells("rna")
    found = pipe(cells, unknown_threshold=0.5)
    copy = found.anndata()
    assert copy.obs["cell_type_predicted"].tolist() == found.table["cell_type"].tolist()
    assert copy.obs["cell_type_confidence"].dtype == np.float32 and "cell_type_predicted" not in cells.obs
    assert found.anndata(inplace=True) is cells and "cell_type_predicted" in cells.obs
    whole = make_cells("rna", 12)
    paired = pipe({"rna": whole, "atac": make_cells("atac", 8)})
    assert paired.anndata().n_obs == 8
    assert paired.anndata(inplace=True).obs["cell_type_predicted"].isna().sum() == 4
    with pytest.raises(ValueError, match="view of another"):
        pipe(whole[:5]).anndata(inplace=True)


def test_a_model_of_one_modality(toy_multiome: Path) -> None:
    pipe = make_pipeline(toy_multiome, modalities=["rna"])
    pair = {"rna": make_cells("rna"), "atac": make_cells("atac")}
    with pytest.raises(ValueError, match=r"have rna and atac, and the model knows rna only: read .* modality='rna'"):
        pipe(pair)
    with pytest.raises(ValueError, match="the cells have atac, and the model knows rna only"):
        pipe(pair["atac"])
    np.testing.assert_allclose(pipe(pair, modality="rna").probabilities, pipe(pair["rna"]).probabilities)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unknown_threshold": 1.5}, "unknown_threshold is 1.5; expected a probability"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"labels": "celltype"}, "obs has no column 'celltype'; its columns are: cell_type"),
        ({"modality": "protein"}, "modality is 'protein'"),
        ({"counts_layer": "counts"}, "has no layer 'counts'; its layers are: none"),
        ({"use_raw": True}, "has no `raw`"),
        ({"gene_id_column": "ids"}, "var has no column 'ids'"),
    ],
)
def test_bad_options_before_the_model_runs(
    pipe: CellTypeClassificationPipeline, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(pipe, "run_model", lambda *_: pytest.fail("the model ran"))
    with pytest.raises(ValueError, match=message):
        pipe(make_cells("rna"), **options)


def test_models_and_extractors_that_do_not_fit(toy_multiome: Path, pipe: CellTypeClassificationPipeline) -> None:
    model, extractor = pipe.model, pipe.feature_extractor
    with pytest.raises(ValueError, match="needs a MultiomeFeatureExtractor, and has NoneType"):
        CellTypeClassificationPipeline(model, device="cpu")
    fewer = MultiomeFeatureExtractor(extractor.gene_ids[:30])
    with pytest.raises(ValueError, match="has 30 genes and the model 40"):
        CellTypeClassificationPipeline(model, feature_extractor=fewer, device="cpu")
    turned = MultiomeFeatureExtractor(extractor.gene_ids[::-1])
    with pytest.raises(ValueError, match=r"40 genes of the feature extractor are not the model's, e\.g\. number 0"):
        CellTypeClassificationPipeline(model, feature_extractor=turned, device="cpu")
    headless = MultiomePerformerForPreTraining(model.config)
    with pytest.raises(
        ValueError, match="is a MultiomePerformerForPreTraining, and this pipeline needs one ForCellType"
    ):
        CellTypeClassificationPipeline(headless, feature_extractor=extractor, device="cpu")
    with pytest.raises(ValueError, match="unknown options of the pipeline: top_k"):
        CellTypeClassificationPipeline(model, feature_extractor=extractor, device="cpu", top_k=3)


def test_a_model_in_low_precision_is_said(toy_multiome: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = make_pipeline(toy_multiome)
    with caplog.at_level(logging.WARNING):
        CellTypeClassificationPipeline(
            made.model.to(torch.bfloat16), feature_extractor=made.feature_extractor, device="cpu"
        )
    assert "the model is in torch.bfloat16" in caplog.text
