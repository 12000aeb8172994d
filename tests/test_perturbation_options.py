"""Options of edits: which are needed, which contradict each other, and which are told to be of no use."""

import logging
from typing import Any

import pytest

from omics_transformers.perturbation_options import EDITS, NEEDED, USED, EditOptions, check_options, split_options

REFERENCE = {"genome": "g.fa", "annotation": "a.gtf", "dna_model": "enformer"}
VALUES: dict[str, Any] = dict.fromkeys(EditOptions.__dataclass_fields__, "x") | {
    "rank": 0,
    "tracks": [0],
    "mutations": 3,
    "offset": 0,
    "motif": ["GATA4"],
}


def test_every_option_belongs_to_an_edit() -> None:
    assert {*NEEDED, *USED} <= set(EDITS)
    named = {name for table in (NEEDED, USED) for options in table.values() for name in options}
    assert named == set(EditOptions.__dataclass_fields__)


@pytest.mark.parametrize("edit", EDITS)
def test_what_an_edit_needs_is_enough_and_all_of_it_needed(edit: str, caplog: pytest.LogCaptureFixture) -> None:
    enough = {name: VALUES[name] for name in NEEDED.get(edit, ())} | ({"vcf": "x"} if edit == "variants" else {})
    with caplog.at_level(logging.WARNING):
        check_options(edit, ["G"], EditOptions(**enough))
    assert not caplog.text
    for name in enough:
        with pytest.raises(ValueError, match=f"{edit}' needs .*{name}"):
            check_options(
                edit, ["G"], EditOptions(**{other: value for other, value in enough.items() if other != name})
            )


def test_all_that_is_of_no_use_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_options(
            "insert-motif", ["G"], EditOptions(**REFERENCE, motifs="m", motif="A", offset=-5, rate=0.1, head="h")
        )
    assert "edit 'insert-motif' does not use rate, head: ignored" in caplog.text  # head without tracks


@pytest.mark.parametrize(
    ("edit", "options", "message"),
    [
        ("swap", {}, "edit is 'swap'; expected one of delete, .*delete-motif"),
        ("mutagenesis", {**REFERENCE, "tracks": [0], "mutations": 1, "rate": 0.1}, "mutations is 1 and rate 0.1"),
        ("mutagenesis", {**REFERENCE, "tracks": []}, "needs tracks"),
        ("insert-motif", {**REFERENCE, "motifs": "m", "motif": ["A", "B"], "offset": 0}, "2 motifs are to be inserted"),
        ("variants", REFERENCE, "needs variants or vcf"),
        ("variants", {**REFERENCE, "variants": ["x"], "sample": "d"}, "sample is 'd', and no VCF"),
        ("variants", {**REFERENCE, "variants": ["x"], "unsorted": "sort"}, "unsorted is 'sort', and no VCF"),
    ],
)
def test_what_is_refused(edit: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_options(edit, ["G"], EditOptions(**options))


@pytest.mark.parametrize(
    ("edit", "options"), [("features", {"features": "f"}), ("sequence", {"sequence": "s", "dna_model": "d"})]
)
def test_one_gene_for_what_one_gene_gets(edit: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="says what one gene gets, and 2 genes were given"):
        check_options(edit, ["G", "H"], EditOptions(**options))


def test_options_of_the_edit_and_of_the_pipeline_are_parted() -> None:
    of_edit, others = split_options({"rank": 0, "layer": -1, "offset": 0, "sham_genes": 3})
    assert of_edit.given() == {"rank": 0, "offset": 0} and others == {"layer": -1, "sham_genes": 3}
    assert of_edit.chosen("offset", "strand") == {"offset": 0}
    assert EditOptions(motif="A").names_of_motifs() == ["A"] and EditOptions().names_of_motifs() == []
