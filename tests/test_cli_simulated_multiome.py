"""The command `simulate-multiome`."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from omics_transformers.cli_simulated_multiome import simulate_multiome_command


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(simulate_multiome_command)
    return app


def test_it_writes_the_world_and_says_what_can_be_reached(app: typer.Typer, tmp_path: Path) -> None:
    sizes = {"n_genes": 20, "n_unlinked_peaks": 20, "n_rna_cells": 30, "n_atac_cells": 0, "n_paired_cells": 60}
    options = [word for name, number in sizes.items() for word in ("--set", f"{name}={number}")]
    result = CliRunner().invoke(app, ["--output", str(tmp_path / "world"), "--seed", "1", *options])
    assert result.exit_code == 0, result.output
    assert "90 cells, 20 genes" in result.output and "planted links" in result.output
    assert (tmp_path / "world" / "paired.h5mu").is_file()


def test_settings_that_do_not_fit_are_told(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--output", str(tmp_path / "world"), "--seed", "1", "--set", "n_types=1"])
    assert isinstance(result.exception, ValueError) and "two types or more" in str(result.exception)
