"""Sequence view: which bases and motifs are drawn, panels, and tables without their columns."""

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omics_transformers.pipelines.sequence_edit_figure import (
    BASES_A_PANEL,
    MARGIN,
    _rows_of_hits,
    _windows,
    draw_sequence_edit,
)


def make_bases(length: int, changed: list[int]) -> pd.DataFrame:
    reference = np.array(list("ACGT" * length))[:length]
    edited = reference.copy()
    edited[changed] = "N"
    position = np.arange(1_000, 1_000 + length)
    is_changed = np.isin(np.arange(length), changed)
    return pd.DataFrame(
        {
            "position": position,
            "offset": position - 1_050,
            "reference": reference,
            "edited": edited,
            "is_changed": is_changed,
        }
    )


HITS = pd.DataFrame(
    {
        "motif": ["GATA4", "TBX5", "FAR"],
        "start": [1_015, 1_022, 1_170],
        "end": [1_027, 1_030, 1_180],
        "strand": ["+", "-", "+"],
        "change": ["lost", "gained", "kept"],
    }
)


def test_bases_and_motifs_around_the_changes() -> None:
    figure = draw_sequence_edit(make_bases(200, [20, 25]), HITS, gene="GATA4")
    assert figure is not None
    text = [part.strip() for part in ElementTree.fromstring(figure.svg).itertext()]
    assert text.count("N") == 2 and "GATA4 › lost" in text and "TBX5 ‹ gained" in text and "-30" in text
    assert not any("FAR" in part for part in text)
    assert figure.caption == "2 of 2 changed bases, boxed. Motifs: 1 lost, 1 gained, 1 kept."
    assert figure == draw_sequence_edit(make_bases(200, [20, 25]), HITS, gene="GATA4")


def test_more_places_than_fit_are_owned_up_to() -> None:
    figure = draw_sequence_edit(make_bases(1_000, list(range(10, 1_000, 100))), gene="GATA4")
    assert figure is not None
    assert figure.caption == "6 of 10 changed bases, boxed; 4 more places are not drawn."


@settings(deadline=None)
@given(st.sets(st.integers(0, 399), max_size=60))
def test_panels_hold_every_change_once_and_are_not_too_wide(changed: set[int]) -> None:
    windows = _windows(make_bases(400, sorted(changed)))
    inside = [place for start, end in windows for place in range(start, end)]
    assert len(inside) == len(set(inside)) and changed <= set(inside)
    assert all(0 <= start < end <= 400 and end - start <= BASES_A_PANEL + MARGIN for start, end in windows)


def test_hits_in_a_row_do_not_overlap() -> None:
    generator = np.random.default_rng(0)
    starts = generator.integers(0, 60, 30)
    hits = [{"start": int(start), "end": int(start) + 8, "motif": "M", "change": "lost"} for start in starts]
    placed = _rows_of_hits(hits)
    for row in {row for row, _ in placed}:
        spans = sorted((hit["start"], hit["end"]) for other, hit in placed if other == row)
        assert all(first[1] <= second[0] for first, second in pairwise(spans))


def test_no_change_no_figure() -> None:
    assert draw_sequence_edit(make_bases(50, []), gene="GATA4") is None
    assert draw_sequence_edit(make_bases(50, []).head(0), HITS, gene="GATA4") is None


def test_tables_without_their_columns() -> None:
    with pytest.raises(ValueError, match="bases has no edited; its columns are position, offset"):
        draw_sequence_edit(make_bases(50, [3]).drop(columns="edited"), gene="GATA4")
    with pytest.raises(ValueError, match="motif hits has no change"):
        draw_sequence_edit(make_bases(50, [3]), HITS.drop(columns="change"), gene="GATA4")


def test_inserted_bases_stand_over_gaps_and_one_tick() -> None:
    offsets = [*range(-25, -19), *[-20] * 5, *range(-19, -5)]
    bases = pd.DataFrame({"position": np.array(offsets) + 100, "offset": offsets, "reference": "A", "edited": "A"})
    bases.loc[6:10, "reference"] = "-"
    figure = draw_sequence_edit(bases.assign(is_changed=bases["reference"] == "-"), gene="G")
    assert figure is not None and "5 of 5 changed bases" in figure.caption
    words = [element.text for element in ElementTree.fromstring(figure.svg).iter() if element.tag.endswith("text")]
    assert words.count("-20") == 1 and words.count("-") == 5
