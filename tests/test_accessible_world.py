"""The drawn world: its DNA, expectations and counts agree, and nothing but motifs tells the order."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from omics_transformers.data_scripts.accessible_world import (
    CELL_TYPES,
    FLOOR,
    MARGIN_BP,
    MOTIFS,
    AccessibilitySettings,
    AccessibleWorld,
    draw_accessibility,
)

CONTIGS = {"one": 150, "two": 50}


@pytest.fixture(scope="module")
def world() -> AccessibleWorld:
    return draw_accessibility(AccessibilitySettings(), CONTIGS, seed=1)


def sequences(world: AccessibleWorld) -> list[str]:
    return [world.contigs[peak.contig][peak.start : peak.end].tobytes().decode() for peak in world.peaks.itertuples()]


def reverse(letters: str) -> str:
    return letters.translate(str.maketrans("ACGT", "TGCA"))[::-1]


def test_the_peaks_hold_the_copies_that_are_said(world: AccessibleWorld) -> None:
    for name, motif in MOTIFS.items():
        letters = motif.decode()
        found = [sequence.count(letters) + sequence.count(reverse(letters)) for sequence in sequences(world)]
        assert found == world.peaks[f"copies_{name}"].tolist()
        assert sum(sequence.count(letters) for sequence in sequences(world)) / sum(found) == pytest.approx(0.5, abs=0.1)
    total = world.peaks[[f"copies_{name}" for name in MOTIFS]].sum(axis=1)
    assert set(total) == {0, 1, 3}
    for cell_type in CELL_TYPES:
        np.testing.assert_allclose(world.peaks[f"expected_{cell_type}"], 0.03 + 0.3 * total)


def test_without_both_strands_motifs_stand_on_the_plus_strand() -> None:
    world = draw_accessibility(AccessibilitySettings(both_strands=False), {"one": 40}, seed=0)
    for name, motif in MOTIFS.items():
        found = [sequence.count(motif.decode()) for sequence in sequences(world)]
        assert found == world.peaks[f"copies_{name}"].tolist()


def test_peaks_lie_within_spans_apart_from_one_another(world: AccessibleWorld) -> None:
    settings, peaks = AccessibilitySettings(), world.peaks
    assert [len(world.contigs[name]) for name in CONTIGS] == [150 * 600, 50 * 600]
    assert (peaks.start // 600 == (peaks.end - 1) // 600).all()
    assert (peaks.span == peaks.start // 600 + (peaks.contig == "two") * 150).all()
    lengths = peaks.end - peaks.start
    assert lengths.min() >= settings.region_bp - 20 and lengths.max() <= settings.region_bp + 20
    apart = peaks.start.to_numpy()[1:] - peaks.end.to_numpy()[:-1]
    assert (apart[peaks.contig.to_numpy()[1:] == peaks.contig.to_numpy()[:-1]] >= 2 * MARGIN_BP).all()
    assert (peaks.peak == [f"{peak.contig}:{peak.start}-{peak.end}" for peak in peaks.itertuples()]).all()
    has_closed = peaks.assign(closed=peaks.expected_alpha < FLOOR).groupby("span").closed.any()
    assert len(has_closed) == 200 and 0.7 < has_closed.mean() < 0.9
    assert (peaks[peaks.expected_alpha >= FLOOR].groupby("span").size() == 2).all()


def test_counts_are_what_is_expected(world: AccessibleWorld) -> None:
    for number, cell_type in enumerate(CELL_TYPES):
        cells = world.type_of_cell == number
        assert cells.sum() == 60
        observed = np.asarray(world.fragments[cells].mean(axis=0)).ravel()
        expected = world.peaks[f"expected_{cell_type}"].to_numpy()
        error = (observed - expected) / np.sqrt(expected / 60)
        assert abs(error.mean()) < 0.2 and error.std() == pytest.approx(1, abs=0.15)
    assert (world.fragments.nonzero()[1] == world.reads.nonzero()[1]).all()
    assert (-(-world.reads.data // 2) == world.fragments.data).all()  # rounded up to even, halved
    assert (world.reads.data % 2).mean() == pytest.approx(0.2, abs=0.02)


def plain_order_kept(world: AccessibleWorld) -> float:
    kept = []
    for number, cell_type in enumerate(CELL_TYPES):
        table = world.peaks.assign(
            observed=np.asarray(world.fragments[world.type_of_cell == number].mean(axis=0)).ravel(),
            expected=world.peaks[f"expected_{cell_type}"],
        )
        for _, of_span in table.groupby("span"):
            pairs = [
                (first.observed if first.observed >= FLOOR else 0)
                > (second.observed if second.observed >= FLOOR else 0)
                for first in of_span.itertuples()
                for second in of_span.itertuples()
                if first.expected > second.expected
            ]
            kept.append(all(pairs))
    return float(np.mean(kept))


@pytest.mark.parametrize("settings", [{}, {"mean_per_copy": 0.1, "cells_per_type": 8}, {"copies": (1, 2, 4)}])
def test_share_of_kept_orders_is_counted_span_by_span(settings: dict) -> None:
    world = draw_accessibility(AccessibilitySettings(**settings, region_bp=100), {"one": 60}, seed=2)
    assert world.order_kept == pytest.approx(plain_order_kept(world))
    assert (world.order_kept > 0.95) == ("cells_per_type" not in settings)


def test_neither_length_nor_composition_nor_place_tells_the_order(world: AccessibleWorld) -> None:
    expected = world.peaks.expected_alpha
    gc = pd.Series([sequence.count("G") + sequence.count("C") for sequence in sequences(world)])
    lengths = world.peaks.end - world.peaks.start
    for said in (gc / lengths, lengths, world.peaks.start % 600):
        assert abs(kendalltau(said, expected).statistic) < 0.1
    bare = draw_accessibility(AccessibilitySettings(decoys=False, gc_share=0.2), CONTIGS, seed=1)
    gc = pd.Series([sequence.count("G") + sequence.count("C") for sequence in sequences(bare)])
    assert kendalltau(gc, bare.peaks.expected_alpha).statistic > 0.15


def test_specific_motifs_open_their_own_cell_type() -> None:
    peaks = draw_accessibility(AccessibilitySettings(specificity=1.0), {"one": 50}, seed=0).peaks
    np.testing.assert_allclose(peaks.expected_alpha, 0.03 + 0.3 * peaks.copies_CTCF)
    np.testing.assert_allclose(peaks.expected_beta, 0.03 + 0.3 * peaks.copies_GATA)


def test_the_same_seed_draws_the_same_world(world: AccessibleWorld) -> None:
    again, other = (draw_accessibility(AccessibilitySettings(), CONTIGS, seed=seed) for seed in (1, 2))
    pd.testing.assert_frame_equal(again.peaks, world.peaks)
    assert (again.reads != world.reads).nnz == 0
    assert all((again.contigs[name] == world.contigs[name]).all() for name in CONTIGS)
    assert not (other.contigs["one"] == world.contigs["one"]).all()


def test_settings_that_do_not_fit() -> None:
    for wrong, message in (
        ({"closed_share": 1.5}, "closed_share is 1.5"),
        ({"copies": (2,)}, r"copies is \(2,\)"),
        ({"copies": (2, 2)}, r"copies is \(2, 2\)"),
        ({"copies": (0, 2)}, r"copies is \(0, 2\)"),
        ({"closed_mean": 0.2}, "closed_mean is 0.2"),
        ({"mean_per_copy": 0.01}, "mean_per_copy 0.01"),
        ({"cells_per_type": 0}, "cells_per_type is 0"),
        ({"copies": (1, 12)}, "12 copies need 168 bp"),
        ({"region_bp_spread": -1}, "peaks are 151 to 149 bp long"),
        ({"region_bp": 170}, "each of 3 peaks has 200 bp, and needs 214"),
    ):
        with pytest.raises(ValueError, match=message):
            AccessibilitySettings(**wrong)  # type: ignore[arg-type]
    for contigs in ({}, {"one": 0}):
        with pytest.raises(ValueError, match="at least one"):
            draw_accessibility(AccessibilitySettings(), contigs, seed=0)
