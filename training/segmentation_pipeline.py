"""The segmentation pipeline's code beside a model's weights, so that the folder works without this package."""

from pathlib import Path

from transformers import PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save

from ..pipelines.dna_segmentation import MODEL_CLASS, TASK, DNASegmentationPipeline


def add_segmentation_pipeline(model: PreTrainedModel, folder: Path) -> None:
    """Put the pipeline's code into the model's folder and name it in its configuration, before the model is saved.

    With it `pipeline("dna-segmentation", model=folder, trust_remote_code=True)` works without this package.
    """
    folder.mkdir(parents=True, exist_ok=True)
    implementation = f"{DNASegmentationPipeline.__module__.rpartition('.')[2]}.{DNASegmentationPipeline.__name__}"
    model.config.custom_pipelines = {TASK: {"impl": implementation, "pt": [MODEL_CLASS.__name__]}}
    custom_object_save(DNASegmentationPipeline, folder)
