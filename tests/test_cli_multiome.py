"""The command hands its options on, and says what it wrote."""

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import typer
from typer.testing import CliRunner

from omics_transformers.cli_multiome import build_multiome_command


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(build_multiome_command)
    return app


def test_cells_from_the_command_line(command: typer.Typer, tmp_path: Path) -> None:
    random, genes = np.random.default_rng(0), [f"g{number}" for number in range(8)]
    lines = [
        f'1\tx\ttranscript\t{100_001 + 60_000 * number}\t{100_900 + 60_000 * number}\t.\t+\t.\tgene_id "{gene}"; '
        f'transcript_id "t{gene}";'
        for number, gene in enumerate(genes)
    ]
    (tmp_path / "genes.gtf").write_text("\n".join(lines) + "\n")
    peaks = [f"1:{100_000 + 60_000 * number}-{100_500 + 60_000 * number}" for number in range(8)]
    for name, columns in (("rna", genes), ("atac", peaks)):
        counts = sp.csr_matrix(random.poisson(3, (10, 8)).astype(np.float32))
        obs = pd.DataFrame({"lane": "L1"}, index=[f"c{number}" for number in range(10)])
        anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=columns)).write_h5ad(tmp_path / f"{name}.h5ad")
    source = f"{tmp_path / 'rna.h5ad'}:atac={tmp_path / 'atac.h5ad'}:batch=lane:name=pair"
    output = tmp_path / "built"
    options = ["--genes", tmp_path / "genes.gtf", "--binning", "quartile", "--num-bins", 3]
    options += ["--ring-bounds", "1000,5000", "--ring-weights", "0.5,0.25", "--no-gene-body", "--no-keep-counts"]
    done = CliRunner().invoke(command, [str(word) for word in (source, "--output", output, *options)])
    assert done.exit_code == 0, done.output
    assert "8 genes; cells pair 10; what was left out is in report.json" in done.output
    fitted = json.loads((output / "multiome.json").read_text())["feature_extractor"]
    assert fitted["rings"] == {"bounds_bp": [1000, 5000], "weights": [0.5, 0.25], "gene_body": False}
    assert fitted["rna_bins"]["strategy"] == "quartile" and fitted["atac_bins"]["num_bins"] == 3


def test_rings_that_are_no_numbers_are_refused(command: typer.Typer, tmp_path: Path) -> None:
    words = ["x.h5ad", "--output", str(tmp_path / "built"), "--ring-bounds", "10kb"]
    with pytest.raises(ValueError, match=r"--ring-bounds is '10kb'; expected numbers with commas"):
        CliRunner().invoke(command, words, catch_exceptions=False)
