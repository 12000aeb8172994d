"""One set of transcripts written in three formats and read back, what each format leaves out, and broken lines."""

import gzip
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.transcript_structures import TranscriptStructures, read_transcript_structures


@dataclass
class Planted:
    """Exons as (start, end); coding as indices into the exonic bases, or nothing."""

    exons: list[tuple[int, int]]
    strand: str
    coding: tuple[int, int] | None

    @property
    def bases(self) -> list[int]:
        return [base for start, end in self.exons for base in range(start, end)]

    @property
    def coding_bases(self) -> list[int]:
        return self.bases[slice(*self.coding)] if self.coding else []


@st.composite
def planted(draw: st.DrawFn) -> Planted:
    place = draw(st.integers(0, 300))
    exons = []
    for _ in range(draw(st.integers(1, 5))):
        length, gap = draw(st.integers(1, 30)), draw(st.integers(1, 60))
        exons.append((place, place + length))
        place += length + gap
    transcript = Planted(exons, draw(st.sampled_from("+-")), None)
    first = draw(st.integers(0, len(transcript.bases)))
    length = draw(st.integers(0, len(transcript.bases) - first))
    transcript.coding = (first, first + length) if length > 3 else None
    return transcript


def runs(bases: list[int]) -> list[tuple[int, int]]:
    """Sorted bases -> 1-based, closed intervals without gaps."""
    found: list[tuple[int, int]] = []
    for base in sorted(bases):
        if found and found[-1][1] == base:
            found[-1] = (found[-1][0], base + 1)
        else:
            found.append((base + 1, base + 1))
    return found


def as_genepred(transcripts: list[Planted]) -> str:
    lines = []
    for number, one in enumerate(transcripts):
        starts, ends = ("".join(f"{exon[side]}," for exon in one.exons) for side in (0, 1))
        span, coding = (one.bases[0], one.bases[-1] + 1), one.coding_bases
        coding_span = (coding[0], coding[-1] + 1) if coding else (span[1], span[1])
        status = "cmpl" if coding else "none"
        fields = [f"T{number}", "chr1", one.strand, *span, *coding_span, len(one.exons), starts, ends, 0, f"G{number}"]
        lines.append("\t".join(map(str, [*fields, status, status, ""])) + "\n")
    return "".join(lines)


def as_gtf(transcripts: list[Planted]) -> str:
    """The coding sequence without its stop codon, which has lines of its own and may be cut by an intron."""
    lines = []
    for number, one in enumerate(transcripts):
        coding = one.coding_bases if one.strand == "+" else one.coding_bases[::-1]
        parts = {"exon": one.bases, "CDS": coding[:-3], "stop_codon": coding[-3:], "start_codon": coding[:3]}
        names = f'gene_id "G{number}"; transcript_id "T{number}"; gene_type "kind{number}";'
        span = (one.bases[0] + 1, one.bases[-1] + 1)
        rows = [("gene", *span), ("transcript", *span)]
        if parts["exon"]:  # exons that touch have a line each
            rows += [("exon", start + 1, end) for start, end in one.exons]
        rows += [(kind, *run) for kind in ("CDS", "stop_codon", "start_codon") for run in runs(parts[kind])]
        lines += [f"chr1\tX\t{kind}\t{a}\t{b}\t.\t{one.strand}\t.\t{names}\n" for kind, a, b in rows]
    return "".join(lines)


def as_gff3(transcripts: list[Planted]) -> str:
    """Parts come before the transcripts and genes that they belong to."""
    lines = []
    for number, one in enumerate(transcripts):
        span = (one.bases[0] + 1, one.bases[-1] + 1)
        rows = [("exon", start + 1, end, f"Parent=t{number}") for start, end in one.exons]
        rows += [("CDS", *run, f"Parent=t{number}") for run in runs(one.coding_bases)]
        rows += [("mRNA", *span, f"ID=t{number};Parent=g{number};transcript_id=T{number}")]
        rows += [("gene", *span, f"ID=g{number};gene_id=G{number};gene_type=kind{number}")]
        lines += [f"chr1\tX\t{kind}\t{a}\t{b}\t.\t{one.strand}\t.\t{text}\n" for kind, a, b, text in rows]
    return "".join(lines)


