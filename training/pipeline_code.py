"""A pipeline's code beside a model's weights, so that the folder works without this package."""

from pathlib import Path

from transformers import Pipeline, PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save


def add_pipeline(
    model: PreTrainedModel, folder: Path, *, task: str, pipeline_class: type[Pipeline], model_class: type
) -> None:
    """Put the pipeline's code into the model's folder and name it in its configuration, before the model is saved.

    With it `pipeline(task, model=folder, trust_remote_code=True)` works without this package.
    """
    folder.mkdir(parents=True, exist_ok=True)
    implementation = f"{pipeline_class.__module__.rpartition('.')[2]}.{pipeline_class.__name__}"
    model.config.custom_pipelines = {task: {"impl": implementation, "pt": [model_class.__name__]}}
    custom_object_save(pipeline_class, folder)
