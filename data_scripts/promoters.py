"""Windows of DNA around transcription start sites, of the reference and of donors' haplotypes.

Source: "Multi-modal single-cell foundation models via dynamic token adaptation", section "DNA features": 196,608 bp
centred on the TSS, as on the plus strand. Orientation by the gene's strand is an option beyond it, donors' variants of
every kind another. Windows are made one at a time: the whole genome's, one-hot encoded, would not fit into memory.
"""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from .annotations import TSSChoice, read_tss
from .configuration_name import configuration_name
from .donor_variants import DonorSequenceVariants
from .edited_windows import haplotype_sequence
from .genomes import Genome, open_genome, reverse_complement
from .haplotype_reach import window_haplotypes
from .sequence_variants import VariantEdit
from .variants import DonorVariants

logger = logging.getLogger(__name__)

REFERENCE = -1  # among haplotypes and donor promoters
_ONE_HOT = np.zeros((256, 4), dtype=np.float32)
_ONE_HOT[[ord(base) for base in "ACGT"]] = np.eye(4, dtype=np.float32)


@dataclass
class PromoterWindows:
    """The window of each gene.

    Attributes:
        genome: where the sequence comes from.
        genes: one row a window: the columns of `read_tss` (contig as the genome names it), start and end: 0-based,
            half-open; they may lie outside the contig, where the sequence is N.
        window_bp: length of every window. The TSS is base `window_bp // 2` of it.
        orient_by_strand: whether windows of genes on the minus strand are reverse-complemented.
        report: counts of genes left out, by reason.
    """

    genome: Genome
    genes: pd.DataFrame
    window_bp: int
    orient_by_strand: bool
    report: dict[str, int]

    def __len__(self) -> int:
        return len(self.genes)

    def __iter__(self) -> Iterator[bytes]:
        """The reference's sequences in the order of `genes`."""
        return (self.sequence(row) for row in range(len(self)))

    def sequence(self, row: int, edits: Sequence[VariantEdit] = ()) -> bytes:
        """The window of a gene: `window_bp` upper-case letters ACGTN.

        Args:
            row: of `genes`.
            edits: what a haplotype's variants do, sorted, checked, none overlapping another; none for the reference.
        """
        gene = self.genes.iloc[row]
        if edits:
            return haplotype_sequence(
                self.genome,
                edits,
                contig=gene["contig"],
                tss=int(gene["tss"]),
                strand=gene["strand"],
                window_bp=self.window_bp,
                orient_by_strand=self.orient_by_strand,
            )
        sequence = self.genome.fetch(gene["contig"], int(gene["start"]), int(gene["end"]), pad=True)
        return reverse_complement(sequence) if self.orient_by_strand and gene["strand"] == "-" else sequence


