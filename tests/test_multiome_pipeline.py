"""What the multiome pipelines share: which models and feature extractors they take, and their hooks."""

from types import SimpleNamespace
from typing import Any

import pytest

from omics_transformers.modeling.configuration_multiome_performer import MultiomePerformerConfig
from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.feature_extraction_multiome import MultiomeFeatureExtractor
from omics_transformers.modeling.modeling_multiome_performer import MultiomePerformerModel
from omics_transformers.pipelines.multiome_pipeline import (
    MultiomePipeline,
    require_fitting_extractor,
    require_multiome_model,
)

GENES = ["ENSG1", "ENSG2", "ENSG3"]


def make_pipeline(**options: Any) -> MultiomePipeline:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": 4, "intermediate_size": 8}
    model = MultiomePerformerModel(MultiomePerformerConfig(**sizes, num_genes=3, gene_ids=GENES))
    return MultiomePipeline(model, feature_extractor=MultiomeFeatureExtractor(GENES), device="cpu", **options)


def test_other_models() -> None:
    require_multiome_model(MultiomePerformerConfig())
    with pytest.raises(ValueError, match="mine is a nucleotide-transformer, which does not read RNA and ATAC"):
        require_multiome_model(NucleotideTransformerConfig(), "mine")


@pytest.mark.parametrize(
    ("genes", "known", "message"),
    [
        (GENES, GENES, None),
        (GENES, None, None),
        (GENES[:2], None, "has 2 genes and the model 3"),
        (["ENSG1", "ENSG3", "ENSG2"], GENES, "2 genes .* number 1 is ENSG3 there and ENSG2 in the model"),
    ],
)
def test_feature_extractors(genes: list[str], known: list[str] | None, message: str | None) -> None:
    config = SimpleNamespace(num_genes=3, gene_ids=known)
    if message is None:
        require_fitting_extractor(MultiomeFeatureExtractor(genes), config)
        return
    with pytest.raises(ValueError, match=message):
        require_fitting_extractor(MultiomeFeatureExtractor(genes), config)


def test_batch_size_of_call_pipeline_and_default() -> None:
    assert make_pipeline().cells_a_batch(None) == 8
    pipe = make_pipeline(batch_size=3)
    assert pipe.cells_a_batch(None) == 3 and pipe.cells_a_batch(5) == 5
    with pytest.raises(ValueError, match="batch_size is 0: give 1 or more cells"):
        pipe.cells_a_batch(0)
    with pytest.raises(ValueError, match="unknown options: gene"):
        pipe.preprocess(None, gene="GATA4")
