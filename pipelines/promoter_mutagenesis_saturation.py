"""Every base of a stretch of a promoter changed to the three others: what a DNA model predicts for each.

The bases that are there, and N, are skipped: nothing would change. One pass of the DNA model a change, of which
EnformerForGeneFeatures recomputes only what it reaches.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .promoter_mutagenesis_edit import PromoterEdit, bases_around, checked_reference
from .promoter_mutagenesis_expression import PromoterReader, Tracks

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

BASES = "ACGT"


@dataclass(frozen=True, eq=False)
class PromoterSaturation:
    """Effects of all single changes of the bases [start, end) of a window.

    Attributes:
        reference_sequence: the window, ACGTN.
        start, end: bases of the window, 0-based, half-open.
        table: one row a change, by position and alternative: position (0-based in the window), offset (from the TSS),
            reference, alternative, expression (mean over the tracks), predicted_change (log2((edited + 1) /
            (reference + 1)), mean over the tracks), feature_change (root mean square over the features, in the unit
            that was given).
        n_unknown: bases that are N, and have no row.
        reference_expression: mean over the tracks.
        noise_floor: predicted changes up to this may be rounding.
        recomputed_share: of the DNA model's convolutions.
    """

    reference_sequence: str
    start: int
    end: int
    table: "pd.DataFrame"
    n_unknown: int
    reference_expression: float
    noise_floor: float
    recomputed_share: float

    def edit(self, position: int, alternative: str) -> PromoterEdit:
        """One of the changes as an edit.

        Raises:
            ValueError: where the table has no such change.
        """
        rows = self.table[(self.table["position"] == position) & (self.table["alternative"] == alternative)]
        if rows.empty:
            raise ValueError(f"no change of base {position:,} to {alternative!r} was made: see the table")
        row = rows.iloc[0]
        return PromoterEdit(
            _changed(self.reference_sequence, position, alternative),
            self.reference_sequence,
            {
                "how": "saturation mutagenesis",
                "n_mutations": 1,
                "offset": int(row["offset"]),
                "predicted_change": float(row["predicted_change"]),
                "chosen_of": len(self.table),
                "noise_floor": self.noise_floor,
            },
        )

    def strongest(self, direction: Literal["lower", "raise"] = "lower") -> PromoterEdit:
        """The change that lowers, or raises, predicted expression most."""
        if direction not in ("lower", "raise"):
            raise ValueError(f'direction is {direction!r}; expected "lower" or "raise"')
        change = self.table["predicted_change"].to_numpy()
        row = self.table.iloc[int(change.argmin() if direction == "lower" else change.argmax())]
        return self.edit(int(row["position"]), str(row["alternative"])).described(direction=direction)

    def per_base(self) -> "pd.DataFrame":
        """One row a base, for a sequence view.

        Returns:
            position, offset, base, importance (minus the mean predicted change: positive where the base supports
            expression), feature_change (mean), change_A to change_T (0 at the base that is there); NaN at N.
        """
        import pandas as pd

        letters = list(self.reference_sequence[self.start : self.end])
        changes = np.full((len(letters), 4), np.nan)
        features = np.full((len(letters), 4), np.nan)
        rows = self.table["position"].to_numpy() - self.start
        columns = self.table["alternative"].map(BASES.index).to_numpy(dtype=np.int64)
        changes[rows, columns] = self.table["predicted_change"]
        features[rows, columns] = self.table["feature_change"]
        is_known = np.array([letter != "N" for letter in letters])
        there = np.array([BASES.index(letter) if letter != "N" else 0 for letter in letters])
        for values in (changes, features):
            values[np.flatnonzero(is_known), there[is_known]] = 0
        table = pd.DataFrame(
            {
                "position": np.arange(self.start, self.end),
                "offset": np.arange(self.start, self.end) - len(self.reference_sequence) // 2,
                "base": letters,
                "importance": -changes.sum(axis=1) / 3,
                "feature_change": features.sum(axis=1) / 3,
            }
        )
        return table.assign(**{f"change_{base}": changes[:, column] for column, base in enumerate(BASES)})


def saturate_promoter(
    reference: str | bytes,
    dna_model: Any,
    *,
    tracks: Sequence[int],
    window_bp: int = 200,
    offset: int = 0,
    head: str = "human",
    centre_bins: int = 3,
    layer: str = "final_pointwise",
    pool: Any = "all",
    standard_deviation: np.ndarray | None = None,
    batch_size: int = 8,
    progress: bool = False,
) -> PromoterSaturation:
    """Change each base of a stretch to the three others.

    Args:
        reference: the window, ACGTN, the TSS at its middle base.
        dna_model: EnformerForGeneFeatures, or another with its `predicted_expression` and `gene_features`.
        tracks, head, centre_bins: what to predict, as `EnformerForGeneFeatures.predicted_expression`.
        window_bp: bases to change.
        offset: of their middle from the TSS.
        layer, pool: of the features whose change is measured.
        standard_deviation: (size,) of each feature between genes, the unit of feature_change; else the features' own.
        batch_size: windows that go through the model together.
        progress: show a progress bar.

    Raises:
        ValueError: on bases beyond the reference, only N, or what the model refuses.
    """
    import pandas as pd

    text = checked_reference(reference)
    start, end = bases_around(text, window_bp, offset)
    known = [place for place in range(start, end) if text[place] != "N"]
    changes = [(place, base) for place in known for base in BASES.replace(text[place], "")]
    n_unknown = text.count("N", start, end)
    if n_unknown:
        logger.info("%d of %d bases are N and are left out", n_unknown, window_bp)
    if not changes:
        raise ValueError(f"all {window_bp:,} bp around the base {offset:+,} from the TSS are N: nothing can be changed")
    reader = PromoterReader(
        dna_model, text, Tracks(tracks, head, centre_bins), batch_size=batch_size, progress=progress
    )
    expression, feature_change = reader.expression_and_feature_change(
        _Changes(text, changes), layer=layer, pool=pool, standard_deviation=standard_deviation
    )
    positions = np.array([place for place, _ in changes])
    table = pd.DataFrame(
        {
            "position": positions,
            "offset": positions - len(text) // 2,
            "reference": [text[place] for place, _ in changes],
            "alternative": [base for _, base in changes],
            "expression": expression.mean(axis=1),
            "predicted_change": reader.change(expression),
            "feature_change": feature_change,
        }
    )
    return PromoterSaturation(
        text,
        start,
        end,
        table,
        n_unknown,
        float(reader.reference_expression.mean()),
        reader.noise_floor,
        reader.recomputed_share,
    )


class _Changes(Sequence[str]):
    """The changed windows, made when they are asked for: all of them would be 600 kB a base."""

    def __init__(self, reference: str, changes: list[tuple[int, str]]) -> None:
        self.reference, self.changes = reference, changes

    def __len__(self) -> int:
        return len(self.changes)

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, slice):
            return [_changed(self.reference, *change) for change in self.changes[rows]]
        return _changed(self.reference, *self.changes[rows])

    def __iter__(self) -> Iterator[str]:
        return (_changed(self.reference, *change) for change in self.changes)


def _changed(reference: str, position: int, base: str) -> str:
    return reference[:position] + base + reference[position + 1 :]
