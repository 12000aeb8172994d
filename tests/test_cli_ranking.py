"""The command `rank` on a small genome and model, and how it answers to bad input."""

import inspect
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from omics_transformers import rank_regions
from omics_transformers.cli import main
from omics_transformers.cli_ranking import rank_command
from omics_transformers.modeling.configuration_nt_region_ranker import NTRegionRankerConfig
from omics_transformers.modeling.modeling_nt_region_ranker import NTRegionRanker
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.pipelines.segmentation_tracks import read_bigwig

SEQUENCE = "".join(np.random.default_rng(0).choice(list("ACGT"), 500))
VARIANT = f"chr1:200:{SEQUENCE[199]}>{'A' if SEQUENCE[199] != 'A' else 'C'}"
WORDS = ["rank", "genome.fa", "--model=model", "--output=out", "--device=cpu"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = NTRegionRankerConfig(**sizes, num_tokens=21, scorer_head="linear", cell_types=["alpha", "beta"])
    NTRegionRanker(config).save_pretrained(folder / "model")
    NucleotideKmerTokenizer().save_pretrained(folder / "model")
    (folder / "genome.fa").write_text(f">chr1\n{SEQUENCE}\n")
    (folder / "peaks.bed").write_text("chr1\t10\t100\tfirst\nchr1\t200\t290\tsecond\n")
    (folder / "beyond.bed").write_text("chr1\t10\t600\n")
    (folder / "empty.bed").write_text("")
    return folder


def test_rank_writes_tables_tracks_and_figures(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["--bed=peaks.bed", f"--variant={VARIANT}", "--track=chr1", "--step-bp=50", "--region-bp=60", "--phases=2"]
    chosen += ["--cell-type=beta", "--reverse-complement", "--padding-draws=2", f"--output={tmp_path / 'out'}"]
    monkeypatch.chdir(files)
    monkeypatch.setattr(sys, "argv", ["omics-transformers", *WORDS, *chosen])
    with pytest.raises(SystemExit) as done:
        main()
    printed = capsys.readouterr().out
    assert not done.value.code and VARIANT in printed and "regions.tsv" in printed
    regions = pd.read_csv(tmp_path / "out" / "regions.tsv", sep="\t")
    assert set(regions["name"]) == {"first", "second"} and regions["rank"].tolist() == [1, 2]
    assert len(pd.read_csv(tmp_path / "out" / "variants.tsv", sep="\t")) == 1
    assert not np.isnan(read_bigwig(tmp_path / "out" / "tracks" / "scores.bw", "chr1", 0, 500)).any()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["cell_type"] == "beta" and summary["variants"]["phases"] == 2
    assert (tmp_path / "out" / "figures" / "scores.png").exists()


def test_the_command_has_every_option_of_the_function() -> None:
    assert set(inspect.signature(rank_command).parameters) == set(inspect.signature(rank_regions).parameters) - {
        "progress"
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "there is nothing to score"),
        (["--bed=peaks.bed"], "the cell type is missing: give .* alpha, beta"),
        (["--bed=peaks.bed", "--cell-type=gamma"], "no cell type 'gamma'"),
        (["--bed=absent.bed", "--cell-type=beta"], "absent.bed"),
        (["--bed=empty.bed", "--cell-type=beta"], "empty.bed is empty"),
        (["--bed=beyond.bed", "--cell-type=beta"], "beyond.bed, line 1"),
        (["--region=chr1:1-200", "--cell-type=beta"], "--long-regions center"),
        (["--region=chr1:1-20", "--cell-type=beta", "--long-regions=left"], "long_regions is 'left'"),
        ([f"--variant={VARIANT[:-2]}>T>C", "--cell-type=beta"], "REF>ALT"),
        (["--vcf=absent.vcf", "--cell-type=beta"], "absent.vcf"),
        (["--track=chr7", "--cell-type=beta"], "chr7"),
        (["--track=chr1", "--cell-type=beta", "--model=./absent"], "absent"),
    ],
)
def test_bad_input_ends_with_one_line(
    files: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    monkeypatch.setattr(sys, "argv", ["omics-transformers", *WORDS, *words])
    with pytest.raises(SystemExit, match=f"error: .*({message})"):
        main()
    assert not Path("out").exists()
