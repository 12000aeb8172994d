"""The imputation pipeline on small models: against a plain pass, and its scores against plain formulas."""

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse, stats

from omics_transformers.modeling.configuration_multiome_performer import MultiomePerformerConfig
from omics_transformers.modeling.feature_extraction_multiome import MultiomeFeatureExtractor
from omics_transformers.modeling.modeling_multiome_performer import MultiomePerformerForPreTraining
from omics_transformers.pipelines.multiome_imputation import MultiomeImputationPipeline
from omics_transformers.training.multiome_data import read_multiome

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 16}
GENES = [f"ENSG{gene:011d}" for gene in range(40)]
PEAKS = [f"chr1-{100_000 * gene + 10_000}-{100_000 * gene + 10_400}" for gene in range(40)]


def make_pipeline(folder: Path, **changes: Any) -> MultiomeImputationPipeline:
    read = read_multiome(folder)
    torch.manual_seed(0)
    config = MultiomePerformerConfig(**{**TINY, "num_genes": 40, "initializer_range": 0.5, **changes})
    extractor = MultiomeFeatureExtractor(**read.feature_extractor)
    return MultiomeImputationPipeline(
        MultiomePerformerForPreTraining(config), feature_extractor=extractor, device="cpu"
    )


def make_cells(names: list[str], seed: int = 0, n_cells: int = 10) -> anndata.AnnData:
    counts = np.random.default_rng(seed).poisson(1.5, (n_cells, 40)).astype(np.float32)
    obs = pd.DataFrame({"batch": "b"}, index=[f"c{cell}" for cell in range(n_cells)])
    return anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=names))


@pytest.fixture(scope="module")
def pipe(toy_multiome: Path) -> MultiomeImputationPipeline:
    return make_pipeline(toy_multiome)


def plain_imputation(pipe: MultiomeImputationPipeline, given: str, cells: anndata.AnnData) -> np.ndarray:
    """(cells, genes, bins + 1) probabilities of the other modality."""
    counts = cells.X.toarray()
    # A peak at each gene's TSS or in its body is in the first ring.
    aligned = counts if given == "rna" else (np.ceil(counts / 2) / 2).astype(np.float32)
    values = pipe.feature_extractor(**{given: aligned}, return_tensors="pt")[f"{given}_values"].long()
    with torch.inference_mode():
        output = pipe.model(**{f"{given}_values": values})
    return output["atac_logits" if given == "rna" else "rna_logits"].softmax(-1).numpy()


@pytest.mark.parity
@pytest.mark.parametrize(("given", "names", "imputed"), [("rna", GENES, "atac"), ("atac", PEAKS, "rna")])
def test_equals_a_plain_pass(pipe: MultiomeImputationPipeline, given: str, names: list[str], imputed: str) -> None:
    cells = make_cells(names)
    found = pipe(cells, batch_size=3)
    probabilities = plain_imputation(pipe, given, cells)
    np.testing.assert_allclose(found.probabilities, 1 - probabilities[..., 0], atol=1e-5)
    centres = np.array(pipe.feature_extractor.atac_bins["centres"])
    np.testing.assert_allclose(found.expected, probabilities @ centres, rtol=1e-4)
    assert found.summary["direction"] == f"{imputed}_from_{given}" and found.observed is None
    assert np.ptp(found.expected, axis=0).max() > 0.01 and found.figures() == {}
    made = found.anndata()
    assert made.var_names.tolist() == GENES and made.obs["batch"].tolist() == ["b"] * 10
    np.testing.assert_array_equal(made.layers["probability"], found.probabilities)
    assert made.var["symbol"].tolist()[3] == "GENE3"
    np.testing.assert_allclose(found.genes["mean_expected"], found.expected.mean(0), rtol=1e-5)


