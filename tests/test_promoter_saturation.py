"""Saturation of a gene's promoter in files: offsets in the gene's direction, and what is refused before any pass."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from omics_transformers.promoter_saturation import saturate
from omics_transformers.training.small_enformer import make_small_enformer

SEQUENCE = "".join(np.random.default_rng(1).choice(list("ACGT"), 1200))
TSS = 700  # of a gene on the minus strand


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "genome.fa").write_text(f">chr1\n{SEQUENCE}\n")
    line = f'chr1\tx\ttranscript\t500\t{TSS + 1}\t.\t-\t.\tgene_id "G1"; gene_name "GENE"; transcript_id "T";\n'
    (tmp_path / "genes.gtf").write_text(line)
    make_small_enformer(tmp_path / "enformer", seed=0, dim=24, depth=1, output_heads={"human": 2}, calibrated=True)
    return {
        "genome": tmp_path / "genome.fa",
        "annotation": tmp_path / "genes.gtf",
        "dna_model": tmp_path / "enformer",
        "window_bp": 512,
        "tracks": [1],
    }


def test_bases_upstream_of_a_gene_on_the_minus_strand(files: dict[str, Any], tmp_path: Path) -> None:
    found = saturate("GENE", tmp_path / "out", bases=4, offset=-50, **files)
    changes = pd.read_csv(tmp_path / "out" / "changes.tsv", sep="\t")
    assert len(changes) == 12 and set(changes["gene_offset"]) == {-51, -50, -49, -48}
    assert all(row.reference == SEQUENCE[TSS - row.gene_offset] for row in changes.itertuples())
    assert np.allclose(changes["predicted_change"], found.table["predicted_change"])
    bases = pd.read_csv(tmp_path / "out" / "bases.tsv", sep="\t")
    assert len(bases) == 4 and "".join(bases["base"]) == SEQUENCE[TSS + 48 : TSS + 52]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["gene_id"] == "G1" and summary["tss_1_based"] == TSS + 1 and summary["n_changes"] == 12
    assert summary["dna_weights_origin"].startswith("random") and summary["n_changes_above_noise"] <= 12
    turned = saturate("GENE", bases=4, offset=-50, orient_by_strand=True, **files)
    letters = turned.table.drop_duplicates("position")
    complement = dict(zip("ACGT", "TGCA", strict=True))
    assert all(row.reference == complement[SEQUENCE[TSS - row.offset]] for row in letters.itertuples())


def test_what_is_refused(files: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"0 genes of .*'OTHER'"):
        saturate("OTHER", **files)
    with pytest.raises(ValueError, match="do not lie within the reference window"):
        saturate("GENE", bases=513, **files)
    with pytest.raises(ValueError, match="track 2 is not in head"):
        saturate("GENE", bases=2, **(files | {"tracks": [2]}))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes\.txt"):
        saturate("GENE", tmp_path / "out", overwrite=True, **files)
