"""Motifs of a JASPAR file, and where they lie in a sequence.

Source: the JASPAR format (https://jaspar.elixir.no/docs) and FIMO (Grant, Bailey and Noble 2011), here as memelite has
it: p-values under a background of equal bases. Needs memelite: pip install "omics-transformers[interpret]".
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

BASES = "ACGT"
_ROW = re.compile(r"([ACGTacgt])\s*\[?([^\[\]]*)\]?")


@dataclass(frozen=True, eq=False)
class Motif:
    """A motif's counts.

    Attributes:
        matrix_id: unique in its file, e.g. "MA0139.2".
        name: e.g. "CTCF"; the matrix_id where there is none.
        counts: (4, width) float64 of A, C, G, T.
    """

    matrix_id: str
    name: str
    counts: np.ndarray

    @property
    def width(self) -> int:
        """In bp."""
        return self.counts.shape[1]

    def probabilities(self, pseudocount: float = 0.1) -> np.ndarray:
        """(4, width) float64 whose columns add up to 1; `pseudocount` observations of a base drawn evenly are added."""
        return (self.counts + pseudocount / 4) / (self.counts.sum(0) + pseudocount)


def read_jaspar(path: str | PathLike[str]) -> list[Motif]:
    """The motifs of a file in the JASPAR format: a line `>id name`, then a line of counts for each of A, C, G and T.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: naming the line, on a base that is missing or given twice, rows of unequal length, what is no
            number of at least 0, columns without a count, an id given twice, or no motif at all.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no motif file at {path}")
    blocks: list[tuple[int, str, dict[str, np.ndarray]]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.strip()
        if text.startswith(">"):
            blocks.append((number, text[1:].strip(), {}))
        elif text:
            _add_row(path, number, text, blocks)
    motifs = [_motif(path, *block) for block in blocks]
    if not motifs:
        raise ValueError(f"{path} holds no motif: expected lines `>id name`, each with rows A, C, G and T behind it")
    ids = [motif.matrix_id for motif in motifs]
    twice = [one for one in dict.fromkeys(ids) if ids.count(one) > 1]
    if twice:
        raise ValueError(f"{path}: the motif {twice[0]} is in the file twice: ids must differ")
    return motifs


def find_hits(
    sequence: str | bytes, motifs: Sequence[Motif], *, threshold: float = 1e-4, pseudocount: float = 0.1
) -> "pd.DataFrame":
    """Places of a sequence that match a motif on either strand.

    Args:
        sequence: ACGTN. What reaches over an N is no hit; how many were so left out is logged.
        motifs: of `read_jaspar`.
        threshold: p-value below which a place is a hit: the chance of as high a score in random bases.
        pseudocount: see `Motif.probabilities`.

    Returns:
        One row a hit, by start: matrix_id, motif, start, end (0-based, half-open, on the plus strand), strand, score
        (bits, log2 odds against equal bases), p_value.

    Raises:
        ImportError: without memelite.
        ValueError: on a threshold outside (0, 1), or letters other than ACGTN.
    """
    import pandas as pd

    if not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold}: expected a p-value between 0 and 1")
    text = (sequence.decode("ascii") if isinstance(sequence, bytes) else sequence).upper()
    one_hot = _one_hot(text)
    fimo = _memelite_fimo()
    # Motifs longer than the sequence have no place in it.
    fitting = {
        str(row): motif.probabilities(pseudocount) for row, motif in enumerate(motifs) if motif.width <= len(text)
    }
    with _keeping_threads():
        tables = fimo(fitting, one_hot[None], threshold=threshold, eps=1e-9) if fitting else []
    names = ["motif_name", "start", "end", "strand", "score", "p-value"]
    hits = pd.concat([table[names] for table in tables if len(table)] or [pd.DataFrame(columns=names)])
    rows = hits["motif_name"].astype(int).to_numpy()
    table = pd.DataFrame(
        {
            "matrix_id": pd.Series([motifs[row].matrix_id for row in rows], dtype=object),
            "motif": pd.Series([motifs[row].name for row in rows], dtype=object),
            "start": hits["start"].to_numpy(dtype=np.int64),
            "end": hits["end"].to_numpy(dtype=np.int64),
            "strand": hits["strand"].to_numpy(dtype=object),
            "score": hits["score"].to_numpy(dtype=float),
            "p_value": hits["p-value"].to_numpy(dtype=float),
        }
    )
    return _without_unknown_bases(table, text).sort_values(["start", "end", "matrix_id", "strand"], ignore_index=True)


