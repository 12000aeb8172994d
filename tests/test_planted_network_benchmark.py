"""The benchmark of planted networks: its scores against plain formulas, what it holds out, and that it runs."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from omics_transformers.data_scripts.gene_features import GeneFeatures, read_gene_features
from omics_transformers.data_scripts.simulated_regulome import MOTIF

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TARGETS = {"x": ["a", "c"], "y": ["b", "f"], "z": ["d", "e"]}


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("planted_network_scores")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("planted_network_world")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("planted_network")


def test_scores_are_scikit_learns(scores: ModuleType) -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame({"gene_id": list("xabcdefyz"), "shift": random.random(9)})
    found = scores.score_table(table, "shift", "x", TARGETS)
    others = table[table.gene_id != "x"]
    is_target = others.gene_id.isin(["a", "c"])
    assert (found["n_genes"], found["n_targets"]) == (8, 2)
    assert found["average_precision"] == pytest.approx(average_precision_score(is_target, others["shift"]))
    assert found["auroc"] == pytest.approx(roc_auc_score(is_target, others["shift"]))
    top = others.nlargest(2, "shift").gene_id
    assert found["precision_at_k"] == top.isin(["a", "c"]).mean()
    of_others = [average_precision_score(others.gene_id.isin(TARGETS[name]), others["shift"]) for name in "yz"]
    assert found["mean_of_targets"] == pytest.approx(others["shift"][is_target].mean())
    assert found["mean_shift"] == pytest.approx(others["shift"].mean())
    assert found["average_precision_of_others"] == pytest.approx(np.mean(of_others))


def test_what_every_change_of_the_gene_moves_drops_out(scores: ModuleType) -> None:
    usual = pd.DataFrame({"gene_id": list("abc"), "shift": [1.0, 4.0, 9.0]})
    neutral = [usual, usual.assign(shift=usual["shift"] * 4).iloc[::-1]]
    edited = usual.assign(shift=usual["shift"] * [2.0, 2.0, 6.0])
    found = scores.beyond_neutral(edited, neutral)["shift_beyond_neutral"]
    assert found.tolist() == pytest.approx([0.0, 0.0, np.log(3)])


def test_the_band_is_that_of_means_of_random_rankings(scores: ModuleType) -> None:
    random = np.random.default_rng(0)
    sizes = [(30, 5), (20, 3)]
    drawn = np.mean(
        [[average_precision_score(np.arange(n) < k, random.random(n)) for _ in range(3_000)] for n, k in sizes],
        axis=0,
    )
    band = scores.random_band(sizes, draws=3_000)
    assert band["mean"] == pytest.approx(drawn.mean(), abs=0.01)
    assert [band["low"], band["high"]] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.025)


def rows_of(arm: str, edit: str, precisions: dict[int, list[float]]) -> list[dict]:
    return [
        {"world": "w", "seed": seed, "arm": arm, "edit": edit, "ranked_by": "shift", "factor": str(number)}
        | {"held_out": number == 1, "n_genes": 40, "n_targets": 4, "average_precision": value, "auroc": value}
        | {"precision_at_k": value, "average_precision_of_others": 0.1, "mean_shift": 1e-6, "mean_of_targets": 1.0}
        for seed, values in precisions.items()
        for number, value in enumerate(values)
    ]


def test_the_summary_is_over_factors_then_seeds_and_differences_are_paired(scores: ModuleType) -> None:
    model = {0: [0.9, 0.7], 1: [0.2, 0.0], 2: [1.0, 0.8]}
    free = {0: [0.5, 0.5], 1: [0.1, 0.1], 2: [0.6, 0.2]}
    rows = rows_of("adapter-free", "delete", free) + rows_of("model", "motifs", model)
    summary = {(one["factors"], one["arm"]): one for one in scores.summarise(pd.DataFrame(rows))}
    assert set(summary) == {(group, arm) for group in ("all", "seen", "held out") for arm in ("adapter-free", "model")}
    found = summary["all", "model"]
    assert found["seeds"] == {"0": 0.8, "1": 0.1, "2": 0.9}
    interval = stats.t.interval(0.95, 2, np.mean([0.8, 0.1, 0.9]), stats.sem([0.8, 0.1, 0.9]))
    assert [found["average_precision"][end] for end in ("low", "high")] == pytest.approx(interval, rel=1e-3)
    assert found["less_adapter_free"]["mean"] == pytest.approx(np.mean([0.3, 0.0, 0.5]), abs=1e-4)
    assert (found["seeds_above_band"], found["seeds_within_band"]) == (2, 1)
    assert found["mean_shift"]["mean"] == 1e-6  # small numbers are not rounded away
    assert summary["held out", "model"]["average_precision"]["mean"] == pytest.approx(0.5)
    assert summary["all", "adapter-free"]["less_adapter_free"] is None
    assert len(scores.as_table(list(summary.values())).splitlines()) == 2 + len(summary)


def test_motifs_break_and_neutral_bases_break_none(world: ModuleType) -> None:
    random = np.random.default_rng(0)
    sequence = "".join(random.choice(list("ACGT"), 400))
    motif = MOTIF.decode()
    sequence = sequence[:100] + motif + sequence[112:250] + motif + sequence[262:]
    assert world.motif_starts(sequence) == [100, 250]
    broken = world.break_motifs(sequence, random)
    changes = [place for place in range(400) if broken[place] != sequence[place]]
    assert motif not in broken and len(changes) == 2
    assert changes[0] in range(100, 112) and changes[1] in range(250, 262)
    other = "A" if sequence[104] != "A" else "C"
    by_alleles = world.break_motifs_by_alleles(sequence, [(104, other), (30, other)])
    assert by_alleles == sequence[:104] + other + sequence[105:]  # the second lies in no motif
    elsewhere = world.change_elsewhere(sequence, 5, 300, random)
    changes = [place for place in range(400) if elsewhere[place] != sequence[place]]
    assert world.motif_starts(elsewhere) == [100, 250] and len(changes) == 5
    assert min(changes) >= 50 and max(changes) < 350


def test_donors_of_held_out_genes_are_gone(world: ModuleType) -> None:
    features = GeneFeatures(
        ["a", "b", "c"],
        np.zeros((3, 2), dtype=np.float32),
        donors=["one", "two"],
        donor_features=np.arange(8, dtype=np.float32).reshape(4, 2),
        donor_feature_genes=np.array([0, 1, 1, 2], dtype=np.int32),
        donor_feature_index=np.array([[0, 1, -1], [-1, 2, 3]], dtype=np.int32),
    )
    left = world.without_donors_of(features, ["b"])
    assert left.donor_features.tolist() == [[0, 1], [6, 7]]
    assert left.donor_feature_genes.tolist() == [0, 2]
    assert left.donor_feature_index.tolist() == [[0, -1, -1], [-1, -1, 1]]
    assert left.features_of_donor("two").tolist() == [[0, 0], [0, 0], [6, 7]]


def test_other_settings_are_not_mixed_into_a_folder(benchmark: ModuleType, tmp_path: Path) -> None:
    benchmark.require_same_settings(tmp_path, benchmark.QUICK)
    benchmark.require_same_settings(tmp_path, benchmark.QUICK)
    with pytest.raises(ValueError, match="other settings"):
        benchmark.require_same_settings(tmp_path, benchmark.QUICK._replace(steps=7))


@pytest.mark.slow
def test_quick(tmp_path: Path) -> None:
    """A world, two arms and the baseline; a second call makes only what is new; nothing tested was trained on."""
    import anndata

    results, output = tmp_path / "results.json", tmp_path / "out"
    command = [sys.executable, str(BENCHMARKS / "planted_network.py"), "--quick", "--results", str(results)]
    command += ["--output", str(output), "--seeds", "3", "--worlds", "no signal"]
    arms = ["co-expression", "donors, difference, centre"]
    subprocess.run([*command, "--arms", *arms], check=True, timeout=300)
    first = {path: path.stat().st_mtime_ns for path in output.glob("*/arms/*.json")}
    assert len(first) == 2
    again = subprocess.run([*command, "--arms", *arms, "adapter-free"], check=True, timeout=300, capture_output=True)
    assert b"2 of 3 arms are there already" in again.stdout
    assert all(path.stat().st_mtime_ns == when for path, when in first.items())
    summary = json.loads(results.read_text())["summary"]
    assert {one["arm"] for one in summary} == {*arms, "adapter-free"}
    assert {one["factors"] for one in summary} == {"all", "seen", "held out"}

    folder = output / "no-signal-seed-3"
    split = json.loads((folder / "split.json").read_text())
    trained, tested = (anndata.read_h5ad(folder / name).obs for name in ("train.h5ad", "held_out.h5ad"))
    assert not set(trained.donor) & set(tested.donor) and not set(trained.index) & set(tested.index)
    assert set(tested.donor) == set(split["test_donors"])
    features = read_gene_features(folder / "features_of_centre.safetensors")
    (held_out,) = split["held_out_factors"]
    assert features.gene_ids.index(held_out) not in features.donor_feature_genes
    assert (features.donor_feature_index[:, features.gene_ids.index(held_out)] == -1).all()
