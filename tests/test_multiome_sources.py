"""Data sets as the command line writes them."""

import re

import pytest

from omics_transformers.data_scripts.multiome_sources import MultiomeSource


def test_sources_of_the_command_line() -> None:
    assert MultiomeSource.from_text("a.h5ad") == MultiomeSource("a.h5ad")
    text = "a.h5ad:atac=b.tsv.gz:tile=5000:labels=c.csv:column=kind:donor=who:batch=lane:barcodes=cell:name=pbmc"
    expected = MultiomeSource(
        "a.h5ad", "b.tsv.gz", None, None, 5000, "c.csv", "kind", "who", "lane", "cell", None, "pbmc"
    )
    assert MultiomeSource.from_text(text) == expected
    text = "a.h5mu:modality=both:layer=raw:counts=fragments:coordinates=1-based:chain=d.gz:peaks=e.bed"
    expected = MultiomeSource(
        "a.h5mu", modality="both", layer="raw", counts="fragments", coordinates="1-based", chain="d.gz", peaks="e.bed"
    )
    assert MultiomeSource.from_text(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:peak=b", "'peak=b' is no option; expected PATH[:atac=PATH2]"),
        ("", "names no file"),
        ("a:tile=5k", "tile='5k'; expected a number of base pairs"),
        ("a:tile=0", "tiles of 0 bp"),
        ("a:tile=5:peaks=b", "both peaks and tiles are given"),
        ("a:barcodes=cell", "a column of barcodes is named, but no table"),
        ("a:modality=dna", "modality is 'dna'; expected one of rna, atac, both"),
        ("a:counts=cuts", "counts is 'cuts'; expected one of reads, fragments"),
        ("a:coordinates=1", "coordinates is '1'; expected one of 0-based, 1-based"),
        ("a:atac=b:modality=both", "expected that the first file holds the RNA"),
    ],
)
def test_what_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        MultiomeSource.from_text(text)


@pytest.mark.parametrize(("path", "name"), [("x/pbmc.h5ad", "pbmc"), ("a.v2.fragments.tsv.gz", "a.v2.fragments")])
def test_a_data_set_is_called_as_its_file(path: str, name: str) -> None:
    assert MultiomeSource(path).dataset == name
    assert MultiomeSource(path, name="mine").dataset == "mine"
