"""The same three genes in every annotation format give the same transcripts, and broken lines are named."""
# ruff: noqa: E501, lines of these formats are long

import gzip
from pathlib import Path

import pandas as pd
import pytest

from omics_transformers.data_scripts.annotation_formats import read_annotation

# GENE1 on +: a coding transcript [100, 400) with exons [100, 200) and [300, 400), and a non-coding one [50, 150).
# GENE2 on -: one coding transcript [1000, 1300). GENE3: no transcript of its own.
GTF = """#!genome-build test
1\tsim\tgene\t51\t400\t.\t+\t.\tgene_id "ENSG00000000001.4"; gene_name "GENE1"; gene_type "protein_coding"; note "a # b";
1\tsim\ttranscript\t101\t400\t.\t+\t.\tgene_id "ENSG00000000001.4"; transcript_id "T1"; gene_name "GENE1"; gene_type "protein_coding"; transcript_type "protein_coding"; tag "basic"; tag "MANE_Select";
1\tsim\texon\t101\t200\t.\t+\t.\tgene_id "ENSG00000000001.4"; transcript_id "T1"; gene_name "GENE1";
1\tsim\tCDS\t151\t200\t.\t+\t0\tgene_id "ENSG00000000001.4"; transcript_id "T1"; transcript_type "protein_coding";
1\tsim\texon\t301\t400\t.\t+\t.\tgene_id "ENSG00000000001.4"; transcript_id "T1"; gene_name "GENE1";
1\tsim\ttranscript\t51\t150\t.\t+\t.\tgene_id "ENSG00000000001.4"; transcript_id "T2"; gene_name "GENE1"; gene_type "protein_coding"; transcript_type "retained_intron";
1\tsim\texon\t51\t150\t.\t+\t.\tgene_id "ENSG00000000001.4"; transcript_id "T2"; gene_name "GENE1";
2\tsim\ttranscript\t1001\t1300\t.\t-\t.\tgene_id "ENSG00000000002"; transcript_id "T3"; gene_name "GENE2"; gene_type "protein_coding"; transcript_type "protein_coding";
2\tsim\texon\t1001\t1300\t.\t-\t.\tgene_id "ENSG00000000002"; transcript_id "T3"; gene_name "GENE2";
2\tsim\tgene\t2001\t2100\t.\t+\t.\tgene_id "ENSG00000000003"; gene_name "GENE3"; gene_type "tRNA";
"""
ENSEMBL_GFF3 = """##gff-version 3
1\tsim\tgene\t51\t400\t.\t+\t.\tID=gene:ENSG00000000001;Name=GENE1;biotype=protein_coding;gene_id=ENSG00000000001;version=4
1\tsim\tmRNA\t101\t400\t.\t+\t.\tID=transcript:T1;Parent=gene:ENSG00000000001;biotype=protein_coding;tag=basic,Ensembl_canonical
1\tsim\texon\t101\t200\t.\t+\t.\tParent=transcript:T1
1\tsim\texon\t301\t400\t.\t+\t.\tParent=transcript:T1
1\tsim\tlnc_RNA\t51\t150\t.\t+\t.\tID=transcript:T2;Parent=gene:ENSG00000000001;biotype=retained_intron
1\tsim\texon\t51\t150\t.\t+\t.\tParent=transcript:T2
###
2\tsim\tgene\t1001\t1300\t.\t-\t.\tID=gene:ENSG00000000002;Name=GENE2;biotype=protein_coding;gene_id=ENSG00000000002
2\tsim\tmRNA\t1001\t1300\t.\t-\t.\tID=transcript:T3;Parent=gene:ENSG00000000002;biotype=protein_coding
2\tsim\texon\t1001\t1300\t.\t-\t.\tParent=transcript:T3
2\tsim\tncRNA_gene\t2001\t2100\t.\t+\t.\tID=gene:ENSG00000000003;Name=GENE3;biotype=tRNA;gene_id=ENSG00000000003
"""
NCBI_GFF3 = """##gff-version 3
NC_000001.11\tBestRefSeq\tregion\t1\t9000\t.\t+\t.\tID=NC_000001.11:1..9000;Dbxref=taxon:9606
NC_000001.11\tBestRefSeq\tgene\t51\t400\t.\t+\t.\tID=gene-GENE1;Dbxref=GeneID:1;gene=GENE1;gene_biotype=protein_coding
NC_000001.11\tBestRefSeq\tmRNA\t101\t400\t.\t+\t.\tID=rna-T1;Parent=gene-GENE1;gene=GENE1;tag=MANE Select
NC_000001.11\tBestRefSeq\texon\t101\t200\t.\t+\t.\tID=exon-1;Parent=rna-T1
NC_000001.11\tBestRefSeq\texon\t301\t400\t.\t+\t.\tID=exon-2;Parent=rna-T1
NC_000001.11\tBestRefSeq\tCDS\t151\t200\t.\t+\t0\tID=cds-1;Parent=rna-T1
NC_000001.11\tBestRefSeq\ttranscript\t51\t150\t.\t+\t.\tID=rna-T2;Parent=gene-GENE1;gene=GENE1
NC_000001.11\tBestRefSeq\texon\t51\t150\t.\t+\t.\tID=exon-3;Parent=rna-T2
NC_000002.12\tBestRefSeq\tgene\t1001\t1300\t.\t-\t.\tID=gene-GENE2;gene=GENE2;gene_biotype=protein_coding
NC_000002.12\tBestRefSeq\tmRNA\t1001\t1300\t.\t-\t.\tID=rna-T3;Parent=gene-GENE2;gene=GENE2
NC_000002.12\tBestRefSeq\texon\t1001\t1300\t.\t-\t.\tID=exon-4;Parent=rna-T3
NC_000002.12\tBestRefSeq\tCDS\t1001\t1300\t.\t-\t0\tID=cds-2;Parent=rna-T3
NC_000002.12\tRefSeq\tgene\t2001\t2100\t.\t+\t.\tID=gene-GENE3;gene=GENE3;gene_biotype=tRNA
"""
GENEPRED = """#bin\tname\tchrom\tstrand\ttxStart\ttxEnd\tcdsStart\tcdsEnd\texonCount\texonStarts\texonEnds\tscore\tname2\ta\tb\tc
0\tT1\tchr1\t+\t100\t400\t150\t200\t2\t100,300,\t200,400,\t0\tGENE1\tcmpl\tcmpl\t0,
0\tT2\tchr1\t+\t50\t150\t150\t150\t1\t50,\t150,\t0\tGENE1\tnone\tnone\t-1,
0\tT3\tchr2\t-\t1000\t1300\t1000\t1300\t1\t1000,\t1300,\t0\tGENE2\tcmpl\tcmpl\t0,
0\tT4\tchr2\t+\t2000\t2100\t2100\t2100\t1\t2000,\t2100,\t0\tGENE3\tnone\tnone\t-1,
"""
WITHOUT_BIN = "".join("\t".join(line.split("\t")[1:]) + "\n" for line in GENEPRED.splitlines()[1:])
REFFLAT = "".join(
    "\t".join([line.split("\t")[12], *line.split("\t")[1:11]]) + "\n" for line in GENEPRED.splitlines()[1:]
)
TEXTS = {
    "a.gtf": GTF,
    "ensembl.gff3": ENSEMBL_GFF3,
    "ncbi.gff": NCBI_GFF3,
    "pred.txt": GENEPRED,
    "nobin.txt": WITHOUT_BIN,
    "refFlat.txt": REFFLAT,
}


