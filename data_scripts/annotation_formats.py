"""Transcripts from the annotation formats of genomics, all in one table with 0-based, half-open coordinates.

Formats: GTF 2.2; GFF3 1.26 as Ensembl, GENCODE and NCBI write it; UCSC genePred, genePredExt and refFlat
(https://genome.ucsc.edu/FAQ/FAQformat.html#format9); a tab- or comma-separated table of TSSs.
"""

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from pathlib import Path
from urllib.parse import unquote

import pandas as pd

FROM_TABLE = "the table's column tss"
_TABLE_COLUMNS = {"five_prime_most": "tss_5prime_most", "median": "tss_median"}
_NO_TAG = 9
_TAG_RANKS = {"mane_select": 0, "ensembl_canonical": 1, "refseq_select": 1, "appris_principal_1": 2}
GFF3_PARTS = {"exon", "CDS", "five_prime_UTR", "three_prime_UTR", "start_codon", "stop_codon", "UTR", "Selenocysteine"}


@dataclass(slots=True)
class Transcript:
    """A row of the table that `read_annotation` returns."""

    gene_id: str
    symbol: str
    contig: str
    strand: str
    start: int
    end: int
    is_coding: bool = False
    gene_is_coding: bool | None = None
    tag_rank: int = _NO_TAG
    exonic_bases: int = 0


def read_annotation(path: Path, *, tss_choice: str, table_coordinates: str) -> tuple[pd.DataFrame, dict]:
    """All transcripts of the file, one row each, and what was counted on the way.

    Raises:
        FileNotFoundError, ValueError: as `read_tss`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no annotation at {path}: expected GTF, GFF3, genePred or a table of TSSs")
    annotation_format = recognise_format(path)
    if annotation_format == "table":
        rows, has_one_tss = _read_table(path, tss_choice, table_coordinates)
    else:
        rows, has_one_tss = _READERS[annotation_format](path), False
    if not rows:
        raise ValueError(f"{path} ({annotation_format}) holds no gene or transcript")
    table = pd.DataFrame({name: list(map(attrgetter(name), rows)) for name in Transcript.__slots__})
    table["gene_is_coding"] = table["gene_is_coding"].astype(object)
    is_stranded = table["strand"].isin(["+", "-"])
    report = {"format": annotation_format, "transcripts": len(table), "has_one_tss": has_one_tss}
    if not is_stranded.all():
        report["transcripts without a strand"] = int((~is_stranded).sum())
    table = table[is_stranded].reset_index(drop=True)
    # A gene is coding where its line says so, or else where one of its transcripts is.
    if annotation_format != "table":
        any_coding = table.groupby("gene_id")["is_coding"].transform("any")
        table["gene_is_coding"] = table["gene_is_coding"].where(table["gene_is_coding"].notna(), any_coding)
    return table, report


def recognise_format(path: Path) -> str:
    """GTF, GFF3, genePred or table, by the first line that is no comment; ValueError for anything else."""
    lines = [fields for _, fields in islice(tabbed_lines(path), 1)]
    if not lines:
        raise ValueError(f"{path} is empty")
    first = lines[0]
    header = first[0].split(",") if len(first) == 1 else first
    if "gene_id" in header and any(name.startswith("tss") for name in header):
        return "table"
    if len(first) == 9 and first[3].isdigit() and first[4].isdigit():
        return "GTF" if re.search(r'\bgene_id "?', first[8]) else "GFF3"
    if len(first) >= 10 and ("+" in first[2:4] or "-" in first[2:4]):
        return "genePred"
    raise ValueError(
        f"{path}: the format of its first line is unknown: {'|'.join(first)[:120]!r}; expected GTF, GFF3, UCSC "
        "genePred, or a table whose header has gene_id, contig, strand and tss, tss_5prime_most or tss_median"
    )


def tabbed_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number from 1 and tab-separated fields of each line that is no comment."""
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    opener: Callable = gzip.open if is_gzip else open
    try:
        with opener(path, "rt", encoding="utf-8") as text:
            for number, line in enumerate(text, 1):
                if line.startswith("#"):
                    if line.startswith("##FASTA"):
                        return
                elif not line.isspace():
                    yield number, line.rstrip("\r\n").split("\t")
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged, truncated or not text: {error}") from error


def feature_lines(path: Path) -> Iterator[tuple[int, str, str, int, int, str, str]]:
    """(line, contig, kind, start, end, strand, attributes) of GTF and GFF3, which are 1-based and closed."""
    for number, fields in tabbed_lines(path):
        try:
            contig, _, kind, first, last, _, strand, _, attributes = fields
            yield number, contig, kind, int(first) - 1, int(last), strand, attributes
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: expected 9 tab-separated columns, 4 and 5 numbers") from error


