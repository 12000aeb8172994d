"""Where genes begin: one transcription start site (TSS) a gene, from GTF, GFF3, UCSC genePred or a table.

The paper ("Multi-modal single-cell foundation models via dynamic token adaptation") centres its windows on "the TSS" of
each gene without saying which transcript's; for GATA4 two common choices differ by 27 kb. So the choice is an option.
Positions are 0-based here, whatever the file's are.
"""

import gzip
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from .annotation_formats import FROM_TABLE, read_annotation, recognise_format
from .genomes import contig_alias

logger = logging.getLogger(__name__)

TSSChoice = Literal["canonical", "most_common", "five_prime_most", "median", "longest"]
TSS_COLUMNS = ["gene_id", "symbol", "contig", "strand", "tss", "is_protein_coding", "n_transcripts"]
SPAN_COLUMNS = ["gene_id", "symbol", "contig", "strand", "start", "end"]
ONE_PLACE_BP = 100_000  # transcripts of one gene that lie further apart are of several places

_ENSEMBL_VERSION = re.compile(r"^(ENS[A-Z]*\d{6,})\.\d+(_PAR_Y)?$")
_ENSEMBL_GENE = re.compile(r"^ENS[A-Z]*G\d{6,}$")
# Other versions of loci that the primary assembly has too; chrUn and *_random are sequence of their own.
_ALTERNATIVE_CONTIG = re.compile(r"_(?:alt|fix|hap\d+)$")


def read_tss(
    path: str | Path,
    *,
    tss_choice: TSSChoice = "canonical",
    gene_symbols: Mapping[str, str] | str | Path | None = None,
    protein_coding_only: bool = False,
    alternative_contigs: Literal["drop", "keep"] = "drop",
    table_coordinates: Literal["0-based", "1-based"] = "0-based",
) -> pd.DataFrame:
    """Read an annotation, plain or gzip, and choose each gene's TSS.

    A gene found on several contigs is taken from one: an assembled chromosome before other contigs, X before Y, then
    the contig with most of its transcripts. On both strands: from the one with most of its transcripts.

    Args:
        path: GTF, GFF3 (Ensembl, GENCODE or NCBI), genePred or refFlat (with or without UCSC's bin column), or a table
            with a header: gene_id, contig (or chrom), strand, and tss, tss_5prime_most or tss_median; optionally symbol
            and protein_coding. The format is recognised by the content.
        tss_choice: `canonical`: of the transcript tagged MANE Select, else Ensembl canonical or RefSeq Select, else
            APPRIS principal; where none is tagged, the TSS that most of the gene's coding transcripts share (all of
            them, if none is coding). `most_common`: the one that most transcripts share. `five_prime_most`: the
            first in the direction of transcription. `median`: of the transcripts' TSSs in that direction, the upstream
            one of an even number. `longest`: of the transcript with most exonic bases. Ties go to the most upstream.
            A table has columns for some of these, or a column `tss` that answers for all.
        gene_symbols: symbol -> gene id, as a mapping or a JSON file (.gz too), for annotations that know symbols only;
            genes whose symbol it lacks are dropped.
        protein_coding_only: keep genes that the file says are protein-coding.
        alternative_contigs: what to do with UCSC's *_alt, *_fix and *_hap contigs.
        table_coordinates: of a table's TSS columns. All other formats say it themselves.

    Returns:
        One row a gene, in the file's order: gene_id (Ensembl version removed), symbol, contig (the file's name),
        strand, tss (0-based position of the first transcribed base), is_protein_coding (None where unknown),
        n_transcripts. `attrs["report"]` counts what was read, merged and dropped.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: on an unknown format, a broken line (named), a table without the chosen column, no gene left.
    """
    if tss_choice not in get_args(TSSChoice):
        raise ValueError(f"tss_choice is {tss_choice!r}; expected one of {', '.join(get_args(TSSChoice))}")
    if alternative_contigs not in ("drop", "keep"):
        raise ValueError(f'alternative_contigs is {alternative_contigs!r}; expected "drop" or "keep"')
    path = Path(path)
    transcripts, report = read_annotation(path, tss_choice=tss_choice, table_coordinates=table_coordinates)
    report |= {
        "tss_choice": FROM_TABLE if report.pop("has_one_tss", False) else tss_choice,
        "dropped": {},
        "merged": {},
    }
    transcripts["gene_id"] = transcripts["gene_id"].str.replace(_ENSEMBL_VERSION, r"\1", regex=True)
    if gene_symbols is not None:
        transcripts = _map_symbols(transcripts, _read_symbols(gene_symbols), report)
    if alternative_contigs == "drop":
        is_alternative = transcripts["contig"].str.contains(_ALTERNATIVE_CONTIG)
        transcripts = _keep(transcripts, ~is_alternative, "genes on alternative contigs only", report)
    if protein_coding_only:
        transcripts = _keep_protein_coding(path, transcripts, report)
    if transcripts.empty:
        raise ValueError(f"{path}: no gene is left; dropped: {report['dropped'] or 'none, the file holds none'}")
    genes = _choose_tss(_one_strand(_one_contig(transcripts, report), report), tss_choice)
    report["genes"] = len(genes)
    genes.attrs["report"] = report
    logger.info("%s: %s", path, report)
    return genes


