"""Transcripts with their exons and coding sequence, and genes, from GTF, GFF3 and UCSC's genePred and refFlat.

Where `annotations.py` asks where genes begin, this asks what they consist of. Coordinates are 0-based, half-open.
The coding sequence runs from the start codon to the stop codon, both included: GTF leaves the stop codon out of its
CDS lines, GFF3 and genePred do not.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd

from .annotation_formats import GFF3_PARTS, feature_lines, gtf_value, recognise_format, tabbed_lines

_GTF_KINDS = {"gene", "transcript", "mRNA", "exon", "CDS", "start_codon", "stop_codon"}
_CODING = ("CDS", "start_codon", "stop_codon")
_NON_CODING_REFSEQ = re.compile(r"^[NX]R_\d")
_INCOMPLETE = re.compile(r"cds_start_NF|\bpartial[= ]\"?true")
_GENE_COLUMNS = ["gene_id", "symbol", "contig", "strand", "start", "end", "biotype", "level", "line"]


@dataclass
class TranscriptStructures:
    """The genes of an annotation, on the contigs asked for.

    Attributes:
        transcripts: transcript_id, gene_id, symbol, contig, strand (+ or -), start, end, coding_start, coding_end (-1
            where there is no coding sequence), starts_with_codon (the coding sequence is said to be complete at its
            5' end, or not said to be cut), biotype (of the gene; "" where the file does not say), level (GENCODE's 1 to
            3; 0 where it does not say), line (of the file, from 1).
        exons: transcript (row of `transcripts`), start, end; by transcript and start.
        genes: gene_id, symbol, contig, strand, start, end, biotype, level, line: the genes that have a line of their
            own; genePred has none.
        says_biotypes, says_coding, names_refseq: whether the file, on any contig, tells biotypes of genes, tells
            coding sequence, and names RefSeq's non-coding transcripts (NR_, XR_). What it does not tell cannot be
            labelled.
        contigs: those of the file.
        report: what was read and left out.
    """

    transcripts: pd.DataFrame
    exons: pd.DataFrame
    genes: pd.DataFrame
    says_biotypes: bool
    says_coding: bool
    names_refseq: bool
    contigs: list[str]
    report: dict


def read_transcript_structures(
    path: str | Path, *, contig_names: Callable[[str], str | None] | None = None
) -> TranscriptStructures:
    """Read an annotation, plain or gzip; its format is recognised by the content.

    Args:
        path: GTF, GFF3, genePred, genePredExt or refFlat.
        contig_names: from the file's name of a contig to the one wanted, or None to leave the contig out.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: for another format, a broken line (named), or a file without transcripts on any contig.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no annotation at {path}: expected GTF, GFF3 or genePred")
    annotation_format = recognise_format(path)
    if annotation_format == "table":
        raise ValueError(f"{path} is a table of TSSs, without exons; expected GTF, GFF3 or genePred")
    collected = _Collected(path, contig_names or (lambda name: name))
    _READERS[annotation_format](collected)
    if not collected.names:
        raise ValueError(f"{path} ({annotation_format}) holds no gene or transcript")
    return _tables(collected, annotation_format)


@dataclass(slots=True)
class _Transcript:
    transcript_id: str
    gene_id: str
    symbol: str
    contig: str
    strand: str
    start: int
    end: int
    line: int
    coding_start: int = -1
    coding_end: int = -1
    starts_with_codon: bool = True
    biotype: str = ""
    level: int = 0
    exons: list[tuple[int, int]] = field(default_factory=list)
    coding: list[tuple[int, int]] = field(default_factory=list)
    overlap: bool = False


