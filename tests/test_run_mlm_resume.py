"""A run of run_mlm.py that is killed without warning, and resumed: the weights of a run that was not."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from omics_transformers.training.run_mlm import main

SCRIPT = Path(__file__).parents[1] / "training" / "run_mlm.py"
SAVE_STEPS = 4
SETTINGS = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
    "hidden_dropout_prob": 0.1,  # random states must be resumed too
    "test_fraction": 0.2,
    "learning_rate": 0.01,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "per_device_train_batch_size": 16,
    "logging_steps": 1,
    "save_steps": SAVE_STEPS,
    "use_cpu": True,
    "disable_tqdm": True,
    "report_to": "none",
    "seed": 3,
}


def write_settings(corpus: Path, output: Path, **changes: Any) -> Path:
    file = output.with_suffix(".yaml")
    places = {
        "cells": str(corpus),
        "gene_features": str(corpus / "gene_features.safetensors"),
        "output_dir": str(output),
    }
    file.write_text(yaml.safe_dump({**SETTINGS, **places, **changes}))
    return file


def kill_at(step: int, settings: Path) -> None:
    """Start the script, and kill -9 it when it has logged a step: it may then be in the middle of anything."""
    process = subprocess.Popen(
        [sys.executable, "-u", str(SCRIPT), str(settings)],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        cwd=settings.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    logged = 0
    while logged < step:
        line = process.stdout.readline()
        assert line, process.communicate()[1][-3000:]
        logged += "'loss'" in line
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("changes", "seed"),
    [
        ({"donor_column": "donor", "variant_encoding": "difference"}, 0),
        ({"streaming": True, "buffer_cells": 64, "maximum_held_out_cells": 48}, 1),
    ],
    ids=["map-style", "streaming"],
)
def test_killed_at_a_random_step_and_resumed_to_the_weights_of_an_unbroken_run(
    tmp_path: Path, toy_corpus: Path, changes: dict[str, Any], seed: int
) -> None:
    """Where it is killed follows from a seed, to a step or two; the second epoch begins at step 13."""
    killed, unbroken = tmp_path / "killed", tmp_path / "unbroken"
    step = int(np.random.default_rng(seed).integers(SAVE_STEPS + 1, 40))
    kill_at(step, write_settings(toy_corpus, killed, max_steps=1_000_000, **changes))
    saved = max(int(path.name.rpartition("-")[2]) for path in killed.glob("checkpoint-*"))
    assert saved >= SAVE_STEPS and not (killed / "config.json").exists()
    for output in (killed, unbroken):
        main([str(write_settings(toy_corpus, output, max_steps=saved + 3, **changes)), "--resume"])
    expected, found = (load_file(folder / "model.safetensors") for folder in (unbroken, killed))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
