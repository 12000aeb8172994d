"""Known targets: read and refused before anything is computed, and compared with tables and co-expression."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from omics_transformers.known_targets import COEXPRESSION, compare_targets, read_known_targets, read_links
from omics_transformers.modeling.tokenization_gene_rank import GeneRankTokenizer

GENES = [f"ENSG{number:011d}" for number in range(30)]
TARGETS = GENES[1:7]


@pytest.fixture
def tokenizer() -> GeneRankTokenizer:
    tokens = {token: number for number, token in enumerate(["<pad>", "<mask>", *GENES])}
    symbols = {gene: f"SYM{number}" for number, gene in enumerate(GENES)}
    return GeneRankTokenizer.from_dictionaries(tokens, dict.fromkeys(GENES, 1.0), symbols)


def cells() -> anndata.AnnData:
    """Targets follow gene 0; the others do not."""
    random = np.random.default_rng(0)
    activity = random.gamma(1.0, 2.0, (80, 1))
    rates = np.where(np.isin(GENES, [GENES[0], *TARGETS]), activity, 2.0)
    return anndata.AnnData(random.poisson(rates).astype(np.float32), var=pd.DataFrame(index=GENES))


def genes_of(order: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"gene_id": order, "symbol": "", "shift": np.linspace(1, 0, len(order))})


def test_models_and_coexpression_side_by_side(tokenizer: GeneRankTokenizer, tmp_path: Path) -> None:
    (tmp_path / "targets.txt").write_text("\n".join(f"SYM{number}" for number in range(1, 7)))
    genes_of(GENES[:0:-1]).to_csv(tmp_path / "other.tsv", sep="\t", index=False)
    known = read_known_targets(
        tmp_path / "targets.txt",
        {"other": tmp_path / "other.tsv"},
        tokenizer=tokenizer,
        model="mine",
        cells=cells(),
        coexpression=True,
        top_k=[5],
    )
    assert known is not None
    recovery = compare_targets(
        known, genes_of(GENES[1:]), model="mine", edited=[GENES[0]], cells=cells(), tokenizer=tokenizer
    )
    precision = recovery.scores.set_index("model")["average_precision"]
    assert precision["mine"] == 1 and precision["other"] < 0.3 and precision[COEXPRESSION] > 0.9
    assert set(recovery.top_k["k"]) == {5}


def test_several_edited_genes_have_a_coexpression_each(tokenizer: GeneRankTokenizer) -> None:
    known = read_known_targets(
        {"targets": TARGETS}, None, tokenizer=tokenizer, model="mine", cells=cells(), coexpression=True
    )
    assert known is not None
    edited = [GENES[0], GENES[9]]
    table = genes_of([gene for gene in GENES if gene not in edited])
    recovery = compare_targets(known, table, model="mine", edited=edited, cells=cells(), tokenizer=tokenizer)
    assert set(recovery.scores["model"]) == {"mine", "co-expression with SYM0", "co-expression with SYM9"}


def test_no_targets_is_no_comparison(tokenizer: GeneRankTokenizer) -> None:
    assert read_known_targets(None, None, tokenizer=tokenizer, model="mine", cells="cells.h5ad") is None


def test_what_is_refused(tokenizer: GeneRankTokenizer, tmp_path: Path) -> None:
    pd.DataFrame({"gene": ["A"]}).to_csv(tmp_path / "odd.tsv", sep="\t", index=False)

    def refused(message: str, targets: object = {"t": TARGETS}, compare: object = None, **options: object) -> None:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            read_known_targets(targets, compare, tokenizer=tokenizer, model="mine", cells=tmp_path, **options)  # type: ignore[arg-type]

    refused("need targets", None, {"other": "x.tsv"})
    refused("need targets", None, coexpression=True)
    refused("holds ranked cells", coexpression=True)
    refused("the name 'mine' .* is this model's", compare={"mine": "x.tsv"})
    refused("no table of genes of other at", compare={"other": "absent.tsv"})
    refused("has no gene_id and shift", compare={"other": tmp_path / "odd.tsv"})
    refused("is in the vocabulary", {"t": ["nothing"]})


def test_links_with_a_header_and_as_trrust_has_them(tmp_path: Path) -> None:
    (tmp_path / "truth.tsv").write_text("factor\ttarget\tweight\nA\tB\t1\n")
    (tmp_path / "trrust.tsv").write_text("A\tB\tActivation\t123\nC\tD\tUnknown\t4\n")
    (tmp_path / "named.tsv").write_text("target\tsource\nB\tA\n")
    assert read_links(tmp_path / "truth.tsv").to_dict("list") == {"source": ["A"], "target": ["B"]}
    assert read_links(tmp_path / "trrust.tsv").to_dict("list") == {"source": ["A", "C"], "target": ["B", "D"]}
    assert read_links(tmp_path / "named.tsv").to_dict("list") == {"source": ["A"], "target": ["B"]}
    (tmp_path / "one.tsv").write_text("A\nB\n")
    with pytest.raises(ValueError, match="has 1 column"):
        read_links(tmp_path / "one.tsv")
    with pytest.raises(FileNotFoundError, match="no table of links"):
        read_links(tmp_path / "absent.tsv")
