"""Windows of DNA of a vocabulary's genes, as base codes of one byte, for an encoder that trains on them.

They are read from the genome when they are asked for, and kept where all of them fit into a share of memory: reading
196,608 bp takes milliseconds and encoding them a thousand times as long, so a copy on disk would save nothing.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from ..data_scripts.annotations import read_tss, recorded_choice
from ..data_scripts.genomes import open_genome
from ..data_scripts.promoters import PromoterWindows, promoter_windows

logger = logging.getLogger(__name__)

UNKNOWN_BASE = 4  # N
HELD_BYTES = 2 * 1024**3
_CODES = np.full(256, UNKNOWN_BASE, dtype=np.uint8)
_CODES[[ord(base) for base in "ACGT"]] = np.arange(4, dtype=np.uint8)


class GeneWindows:
    """The window of each gene of a vocabulary.

    Args:
        windows: a row a gene, in the order of the token ids.
        num_special_tokens: the token id of the first row.
        held_bytes: keep windows that were read, where all of them take no more than this.
    """

    def __init__(self, windows: PromoterWindows, num_special_tokens: int, *, held_bytes: int = HELD_BYTES) -> None:
        self.window_bp = windows.window_bp
        self._windows = windows
        self._first = num_special_tokens
        shape = (len(windows), windows.window_bp)
        self._held = np.empty(shape, dtype=np.uint8) if len(windows) * windows.window_bp <= held_bytes else None
        self._is_held = np.zeros(len(windows), dtype=bool)

    def __len__(self) -> int:
        return len(self._windows)

    def codes(self, token_ids: npt.NDArray[np.int64]) -> torch.Tensor:
        """(genes,) token ids -> (genes, window_bp) uint8: 0 to 3 for A, C, G, T and 4 for N."""
        rows = token_ids - self._first
        assert not len(rows) or rows.min() >= 0
        if self._held is None:
            return torch.from_numpy(np.stack([self._read(row) for row in rows.tolist()]))
        for row in np.unique(rows[~self._is_held[rows]]).tolist():
            self._held[row], self._is_held[row] = self._read(row), True
        return torch.from_numpy(self._held[rows])

    def _read(self, row: int) -> npt.NDArray[np.uint8]:
        return _CODES[np.frombuffer(self._windows.sequence(row), dtype=np.uint8)]


def open_gene_windows(
    genome: str | Path,
    annotation: str | Path,
    gene_ids: Sequence[str],
    metadata: Mapping[str, Any],
    *,
    num_special_tokens: int,
    gene_symbols: Mapping[str, str] | str | Path | None = None,
    offsets: Mapping[str, int] | None = None,
    held_bytes: int = HELD_BYTES,
) -> GeneWindows:
    """Lay the windows of genes as those that their features were made from. The genome stays open.

    Args:
        genome, annotation, gene_symbols, offsets: as `embed_promoters`.
        gene_ids: of the vocabulary, by token id, without the special tokens.
        metadata: of the gene features: window_bp, tss_choice, orient_by_strand.
        num_special_tokens: how many token ids come before the first gene's.
        held_bytes: as `GeneWindows`.

    Raises:
        ValueError: where the metadata do not say how windows were laid, or genes are not in the annotation; and as
            `read_tss`, `open_genome` and `promoter_windows`.
    """
    absent = [name for name in ("window_bp", "tss_choice", "orient_by_strand") if name not in metadata]
    if absent:
        raise ValueError(
            f"the gene features do not say how their windows were laid (no {', '.join(absent)} in the metadata): make "
            "them with `embed`"
        )
    choice = recorded_choice(metadata["tss_choice"])
    tss = read_tss(annotation, tss_choice=choice, gene_symbols=gene_symbols, alternative_contigs="keep")
    tss = _rows_of(tss, gene_ids, annotation)
    windows = promoter_windows(
        open_genome(genome, offsets=offsets),
        tss,
        window_bp=int(metadata["window_bp"]),
        orient_by_strand=str(metadata["orient_by_strand"]).lower() == "true",
    )
    logger.info("windows of %d genes, %d bp each, from %s", len(windows), windows.window_bp, genome)
    return GeneWindows(windows, num_special_tokens, held_bytes=held_bytes)


def _rows_of(tss: pd.DataFrame, gene_ids: Sequence[str], annotation: str | Path) -> pd.DataFrame:
    row_of = {gene: row for row, gene in enumerate(tss["gene_id"])}
    unknown = [gene for gene in gene_ids if gene not in row_of]
    if unknown:
        raise ValueError(
            f"{len(unknown):,} genes of the vocabulary are not in {annotation}: {', '.join(unknown[:5])}; it has e.g. "
            f"{', '.join(tss['gene_id'].head(3))}. Give the annotation that the gene features were made with"
        )
    return tss.iloc[[row_of[gene] for gene in gene_ids]].reset_index(drop=True)
