"""The saved region-ranking pipeline: with the package, and in a fresh process without it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

from omics_transformers.modeling.configuration_nt_region_ranker import NTRegionRankerConfig
from omics_transformers.modeling.modeling_nt_region_ranker import NTRegionRanker
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.pipelines.region_ranking import RegionRankingPipeline
from omics_transformers.training.ranking_pipeline import add_ranking_pipeline

WITHOUT_PACKAGE = """
import sys
sys.modules["omics_transformers"] = None  # importing it now raises ImportError
import numpy as np
from pathlib import Path
from transformers import pipeline
model, fasta, variant, output = sys.argv[1:]
pipe = pipeline("region-ranking", model=model, device="cpu", trust_remote_code=True)
assert type(pipe).__module__.startswith("transformers_modules")
made = pipe(["chr1:11-100", ("chr1", 200, 300, "peak")], genome=fasta, cell_type="beta", reverse_complement=True)
made.regions.to_csv(output + "/regions.tsv", sep="\\t", index=False)
made.to_bed(output + "/regions.bed")
Path(output, "scores.png").write_bytes(made.figure())
effects = pipe.variants([variant], fasta, region_bp=60, cell_type="beta")
effects.variants.to_csv(output + "/variants.tsv", sep="\\t", index=False)
pipe.track("chr1", fasta, region_bp=60, step_bp=20, cell_type="beta").to_bigwig(output + "/scores.bw")
"""


@pytest.fixture(scope="module")
def pipe() -> RegionRankingPipeline:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = NTRegionRankerConfig(**sizes, num_tokens=21, cell_types=["alpha", "beta"], initializer_range=0.3)
    model = NTRegionRanker(config)
    torch.nn.init.normal_(model.cell_type_embeddings.weight)
    return RegionRankingPipeline(model, NucleotideKmerTokenizer(), device="cpu")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_training_writes_what_the_pipeline_writes(pipe: RegionRankingPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "one")
    assert not hasattr(pipe.model.config, "custom_pipelines")
    add_ranking_pipeline(pipe.model, tmp_path / "two")
    pipe.model.save_pretrained(tmp_path / "two")
    pipe.tokenizer.save_pretrained(tmp_path / "two")
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    configs = [json.loads(folder.pop("config.json")) for folder in (one, two)]
    assert one == two and {"region_ranking.py", "variant_windows.py", "modeling_nt_region_ranker.py"} < set(one)
    assert "dna_segmentation.py" not in one
    for config in configs:
        entry = config["custom_pipelines"]["region-ranking"]
        assert entry["impl"] == "region_ranking.RegionRankingPipeline" and entry["pt"] == ["AutoModel"]


def test_without_the_package(pipe: RegionRankingPipeline, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    pipe.save_pretrained(folder)
    sequence = "".join(np.random.default_rng(0).choice(list("ACGT"), 500))
    (tmp_path / "genome.fa").write_text(f">chr1\n{sequence}\n")
    variant = f"chr1:250:{sequence[249]}>{'A' if sequence[249] != 'A' else 'C'}"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    words = [str(folder), str(tmp_path / "genome.fa"), variant, str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGE, *words],
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = pipe([sequence[10:100], sequence[200:300]], cell_type="beta", reverse_complement=True).regions
    found = pd.read_csv(tmp_path / "regions.tsv", sep="\t")
    np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-4)
    assert set(found["name"].fillna("")) == {"", "peak"}
    effects = pipe.variants([variant], tmp_path / "genome.fa", region_bp=60, cell_type="beta").variants
    found = pd.read_csv(tmp_path / "variants.tsv", sep="\t")
    np.testing.assert_allclose(found["reference_score"], effects["reference_score"], rtol=1e-4)
    assert len((tmp_path / "regions.bed").read_text().splitlines()) == 2
    assert (tmp_path / "scores.bw").stat().st_size > 0 and (tmp_path / "scores.png").stat().st_size > 1_000


def test_with_the_package(pipe: RegionRankingPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    open_pipeline: Any = transformers.pipeline
    opened = open_pipeline("region-ranking", model=str(tmp_path), device="cpu")
    assert type(opened) is RegionRankingPipeline  # of the package, though its code lies beside the model
    regions = ["ACGTTGCA" * 10, "GATTACA" * 9]
    found, expected = (one(regions, cell_type="alpha").scores for one in (opened, pipe))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
