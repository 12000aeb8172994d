"""Runs that are done once, go on where they were stopped, and are never overwritten; processes that fail."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from omics_transformers.training.comparison_runs import ComparisonRuns, ProcessLauncher

Calls = list[tuple[str, dict, Path]]


def runs_of(folder: Path, calls: Calls, *, weights: bool = True) -> ComparisonRuns:
    def launch(script: str, file: Path, run: Path) -> None:
        calls.append((script, yaml.safe_load(file.read_text()), run))
        run.mkdir(exist_ok=True)
        (run / "metrics.json").write_text(json.dumps({"test": len(calls)}))
        if weights:
            (run / "model.safetensors").touch()

    return ComparisonRuns(folder, launch=launch, planned=2)


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    calls: Calls = []
    for _ in range(2):  # two calls of the script
        runs = runs_of(tmp_path, calls)
        for _ in range(2):
            assert runs.metrics("a", "run_segmentation", {"seed": 1, "learning_rate": 1e-4}) == {"test": 1}
    assert calls == [("run_segmentation", {"seed": 1, "learning_rate": 1e-4}, tmp_path / "a")]
    assert runs.metrics("b", "run_segmentation", {"seed": 1}) == {"test": 2}


def test_a_run_without_weights_is_not_finished(tmp_path: Path) -> None:
    calls: Calls = []
    runs_of(tmp_path, calls, weights=False).metrics("a", "run_segmentation", {"seed": 1})
    runs_of(tmp_path, calls).metrics("a", "run_segmentation", {"seed": 1})
    assert len(calls) == 2


def test_a_run_with_other_settings_is_not_overwritten(tmp_path: Path) -> None:
    calls: Calls = []
    runs_of(tmp_path, calls).metrics("a", "run_segmentation", {"seed": 1, "bf16": True})
    with pytest.raises(ValueError, match="other settings: bf16 was True and is None; seed was 1 and is 2"):
        runs_of(tmp_path, calls).metrics("a", "run_segmentation", {"seed": 2})
    (tmp_path / "a.yaml").unlink()
    with pytest.raises(ValueError, match=r"holds files and .*a\.yaml does not exist"):
        runs_of(tmp_path, calls).metrics("a", "run_segmentation", {"seed": 1})
    assert len(calls) == 1


def test_a_training_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    runs = ComparisonRuns(tmp_path, launch=ProcessLauncher("sh -c 'echo no memory; exit 7' sh"))
    with pytest.raises(RuntimeError, match=r"ended with code 7: (.|\n)*run_segmentation(.|\n)*no memory"):
        runs.metrics("a", "run_segmentation", {"seed": 1})
    assert "no memory" in (tmp_path / "a.log").read_text()


def test_a_training_that_was_interrupted_interrupts(tmp_path: Path) -> None:
    runs = ComparisonRuns(tmp_path, launch=ProcessLauncher("sh -c 'exit 130' sh"))
    with pytest.raises(KeyboardInterrupt):
        runs.metrics("a", "run_segmentation", {"seed": 1})


def test_the_command_runs_a_module_and_resumes(tmp_path: Path) -> None:
    runs = ComparisonRuns(tmp_path, launch=ProcessLauncher("""sh -c 'echo "$@"; exit 3' sh"""))
    with pytest.raises(RuntimeError, match="code 3"):
        runs.metrics("a", "run_segmentation", {"seed": 1})
    expected = f"-m omics_transformers.training.run_segmentation {tmp_path}/a.yaml --output_dir {tmp_path}/a --resume\n"
    assert (tmp_path / "a.log").read_text() == expected


def test_the_launcher_is_found_beside_python_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert Path(ProcessLauncher("torchrun --nproc-per-node=2").command[0]).parent == Path(sys.executable).parent
    with pytest.raises(FileNotFoundError, match="the launcher torchwalk is neither on the PATH nor beside"):
        ProcessLauncher("torchwalk -x")
