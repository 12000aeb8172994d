"""run_mlm.py on two processes under `accelerate launch`: the loss curve of one, SIGTERM, FSDP2, DeepSpeed.

The processes are started once for the whole file: a run that SIGTERM stops, the same run resumed, and unbroken.
accelerate shards on GPUs only. So that the same code runs on a CPU here, a script of two lines tells it that `gloo` is
what it may shard with; the rest is the libraries' own.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType
from safetensors.torch import load_file

from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.training.run_mlm import main

FOLDER = Path(__file__).parents[1] / "training"
SCRIPT = FOLDER / "run_mlm.py"
CONFIGS = FOLDER / "configs"
GOLDEN = Path(__file__).parent / "assets" / "golden_loss_curve.txt"
GOLDEN_STEPS = 30
SHARDED_STEPS = 6
SETTINGS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "donor_column": "donor",
    "variant_encoding": "difference",
    "test_fraction": 0.2,
    "mlm_probability": 0.2,
    "learning_rate": 0.01,
    "lr_scheduler_type": "constant_with_warmup",
    "warmup_steps": 5,
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 5,
    "logging_steps": 1,
    "save_strategy": "no",
    "use_cpu": True,
    "disable_tqdm": True,
    "report_to": "none",
    "seed": 42,
}
TWO_PROCESSES = ["--num_processes=2", "--main_process_port=0", f"--config_file={CONFIGS / 'accelerate_ddp.yaml'}"]
SHARDING_ON_A_CPU = """
from accelerate.state import DistributedType, PartialState
PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
from omics_transformers.training.run_mlm import main
main()
"""


class Runs(NamedTuple):
    """Folders of three runs on two processes, the step that SIGTERM stopped the first at, and what the launcher said.

    Without dropout a run depends neither on the number of processes nor on its interruption.
    """

    interrupted: Path
    resumed: Path
    unbroken: Path
    step: int
    last_step: int
    messages: str


def write_settings(corpus: Path, output: Path, **changes: Any) -> Path:
    file = output.with_suffix(".yaml")
    places = {
        "cells": str(corpus),
        "gene_features": str(corpus / "gene_features.safetensors"),
        "output_dir": str(output),
    }
    file.write_text(yaml.safe_dump({**SETTINGS, **places, **changes}))
    return file


def run_here(corpus: Path, output: Path, **changes: Any) -> Path:
    """On one process, which takes the cells of both."""
    main([str(write_settings(corpus, output, **{"per_device_train_batch_size": 8, **changes}))])
    return output


def start(options: list[str], script: Path, settings: Path, **environment: str) -> subprocess.Popen[str]:
    program = str(Path(sys.executable).parent / "accelerate")
    return subprocess.Popen(
        [program, "launch", *options, str(script), str(settings)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **environment},
        cwd=settings.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_on_two(settings: Path) -> str:
    process = start(TWO_PROCESSES, SCRIPT, settings, ACCELERATE_USE_CPU="true")
    messages, _ = process.communicate(timeout=240)
    assert process.returncode == 0, messages[-3000:]
    return messages


def losses(folder: Path, last_step: int) -> dict[int, float]:
    """The losses that were logged until a checkpoint was saved, by step."""
    state = json.loads((folder / f"checkpoint-{last_step}" / "trainer_state.json").read_text())
    return {entry["step"]: entry["loss"] for entry in state["log_history"] if "loss" in entry}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, toy_corpus: Path) -> Runs:
    """SIGTERM goes to the launcher in the second epoch, which begins at step 25."""
    folder = tmp_path_factory.mktemp("runs")
    interrupted = folder / "interrupted"
    process = start(
        TWO_PROCESSES,
        SCRIPT,
        write_settings(toy_corpus, interrupted, max_steps=1_000_000),
        ACCELERATE_USE_CPU="true",
    )
    assert process.stdout is not None
    lines, logged = [], 0
    while logged < GOLDEN_STEPS + 1:
        lines.append(process.stdout.readline())
        assert lines[-1], "".join(lines)[-3000:]
        logged += "'loss'" in lines[-1]
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=120)
    messages = "".join(lines) + rest
    checkpoints = list(interrupted.glob("checkpoint-*"))
    assert len(checkpoints) == 1, messages[-3000:]
    step = int(checkpoints[0].name.rpartition("-")[2])
    last_step = step + 5
    changes = {"max_steps": last_step, "save_strategy": "steps", "save_steps": last_step}
    resumed = folder / "resumed"
    shutil.copytree(interrupted, resumed)
    run_on_two(write_settings(toy_corpus, resumed, **changes, resume=True))
    unbroken = folder / "unbroken"
    run_on_two(write_settings(toy_corpus, unbroken, **changes))
    return Runs(interrupted, resumed, unbroken, step, last_step, messages)


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory, toy_corpus: Path) -> Path:
    changes = {"max_steps": GOLDEN_STEPS, "save_strategy": "steps", "save_steps": GOLDEN_STEPS}
    return run_here(toy_corpus, tmp_path_factory.mktemp("one") / "model", **changes)


def test_the_loss_curve_is_the_golden_one(one_process: Path) -> None:
    """To make it anew, where a change is meant to change training: run this with GOLDEN_LOSS_CURVE=write."""
    found = list(losses(one_process, GOLDEN_STEPS).values())
    if os.environ.get("GOLDEN_LOSS_CURVE") == "write":
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text("".join(f"{loss:.6f}\n" for loss in found))
    expected = [float(line) for line in GOLDEN.read_text().split()]
    assert len(found) == GOLDEN_STEPS
    assert found == pytest.approx(expected, abs=1e-4)
    assert expected[-1] < expected[0] - 0.1  # something is learned


def test_two_processes_have_the_loss_curve_of_one(one_process: Path, runs: Runs) -> None:
    expected, found = losses(one_process, GOLDEN_STEPS), losses(runs.unbroken, runs.last_step)
    assert list(found) == list(range(1, runs.last_step + 1))
    assert [found[step] for step in expected] == pytest.approx(list(expected.values()), abs=1e-5)


def test_sigterm_to_the_launcher_leaves_a_whole_checkpoint(runs: Runs) -> None:
    assert "SIGTERM: a checkpoint is saved after this step" in runs.messages
    assert f"stopped at step {runs.step}; go on with --resume" in runs.messages
    checkpoint = runs.interrupted / f"checkpoint-{runs.step}"
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    assert state["stateful_callbacks"]["SaveAtInterrupt"]["attributes"]["processes"] == 2
    assert {path.name for path in checkpoint.glob("rng_state_*.pth")} == {"rng_state_0.pth", "rng_state_1.pth"}
    assert not (runs.interrupted / "config.json").exists()  # the run is not over


def test_an_interrupted_run_ends_with_the_weights_of_an_unbroken_one(runs: Runs) -> None:
    expected, found = (load_file(folder / "model.safetensors") for folder in (runs.unbroken, runs.resumed))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (runs.unbroken, runs.resumed)]
    assert metrics[0]["held_out"] == metrics[1]["held_out"]


@pytest.mark.parametrize(
    "split",
    [{"per_device_train_batch_size": 8}, {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}],
    ids=["batch doubled", "accumulated"],
)
def test_saved_on_two_processes_and_resumed_on_one(
    tmp_path: Path, toy_corpus: Path, runs: Runs, caplog: pytest.LogCaptureFixture, split: dict[str, int]
) -> None:
    output = tmp_path / "model"
    shutil.copytree(runs.interrupted, output)
    last = runs.last_step
    caplog.set_level("INFO", logger="omics_transformers")
    run_here(toy_corpus, output, max_steps=last, save_strategy="steps", save_steps=last, resume=True, **split)
    assert "without dropout nothing depends on them" in caplog.text
    expected, found = losses(runs.unbroken, last), losses(output, last)
    assert list(found) == list(range(1, last + 1))
    assert list(found.values()) == pytest.approx(list(expected.values()), abs=1e-5)


def test_one_and_two_processes_report_the_same_evaluation(tmp_path: Path, toy_corpus: Path, runs: Runs) -> None:
    """The same model on the same masks, 48 held-out cells in uneven batches; and no step beyond the last."""
    output = tmp_path / "model"
    shutil.copytree(runs.unbroken / f"checkpoint-{runs.last_step}", output / f"checkpoint-{runs.last_step}")
    run_here(toy_corpus, output, max_steps=runs.last_step, resume=True)
    found, expected = (json.loads((at / "metrics.json").read_text())["held_out"] for at in (output, runs.unbroken))
    assert found == pytest.approx(expected, rel=1e-5)
    weights = [load_file(folder / "model.safetensors") for folder in (output, runs.unbroken)]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("accelerate_ddp", DistributedType.MULTI_GPU),
        ("accelerate_fsdp2", DistributedType.FSDP),
        ("accelerate_deepspeed_zero2", DistributedType.DEEPSPEED),
    ],
)
def test_configurations_are_read(name: str, kind: DistributedType) -> None:
    configuration = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    assert configuration.distributed_type == kind
    assert (configuration.num_processes, configuration.num_machines, configuration.mixed_precision) == (8, 1, "no")
    layer = configuration.fsdp_config.get("fsdp_transformer_layer_cls_to_wrap")
    assert layer is None or layer in BioDTAForMaskedLM._no_split_modules


def test_every_configuration_of_accelerate_is_tried() -> None:
    assert {path.stem for path in CONFIGS.glob("accelerate_*.yaml")} == {
        "accelerate_ddp",
        "accelerate_fsdp2",
        "accelerate_deepspeed_zero2",
    }


def sharded_run(name: str, folder: Path, settings: Path) -> None:
    script = folder / "sharding_on_a_cpu.py"
    script.write_text(SHARDING_ON_A_CPU)
    options = [*TWO_PROCESSES[:2], f"--config_file={CONFIGS / name}.yaml"]
    process = start(options, script, settings, ACCELERATE_TORCH_DEVICE="cpu", DS_ACCELERATOR="cpu")
    messages, _ = process.communicate(timeout=240)
    assert process.returncode == 0, messages[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "of_its_own"),
    [("accelerate_fsdp2", "optimizer.bin"), ("accelerate_deepspeed_zero2", "latest")],
    ids=["FSDP2", "DeepSpeed"],
)
def test_sharded_training_has_the_loss_curve_of_one_process_and_saves_an_ordinary_model(
    tmp_path: Path, toy_corpus: Path, one_process: Path, name: str, of_its_own: str
) -> None:
    if "deepspeed" in name:
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed", exc_type=ImportError)
    output = tmp_path / "model"
    changes = {"max_steps": SHARDED_STEPS, "save_strategy": "steps", "save_steps": SHARDED_STEPS, "use_cpu": False}
    sharded_run(name, tmp_path, write_settings(toy_corpus, output, **changes))
    assert (output / f"checkpoint-{SHARDED_STEPS}" / of_its_own).exists()  # it was sharded
    found, expected = losses(output, SHARDED_STEPS), losses(one_process, GOLDEN_STEPS)
    assert list(found.values()) == pytest.approx([expected[step] for step in found], abs=1e-5)
    model = BioDTAForMaskedLM.from_pretrained(output)
    features = load_file(toy_corpus / "gene_features.safetensors")["features"]
    assert torch.equal(model.bert.gene_token_embeddings.table.features[2:], features)
    saved = load_file(output / "model.safetensors")
    assert {name: tensor.shape for name, tensor in saved.items()} == {
        name: tensor.shape for name, tensor in load_file(one_process / "model.safetensors").items()
    }


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["accelerate_ddp", "accelerate_fsdp2", "accelerate_deepspeed_zero2"])
def test_gpus_train_in_bfloat16_and_save_the_dna_features_whole(
    tmp_path: Path, toy_corpus: Path, one_process: Path, name: str
) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    if "deepspeed" in name:
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed", exc_type=ImportError)
    output = tmp_path / "model"
    changes = {"max_steps": GOLDEN_STEPS, "save_strategy": "steps", "save_steps": GOLDEN_STEPS, "use_cpu": False}
    settings = write_settings(toy_corpus, output, **changes, bf16=True)
    process = start([*TWO_PROCESSES[:2], f"--config_file={CONFIGS / name}.yaml"], SCRIPT, settings)
    messages, _ = process.communicate(timeout=600)
    assert process.returncode == 0, messages[-3000:]
    found, expected = losses(output, GOLDEN_STEPS), losses(one_process, GOLDEN_STEPS)
    assert list(found.values()) == pytest.approx(list(expected.values()), abs=0.05)
    features = load_file(toy_corpus / "gene_features.safetensors")["features"]
    saved = load_file(output / "model.safetensors")["bert.gene_token_embeddings.table.features"]
    assert torch.equal(saved[2:], features)