def promoter_windows(
    genome: Genome,
    tss: pd.DataFrame,
    *,
    window_bp: int = 196_608,
    orient_by_strand: bool = False,
    missing_contigs: Literal["error", "drop"] = "error",
    beyond_contig: Literal["error", "drop"] = "error",
) -> PromoterWindows:
    """Lay a window around each TSS.

    Args:
        genome: from `open_genome`.
        tss: from `read_tss`: gene_id, symbol, contig, strand, tss.
        window_bp: length of each window.
        orient_by_strand: reverse-complement the windows of genes on the minus strand, so that transcription runs from
            left to right in all of them. Enformer's training and the paper leave them as on the plus strand.
        missing_contigs: what to do with genes on contigs that the genome lacks.
        beyond_contig: what to do with genes whose TSS is outside the contig: the sign of another assembly, or of a file
            that holds a piece of the contig only.

    Raises:
        ValueError: for a contig that the genome lacks, a TSS beyond its contig, or no gene left.
    """
    if window_bp < 1:
        raise ValueError(f"window_bp is {window_bp}; expected a positive number of base pairs")
    for name, policy in (("missing_contigs", missing_contigs), ("beyond_contig", beyond_contig)):
        if policy not in ("error", "drop"):
            raise ValueError(f'{name} is {policy!r}; expected "error" or "drop"')
    names = {contig: genome.find(contig) for contig in tss["contig"].unique()}
    is_missing = tss["contig"].map(lambda contig: names[contig] is None)
    report = _report_missing(genome, tss, is_missing, missing_contigs)
    genes = tss[~is_missing].reset_index(drop=True)
    if genes.empty:
        raise ValueError(f"no gene is left: none of the annotation's contigs is in {genome.path}")
    genes = genes.assign(contig=genes["contig"].map(names))
    genes = _within_contigs(genome, genes, beyond_contig, report)
    if genes.empty:
        raise ValueError(f"no gene is left: all begin beyond the contigs of {genome.path}")
    # On the reverse complement, base i becomes base window_bp - 1 - i: the TSS shall be base window_bp // 2 there too.
    is_turned = orient_by_strand & (genes["strand"] == "-")
    before = np.where(is_turned, window_bp - 1 - window_bp // 2, window_bp // 2)
    genes = genes.assign(start=genes["tss"] - before, end=genes["tss"] - before + window_bp)
    return PromoterWindows(genome, genes, window_bp, orient_by_strand, report)


@dataclass
class DonorPromoters:
    """The promoters of donors that differ from the reference, each distinct one once.

    Attributes:
        donors: their names.
        haplotype_genes: (haplotypes,) int32, the window that each distinct haplotype belongs to.
        haplotype_variants: for each haplotype, the rows of the variants that it carries in reach of the window.
        haplotype_index: (donors, windows, 2) int32, the haplotypes of each donor at each gene, in the order of the
            phased genotypes; -1 is the reference.
        promoter_genes: (promoters,) int32, the window of each distinct unordered pair of haplotypes.
        promoter_haplotypes: (promoters, 2) int32, the pair; -1 is the reference.
        index: (donors, windows) int32, the promoter of each donor at each gene; -1 is the reference.
        variants: what `haplotype_variants` points into; its report counts variants that reach no window.
    """

    donors: list[str]
    haplotype_genes: np.ndarray
    haplotype_variants: list[np.ndarray]
    haplotype_index: np.ndarray
    promoter_genes: np.ndarray
    promoter_haplotypes: np.ndarray
    index: np.ndarray
    variants: DonorSequenceVariants

    def sequence(self, windows: PromoterWindows, haplotype: int) -> bytes:
        """The window of a haplotype."""
        edits = [self.variants.edits[row] for row in self.haplotype_variants[haplotype]]
        return windows.sequence(int(self.haplotype_genes[haplotype]), edits)


def donor_promoters(windows: PromoterWindows, variants: DonorVariants | DonorSequenceVariants) -> DonorPromoters:
    """Find the distinct haplotypes within each window, and the pair of them that each donor has.

    Args:
        windows: of the reference.
        variants: from `read_donor_variants` or `read_phased_snvs`; they are held to be right (`check_variants`).
    """
    if isinstance(variants, DonorVariants):
        variants = DonorSequenceVariants.of_snvs(variants)
    n_donors = len(variants.donors)
    haplotype_index = np.full((n_donors, len(windows), 2), REFERENCE, dtype=np.int32)
    index = np.full((n_donors, len(windows)), REFERENCE, dtype=np.int32)
    haplotype_genes: list[int] = []
    haplotype_variants: list[np.ndarray] = []
    pairs: list[np.ndarray] = []
    n_pairs = 0
    for gene, found in enumerate(
        window_haplotypes(
            variants,
            windows.genes,
            windows.genome,
            window_bp=windows.window_bp,
            orient_by_strand=windows.orient_by_strand,
        )
    ):
        if not found.rows:
            continue
        numbers = np.append(len(haplotype_genes) + np.arange(len(found.rows)), REFERENCE)  # the last answers for -1
        haplotype_genes += [gene] * len(found.rows)
        haplotype_variants += found.rows
        haplotype_index[:, gene] = numbers[found.of_donors].reshape(n_donors, 2)
        of_donor = np.sort(haplotype_index[:, gene].astype(np.int64), axis=1)
        distinct, pair_of_donor = np.unique((of_donor[:, 0] << 32) + of_donor[:, 1] + 1, return_inverse=True)
        table = np.stack((distinct >> 32, (distinct & 0xFFFFFFFF) - 1), axis=1)
        is_reference = (table == REFERENCE).all(axis=1)
        pair_numbers = np.where(is_reference, REFERENCE, n_pairs + np.cumsum(~is_reference) - 1)
        index[:, gene] = pair_numbers[pair_of_donor]
        table = table[~is_reference]
        pairs.append(np.column_stack((np.full(len(table), gene), table)))
        n_pairs += len(table)
    table = np.concatenate(pairs).astype(np.int32) if pairs else np.zeros((0, 3), dtype=np.int32)
    _count_out_of_reach(variants, haplotype_variants)
    logger.info("%d donors: %d distinct haplotypes, %d distinct promoters", n_donors, len(haplotype_genes), n_pairs)
    return DonorPromoters(
        variants.donors,
        np.array(haplotype_genes, dtype=np.int32),
        haplotype_variants,
        haplotype_index,
        table[:, 0],
        table[:, 1:],
        index,
        variants,
    )


def one_hot(sequences: Sequence[bytes]) -> np.ndarray:
    """Equally long sequences of ACGTN -> (sequences, bases, 4) float32 in the order A, C, G, T; N is all zero."""
    letters = np.frombuffer(b"".join(sequences), dtype=np.uint8)
    return _ONE_HOT[letters].reshape(len(sequences), -1, 4)


def build_promoters(
    fasta: str | Path,
    annotation: str | Path,
    output: str | Path,
    *,
    window_bp: int = 196_608,
    tss_choice: TSSChoice = "canonical",
    gene_symbols: Mapping[str, str] | str | Path | None = None,
    protein_coding_only: bool = False,
    orient_by_strand: bool = False,
    missing_contigs: Literal["error", "drop"] = "error",
    beyond_contig: Literal["error", "drop"] = "error",
    alternative_contigs: Literal["drop", "keep"] = "drop",
    table_coordinates: Literal["0-based", "1-based"] = "0-based",
    offsets: Mapping[str, int] | None = None,
    overwrite: bool = False,
) -> dict:
    """Write the windows as a data set: a folder that `load_dataset` reads, one row a gene.

    Columns: gene_id, symbol, contig, strand, tss, start, end (0-based, half-open), sequence. `report.json` in the
    folder counts what was left out; it is also returned. The folder appears when it is complete. Arguments as
    `read_tss`, `promoter_windows` and `open_genome`.

    Raises:
        FileExistsError: where the folder exists and `overwrite` is false.
    """
    output = Path(output)
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists: name another folder, or pass overwrite (--overwrite) to replace it")
    tss = read_tss(
        annotation,
        tss_choice=tss_choice,
        gene_symbols=gene_symbols,
        protein_coding_only=protein_coding_only,
        alternative_contigs=alternative_contigs,
        table_coordinates=table_coordinates,
    )
    with open_genome(fasta, offsets=offsets) as genome:
        windows = promoter_windows(
            genome,
            tss,
            window_bp=window_bp,
            orient_by_strand=orient_by_strand,
            missing_contigs=missing_contigs,
            beyond_contig=beyond_contig,
        )
        partial = output.with_name(output.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "data").mkdir(parents=True)
        table = partial / "data" / "train-00000-of-00001.parquet"
        _write_parquet(windows, table)
        report = {
            "annotation": tss.attrs["report"],
            "windows": len(windows),
            "window_bp": window_bp,
            "orient_by_strand": orient_by_strand,
            "left out": windows.report,
            "IUPAC letters read as N": genome.ambiguous_letters,
        }
    (partial / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    card = _DATA_CARD.format(configuration=configuration_name([table]), window_bp=window_bp, tss_choice=tss_choice)
    (partial / "README.md").write_text(card)
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)
    return report


def _write_parquet(windows: PromoterWindows, path: Path, *, windows_a_group: int = 64) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["gene_id", "symbol", "contig", "strand", "tss", "start", "end"]
    integers = dict.fromkeys(["tss", "start", "end"], pa.int64())
    schema = pa.schema([(name, integers.get(name, pa.string())) for name in [*columns, "sequence"]])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, len(windows), windows_a_group):
            rows = range(first, min(first + windows_a_group, len(windows)))
            group = {name: windows.genes[name].iloc[rows].tolist() for name in columns}
            group["sequence"] = [windows.sequence(row).decode() for row in rows]
            writer.write_table(pa.Table.from_pydict(group, schema=schema))


