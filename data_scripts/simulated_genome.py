"""What simulated worlds share: the letters of DNA, and writing contigs as FASTA."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

BASES = np.frombuffer(b"ACGT", dtype=np.uint8)
_LINE = 80  # letters


def write_fasta(contigs: Mapping[str, npt.NDArray[Any]], path: Path) -> None:
    """Write contigs, name -> (bases,) uint8 letters, in lines of 80."""
    with path.open("w") as file:
        for contig, sequence in contigs.items():
            text = sequence.tobytes().decode()
            lines = (text[start : start + _LINE] for start in range(0, len(text), _LINE))
            file.write(f">{contig}\n" + "\n".join(lines) + "\n")
