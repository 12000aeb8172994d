"""What the pipelines of the multiome Performer share: its feature extractor, reading of cells, batches, and saving.

The feature extractor is loaded from the model's folder and aligns and bins new cells as the model's training data were.
"""

import logging
from typing import Any

import numpy as np
import torch
from transformers import Pipeline

from .aligned_cells import CountChoice, MultiomeCells, read_multiome_cells

logger = logging.getLogger(__name__)

DEFAULT_BATCH_SIZE = 8
MODEL_TYPE = "multiome-performer"


class MultiomePipeline(Pipeline):
    """Base of the three pipelines; a subclass says in `_head` what model it needs, and in its call what it asks."""

    # transformers declares these as None.
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False
    _load_feature_extractor: Any = True
    _load_tokenizer: Any = False
    _registered_impl: dict[str, Any]
    _head: str | None = None  # of the classes' names; None: any
    model: Any
    feature_extractor: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model.eval()
        require_multiome_model(self.model.config)
        self._require_head()
        require_fitting_extractor(self.feature_extractor, self.model.config)
        if self.model.dtype != torch.float32:
            logger.warning("the model is in %s: results are less exact than in float32", self.model.dtype)

    def preprocess(  # type: ignore[override]
        self, input_: Any, modality: str | None = None, choice: CountChoice | None = None, **options: Any
    ) -> MultiomeCells:
        """Cells aligned with the model's genes; in modalities that the model knows."""
        if options:
            raise ValueError(f"unknown options: {', '.join(options)}")
        cells = read_multiome_cells(input_, self.feature_extractor, modality=modality, choice=choice)
        self.require_modalities(tuple(cells.counts))
        if not any(cells.has_values(name).any() for name in cells.counts):
            raise ValueError(f"none of the {len(cells):,} cells has a count on the model's genes: {dict(cells.report)}")
        return cells

    def require_modalities(self, given: tuple[str, ...]) -> None:
        """Raise ValueError for a modality that the model was not made for."""
        known = tuple(self.model.config.modalities)
        unknown = [name for name in given if name not in known]
        if unknown:
            both = [name for name in given if name in known]
            remedy = f"read only these with modality={both[0]!r}" if both else "give cells of these"
            raise ValueError(
                f"the cells have {' and '.join(given)}, and the model knows {' and '.join(known)} only: {remedy}"
            )

    def cells_a_batch(self, batch_size: int | None) -> int:
        """The call's batch size, else the pipeline's, else 8."""
        chosen = batch_size if batch_size is not None else self._batch_size
        if chosen is not None and chosen < 1:
            raise ValueError(f"batch_size is {chosen}: give 1 or more cells, or None for {DEFAULT_BATCH_SIZE}")
        return chosen or DEFAULT_BATCH_SIZE

    def run_model(self, model: Any, values: dict[str, np.ndarray]) -> Any:
        """The output of a model for one batch of binned values, (cells, genes) uint8 each."""
        with self.device_placement(), torch.inference_mode():
            return model(**{name: torch.from_numpy(array).long().to(self.device) for name, array in values.items()})

    def save_pretrained(self, save_directory: Any, **options: Any) -> None:
        """Write model, feature extractor and this pipeline's code, so that the folder works without the package."""
        super().save_pretrained(save_directory, **options)
        self.model.config.__dict__.pop("custom_pipelines", None)  # the code lies in that folder only

    def _forward(self, input_tensors: Any, **options: Any) -> Any:  # noqa: ARG002
        return self.run_model(self.model, input_tensors)

    def postprocess(self, model_outputs: Any, **options: Any) -> Any:  # noqa: ARG002
        """Transformers asks for this hook; results are made by the call."""
        return model_outputs

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if parameters:
            raise ValueError(f"unknown options of the pipeline: {', '.join(parameters)}; give options with each call")
        return {}, {}, {}

    def _require_head(self) -> None:
        found = type(self.model).__name__
        if self._head is not None and self._head not in found:
            raise ValueError(
                f"the model is a {found}, and this pipeline needs one {self._head}: give the folder of a model that "
                "was trained for it"
            )


def require_multiome_model(config: Any, name: str = "the model") -> None:
    """Raise ValueError for the configuration of another kind of model."""
    if config.model_type != MODEL_TYPE:
        raise ValueError(
            f"{name} is a {config.model_type}, which does not read RNA and ATAC by gene; expected a {MODEL_TYPE}, as "
            "run_multiome_pretraining.py and run_cell_type_classification.py train it"
        )


def require_fitting_extractor(feature_extractor: Any, config: Any) -> None:
    """Raise ValueError where there is no feature extractor, or one of other genes than the model's."""
    if feature_extractor is None or not hasattr(feature_extractor, "align_rna"):
        raise ValueError(
            f"the pipeline needs a MultiomeFeatureExtractor, and has {type(feature_extractor).__name__}: save it "
            "beside the model, or give feature_extractor=MultiomeFeatureExtractor.from_pretrained(...)"
        )
    genes = list(feature_extractor.gene_ids)
    if len(genes) != config.num_genes:
        raise ValueError(
            f"the feature extractor has {len(genes):,} genes and the model {config.num_genes:,}: load both from the "
            "same folder"
        )
    known = getattr(config, "gene_ids", None)
    if known is None:
        return
    differing = [number for number, gene in enumerate(known) if gene != genes[number]]
    if differing:
        first = differing[0]
        raise ValueError(
            f"{len(differing):,} genes of the feature extractor are not the model's, e.g. number {first} is "
            f"{genes[first]} there and {known[first]} in the model: load both from the same folder"
        )
