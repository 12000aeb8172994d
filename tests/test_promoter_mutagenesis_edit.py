"""An edit's mutations, the perturbation's form of it, and checks of reference windows."""

import pytest

from omics_transformers.pipelines.perturbation_edits import ReplaceSequence, parse_edit
from omics_transformers.pipelines.promoter_mutagenesis_edit import PromoterEdit, bases_around, checked_reference


def test_an_edit_goes_to_a_perturbation() -> None:
    edit = PromoterEdit("ACGTACGT", "ACGTTCGA", {"how": "by hand"})
    assert edit.mutations == ["4T>A", "7A>T"]
    assert parse_edit(edit.replace_sequence()) == ReplaceSequence("ACGTACGT", "ACGTTCGA")
    assert edit.described(offset=0).description == {"how": "by hand", "offset": 0}
    assert edit.description == {"how": "by hand"}


def test_references() -> None:
    assert checked_reference(b"acgtn") == "ACGTN"
    assert checked_reference("ACR") == "ACN"
    with pytest.raises(ValueError, match="'X' at position 1"):
        checked_reference("AXC")
    with pytest.raises(ValueError, match="reference window is empty"):
        checked_reference("")


def test_bases_around_the_tss() -> None:
    assert bases_around("A" * 100, 10) == (45, 55)
    assert bases_around("A" * 100, 4, 48) == (96, 100)
    assert bases_around("A" * 101, 1) == (50, 51)
    for window_bp, offset in ((101, 0), (10, 46), (10, -46), (0, 0)):
        with pytest.raises(ValueError, match="do not lie within the reference window of 100 bp"):
            bases_around("A" * 100, window_bp, offset)
