"""A SegmentNT and its tokenizer, opened to be looked into: in float32, whatever it was saved in."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
    import torch
    from transformers import AutoConfig

    from .modeling.modeling_segment_nt import SegmentNTForTokenClassification
    from .modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer

    config = AutoConfig.from_pretrained(source)
    if config.model_type != "segment-nt":
        raise ValueError(
            f"{source} is a {config.model_type}, which has no segmentation head; expected a segment-nt, as "
            "run_segmentation.py trains it or `omics-transformers convert segment-nt` makes it of published weights"
        )
    loader: Any = SegmentNTForTokenClassification  # typed as giving the model alone
    model, report = loader.from_pretrained(source, config=config, dtype=torch.float32, output_loading_info=True)
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"{source} lacks {len(missing):,} tensors, e.g. {', '.join(missing[:3])}: it is no whole segment-nt; train "
            "its head first, or convert the checkpoint again"
        )
    model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    return SegmentationModel(model, NucleotideKmerTokenizer.from_pretrained(source))
