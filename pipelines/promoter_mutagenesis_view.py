"""Tables for a view of an edit: bases of reference and edited window one by one, and the motif hits of both.

Bases are compared place by place, which is right for edits that keep every base where it is: an insertion or deletion
shifts what lies behind it, and shows as a change of most bases there.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .motif_hits import Motif, find_hits
from .promoter_mutagenesis_edit import PromoterEdit

if TYPE_CHECKING:
    import pandas as pd


def edited_bases(edit: PromoterEdit, *, margin_bp: int = 20) -> "pd.DataFrame":
    """The bases from the first that differs to the last, with a margin.

    Returns:
        One row a base: position (0-based in the window), offset (from the TSS), reference, edited, is_changed. Empty
        where nothing differs.
    """
    import pandas as pd

    reference, edited = _letters(edit.reference_sequence), _letters(edit.sequence)
    changed = np.flatnonzero(reference != edited)
    start, end = (max(changed[0] - margin_bp, 0), changed[-1] + 1 + margin_bp) if len(changed) else (0, 0)
    positions = np.arange(start, min(end, len(reference)))
    return pd.DataFrame(
        {
            "position": positions,
            "offset": positions - len(reference) // 2,
            "reference": reference[positions].astype(str),
            "edited": edited[positions].astype(str),
            "is_changed": reference[positions] != edited[positions],
        }
    )


def compare_hits(
    edit: PromoterEdit, motifs: Sequence[Motif], *, threshold: float = 1e-4, margin_bp: int = 20
) -> "pd.DataFrame":
    """Motif hits of reference and edited window around what differs.

    Returns:
        One row a hit, by start: matrix_id, motif, start, end (0-based in the window), strand, offset (of the start from
        the TSS), score_reference and score_edited (bits, NaN where it is no hit), change: lost, gained or kept.

    Raises:
        ImportError, ValueError: as `find_hits`.
    """
    bases = edited_bases(edit, margin_bp=margin_bp + max((motif.width for motif in motifs), default=1))
    start, end = (int(bases["position"].iloc[0]), int(bases["position"].iloc[-1]) + 1) if len(bases) else (0, 0)
    keys = ["matrix_id", "motif", "start", "end", "strand"]
    before, after = (
        find_hits(sequence[start:end], motifs, threshold=threshold)[[*keys, "score"]]
        for sequence in (edit.reference_sequence, edit.sequence)
    )
    table = before.merge(after, on=keys, how="outer", suffixes=("_reference", "_edited"), indicator="change")
    table["change"] = table["change"].astype(str).map({"left_only": "lost", "right_only": "gained", "both": "kept"})
    table["start"] += start
    table["end"] += start
    table["offset"] = table["start"] - len(edit.sequence) // 2
    columns = [*keys, "offset", "score_reference", "score_edited", "change"]
    return table[columns].sort_values(["start", "matrix_id", "strand"], ignore_index=True)


def _letters(sequence: str) -> np.ndarray:
    return np.frombuffer(sequence.encode("ascii"), dtype="S1")
