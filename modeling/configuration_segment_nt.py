"""Configuration of SegmentNT: a Nucleotide Transformer with a U-Net head that labels each base with genomic elements.

Source: de Almeida et al. 2025 (SegmentNT, https://doi.org/10.1038/s41592-025-02881-2), its public JAX code, and "Region
Ranking on scATAC", chapter 3. The thesis writes 2,048 and 4,096 channels; the published weights have hidden x (1, 2).
"""

from typing import Any

from huggingface_hub.dataclasses import strict

from .configuration_nucleotide_transformer import NucleotideTransformerConfig

SEGMENT_NT_ELEMENTS = (
    "protein_coding_gene",
    "lncRNA",
    "exon",
    "intron",
    "splice_donor",
    "splice_acceptor",
    "5UTR",
    "3UTR",
    "CTCF-bound",
    "polyA_signal",
    "enhancer_Tissue_specific",
    "enhancer_Tissue_invariant",
    "promoter_Tissue_specific",
    "promoter_Tissue_invariant",
)


@strict
class SegmentNTConfig(NucleotideTransformerConfig):
    """The encoder's fields, and those of the head.

    Args:
        unet_channels: channels of each level of the U-Net, from the finest; hidden_size x (1, 2) where None.
        unet_convolutions: convolutions of each block.
        focal_gamma: exponent of the focal loss; 0 is the cross-entropy.
        class_weights: (elements,) weight of the loss at bases that carry the element, 1 elsewhere; None: all 1.
        thresholds: (elements,) probability from which a base is called, chosen on validation data; None where unknown.
        window_bp: length of the windows that the model was trained on, in bp; None where unknown.
        id2label: elements in the order of the logits; the published 14 by default.

    Raises:
        ValueError: where lists do not have a number an element, or levels and channels do not fit.
    """

    model_type = "segment-nt"

    unet_channels: list[int] | None = None
    unet_convolutions: int = 2
    focal_gamma: float | int = 2.0
    class_weights: list[float] | None = None
    thresholds: list[float] | None = None
    window_bp: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.id2label is None and kwargs.get("num_labels") is None:
            self.id2label = dict(enumerate(SEGMENT_NT_ELEMENTS))
        self.unet_channels = self.unet_channels or [self.hidden_size, 2 * self.hidden_size]
        super().__post_init__(**kwargs)
        if self.label2id is None and self.id2label is not None:
            self.label2id = {name: int(number) for number, name in self.id2label.items()}

    def validate_unet(self) -> None:
        if self.unet_channels is not None and (not self.unet_channels or min(self.unet_channels) < 1):
            raise ValueError(f"unet_channels is {self.unet_channels}: expected a positive number a level")
        if self.unet_convolutions < 1:
            raise ValueError(f"unet_convolutions is {self.unet_convolutions}: expected at least 1 a block")

    def validate_elements(self) -> None:
        for name in ("class_weights", "thresholds"):
            values = getattr(self, name)
            if values is not None and self.id2label is not None and len(values) != len(self.id2label):
                raise ValueError(f"{name} has {len(values)} numbers for {len(self.id2label)} elements: give one each")


SegmentNTConfig.register_for_auto_class()
