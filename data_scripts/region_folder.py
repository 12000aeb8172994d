"""What a folder of region-ranking data says of itself: regions.json, report.json, and the card for load_dataset."""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .configuration_name import configuration_name
from .region_peaks import PlacedPeaks
from .region_shards import RegionJob, ShardAccount
from .segment_windows import SPLITS

logger = logging.getLogger(__name__)

REGIONS_FILE = "regions.json"


@dataclass
class _SplitAccount:
    """What the regions of a split add up to."""

    total: ShardAccount
    places: list[str]


def describe_regions(
    folder: Path,
    jobs: Sequence[RegionJob],
    accounts: Sequence[ShardAccount],
    samples: Sequence[PlacedPeaks],
    report: dict[str, Any],
) -> None:
    """Write the three files; `report` gains what became of the spans.

    Args:
        folder: with its Parquet files.
        jobs, accounts: of every region.
        samples: that were read.
        report: settings, and what was left out so far.

    Raises:
        ValueError: where a split has no row.
    """
    splits = _by_split(jobs, accounts)
    for split, one in splits.items():
        if not one.total.n_rows:
            raise ValueError(
                f"no row is left in {split} ({', '.join(one.places)}): {dict(one.total.spans)}. Lower the floor or the "
                "share of cells that peaks must be seen in, or give more cells"
            )
        absent = [f"{sample.sample}: {kind}" for sample in samples for kind in sample.cell_types]
        absent = [name for name in absent if name not in {f"{sample}: {kind}" for sample, kind in one.total.rows}]
        if absent:
            logger.warning("%s has no row of %s", split, ", ".join(absent))
    report["spans"] = {split: dict(sorted(one.total.spans.items())) for split, one in splits.items()}
    report["peaks cut where spans end, over tilings"] = {split: one.total.peaks_cut for split, one in splits.items()}
    report["rows"] = {split: one.total.n_rows for split, one in splits.items()}
    report["rows by sample and cell type"] = {split: _nested(one.total.rows) for split, one in splits.items()}
    settings = jobs[0].settings
    described = {
        "span_bp": settings.span_bp,
        "shift_factor": settings.shift_factor,
        "padding": settings.padding,
        "duplicates": settings.duplicates,
        "samples": [sample.sample for sample in samples],
        "cell_types": sorted({kind for sample in samples for kind in sample.cell_types}),
        "mean_region_bp": {
            split: round(one.total.region_bp / (3 * one.total.n_rows), 1) for split, one in splits.items()
        },
        "rows": report["rows"],
        "places": {split: one.places for split, one in splits.items()},
    }
    _write_json(folder / REGIONS_FILE, described)
    _write_json(folder / "report.json", report)
    files = [job.path for job in jobs]
    card = _card(configuration_name([*files, folder / REGIONS_FILE]), described)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _by_split(jobs: Sequence[RegionJob], accounts: Sequence[ShardAccount]) -> dict[str, _SplitAccount]:
    splits: dict[str, _SplitAccount] = {}
    for split in SPLITS:
        for job, account in zip(jobs, accounts, strict=True):
            if job.region.split == split:
                one = splits.setdefault(split, _SplitAccount(ShardAccount(), []))
                one.total.add(account)
                one.places.append(str(job.region))
    return splits


def _nested(rows: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (sample, kind), number in sorted(rows.items()):
        nested.setdefault(sample, {})[kind] = number
    return nested


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")


def _card(configuration: str, described: Mapping[str, Any]) -> str:
    files = "".join(f"  - split: {split}\n    path: data/{split}-*.parquet\n" for split in described["rows"])
    rows = ", ".join(f"{split} {number:,}" for split, number in described["rows"].items())
    return _CARD.format(
        configuration=configuration,
        files=files,
        rows=rows,
        samples=", ".join(described["samples"]),
        cell_types=", ".join(described["cell_types"]),
        span_bp=described["span_bp"],
        shift_factor=described["shift_factor"],
        padding=described["padding"],
        duplicates=described["duplicates"],
    )


_CARD = """---
configs:
- config_name: {configuration}
  data_files:
{files}---
# Regions ordered by chromatin accessibility

One row a span of {span_bp:,} bp in one cell type, with three of its regions: two with fragments, and one without.
Rows: {rows}. Samples: {samples}. Cell types: {cell_types}. Coordinates are 0-based, half-open.

- contig, span_start, span_end: the span; tiling: which of the {shift_factor} shifted tilings it is of
- sample, cell_type: whose cells were averaged
- starts, ends, sequences: of the three regions, on the plus strand
- counts: mean fragments a cell; a peak that the end of a span cuts is shared by length
- peaks: the peak as the input names it, in the input's assembly; empty for a zero region that is no peak
- padding_share: the share of a region's padding tokens that stand in front of it (here: {padding})

Spans that hold a region already seen: {duplicates}. regions.json holds the settings; report.json accounts for what was
left out at each step.
"""
