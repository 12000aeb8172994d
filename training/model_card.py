"""The model card of a pre-trained Bio-DTA, from the template in model_cards/."""

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

_TEMPLATE = ("omics_transformers.model_cards", "bio_dta.md")


def write_model_card(folder: Path, **values: Any) -> None:
    """Write README.md.

    Args:
        folder: of the model.
        values: what the template names: model_name, adapter_type, config, parameters, gene_features_metadata,
            data_arguments, report, donors, steps, cells_a_step, learning_rate, metrics.
    """
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="fill-mask",
        tags=["biology", "genomics", "single-cell", "bio-dta"],
    )
    with as_file(files(_TEMPLATE[0]) / _TEMPLATE[1]) as template:
        card = ModelCard.from_template(data, template_path=str(template), **values)
    card.save(folder / "README.md")
