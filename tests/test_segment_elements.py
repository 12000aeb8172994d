"""Intervals of every element against a walk along each transcript in plain Python, and the rules for genes."""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.genomes import open_genome, reverse_complement
from omics_transformers.data_scripts.segment_elements import SEGMENT_ELEMENTS, annotation_intervals
from omics_transformers.data_scripts.transcript_structures import TranscriptStructures, read_transcript_structures

LENGTH = 700
FROM_ANNOTATION = SEGMENT_ELEMENTS[:8]


@dataclass
class Planted:
    """A transcript of genePred: exons (start, end), coding (start, end) among the exonic positions, or nothing."""

    name: str
    gene: str
    exons: list[tuple[int, int]]
    strand: str
    coding: tuple[int, int] | None


@st.composite
def planted(draw: st.DrawFn) -> Planted:
    place, exons = draw(st.integers(0, 200)), []
    for _ in range(draw(st.integers(1, 4))):
        length = draw(st.integers(1, 60))
        exons.append((place, place + length))
        place += length + draw(st.integers(1, 50))
    positions = [base for start, end in exons for base in range(start, end)]
    first, last = sorted(draw(st.tuples(*[st.integers(0, len(positions) - 1)] * 2)))
    coding = (positions[first], positions[last] + 1) if draw(st.booleans()) else None
    name = "NM_1" if coding else draw(st.sampled_from(["NR_1", "XR_2", "ENST1"]))
    return Planted(name, draw(st.sampled_from(["A", "B", "MIR7", "SNORD3", "MIR7HG"])), exons, draw(strands), coding)


strands = st.sampled_from("+-")


def genepred(transcripts: list[Planted], contig: str = "1") -> str:
    lines = []
    for one in transcripts:
        span = (one.exons[0][0], one.exons[-1][1])
        coding = one.coding or (span[1], span[1])
        starts, ends = ("".join(f"{exon[side]}," for exon in one.exons) for side in (0, 1))
        lines.append(
            "\t".join(
                map(str, [one.name, contig, one.strand, *span, *coding, len(one.exons), starts, ends, 0, one.gene])
            )
        )
    return "\n".join(lines) + "\n"


def read(folder: Path, text: str) -> TranscriptStructures:
    (folder / "annotation").write_text(text)
    return read_transcript_structures(folder / "annotation")


def covered(intervals: dict[str, pd.DataFrame]) -> dict[str, set[int]]:
    return {
        name: {base for start, end in table[["start", "end"]].to_numpy() for base in range(start, end)}
        for name, table in intervals.items()
    }


def walk(transcripts: list[Planted], splice_site_bp: int, minimum_intron_bp: int) -> dict[str, set[int]]:
    """Bases of each element, one transcript after another, base after base in the direction of transcription."""
    bases: dict[str, set[int]] = {name: set() for name in FROM_ANNOTATION}
    for one in transcripts:
        of_gene = [other for other in transcripts if other.gene == one.gene]
        is_long = any(
            re.match("[NX]R_", other.name) and sum(end - start for start, end in other.exons) >= 200
            for other in of_gene
        )
        span = range(one.exons[0][0], one.exons[-1][1])
        if any(other.coding for other in of_gene):
            bases["protein_coding_gene"] |= set(span)
        elif is_long and one.gene not in ("MIR7", "SNORD3"):
            bases["lncRNA"] |= set(span)
        in_exon = {base for start, end in one.exons for base in range(start, end)}
        bases["exon"] |= in_exon
        for (_, start), (end, _) in zip(one.exons[:-1], one.exons[1:], strict=True):
            intron = list(range(start, end)) if one.strand == "+" else list(reversed(range(start, end)))
            if len(intron) >= minimum_intron_bp:
                bases["intron"] |= set(intron)
                bases["splice_donor"] |= set(intron[:splice_site_bp])
                bases["splice_acceptor"] |= set(intron[-splice_site_bp:])
        if one.coding:
            before, behind = ("5UTR", "3UTR") if one.strand == "+" else ("3UTR", "5UTR")
            bases[before] |= {base for base in in_exon if base < one.coding[0]}
            bases[behind] |= {base for base in in_exon if base >= one.coding[1]}
    return bases