def test_held_out_values(pipe: MultiomeImputationPipeline) -> None:
    rna, atac = make_cells(GENES), make_cells(PEAKS, seed=1)
    found = pipe({"rna": rna, "atac": atac})
    np.testing.assert_allclose(found.expected, pipe(rna).expected, atol=1e-6)  # ATAC was held out
    sums = np.ceil(atac.X.toarray() / 2) / 2
    observed = np.log1p(sums / sums.sum(1, keepdims=True) * 10_000)
    assert found.observed is not None and found.observed.dtype == np.float32
    np.testing.assert_allclose(found.observed, observed, rtol=1e-5)
    for gene in (0, 7, 39):
        expected = stats.pearsonr(observed[:, gene], found.expected[:, gene]).statistic
        assert found.genes["pearson"].iloc[gene] == pytest.approx(expected, abs=1e-4)
        expected = stats.spearmanr(observed[:, gene], found.expected[:, gene]).statistic
        assert found.genes["spearman"].iloc[gene] == pytest.approx(expected, abs=1e-4)
    means = observed.mean(0)
    scores = found.cell_scores
    for cell in (0, 9):
        assert scores["pearson"].iloc[cell] == pytest.approx(
            np.corrcoef(observed[cell], found.expected[cell])[0, 1], abs=1e-4
        )
        assert scores["gene_mean_pearson"].iloc[cell] == pytest.approx(
            np.corrcoef(observed[cell], means)[0, 1], abs=1e-4
        )
    compared = found.summary["comparison"]
    assert compared["gene_mean_of"] == "these cells" and compared["cells_compared"] == 10
    assert compared["of_genes_across_cells"]["median_pearson"] == pytest.approx(found.genes["pearson"].median())
    assert compared["mean_squared_error"] == pytest.approx(np.square(observed - found.expected).mean(), rel=1e-4)
    assert list(found.figures()) == ["correlations"]
    back = pipe({"rna": rna, "atac": atac}, direction="rna_from_atac")
    assert back.summary["direction"] == "rna_from_atac"
    np.testing.assert_allclose(back.expected, pipe(atac).expected, atol=1e-6)


def test_the_gene_mean_of_a_reference(pipe: MultiomeImputationPipeline) -> None:
    pair = {"rna": make_cells(GENES), "atac": make_cells(PEAKS, seed=1)}
    other = make_cells(PEAKS, seed=2)
    sums = np.ceil(other.X.toarray() / 2) / 2
    means = np.log1p(sums / sums.sum(1, keepdims=True) * 10_000).mean(0)
    by_cells, by_means = pipe(pair, reference=other), pipe(pair, reference=means)
    assert by_cells.summary["comparison"]["gene_mean_of"] == "reference"
    pd.testing.assert_frame_equal(by_cells.cell_scores, by_means.cell_scores, rtol=1e-4)
    assert not np.allclose(by_cells.cell_scores["gene_mean_pearson"], pipe(pair).cell_scores["gene_mean_pearson"])
    with pytest.raises(ValueError, match=r"reference has shape \(3,\); expected a finite mean for each of .* 40 genes"):
        pipe(pair, reference=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"the reference's atac \(X\): peaks: 40 of 40 peaks have a name"):
        pipe(pair, reference=make_cells(GENES))


def test_chosen_genes(pipe: MultiomeImputationPipeline) -> None:
    whole = pipe(make_cells(GENES))
    found = pipe(make_cells(GENES), genes=["GENE5", GENES[2], GENES[5]])
    assert found.genes.index.tolist() == [GENES[5], GENES[2]]
    np.testing.assert_array_equal(found.expected, whole.expected[:, [5, 2]])
    with pytest.raises(ValueError, match=r"1 of 2 genes are not among the model's 40, e\.g\. 'GATA4'"):
        pipe(make_cells(GENES), genes=["GATA4", "GENE1"])
    with pytest.raises(ValueError, match="genes is the text 'GENE1'"):
        pipe(make_cells(GENES), genes="GENE1")


def test_cells_and_genes_that_say_nothing(pipe: MultiomeImputationPipeline) -> None:
    rna, atac = make_cells(GENES), make_cells(PEAKS, seed=1)
    for cells, part in ((rna, np.s_[2, :]), (atac, np.s_[3, :]), (atac, np.s_[:, 4])):
        dense = cells.X.toarray()
        dense[part] = 0
        cells.X = sparse.csr_matrix(dense)
    found = pipe({"rna": rna, "atac": atac})
    assert np.isnan(found.expected[2]).all() and not np.isnan(np.delete(found.expected, 2, axis=0)).any()
    compared = found.summary["comparison"]
    assert compared["cells_compared"] == 8 and compared["cells_not_compared"] == 2
    assert compared["of_genes_across_cells"]["genes_without_variance"] == 1 and np.isnan(found.genes["pearson"].iloc[4])
    assert found.cell_scores["pearson"].isna().tolist() == [cell in (2, 3) for cell in range(10)]
    assert found.summary["cells_without_any_value"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direction": "rna"}, "direction is 'rna'; expected atac_from_rna or rna_from_atac"),
        ({"direction": "rna_from_atac"}, "direction is 'rna_from_atac', and the cells have rna only"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"genes": []}, "0 of 0 genes"),
    ],
)
def test_bad_options_before_the_model_runs(
    pipe: MultiomeImputationPipeline, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(pipe, "run_model", lambda *_: pytest.fail("the model ran"))
    with pytest.raises(ValueError, match=message):
        pipe(make_cells(GENES), **options)


def test_a_model_of_one_modality(toy_multiome: Path) -> None:
    with pytest.raises(ValueError, match="the model knows rna only: imputation needs a model of rna and atac"):
        make_pipeline(toy_multiome, modalities=["rna"])(make_cells(GENES))
