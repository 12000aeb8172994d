"""Fragments are counted for the cells that are meant, in disjoint peaks or tiles."""

import re
from pathlib import Path

import pandas as pd
import pytest

from omics_transformers.data_scripts.multiome_fragments import CellReading, fragments_input
from omics_transformers.data_scripts.multiome_input import Input
from omics_transformers.data_scripts.multiome_sources import MultiomeSource


def counted(source: MultiomeSource, barcodes: list[str] | None = None, **options: float) -> Input:
    cells = None if barcodes is None else pd.Index(barcodes)
    return fragments_input(source, Path(source.path), cells, CellReading(**options))  # type: ignore[arg-type]


def write_fragments(path: Path) -> Path:
    """c1 has three fragments, two of them in PEAKS; c2 one; c3 one on no contig of theirs."""
    rows = [("chr1", 90, 110, "c1"), ("chr1", 120, 130, "c1"), ("chr1", 210, 250, "c1"), ("chr2", 4, 6, "c2")]
    rows += [("chr3", 1, 5, "c3")]
    path.write_text("".join(f"{contig}\t{start}\t{end}\t{cell}\t1\n" for contig, start, end, cell in rows))
    return path


def test_fragments_are_counted_for_the_cells_that_are_meant(tmp_path: Path) -> None:
    path, bed, labels = write_fragments(tmp_path / "f.tsv"), tmp_path / "p.bed", tmp_path / "labels.csv"
    bed.write_text("chr1\t100\t180\nchr1\t150\t200\nchr1\t300\t400\nchr2\t5\t9\n")
    labels.write_text("barcode,kind\nc2,T\nc1,B\nc9,B\n")
    found = counted(MultiomeSource(path, peaks=bed), minimum_fragments=1)
    assert found.fragments is not None and found.report["peaks that overlap"] == 2  # and so are one
    assert found.fragments.toarray().tolist() == [[2, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert list(counted(MultiomeSource(path, peaks=bed, labels=labels)).barcodes) == ["c1", "c2"]
    few = counted(MultiomeSource(path, tile_bp=100), minimum_fragments=2)
    assert list(few.barcodes) == ["c1"] and few.are_tiles and list(few.all_barcodes) == ["c1", "c2", "c3"]
    assert few.report["barcodes with fewer fragments, left out"] == 2
    assert list(counted(MultiomeSource(path, peaks=bed), ["c2", "c7"]).barcodes) == ["c2"]


def test_tiles_reach_to_the_ends_of_the_named_assembly(tmp_path: Path) -> None:
    path = write_fragments(tmp_path / "f.tsv")
    found = fragments_input(
        MultiomeSource(path, tile_bp=100), path, None, CellReading({"1": 450, "2": 9, "3": 5}, "toy", 1)
    )
    assert found.peaks is not None
    assert found.peaks["end"].tolist() == [100, 200, 300, 400, 450, 9, 5]
    with pytest.raises(ValueError, match=r"as far as fragments reach: 1 of 3 end beyond their contig in toy"):
        fragments_input(MultiomeSource(path, tile_bp=50), path, None, CellReading({"1": 200, "2": 9}, "toy", 1))


def test_what_cannot_be_counted_is_refused(tmp_path: Path) -> None:
    path = write_fragments(tmp_path / "f.tsv")
    cases: list[tuple[MultiomeSource, list[str] | None, dict, str]] = [
        (MultiomeSource(path), None, {}, "name the intervals to count them in"),
        (MultiomeSource(path, tile_bp=9), None, {}, "none of 3 barcodes has 1,000 fragments or more; the most is 3"),
        (MultiomeSource(path, tile_bp=9, layer="raw"), None, {}, "holds fragments, which have no layer"),
        (
            MultiomeSource(path, tile_bp=9),
            ["c2", "c7"],
            {"minimum_shared_barcodes": 0.6},
            "1 barcodes are in both of the paired files, of 2 of the RNA (c2, c7) and 3 of the ATAC (c1, c2, c3)",
        ),
    ]
    for source, barcodes, options, message in cases:
        with pytest.raises(ValueError, match=re.escape(message)):
            counted(source, barcodes, **options)