def _add_row(path: Path, number: int, text: str, blocks: list[tuple[int, str, dict[str, np.ndarray]]]) -> None:
    match = _ROW.fullmatch(text)
    if not match or not blocks:
        raise ValueError(
            f"{path}, line {number}: found {text[:60]!r}; expected `>id name`, or counts as `A [ 4 19 0 ]` behind one"
        )
    base, rows = match[1].upper(), blocks[-1][2]
    if base in rows:
        raise ValueError(f"{path}, line {number}: a second row {base} of the motif {blocks[-1][1]!r}")
    try:
        rows[base] = np.array([float(count) for count in match[2].split()])
    except ValueError:
        raise ValueError(f"{path}, line {number}: {match[2].strip()[:60]!r} holds something else than counts") from None
    if not len(rows[base]) or not np.isfinite(rows[base]).all() or (rows[base] < 0).any():
        raise ValueError(f"{path}, line {number}: expected at least one count, and all of at least 0")


def _motif(path: Path, number: int, title: str, rows: dict[str, np.ndarray]) -> Motif:
    matrix_id, _, name = title.partition("\t") if "\t" in title else title.partition(" ")
    if not matrix_id:
        raise ValueError(f"{path}, line {number}: a motif without an id; expected `>id name`")
    missing = [base for base in BASES if base not in rows]
    widths = {len(row) for row in rows.values()}
    if missing or len(widths) > 1:
        found = (
            f"no row {', '.join(missing)}" if missing else f"rows of {' and '.join(map(str, sorted(widths)))} counts"
        )
        raise ValueError(
            f"{path}, line {number}: the motif {title!r} has {found}; expected A, C, G and T, equally long"
        )
    counts = np.stack([rows[base] for base in BASES])
    if not counts.sum(0).all():
        raise ValueError(f"{path}, line {number}: the motif {title!r} has a column without a count")
    return Motif(matrix_id, name.strip() or matrix_id, counts)


def _one_hot(text: str) -> np.ndarray:
    """(4, bases) int8, zeros at N."""
    strange = sorted(set(text) - set("ACGTN"))
    if strange:
        raise ValueError(
            f"the sequence has {strange[0]!r} at base {text.index(strange[0]):,}: expected A, C, G, T or N"
        )
    letters = np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    return (letters == np.frombuffer(BASES.encode("ascii"), dtype=np.uint8)[:, None]).astype(np.int8)


def _without_unknown_bases(hits: "pd.DataFrame", text: str) -> "pd.DataFrame":
    """memelite counts an N as a base that fits the motif as well as any."""
    unknown = np.concatenate([[0], np.cumsum(np.frombuffer(text.encode("ascii"), dtype=np.uint8) == ord("N"))])
    holds_n = unknown[hits["end"].to_numpy()] > unknown[hits["start"].to_numpy()]
    if holds_n.any():
        logger.info("%d motif hits reach over an N and are left out", int(holds_n.sum()))
    return hits[~holds_n]


@contextmanager
def _keeping_threads() -> Iterator[None]:
    """numba, beneath memelite, sets the number of OpenMP threads of the whole process, PyTorch's among them."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _memelite_fimo() -> Any:
    try:
        from memelite import fimo
    except ImportError as error:
        raise ImportError('motif hits need memelite: pip install "omics-transformers[interpret]"') from error
    return fimo