_DATA_CARD = """---
configs:
- config_name: {configuration}
  data_files:
  - split: train
    path: data/*.parquet
---
# DNA around transcription start sites

One row a gene: {window_bp:,} bp centred on its TSS (`{tss_choice}`), N beyond the ends of contigs. Coordinates are
0-based, half-open; start and end may lie outside the contig. report.json counts what was left out.
"""


def _count_out_of_reach(variants: DonorSequenceVariants, haplotype_variants: list[np.ndarray]) -> None:
    is_used = np.zeros(len(variants), dtype=bool)
    if haplotype_variants:
        is_used[np.concatenate(haplotype_variants)] = True
    unused = np.flatnonzero(~is_used)
    if len(unused):
        variants.report["variants that reach no window"] = len(unused)
        logger.info(
            "%d of %d variants reach no window, first %s", len(unused), len(variants), variants.variants[unused[0]]
        )


def _report_missing(genome: Genome, tss: pd.DataFrame, is_missing: pd.Series, missing_contigs: str) -> dict[str, int]:
    if not is_missing.any():
        return {}
    counts = tss.loc[is_missing, "contig"].value_counts()
    shown = ", ".join(f"{contig} ({number} genes)" for contig, number in counts.head(5).items())
    found = f"{is_missing.sum():,} genes are on {len(counts)} contigs that {genome.path} lacks: {shown}"
    if missing_contigs == "error":
        raise ValueError(
            f"{found}; it has {', '.join(list(genome.contigs)[:5])}. Give the whole genome, or leave these genes out "
            'with missing_contigs="drop"'
        )
    logger.warning("left out: %s", found)
    return {"genes on contigs that the genome lacks": int(is_missing.sum())}


def _within_contigs(genome: Genome, genes: pd.DataFrame, beyond_contig: str, report: dict[str, int]) -> pd.DataFrame:
    first, end = genes["contig"].map(genome.starts), genes["contig"].map(genome.contigs)
    is_within = (genes["tss"] >= first) & (genes["tss"] < end)
    if is_within.all():
        return genes
    number, gene = int((~is_within).sum()), genes[~is_within].iloc[0]
    contig = gene["contig"]
    found = (
        f"{number:,} genes begin beyond their contig, first {gene['gene_id']} ({gene['symbol']}) at "
        f"{contig}:{gene['tss'] + 1:,} (1-based); {contig} in {genome.path} spans "
        f"{genome.starts[contig] + 1:,}-{genome.contigs[contig]:,}"
    )
    if beyond_contig == "error":
        raise ValueError(
            f"{found}. Are annotation and genome of one assembly? A piece of a contig needs its offset, and "
            'beyond_contig="drop" leaves out the genes outside it'
        )
    logger.warning("left out: %s", found)
    report["genes that begin beyond their contig"] = number
    return genes[is_within].reset_index(drop=True)
