"""What SegmentNT's configuration holds, keeps and refuses."""

from pathlib import Path

import pytest

from omics_transformers.data_scripts.segment_elements import SEGMENT_ELEMENTS
from omics_transformers.modeling.configuration_segment_nt import SEGMENT_NT_ELEMENTS, SegmentNTConfig


def test_the_defaults_are_the_published_head() -> None:
    config = SegmentNTConfig()
    assert config.unet_channels == [512, 1024] and config.unet_convolutions == 2 and config.focal_gamma == 2
    assert list(config.id2label.values()) == list(SEGMENT_NT_ELEMENTS) and config.num_labels == 14
    assert config.label2id["splice_donor"] == 4


def test_elements_and_lists_survive_save_and_load(tmp_path: Path) -> None:
    config = SegmentNTConfig(
        id2label={0: "exon", 1: "promoter"}, class_weights=[2.0, 3.5], thresholds=[0.4, 0.2], unet_channels=[8, 16, 32]
    )
    config.save_pretrained(tmp_path)
    loaded = SegmentNTConfig.from_pretrained(tmp_path)
    assert loaded.id2label == {0: "exon", 1: "promoter"} and loaded.label2id == {"exon": 0, "promoter": 1}
    assert (loaded.class_weights, loaded.thresholds, loaded.unet_channels) == ([2.0, 3.5], [0.4, 0.2], [8, 16, 32])


def test_a_number_of_labels_without_names_is_possible() -> None:
    assert SegmentNTConfig(num_labels=3).num_labels == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"unet_channels": [8, 0]}, "a positive number a level"),
        ({"unet_convolutions": 0}, "at least 1 a block"),
        ({"class_weights": [1.0]}, "class_weights has 1 numbers for 14 elements"),
        ({"thresholds": [0.5, 0.5]}, "thresholds has 2 numbers for 14 elements"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(Exception, match=message):
        SegmentNTConfig(**fields)


def test_models_and_builders_name_the_same_elements() -> None:
    """The two rooms do not import each other."""
    assert SEGMENT_NT_ELEMENTS == SEGMENT_ELEMENTS