def recorded_choice(recorded: str) -> Any:
    """The `tss_choice` by which an annotation is read again, from what its first reading recorded.

    Of a table with one TSS a gene, which is recorded as such, every choice gives the same.
    """
    return "canonical" if recorded == FROM_TABLE else recorded


def read_gene_spans(
    path: str | Path,
    *,
    gene_symbols: Mapping[str, str] | str | Path | None = None,
    named_by: Literal["id", "symbol"] = "id",
) -> pd.DataFrame:
    """Read where genes lie, from the first to the last base of their transcripts.

    Contig and strand of a gene are chosen as `read_tss` does, alternative contigs left out; of transcripts more than
    `ONE_PLACE_BP` apart (copies under one name), the place with most of them is taken, else the first.

    Args:
        path: GTF, GFF3 or genePred, plain or gzip; recognised by the content.
        gene_symbols: as `read_tss`.
        named_by: what tells one gene from another, and stands in `gene_id`: the file's ids, or its symbols.

    Returns:
        One row a gene, in the file's order: gene_id (Ensembl version removed), symbol, contig (the file's name),
        strand, start, end (0-based half-open). `attrs["report"]` counts what was read, merged and dropped.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: on an unknown format, a table of TSSs, a broken line (named), no gene left.
    """
    if named_by not in ("id", "symbol"):
        raise ValueError(f'named_by is {named_by!r}; expected "id" or "symbol"')
    path = Path(path)
    if path.is_file() and recognise_format(path) == "table":
        raise ValueError(f"{path} is a table of TSSs, without the ends of genes; expected GTF, GFF3 or genePred")
    transcripts, report = read_annotation(path, tss_choice="canonical", table_coordinates="0-based")
    report = {name: value for name, value in report.items() if name != "has_one_tss"} | {"dropped": {}, "merged": {}}
    transcripts["gene_id"] = transcripts["gene_id"].str.replace(_ENSEMBL_VERSION, r"\1", regex=True)
    if named_by == "symbol":
        transcripts["gene_id"] = transcripts["symbol"].where(transcripts["symbol"] != "", transcripts["gene_id"])
    elif gene_symbols is not None:
        transcripts = _map_symbols(transcripts, _read_symbols(gene_symbols), report)
    is_alternative = transcripts["contig"].str.contains(_ALTERNATIVE_CONTIG)
    transcripts = _keep(transcripts, ~is_alternative, "genes on alternative contigs only", report)
    if transcripts.empty:
        raise ValueError(f"{path}: no gene is left; dropped: {report['dropped'] or 'none, the file holds none'}")
    placed = _one_place(_one_strand(_one_contig(transcripts, report), report), report)
    ends = {"symbol": "first", "contig": "first", "strand": "first", "start": "min", "end": "max"}
    genes = placed.groupby("gene_id", sort=False).agg(ends).reset_index()[SPAN_COLUMNS]
    report["genes"] = len(genes)
    genes.attrs["report"] = report
    logger.info("%s: %s", path, report)
    return genes


