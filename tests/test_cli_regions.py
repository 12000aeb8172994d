"""From nothing to ranked regions by commands: simulate, build, train, rank."""

import contextlib
import io
import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from omics_transformers.cli import app, main


def run(*words: object) -> str:
    """What the command prints, in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        app([str(word) for word in words], standalone_mode=False)
    return printed.getvalue()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "world"
    contigs = [word for text in ("chrA=40", "chrB=20", "chrC=20") for word in ("--contig", text)]
    arguments = ["simulate-accessibility", "--output", folder, "--seed", 1, *contigs, "--set", "cells_per_type=30"]
    printed = run(*arguments)
    assert "60 cells" in printed and "3 contigs" in printed
    return folder


def build(world: Path, source: str, output: Path, *options: str) -> list[str]:
    """The words of the command."""
    splits = ["--train=chrA", "--validation=chrB", "--test=chrC", "--span-bp=600", "--shift-factor=2"]
    return ["build", "regions", source, f"--genome={world / 'genome.fa'}", f"--output={output}", *splits, *options]


def test_counts_and_fragments_of_the_same_cells_make_nearly_the_same_rows(world: Path, tmp_path: Path) -> None:
    printed = run(*build(world, f"{world / 'cells.h5ad'}:column=cell_type:name=toy", tmp_path / "cells"))
    assert "rows train" in printed and "report.json" in printed
    labels = tmp_path / "labels.csv"
    numbers = range(60)
    kinds = pd.DataFrame({"barcode": [f"cell{n:06d}" for n in numbers], "kind": ["alpha"] * 30 + ["beta"] * 30})
    kinds.to_csv(labels, index=False)
    source = f"{world / 'fragments.tsv.gz'}:peaks={world / 'peaks.bed'}:labels={labels}:column=kind:name=toy"
    run(*build(world, source, tmp_path / "fragments", "--padding=random", "--duplicates=drop"))
    rows = [json.loads((tmp_path / name / "regions.json").read_text()) for name in ("cells", "fragments")]
    assert rows[0]["cell_types"] == rows[1]["cell_types"] == ["alpha", "beta"]
    assert 0 < rows[1]["rows"]["train"] < rows[0]["rows"]["train"]
    means = [
        json.loads((tmp_path / name / "report.json").read_text())["samples"]["toy"] for name in ("cells", "fragments")
    ]
    assert means[0]["cell types"]["alpha"]["cells"] == means[1]["cell types"]["alpha"]["cells"] == 30


def test_an_error_is_one_line_and_leaves_nothing(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = build(world, f"{world / 'cells.h5ad'}:column=donor", tmp_path / "regions")
    monkeypatch.setattr(sys, "argv", ["omics-transformers", *words])
    with pytest.raises(SystemExit, match=r"^error: .*donor.*$"):
        main()
    assert not (tmp_path / "regions").exists()


def test_help_has_an_example_and_defaults_are_those_of_the_function(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import inspect

    from omics_transformers.cli_regions import build_regions_command
    from omics_transformers.data_scripts.accessibility_inputs import AccessibilityReading
    from omics_transformers.data_scripts.regions import build_regions

    monkeypatch.setattr(sys, "argv", ["omics-transformers", "build", "regions", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert "Example: omics-transformers build regions" in capsys.readouterr().out
    assert any(group.name == "build" for group in app.registered_groups)
    offered = inspect.signature(build_regions_command).parameters
    named = {"sources", "genome", "output", "resolution"}
    functions = inspect.signature(build_regions).parameters
    reading = AccessibilityReading()
    for name, parameter in offered.items():
        if name not in named:
            expected = functions[name].default if name in functions else getattr(reading, name)
            assert parameter.default == expected, name
    own = {"fasta", "sources", "output", "reading", "progress"}
    assert set(functions) - own <= set(offered), "every option of the function is one of the command"
    assert {name for name in reading.__dataclass_fields__ if name not in ("leiden", "chunk_cells")} <= set(offered)
