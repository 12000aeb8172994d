"""A pipeline's code beside a model's weights, so that the folder works without this package."""

from collections.abc import Mapping
from pathlib import Path

from transformers import Pipeline, PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save


def add_pipeline(
    model: PreTrainedModel, folder: Path, *, task: str, pipeline_class: type[Pipeline], model_class: type
) -> None:
    """Put the pipeline's code into the model's folder and name it in its configuration, before the model is saved.

    With it `pipeline(task, model=folder, trust_remote_code=True)` works without this package.
    """
    add_pipelines(model, folder, {task: (pipeline_class, (model_class,))})


def add_pipelines(
    model: PreTrainedModel, folder: Path, pipelines: Mapping[str, tuple[type[Pipeline], tuple[type, ...]]]
) -> None:
    """The same of several: task -> pipeline, and the Auto classes that open its model. No others stay named."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.custom_pipelines = {}
    for task, (pipeline_class, model_classes) in pipelines.items():
        implementation = f"{pipeline_class.__module__.rpartition('.')[2]}.{pipeline_class.__name__}"
        names = [model_class.__name__ for model_class in model_classes]
        model.config.custom_pipelines[task] = {"impl": implementation, "pt": names}
        custom_object_save(pipeline_class, folder)