def _choose_tss(transcripts: pd.DataFrame, tss_choice: TSSChoice) -> pd.DataFrame:
    """One row a gene, in order of first appearance, from transcripts that are on one strand of one contig."""
    is_plus = transcripts["strand"] == "+"
    tss = np.where(is_plus, transcripts["start"], transcripts["end"] - 1)
    table = transcripts.assign(tss=tss, downstream=np.where(is_plus, tss, -tss))
    by_gene = table.groupby("gene_id", sort=False)
    table["order"] = by_gene.ngroup()
    table["n_transcripts"] = by_gene["tss"].transform("size")
    table["is_protein_coding"] = table["gene_is_coding"]
    if tss_choice == "median":
        table = table.sort_values(["order", "downstream"], kind="stable")
        rank = table.groupby("order").cumcount()
        table = table[rank == (table["n_transcripts"] - 1) // 2]
    else:
        table = table.sort_values(["order", *_sort_keys(table, tss_choice)], kind="stable").drop_duplicates("order")
    return table[TSS_COLUMNS].reset_index(drop=True)


def _sort_keys(table: pd.DataFrame, tss_choice: TSSChoice) -> list[str]:
    """Add the columns by which the chosen transcript of each gene comes first, and name them."""
    table["not_coding"] = ~table["is_coding"]
    table["not_shared"] = -table.groupby(["order", "tss"])["tss"].transform("size")
    table["not_shared_in_class"] = -table.groupby(["order", "not_coding", "tss"])["tss"].transform("size")
    table["not_long"] = -table["exonic_bases"]
    keys: dict[str, list[str]] = {
        "canonical": ["tag_rank", "not_coding", "not_shared_in_class"],
        "most_common": ["not_shared"],
        "five_prime_most": [],
        "longest": ["not_long"],
    }
    return [*keys[tss_choice], "downstream"]


def _one_contig(transcripts: pd.DataFrame, report: dict) -> pd.DataFrame:
    places = transcripts.groupby(["gene_id", "contig"], sort=False).size().reset_index(name="n")
    alias = places["contig"].map({contig: contig_alias(contig) for contig in places["contig"].unique()})
    places["is_unplaced"] = places["contig"].str.contains("_", regex=False) & ~places["contig"].str.startswith("NC_")
    places["is_y"] = alias == "Y"
    places["fewer"] = -places["n"]
    places = places.sort_values(["is_unplaced", "is_y", "fewer"], kind="stable").drop_duplicates("gene_id")
    chosen = transcripts["gene_id"].map(places.set_index("gene_id")["contig"])
    others = transcripts.loc[transcripts["contig"] != chosen, "gene_id"].nunique()
    if others:
        report["merged"]["genes on several contigs"] = int(others)
    return transcripts[transcripts["contig"] == chosen]


def _one_strand(transcripts: pd.DataFrame, report: dict) -> pd.DataFrame:
    counts = transcripts.groupby(["gene_id", "strand"], sort=False).size().reset_index(name="n")
    counts = counts.sort_values(["n", "strand"], ascending=[False, True], kind="stable").drop_duplicates("gene_id")
    chosen = transcripts["gene_id"].map(counts.set_index("gene_id")["strand"])
    both = transcripts.loc[transcripts["strand"] != chosen, "gene_id"].nunique()
    if both:
        report["merged"]["genes on both strands"] = int(both)
    return transcripts[transcripts["strand"] == chosen]


def _one_place(transcripts: pd.DataFrame, report: dict) -> pd.DataFrame:
    """Of transcripts on one strand of one contig."""
    table = transcripts.assign(row=np.arange(len(transcripts)), order=transcripts.groupby("gene_id").ngroup())
    table = table.sort_values(["order", "start"], kind="stable")
    reached = table.groupby("order")["end"].cummax().shift(fill_value=0)
    is_new = (table["start"] > reached + ONE_PLACE_BP) | (table["order"] != table["order"].shift())
    table["place"] = is_new.cumsum()
    places = table.groupby(["order", "place"]).size().reset_index(name="n")
    several = int(places["order"].duplicated(keep=False).groupby(places["order"]).any().sum())
    if several:
        report["merged"]["genes at several places of a contig"] = several
    chosen = places.sort_values(["order", "n"], ascending=[True, False], kind="stable").drop_duplicates("order")
    return transcripts.iloc[np.sort(table.loc[table["place"].isin(chosen["place"]), "row"].to_numpy())]


def _map_symbols(transcripts: pd.DataFrame, symbols: Mapping[str, str], report: dict) -> pd.DataFrame:
    """Give genes without an Ensembl id the id of their symbol."""
    gene_ids = transcripts["gene_id"].where(transcripts["gene_id"].str.match(_ENSEMBL_GENE))
    gene_ids = gene_ids.fillna(transcripts["symbol"].map(symbols)).fillna(transcripts["gene_id"].map(symbols))
    names = pd.DataFrame({"symbol": transcripts["symbol"], "gene_id": gene_ids}).drop_duplicates().dropna()
    merged = int((names.groupby("gene_id").size() > 1).sum())
    if merged:
        report["merged"]["gene ids of several symbols"] = merged
    kept = _keep(transcripts, gene_ids.notna(), "genes whose symbol has no gene id", report)
    return kept.assign(gene_id=gene_ids[gene_ids.notna()])


def _keep_protein_coding(path: Path, transcripts: pd.DataFrame, report: dict) -> pd.DataFrame:
    if transcripts["gene_is_coding"].isna().all():
        raise ValueError(
            f"{path} does not say which genes are protein-coding: a table needs a column protein_coding; or leave out "
            "protein_coding_only"
        )
    return _keep(transcripts, transcripts["gene_is_coding"].eq(True), "genes not protein-coding", report)


def _keep(transcripts: pd.DataFrame, is_kept: pd.Series, reason: str, report: dict) -> pd.DataFrame:
    """The rows that are kept; genes that lose all their rows are counted under the reason."""
    lost = set(transcripts["gene_id"]) - set(transcripts.loc[is_kept, "gene_id"])
    if lost:
        report["dropped"][reason] = len(lost)
    return transcripts[is_kept].copy()


def _read_symbols(gene_symbols: Mapping[str, str] | str | Path) -> Mapping[str, str]:
    if isinstance(gene_symbols, Mapping):
        return gene_symbols
    path = Path(gene_symbols)
    data = path.read_bytes()
    try:
        symbols = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}); expected an object of symbol: gene id") from error
    if not isinstance(symbols, dict):
        raise ValueError(f"{path} holds a JSON {type(symbols).__name__}; expected an object of symbol: gene id")
    return symbols