def read(
    path: Path, text: str, *, tss_choice: str = "canonical", coordinates: str = "0-based"
) -> tuple[pd.DataFrame, dict]:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return read_annotation(path, tss_choice=tss_choice, table_coordinates=coordinates)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("name", TEXTS)
def test_every_format_gives_the_same_transcripts(name: str, suffix: str, tmp_path: Path) -> None:
    table, report = read(tmp_path / (name + suffix), TEXTS[name])
    columns = ["symbol", "strand", "start", "end", "is_coding", "exonic_bases"]
    exonic_bases_of_gene_3 = 100 if report["format"] == "genePred" else 0  # elsewhere it has no exon
    assert table[columns].to_numpy().tolist() == [
        ["GENE1", "+", 100, 400, True, 200],
        ["GENE1", "+", 50, 150, False, 100],
        ["GENE2", "-", 1000, 1300, True, 300],
        ["GENE3", "+", 2000, 2100, False, exonic_bases_of_gene_3],
    ]
    assert table["gene_is_coding"].tolist() == [True, True, True, False]
    tagged = {"a.gtf": 0, "ncbi.gff": 0, "ensembl.gff3": 1}.get(name, 9)
    assert table["tag_rank"].tolist() == [tagged, 9, 9, 9]


def test_gtf_of_exons_only(tmp_path: Path) -> None:
    """As UCSC's genePredToGtf writes it."""
    text = "".join(line + "\n" for line in GTF.splitlines() if "\texon\t" in line)
    table, _ = read(tmp_path / "exons.gtf", text)
    assert table[["start", "end", "exonic_bases"]].to_numpy().tolist() == [
        [100, 400, 200],
        [50, 150, 100],
        [1000, 1300, 300],
    ]


