"""The benchmark of perturbations: its shares and edits are right, and it runs."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("perturbation_benchmark", BENCHMARKS / "perturbation.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_models_share_is_of_the_passes_and_of_the_call(benchmark: ModuleType) -> None:
    parts = {"reading": 2.0, "model": 6.0, "other": 1.5, "statistics": 0.5}
    found = benchmark.shares(parts, 10.0, 50)
    assert found == {
        "cells a second": 5.0,
        "share of the model in the passes": 0.8,
        "share of the model in the call": 0.6,
    }


def test_edits_are_what_their_names_say(benchmark: ModuleType) -> None:
    random = np.random.default_rng(0)
    reference = "".join(random.choice(list("ACGT"), 3_072))

    def changes(edited: str) -> list[int]:
        return [place for place in range(len(reference)) if edited[place] != reference[place]]

    edits = {name: make(reference, random) for name, make in benchmark.EDITS.items()}
    assert [changes(edit) for edit in edits["1 SNV"]] == [[1_536]]
    for edit in edits["20 mutations in 500 bp"]:
        places = changes(edit)
        assert len(places) == 20 and min(places) >= 1_286 and max(places) < 1_786
    saturated = edits["saturation of 200 bp"]
    assert len(set(saturated)) == 600
    assert sorted(changes(edit)[0] for edit in saturated) == sorted([*range(1_436, 1_636)] * 3)


@pytest.mark.slow
def test_quick(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    command = [sys.executable, str(BENCHMARKS / "perturbation.py"), "--quick", "--rounds", "2", "--threads", "1"]
    subprocess.run([*command, "--device", "cpu", "--results", str(results)], check=True, timeout=300)
    measured = json.loads(results.read_text())["results"]["cpu"]
    for edit in ("delete", "DNA features"):
        assert 0 < measured["perturbation"]["small"][edit]["share of the model in the passes"]["median"] < 1
    for name in ("1 SNV", "20 mutations in 500 bp", "saturation of 200 bp"):
        difference = measured["mutagenesis"][name]["greatest difference, standard deviations of features"]
        assert difference["max"] < 1e-4
