"""The script: launched by path on one and on two processes, its options, and errors in one line."""

import dataclasses
import inspect
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omics_transformers.data_scripts.gene_features import read_gene_features
from omics_transformers.training import run_embedding
from omics_transformers.training.run_embedding import EmbeddingArguments, resolve
from omics_transformers.training.small_enformer import make_small_enformer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """genome.fa, tss.tsv with five genes, donors.vcf with two donors, enformer/ and settings.yaml."""
    folder = tmp_path_factory.mktemp("run_embedding")
    bases = "".join(np.random.default_rng(0).choice(list("ACGT"), 2000))
    (folder / "genome.fa").write_text(f">1\n{bases}\n")
    rows = [f"G{number}\tchr1\t+\t{100 + 400 * number}" for number in range(5)]
    (folder / "tss.tsv").write_text("gene_id\tcontig\tstrand\ttss\n" + "\n".join(rows) + "\n")
    header = "#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT ann bob".replace(" ", "\t")
    change = f"1 501 . {bases[500]} {'ACGT'.replace(bases[500], '')[0]} . . . GT 0|1 1|1".replace(" ", "\t")
    (folder / "donors.vcf").write_text(f"##fileformat=VCFv4.3\n{header}\n{change}\n")
    make_small_enformer(folder / "enformer", seed=0, dim=24, depth=1)
    settings = [f"{name}: {value}" for name, value in options(folder, folder / "yaml.safetensors").items()]
    (folder / "settings.yaml").write_text("\n".join(settings) + "\n")
    return folder


def options(folder: Path, output: Path) -> dict[str, Any]:
    files = {"fasta": "genome.fa", "annotation": "tss.tsv", "model": "enformer", "vcf": "donors.vcf"}
    paths = {name: str(folder / file) for name, file in files.items()}
    return {**paths, "window_bp": 256, "part_size": 2, "output": str(output)}


def test_two_processes_write_the_bytes_that_one_writes(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_two_processes: Callable[[Callable[[], Any]], None],
    accelerate_launch: Callable[..., tuple[str, str]],
) -> None:
    given = options(folder, tmp_path / "two.safetensors")
    flags = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["run_embedding.py", *flags])

    def embed() -> None:
        logging.basicConfig(filename=tmp_path / "two.log", level=logging.INFO, force=True)
        run_embedding.main()

    in_two_processes(embed)
    assert "6 of 6 windows to compute, 4 of them here, over 2 processes" in (tmp_path / "two.log").read_text()
    _, log = accelerate_launch(Path(run_embedding.__file__).resolve(), str(folder / "settings.yaml"))
    assert "6 of 6 windows to compute, 6 of them here, over 1 processes" in log
    assert (folder / "yaml.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    found = read_gene_features(tmp_path / "two.safetensors")
    assert (len(found.gene_ids), found.donors) == (5, ["ann", "bob"])


def test_every_keyword_is_an_option() -> None:
    keywords = set(inspect.signature(run_embedding.embed_promoters).parameters) - {"progress"}
    assert {field.name for field in dataclasses.fields(EmbeddingArguments)} == keywords
    defaults = {name: one.default for name, one in inspect.signature(run_embedding.embed_promoters).parameters.items()}
    for field in dataclasses.fields(EmbeddingArguments):
        assert field.default == defaults[field.name] or defaults[field.name] is inspect.Parameter.empty


def test_options_become_keywords(folder: Path, tmp_path: Path) -> None:
    given = options(folder, tmp_path / "f.safetensors")
    (tmp_path / "genes.txt").write_text("G1\nG2\n")
    (tmp_path / "genes.json").write_text('{"<pad>": 0, "G3": 1}')
    settings = resolve(EmbeddingArguments(**given, pool="4", offsets='{"1": 5}', gene_ids=str(tmp_path / "genes.txt")))
    assert (settings["pool"], settings["offsets"], settings["gene_ids"]) == (4, {"1": 5}, ["G1", "G2"])
    assert resolve(EmbeddingArguments(**given, gene_ids=str(tmp_path / "genes.json")))["gene_ids"] == ["G3"]
    assert resolve(EmbeddingArguments(**given))["pool"] == "all"
    with pytest.raises(ValueError, match='expected "all" or a number'):
        resolve(EmbeddingArguments(**given, pool="centre"))
    with pytest.raises(ValueError, match="these options are needed: --annotation, --model"):
        resolve(EmbeddingArguments(fasta="x", output="y"))


def test_errors_of_the_input_end_with_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = options(folder, tmp_path / "f.h5")
    monkeypatch.setattr(
        sys, "argv", ["run", *(text for name, value in given.items() for text in (f"--{name}", str(value)))]
    )
    with pytest.raises(SystemExit, match=r"error: output is .*f\.h5; expected a name that ends in \.safetensors"):
        run_embedding.main()