@given(st.lists(planted(), min_size=1, max_size=5), st.integers(1, 5), st.integers(0, 30))
def test_elements_agree_with_a_walk_along_the_transcripts(
    tmp_path_factory: pytest.TempPathFactory, transcripts: list[Planted], splice_site_bp: int, more: int
) -> None:
    structures = read(tmp_path_factory.mktemp("x"), genepred(transcripts))
    minimum = 2 * splice_site_bp + more
    intervals, report = annotation_intervals(structures, splice_site_bp=splice_site_bp, minimum_intron_bp=minimum)
    expected = walk(transcripts, splice_site_bp, minimum)
    if not any(one.coding for one in transcripts):  # nothing then says which genes code, or where UTRs end
        assert not {"protein_coding_gene", "5UTR", "3UTR"} & set(intervals)
    if not any(re.match("[NX]R_", one.name) for one in transcripts):
        assert "lncRNA" not in intervals
    for name, bases in covered(intervals).items():
        assert bases == expected[name], name
    gaps = {
        (one[1], other[0])
        for exons in transcripts
        for one, other in zip(exons.exons[:-1], exons.exons[1:], strict=True)
    }
    assert report == {
        f"gaps between exons below {minimum} bp, no introns": sum(end - start < minimum for start, end in gaps)
    }


@pytest.mark.parametrize(
    ("name", "gene", "length", "is_lncrna"),
    [
        ("NR_1.1", "LINC1", 200, True),
        ("XR_1.1", "LOC1", 200, True),
        ("NR_1.1", "LINC1", 199, False),
        ("ENST1", "LINC1", 300, False),
        ("NR_1.1", "MIR17HG", 300, True),
        ("NR_1.1", "MIR4435-2HG", 300, True),
        ("NR_1.1", "SNHG5", 300, True),
        ("NR_1.1", "MIRLET7A1", 300, False),
        ("NR_1.1", "SNORA71", 300, False),
        ("NR_1.1", "RN7SL1", 300, False),
        ("NR_1.1", "RNA45SN1", 300, False),
        ("NR_1.1", "RMRP", 300, False),
        ("NR_1.1", "RNF5P1", 300, True),
    ],
)
def test_lncrnas_without_biotypes(name: str, gene: str, length: int, is_lncrna: bool, tmp_path: Path) -> None:
    other = Planted("NR_9.1", "OTHER", [(0, 10)], "+", None)  # so that the file names RefSeq's
    intervals, _ = annotation_intervals(
        read(tmp_path, genepred([Planted(name, gene, [(100, 100 + length)], "-", None), other]))
    )
    assert intervals["lncRNA"].to_numpy().tolist() == ([["1", 100, 100 + length]] if is_lncrna else [])


GTF = {
    "P": ("protein_coding", 1),
    "L": ("lncRNA", 2),
    "A": ("antisense", 3),
    "M": ("miRNA", 2),
    "Q": ("processed_pseudogene", 3),
}


def gtf() -> str:
    """Genes of 100 bp at 0, 200, ...; one transcript each, whose exons are the first and the last 20 bases."""
    lines = []
    for number, (gene, (biotype, level)) in enumerate(GTF.items()):
        first = 200 * number
        text = f'gene_id "{gene}"; gene_type "{biotype}"; level {level};'
        of_transcript = f'{text} transcript_id "T{gene}";'
        rows = [("gene", 1, 100, text), ("transcript", 11, 100, of_transcript)]
        rows += [("exon", 11, 30, of_transcript), ("exon", 81, 100, of_transcript)]
        lines += [f"1\tX\t{kind}\t{first + a}\t{first + b}\t.\t-\t.\t{names}\n" for kind, a, b, names in rows]
    return "".join(lines)


