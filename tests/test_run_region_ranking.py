"""Training of region rankers from end to end: the script as users launch it, its resuming, and the transfer."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers
import yaml
from huggingface_hub.errors import StrictDataclassFieldValidationError
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.modeling.modeling_nt_region_ranker import NTRegionRanker
from omics_transformers.modeling.modeling_nucleotide_transformer import (
    NucleotideTransformerForMaskedLM,
    NucleotideTransformerModel,
)
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.training.ranking_arguments import (
    RankingArguments,
    RankingDataArguments,
    RankingModelArguments,
)
from omics_transformers.training.ranking_data import RegionRankingCollator, RegionRankingDataset, read_regions
from omics_transformers.training.ranking_metric import RegionRankingMetric
from omics_transformers.training.run_region_ranking import train_region_ranking
from omics_transformers.training.run_segmentation import main as run_segmentation

SCRIPT = Path(__file__).parents[1] / "training" / "run_region_ranking.py"
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
NO_SIZES = dict.fromkeys(SIZES)
TINY = {
    **SIZES,
    "num_tokens": 32,
    "block_bp": 6000,
    "resamples": 50,
    "use_cpu": True,
    "disable_tqdm": True,
    "report_to": "none",
    "per_device_train_batch_size": 16,
    "learning_rate": 0.005,
    "save_strategy": "no",
}


def settings(regions: Path, output: Path, **changes: Any) -> dict[str, Any]:
    return {**TINY, "regions": str(regions), "output_dir": str(output), **changes}


def write_settings(regions: Path, output: Path, **changes: Any) -> Path:
    """The YAML file that the script reads."""
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(settings(regions, output, **changes)))
    return file


def run_here(regions: Path, output: Path, **changes: Any) -> dict[str, Any]:
    chosen = settings(regions, output, **changes)
    kinds = (RankingModelArguments, RankingDataArguments, RankingArguments)
    model, data, training = (
        kind(**{name: value for name, value in chosen.items() if name in kind.__dataclass_fields__}) for kind in kinds
    )
    return train_region_ranking((model, data, training))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, toy_regions: Path) -> Path:
    """The folder of a trained model."""
    output = tmp_path_factory.mktemp("trained") / "ranker"
    run_here(toy_regions, output, num_train_epochs=5, learning_rate=0.01)
    return output


def test_learns_the_order_and_says_how_well(trained: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    test = metrics["test"]
    assert test["exact_order"] > 0.8 and test["exact_order_chance"] == pytest.approx(1 / 6)
    assert test["exact_order_interval"][0] > 1 / 6
    assert (test["lists"], test["groups"], metrics["validation"]["lists"]) == (64, 7, 48)
    assert test["cell_types"].keys() == {"alpha", "beta"}
    assert metrics["data"]["train_rows"] == 256 and metrics["training"]["train_loss"] > 0
    table = pd.read_csv(trained / "ranking.tsv", sep="\t").set_index(["split", "cell_type"])
    assert len(table) == 6
    assert table.loc[("test", "all"), "exact_order"] == pytest.approx(test["exact_order"], rel=1e-5)
    assert table.loc[("test", "all"), "exact_order_chance"] == pytest.approx(1 / 6, rel=1e-5)
    card = (trained / "README.md").read_text()
    low, high = test["exact_order_interval"]
    assert f"| test | 64 | exact order | {test['exact_order']:.3f} | {low:.3f} to {high:.3f} | 0.167 |" in card
    assert json.loads((trained / "arguments.json").read_text())["data"]["padding"] == "stored"
    assert not list(trained.glob("*.bin"))


def test_the_model_that_is_written_gives_the_scores_that_were_counted(trained: Path, toy_regions: Path) -> None:
    model, tokenizer = AutoModel.from_pretrained(trained), AutoTokenizer.from_pretrained(trained)
    assert (type(model), type(tokenizer)) == (NTRegionRanker, NucleotideKmerTokenizer)
    assert (model.config.num_tokens, model.config.span_bp, model.config.cell_types) == (32, 600, None)
    dataset = RegionRankingDataset(read_regions(toy_regions).splits["test"])
    batch = RegionRankingCollator(tokenizer, 32)([dataset[number] for number in range(64)])
    with torch.no_grad():
        scores = model(**batch).scores
    found = RegionRankingMetric().compute(predictions=scores, references=batch["labels"])
    expected = json.loads((trained / "metrics.json").read_text())["test"]
    for name in ("exact_order", "pair_accuracy", "ndcg", "kendall_tau"):
        assert found[name] == pytest.approx(expected[name], abs=1e-6)


def test_the_folder_brings_its_pipeline(trained: Path) -> None:
    assert json.loads((trained / "config.json").read_text())["custom_pipelines"].keys() == {"region-ranking"}
    assert (trained / "region_ranking.py").is_file()
    open_pipeline: Any = transformers.pipeline
    assert type(open_pipeline("region-ranking", model=str(trained), device="cpu")).__name__ == "RegionRankingPipeline"


def test_its_encoder_goes_into_segment_nt(trained: Path, toy_segments: Path, tmp_path: Path) -> None:
    """Trained on: only the head moves where the encoder is frozen. And back into a ranker again."""
    output = tmp_path / "segment_nt"
    flags = {"segments": toy_segments, "encoder": trained, "output-dir": output, "max-steps": 2, "report-to": "none"}
    run_segmentation(
        [f"--{name}={value}" for name, value in flags.items()]
        + ["--freeze-encoder", "--use-cpu", "--disable-tqdm=true", "--save-strategy=no"]
    )
    segment_nt = SegmentNTForTokenClassification.from_pretrained(output)
    ranker = NTRegionRanker.from_pretrained(trained)
    alone = NucleotideTransformerModel.from_pretrained(trained).state_dict()
    expected = ranker.encoder.state_dict()
    assert expected.keys() == segment_nt.encoder.state_dict().keys() == alone.keys()
    for name, tensor in segment_nt.encoder.state_dict().items():
        assert torch.equal(tensor, expected[name]) and torch.equal(tensor, alone[name]), name
    fields = ("hidden_size", "num_hidden_layers", "intermediate_size", "max_position_embeddings", "rescaling_factor")
    assert all(getattr(segment_nt.config, name) == getattr(ranker.config, name) for name in fields)


@pytest.mark.parametrize("source", ["nucleotide_transformer", "segment_nt", "ranker"])
def test_starts_from_the_encoder_of_any_model(source: str, trained: Path, toy_regions: Path, tmp_path: Path) -> None:
    folder = tmp_path / source
    torch.manual_seed(2)
    if source == "nucleotide_transformer":
        model: Any = NucleotideTransformerForMaskedLM(NucleotideTransformerConfig(**SIZES))
    elif source == "segment_nt":
        model = SegmentNTForTokenClassification(SegmentNTConfig(**SIZES, unet_channels=[8]))
    else:
        model = NTRegionRanker.from_pretrained(trained)
    model.save_pretrained(folder)
    NucleotideKmerTokenizer().save_pretrained(folder)
    output = tmp_path / "model"
    changes = {"encoder": str(folder), "freeze_encoder": True, "scorer_head": "linear", "max_steps": 1, **NO_SIZES}
    run_here(toy_regions, output, **changes)
    found = NTRegionRanker.from_pretrained(output)
    assert found.config.scorer_head == "linear"
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(found.encoder.state_dict()[name], tensor), name
    assert f"from {folder}, frozen" in (output / "README.md").read_text()


def test_accelerate_launch_writes_a_model_that_loads(
    tmp_path: Path, toy_regions: Path, accelerate_launch: Callable[..., tuple[str, str]]
) -> None:
    output = tmp_path / "model"
    changes = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2, "validation_rows": 6, "test_rows": 10}
    file = write_settings(toy_regions, output, **changes, condition_on_cell_type=True)
    printed, log = accelerate_launch(SCRIPT, str(file))
    assert '"hidden_size": 32' in log  # it says what it resolved
    assert "test of 10 lists: exact order" in log and "(chance 0.1667)" in log
    assert printed.count("eval_exact_order'") == 2
    assert AutoModel.from_pretrained(output).config.cell_types == ["alpha", "beta"]
    metrics = json.loads((output / "metrics.json").read_text())
    assert (metrics["validation"]["lists"], metrics["test"]["lists"]) == (48, 10)


def test_two_processes_count_each_row_once(
    tmp_path: Path, toy_regions: Path, in_two_processes: Callable[[Callable[[], Any]], None]
) -> None:
    """Untrained, the same model: 48 and 47 rows in batches of 5."""
    changes = {"max_steps": 1, "learning_rate": 0.0, "per_device_eval_batch_size": 5, "test_rows": 47}
    in_two_processes(lambda: run_here(toy_regions, tmp_path / "two", **changes))
    expected = run_here(toy_regions, tmp_path / "one", **changes)
    assert json.loads((tmp_path / "two" / "arguments.json").read_text())["processes"] == 2
    found = json.loads((tmp_path / "two" / "metrics.json").read_text())
    for split in ("validation", "test"):
        assert found[split].pop("cell_types").keys() == expected[split].pop("cell_types").keys()
        for name, value in expected[split].items():
            assert found[split][name] == pytest.approx(value, rel=1e-5), (split, name)


@pytest.mark.parametrize("lora_rank", [0, 2], ids=["whole", "LoRA"])
def test_resumes_to_the_weights_of_an_unbroken_run(
    tmp_path: Path, toy_regions: Path, trained: Path, lora_rank: int
) -> None:
    """In the middle of the second epoch of 16 steps, with padding, strands and orders that depend on the epoch."""
    changes: dict[str, Any] = {"max_steps": 22, "save_strategy": "steps", "save_steps": 19}
    changes |= {"padding": "random", "reverse_complement": 0.5, "hidden_dropout_prob": 0.1}
    if lora_rank:
        changes |= {"lora_rank": lora_rank, "encoder": str(trained), **NO_SIZES}
    unbroken, stopped = tmp_path / "unbroken", tmp_path / "stopped"
    run_here(toy_regions, unbroken, **changes)
    stopped.mkdir()
    shutil.copytree(unbroken / "checkpoint-19", stopped / "checkpoint-19")
    with pytest.raises(FileExistsError, match="holds an earlier run"):
        run_here(toy_regions, stopped, **changes)
    run_here(toy_regions, stopped, **changes, resume=True)
    expected, found = load_file(unbroken / "model.safetensors"), load_file(stopped / "model.safetensors")
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.slow
def test_an_interrupt_saves_a_checkpoint(tmp_path: Path, toy_regions: Path) -> None:
    output = tmp_path / "model"
    file = write_settings(toy_regions, output, max_steps=100_000, logging_steps=1)
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(file)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "'loss'" in line:
            break
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr[-3000:]
    assert "stopped at step" in stderr and len(list(output.glob("checkpoint-*/trainer_state.json"))) == 1
    assert not (output / "model.safetensors").exists()


def test_lora_is_merged_and_its_adapter_gives_the_same(tmp_path: Path, toy_regions: Path, trained: Path) -> None:
    output = tmp_path / "adapted"
    changes = {"encoder": str(trained), "lora_rank": 2, "save_adapter": True, "max_steps": 8, **NO_SIZES}
    run_here(toy_regions, output, **changes)
    merged = NTRegionRanker.from_pretrained(output)
    base = NTRegionRanker(merged.config)
    base.load_encoder(trained)
    frozen, adapted = base.encoder.state_dict(), merged.encoder.state_dict()
    changed = {name for name, tensor in frozen.items() if not torch.equal(tensor, adapted[name])}
    assert changed == {f"layers.0.attention.{part}.weight" for part in ("query", "value")}
    tokens = AutoTokenizer.from_pretrained(output)(["ACGTTGCAAT" * 9], return_tensors="pt")
    inputs = {name: tensor[None] for name, tensor in tokens.items()}
    expected = merged(**inputs).scores
    with pytest.warns(FutureWarning, match="is_gradient_checkpointing"):  # peft's own
        adapter = PeftModel.from_pretrained(base, str(output / "adapter"))
    torch.testing.assert_close(adapter(**inputs).scores, expected, rtol=1e-4, atol=1e-5)


def test_bf16_trains_alike(tmp_path: Path, toy_regions: Path) -> None:
    changes = {"max_steps": 6, "encoder_learning_rate": 0.002}
    plain = run_here(toy_regions, tmp_path / "plain", **changes)
    mixed = run_here(toy_regions, tmp_path / "mixed", **changes, bf16=True)
    assert mixed["training"]["train_loss"] == pytest.approx(plain["training"]["train_loss"], rel=0.05)
    assert mixed["test"]["loss"] != plain["test"]["loss"]


def test_stops_early_and_keeps_the_best(tmp_path: Path, toy_regions: Path) -> None:
    metrics = run_here(
        toy_regions, tmp_path / "model", learning_rate=0.0, num_train_epochs=9, early_stopping_patience=2,
        eval_strategy="steps", save_strategy="steps", eval_steps=2, save_steps=2, load_best_model_at_end=True,
        metric_for_best_model="exact_order",
    )  # fmt: skip
    assert metrics["training"]["step"] == 6  # the first is the best, two more are not better


def test_without_validation_and_test_it_says_so(
    tmp_path: Path, toy_regions: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "regions_train_only"
    shutil.copytree(toy_regions, folder)
    for path in (folder / "data").glob("*.parquet"):
        if not path.name.startswith("train"):
            path.unlink()
    metrics = run_here(folder, tmp_path / "model", max_steps=1)
    assert metrics.keys() == {"training", "data"}
    assert "the folder has no test rows" in caplog.text
    assert "No rows were held out" in (tmp_path / "model" / "README.md").read_text()


def test_refuses_before_training(tmp_path: Path, toy_regions: Path, trained: Path) -> None:
    nothing = (RankingModelArguments(), RankingDataArguments())
    with pytest.raises(ValueError, match="regions is not set"):
        train_region_ranking((*nothing, RankingArguments(str(tmp_path / "a"), use_cpu=True)))
    with pytest.raises(FileNotFoundError, match="no folder of regions at"):
        run_here(tmp_path / "absent", tmp_path / "b")
    with pytest.raises(ValueError, match=r"hidden_size.* and encoder are both given"):
        run_here(toy_regions, tmp_path / "c", encoder=str(trained))
    with pytest.raises(StrictDataclassFieldValidationError, match="got perceptron"):
        run_here(toy_regions, tmp_path / "d", scorer_head="perceptron")
    assert not list(tmp_path.glob("*/config.json"))
