"""`perturb` from Python: the window of the reference, edits that need more than was given, and results that exist."""

import logging
from pathlib import Path
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.modeling.tokenization_gene_rank import GeneRankTokenizer
from omics_transformers.perturbation import perturb, reference_window

GENOME = ">chr1\n" + "ACGT" * 50 + "\n"
ANNOTATION = 'chr1\ttest\ttranscript\t101\t150\t.\t-\t.\tgene_id "G1"; gene_name "GENE"; transcript_id "T1";\n'
METADATA = {"window_bp": "20", "tss_choice": "canonical", "orient_by_strand": "false"}


def pipe_of(metadata: dict[str, str]) -> SimpleNamespace:
    """What `reference_window` reads of a pipeline."""
    tokenizer = SimpleNamespace(token_id_of_gene=lambda gene: 2, convert_ids_to_tokens=lambda token: "G1")
    model = SimpleNamespace(config=SimpleNamespace(gene_features_metadata=metadata))
    return SimpleNamespace(tokenizer=tokenizer, model=model)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "genome.fa").write_text(GENOME)
    (tmp_path / "genes.gtf").write_text(ANNOTATION)
    return tmp_path / "genome.fa", tmp_path / "genes.gtf"


@pytest.mark.parametrize("orient_by_strand", ["false", "true"])
def test_the_window_is_laid_as_the_models_own_were(files: tuple[Path, Path], orient_by_strand: str) -> None:
    window = reference_window(pipe_of({**METADATA, "orient_by_strand": orient_by_strand}), "GENE", *files)
    # Minus strand: the TSS is the interval's last base, 149 from 0, and base 10 of the window in either orientation.
    sequence = "ACGT" * 50
    if orient_by_strand == "true":
        assert window == sequence[149 - 9 : 149 + 11].translate(str.maketrans("ACGT", "TGCA"))[::-1]
    else:
        assert window == sequence[149 - 10 : 149 + 10]


def test_a_model_that_does_not_say_how_its_windows_were_laid(files: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="no window_bp, tss_choice, orient_by_strand"):
        reference_window(pipe_of({}), "GENE", *files)


def test_an_existing_result_is_kept(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="overwrite"):
        perturb("cells", tmp_path, model="model", gene="G1")


def test_options_that_an_edit_does_not_use_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises((OSError, ValueError)):
        perturb("cells", model=tmp_path / "absent", gene="G1", edit="delete", sequence="edited.fa")
    assert "'delete' does not use sequence" in caplog.text


GENES = [f"ENSG{number:011d}" for number in range(12)]


@pytest.fixture
def without_dna(tmp_path: Path) -> Path:
    """An adapter-free model, as a converted Geneformer is, with its tokenizer."""
    tokens = {token: number for number, token in enumerate(["<pad>", "<mask>", *GENES])}
    torch.manual_seed(0)
    config = BioDTAConfig(
        vocab_size=len(tokens),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=16,
        adapter_type="none",
        gene_ids=list(tokens),
        initializer_range=0.3,
    )
    BioDTAForMaskedLM(config).save_pretrained(tmp_path / "model")
    GeneRankTokenizer.from_dictionaries(tokens, dict.fromkeys(GENES, 1.0)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def cells() -> anndata.AnnData:
    counts = np.random.default_rng(0).poisson(2.0, (20, 12)).astype(np.float32)
    counts[:, 11] = 0
    obs = pd.DataFrame({"state": ["ill", "well"] * 10}, index=[f"cell{number}" for number in range(20)])
    return anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=GENES))


def test_a_model_without_dna(without_dna: Path, tmp_path: Path) -> None:
    options = {"model": without_dna, "device": "cpu", "noise_cells": 0}
    goal = {"start": "ill", "goal": "well", "column": "state"}
    result = perturb(cells(), tmp_path / "out", gene=GENES[:2], edit="set-rank", rank=1, goal=goal, **options)
    assert result.summary["edit_asked"] == "set-rank" and len(result.summary["edit"]["edits"]) == 2
    assert "dna_weights_origin" not in result.summary and "goal" in result.summary
    assert "claim about biology" not in (tmp_path / "out" / "report.html").read_text()
    files = {"genome": "absent.fa", "annotation": "absent.gtf", "dna_model": tmp_path / "absent"}
    with pytest.raises(ValueError, match="'variants' changes DNA, and this model reads none"):
        perturb(cells(), gene=GENES[0], edit="variants", variants=["chr1:1:A>C"], **files, **options)


def test_a_gene_that_no_cell_expresses(without_dna: Path) -> None:
    with pytest.raises(ValueError, match=f"none of the 20 cells expresses {GENES[11]}"):
        perturb(cells(), model=without_dna, gene=GENES[11], edit="mask", device="cpu")
