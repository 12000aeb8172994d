"""Trainings that a comparison is made of, each a process of its own in a folder of its own, and done once.

`NAME.yaml` beside a run's folder holds its settings: a run that is finished with the same ones is not repeated, one
that was stopped goes on from its last checkpoint, and one with others is never overwritten. Settings name data by their
folders: data that were built anew in the same place are not noticed.
"""

import json
import logging
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from .segmentation_output import METRICS_FILE

logger = logging.getLogger(__name__)

_SHOWN_OF_A_LOG = 2000  # characters, where a training fails
_STOPPED = (130, -2)  # exit codes after Ctrl-C

Launch = Callable[[str, Path, Path], None]


class ComparisonRuns:
    """The runs in a folder.

    Args:
        folder: for all of them.
        launch: trains: takes the name of the script, the YAML file of settings and the run's folder; by default in a
            process of its own.
        planned: how many runs there will be, for the log.
    """

    def __init__(self, folder: Path, *, launch: Launch | None = None, planned: int = 0) -> None:
        self.folder = folder
        self.launch = launch or ProcessLauncher()
        self.planned = planned
        self._done: dict[str, dict[str, Any]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """The folder of a run's model."""
        return self.folder / name

    def metrics(self, name: str, script: str, settings: dict[str, Any]) -> dict[str, Any]:
        """What the run wrote to metrics.json, after training if need be.

        Args:
            name: of the run.
            script: file name of the training script, without .py.
            settings: its options, but for output_dir and resume.

        Raises:
            ValueError: where there is a run of this name with other settings.
            RuntimeError: where training fails, with the end of its log.
        """
        if name in self._done:
            return self._done[name]
        where = f"{len(self._done) + 1} of {self.planned or '?'}, {name},"
        run, file = self.path(name), self.folder / f"{name}.yaml"
        self._require_same_settings(name, settings)
        if self._is_finished(run):
            logger.info("run %s is finished, and is not repeated", where)
        else:
            file.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
            logger.info("run %s is trained; its log is %s", where, run.with_suffix(".log"))
            self.launch(script, file, run)
        self._done[name] = json.loads((run / METRICS_FILE).read_text(encoding="utf-8"))
        return self._done[name]

    def _require_same_settings(self, name: str, settings: dict[str, Any]) -> None:
        run, file = self.path(name), self.folder / f"{name}.yaml"
        if not run.is_dir() or not any(run.iterdir()):
            return
        if not file.is_file():
            raise ValueError(f"{run} holds files and {file} does not exist: remove the folder, or give another output")
        earlier = yaml.safe_load(file.read_text(encoding="utf-8"))
        changed = sorted(key for key in earlier.keys() | settings.keys() if earlier.get(key) != settings.get(key))
        if changed:
            shown = "; ".join(f"{key} was {earlier.get(key)} and is {settings.get(key)}" for key in changed)
            raise ValueError(
                f"{run} was trained with other settings: {shown}. Give those, remove the folder, or give another output"
            )

    @staticmethod
    def _is_finished(run: Path) -> bool:
        return (run / METRICS_FILE).is_file() and any(run.glob("model*.safetensors"))


class ProcessLauncher:
    """Trains in a process of its own.

    Args:
        command: that runs a module by `-m`, such as "torchrun --nproc-per-node=4"; this Python where None. A program
            that the shell would not find is looked for beside this Python.

    Raises:
        FileNotFoundError: where there is no such program.
    """

    def __init__(self, command: str | None = None) -> None:
        self.command = [sys.executable] if command is None else shlex.split(command)
        program = self.command[0]
        found = shutil.which(program) or shutil.which(program, path=str(Path(sys.executable).parent))
        if found is None:
            raise FileNotFoundError(f"the launcher {program} is neither on the PATH nor beside {sys.executable}")
        self.command[0] = found

    def __call__(self, script: str, file: Path, run: Path) -> None:
        """Train until done.

        Raises:
            KeyboardInterrupt: after Ctrl-C, once the training has saved its checkpoint and ended.
            RuntimeError: where training fails, with the end of its log.
        """
        module = f"{__package__}.{script}"
        command = [*self.command, "-m", module, str(file), "--output_dir", str(run), "--resume"]
        log = run.with_suffix(".log")
        with log.open("a", encoding="utf-8") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            code = _wait(process)
        if code in _STOPPED:
            raise KeyboardInterrupt
        if code:
            raise RuntimeError(
                f"training ended with code {code}: {shlex.join(command)}\nThe end of {log}:\n"
                f"{log.read_text(encoding='utf-8', errors='replace')[-_SHOWN_OF_A_LOG:]}"
            )


def _wait(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait()
    except KeyboardInterrupt:  # which the training got too: it saves a checkpoint first
        process.wait()
        raise
