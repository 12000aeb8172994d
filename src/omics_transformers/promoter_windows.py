"""Windows of the genes that `perturb` edits, laid as those that a model's own gene features came from."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data_scripts.genomes import Genome


@dataclass(frozen=True)
class WindowLayout:
    """How windows lie: length in bp, which transcript's TSS, and whether minus-strand windows are turned round."""

    window_bp: int
    tss_choice: str = "canonical"
    orient_by_strand: bool = False

    @classmethod
    def of_model(cls, model: Any) -> "WindowLayout":
        """That of a Bio-DTA's gene features.

        Raises:
            ValueError: where the model does not say it.
        """
        metadata = getattr(model.config, "gene_features_metadata", None) or {}
        missing = [key for key in ("window_bp", "tss_choice", "orient_by_strand") if key not in metadata]
        if missing:
            raise ValueError(
                f"the model does not say how its DNA windows were laid (no {', '.join(missing)} in "
                "gene_features_metadata): give the features of the edited gene themselves (--edit features)"
            )
        return cls(
            int(metadata["window_bp"]), metadata["tss_choice"], str(metadata["orient_by_strand"]).lower() == "true"
        )


@dataclass(frozen=True)
class Promoter:
    """A gene's window.

    Attributes:
        gene_id, symbol: of the annotation.
        contig: as the genome names it.
        strand: + or -.
        tss: 0-based.
        start, end: of the window, 0-based, half-open; they may lie beyond the contig, where the sequence is N.
        sequence: ACGTN, the TSS at base `window_bp // 2`.
        layout: how it was laid.
    """

    gene_id: str
    symbol: str
    contig: str
    strand: str
    tss: int
    start: int
    end: int
    sequence: str
    layout: WindowLayout

    @property
    def strand_in_window(self) -> str:
        """The gene's strand as the window shows it: + where the window was turned round."""
        return "+" if self.layout.orient_by_strand else self.strand

    def place(self) -> dict[str, Any]:
        """For a description: where it lies; the TSS 1-based."""
        return {
            "contig": self.contig,
            "strand": self.strand,
            "tss_1_based": self.tss + 1,
            "window_start": self.start,
            "window_end": self.end,
        }


@contextmanager
def opened_promoters(
    genes: Sequence[str],
    genome: str | Path,
    annotation: str | Path,
    layout: WindowLayout,
    *,
    gene_symbols: Mapping[str, str] | str | Path | None = None,
    offsets: Mapping[str, int] | None = None,
) -> "Iterator[tuple[Genome, list[Promoter]]]":
    """The open genome and the window of each gene, in the order given.

    Args:
        genes: ids or symbols of the annotation.
        genome, annotation, gene_symbols, offsets: as `embed_promoters`.
        layout: of the windows.

    Raises:
        ValueError: where no gene, or more than one, has a name; and as `read_tss`, `open_genome` and
            `promoter_windows`.
    """
    import pandas as pd

    from .data_scripts.annotations import read_tss, recorded_choice
    from .data_scripts.genomes import open_genome
    from .data_scripts.promoters import promoter_windows

    tss = read_tss(annotation, tss_choice=recorded_choice(layout.tss_choice), gene_symbols=gene_symbols)
    rows = []
    for gene in genes:
        found = tss[tss["gene_id"] == gene]
        found = tss[tss["symbol"] == gene] if found.empty else found
        if len(found) != 1:
            raise ValueError(f"{len(found)} genes of {annotation} have the id or symbol {gene!r}; expected one")
        rows.append(found)
    with open_genome(genome, offsets=offsets) as opened:
        windows = promoter_windows(
            opened,
            pd.concat(rows, ignore_index=True),
            window_bp=layout.window_bp,
            orient_by_strand=layout.orient_by_strand,
        )
        yield (
            opened,
            [
                Promoter(
                    str(row["gene_id"]),
                    str(row["symbol"]),
                    str(row["contig"]),
                    str(row["strand"]),
                    int(row["tss"]),
                    int(row["start"]),
                    int(row["end"]),
                    windows.sequence(number).decode(),
                    layout,
                )
                for number, row in enumerate(windows.genes.to_dict("records"))
            ],
        )