class _Collected:
    """What the readers of all formats fill."""

    def __init__(self, path: Path, contig_names: Callable[[str], str | None]) -> None:
        self.path = path
        self.names: dict[str, str | None] = {}  # contig in the file -> contig wanted
        self._contig_names = contig_names
        self.skipped: Counter[str] = Counter()
        self.transcripts: dict[str, _Transcript] = {}
        self.genes: list[tuple] = []
        self.says_biotypes = self.says_coding = self.names_refseq = False

    def contig(self, name: str) -> str | None:
        """The contig wanted, or None: then the line is counted as skipped."""
        if name not in self.names:
            self.names[name] = self._contig_names(name)
        found = self.names[name]
        if found is None:
            self.skipped[name] += 1
        return found


def _tables(collected: _Collected, annotation_format: str) -> TranscriptStructures:
    rows = [transcript for transcript in collected.transcripts.values() if transcript.exons or transcript.coding]
    stranded = [transcript for transcript in rows if transcript.strand in ("+", "-")]
    biotypes = {(gene[2], gene[0]): gene[6] for gene in collected.genes}
    for transcript in stranded:
        # NCBI's GTF tells the biotype on the gene's line only.
        transcript.biotype = transcript.biotype or biotypes.get((transcript.contig, transcript.gene_id), "")
        _complete(transcript)
    columns = [column.name for column in fields(_Transcript) if column.name not in ("exons", "coding", "overlap")]
    transcripts = pd.DataFrame([[getattr(row, name) for name in columns] for row in stranded], columns=columns)
    counts = np.array([len(row.exons) for row in stranded], dtype=np.int64)
    places = np.array([exon for row in stranded for exon in row.exons], dtype=np.int64).reshape(-1, 2)
    exons = pd.DataFrame(
        {"transcript": np.repeat(np.arange(len(stranded)), counts), "start": places[:, 0], "end": places[:, 1]}
    )
    report = {
        "format": annotation_format,
        "transcripts": len(stranded),
        "lines on contigs not used": int(collected.skipped.total()),
    }
    for reason, number in (
        ("transcripts without a strand, left out", len(rows) - len(stranded)),
        ("transcripts without exons, left out", len(collected.transcripts) - len(rows)),
        ("transcripts whose exons overlap, joined", sum(transcript.overlap for transcript in stranded)),
    ):
        if number:
            report[reason] = number
    return TranscriptStructures(
        transcripts,
        exons,
        pd.DataFrame(collected.genes, columns=_GENE_COLUMNS),
        collected.says_biotypes,
        collected.says_coding,
        collected.names_refseq,
        list(collected.names),
        report,
    )


def _complete(transcript: _Transcript) -> None:
    """Sort the exons, and derive what the file may leave out: exons from the coding sequence, its ends, the span."""
    # Lines of one codon and of the coding sequence around it overlap or touch; exons do neither.
    exons = _union(transcript.exons, 0) if transcript.exons else _union(transcript.coding, 1)
    transcript.overlap = bool(transcript.exons) and len(exons) < len(set(transcript.exons))
    transcript.exons = exons
    transcript.start = min(transcript.start, exons[0][0])
    transcript.end = max(transcript.end, exons[-1][1])
    if transcript.coding:
        transcript.coding_start = min(start for start, _ in transcript.coding)
        transcript.coding_end = max(end for _, end in transcript.coding)


def _union(parts: list[tuple[int, int]], touching: int) -> list[tuple[int, int]]:
    """Sorted parts, joined where they share bases, or, with 1, touch."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(parts):
        if joined and start < joined[-1][1] + touching:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _read_genepred(collected: _Collected) -> None:
    """genePred is 0-based, half-open; a bin or refFlat's gene name may come before its columns."""
    for number, line in tabbed_lines(collected.path):
        # The strand is the third column, or the fourth behind a leading one.
        leading = "" if len(line) > 2 and line[2] in ("+", "-") else line[0]
        columns = line[1:] if leading else line
        try:
            name, contig_name = columns[:2]
            contig = collected.contig(contig_name)
            collected.names_refseq |= bool(_NON_CODING_REFSEQ.match(name))
            collected.says_coding |= columns[5] != columns[6]
            if contig is None:
                continue
            gene = columns[11] if len(columns) > 11 else (leading if not leading.isdigit() else "")
            transcript = _from_genepred(columns, contig, gene or name, number)
        except (ValueError, IndexError) as error:
            raise ValueError(f"{collected.path}, line {number}: not a line of genePred ({error})") from error
        collected.transcripts[f"{number}"] = transcript  # one transcript may lie at several places


