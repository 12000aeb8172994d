"""FASTA of simulated worlds, read back."""

from pathlib import Path

import numpy as np
import pyfaidx

from omics_transformers.data_scripts.simulated_genome import BASES, write_fasta


def test_contigs_come_back(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    contigs = {"one": random.choice(BASES, 205), "two": random.choice(BASES, 80)}
    write_fasta(contigs, tmp_path / "genome.fa")
    assert max(map(len, (tmp_path / "genome.fa").read_text().splitlines())) == 80
    with pyfaidx.Fasta(str(tmp_path / "genome.fa")) as genome:
        assert {name: str(genome[name][:]) for name in genome.keys()} == {  # noqa: SIM118 (not a dict)
            name: letters.tobytes().decode() for name, letters in contigs.items()
        }
