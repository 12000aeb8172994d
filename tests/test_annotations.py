"""One TSS a gene: every choice, genes in several places, symbols, and the counts of what is dropped."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.annotation_formats import Transcript
from omics_transformers.data_scripts.annotations import TSSChoice, _choose_tss, read_gene_spans, read_tss


def genepred(path: Path, rows: list[tuple[str, str, str, int, int, bool]]) -> Path:
    """Rows of (symbol, contig, strand, start, end, coding)."""
    lines = []
    for number, (symbol, contig, strand, start, end, coding) in enumerate(rows):
        cds_end = end if coding else start
        fields = [0, f"T{number}", contig, strand, start, end, start, cds_end, 1, f"{start},", f"{end},", 0, symbol]
        lines.append("\t".join(map(str, [*fields, "cmpl", "cmpl", "0,"])))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("tss_choice", "plus", "minus"),
    [
        ("canonical", 300, 699),
        ("most_common", 200, 799),
        ("five_prime_most", 100, 899),
        ("median", 200, 799),
        ("longest", 100, 899),
    ],
)
def test_choices_on_both_strands(tss_choice: TSSChoice, plus: int, minus: int, tmp_path: Path) -> None:
    """The minus gene is the plus gene seen in a mirror at 500; only two of its five transcripts are coding."""
    starts = [(100, False), (200, False), (200, False), (300, True), (300, True), (200, False)]
    rows = [("PLUS", "chr1", "+", start, 500, coding) for start, coding in starts]
    rows += [("MINUS", "chr1", "-", 500, 1000 - start, coding) for start, coding in starts]
    genes = read_tss(genepred(tmp_path / "g.txt", rows), tss_choice=tss_choice)
    assert genes[["gene_id", "tss", "n_transcripts"]].to_numpy().tolist() == [["PLUS", plus, 6], ["MINUS", minus, 6]]


def test_tags_beat_everything_else(tmp_path: Path) -> None:
    gene, coding = 'gene_id "G"; gene_name "G";', 'transcript_type "protein_coding";'
    lines = [
        f'1\ts\ttranscript\t{start}\t900\t.\t+\t.\t{gene} transcript_id "{start}"; {coding} {tag}'
        for start, tag in (
            (11, ""),
            (11, ""),
            (21, 'tag "Ensembl_canonical";'),
            (31, 'tag "basic"; tag "MANE_Select";'),
        )
    ]
    (tmp_path / "a.gtf").write_text("\n".join(lines) + "\n")
    assert read_tss(tmp_path / "a.gtf")["tss"].tolist() == [30]
    (tmp_path / "b.gtf").write_text("\n".join(lines[:3]) + "\n")
    assert read_tss(tmp_path / "b.gtf")["tss"].tolist() == [20]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50), st.integers(1, 30)), min_size=1, max_size=12))
def test_choices_agree_with_a_plain_loop(rows: list[tuple[bool, int, int]]) -> None:
    """All on the plus strand: tag, start, exonic bases."""
    transcripts = pd.DataFrame(
        [
            ("G", "G", "1", "+", start, start + 100, coding, True, 9, exonic_bases)
            for coding, start, exonic_bases in rows
        ],
        columns=list(Transcript.__slots__),
    )
    starts = sorted(start for _, start, _ in rows)
    coding = sorted(start for is_coding, start, _ in rows if is_coding) or starts
    expected = {
        "five_prime_most": starts[0],
        "median": starts[(len(starts) - 1) // 2],
        "most_common": max(starts, key=lambda start: (starts.count(start), -start)),
        "canonical": max(coding, key=lambda start: (coding.count(start), -start)),
        "longest": min(rows, key=lambda row: (-row[2], row[1]))[1],
    }
    for choice, tss in expected.items():
        assert _choose_tss(transcripts, choice)["tss"].tolist() == [tss]  # type: ignore[arg-type]


def test_genes_in_several_places(tmp_path: Path) -> None:
    rows = [
        ("PAR", "chrY", "+", 10, 50, True),
        ("PAR", "chrX", "+", 20, 50, True),
        ("PATCHED", "chr1_gl1_fix", "+", 30, 50, True),
        ("PATCHED", "chr1", "+", 40, 50, True),
        ("ONLY_ALT", "chr6_cox_hap2", "+", 50, 60, True),
        ("UNPLACED", "chrUn_gl000220", "+", 60, 70, True),
        ("UNPLACED", "chr2", "+", 70, 80, False),
        ("TWO_STRANDS", "chr3", "-", 0, 90, False),
        ("TWO_STRANDS", "chr3", "+", 80, 90, True),
        ("TWO_STRANDS", "chr3", "+", 80, 90, True),
    ]
    path = genepred(tmp_path / "g.txt", rows)
    genes = read_tss(path)
    assert genes[["gene_id", "contig", "tss"]].to_numpy().tolist() == [
        ["PAR", "chrX", 20],
        ["PATCHED", "chr1", 40],
        ["UNPLACED", "chr2", 70],
        ["TWO_STRANDS", "chr3", 80],
    ]
    report = genes.attrs["report"]
    assert report["dropped"] == {"genes on alternative contigs only": 1}
    assert report["merged"] == {"genes on several contigs": 2, "genes on both strands": 1}
    assert "ONLY_ALT" in set(read_tss(path, alternative_contigs="keep")["gene_id"])
    coding = read_tss(path, protein_coding_only=True)
    assert len(coding) == 4  # one coding transcript makes the gene coding


def test_ensembl_versions_and_par_copies_are_one_gene(tmp_path: Path) -> None:
    lines = [
        f'chr{contig}\ts\ttranscript\t{start}\t900\t.\t+\t.\tgene_id "ENSG00000000001.{version}"; transcript_id "T";'
        for contig, start, version in (("Y", 11, "4_PAR_Y"), ("X", 21, "4"))
    ]
    (tmp_path / "a.gtf").write_text("\n".join(lines) + "\n")
    genes = read_tss(tmp_path / "a.gtf")
    assert genes[["gene_id", "contig", "tss"]].to_numpy().tolist() == [["ENSG00000000001", "chrX", 20]]


def test_symbols_become_gene_ids(tmp_path: Path) -> None:
    rows = [("A", "1", "+", 10, 90, True), ("OLD_A", "1", "+", 5, 90, True), ("C", "1", "+", 30, 90, True)]
    path = genepred(tmp_path / "g.txt", rows)
    symbols = {"A": "ENSG00000000001", "OLD_A": "ENSG00000000001"}
    (tmp_path / "symbols.json.gz").write_bytes(gzip.compress(json.dumps(symbols).encode()))
    for given_as in (symbols, tmp_path / "symbols.json.gz"):
        genes = read_tss(path, gene_symbols=given_as, tss_choice="five_prime_most")
        assert genes[["gene_id", "symbol", "tss"]].to_numpy().tolist() == [["ENSG00000000001", "OLD_A", 5]]
        assert genes.attrs["report"]["dropped"] == {"genes whose symbol has no gene id": 1}
        assert genes.attrs["report"]["merged"] == {"gene ids of several symbols": 1}


def test_errors_name_what_was_expected(tmp_path: Path) -> None:
    path = genepred(tmp_path / "g.txt", [("A", "1", "+", 10, 90, False)])
    with pytest.raises(ValueError, match=r"expected one of canonical, most_common"):
        read_tss(path, tss_choice="first")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no gene is left; dropped: \{'genes not protein-coding': 1\}"):
        read_tss(path, protein_coding_only=True)
    (tmp_path / "t.tsv").write_text("gene_id\tcontig\tstrand\ttss\nA\t1\t+\t4\n")
    with pytest.raises(ValueError, match="does not say which genes are protein-coding"):
        read_tss(tmp_path / "t.tsv", protein_coding_only=True)
    (tmp_path / "symbols.json").write_text("[1]")
    with pytest.raises(ValueError, match="holds a JSON list"):
        read_tss(path, gene_symbols=tmp_path / "symbols.json")


@pytest.mark.real_data
def test_gata4_in_refseq(data_folder: Path) -> None:
    path = data_folder / "annotation/ncbiRefSeq_genePred.hg19.txt.gz"
    genes = read_tss(path, gene_symbols=data_folder / "genesets/geneformer_v1_symbol_to_ensembl.json.gz")
    gata4 = genes[genes["symbol"] == "GATA4"].iloc[0]
    assert (gata4["gene_id"], gata4["contig"], gata4["tss"]) == ("ENSG00000136574", "chr8", 11_561_710)
    assert genes["gene_id"].is_unique
    assert genes["gene_id"].str.fullmatch(r"ENSG\d{11}").all()


@pytest.mark.real_data
def test_gencode_chromosome_19(data_folder: Path) -> None:
    genes = read_tss(data_folder / "annotation/gencode.v29.chr19.hg38.gtf.gz")
    assert len(genes) == 2959
    assert genes.set_index("symbol").loc["KLF2", "tss"] == 16_324_816


def span_lines(rows: list[tuple[str, str, str, int, int, str]]) -> str:
    """GTF of a transcript each: gene, symbol, contig, start and end (0-based, half-open), strand."""
    return "".join(
        f'{contig}\tx\ttranscript\t{start + 1}\t{end}\t.\t{strand}\t.\tgene_id "{gene}"; transcript_id "T{number}"; '
        f'gene_name "{name}";\n'
        for number, (gene, name, contig, start, end, strand) in enumerate(rows)
    )


def test_spans_reach_over_the_transcripts_of_one_place(tmp_path: Path) -> None:
    path = tmp_path / "genes.gtf"
    rows = [
        ("ENSG00000000001.3", "A", "chr1", 1_000, 2_000, "+"),
        ("ENSG00000000001.3", "A", "chr1", 50_000, 52_000, "+"),
        ("ENSG00000000001.3", "A", "chr1", 900_000, 901_000, "+"),  # a copy, far away
        ("ENSG00000000002.1", "B", "chrX", 500, 600, "-"),
        ("ENSG00000000002.1", "B", "chrY", 700, 800, "-"),
        ("ENSG00000000003.1", "A", "chr1_KI270762v1_alt", 5, 9, "+"),
        ("ENSG00000000004.1", "A", "chr1", 1_500, 60_000, "+"),
    ]
    path.write_text(span_lines(rows))
    spans = read_gene_spans(path)
    assert spans.to_numpy().tolist() == [
        ["ENSG00000000001", "A", "chr1", "+", 1_000, 52_000],
        ["ENSG00000000002", "B", "chrX", "-", 500, 600],
        ["ENSG00000000004", "A", "chr1", "+", 1_500, 60_000],
    ]
    assert spans.attrs["report"]["dropped"] == {"genes on alternative contigs only": 1}
    assert spans.attrs["report"]["merged"] == {
        "genes on several contigs": 1,
        "genes at several places of a contig": 1,
    }
    named = read_gene_spans(path, named_by="symbol")
    assert named["gene_id"].tolist() == ["A", "B"] and named["end"].tolist() == [60_000, 600]
    mapped = read_gene_spans(path, gene_symbols={"A": "ENSG00000000009"})
    assert mapped["gene_id"].tolist() == ["ENSG00000000001", "ENSG00000000002", "ENSG00000000004"]


def test_spans_need_the_ends_of_genes(tmp_path: Path) -> None:
    path = tmp_path / "tss.tsv"
    path.write_text("gene_id\tcontig\tstrand\ttss\nA\t1\t+\t5\n")
    with pytest.raises(ValueError, match="is a table of TSSs, without the ends of genes"):
        read_gene_spans(path)
    with pytest.raises(ValueError, match="named_by is 'name'"):
        read_gene_spans(path, named_by="name")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="no annotation at"):
        read_gene_spans(tmp_path / "nowhere.gtf")
