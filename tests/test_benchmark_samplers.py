"""The benchmark of the orders: every cell once, padding by a plain count, the signs of an order, and that it runs."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
LENGTHS = np.random.default_rng(0).integers(5, 400, size=330)


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("samplers_orders")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("samplers")


@pytest.mark.parametrize(
    "name",
    [
        *("at_random", "group_by_length", "sorted_descending", "ours", "ours_by_batch", "all_sorted_shuffled"),
        "of_a_budget",
    ],
)
def test_an_epoch_holds_every_cell_once_and_has_its_seed(orders: ModuleType, name: str) -> None:
    order = getattr(orders, name)
    steps = order(LENGTHS, 0, 1)
    assert sorted(cell for step in steps for batch in step for cell in batch) == list(range(len(LENGTHS)))
    assert steps == order(LENGTHS, 0, 1)
    assert steps != order(LENGTHS, 1, 1)
    assert len(steps) == pytest.approx(len(LENGTHS) / orders.CELLS_A_STEP, abs=2)


def test_batch_rebalance_leaves_out_less_than_a_step(orders: ModuleType) -> None:
    steps = orders.batch_rebalance(LENGTHS, 0, 0)
    cells = [cell for step in steps for batch in step for cell in batch]
    assert len(cells) == len(set(cells)) == len(LENGTHS) // orders.CELLS_A_STEP * orders.CELLS_A_STEP
    assert all(len(step) == orders.BATCHES_A_STEP for step in steps)


def test_padding_is_a_plain_count(orders: ModuleType) -> None:
    lengths = np.array([3, 5, 2, 2, 7])
    steps = [[[0, 1], [2, 3]], [[4]]]
    assert orders.padding_of(lengths, steps) == (19, 2 * 5 + 2 * 2 + 7)
    assert orders.padding_of(lengths, steps, packed=True) == (19, 19)


def test_sorting_and_its_shuffle_have_the_same_batches_but_for_ties_and_the_remainder(orders: ModuleType) -> None:
    def longest(steps: list[list[list[int]]]) -> list[int]:
        return [max(LENGTHS[cell] for batch in step for cell in batch) for step in steps]

    whole = len(LENGTHS) // orders.CELLS_A_STEP
    in_order = longest(orders.sorted_descending(LENGTHS, 0, 0))
    shuffled = longest(orders.all_sorted_shuffled(LENGTHS, 0, 0))
    assert in_order == sorted(in_order, reverse=True)
    assert shuffled[:whole] != sorted(shuffled[:whole], reverse=True)
    padding = [orders.padding_of(LENGTHS, order(LENGTHS, 0, 0))[1] for order in (orders.sorted_descending, orders.ours)]
    assert padding[1] < 1.1 * padding[0] < orders.padding_of(LENGTHS, orders.at_random(LENGTHS, 0, 0))[1]


def test_signs_tell_a_sorted_training_from_a_shuffled_one(benchmark: ModuleType) -> None:
    lengths = np.linspace(400, 10, 100)
    shuffled = np.random.default_rng(0).permutation(lengths)
    found = {
        name: benchmark.signs_of_order(
            {
                "trace": {"length": values, "loss": values / 100, "gradient_norm": np.ones(100)},
                "on_the_way": [{"perplexity": value} for value in (9.0, 8.0, 10.0, 5.0)],
            }
        )
        for name, values in {"sorted": lengths, "shuffled": shuffled}.items()
    }
    assert found["sorted"]["correlation of neighbouring steps' lengths"] == pytest.approx(1)
    assert abs(found["shuffled"]["correlation of neighbouring steps' lengths"]) < 0.3
    assert found["sorted"]["largest over median gradient norm"] == 1
    assert found["sorted"]["worst over last held-out perplexity"] == 2


def test_it_runs_and_goes_on_where_it_was_stopped(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "samplers.json"
    arguments = ["--quick", "--cells", "simulated", "--arms", "random", "group_by_length", "ours", "ours, packed"]
    arguments += ["--output", str(tmp_path / "out"), "--results", str(results)]
    benchmark.main(arguments)
    summary = json.loads(results.read_text())
    rows = summary["results"]["simulated"]
    assert list(rows) == ["random", "group_by_length", "ours", "ours, packed"]
    assert rows["random"]["test perplexity over random's"]["mean"] == 1
    assert rows["ours, packed"]["padding_share"]["mean"] == 0 < rows["ours"]["padding_share"]["mean"]
    assert set(summary["reached"]["simulated"]) >= {"padding over group_by_length's", "perplexity over random's, ours"}
    assert results.with_suffix(".png").stat().st_size > 10_000
    capsys.readouterr()
    benchmark.main(arguments)
    assert "4 of 4 trainings are there already" in capsys.readouterr().out


def test_a_folder_of_other_settings_is_refused(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.json").write_text('{"epochs": 7}')
    with pytest.raises(SystemExit):
        benchmark.main(["--output", str(tmp_path), "--cells", "simulated"])
    assert "name another --output folder" in capsys.readouterr().err
