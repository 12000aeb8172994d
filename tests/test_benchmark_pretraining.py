"""The benchmark of pre-training: its batches, rows and verdict by plain formulas, and that it runs on real cells."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("pretraining")


@pytest.fixture
def arms(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("pretraining_arms")


def test_batches_stand_for_the_corpus(arms: ModuleType) -> None:
    lengths = np.random.default_rng(0).integers(100, 2000, size=2700)
    batches = arms.batches_of_corpus(lengths, 20, 0)
    assert batches.shape == (20, arms.CELLS_A_BATCH)
    assert len(np.unique(batches)) == batches.size
    assert lengths[batches].mean() == pytest.approx(lengths.mean(), rel=0.05)
    assert (lengths[batches].max(axis=1) - lengths[batches].min(axis=1)).mean() < 200  # of like lengths
    assert (batches == arms.batches_of_corpus(lengths, 20, 0)).all()
    with pytest.raises(ValueError, match="24 cells make 2 batches of 12, and --steps is 3"):
        arms.batches_of_corpus(lengths[:24], 3, 0)


def one(rate: float, peak: float) -> dict[str, Any]:
    same = {"real_tokens": 1, "cells": 1, "steps": 1, "vocabulary": 1, "parameters": 1}
    return {"tokens_per_second": rate, "peak_mib": peak, "shares": {"model": 0.9, "optimizer": 0.1}, **same}


def test_ratios_are_those_of_the_rounds_pairs(benchmark: ModuleType) -> None:
    found = {
        "BertForMaskedLM": [one(100, 1000), one(50, 1000)],
        "ours, packed": [one(300, 400), one(200, 500)],
        "ours, packed, bf16": [one(400, 100)],
    }
    rows = {arm: benchmark.speed_row(arm, found) for arm in found}
    assert rows["ours, packed"]["times_as_fast"] == {"median": 3.5, "min": 3.0, "max": 4.0}
    assert rows["ours, packed"]["share_of_the_memory"] == {"median": 0.45, "min": 0.4, "max": 0.5}
    assert rows["ours, packed, bf16"]["times_as_fast"]["median"] == 4
    assert "times_as_fast" not in rows["BertForMaskedLM"]
    assert benchmark.reached({"speed": {"cpu": rows}}) == {"cpu: times as fast": True}
    found["BertForMaskedLM, bf16"] = [one(200, 200)]
    row = benchmark.speed_row("ours, packed, bf16", found)
    assert row["against"] == "BertForMaskedLM, bf16"
    held = benchmark.reached({"speed": {"cuda": {"ours, packed, bf16": row}}})
    assert held == {"cuda: times as fast": False, "cuda: share of the memory": False}


@pytest.mark.slow
def test_it_runs_and_goes_on_where_it_was_stopped(
    benchmark: ModuleType, data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "pretraining.json"
    arguments = ["--quick", "--data", str(data_folder), "--devices", "cpu"]
    arguments += ["--output", str(tmp_path / "out"), "--results", str(results)]
    benchmark.main(arguments)
    summary = json.loads(results.read_text())
    rows = summary["speed"]["cpu"]
    assert set(rows) == {"BertForMaskedLM", "ours, packed"}
    assert len({(row["real_tokens"], row["cells"], row["steps"], row["vocabulary"]) for row in rows.values()}) == 1
    assert rows["ours, packed"]["parameters"] == pytest.approx(rows["BertForMaskedLM"]["parameters"], rel=1e-3)
    for row in rows.values():
        assert sum(row["shares_of_time"].values()) == pytest.approx(1, abs=0.01)
        assert row["shares_of_time"]["model"] > 0
    perplexity = summary["perplexity"]
    assert {perplexity[arm]["steps"] for arm in rows} == {2}
    assert perplexity["BertForMaskedLM"]["over the baseline's"]["median"] == 1
    for arm in rows:  # two steps: hardly better than guessing among all genes
        assert perplexity[arm]["perplexity"][0] == pytest.approx(perplexity[arm]["vocabulary"], rel=0.2)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.json")}
    benchmark.main(arguments)
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.json")}
