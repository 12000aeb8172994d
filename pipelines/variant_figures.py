"""Figure of a variant: both alleles' probabilities of the most changed elements around it, and the change beneath."""

from typing import Any

import numpy as np

from .png_figures import BLUE, GREY, ORANGE, STYLE, label_positions, png_bytes, stacked_panels
from .segmentation_variants import VariantTracks, probability

MOST_ELEMENTS = 4


def draw_variant(tracks: VariantTracks, elements: list[str], *, distance_bp: int = 150) -> bytes:
    """PNG bytes, the same for the same tracks.

    Args:
        tracks: of `variant_tracks`.
        elements: the model's, in the order of the tracks' columns.
        distance_bp: what is drawn on either side of the edit.
    """
    import matplotlib

    near = tracks.distances <= distance_bp
    positions, changes = tracks.positions[near], tracks.changes()[near]
    reference, alternative = (probability(values[near]) for values in (tracks.reference, tracks.alternative))
    order = np.argsort(-np.abs(changes).max(axis=0, initial=0.0), kind="stable")[:MOST_ELEMENTS]
    with matplotlib.rc_context(STYLE):
        figure, panels = stacked_panels([0.9, 0.5] * len(order))
        for row, column in enumerate(order.tolist()):
            _draw_alleles(panels[2 * row], positions, reference[:, column], alternative[:, column])
            panels[2 * row].set_ylabel(elements[column], rotation=0, ha="right", va="center")
            _draw_change(panels[2 * row + 1], positions, changes[:, column])
        for axes in panels:
            axes.axvspan(tracks.variant.start, tracks.variant.end, color="#f4e4b8", linewidth=0, zorder=0)
        name = f" ({tracks.variant.name})" if tracks.variant.name else ""
        panels[0].set_title(f"{str(tracks.variant)[:80]}{name}")
        panels[0].legend(frameon=False, loc="upper right", ncols=2)
        label_positions(panels[-1], tracks.variant.contig)
        return png_bytes(figure)


def _draw_alleles(axes: Any, positions: np.ndarray, reference: np.ndarray, alternative: np.ndarray) -> None:
    axes.plot(positions + 0.5, reference, color=BLUE, linewidth=1.0, label="reference")
    axes.plot(positions + 0.5, alternative, color=ORANGE, linewidth=1.0, label="alternative")
    axes.set_ylim(0, max(1.05 * float(np.max([reference, alternative], initial=0.0)), 1e-6))


def _draw_change(axes: Any, positions: np.ndarray, change: np.ndarray) -> None:
    axes.vlines(positions + 0.5, 0, change, color=GREY, linewidth=1.0)
    axes.axhline(0, color="black", linewidth=0.5)
    axes.set_ylabel("change", rotation=0, ha="right", va="center")
