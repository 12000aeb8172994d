"""Windows of genes to edit: in the order asked for, laid as the model says, on a toy genome that can be read by eye."""

from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest

from omics_transformers.data_scripts.annotations import TSSChoice, read_tss
from omics_transformers.promoter_windows import WindowLayout, opened_promoters

SEQUENCE = "ACGTTGCAAC" * 20
ROWS = [("G1", "ONE", "+", 61, 90), ("G2", "TWO", "-", 101, 150)]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "genome.fa").write_text(f">1\n{SEQUENCE}\n")
    line = 'chr1\tx\ttranscript\t{}\t{}\t.\t{}\t.\tgene_id "{}"; gene_name "{}"; transcript_id "T{}";\n'
    lines = [line.format(first, last, strand, gene, name, gene) for gene, name, strand, first, last in ROWS]
    (tmp_path / "genes.gtf").write_text("".join(lines))
    return tmp_path / "genome.fa", tmp_path / "genes.gtf"


def test_windows_by_id_and_by_symbol_in_the_order_given(files: tuple[Path, Path]) -> None:
    with opened_promoters(["TWO", "G1"], *files, WindowLayout(20)) as (genome, (second, first)):
        assert genome.resolve(second.contig) == "1"
    assert (second.gene_id, second.symbol, second.strand, second.tss) == ("G2", "TWO", "-", 149)
    assert second.sequence == SEQUENCE[139:159] and first.sequence == SEQUENCE[50:70]
    assert second.strand_in_window == "-" and second.place()["tss_1_based"] == 150


def test_a_window_that_is_turned_round_shows_the_gene_on_plus(files: tuple[Path, Path]) -> None:
    with opened_promoters(["G2"], *files, WindowLayout(20, orient_by_strand=True)) as (_, (promoter,)):
        turned = SEQUENCE[140:160].translate(str.maketrans("ACGT", "TGCA"))[::-1]
    assert promoter.sequence == turned and promoter.strand_in_window == "+" and promoter.start == 140


def test_a_table_with_one_tss_a_gene_is_read_again_as_its_features_recorded(files: tuple[Path, Path]) -> None:
    annotation = files[1].with_name("one.tsv")
    annotation.write_text("gene_id\tsymbol\tcontig\tstrand\ttss\nG1\tONE\t1\t+\t60\n")
    recorded = read_tss(annotation).attrs["report"]["tss_choice"]
    assert recorded not in get_args(TSSChoice)
    with opened_promoters(["G1"], files[0], annotation, WindowLayout(20, recorded)) as (_, (promoter,)):
        assert promoter.sequence == SEQUENCE[50:70]


def test_names_that_no_gene_has(files: tuple[Path, Path]) -> None:
    with (
        pytest.raises(ValueError, match=r"0 genes of .*'THREE'; expected one"),
        opened_promoters(["G1", "THREE"], *files, WindowLayout(20)),
    ):
        pass


def test_a_symbol_that_two_genes_have(files: tuple[Path, Path]) -> None:
    annotation = files[1].with_name("tss.tsv")
    annotation.write_text("gene_id\tsymbol\tcontig\tstrand\ttss\nA\tSAME\t1\t+\t60\nB\tSAME\t1\t-\t149\n")
    with opened_promoters(["B"], files[0], annotation, WindowLayout(20)) as (_, (promoter,)):
        assert promoter.sequence == SEQUENCE[139:159]
    with (
        pytest.raises(ValueError, match=r"2 genes of .*'SAME'; expected one"),
        opened_promoters(["SAME"], files[0], annotation, WindowLayout(20)),
    ):
        pass


def test_the_layout_is_the_models() -> None:
    metadata = {"window_bp": "512", "tss_choice": "longest", "orient_by_strand": "True"}
    model = SimpleNamespace(config=SimpleNamespace(gene_features_metadata=metadata))
    assert WindowLayout.of_model(model) == WindowLayout(512, "longest", True)
    for config in (SimpleNamespace(gene_features_metadata=None), SimpleNamespace()):
        with pytest.raises(ValueError, match="no window_bp, tss_choice, orient_by_strand"):
            WindowLayout.of_model(SimpleNamespace(config=config))