WRITERS = {"genePred": as_genepred, "GTF": as_gtf, "GFF3": as_gff3}


def read(text: str, **options) -> TranscriptStructures:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotation"
        path.write_bytes(gzip.compress(text.encode()))
        return read_transcript_structures(path, **options)


@given(st.lists(planted(), min_size=1, max_size=4), st.sampled_from(sorted(WRITERS)))
def test_every_format_gives_the_planted_transcripts(transcripts: list[Planted], name: str) -> None:
    found = read(WRITERS[name](transcripts))
    rows = found.transcripts
    assert rows["transcript_id"].tolist() == [f"T{number}" for number in range(len(transcripts))]
    assert rows["gene_id"].tolist() == [f"G{number}" for number in range(len(transcripts))]
    for number, one in enumerate(transcripts):
        row, exons = rows.iloc[number], found.exons[found.exons["transcript"] == number]
        assert [tuple(exon) for exon in exons[["start", "end"]].to_numpy().tolist()] == one.exons
        assert (row["contig"], row["strand"]) == ("chr1", one.strand)
        assert (row["start"], row["end"]) == (one.exons[0][0], one.exons[-1][1])
        coding = (one.coding_bases[0], one.coding_bases[-1] + 1) if one.coding else (-1, -1)
        assert (row["coding_start"], row["coding_end"]) == coding
        assert row["biotype"] == ("" if name == "genePred" else f"kind{number}")
    assert found.says_coding == any(one.coding for one in transcripts)
    assert found.says_biotypes == (name != "genePred")
    assert len(found.genes) == (0 if name == "genePred" else len(transcripts))
    assert found.report["format"] == name


ONE = Planted([(10, 30), (50, 60)], "+", (3, 20))


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_contigs_that_are_not_wanted_are_counted(name: str) -> None:
    text = WRITERS[name]([ONE])
    found = read(text + text.replace("chr1", "chr2"), contig_names=lambda contig: {"chr1": "1"}.get(contig))
    assert found.transcripts["contig"].tolist() == ["1"]
    assert found.contigs == ["chr1", "chr2"]
    assert found.report["lines on contigs not used"] == text.count("\n")
    nothing = read(text, contig_names=lambda contig: None)
    assert nothing.transcripts.empty and nothing.exons.empty
    assert nothing.says_coding


def test_a_transcript_at_two_places_in_genepred() -> None:
    found = read(as_genepred([ONE]) * 2)
    assert found.transcripts["transcript_id"].tolist() == ["T0", "T0"]
    assert found.exons["transcript"].tolist() == [0, 0, 1, 1]


def test_leading_columns_of_genepred() -> None:
    line = as_genepred([ONE])
    with_bin = read(f"#bin\tname\n585\t{line}")
    assert with_bin.transcripts["symbol"].tolist() == ["G0"]
    refflat = read("SYMBOL\t" + "\t".join(line.split("\t")[:10]) + "\n")
    assert refflat.transcripts["symbol"].tolist() == ["SYMBOL"]
    for found in (with_bin, refflat):
        assert found.transcripts["starts_with_codon"].tolist() == [True]
        assert found.exons[["start", "end"]].to_numpy().tolist() == [[10, 30], [50, 60]]
    assert not read(line.replace("cmpl\tcmpl", "incmpl\tcmpl")).transcripts["starts_with_codon"].any()
    assert read(line.replace("T0", "NR_1234.1")).names_refseq


def test_incomplete_coding_sequence_and_levels_of_gencode() -> None:
    text = as_gtf([ONE]).replace(
        'gene_type "kind0"', 'gene_type "lncRNA"; gene_name "A-B"; level 3; tag "cds_start_NF"'
    )
    found = read(text)
    assert found.transcripts[["symbol", "biotype", "level"]].to_numpy().tolist() == [["A-B", "lncRNA", 3]]
    assert not found.transcripts["starts_with_codon"].any()
    assert found.genes[["gene_id", "start", "end", "level"]].to_numpy().tolist() == [["G0", 10, 60, 3]]


