"""The region-ranking pipeline's code beside a model's weights, so that the folder works without this package."""

from pathlib import Path

from transformers import PreTrainedModel

from ..pipelines.region_ranking import MODEL_CLASS, TASK, RegionRankingPipeline
from .pipeline_code import add_pipeline


def add_ranking_pipeline(model: PreTrainedModel, folder: Path) -> None:
    """`pipeline("region-ranking", model=folder, trust_remote_code=True)` for a model yet to be saved there."""
    add_pipeline(model, folder, task=TASK, pipeline_class=RegionRankingPipeline, model_class=MODEL_CLASS)
