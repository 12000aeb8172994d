"""The cards of trained models, from the templates in model_cards/."""

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

_TEMPLATES = "omics_transformers.model_cards"


def write_model_card(folder: Path, **values: Any) -> None:
    """Write README.md of a pre-trained Bio-DTA.

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
    write_card(folder, data, "bio_dta.md", **values)


def write_segmentation_card(folder: Path, **values: Any) -> None:
    """Write README.md of a trained SegmentNT.

    Args:
        folder: of the model.
        values: what the template names: model_name, config, parameters, trained_parameters, model_arguments,
            data_arguments, report, steps, windows_a_step, learning_rate, split, scores (what the metric gave there).
    """
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="token-classification",
        tags=["biology", "genomics", "dna", "segment-nt"],
    )
    write_card(folder, data, "segment_nt.md", **values)


def write_ranking_card(folder: Path, **values: Any) -> None:
    """Write README.md of a trained region ranker.

    Args:
        folder: of the model.
        values: what the template names: model_name, config, parameters, trained_parameters, model_arguments,
            data_arguments, report, steps, rows_a_step, learning_rate, weight_decay, results (split -> scores).
    """
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="feature-extraction",
        tags=["biology", "genomics", "dna", "chromatin", "nt-region-ranker"],
    )
    write_card(folder, data, "nt_region_ranker.md", **values)


def write_card(folder: Path, data: ModelCardData, name: str, **values: Any) -> None:
    """Write README.md from a template in model_cards/, with what it names."""
    with as_file(files(_TEMPLATES) / name) as template:
        card = ModelCard.from_template(data, template_path=str(template), **values)
    card.save(folder / "README.md")
