"""What the segmentation of one sequence or region found: probabilities, called segments, and their files."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .segmentation_calls import call_segments, require_call_options, resolve_thresholds
from .segmentation_figure import draw_locus, require_figure_path, save_figure
from .segmentation_tracks import (
    TrackPiece,
    bed_line,
    colours_of,
    require_decimals,
    rounded,
    track_names,
    write_bigwig,
)

if TYPE_CHECKING:
    import pandas as pd

Thresholds = float | Mapping[str, float] | Sequence[float] | None


@dataclass(frozen=True)
class SegmentationResult:
    """Probabilities of each base, and what is made of them.

    Attributes:
        probabilities: (bases, elements) float32, NaN at N.
        elements: names in the order of the columns.
        contig: its name; `sequence` for a sequence without one.
        start: where the first base lies, 0-based.
        contig_length: coordinate behind the contig's last base, in bp.
        thresholds: element -> probability from which a base is called, unless others are given.
        summary: how it was made: model, windows, overlap, stretches, N.
    """

    probabilities: np.ndarray
    elements: tuple[str, ...]
    contig: str
    start: int
    contig_length: int
    thresholds: Mapping[str, float]
    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The coordinate behind the last base, 0-based."""
        return self.start + len(self.probabilities)

    def table(self, *, thresholds: Thresholds = None, minimum_length: int = 1, merge_gap: int = 0) -> "pd.DataFrame":
        """Called segments: runs of bases whose probability is at or above their element's threshold.

        Args:
            thresholds: one for all elements, name -> threshold, one an element in order, or None for `self.thresholds`.
            minimum_length: shorter segments are dropped, after merging, in bp.
            merge_gap: segments with at most this many bp between them become one.

        Returns:
            One row a segment, by start, end and the elements' order: contig, start, end (0-based, half-open), element,
            mean_probability, max_probability.

        Raises:
            ValueError: for unknown elements and numbers out of range.
        """
        require_call_options(minimum_length, merge_gap)
        return call_segments(
            self.probabilities,
            self.elements,
            self._thresholds(thresholds),
            contig=self.contig,
            start=self.start,
            minimum_length=minimum_length,
            merge_gap=merge_gap,
        )

    def to_bigwig(self, folder: str | os.PathLike[str], *, decimals: int | None = 3) -> dict[str, Path]:
        """Write a bigWig an element; N has no value.

        Args:
            folder: made where it does not exist; files of the same name are replaced.
            decimals: probabilities are rounded to these, so that neighbours often share an interval; None: as they are.

        Returns:
            element -> path.

        Raises:
            ValueError: where all bases are N, or two elements would share a file.
        """
        require_decimals(decimals)
        folder = Path(folder)
        paths = {
            element: folder / name for element, name in zip(self.elements, track_names(self.elements), strict=True)
        }
        folder.mkdir(parents=True, exist_ok=True)
        for number, path in enumerate(paths.values()):
            values = rounded(np.ascontiguousarray(self.probabilities[:, number]), decimals)
            write_bigwig(path, {self.contig: self.contig_length}, [TrackPiece(self.contig, self.start, values)])
        return paths

    def to_bed(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write called segments as BED9: the score is the mean probability x 1,000, the colour that of the figures.

        Args:
            path: of the file; one of that name is replaced.
            options: as `table`.
        """
        path = Path(path)
        colours = colours_of(self.elements)
        rows = self.table(**options).to_dict("records")
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                colour = colours[row["element"]]
                mean = row["mean_probability"]
                file.write(bed_line(row["contig"], row["start"], row["end"], row["element"], mean, colour))
        partial.replace(path)
        return path

    def plot(
        self,
        path: str | os.PathLike[str],
        *,
        annotation: "pd.DataFrame | None" = None,
        title: str | None = None,
        **options: Any,
    ) -> Path:
        """Draw the probabilities, the called segments and, beneath them, gene models.

        Args:
            path: .png, .svg or .pdf.
            annotation: transcripts, as `draw_locus`.
            title: the region by default.
            options: as `table`.

        Raises:
            ValueError: for another ending, or more bases than a figure shows.
        """
        path = Path(path)
        require_figure_path(path)
        canvas = draw_locus(
            self.probabilities,
            self.table(**options),
            self._thresholds(options.get("thresholds")),
            contig=self.contig,
            start=self.start,
            annotation=annotation,
            title=title,
        )
        save_figure(canvas, path)
        return path

    def _thresholds(self, thresholds: Thresholds) -> dict[str, float]:
        return resolve_thresholds(thresholds, self.elements, list(self.thresholds.values()))
