"""Which genes a build has: shared ones or a list, by ids or symbols, with their loci; every loss is counted."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from omics_transformers.data_scripts.multiome_genes import (
    GeneNaming,
    choose_genes,
    read_gene_list,
    read_symbol_table,
    resolve_columns,
)

IDS = [f"ENSG{number:011d}" for number in range(6)]
TABLE = dict(zip("abcdef", IDS, strict=True))


def features(index: list[str], **columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.Index(index))


def annotation(folder: Path, rows: list[tuple[str, str, str, int, int, str]]) -> Path:
    path = folder / "genes.gtf"
    lines = [
        f'{contig}\tx\ttranscript\t{start + 1}\t{end}\t.\t{strand}\t.\tgene_id "{gene}"; transcript_id "T{number}"; '
        f'gene_name "{name}";'
        for number, (gene, name, contig, start, end, strand) in enumerate(rows)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_genes_that_all_have_without_ids_of_several_symbols(tmp_path: Path) -> None:
    naming = GeneNaming()
    files = {
        "one": resolve_columns(
            features([*"abcde", "x"], gene_ids=[f"{gene}.2" for gene in IDS[:5]] + [IDS[5]]), naming, source="one"
        ),
        "two": resolve_columns(features(IDS[:5], symbol=["a", "other", "c", "d", "e"]), naming, source="two"),
    }
    path = annotation(
        tmp_path, [(gene, name, "chr1", 100, 200, "+") for name, gene in TABLE.items() if name not in "cd"]
    )
    chosen = choose_genes(files, naming, annotation=path)
    assert chosen.gene_ids == [IDS[0], IDS[4]] and chosen.symbols == ["a", "e"]
    assert chosen.report["not in all data sets, left out"] == 1
    assert chosen.report["of several symbols, left out"] == [IDS[1]]
    assert chosen.report["not in the annotation, left out"] == [IDS[2], IDS[3]]
    assert chosen.loci is not None and chosen.loci.start.tolist() == [100, 100]
    np.testing.assert_array_equal(chosen.columns_of(files["one"]), [0, -1, -1, -1, 1, -1])
    kept = choose_genes(files, naming, gene_list=[IDS[5], IDS[1]])
    assert kept.gene_ids == [IDS[5], IDS[1]] and kept.report["missing in a data set"] == {"one": 0, "two": 1}
    assert kept.report["of several symbols, kept since listed"] == 1


def test_symbols_become_ids_by_a_table_and_columns_of_one_gene_are_found() -> None:
    naming = GeneNaming("ids", {**TABLE, "alias": IDS[0]})
    files = {
        "ids": resolve_columns(features(IDS), naming, source="ids"),
        "symbols": resolve_columns(features(["b", "alias", "a", "nowhere"]), naming, source="symbols"),
    }
    chosen = choose_genes(files, naming)
    # The symbols file writes two symbols for one id.
    assert chosen.gene_ids == [IDS[1]] and chosen.report["of several symbols, left out"] == [IDS[0]]


def test_genes_can_be_named_by_symbols(tmp_path: Path) -> None:
    naming = GeneNaming("symbols")
    files = {
        "index": resolve_columns(features([*"abc"], gene_ids=IDS[:3]), naming, source="index"),
        "column": resolve_columns(features(IDS[1:4], gene_symbols=[*"bcd"]), naming, source="column"),
    }
    path = annotation(tmp_path, [(gene, name, "1", 5, 9, "-") for name, gene in TABLE.items()])
    chosen = choose_genes(files, naming, annotation=path)
    assert chosen.gene_ids == chosen.symbols == ["b", "c"]
    with pytest.raises(ValueError, match=r"names genes by ids .* has no column of symbols"):
        resolve_columns(features(IDS), naming, source="ids")


def test_without_rna_the_annotation_has_the_genes(tmp_path: Path) -> None:
    path = annotation(tmp_path, [(gene, name, "NC_000020.11", 5, 9, "-") for name, gene in TABLE.items()])
    chosen = choose_genes({}, GeneNaming(), annotation=path)
    assert chosen.gene_ids == IDS and chosen.symbols == [*"abcdef"]
    assert chosen.loci is not None and set(chosen.loci.contig) == {"20"}
    with pytest.raises(ValueError, match="which genes are meant"):
        choose_genes({}, GeneNaming())


def test_what_cannot_be_told_is_refused(tmp_path: Path) -> None:
    naming = GeneNaming()
    ids = resolve_columns(features(IDS), naming, source="ids")
    symbols = resolve_columns(features([*"abc"]), naming, source="symbols")
    mouse = resolve_columns(features(["ENSMUSG00000000001"]), naming, source="mouse")
    with pytest.raises(ValueError, match=r"ids names genes by Ensembl ids, symbols does not \(a, b, c\)"):
        choose_genes({"ids": ids, "symbols": symbols}, naming)
    with pytest.raises(ValueError, match="no gene is in all of 2 data sets"):
        choose_genes({"ids": ids, "mouse": mouse}, naming)
    with pytest.raises(ValueError, match="mouse has none of the 6 genes listed"):
        choose_genes({"mouse": mouse}, naming, gene_list=IDS)
    path = annotation(tmp_path, [("ENSG00000099999", "a", "1", 5, 9, "-")])
    with pytest.raises(ValueError, match=r"none of 3 genes \(a, b, c\) is in .*genes.gtf \(ENSG00000099999\)"):
        choose_genes({"symbols": symbols}, naming, annotation=path)
    with pytest.raises(ValueError, match="gene_names is 'names'"):
        GeneNaming("names")  # type: ignore[arg-type]


def test_tables_and_lists(tmp_path: Path) -> None:
    table = tmp_path / "genes.tsv.gz"
    with gzip.open(table, "wt") as file:
        file.write("gene_id\tsymbol\n" + "".join(f"{gene}.1\t{name}\n" for name, gene in TABLE.items()))
        file.write(f"{IDS[5]}\ta\n\tempty\n{IDS[4]}\t\n")
    assert read_symbol_table(table) == TABLE
    (tmp_path / "genes.json").write_text(json.dumps(TABLE))
    assert read_symbol_table(tmp_path / "genes.json") == read_symbol_table(TABLE) == TABLE
    (tmp_path / "bad.tsv").write_text("name\tid\na\tb\n")
    with pytest.raises(ValueError, match="has the columns name, id; expected gene_id and symbol"):
        read_symbol_table(tmp_path / "bad.tsv")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_symbol_table(tmp_path / "nowhere.tsv")
    naming = GeneNaming("ids", TABLE)
    (tmp_path / "list.txt").write_text(f"b\n{IDS[3]}.7\n\na\n")
    assert read_gene_list(tmp_path / "list.txt", naming) == [IDS[1], IDS[3], IDS[0]]
    for genes, message in (
        (["a", "zz"], "lacks 1 of 2 genes, e.g. zz"),
        (["a", IDS[0]], f"1 of 2 genes are named more than once, e.g. {IDS[0]}"),
        ([], "names no gene"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            read_gene_list(genes, naming)
