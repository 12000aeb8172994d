"""A SegmentNT and its tokenizer, opened to be looked into: in float32, whatever it was saved in."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .modeling.modeling_segment_nt import SegmentNTForTokenClassification
    from .modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer


class SegmentationModel(NamedTuple):
    """The two, which belong together."""

    model: "SegmentNTForTokenClassification"
    tokenizer: "NucleotideKmerTokenizer"


def open_segmentation_model(source: str | Path, *, device: str | None = None) -> SegmentationModel:
    """Load a SegmentNT; no code but this package's runs.

    Args:
        source: folder or Hub repository that `save_pretrained`, run_segmentation.py or `omics-transformers convert`
            wrote.
        device: e.g. cpu or cuda:0; a GPU where there is one.

    Raises:
        ValueError: where it is another kind of model, or lacks tensors.
        OSError: where there is no model.
    """
    from .modeling.modeling_segment_nt import SegmentNTForTokenClassification
    from .modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
    from .pipelines.dna_segmentation import require_segmentation_model
    from .saved_model import open_saved_model

    model = open_saved_model(source, SegmentNTForTokenClassification, check=require_segmentation_model, device=device)
    return SegmentationModel(model, NucleotideKmerTokenizer.from_pretrained(source))
