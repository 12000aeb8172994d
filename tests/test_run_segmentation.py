"""Training of SegmentNT from end to end: the script as users launch it, and `train_segmentation` itself."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from huggingface_hub.errors import StrictDataclassClassValidationError
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification, AutoTokenizer

from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.pipelines.dna_segmentation import DNASegmentationPipeline
from omics_transformers.training.run_segmentation import train_segmentation
from omics_transformers.training.segmentation_arguments import (
    SegmentationArguments,
    SegmentationDataArguments,
    SegmentationModelArguments,
)

SCRIPT = Path(__file__).parents[1] / "training" / "run_segmentation.py"
TINY = {
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "block_bp": 1200,
    "resamples": 50,
    "use_cpu": True,
    "disable_tqdm": True,
    "report_to": "none",
    "per_device_train_batch_size": 8,
    "learning_rate": 0.01,
    "save_strategy": "no",
}


def settings(segments: Path, output: Path, **changes: Any) -> dict[str, Any]:
    return {**TINY, "segments": str(segments), "output_dir": str(output), **changes}


def run_here(segments: Path, output: Path, **changes: Any) -> dict[str, Any]:
    chosen = settings(segments, output, **changes)
    kinds = (SegmentationModelArguments, SegmentationDataArguments, SegmentationArguments)
    model, data, training = (
        kind(**{name: value for name, value in chosen.items() if name in kind.__dataclass_fields__}) for kind in kinds
    )
    return train_segmentation((model, data, training))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, toy_segments: Path) -> Path:
    """The folder of a trained model."""
    output = tmp_path_factory.mktemp("trained") / "model"
    run_here(toy_segments, output, num_train_epochs=5, class_weights="sqrt_balanced")
    return output


def test_learns_what_can_be_learned_and_says_how_well(trained: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    island = metrics["test"]["elements"]["island"]
    assert island["mcc_interval"][0] > 0.7
    assert island["auprc"] > 0.9 and island["segment_overlap"] > 0.7
    assert metrics["test"]["elements"]["absent"]["mcc"] is None
    assert metrics["validation"]["windows"] == 24 and metrics["test"]["blocks"] == 10
    table = pd.read_csv(trained / "elements.tsv", sep="\t").set_index(["split", "element"])
    assert table.loc[("test", "island"), "mcc"] == pytest.approx(island["mcc"], rel=1e-5)
    card = (trained / "README.md").read_text()
    assert f"| island | 3,167 | 0.28 | {island['threshold']:.3f} | {island['mcc']:.3f} (" in card
    assert "thresholds chosen on the validation windows" in card


def test_the_model_that_is_written_makes_the_calls_that_were_scored(trained: Path, toy_segments: Path) -> None:
    model = AutoModelForTokenClassification.from_pretrained(trained)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    assert (type(model).__name__, type(tokenizer).__name__) == (
        "SegmentNTForTokenClassification", "NucleotideKmerTokenizer"
    )  # fmt: skip
    assert list(model.config.id2label.values()) == ["island", "island_start", "absent"]
    assert model.config.window_bp == 240 and len(model.config.class_weights) == 3
    metrics = json.loads((trained / "metrics.json").read_text())
    validation, test = (metrics[split]["elements"].values() for split in ("validation", "test"))
    assert model.config.thresholds == [element["threshold"] for element in validation]
    assert model.config.thresholds == [element["threshold"] for element in test]
    rows = pd.read_parquet(toy_segments / "data" / "test-00000-of-00001.parquet")
    with torch.no_grad():
        outputs = model(**tokenizer(rows["sequence"].tolist(), padding=True, return_tensors="pt"))
    called = outputs.logits.softmax(-1)[..., 0, 1] >= model.config.thresholds[0]
    expected = round(metrics["test"]["elements"]["island"]["recall"] * 3167)
    truth, ignored = torch.zeros(called.shape, dtype=torch.bool), torch.zeros(called.shape, dtype=torch.bool)
    for row, (labels, masked) in enumerate(zip(rows["labels"], rows["ignored"], strict=True)):
        truth[row] = unpacked(labels[:30])
        ignored[row] = unpacked(masked) if masked else False
    is_scored = outputs.base_mask & ~ignored
    assert abs(int((called & truth & is_scored).sum()) - expected) <= 1


def test_the_folder_brings_its_pipeline(trained: Path) -> None:
    pipe = DNASegmentationPipeline(
        AutoModelForTokenClassification.from_pretrained(trained), AutoTokenizer.from_pretrained(trained), device="cpu"
    )
    result = pipe("ACGTTGCA" * 20 + "GC" * 30 + "ATTGCATA" * 20)
    assert (trained / "dna_segmentation.py").is_file()
    assert json.loads((trained / "config.json").read_text())["custom_pipelines"].keys() == {"dna-segmentation"}
    assert result.probabilities.shape == (380, 3)
    assert result.probabilities[165:215, 0].mean() > 0.8 > 0.3 > result.probabilities[:100, 0].mean()


def unpacked(packed: bytes) -> torch.Tensor:
    return torch.tensor([bool(byte >> (7 - bit) & 1) for byte in packed for bit in range(8)])


def test_accelerate_launch_writes_a_model_that_loads(
    tmp_path: Path, toy_segments: Path, accelerate_launch: Callable[..., tuple[str, str]]
) -> None:
    output = tmp_path / "model"
    changes = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2, "validation_windows": 6, "test_windows": 10}
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(settings(toy_segments, output, **changes)))
    printed, log = accelerate_launch(SCRIPT, str(file))
    assert '"hidden_size": 24' in log  # it says what it resolved
    assert printed.count("eval_mcc_island'") == 3
    assert isinstance(AutoModelForTokenClassification.from_pretrained(output), SegmentNTForTokenClassification)
    metrics = json.loads((output / "metrics.json").read_text())
    assert (metrics["validation"]["windows"], metrics["test"]["windows"]) == (24, 10)
    assert json.loads((output / "arguments.json").read_text())["data"]["test_windows"] == 10
    assert not list(output.glob("*.bin"))


def test_two_processes_count_each_window_once(
    tmp_path: Path, toy_segments: Path, in_two_processes: Callable[[Callable[[], Any]], None]
) -> None:
    """Untrained, the same model: 24 and 48 windows in batches of 5."""
    changes = {"max_steps": 1, "learning_rate": 0.0, "per_device_eval_batch_size": 5, "test_windows": 47}
    in_two_processes(lambda: run_here(toy_segments, tmp_path / "two", **changes))
    assert json.loads((tmp_path / "two" / "arguments.json").read_text())["processes"] == 2
    expected = run_here(toy_segments, tmp_path / "one", **changes)
    found = json.loads((tmp_path / "two" / "metrics.json").read_text())
    for split in ("validation", "test"):
        assert found[split]["windows"] == expected[split]["windows"]
        assert found[split]["loss"] == pytest.approx(expected[split]["loss"], rel=1e-5)
        for name, element in expected[split]["elements"].items():
            for score, value in element.items():
                assert found[split]["elements"][name][score] == (
                    value if value in (None, [None, None]) else pytest.approx(value, rel=1e-2, abs=1e-3)
                ), (split, name, score)


@pytest.mark.parametrize("lora_rank", [0, 2], ids=["whole", "LoRA"])
def test_resumes_to_the_weights_of_an_unbroken_run(
    tmp_path: Path, toy_segments: Path, trained: Path, lora_rank: int
) -> None:
    """In the middle of the second epoch of 20 steps, with crops and turned strands that depend on the epoch."""
    changes: dict[str, Any] = {"max_steps": 26, "save_strategy": "steps", "save_steps": 23, "crop_bp": 100}
    if lora_rank:
        sizes = dict.fromkeys(("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"))
        changes |= {"lora_rank": lora_rank, "encoder": str(trained), **sizes}
    unbroken, stopped = tmp_path / "unbroken", tmp_path / "stopped"
    run_here(toy_segments, unbroken, **changes)
    stopped.mkdir()
    shutil.copytree(unbroken / "checkpoint-23", stopped / "checkpoint-23")
    with pytest.raises(FileExistsError, match="holds an earlier run"):
        run_here(toy_segments, stopped, **changes)
    run_here(toy_segments, stopped, **changes, resume=True)
    expected, found = load_file(unbroken / "model.safetensors"), load_file(stopped / "model.safetensors")
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_lora_is_merged_and_its_adapter_gives_the_same(tmp_path: Path, toy_segments: Path, trained: Path) -> None:
    output = tmp_path / "adapted"
    sizes = dict.fromkeys(("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"))
    changes = {"encoder": str(trained), "lora_rank": 2, "save_adapter": True, "max_steps": 8, **sizes}
    metrics = run_here(toy_segments, output, **changes)
    merged = AutoModelForTokenClassification.from_pretrained(output)
    assert merged.config.thresholds == [element["threshold"] for element in metrics["test"]["elements"].values()]
    base = SegmentNTForTokenClassification(merged.config)
    base.load_encoder(trained)
    frozen, adapted = base.encoder.state_dict(), merged.encoder.state_dict()
    changed = {name for name, tensor in frozen.items() if not torch.equal(tensor, adapted[name])}
    assert changed == {f"layers.0.attention.{part}.weight" for part in ("query", "value")}
    tokens = AutoTokenizer.from_pretrained(output)(["ACGTTGCAAT" * 9], return_tensors="pt")
    expected = merged(**tokens).logits
    with pytest.warns(FutureWarning, match="is_gradient_checkpointing"):  # peft's own
        adapter = PeftModel.from_pretrained(base, str(output / "adapter"))
    found = adapter(**tokens).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert "adapted by LoRA of rank 2" in (output / "README.md").read_text()


def test_bf16_and_recomputed_activations_train_alike(tmp_path: Path, toy_segments: Path) -> None:
    changes = {"max_steps": 10, "encoder_learning_rate": 0.005}
    plain = run_here(toy_segments, tmp_path / "plain", **changes)
    saving = run_here(toy_segments, tmp_path / "saving", **changes, bf16=True, activation_checkpointing=True)
    assert saving["training"]["train_loss"] == pytest.approx(plain["training"]["train_loss"], rel=0.05)
    assert saving["test"]["loss"] == pytest.approx(plain["test"]["loss"], rel=0.1)
    assert saving["test"]["loss"] != plain["test"]["loss"]


def test_without_validation_and_test_there_are_no_thresholds(tmp_path: Path, toy_segments: Path) -> None:
    folder = tmp_path / "train_only"
    shutil.copytree(toy_segments, folder)
    for path in (folder / "data").glob("*.parquet"):
        if not path.name.startswith("train"):
            path.unlink()
    output = tmp_path / "model"
    metrics = run_here(folder, output, max_steps=2)
    assert metrics.keys() == {"training", "data"}
    assert AutoModelForTokenClassification.from_pretrained(output).config.thresholds is None
    assert "No windows were held out" in (output / "README.md").read_text()


def test_refuses_before_training(tmp_path: Path, toy_segments: Path) -> None:
    nothing = (SegmentationModelArguments(), SegmentationDataArguments())
    with pytest.raises(ValueError, match="segments is not set"):
        train_segmentation((*nothing, SegmentationArguments(str(tmp_path / "a"), use_cpu=True)))
    with pytest.raises(FileNotFoundError, match="no folder of segments at"):
        run_here(tmp_path / "absent", tmp_path / "b")
    with pytest.raises(StrictDataclassClassValidationError, match="no multiple of num_attention_heads 5"):
        run_here(toy_segments, tmp_path / "c", num_attention_heads=5)
    assert not list(tmp_path.glob("*/config.json"))
