"""Combinations of genes against the same calls by hand."""

import logging

import numpy as np
import pytest
import torch
from datasets import Dataset

from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.modeling.tokenization_gene_rank import GeneRankTokenizer
from omics_transformers.pipelines.gene_embedding_perturbation import GeneEmbeddingPerturbationPipeline
from omics_transformers.pipelines.perturbation_combinations import perturb_combinations

GENES = [f"G{number}" for number in range(12)]


@pytest.fixture(scope="module")
def pipe() -> GeneEmbeddingPerturbationPipeline:
    torch.manual_seed(0)
    config = BioDTAConfig(
        vocab_size=14,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=20,
        max_position_embeddings=20,
        adapter_type="none",
        initializer_range=0.3,
    )
    tokens = {token: number for number, token in enumerate(["<pad>", "<mask>", *GENES])}
    tokenizer = GeneRankTokenizer.from_dictionaries(tokens, None, {gene: f"SYM{gene[1:]}" for gene in GENES})
    return GeneEmbeddingPerturbationPipeline(BioDTAForMaskedLM(config), tokenizer, device="cpu")


def make_cells() -> Dataset:
    """Genes 0, 1 and 2 are in most cells; gene 3 is alone in its cell; gene 11 is in none."""
    generator = np.random.default_rng(0)
    cells = [generator.permutation([2, 3, 4, *generator.choice(np.arange(6, 13), 4, replace=False)]) for _ in range(9)]
    cells = [cell[cell != 2 + number % 4].tolist() for number, cell in enumerate(cells)]
    return Dataset.from_dict({"input_ids": [*cells, [5]], "state": ["a", "b"] * 5})


def test_each_combination_beside_its_genes_alone(
    pipe: GeneEmbeddingPerturbationPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = perturb_combinations(pipe, make_cells(), ["G0", "SYM1", "G2", "G3"], edit="mask", batch_size=4)
    assert set(found.results) == {("G0", "G1"), ("G0", "G2"), ("G1", "G2")}
    assert found.skipped == [("G0", "G3"), ("G1", "G3"), ("G2", "G3")]
    assert "3 combinations are expressed by no cell" in caplog.text
    assert found.table["excess"].is_monotonic_decreasing
    for row in found.table.itertuples():
        members = row.gene_ids.split("+")
        cells = make_cells().filter(
            lambda cell, members=members: all(int(gene[1:]) + 2 in cell["input_ids"] for gene in members)
        )
        results = [pipe(cells, gene=gene, edit="mask") for gene in (members, *members)]
        shifts = [one.genes[~one.genes["gene_id"].isin(members)].set_index("gene_id")["shift"] for one in results]
        assert row.n_cells == len(cells) and row.n_genes == len(shifts[0])
        means = [float(one.mean()) for one in shifts]
        assert row.shift_mean == pytest.approx(means[0], rel=1e-4)
        assert row.shift_singles == pytest.approx(means[1] + means[2], rel=1e-4)
        assert row.excess == pytest.approx(row.shift_mean - row.shift_singles)
        of_cells = [one.cells["shift_without_edited"].mean() for one in results]
        assert row.cell_shift == pytest.approx(of_cells[0], rel=1e-4)
        assert row.cell_shift_singles == pytest.approx(of_cells[1] + of_cells[2], rel=1e-4)


def test_options_go_to_each_combination(pipe: GeneEmbeddingPerturbationPipeline) -> None:
    goal = {"column": "state", "start": "b", "goal": "a"}
    found = perturb_combinations(pipe, make_cells(), ["G0", "G1", "G2"], size=3, sham_genes=1, goal=goal, layer=0)
    (result,) = found.results.values()
    assert result.summary["layer"] == 0 and "goal" in result.summary and "shift_normalised" in result.genes
    assert found.table["symbols"].tolist() == ["SYM0+SYM1+SYM2"]


@pytest.mark.parametrize(
    ("genes", "options", "message"),
    [
        (["G0", "G1"], {"size": 3}, "size is 3, and 2 genes were given"),
        (["G0", "G1"], {"size": 1}, "size is 1"),
        (["G0", "SYM0"], {}, "the same gene is to be edited twice"),
        (["G0", "G99"], {}, "'G99' is not among"),
        (["G0", "G3"], {}, "no cell expresses 2 of G0, G3 together"),
        (["G0", "G1"], {"require_all": False}, "leave require_all out"),
    ],
)
def test_bad_combinations(
    pipe: GeneEmbeddingPerturbationPipeline, genes: list[str], options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        perturb_combinations(pipe, make_cells(), genes, **options)
