"""The comparison from end to end: its arms, tables and figures, going on, and as users launch it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.modeling_nt_region_ranker import NTRegionRanker
from omics_transformers.modeling.modeling_nucleotide_transformer import NucleotideTransformerModel
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.training import run_region_ranking, run_segmentation
from omics_transformers.training.encoder_comparison_arguments import ComparisonArguments
from omics_transformers.training.run_encoder_comparison import compare_encoders, main

SCRIPT = Path(__file__).parents[1] / "training" / "run_encoder_comparison.py"
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TRAINING = {
    "use_cpu": True,
    "disable_tqdm": True,
    "report_to": "none",
    "save_strategy": "no",
    "resamples": 20,
    "max_steps": 2,
    "per_device_train_batch_size": 8,
}
RANKING = {**TRAINING, "num_tokens": 24, "block_bp": 6000, "learning_rate": 0.01}
SEGMENTATION = {**TRAINING, "unet_channels": [8], "block_bp": 1200, "freeze_encoder": True}


def train_here(script: str, file: Path, run: Path) -> None:
    """In this process, in place of one of its own: the same script, and the same settings."""
    modules = {"run_region_ranking": run_region_ranking, "run_segmentation": run_segmentation}
    modules[script].main([str(file), "--output_dir", str(run), "--resume"])


@pytest.fixture
def arguments(tmp_path: Path, toy_regions: Path, toy_segments: Path) -> Callable[..., ComparisonArguments]:
    def make(ranking: dict[str, Any] = RANKING, **changes: Any) -> ComparisonArguments:
        for name, options in (("ranking", ranking), ("segmentation", SEGMENTATION)):
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(options))
        return ComparisonArguments(
            **{
                "regions": str(toy_regions),
                "segments": str(toy_segments),
                "output_dir": str(tmp_path / "out"),
                "ranking_config": str(tmp_path / "ranking.yaml"),
                "segmentation_config": str(tmp_path / "segmentation.yaml"),
                **changes,
            }
        )

    return make


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(9)
    NucleotideTransformerModel(NucleotideTransformerConfig(**SIZES)).save_pretrained(folder)
    NucleotideKmerTokenizer().save_pretrained(folder)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return NucleotideTransformerModel.from_pretrained(folder).state_dict()


def are_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_compares_heads_and_four_encoders(
    arguments: Callable[..., ComparisonArguments], encoder: Path, toy_regions: Path, tmp_path: Path
) -> None:
    asked = arguments(
        encoder=str(encoder), regions_without_duplicates=str(toy_regions), seeds=[5, 6], heads=["linear", "transformer"]
    )
    result = compare_encoders(asked, launch=train_here)
    output, runs = tmp_path / "out", tmp_path / "out" / "runs"
    head = result["transfer_head"]
    heads = pd.read_csv(output / "heads.tsv", sep="\t")
    assert [*zip(heads["head"], heads["encoder"], strict=True)] == [
        (head, encoder) for head in ("linear", "transformer") for encoder in ("trained", "frozen")
    ]
    trained = heads[heads["encoder"] == "trained"].set_index("head")["validation_exact_order"]
    assert head == trained.idxmax() and heads["exact_order_chance"].tolist() == pytest.approx([1 / 6] * 4, rel=1e-4)
    assert are_equal(weights(runs / "ranker_linear_frozen_seed5"), weights(encoder))
    arms = ["random", "given", "atac_aware", "atac_aware_without_duplicates"]
    table = pd.read_csv(output / "segmentation.tsv", sep="\t")
    assert table["encoder"].tolist() == arms * 4 and result["baseline"] == "given"
    # Segmentation left its encoders frozen: each arm's is where it should come from.
    for seed in (5, 6):
        found = {arm: weights(runs / f"segmentation_{arm}_seed{seed}") for arm in arms}
        assert are_equal(found["given"], weights(encoder))
        assert are_equal(found["atac_aware"], weights(runs / f"ranker_{head}_trained_seed{seed}"))
        assert are_equal(
            found["atac_aware_without_duplicates"], weights(runs / f"ranker_{head}_without_duplicates_seed{seed}")
        )
        assert not any(are_equal(found["random"], found[arm]) for arm in arms[1:])
        model = SegmentNTForTokenClassification.from_pretrained(runs / f"segmentation_random_seed{seed}")
        assert model.config.hidden_size == 16
    saved = json.loads((output / "comparison.json").read_text())
    assert saved["transfer_head"] == head and saved["arguments"]["seeds"] == [5, 6]
    assert any("absent" in note for note in saved["notes"])
    assert all((output / "figures" / f"{name}.png").stat().st_size > 5000 for name in ("heads", "segmentation"))

    def forbidden(script: str, file: Path, run: Path) -> None:
        raise AssertionError(f"{run} is trained again")

    before = (output / "segmentation.tsv").read_bytes()
    (output / "segmentation.tsv").unlink()
    compare_encoders(asked, launch=forbidden)
    assert (output / "segmentation.tsv").read_bytes() == before


def test_without_encoder_random_weights_are_the_only_baseline(
    arguments: Callable[..., ComparisonArguments], tmp_path: Path
) -> None:
    asked = arguments({**RANKING, **SIZES}, skip_heads=True, transfer_head="linear", seeds=[0])
    result = compare_encoders(asked, launch=train_here)
    assert list(result["segmentation"]["island"]) == ["random", "atac_aware"] and result["baseline"] == "random"
    assert any("the random encoder is the only baseline" in note for note in result["notes"])
    assert any("no regions without duplicates" in note for note in result["notes"])
    assert any("one seed" in note for note in result["notes"])
    assert not (tmp_path / "out" / "heads.tsv").exists()
    runs = tmp_path / "out" / "runs"
    ranker = NTRegionRanker.from_pretrained(runs / "ranker_linear_trained_seed0")
    random = SegmentNTForTokenClassification.from_pretrained(runs / "segmentation_random_seed0")
    assert random.config.hidden_size == ranker.config.hidden_size == 16
    assert not are_equal(random.encoder.state_dict(), ranker.encoder.state_dict())


def test_refuses_before_training(
    arguments: Callable[..., ComparisonArguments], toy_regions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(script: str, file: Path, run: Path) -> None:
        raise AssertionError("trained")

    at_the_end = with_padding_at_the_end(toy_regions, tmp_path / "at_the_end")
    with pytest.raises(ValueError, match=r"all padding in .* stands at the end"):
        compare_encoders(arguments(regions_without_duplicates=str(at_the_end)), launch=forbidden)
    with pytest.raises(FileNotFoundError, match="no folder of segments at"):
        compare_encoders(arguments(segments=str(tmp_path / "absent")), launch=forbidden)
    (at_the_end / "data" / "test-00000-of-00001.parquet").unlink()
    card = (at_the_end / "README.md").read_text()
    (at_the_end / "README.md").write_text(card.replace("  - split: test\n    path: data/test-*.parquet\n", ""))
    with pytest.raises(ValueError, match="has no test rows: encoders are compared on test data"):
        compare_encoders(arguments(regions=str(at_the_end)), launch=forbidden)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="several processes run this comparison"):
        main([])


def with_padding_at_the_end(regions: Path, folder: Path) -> Path:
    (folder / "data").mkdir(parents=True)
    for file in (regions / "data").iterdir():
        table = pq.read_table(file)
        place = table.schema.get_field_index("padding_share")
        shares = pa.array([[0.0] * 3] * len(table), table.schema.field(place).type)
        pq.write_table(table.set_column(place, table.schema.field(place), shares), folder / "data" / file.name)
    (folder / "README.md").write_text(
        (regions / "README.md").read_text().replace("config_name: toy", "config_name: end")
    )
    (folder / "regions.json").write_text((regions / "regions.json").read_text())
    return folder


def start(arguments: ComparisonArguments) -> subprocess.Popen[str]:
    flags = {
        name: getattr(arguments, name)
        for name in ("regions", "segments", "output_dir", "ranking_config", "segmentation_config", "transfer_head")
    }
    command = [sys.executable, str(SCRIPT), *(f"--{name}={value}" for name, value in flags.items()), "--skip_heads"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--seeds", "0"], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.slow
def test_stopped_by_ctrl_c_it_goes_on(arguments: Callable[..., ComparisonArguments], tmp_path: Path) -> None:
    """In processes of its own; the terminal sends the signal to both the comparison and its training."""
    ranking = {**RANKING, **SIZES, "max_steps": 500, "logging_steps": 1}
    asked = arguments(ranking, transfer_head="linear")
    log = tmp_path / "out" / "runs" / "ranker_linear_trained_seed0.log"
    process = start(asked)
    while not (log.is_file() and "'loss'" in log.read_text()):
        assert process.poll() is None
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    (checkpoint,) = (tmp_path / "out" / "runs" / "ranker_linear_trained_seed0").glob("checkpoint-*")
    assert int(checkpoint.name.split("-")[1]) < 500
    process = start(asked)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert f"resuming from {checkpoint}" in log.read_text()
    assert (tmp_path / "out" / "segmentation.tsv").is_file()