def _read_gtf(path: Path) -> list[Transcript]:
    transcripts: dict[str, Transcript] = {}
    genes: dict[str, Transcript] = {}
    has_own_line: set[str] = set()
    for number, contig, kind, start, end, strand, text in feature_lines(path):
        if kind not in ("gene", "transcript", "mRNA", "exon", "CDS"):
            continue
        gene_id = gtf_value(text, "gene_id")
        if not gene_id:
            raise ValueError(f"{path}, line {number}: no gene_id in {text[:80]!r}")
        transcript_id = gtf_value(text, "transcript_id")
        if kind == "gene" or not transcript_id:
            genes.setdefault(gene_id, _from_gtf(gene_id, contig, strand, start, end, text))
            continue
        key = f"{contig} {transcript_id}"  # UCSC repeats ids over contigs
        transcript = transcripts.get(key)
        if transcript is None:
            transcript = transcripts[key] = _from_gtf(gene_id, contig, strand, start, end, text)
        if kind in ("transcript", "mRNA"):
            has_own_line.add(key)
            transcript.start, transcript.end = start, end
        elif key not in has_own_line:
            transcript.start, transcript.end = min(transcript.start, start), max(transcript.end, end)
        transcript.exonic_bases += (end - start) if kind == "exon" else 0
        if kind == "CDS" and not re.search(r'transcript_(?:bio)?type "', text):
            transcript.is_coding = True
    have_transcripts = {transcript.gene_id for transcript in transcripts.values()}
    return [*transcripts.values(), *(gene for name, gene in genes.items() if name not in have_transcripts)]


def _from_gtf(gene_id: str, contig: str, strand: str, start: int, end: int, text: str) -> Transcript:
    gene_type = gtf_value(text, "gene_type") or gtf_value(text, "gene_biotype")
    transcript_type = gtf_value(text, "transcript_type") or gtf_value(text, "transcript_biotype")
    return Transcript(
        gene_id,
        gtf_value(text, "gene_name") or gtf_value(text, "gene") or gene_id,
        contig,
        strand,
        start,
        end,
        is_coding=transcript_type == "protein_coding",
        gene_is_coding=gene_type == "protein_coding" if gene_type else None,
        tag_rank=_tag_rank(re.findall(r'\btag "?([^";]+)', text)),
    )


def gtf_value(text: str, key: str) -> str:
    """The first value of a key among the attributes of GTF, or nothing."""
    match = re.search(rf'(?:^|[\s;]){key} "?([^";]*)', text)
    return match[1].strip() if match else ""


def _tag_rank(tags: list[str]) -> int:
    return min((_TAG_RANKS.get(tag.strip().lower().replace(" ", "_"), _NO_TAG) for tag in tags), default=_NO_TAG)


def _read_gff3(path: Path) -> list[Transcript]:
    genes: dict[str, Transcript] = {}
    transcripts: dict[str, Transcript] = {}
    parents: dict[str, str] = {}
    exonic_bases: dict[str, int] = {}
    has_cds: set[str] = set()
    for _, contig, kind, start, end, strand, text in feature_lines(path):
        attributes = dict(pair.strip().split("=", 1) for pair in text.split(";") if "=" in pair)
        parent, name = attributes.get("Parent", ""), attributes.get("ID", "")
        if kind in GFF3_PARTS:
            for one in parent.split(","):
                exonic_bases[one] = exonic_bases.get(one, 0) + ((end - start) if kind == "exon" else 0)
                has_cds |= {one} if kind == "CDS" else set()
        elif parent and name:
            transcripts[name] = _from_gff3(attributes, contig, strand, start, end)
            parents[name] = parent
        elif name and (kind.endswith("gene") or "gene_id" in attributes):
            genes[name] = _from_gff3(attributes, contig, strand, start, end)
    rows = []
    for name, transcript in transcripts.items():
        gene = genes.get(parents[name])
        if gene is not None:
            transcript.gene_id, transcript.symbol = gene.gene_id, gene.symbol
            transcript.gene_is_coding = gene.gene_is_coding
            transcript.exonic_bases = exonic_bases.get(name, 0)
            transcript.is_coding = transcript.is_coding or name in has_cds
            rows.append(transcript)
    have_transcripts = {parents[name] for name in transcripts}
    return [*rows, *(gene for name, gene in genes.items() if name not in have_transcripts)]


