"""Sources of accessibility as the command line writes them."""

import re

import pytest

from omics_transformers.data_scripts.accessibility_sources import AccessibilitySource


def test_sources_of_the_command_line() -> None:
    assert AccessibilitySource.from_text("a.h5ad") == AccessibilitySource("a.h5ad")
    text = "a.tsv.gz:peaks=b.bed:labels=c.csv:column=type:barcodes=cell:chain=d.gz:name=heart"
    expected = AccessibilitySource("a.tsv.gz", "b.bed", None, "c.csv", "type", "cell", "d.gz", "heart")
    assert AccessibilitySource.from_text(text) == expected
    text = "a.h5mu:layer=counts:modality=peaks:coordinates=1-based"
    expected = AccessibilitySource("a.h5mu", layer="counts", modality="peaks", coordinates="1-based")
    assert AccessibilitySource.from_text(text) == expected
    assert AccessibilitySource.from_text("a.tsv:tile=5000").tile_bp == 5000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:peak=b", "'peak=b' is no option; expected PATH[:peaks=BED][:tile=5000]"),
        ("", "names no file"),
        ("a:tile=5k", "tile='5k'; expected a number of base pairs"),
        ("a:tile=0", "tiles of 0 bp"),
        ("a:tile=5:peaks=b", "both peaks and tiles are given"),
        ("a:barcodes=cell", "a column of barcodes is named, but no table"),
        ("a:coordinates=1", "coordinates are '1'; expected one of 0-based, 1-based"),
    ],
)
def test_what_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        AccessibilitySource.from_text(text)


@pytest.mark.parametrize(
    ("path", "name"),
    [("x/pbmc.h5ad", "pbmc"), ("a.v2.fragments.tsv.gz", "a.v2.fragments"), ("x/filtered/", "filtered"), (".gz", ".gz")],
)
def test_a_sample_is_named_after_its_file(path: str, name: str) -> None:
    assert AccessibilitySource(path).sample == name
    assert AccessibilitySource(path, name="heart").sample == "heart"
