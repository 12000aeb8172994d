"""Are annotation and genome of one assembly? Start codons and the ends of contigs tell.

In a genome of its own assembly, nearly all coding sequences begin with ATG (chr20 of GRCh37 with RefSeq: 99.8 %);
shifted by anything, one in 64 does. And an annotation of another assembly may reach beyond the ends of contigs.
"""

import logging
from typing import Literal, get_args

import numpy as np
import pandas as pd

from .genome_files import GenomeFiles
from .genomes import reverse_complement
from .transcript_structures import TranscriptStructures

logger = logging.getLogger(__name__)

BeyondContig = Literal["error", "drop"]
_FEWEST_TO_JUDGE = 5  # three of five random codons are ATG in one of 26,000 cases
_WARN_BELOW = 0.9


def check_start_codons(genome: GenomeFiles, structures: TranscriptStructures, *, minimum_share: float = 0.6) -> dict:
    """Count how many coding sequences begin with ATG.

    Start codons across two exons, outside the genome at hand or with N in them are left out, and so are coding
    sequences said to be incomplete. One that several transcripts share counts once.

    Args:
        genome: where the sequence comes from.
        structures: on the genome's contigs.
        minimum_share: the least share of ATG that is accepted, of five start codons or more.

    Returns:
        start codons, of them ATG, share (None without start codons).

    Raises:
        ValueError: where the share is below, with the figures.
    """
    if not 0 <= minimum_share <= 1:
        raise ValueError(f"minimum_share is {minimum_share}; expected a share from 0 to 1")
    read = []
    for contig, strand, place in _places(genome, structures):
        codon = genome.fetch(contig, place, place + 3)
        read.append(reverse_complement(codon) if strand == "-" else codon)
    read = [codon for codon in read if b"N" not in codon]
    n_atg = sum(codon == b"ATG" for codon in read)
    report = {"start codons": len(read), "of them ATG": n_atg, "share": round(n_atg / len(read), 4) if read else None}
    if not read:
        if structures.says_coding:
            logger.warning("no start codon lies on the contigs used: the assembly could not be checked")
        return report
    found = f"{n_atg:,} of {len(read):,} coding sequences begin with ATG in {genome}"
    if n_atg < minimum_share * len(read) and len(read) >= _FEWEST_TO_JUDGE:
        raise ValueError(
            f"{found} ({n_atg / len(read):.1%}); expected at least {minimum_share:.0%}. Are annotation and genome of "
            "one assembly, and the offsets of pieces right? Another genetic code needs another "
            "minimum_start_codons (0: no check)"
        )
    if n_atg < _WARN_BELOW * len(read):
        logger.warning("%s (%.1f %%): are they of one assembly?", found, 100 * n_atg / len(read))
    return report


def _places(genome: GenomeFiles, structures: TranscriptStructures) -> list[tuple[str, str, int]]:
    """(contig, strand, first base on the plus strand) of each start codon that lies in one exon, once."""
    rows = structures.transcripts
    is_plus = (rows["strand"] == "+").to_numpy()
    first = np.where(is_plus, rows["coding_start"], rows["coding_end"] - 3)
    begin, end = (rows["contig"].map(bounds).to_numpy() for bounds in (genome.starts, genome.contigs))
    is_usable = (rows["starts_with_codon"] & (rows["coding_start"] >= 0)).to_numpy()
    is_usable &= (first >= begin) & (first + 3 <= end)
    owner = structures.exons["transcript"].to_numpy()
    is_within = (structures.exons["start"].to_numpy() <= first[owner]) & (
        structures.exons["end"].to_numpy() >= first[owner] + 3
    )
    chosen = owner[is_within & is_usable[owner]]
    table = rows.iloc[chosen][["contig", "strand"]].assign(first=first[chosen]).drop_duplicates()
    return sorted(table.itertuples(index=False, name=None))


def within_genome(
    intervals: pd.DataFrame, genome: GenomeFiles, *, source: str, beyond_contig: BeyondContig = "error"
) -> tuple[pd.DataFrame, dict]:
    """Keep what lies on the sequence at hand, cutting intervals at its ends.

    Args:
        intervals: contig (a name of the genome), start, end, and for messages line (of the source) or name.
        genome: its `pieces` end where the file ends, not the contig: what is outside them is counted, never an error.
        source: name of the file, for messages.
        beyond_contig: what to do with intervals that reach beyond the end of a contig that is no piece: the sign of
            another assembly, or of a file that holds the beginning of the contig only.

    Returns:
        The intervals kept, and counts of those outside and those cut.

    Raises:
        ValueError: for an interval beyond its contig, with its line.
    """
    if beyond_contig not in get_args(BeyondContig):
        raise ValueError(f'beyond_contig is {beyond_contig!r}; expected "error" or "drop"')
    begin, end = (intervals["contig"].map(bounds).to_numpy() for bounds in (genome.starts, genome.contigs))
    starts, ends = intervals["start"].to_numpy(), intervals["end"].to_numpy()
    is_beyond = (ends > end) & ~intervals["contig"].isin(genome.pieces).to_numpy()
    if is_beyond.any() and beyond_contig == "error":
        _refuse(intervals[is_beyond], genome, source)
    cut = intervals.assign(start=np.maximum(starts, begin), end=np.minimum(ends, end))
    is_kept = (cut["start"] < cut["end"]).to_numpy()
    is_cut = is_kept & ((starts < begin) | (ends > end))
    report = {}
    if not is_kept.all():
        report["outside the sequence at hand"] = int((~is_kept).sum())
    if is_cut.any():
        report["cut at the end of the sequence at hand"] = int(is_cut.sum())
    return cut[is_kept].reset_index(drop=True), report


def _refuse(beyond: pd.DataFrame, genome: GenomeFiles, source: str) -> None:
    first = beyond.iloc[0]
    contig = first["contig"]
    place = f"line {first['line']}" if "line" in beyond else first["name"]
    raise ValueError(
        f"{source}, {place}: {contig}:{first['start'] + 1:,}-{first['end']:,} (1-based) ends beyond the "
        f"contig, which has {genome.contigs[contig]:,} bp in {genome}; {len(beyond):,} intervals do. Are they of one "
        f"assembly (a BED file of another one needs its chain)? If the FASTA file holds the beginning of {contig} "
        f'only, say so by offsets={{"{contig}": 0}}, or cut with beyond_contig="drop"'
    )