def _from_gff3(attributes: dict[str, str], contig: str, strand: str, start: int, end: int) -> Transcript:
    """Ensembl: gene_id, Name, biotype; GENCODE: gene_id, gene_name, gene_type; NCBI: gene, gene_biotype."""
    symbol = attributes.get("gene_name") or attributes.get("gene") or attributes.get("Name") or ""
    identifier = attributes.get("ID", "").removeprefix("gene:").removeprefix("gene-")
    gene_id = unquote(attributes.get("gene_id") or attributes.get("gene") or identifier)
    gene_type = attributes.get("gene_type") or attributes.get("gene_biotype") or attributes.get("biotype")
    own_type = attributes.get("transcript_type") or attributes.get("biotype")
    return Transcript(
        gene_id,
        unquote(symbol) or gene_id,
        contig,
        strand,
        start,
        end,
        is_coding=own_type == "protein_coding",
        gene_is_coding=gene_type == "protein_coding" if gene_type else None,
        tag_rank=_tag_rank(unquote(attributes.get("tag", "")).split(",")),
    )


def _read_genepred(path: Path) -> list[Transcript]:
    """genePred is 0-based, half-open; a bin or refFlat's gene name may come before its columns."""
    transcripts = []
    for number, fields in tabbed_lines(path):
        leading = "" if fields[2] in ("+", "-") else fields[0]
        columns = fields[1:] if leading else fields
        try:
            name, contig, strand = columns[:3]
            start, end, cds_start, cds_end = map(int, columns[3:7])
            firsts, lasts = ([*map(int, filter(None, columns[place].split(",")))] for place in (8, 9))
            if len(firsts) != len(lasts):
                raise ValueError(f"{len(firsts)} exons begin and {len(lasts)} end")
        except (ValueError, IndexError) as error:
            raise ValueError(f"{path}, line {number}: not a line of genePred ({error})") from error
        symbol = columns[11] if len(columns) > 11 else (leading if not leading.isdigit() else "")
        gene = symbol or name
        transcripts.append(
            Transcript(
                gene, gene, contig, strand, start, end, cds_start < cds_end, exonic_bases=sum(lasts) - sum(firsts)
            )
        )
    return transcripts


def _read_table(path: Path, tss_choice: str, table_coordinates: str) -> tuple[list[Transcript], bool]:
    """The rows, and whether the table has one TSS for all choices."""
    if table_coordinates not in ("0-based", "1-based"):
        raise ValueError(f'table_coordinates is {table_coordinates!r}; expected "0-based" or "1-based"')
    separator = "," if ".csv" in path.suffixes else "\t"
    table = pd.read_csv(path, sep=separator, comment="#", dtype=str, keep_default_na=False)
    contig = next((name for name in ("contig", "chrom", "chr", "chromosome", "seqname") if name in table), None)
    column = _TABLE_COLUMNS.get(tss_choice, "tss")
    column = column if column in table else "tss"
    if contig is None or not {"gene_id", "strand", column} <= set(table):
        raise ValueError(
            f"{path} has the columns {', '.join(table)}; expected gene_id, contig (or chrom), strand, and for "
            f'tss_choice="{tss_choice}" {_TABLE_COLUMNS.get(tss_choice, "tss")}. tss_choice="five_prime_most" reads '
            'tss_5prime_most, "median" reads tss_median, and a column tss answers for any'
        )
    tss = pd.to_numeric(table[column], errors="coerce")
    bad = table.index[tss.isna() | (tss % 1 != 0) | (tss < 0)]
    if len(bad):
        raise ValueError(f"{path}, line {bad[0] + 2}: {column} is {table[column][bad[0]]!r}; expected a position")
    tss = tss.astype("int64") - (table_coordinates == "1-based")
    coding = next((name for name in table if name.startswith("protein_coding")), None)
    is_coding = table[coding].str.lower().isin(["true", "1", "yes"]) if coding else pd.Series([None] * len(table))
    symbols = table["symbol"] if "symbol" in table else table["gene_id"]
    columns = (table["gene_id"], symbols, table[contig], table["strand"], tss, tss + 1, is_coding)
    rows = [
        Transcript(gene, symbol or gene, contig, strand, start, end, bool(coding), coding)
        for gene, symbol, contig, strand, start, end, coding in zip(*columns, strict=True)
    ]
    return rows, column == "tss"


_READERS: dict[str, Callable[[Path], list[Transcript]]] = {
    "GTF": _read_gtf,
    "GFF3": _read_gff3,
    "genePred": _read_genepred,
}
