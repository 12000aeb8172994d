"""A pipeline's code and its entry in the configuration, beside a model that is yet to be saved."""

from pathlib import Path

import pytest
from transformers import AutoModel, Pipeline

from omics_transformers.modeling.configuration_nt_region_ranker import NTRegionRankerConfig
from omics_transformers.modeling.modeling_nt_region_ranker import NTRegionRanker
from omics_transformers.pipelines.dna_segmentation import DNASegmentationPipeline
from omics_transformers.pipelines.region_ranking import RegionRankingPipeline
from omics_transformers.training.pipeline_code import add_pipeline


@pytest.mark.parametrize(
    ("pipeline_class", "implementation"),
    [
        (RegionRankingPipeline, "region_ranking.RegionRankingPipeline"),
        (DNASegmentationPipeline, "dna_segmentation.DNASegmentationPipeline"),
    ],
)
def test_code_and_entry(tmp_path: Path, pipeline_class: type[Pipeline], implementation: str) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = NTRegionRanker(NTRegionRankerConfig(**sizes, num_tokens=21, scorer_head="linear"))
    add_pipeline(
        model, tmp_path / "deep" / "model", task="a-task", pipeline_class=pipeline_class, model_class=AutoModel
    )
    assert model.config.custom_pipelines == {"a-task": {"impl": implementation, "pt": ["AutoModel"]}}
    written = {path.stem for path in (tmp_path / "deep" / "model").iterdir()}
    assert {implementation.split(".")[0], "segmentation_input", "segmentation_windows"} <= written