def test_genes_by_biotype(tmp_path: Path) -> None:
    intervals, _ = annotation_intervals(read(tmp_path, gtf()))
    assert not {"5UTR", "3UTR"} & set(intervals)  # the file has no coding sequence
    assert intervals["protein_coding_gene"].to_numpy().tolist() == [["1", 0, 100]]
    assert intervals["lncRNA"].to_numpy().tolist() == [["1", 200, 300], ["1", 400, 500]]
    assert len(intervals["intron"]) == len(GTF)
    assert intervals["splice_donor"].to_numpy().tolist()[0] == ["1", 78, 80]
    assert intervals["splice_acceptor"].to_numpy().tolist()[0] == ["1", 30, 32]


def test_transcripts_of_some_genes_only(tmp_path: Path) -> None:
    structures = read(tmp_path, gtf())
    intervals, report = annotation_intervals(structures, transcripts="protein_coding_and_lncRNA")
    assert sorted(intervals["intron"]["start"]) == [30, 230, 430]
    assert report["transcripts of other genes, left out"] == 2
    intervals, report = annotation_intervals(structures, transcripts="protein_coding_and_lncRNA", maximum_level=2)
    assert sorted(intervals["intron"]["start"]) == [30, 230]
    assert intervals["lncRNA"]["start"].tolist() == [200]
    assert sorted(annotation_intervals(structures, maximum_level=1)[0]["exon"]["start"]) == [10, 80]


def test_options_that_make_no_sense(tmp_path: Path) -> None:
    structures = read(tmp_path, genepred([Planted("NM_1", "A", [(5, 50)], "+", (10, 40))]))
    with pytest.raises(ValueError, match="only GENCODE's have"):
        annotation_intervals(structures, maximum_level=2)
    with pytest.raises(ValueError, match="expected one of all, protein_coding_and_lncRNA"):
        annotation_intervals(structures, transcripts="canonical")  # type: ignore[arg-type]
    for width, intron in ((0, 20), (11, 20)):
        with pytest.raises(ValueError, match="an intron holds two"):
            annotation_intervals(structures, splice_site_bp=width, minimum_intron_bp=intron)


@pytest.mark.real_data
def test_splice_sites_of_chromosome_20(data_folder: Path) -> None:
    """Donors are GT and acceptors AG in nearly all introns: strands and ends are right."""
    structures = read_transcript_structures(
        data_folder / "annotation/ncbiRefSeq_genePred.hg19.txt.gz",
        contig_names=lambda name: {"chr20": "20"}.get(name),
    )
    intervals, _ = annotation_intervals(structures)
    introns = intervals["intron"].drop_duplicates()
    assert 6_000 < len(introns) < 7_000
    strands = structures.transcripts["strand"].loc[structures.exons["transcript"]].to_numpy()
    # The strand of an intron by the exon that ends where it begins, from the table of exons alone.
    strand_of = dict(zip(structures.exons["end"], strands, strict=True))
    n_gt = n_ag = 0
    donors, acceptors = (
        {tuple(place) for place in intervals[name][["start", "end"]].to_numpy().tolist()}
        for name in ("splice_donor", "splice_acceptor")
    )
    with open_genome(data_folder / "genome/chr20.GRCh37.fa.gz") as genome:
        for start, end in introns[["start", "end"]].to_numpy().tolist():
            bases = genome.fetch("20", start, end)
            first, last = (start, start + 2), (end - 2, end)
            if strand_of[start] == "-":
                bases, first, last = reverse_complement(bases), last, first
            assert first in donors and last in acceptors
            n_gt += bases[:2] == b"GT"
            n_ag += bases[-2:] == b"AG"
    assert n_gt / len(introns) > 0.98
    assert n_ag / len(introns) > 0.99