def _from_genepred(columns: list[str], contig: str, gene: str, number: int) -> _Transcript:
    start, end, coding_start, coding_end, n_exons = map(int, columns[3:8])
    starts, ends = ([int(place) for place in column.split(",") if place] for column in columns[8:10])
    exons = list(zip(starts, ends, strict=True))
    if len(exons) != n_exons or any(not start <= one < other <= end for one, other in exons):
        raise ValueError(f"expected {n_exons} exons within {start}-{end}, found {exons[:4]}")
    is_coding = coding_start < coding_end
    return _Transcript(
        columns[0],
        gene,
        gene,
        contig,
        columns[2],
        start,
        end,
        number,
        # cdsStartStat and cdsEndStat; files of ten columns have neither.
        starts_with_codon=all(status == "cmpl" for status in columns[12:14]),
        exons=exons,
        coding=[(coding_start, coding_end)] if is_coding else [],
    )


def _read_gtf(collected: _Collected) -> None:
    path = collected.path
    for number, contig_name, kind, start, end, strand, text in feature_lines(path):
        if kind not in _GTF_KINDS:
            continue
        collected.says_coding |= kind == "CDS"
        collected.says_biotypes |= "gene_type " in text or "gene_biotype " in text
        contig = collected.contig(contig_name)
        gene_id, transcript_id = gtf_value(text, "gene_id"), gtf_value(text, "transcript_id")
        if not gene_id:
            raise ValueError(f"{path}, line {number}: no gene_id in {text[:80]!r}")
        collected.names_refseq |= bool(_NON_CODING_REFSEQ.match(transcript_id))
        if contig is None:
            continue
        _check_span(path, number, start, end)
        key = f"{contig} {transcript_id}"  # UCSC repeats ids over contigs
        transcript = collected.transcripts.get(key) if kind != "gene" else None
        if kind == "gene" or (transcript is None and transcript_id):
            symbol, biotype, level = _gtf_names(text, gene_id)
            if kind == "gene":
                collected.genes.append((gene_id, symbol, contig, strand, start, end, biotype, level, number))
                continue
            transcript = _Transcript(
                transcript_id, gene_id, symbol, contig, strand, start, end, number, biotype=biotype, level=level
            )
            collected.transcripts[key] = transcript
        if transcript is None:
            raise ValueError(f"{path}, line {number}: a line {kind} without transcript_id: {text[:80]!r}")
        _add_part(transcript, kind, start, end, text)


def _gtf_names(text: str, gene_id: str) -> tuple[str, str, int]:
    """Symbol, biotype of the gene, level."""
    level = gtf_value(text, "level")
    return (
        gtf_value(text, "gene_name") or gtf_value(text, "gene") or gene_id,
        gtf_value(text, "gene_type") or gtf_value(text, "gene_biotype"),
        int(level) if level.isdigit() else 0,
    )


def _add_part(transcript: _Transcript, kind: str, start: int, end: int, text: str) -> None:
    if kind == "exon":
        transcript.exons.append((start, end))
    elif kind in _CODING:
        transcript.coding.append((start, end))
    if _INCOMPLETE.search(text):
        transcript.starts_with_codon = False


