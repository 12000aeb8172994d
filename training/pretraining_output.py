"""The output folder of a run: checkpoints to resume from, and a final model that is there whole or not at all."""

import json
import logging
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save

from ..pipelines.gene_embedding_perturbation import TASK, GeneEmbeddingPerturbationPipeline

logger = logging.getLogger(__name__)

CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_STAGED = ".model-being-written"
_IGNORED_IN_CONFIG = {
    "transformers_version",
    "architectures",
    "auto_map",
    "dtype",
    "torch_dtype",
    "_name_or_path",
    "use_cache",  # the Trainer turns it off
}


def require_fresh_or_resumed(output_dir: str | None, *, resume: bool) -> Path:
    """The output folder, made if need be.

    Raises:
        FileExistsError: where it holds a model or checkpoints, and the run is not to be resumed.
        ValueError: where it is not set.
    """
    if not output_dir:
        raise ValueError("output_dir is not set: give the folder for the model (--output-dir DIR)")
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    held = sorted(path.name for path in folder.iterdir() if path.name == CONFIG or _step(path) is not None)
    if held and not resume:
        raise FileExistsError(
            f"{folder} holds an earlier run ({', '.join(held[:3])}): go on with it (--resume), or give another folder"
        )
    return folder


def last_whole_checkpoint(output_dir: Path, *, required: Sequence[str] = ()) -> Path | None:
    """The newest checkpoint with all it takes to resume; half ones, of a killed run or a full disk, are passed over.

    Whole is what has the random states of all processes that saved it, which need not be as many as those that resume;
    and files of the names `required`, which callbacks write last.
    """
    for folder in sorted((path for path in output_dir.iterdir() if _step(path) is not None), key=_step, reverse=True):
        lacking = _lacking(folder, required)
        if not lacking:
            return folder
        logger.warning("%s is not a whole checkpoint (no %s), and is passed over", folder, ", ".join(lacking))
    return None


def report_random_states(checkpoint: Path, *, processes: int, has_dropout: bool) -> None:
    """Log which random states a checkpoint lacks for this number of processes, and whether weights depend on them."""
    lacking = [name for name in _random_states(processes) if not (checkpoint / name).is_file()]
    if not lacking:
        return
    message = "%s was saved by another number of processes than the %d of this run, and has no %s: %s"
    if has_dropout:
        consequence = "dropout draws anew, so the weights will not be those of a run that was not stopped"
        logger.warning(message, checkpoint, processes, ", ".join(lacking), consequence)
    else:
        consequence = "without dropout nothing depends on them"
        logger.info(message, checkpoint, processes, ", ".join(lacking), consequence)


def require_same_model(checkpoint: Path, config: PretrainedConfig) -> None:
    """Raise ValueError, naming both values, where a checkpoint's model is not the one that the settings describe."""
    saved = json.loads((checkpoint / CONFIG).read_text(encoding="utf-8"))
    now = json.loads(config.to_json_string(use_diff=False))
    changed = sorted(
        name for name in saved.keys() & now.keys() if saved[name] != now[name] and name not in _IGNORED_IN_CONFIG
    )
    if changed:
        shown = "; ".join(f"{name} was {_short(saved[name])} and is {_short(now[name])}" for name in changed)
        raise ValueError(f"{checkpoint} cannot be resumed: {shown}. Give the settings that it was made with")


def write_whole(output_dir: Path, write: Callable[[Path], None], *, is_main_process: bool = True) -> None:
    """Write a model with `write(folder)` beside its place, then move it there, its weights last.

    All processes call it, since saving may gather weights; the main one moves. A folder without weights, or without the
    index of their shards, cannot be loaded, so a run that is killed, or a disk that is full, leaves no half that looks
    whole.
    """
    staged = output_dir / _STAGED
    if is_main_process:
        shutil.rmtree(staged, ignore_errors=True)
    write(staged)
    if not is_main_process:
        return
    for name in _WEIGHTS:
        (output_dir / name).unlink(missing_ok=True)
    for path in sorted(staged.iterdir(), key=lambda path: path.name in _WEIGHTS):
        if path.is_dir():
            shutil.rmtree(output_dir / path.name, ignore_errors=True)
        path.replace(output_dir / path.name)
    staged.rmdir()


def add_perturbation_pipeline(model: PreTrainedModel, folder: Path) -> None:
    """Put the pipeline's code into the model's folder and name it in its configuration, before the model is saved.

    With it `pipeline("gene-embedding-perturbation", model=folder, trust_remote_code=True)` works without this package.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pipeline_class = GeneEmbeddingPerturbationPipeline
    implementation = f"{pipeline_class.__module__.rpartition('.')[2]}.{pipeline_class.__name__}"
    model.config.custom_pipelines = {TASK: {"impl": implementation, "pt": ["AutoModelForMaskedLM"]}}
    custom_object_save(pipeline_class, folder)


def write_json(path: Path, content: Any) -> None:
    """Write JSON that people read."""
    path.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def _lacking(checkpoint: Path, required: Sequence[str]) -> list[str]:
    """What a checkpoint should have and has not: trainer_state.json is the last that the main process writes."""
    state = _trainer_state(checkpoint)
    expected = [CONFIG, *_random_states(_processes_of(checkpoint, state)), *required]
    lacking = [name for name in expected if not (checkpoint / name).is_file()]
    return lacking if state is not None else [*lacking, "whole trainer_state.json"]


def _trainer_state(checkpoint: Path) -> dict[str, Any] | None:
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def _processes_of(checkpoint: Path, state: dict[str, Any] | None) -> int:
    """How many processes saved a checkpoint, as `SaveAtInterrupt` noted, or else by the random states in it."""
    saved = (state or {}).get("stateful_callbacks", {}).get("SaveAtInterrupt")
    if saved is not None:
        return int(saved["attributes"]["processes"])
    ranks = [int(path.stem.rpartition("_")[2]) for path in checkpoint.glob("rng_state_[0-9]*.pth")]
    return max(ranks) + 1 if ranks else 1


def _random_states(processes: int) -> list[str]:
    """The names that transformers gives to the files of random states."""
    return ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]


def _step(path: Path) -> int:
    match = re.fullmatch(r"checkpoint-(\d+)", path.name)
    return int(match.group(1)) if match and path.is_dir() else None  # type: ignore[return-value]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