def test_the_biotype_may_be_on_the_genes_line_only() -> None:
    """As in NCBI's GTF."""
    lines = as_gtf([ONE]).splitlines(keepends=True)
    text = lines[0] + "".join(lines[1:]).replace('gene_type "kind0";', "")
    assert read(text).transcripts["biotype"].tolist() == ["kind0"]


def test_coding_sequence_without_exons_and_genes_without_transcripts() -> None:
    only_coding = [line for line in as_gtf([ONE]).splitlines(keepends=True) if "\texon\t" not in line]
    assert read("".join(only_coding)).exons[["start", "end"]].to_numpy().tolist() == [[13, 30]]
    pseudogene = "1\tX\tpseudogene\t5\t40\t.\t-\t.\tID=gene-P;gene_biotype=pseudogene\n"
    found = read(pseudogene + "1\tX\texon\t5\t40\t.\t-\t.\tID=e;Parent=gene-P\n")
    assert found.transcripts[["gene_id", "biotype"]].to_numpy().tolist() == [["P", "pseudogene"]]
    assert found.exons.to_numpy().tolist() == [[0, 4, 40]]


def test_exons_that_overlap_are_joined_and_counted() -> None:
    found = read(as_genepred([ONE, ONE]).replace("10,50,", "10,20,", 1))
    assert found.exons[["start", "end"]].to_numpy().tolist() == [[10, 60], [10, 30], [50, 60]]
    assert found.report["transcripts whose exons overlap, joined"] == 1


def test_transcripts_without_a_strand_are_counted() -> None:
    text = as_gtf([ONE, ONE]).replace('\t+\t.\tgene_id "G1"', '\t.\t.\tgene_id "G1"')
    found = read(text)
    assert found.transcripts["gene_id"].tolist() == ["G0"]
    assert found.report["transcripts without a strand, left out"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("gene_id\tcontig\tstrand\ttss\nA\t1\t+\t5\n", "a table of TSSs, without exons"),
        (as_genepred([ONE]).replace("\t2\t", "\t3\t"), "line 1: not a line of genePred"),
        (as_genepred([ONE]).replace("10,50,", "5,50,"), "line 1: not a line of genePred"),
        (as_gtf([ONE]).replace('transcript_id "T0";', ""), "line 2: a line transcript without transcript_id"),
        (as_gtf([ONE]).replace("\t11\t", "\t71\t"), "line 1: columns 4 and 5 are 71 and 60"),
        (as_gff3([ONE]).replace("\t11\t", "\t71\t"), "columns 4 and 5 are 71"),
    ],
)
def test_broken_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "annotation"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_transcript_structures(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no annotation at"):
        read_transcript_structures(tmp_path / "x.gtf")


@pytest.mark.real_data
def test_gencode_and_refseq(data_folder: Path) -> None:
    annotation = data_folder / "annotation"
    gencode = read_transcript_structures(annotation / "gencode.v29.chr19.hg38.gtf.gz")
    assert len(gencode.genes) == 2_959 and gencode.report["transcripts"] == 12_938
    assert gencode.says_biotypes and not gencode.says_coding
    refseq = read_transcript_structures(
        annotation / "ncbiRefSeq_genePred.hg19.txt.gz", contig_names=lambda name: {"chr20": "20"}.get(name)
    )
    assert refseq.says_coding and refseq.names_refseq and not refseq.says_biotypes
    gata5 = refseq.transcripts[refseq.transcripts["transcript_id"] == "NM_080473.5"]
    assert gata5[["symbol", "contig", "strand"]].to_numpy().tolist() == [["GATA5", "20", "-"]]
    lengths = pd.Series(refseq.exons["end"] - refseq.exons["start"]).groupby(refseq.exons["transcript"]).sum()
    assert lengths.loc[gata5.index[0]] == 2_620
