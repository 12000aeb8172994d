"""What a comparison leaves: a model that opens by itself, tables, figures and a card."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from omics_transformers.modeling.feature_extraction_multiome import MultiomeFeatureExtractor
from omics_transformers.modeling.modeling_multiome_performer import MultiomePerformerForCellTypeClassification
from omics_transformers.training.cell_type_arguments import CellTypeTrainingArguments
from omics_transformers.training.cell_type_comparison import (
    BaselineArm,
    CellTypeComparison,
    ModelArm,
    compare_cell_types,
)
from omics_transformers.training.cell_type_output import (
    card_rows,
    draw_curves,
    write_classifier,
    write_figures,
    write_tables,
)
from omics_transformers.training.cell_type_trainer import CellTypeTrainer
from omics_transformers.training.multiome_data import read_multiome

SIZES: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 32,
}  # fmt: skip


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, toy_multiome: Path) -> tuple[Path, CellTypeComparison]:
    """The folder of a model trained by LoRA, and its comparison."""
    output = tmp_path_factory.mktemp("compared") / "out"

    def keep_model(trainer: CellTypeTrainer) -> None:
        write_classifier(output, trainer, read_multiome(toy_multiome))

    training = CellTypeTrainingArguments(
        output_dir=str(output),
        use_cpu=True,
        disable_tqdm=True,
        minimum_steps=20,
        num_train_epochs=1,
        learning_rate=1e-3,
    )
    arms = [ModelArm("model", config=SIZES, tuning="lora"), BaselineArm("logistic_regression")]
    comparison = compare_cell_types(
        arms,
        toy_multiome,
        seeds=(0, 1),
        cells_per_type=(None, 4),
        training=training,
        output_dir=output,
        keep_model=keep_model,
    )
    return output, comparison


def test_the_model_that_is_written_gives_the_scores_that_were_counted(
    compared: tuple[Path, CellTypeComparison], toy_multiome: Path
) -> None:
    output, comparison = compared
    model = MultiomePerformerForCellTypeClassification.from_pretrained(output)
    assert list(model.config.id2label.values()) == [f"type{number}" for number in range(4)]
    folder = read_multiome(toy_multiome)
    types, _ = folder.cells.labels("cell_type")
    rows = np.flatnonzero(folder.cells.has_rna & (types >= 0))
    with torch.no_grad():
        logits = model(rna_values=torch.from_numpy(folder.cells.values(rows, "rna"))).logits
    right = (logits.argmax(1).numpy() == types[rows]).mean()
    assert right == pytest.approx(comparison.runs[0]["test"]["accuracy"], abs=0.15)
    extractor = MultiomeFeatureExtractor.from_pretrained(output)
    assert extractor.gene_ids == folder.gene_ids
    described = json.loads((output / "config.json").read_text())
    assert described["custom_pipelines"].keys() == {"cell-type-classification"}
    assert (output / "cell_type_classification.py").is_file() and not list(output.glob("*.bin"))


def test_tables_hold_every_run_and_every_arm(compared: tuple[Path, CellTypeComparison], tmp_path: Path) -> None:
    write_tables(tmp_path, compared[1])
    results, summary = (pd.read_csv(tmp_path / f"{name}.tsv", sep="\t") for name in ("results", "summary"))
    assert results.shape[0] == 8 and summary.shape[0] == 4
    assert results["mcc"].tolist() == pytest.approx(compared[1].results["mcc"].tolist(), rel=1e-5)
    assert results["cells_per_type"].dropna().tolist() == [4] * 4
    assert (tmp_path / "results.tsv").read_bytes().count(b"\r") == 0


def test_figures_are_drawn_the_same_each_time(compared: tuple[Path, CellTypeComparison], tmp_path: Path) -> None:
    comparison = compared[1]
    write_figures(tmp_path, comparison, comparison.runs[0])
    names = ["cells_per_type.png", "confusion.png"]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == names
    assert (tmp_path / "figures" / names[0]).read_bytes() == draw_curves(comparison.summary)
    without = comparison._replace(summary=comparison.summary[comparison.summary["cells_per_type"].isna()])
    write_figures(tmp_path / "without", without, comparison.runs[0])
    assert [path.name for path in (tmp_path / "without" / "figures").iterdir()] == ["confusion.png"]


def test_rows_of_the_card_are_texts(compared: tuple[Path, CellTypeComparison]) -> None:
    rows = card_rows(compared[1].summary)
    assert [row["cells_per_type"] for row in rows] == ["all", "all", "4", "4"]
    logistic = next(row for row in rows if row["method"] == "logistic_regression")
    assert logistic["tuning"] == "-" and logistic["mcc_difference"] == "0.000 (0.000 to 0.000)"
