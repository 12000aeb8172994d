"""Edits prepared for a model: tokens, features, and sham edits at other genes."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.modeling.tokenization_gene_rank import GeneRankTokenizer
from omics_transformers.pipelines.perturbation_cells import RankedCells
from omics_transformers.pipelines.perturbation_edits import parse_edit
from omics_transformers.pipelines.perturbation_preparation import EditPreparation
from omics_transformers.pipelines.perturbation_run import GeneEdit

GENES = [f"G{number}" for number in range(12)]


@pytest.fixture(scope="module")
def prepare() -> EditPreparation:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = BioDTAForMaskedLM(BioDTAConfig(vocab_size=14, dna_feature_size=3, **sizes))
    model.set_gene_features(torch.randn(14, 3))
    tokens = {token: number for number, token in enumerate(["<pad>", "<mask>", *GENES])}
    symbols = {gene: f"SYM{gene[1:]}" for gene in GENES}
    return EditPreparation(model, GeneRankTokenizer.from_dictionaries(tokens, None, symbols))


def make_cells() -> RankedCells:
    """Every gene in every cell, but gene 11 in none."""
    tokens = np.tile(np.arange(2, 13), 5)
    return RankedCells(tokens, np.arange(6) * 11)


def test_tokens_and_vocabulary(prepare: EditPreparation) -> None:
    assert prepare.token_ids_of(["G3", "SYM0"]) == [5, 2]
    assert prepare.vocabulary() == (14, 2, 0, 1)
    with pytest.raises(ValueError, match="edited twice, as G3 and as SYM3"):
        prepare.token_ids_of(["G3", "SYM3"])


def test_edits_and_their_descriptions(prepare: EditPreparation) -> None:
    requested = [("G1", parse_edit([1.0, 2.0, 3.0])), ("G2", parse_edit({"kind": "set-rank", "rank": 4}))]
    edits, descriptions = prepare.gene_edits(requested, [3, 4], None)
    assert edits[0][:2] == ("features", 3) and edits[0].features.tolist() == [1, 2, 3]
    assert edits[1] == GeneEdit("set-rank", 4, None, 4)
    assert descriptions[1] == {"gene_id": "G2", "kind": "set-rank", "rank": 4}
    assert descriptions[0]["feature_change_in_standard_deviations"] > 0


def test_sham_edits_make_the_same_change_elsewhere(prepare: EditPreparation) -> None:
    table = prepare._model.bert.gene_token_embeddings.table.features.numpy()
    change = np.array([0.5, -1.0, 2.0], dtype=np.float32)
    edits = [GeneEdit("features", 3, table[3] + change), GeneEdit("set-rank", 4, None, 2)]
    shams = prepare.sham_edits(make_cells(), np.arange(5), edits, 4, 0)
    tokens = [sham.token_id for pair in shams for sham in pair]
    assert len(set(tokens)) == 8 and not {3, 4, 13} & set(tokens)
    for first, second in shams:
        np.testing.assert_allclose(first.features - table[first.token_id], change, rtol=1e-5)
        assert (second.kind, second.features, second.rank) == ("set-rank", None, 2)
    assert [sham[0].token_id for sham in prepare.sham_edits(make_cells(), np.arange(5), edits, 4, 0)] == tokens[::2]
    with pytest.raises(ValueError, match=r"sham_genes is 5, and 9 other genes .* up to 4"):
        prepare.sham_edits(make_cells(), np.arange(5), edits, 5, 0)


def test_a_model_without_dna_takes_no_edit_of_it(prepare: EditPreparation) -> None:
    blind = EditPreparation(SimpleNamespace(config=SimpleNamespace(adapter_type="none")), prepare._tokenizer)
    with pytest.raises(ValueError, match="reads none"):
        blind.gene_edits([("G1", parse_edit([1.0]))], [3], None)
