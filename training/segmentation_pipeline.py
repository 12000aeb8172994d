"""The segmentation pipeline's code beside a model's weights, so that the folder works without this package."""

from pathlib import Path

from transformers import PreTrainedModel

from ..pipelines.dna_segmentation import MODEL_CLASS, TASK, DNASegmentationPipeline
from .pipeline_code import add_pipeline


def add_segmentation_pipeline(model: PreTrainedModel, folder: Path) -> None:
    """`pipeline("dna-segmentation", model=folder, trust_remote_code=True)` for a model yet to be saved there."""
    add_pipeline(model, folder, task=TASK, pipeline_class=DNASegmentationPipeline, model_class=MODEL_CLASS)