TABLE = """gene_id\tsymbol\tchrom\tstrand\ttss_median\ttss_5prime_most\tprotein_coding
ENSG00000000001\tGENE1\tchr1\t+\t101\t51\tTrue
ENSG00000000002\tGENE2\tchr2\t-\t1300\t1300\tFalse
"""


def test_table(tmp_path: Path) -> None:
    table, report = read(tmp_path / "t.tsv", TABLE, tss_choice="median", coordinates="1-based")
    assert table["start"].tolist() == [100, 1299]
    assert table["gene_is_coding"].tolist() == [True, False]
    assert not report["has_one_tss"]
    table, _ = read(tmp_path / "t.tsv.gz", TABLE, tss_choice="five_prime_most")
    assert table["start"].tolist() == [51, 1300]
    with pytest.raises(ValueError, match=r'for tss_choice="canonical" tss\. tss_choice="five_prime_most" reads'):
        read(tmp_path / "t.tsv", TABLE)


def test_table_with_one_tss_for_all_choices(tmp_path: Path) -> None:
    text = "gene_id,contig,strand,tss\nA,1,+,5\nB,1,.,7\n"
    table, report = read(tmp_path / "t.csv", text, tss_choice="longest")
    assert table[["symbol", "start"]].to_numpy().tolist() == [["A", 5]]
    assert report["has_one_tss"]
    assert report["transcripts without a strand"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("hello world\n", "format of its first line is unknown: 'hello world'"),
        (GTF.replace("2\tsim\texon\t1001", "2\tsim\texon\tx"), r"line 10: expected 9 tab-separated"),
        (GTF.replace('gene_id "ENSG00000000002"; transcript_id', "transcript_id"), "line 9: no gene_id"),
        (GENEPRED.replace("1000,\t1300,", "1000,1100,\t1300,"), "line 4: not a line of genePred"),
        (TABLE.replace("\t51\t", "\tx\t"), "line 2: tss_5prime_most is 'x'"),
        ("##gff-version 3\n1\ta\tregion\t1\t9\t.\t+\t.\tID=r\n", "holds no gene or transcript"),
    ],
)
def test_broken_files_are_named_with_the_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "broken", text, tss_choice="five_prime_most")


def test_missing_and_truncated_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no annotation at"):
        read_annotation(tmp_path / "none.gtf", tss_choice="canonical", table_coordinates="0-based")
    (tmp_path / "cut.gtf.gz").write_bytes(gzip.compress(GTF.encode() * 50)[:-20])
    with pytest.raises(ValueError, match="damaged, truncated"):
        read_annotation(tmp_path / "cut.gtf.gz", tss_choice="canonical", table_coordinates="0-based")
