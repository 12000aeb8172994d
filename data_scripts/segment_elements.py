"""The 14 elements of SegmentNT, and the rules by which an annotation gives eight of them.

Every rule follows the strand of the transcript; labels lie on the plus strand's coordinates whatever the strand.

- protein_coding_gene, lncRNA: all bases of a gene, introns included, by its biotype: `protein_coding`; `lncRNA` and
  the biotypes that GENCODE 30 and earlier had in its place (lincRNA, antisense, ...). A gene's bases are those of
  its line, or, where it has none, of its transcripts. Files without biotypes (genePred): a gene is coding if any
  transcript of it has coding sequence; it is a lncRNA if none has, one of them is RefSeq's NR_ or XR_ with at least
  200 exonic bases, and its symbol is none of a small RNA (MIR, SNORD, SNORA, SCARNA, RNU, RNY, ribosomal, ...; host
  genes such as MIR17HG stay). RefSeq's transcribed pseudogenes are NR_ too and cannot be told apart: they count as
  lncRNA there.
- exon: the union of all exons of the transcripts. intron: between consecutive exons of one transcript; a base may be
  exon of one transcript and intron of another. Gaps below `minimum_intron_bp` are gaps of the alignment, no introns.
- splice_donor, splice_acceptor: the first (GT) and the last (AG) `splice_site_bp` bases of each intron, in the
  direction of transcription. Both belong to the intron.
- 5UTR, 3UTR: bases of exons before the start codon and behind the stop codon, of transcripts with coding sequence.

The other six, and any element besides, come from BED files: `segments.py`. Names and order: the published SegmentNT.
Deviation: its publication does not say how wide splice sites are; 2 bp is the default here.
"""

import re
from typing import Literal, get_args

import numpy as np
import pandas as pd

from .transcript_structures import TranscriptStructures

SEGMENT_ELEMENTS = (
    "protein_coding_gene",
    "lncRNA",
    "exon",
    "intron",
    "splice_donor",
    "splice_acceptor",
    "5UTR",
    "3UTR",
    "CTCF-bound",
    "polyA_signal",
    "enhancer_Tissue_specific",
    "enhancer_Tissue_invariant",
    "promoter_Tissue_specific",
    "promoter_Tissue_invariant",
)
TranscriptChoice = Literal["all", "protein_coding_and_lncRNA"]

_LNCRNA_BIOTYPES = {
    "lncRNA",
    "lincRNA",
    "antisense",
    "antisense_RNA",
    "sense_intronic",
    "sense_overlapping",
    "3prime_overlapping_ncRNA",
    "3prime_overlapping_ncrna",
    "bidirectional_promoter_lncRNA",
    "bidirectional_promoter_lncrna",
    "macro_lncRNA",
    "non_coding",
    "processed_transcript",
}
_SHORTEST_LNCRNA = 200  # exonic bases: the usual definition of a long RNA
_SMALL_RNA = re.compile(
    r"(?!.*HG\d*$)(?:MIR(?:LET)?\d|SNOR[AD]\d|SCARNA\d|RNV?U\d|RNY\d|RN7S|RNA\d|VTRNA|TR[A-Z]-|SNAR-|RMRP$|RPPH1$|MT-)"
)


def annotation_intervals(
    structures: TranscriptStructures,
    *,
    transcripts: TranscriptChoice = "all",
    maximum_level: int | None = None,
    splice_site_bp: int = 2,
    minimum_intron_bp: int = 20,
) -> tuple[dict[str, pd.DataFrame], dict]:
    """Intervals of each element that the annotation tells, by the rules above.

    Args:
        structures: from `read_transcript_structures`.
        transcripts: which transcripts give exons, introns, splice sites and UTRs: all, or those of protein-coding
            genes and lncRNAs, without pseudogenes and small RNAs.
        maximum_level: leave out genes and transcripts of a higher GENCODE level: 2 keeps what people have looked
            at, as in the publication of SegmentNT.
        splice_site_bp: width of a splice site.
        minimum_intron_bp: the shortest gap between exons that is an intron.

    Returns:
        By element contig, start, end, possibly overlapping; elements that the file does not tell are absent. And a
        report: gaps too short for introns, transcripts not chosen.

    Raises:
        ValueError: for an unknown option, or a level asked of an annotation that has none.
    """
    if transcripts not in get_args(TranscriptChoice):
        raise ValueError(f"transcripts is {transcripts!r}; expected one of {', '.join(get_args(TranscriptChoice))}")
    if splice_site_bp < 1 or minimum_intron_bp < 2 * splice_site_bp:
        raise ValueError(
            f"splice_site_bp is {splice_site_bp} and minimum_intron_bp {minimum_intron_bp}: a splice site has at "
            "least 1 base, and an intron holds two"
        )
    rows, exons, genes = _of_level(structures, maximum_level)
    classes = _gene_classes(structures, rows, exons)
    report: dict = {}
    spans = _gene_spans(rows, genes, classes)
    intervals = {}
    if structures.says_biotypes or structures.says_coding:
        intervals["protein_coding_gene"] = spans[spans["class"] == "protein_coding_gene"]
    if structures.says_biotypes or structures.names_refseq:
        intervals["lncRNA"] = spans[spans["class"] == "lncRNA"]
    if transcripts == "protein_coding_and_lncRNA":
        is_chosen = _class_of(rows, classes) != ""
        exons = exons[is_chosen.loc[exons["transcript"]].to_numpy()]
        report["transcripts of other genes, left out"] = int((~is_chosen).sum())
    intervals["exon"] = _on_contigs(rows, exons)
    intervals |= _introns(rows, exons, splice_site_bp, minimum_intron_bp, report)
    if structures.says_coding:
        intervals |= _untranslated(rows, exons)
    return {name: table[["contig", "start", "end"]].reset_index(drop=True) for name, table in intervals.items()}, report


