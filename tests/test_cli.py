"""The command line from end to end on a small world, and how it answers to bad input."""

import contextlib
import dataclasses
import inspect
import io
import json
import subprocess
import sys
from pathlib import Path

import datasets
import pandas as pd
import pytest

from omics_transformers.cli import app, main
from omics_transformers.data_scripts.gene_features import read_gene_features
from omics_transformers.training.run_embedding import EmbeddingArguments
from omics_transformers.training.run_mlm import main as train
from omics_transformers.training.small_enformer import make_small_enformer

COMMAND = [sys.executable, "-m", "omics_transformers.cli"]
SMALL = ["--hidden-size=16", "--num-hidden-layers=2", "--intermediate-size=16", "--max-steps=3"]
SMALL += ["--report-to=none", "--use-cpu", "--disable-tqdm=true"]


def run(*words: object) -> str:
    """What the command prints, in this process: another takes seconds to import torch."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        app([str(word) for word in words], standalone_mode=False)
    return printed.getvalue()


def run_afresh(*words: object) -> str:
    """What the command prints, in a process of its own."""
    done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the whole chain has been run by its commands."""
    folder = tmp_path_factory.mktemp("chain")
    world = folder / "world"
    small = ["n_genes=12", "n_factors=1", "targets_per_factor=3", "n_donors=6", "n_cells=60", "promoter_bp=512"]
    run("simulate", "--output", world, "--seed", 1, *(word for setting in small for word in ("--set", setting)))
    tokenised = ["--output", folder / "cells", "--obs-column=donor", "--minimum-genes=1"]
    assert "60 of 60 cells, 12 genes" in run("build", "cells", world / "cells.h5ad", *tokenised)
    make_small_enformer(folder / "enformer", seed=0, dim=48, depth=1)
    dna = ["--genome", world / "genome.fa", "--annotation", world / "genes.gtf"]
    options = ["--window-bp=512", "--vcf", world / "variants.vcf", "--batch-size=16"]
    run("embed", *dna, *options, "--model", folder / "enformer", "--output", folder / "features.safetensors")
    inputs = ["--cells", folder / "cells", "--gene-features", folder / "features.safetensors"]
    learned = ["--donor-column=donor", "--variant-encoding=difference", "--feature-scaling=whiten"]
    train([*map(str, inputs), *learned, f"--output-dir={folder / 'bio-dta'}", *SMALL])
    return folder


def factor_of(chain: Path) -> str:
    return str(pd.read_csv(chain / "world" / "truth.tsv", sep="\t").factor[0])


def test_help_has_an_example_for_each_command() -> None:
    commands = [command for command in app.registered_commands if command.callback is not None]
    names = {command.name or str(command.callback.__name__) for command in commands}
    assert {"demo", "simulate", "embed", "perturb", "saturate"} <= names
    for command in commands:
        assert "Example: omics-transformers" in (command.callback.__doc__ or ""), command.callback


def test_embed_has_every_option_of_the_script() -> None:
    (embed,) = (command.callback for command in app.registered_commands if command.callback.__name__ == "embed")
    renamed = {"fasta": "genome", "gene_ids": "genes"}
    fields = {renamed.get(field.name, field.name) for field in dataclasses.fields(EmbeddingArguments)}
    assert set(inspect.signature(embed).parameters) == fields


def test_version() -> None:
    assert run_afresh("--version").startswith("omics-transformers ")


def test_the_chain_leaves_what_it_promises(chain: Path) -> None:
    cells = datasets.load_dataset(str(chain / "cells"), split="train")
    assert set(cells.column_names) >= {"input_ids", "length", "donor"} and len(cells) == 60
    features = read_gene_features(chain / "features.safetensors")
    assert features.features.shape == (12, 96) and len(features.donors) == 6
    assert json.loads((chain / "bio-dta" / "metrics.json").read_text())["held_out"]["perplexity"] > 1


@pytest.mark.parametrize(
    "edit",
    [
        ["--edit=delete", "--sham-genes=2"],
        ["--edit=random-mutations", "--mutations=30", "--mutation-window-bp=256"],
        ["--edit=overexpress", "--gene-features", "features.safetensors"],
    ],
    ids=lambda edit: edit[0],
)
def test_perturb_writes_tables_figures_and_report(chain: Path, tmp_path: Path, edit: list[str]) -> None:
    world = chain / "world"
    if "random" in edit[0]:
        edit = [*edit, "--genome", str(world / "genome.fa"), "--annotation", str(world / "genes.gtf")]
        edit += ["--dna-model", str(chain / "enformer")]
    edit = [str(chain / word) if word.endswith(".safetensors") else word for word in edit]
    (tmp_path / "set.txt").write_text("\n".join(pd.read_csv(world / "truth.tsv", sep="\t").target))
    options = ["--gene", factor_of(chain), "--minimum-cells=1", "--gene-sets", tmp_path / "set.txt", "--device=cpu"]
    run_in = run_afresh if "delete" in edit[0] else run
    run_in("perturb", chain / "cells", "--model", chain / "bio-dta", *options, *edit, "--output", tmp_path / "out")
    genes = pd.read_csv(tmp_path / "out" / "genes.tsv", sep="\t")
    assert list(genes.columns[:7]) == ["gene_id", "symbol", "n_cells", "cosine_mean", "cosine_sd", "shift", "rank"]
    assert len(genes) == 11 and (genes["shift"] > 0).any()
    assert len(pd.read_csv(tmp_path / "out" / "sets.tsv", sep="\t")) == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"summary.json", "report.html", "figures"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["build", "cells", "absent.h5ad", "--output", "out"], "error: .*absent.h5ad"),
        (["simulate", "--output", "out", "--seed", "0", "--set", "n_genes=many"], "expected name=number"),
        (["simulate", "--output", "out", "--seed", "0", "--set", "n_genes=3"], "need 45 genes"),
        (["embed", "--genome", "g", "--annotation", "a", "--model", "m", "--output", "o", "--pool", "some"], "--pool"),
        (["perturb", "c", "--model", "m", "--gene", "g", "--output", "o", "--edit", "swap"], "edit is 'swap'"),
        (["perturb", "c", "--model", "m", "--gene", "g", "--output", "o", "--edit", "features"], "needs features"),
        (
            ["perturb", "c", "--model", "m", "--gene", "g", "--output", "o", "--edit", "random-mutations"],
            "needs genome, annotation, dna_model",
        ),
    ],
)
def test_bad_input_ends_with_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["omics-transformers", *words])
    with pytest.raises(SystemExit, match=message):
        main()
    assert not list(tmp_path.iterdir())


def test_a_gene_that_the_model_does_not_know(chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["perturb", str(chain / "cells"), "--model", str(chain / "bio-dta"), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["omics-transformers", *words, "--gene", "GATA4", "--device=cpu"])
    with pytest.raises(SystemExit, match="GATA4"):
        main()
    assert not (tmp_path / "out").exists()
