"""What the ranking of regions found: scores, ranks, and their files."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .region_ranking_figures import draw_scores
from .region_ranking_input import NamedRegion, ScoredParts

if TYPE_CHECKING:
    import pandas as pd

BED_SCALE = 1_000


@dataclass(frozen=True)
class RegionRanking:
    """Regions by their accessibility, as the model scores it.

    Attributes:
        regions: one row a region, the most accessible first, those without a score last; the index is the region's
            place in the input, from 0, so that `regions.sort_index()` has the input's order. contig, start, end
            (0-based, half-open), name, score (float32, in no unit, higher is more accessible; trained to order regions
            of one span, see `region_ranking.py`; NaN where all bases are N), rank (1 the most accessible; equal scores
            share the lowest; <NA> without a score), scored_start, scored_end (what of the region the model read),
            unknown_bases (N among them).
        summary: how it was made, and how many regions were scored, shortened, and nothing but N.
    """

    regions: "pd.DataFrame"
    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scores(self) -> np.ndarray:
        """(regions,) float32, in the order of the input."""
        return self.regions["score"].sort_index().to_numpy()

    def to_bed(self, path: str | os.PathLike[str]) -> Path:
        """Write BED6 in the order of the regions' contigs in the input, and of their starts.

        The format's score is a whole number from 0 to 1,000, so it says what share of the scored regions lies behind:
        1,000 for the most accessible, 0 for the least and for regions without a score. A region without a name is
        called by its coordinates.

        Args:
            path: of the file; one of that name is replaced.
        """
        path = Path(path)
        table = self.regions.sort_index()
        places = {contig: place for place, contig in enumerate(dict.fromkeys(table["contig"]))}
        table = table.iloc[np.lexsort((table["end"], table["start"], table["contig"].map(places)))]
        n_behind = max(int(table["rank"].count()) - 1, 1)
        scores = (BED_SCALE * (1 - (table["rank"] - 1) / n_behind)).fillna(0).round().astype(int)
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            for row, score in zip(table.itertuples(), scores, strict=True):
                name = re.sub(r"\s", "_", row.name) or f"{row.contig}:{row.start + 1}-{row.end}"
                file.write(f"{row.contig}\t{row.start}\t{row.end}\t{name}\t{score}\t.\n")
        partial.replace(path)
        return path

    def figure(self) -> bytes:
        """PNG bytes: how the scores are distributed."""
        return draw_scores(self.scores)


def make_ranking(
    regions: Sequence[NamedRegion], parts: ScoredParts, scores: np.ndarray, settings: Mapping[str, Any]
) -> RegionRanking:
    """Order regions by their scores, (regions,) float32 with NaN where there is none; ties keep the input's order."""
    import pandas as pd

    table = pd.DataFrame(
        {
            "contig": [region.contig for region, _ in regions],
            "start": np.array([region.start for region, _ in regions], dtype=np.int64),
            "end": np.array([region.end for region, _ in regions], dtype=np.int64),
            "name": [name for _, name in regions],
            "score": scores,
        }
    )
    table["rank"] = table["score"].rank(method="min", ascending=False).astype("Int64")
    table["scored_start"], table["scored_end"], table["unknown_bases"] = parts[:3]
    is_shortened = (table["scored_end"] - table["scored_start"]) < (table["end"] - table["start"])
    summary = {
        **settings,
        "regions": len(table),
        "scored": int(table["score"].count()),
        "nothing_but_n": int(table["score"].isna().sum()),
        "shortened": int(is_shortened.sum()),
        "unknown_bases": int(table["unknown_bases"].sum()),
    }
    return RegionRanking(table.sort_values("rank", kind="stable", na_position="last"), summary)