def _read_gff3(collected: _Collected) -> None:
    """Parts name their transcript, transcripts their gene; any of them may come first in the file."""
    parts: dict[str, list[tuple]] = {}
    genes: dict[str, tuple] = {}
    parents: dict[str, str] = {}
    for number, contig_name, kind, start, end, strand, text in feature_lines(collected.path):
        collected.says_coding |= kind == "CDS"
        contig = collected.contig(contig_name)
        attributes = dict(pair.strip().split("=", 1) for pair in text.split(";") if "=" in pair)
        collected.says_biotypes |= any(name in attributes for name in ("gene_type", "gene_biotype", "biotype"))
        parent, name = attributes.get("Parent", ""), attributes.get("ID", "")
        transcript_id = attributes.get("transcript_id") or name.removeprefix("transcript:").removeprefix("rna-")
        collected.names_refseq |= bool(_NON_CODING_REFSEQ.match(transcript_id))
        if contig is None:
            continue
        _check_span(collected.path, number, start, end)
        if kind in GFF3_PARTS:
            for one in parent.split(","):
                parts.setdefault(one, []).append((kind, start, end, text))
        elif parent and name:
            parents[name] = parent
            collected.transcripts[name] = _from_gff3(attributes, transcript_id, contig, strand, start, end, number)
        elif name and (kind.endswith("gene") or "gene_id" in attributes):
            genes[name] = _gff3_gene(attributes, contig, strand, start, end, number)
    collected.genes = list(genes.values())
    _join_gff3(collected.transcripts, parents, genes, parts)


def _from_gff3(
    attributes: dict[str, str], transcript_id: str, contig: str, strand: str, start: int, end: int, number: int
) -> _Transcript:
    level = attributes.get("level", "")
    return _Transcript(
        transcript_id,
        "",
        "",
        contig,
        strand,
        start,
        end,
        number,
        starts_with_codon=_INCOMPLETE.search(attributes.get("tag", "")) is None,
        level=int(level) if level.isdigit() else 0,
    )


def _gff3_gene(attributes: dict[str, str], contig: str, strand: str, start: int, end: int, number: int) -> tuple:
    """Ensembl: gene_id, Name, biotype; GENCODE: gene_id, gene_name, gene_type; NCBI: gene, gene_biotype."""
    identifier = attributes["ID"].removeprefix("gene:").removeprefix("gene-")
    gene_id = attributes.get("gene_id") or attributes.get("gene") or identifier
    symbol = attributes.get("gene_name") or attributes.get("gene") or attributes.get("Name") or gene_id
    biotype = attributes.get("gene_type") or attributes.get("gene_biotype") or attributes.get("biotype") or ""
    level = attributes.get("level", "")
    level_number = int(level) if level.isdigit() else 0
    return unquote(gene_id), unquote(symbol), contig, strand, start, end, biotype, level_number, number


def _join_gff3(
    transcripts: dict[str, _Transcript], parents: dict[str, str], genes: dict[str, tuple], parts: dict[str, list[tuple]]
) -> None:
    for name, transcript in list(transcripts.items()):
        gene = genes.get(parents[name])
        if gene is None:  # a part that GFF3_PARTS does not know, or a miRNA of its primary transcript
            del transcripts[name]
            continue
        transcript.gene_id, transcript.symbol, transcript.biotype = gene[0], gene[1], gene[6]
    for name, own_parts in parts.items():
        if name in genes and name not in transcripts:  # NCBI's pseudogenes have exons and no transcript
            gene_id, symbol, contig, strand, start, end, biotype, level, number = genes[name]
            transcripts[name] = _Transcript(
                gene_id, gene_id, symbol, contig, strand, start, end, number, biotype=biotype, level=level
            )
        for kind, start, end, text in own_parts:
            if name in transcripts:
                _add_part(transcripts[name], kind, start, end, text)


def _check_span(path: Path, number: int, start: int, end: int) -> None:
    if not 0 <= start < end:
        raise ValueError(f"{path}, line {number}: columns 4 and 5 are {start + 1:,} and {end:,}; expected 1 <= 4 <= 5")


_READERS: dict[str, Callable[[_Collected], None]] = {
    "GTF": _read_gtf,
    "GFF3": _read_gff3,
    "genePred": _read_genepred,
}
