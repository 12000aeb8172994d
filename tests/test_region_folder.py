"""What a folder of regions says of itself."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from omics_transformers.data_scripts.region_folder import describe_regions
from omics_transformers.data_scripts.region_peaks import PlacedPeaks
from omics_transformers.data_scripts.region_shards import RegionJob, ShardAccount, ShardSettings
from omics_transformers.data_scripts.segment_windows import SplitRegion

SAMPLES = [
    PlacedPeaks("one", ["b", "a"], pd.DataFrame(), np.zeros((2, 0))),
    PlacedPeaks("two", ["c"], pd.DataFrame(), np.zeros((1, 0))),
]


def job(folder: Path, number: int, split: str) -> RegionJob:
    path = folder / "data" / f"{split}-{number}.parquet"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes([number]))
    return RegionJob(number, SplitRegion(split, f"chr{number}", 0, 1_000), pd.DataFrame(), [], ShardSettings(), path)


def account(rows: dict[tuple[str, str], int], **spans: int) -> ShardAccount:
    return ShardAccount(Counter(spans), Counter(rows), region_bp=300 * sum(rows.values()), peaks_cut=2)


def test_accounts_add_up_over_the_regions_of_a_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    jobs = [job(tmp_path, 1, "train"), job(tmp_path, 2, "train"), job(tmp_path, 3, "test")]
    accounts = [
        account({("one", "a"): 3, ("one", "b"): 1}, kept=4, lost=1),
        account({("one", "a"): 2, ("two", "c"): 5}, kept=7),
        account({("one", "a"): 1, ("one", "b"): 1}, kept=2),
    ]
    report: dict = {}
    describe_regions(tmp_path, jobs, accounts, SAMPLES, report)
    assert report["rows"] == {"train": 11, "test": 2}
    assert report["spans"] == {"train": {"kept": 11, "lost": 1}, "test": {"kept": 2}}
    assert report["rows by sample and cell type"]["train"] == {"one": {"a": 5, "b": 1}, "two": {"c": 5}}
    assert report["peaks cut where spans end, over tilings"] == {"train": 4, "test": 2}
    described = json.loads((tmp_path / "regions.json").read_text())
    assert described["cell_types"] == ["a", "b", "c"] and described["samples"] == ["one", "two"]
    assert described["mean_region_bp"] == {"train": 100.0, "test": 100.0}
    assert described["places"] == {"train": ["chr1:1-1,000", "chr2:1-1,000"], "test": ["chr3:1-1,000"]}
    assert "test has no row of two: c" in caplog.text and "train has no row" not in caplog.text
    card = (tmp_path / "README.md").read_text()
    assert "path: data/train-*.parquet" in card and "train 11, test 2" in card


def test_the_card_s_configuration_changes_with_the_content(tmp_path: Path) -> None:
    jobs, cards = [job(tmp_path, 1, "train")], []
    for content in (b"one", b"other", b"one"):
        jobs[0].path.write_bytes(content)
        describe_regions(tmp_path, jobs, [account({("one", "a"): 1})], SAMPLES[:1], {})
        cards.append((tmp_path / "README.md").read_text())
    assert cards[0] == cards[2] != cards[1]


def test_a_split_without_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no row is left in train \(chr1:1-1,000\): {'lost': 7}. Lower the floor"):
        describe_regions(tmp_path, [job(tmp_path, 1, "train")], [account({}, lost=7)], SAMPLES, {})
