"""The benchmark on the simulated multiome: its scores against plain formulas, and that it runs."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("simulated_multiome")


def test_scores_of_imputation_are_plain_formulas(benchmark: ModuleType) -> None:
    random = np.random.default_rng(0)
    observed = random.normal(size=(50, 9)) + np.arange(9)
    predicted = observed + random.normal(size=(50, 9))
    means = np.broadcast_to(observed.mean(axis=0), observed.shape)
    scores = benchmark.imputation_scores(predicted, observed, means)
    by_gene = [np.corrcoef(predicted[:, gene], observed[:, gene])[0, 1] for gene in range(9)]
    across = scores["correlation across cells, median over genes"]
    assert across["median"] == pytest.approx(np.median(by_gene), abs=1e-4)
    assert across["interval"][0] <= across["median"] <= across["interval"][1]
    by_cell = [np.corrcoef(predicted[cell], observed[cell])[0, 1] for cell in range(50)]
    assert scores["correlation across genes, median over cells"]["median"] == pytest.approx(
        np.median(by_cell), abs=1e-4
    )
    gone = 1 - ((predicted - observed) ** 2).sum() / ((means - observed) ** 2).sum()
    assert scores["error gone beside the genes' means"] == pytest.approx(gone, abs=1e-4)


def test_the_mean_of_a_gene_tells_no_cells_apart(benchmark: ModuleType) -> None:
    observed = np.random.default_rng(0).normal(size=(50, 9))
    means = np.broadcast_to(observed.mean(axis=0), observed.shape)
    scores = benchmark.imputation_scores(means, observed, means)
    assert scores["correlation across cells, median over genes"] is None
    assert scores["error gone beside the genes' means"] == 0


@pytest.mark.slow
def test_quick(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    command = [sys.executable, str(BENCHMARKS / "simulated_multiome.py"), "--quick", "--results", str(results)]
    subprocess.run([*command, "--output", str(tmp_path / "out")], check=True, timeout=300)
    summary = json.loads(results.read_text())
    imputed = summary["ATAC imputed from RNA"]
    assert imputed["ridge regression on RNA"]["error gone beside the genes' means"] > 0
    assert set(imputed) >= {"mean of the gene", "without pre-training", "multiome Performer"}
    assert len(summary["ten labelled cells a type"]["MCC"]) == 6
