"""The embedding pipeline: against the model's own embeddings, and into AnnData."""

from pathlib import Path

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
    MultiomePerformerModel,
)
from omics_transformers.pipelines.cell_embedding import CellEmbeddingPipeline
from omics_transformers.training.multiome_data import read_multiome

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 16}


@pytest.fixture(scope="module")
def extractor(toy_multiome: Path) -> MultiomeFeatureExtractor:
    return MultiomeFeatureExtractor(**read_multiome(toy_multiome).feature_extractor)


@pytest.fixture(scope="module")
def cells() -> anndata.AnnData:
    counts = np.random.default_rng(0).poisson(1.5, (12, 40)).astype(np.float32)
    counts[3] = 0
    obs = pd.DataFrame({"kind": list("abcd") * 3}, index=[f"c{cell}" for cell in range(12)])
    var = pd.DataFrame(index=[f"ENSG{gene:011d}" for gene in range(40)])
    return anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=var)


@pytest.mark.parity
@pytest.mark.parametrize(
    "model_class",
    [MultiomePerformerModel, MultiomePerformerForPreTraining, MultiomePerformerForCellTypeClassification],
)
def test_equals_the_model(extractor: MultiomeFeatureExtractor, cells: anndata.AnnData, model_class: type) -> None:
    torch.manual_seed(0)
    model = model_class(MultiomePerformerConfig(**TINY, num_genes=40, initializer_range=0.5))
    pipe = CellEmbeddingPipeline(model, feature_extractor=extractor, device="cpu")
    found = pipe(cells, labels="kind", batch_size=5, neighbours=4)
    chosen = np.delete(np.arange(12), 3)
    values = extractor(rna=cells.X[chosen], return_tensors="pt")["rna_values"].long()
    with torch.inference_mode():
        expected = model.base_model(rna_values=values).cell_embedding.numpy()
    np.testing.assert_allclose(found.embeddings[chosen], expected, atol=1e-5)
    assert np.isnan(found.embeddings[3]).all() and found.summary["cells_without_any_value"] == 1
    agreement = found.summary["neighbour_agreement"]
    assert agreement["cells_compared"] == 11 and agreement["cells_left_out"] == 1 and agreement["neighbours"] == 4
    made = found.anndata(name="X_mine")
    np.testing.assert_array_equal(made.obsm["X_mine"], found.embeddings)
    assert "X_multiome_performer" in found.anndata().obsm and not cells.obsm


def test_paired_cells_are_the_mean_of_their_paths(extractor: MultiomeFeatureExtractor, cells: anndata.AnnData) -> None:
    torch.manual_seed(0)
    model = MultiomePerformerModel(MultiomePerformerConfig(**TINY, num_genes=40, initializer_range=0.5))
    pipe = CellEmbeddingPipeline(model, feature_extractor=extractor, device="cpu")
    peaks = [f"chr1:{100_000 * gene + 10_000}-{100_000 * gene + 10_400}" for gene in range(40)]
    atac = anndata.AnnData(cells.X[::-1].copy(), obs=cells.obs.copy(), var=pd.DataFrame(index=peaks))
    both = pipe({"rna": cells, "atac": atac}).embeddings
    alone = [pipe(part).embeddings for part in (cells, atac)]
    expected = np.nanmean(alone, axis=0)  # a cell without a count of one has the other's
    np.testing.assert_allclose(both, expected, atol=1e-5)


def test_bad_options(extractor: MultiomeFeatureExtractor, cells: anndata.AnnData) -> None:
    model = MultiomePerformerModel(MultiomePerformerConfig(**TINY, num_genes=40))
    pipe = CellEmbeddingPipeline(model, feature_extractor=extractor, device="cpu")
    with pytest.raises(ValueError, match="neighbours is 0"):
        pipe(cells, neighbours=0)
    with pytest.raises(ValueError, match="obs has no column 'type'; its columns are: kind"):
        pipe(cells, labels="type")
