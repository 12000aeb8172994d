"""The saved segmentation pipeline: with the package, and in a fresh process without it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.pipelines.dna_segmentation import DNASegmentationPipeline
from omics_transformers.training.segmentation_pipeline import add_segmentation_pipeline

WITHOUT_PACKAGE = """
import sys
sys.modules["omics_transformers"] = None  # importing it now raises ImportError
import numpy as np
from transformers import pipeline
model, fasta, output = sys.argv[1:]
pipe = pipeline("dna-segmentation", model=model, device="cpu", trust_remote_code=True)
assert type(pipe).__module__.startswith("transformers_modules")
result = pipe(fasta, region="chr1:11-400", reverse_complement=True)
np.save(output + "/probabilities.npy", result.probabilities)
result.to_bed(output + "/calls.bed")
result.to_bigwig(output + "/tracks")
result.plot(output + "/locus.png")
"""


@pytest.fixture(scope="module")
def pipe() -> DNASegmentationPipeline:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = SegmentNTConfig(**sizes, window_bp=120, initializer_range=0.3)
    return DNASegmentationPipeline(SegmentNTForTokenClassification(config), NucleotideKmerTokenizer(), device="cpu")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_training_writes_what_the_pipeline_writes(pipe: DNASegmentationPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "one")
    assert not hasattr(pipe.model.config, "custom_pipelines")
    add_segmentation_pipeline(pipe.model, tmp_path / "two")
    pipe.model.save_pretrained(tmp_path / "two")
    pipe.tokenizer.save_pretrained(tmp_path / "two")
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    configs = [json.loads(folder.pop("config.json")) for folder in (one, two)]
    assert one == two and "dna_segmentation.py" in one
    for config in configs:
        entry = config["custom_pipelines"]["dna-segmentation"]
        assert entry["impl"] == "dna_segmentation.DNASegmentationPipeline"
        assert entry["pt"] == ["AutoModelForTokenClassification"]


def test_without_the_package(pipe: DNASegmentationPipeline, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    pipe.save_pretrained(folder)
    sequence = "".join(np.random.default_rng(0).choice(list("ACGTN"), 500, p=[0.24, 0.25, 0.25, 0.25, 0.01]))
    (tmp_path / "genome.fa").write_text(f">chr1\n{sequence}\n>chr2\nACGT\n")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGE, str(folder), str(tmp_path / "genome.fa"), str(tmp_path)],
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = pipe(sequence[10:400], reverse_complement=True).probabilities
    np.testing.assert_allclose(np.load(tmp_path / "probabilities.npy"), expected, atol=1e-6)
    assert len(list((tmp_path / "tracks").iterdir())) == 14
    assert (tmp_path / "calls.bed").read_text().startswith("chr1\t10\t")
    assert (tmp_path / "locus.png").stat().st_size > 10_000


def test_with_the_package(pipe: DNASegmentationPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    open_pipeline: Any = transformers.pipeline
    opened = open_pipeline("dna-segmentation", model=str(tmp_path), device="cpu")
    assert type(opened) is DNASegmentationPipeline  # of the package, though its code lies beside the model
    np.testing.assert_array_equal(opened("ACGTTGCA" * 20).probabilities, pipe("ACGTTGCA" * 20).probabilities)