def _of_level(
    structures: TranscriptStructures, maximum_level: int | None
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Transcripts, exons and genes; the rows of `transcripts` keep their numbers, its exons may be gone."""
    rows, exons, genes = structures.transcripts, structures.exons, structures.genes
    if maximum_level is None:
        return rows, exons, genes
    if not rows["level"].any():
        raise ValueError(f"maximum_level is {maximum_level}, but the annotation has no levels: only GENCODE's have")
    is_kept = (rows["level"] <= maximum_level).to_numpy()
    return rows[is_kept], exons[is_kept[exons["transcript"].to_numpy()]], genes[genes["level"] <= maximum_level]


def _gene_classes(structures: TranscriptStructures, rows: pd.DataFrame, exons: pd.DataFrame) -> pd.Series:
    """(contig, gene_id) -> protein_coding_gene, lncRNA or ""; of genes with transcripts."""
    lengths = np.bincount(
        exons["transcript"], weights=exons["end"] - exons["start"], minlength=len(structures.transcripts)
    )
    names = rows["transcript_id"].str.match(r"[NX]R_\d")
    is_small = rows["symbol"].str.match(_SMALL_RNA)
    table = rows[["contig", "gene_id", "biotype"]].assign(
        is_coding=rows["coding_start"] >= 0,
        is_long=names & ~is_small & (lengths[rows.index.to_numpy(dtype=np.int64)] >= _SHORTEST_LNCRNA),
    )
    by_gene = table.groupby(["contig", "gene_id"]).agg({"biotype": "max", "is_coding": "any", "is_long": "any"})
    classes = np.where(by_gene["is_coding"], "protein_coding_gene", np.where(by_gene["is_long"], "lncRNA", ""))
    if structures.says_biotypes:
        classes = np.where(by_gene["biotype"] == "", classes, by_gene["biotype"].map(_class_of_biotype))
    return pd.Series(classes, index=by_gene.index, dtype=object)


def _class_of_biotype(biotype: str) -> str:
    if biotype == "protein_coding":
        return "protein_coding_gene"
    return "lncRNA" if biotype in _LNCRNA_BIOTYPES else ""


def _class_of(table: pd.DataFrame, classes: pd.Series) -> pd.Series:
    """The class of each row's gene; "" for genes without transcripts."""
    keys = pd.MultiIndex.from_frame(table[["contig", "gene_id"]])
    return pd.Series(classes.reindex(keys).fillna("").to_numpy(), index=table.index, dtype=object)


def _gene_spans(rows: pd.DataFrame, genes: pd.DataFrame, classes: pd.Series) -> pd.DataFrame:
    """Lines of genes, and the transcripts of genes that have no line: contig, start, end, class."""
    columns = ["contig", "gene_id", "start", "end"]
    own = genes[columns].assign(**{"class": genes["biotype"].map(_class_of_biotype).astype(object)})
    own["class"] = own["class"].where(genes["biotype"] != "", _class_of(genes, classes))
    have_line = pd.MultiIndex.from_frame(genes[["contig", "gene_id"]])
    others = rows[~pd.MultiIndex.from_frame(rows[["contig", "gene_id"]]).isin(have_line)]
    return pd.concat([own, others[columns].assign(**{"class": _class_of(others, classes)})], ignore_index=True)


def _on_contigs(rows: pd.DataFrame, parts: pd.DataFrame) -> pd.DataFrame:
    return parts.assign(contig=rows["contig"].loc[parts["transcript"]].to_numpy())


def _introns(
    rows: pd.DataFrame, exons: pd.DataFrame, splice_site_bp: int, minimum_intron_bp: int, report: dict
) -> dict[str, pd.DataFrame]:
    owner, starts, ends = (exons[name].to_numpy() for name in ("transcript", "start", "end"))
    follows = owner[1:] == owner[:-1]
    introns = pd.DataFrame({"transcript": owner[1:][follows], "start": ends[:-1][follows], "end": starts[1:][follows]})
    is_long = introns["end"] - introns["start"] >= minimum_intron_bp
    introns = _on_contigs(rows, introns)
    report[f"gaps between exons below {minimum_intron_bp} bp, no introns"] = len(
        introns[~is_long].drop_duplicates(["contig", "start", "end"])
    )
    introns = introns[is_long]
    is_plus = (rows["strand"].loc[introns["transcript"]] == "+").to_numpy()
    low = introns.assign(end=introns["start"] + splice_site_bp)
    high = introns.assign(start=introns["end"] - splice_site_bp)
    return {
        "intron": introns,
        "splice_donor": pd.concat([low[is_plus], high[~is_plus]]),
        "splice_acceptor": pd.concat([high[is_plus], low[~is_plus]]),
    }


def _untranslated(rows: pd.DataFrame, exons: pd.DataFrame) -> dict[str, pd.DataFrame]:
    own = rows.loc[exons["transcript"]]
    coding_start, coding_end = own["coding_start"].to_numpy(), own["coding_end"].to_numpy()
    is_coding, is_plus = coding_start >= 0, (own["strand"] == "+").to_numpy()
    exons = _on_contigs(rows, exons)
    low = exons.assign(end=np.minimum(exons["end"], coding_start))
    high = exons.assign(start=np.maximum(exons["start"], coding_end))
    is_low, is_high = (is_coding & (part["start"] < part["end"]).to_numpy() for part in (low, high))
    return {
        "5UTR": pd.concat([low[is_low & is_plus], high[is_high & ~is_plus]]),
        "3UTR": pd.concat([high[is_high & is_plus], low[is_low & ~is_plus]]),
    }
