"""Gene rank tokens against a plain per-cell formula, their invariants, and the tokenizer through save and load."""

import gzip
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse
from transformers import AutoTokenizer

from omics_transformers.modeling.tokenization_gene_rank import GeneRankTokenizer, strip_version

GENES = [f"ENSG{number:011d}" for number in range(1, 9)]
MEDIANS = [1.0, 2.0, 0.5, 1.0, 3.0, 0.25, 1.5, 7.0]


def make_tokenizer(special_tokens: tuple[str, ...] = ("<pad>", "<mask>"), **kwargs: object) -> GeneRankTokenizer:
    tokens = {token: number for number, token in enumerate([*special_tokens, *GENES])}
    symbols = {GENES[0]: "GATA4", GENES[1]: "TBX5", GENES[2]: "TWIN", GENES[3]: "TWIN"}
    return GeneRankTokenizer.from_dictionaries(tokens, dict(zip(GENES, MEDIANS, strict=True)), symbols, **kwargs)


def plain_encoding(counts: list[float], gene_ids: list[str], tokenizer: GeneRankTokenizer, longest: int) -> list[int]:
    """The rule as it is written down, a gene at a time."""
    total = sum(counts)
    summed: dict[str, float] = {}
    for gene, count in zip(gene_ids, counts, strict=True):
        summed[gene] = summed.get(gene, 0.0) + count
    vocabulary = tokenizer.get_vocab()
    values = {
        vocabulary[gene]: count / total * 10_000 / tokenizer.gene_medians[gene]
        for gene, count in summed.items()
        if gene in tokenizer.gene_medians and count > 0
    }
    return sorted(values, key=lambda token: (-values[token], token))[:longest]


@pytest.mark.parity
@given(
    counts=hnp.arrays(np.int64, st.tuples(st.integers(1, 6), st.just(10)), elements=st.integers(0, 12)),
    as_sparse=st.booleans(),
    longest=st.integers(1, 12),
)
def test_equals_the_plain_formula(counts: np.ndarray, as_sparse: bool, longest: int) -> None:
    tokenizer = make_tokenizer()
    gene_ids = [*GENES, "ENSG00000999999", GENES[3]]  # one outside the vocabulary, one twice
    found = tokenizer.encode_counts(sparse.csc_matrix(counts) if as_sparse else counts, gene_ids, max_length=longest)
    expected = [plain_encoding(list(map(float, row)), gene_ids, tokenizer, longest) for row in counts]
    assert [ids.tolist() for ids in found["input_ids"]] == expected
    assert found["length"].tolist() == list(map(len, expected))


@given(counts=hnp.arrays(np.int64, (3, 8), elements=st.integers(0, 9)), order=st.permutations(range(8)))
def test_the_order_of_columns_does_not_matter(counts: np.ndarray, order: list[int]) -> None:
    tokenizer = make_tokenizer()
    expected = tokenizer.encode_counts(counts, GENES)["input_ids"]
    found = tokenizer.encode_counts(counts[:, order], [GENES[column] for column in order])["input_ids"]
    assert [ids.tolist() for ids in found] == [ids.tolist() for ids in expected]


@given(counts=hnp.arrays(np.int64, (4, 8), elements=st.integers(0, 9)))
def test_each_expressed_gene_once_and_decoded_back(counts: np.ndarray) -> None:
    tokenizer = make_tokenizer(("<pad>", "<mask>", "<cls>", "<eos>"))
    for row, ids in zip(counts, tokenizer.encode_counts(counts, GENES)["input_ids"], strict=True):
        assert ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.eos_token_id
        genes = tokenizer.decode_genes(ids)
        assert sorted(genes) == [gene for gene, count in zip(GENES, row, strict=True) if count > 0]


def test_ties_go_by_ascending_token_id() -> None:
    counts = [[4, 8, 2, 4, 0, 1, 0, 0]]  # each four times its median
    assert make_tokenizer().encode_counts(counts, GENES)["input_ids"][0].tolist() == [2, 3, 4, 5, 7]


def test_the_total_counts_genes_outside_the_vocabulary_and_may_be_given() -> None:
    # The order within a cell does not depend on its total, so the total shows only in what is refused.
    tokenizer = make_tokenizer()
    counts = np.array([[3, 1, 0, 0, 0, 0, 0, 0]])
    found = tokenizer.encode_counts(counts, GENES, total_counts=[50.0])["input_ids"][0]
    assert found.tolist() == tokenizer.encode_counts(counts, GENES)["input_ids"][0].tolist() == [2, 3]
    with pytest.raises(ValueError, match=r"e\.g\. cell 0: 3 < 4"):
        tokenizer.encode_counts(counts, GENES, total_counts=[3])
    with pytest.raises(ValueError, match="2 entries for 1 cells"):
        tokenizer.encode_counts(counts, GENES, total_counts=[9, 9])


def test_versions_and_symbols_are_matched() -> None:
    tokenizer = make_tokenizer()
    columns = [f"{GENES[0]}.12", "TBX5", f"{GENES[0]}.3_PAR_Y", "TWIN", "AC000123.1"]
    found = tokenizer.encode_counts([[1, 4, 2, 50, 50]], columns)["input_ids"][0]
    assert tokenizer.decode_genes(found) == [GENES[0], GENES[1]]  # 3 / 1.0 before 4 / 2.0
    assert tokenizer.token_id_of_gene("GATA4") == tokenizer.token_id_of_gene(f"{GENES[0]}.7") == 2
    assert tokenizer.token_id_of_gene("TWIN") is None


@pytest.mark.parametrize(
    ("gene_id", "expected"),
    [
        ("ENSG00000136574.19", "ENSG00000136574"),
        ("ENSMUSG00000021944.16", "ENSMUSG00000021944"),
        ("ENSG00000182378.14_PAR_Y", "ENSG00000182378"),
        ("AC009237.14", "AC009237.14"),
        ("GATA4", "GATA4"),
    ],
)
def test_strip_version(gene_id: str, expected: str) -> None:
    assert strip_version(gene_id) == expected


def test_empty_cells_are_kept_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    counts = np.zeros((3, 8), dtype=int)
    counts[1, 0] = 1
    found = make_tokenizer().encode_counts(counts, GENES)
    assert found["length"].tolist() == [0, 1, 0]
    assert "2 of 3 cells express no gene of the vocabulary" in caplog.text


def test_the_longest_cell_is_the_models() -> None:
    counts = np.ones((1, 8), dtype=int)
    assert make_tokenizer(model_max_length=5).encode_counts(counts, GENES)["length"].tolist() == [5]
    with_ends = make_tokenizer(("<pad>", "<mask>", "<cls>", "<eos>"), model_max_length=5)
    assert with_ends.encode_counts(counts, GENES)["length"].tolist() == [5]
    assert len(with_ends.decode_genes(with_ends.encode_counts(counts, GENES)["input_ids"][0])) == 3


def test_as_text_and_padded() -> None:
    tokenizer = make_tokenizer()
    assert tokenizer(f"{GENES[2]}  {GENES[0]} <mask>")["input_ids"] == [4, 2, 1]
    padded = tokenizer.pad({"input_ids": [[4, 2], [3]]}, return_tensors="np")
    assert padded["input_ids"].tolist() == [[4, 2], [3, 0]]
    assert padded["attention_mask"].tolist() == [[1, 1], [1, 0]]
    with_ends = make_tokenizer(("<pad>", "<mask>", "<cls>", "<eos>"))
    assert with_ends(GENES[0])["input_ids"] == [2, 4, 3]


@pytest.mark.parametrize("special_tokens", [("<pad>", "<mask>"), ("<pad>", "<mask>", "<cls>", "<eos>")])
def test_save_and_load(tmp_path: Path, special_tokens: tuple[str, ...]) -> None:
    tokenizer = make_tokenizer(special_tokens, model_max_length=7)
    tokenizer.save_pretrained(tmp_path)
    loaded = GeneRankTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded.gene_medians == tokenizer.gene_medians and loaded.gene_symbols == tokenizer.gene_symbols
    assert (loaded.pad_token_id, loaded.mask_token_id, loaded.model_max_length) == (0, 1, 7)
    counts = np.random.default_rng(0).poisson(2, (5, 8))
    for expected, found in zip(
        tokenizer.encode_counts(counts, GENES)["input_ids"],
        loaded.encode_counts(counts, GENES)["input_ids"],
        strict=True,
    ):
        assert found.tolist() == expected.tolist()
    loaded.save_pretrained(tmp_path / "again")
    for file in ("token_dictionary.json", "gene_medians.json", "gene_symbols.json"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / file).read_bytes()


def test_auto_tokenizer_in_a_process_without_the_package(tmp_path: Path) -> None:
    make_tokenizer().save_pretrained(tmp_path / "tokenizer")
    code = (
        "import sys; sys.modules['omics_transformers'] = None\n"
        "from transformers import AutoTokenizer\n"
        f"tokenizer = AutoTokenizer.from_pretrained({str(tmp_path / 'tokenizer')!r}, trust_remote_code=True)\n"
        f"print(tokenizer.encode_counts([[1, 9, 0]], {GENES[:3]!r})['input_ids'][0].tolist(), type(tokenizer).__name__)"
    )
    environment = {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "[3, 2] GeneRankTokenizer"


def test_auto_tokenizer_in_this_process(tmp_path: Path) -> None:
    make_tokenizer().save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=True)
    assert loaded.decode_genes([2, 1, 3]) == GENES[:2]


def test_dictionaries_from_compressed_files(tmp_path: Path) -> None:
    for name, dictionary in (
        ("tokens", {"<pad>": 0, "<mask>": 1, GENES[0]: 2}),
        ("medians", {GENES[0]: 2.5, "ENSG00000999999": math.nan}),
    ):
        with gzip.open(tmp_path / f"{name}.json.gz", "wt") as file:
            json.dump(dictionary, file)
    tokenizer = GeneRankTokenizer.from_dictionaries(tmp_path / "tokens.json.gz", tmp_path / "medians.json.gz")
    assert tokenizer.gene_medians == {GENES[0]: 2.5}


@pytest.mark.real_data
def test_geneformers_dictionaries_on_pbmcs(data_folder: Path) -> None:
    import anndata

    tokenizer = GeneRankTokenizer.from_dictionaries(
        data_folder / "genesets" / "geneformer_v1_token_dictionary.json.gz",
        data_folder / "genesets" / "geneformer_v1_gene_medians.json.gz",
    )
    assert len(tokenizer) == 25_426
    cells = anndata.read_h5ad(data_folder / "rna" / "pbmc3k_raw_500labelled.h5ad")[:20]
    gene_ids = cells.var["gene_ids"].tolist()
    found = tokenizer.encode_counts(cells.X, gene_ids)
    for row, ids in zip(cells.X.toarray(), found["input_ids"], strict=True):
        assert ids.tolist() == plain_encoding(row.astype(float).tolist(), gene_ids, tokenizer, 2048)


@pytest.mark.parametrize(
    ("counts", "gene_ids", "message"),
    [
        ([[1, 2]], ["GATA1", "Rps3"], "none of the 2 genes.*GATA1, Rps3.*ENSG00000000001"),
        ([[1, -2]], GENES[:2], "1 counts are negative, the first -2.0 in cell 0 for gene ENSG00000000002"),
        ([[1, 1], [np.nan, 2]], GENES[:2], "1 counts are not finite, the first nan in cell 1 for gene ENSG00000000001"),
        ([[0.69, 1.1]], GENES[:2], "look logged.*the largest is 1.1"),
        ([[1, 2, 3]], GENES[:2], r"shape \(1, 3\) and gene_ids 2 entries"),
    ],
)
def test_bad_counts_are_named(counts: list[list[float]], gene_ids: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_tokenizer().encode_counts(counts, gene_ids)


@pytest.mark.parametrize(
    ("tokens", "medians", "message"),
    [
        ({"<pad>": 0, "G": 1}, None, "no <mask>"),
        ({"<pad>": 0, "<mask>": 1, "G": 3}, None, "must be 0 to 2, each once: found 3 distinct ones, 0 to 3"),
        ({"<pad>": 0, "<mask>": 1, "G": "2"}, None, "found '2' for G"),
        ({"<pad>": 0, "<mask>": 1, "G": 2}, {"G": 0.0}, r"1 of 1 genes.*no positive median, e\.g\. G \(0\.0\)"),
        ({"<pad>": 0, "<mask>": 1, "G": 2}, {"H": 1.0}, r"G \(None\)"),
    ],
)
def test_bad_dictionaries_are_named(tokens: dict[str, int], medians: dict[str, float] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneRankTokenizer.from_dictionaries(tokens, medians)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no token dictionary"):
        GeneRankTokenizer()
    (tmp_path / "half.json").write_text('{"<pad>": 0')
    with pytest.raises(ValueError, match=r"half\.json is not a whole JSON file"):
        GeneRankTokenizer.from_dictionaries(tmp_path / "half.json", None)
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(ValueError, match="JSON list"):
        GeneRankTokenizer.from_dictionaries(tmp_path / "list.json", None)
    without_medians = GeneRankTokenizer.from_dictionaries({"<pad>": 0, "<mask>": 1, GENES[0]: 2}, None)
    with pytest.raises(ValueError, match="no gene medians"):
        without_medians.encode_counts([[1]], GENES[:1])
    with pytest.raises(ValueError, match="max_length is 0"):
        make_tokenizer().encode_counts([[1]], GENES[:1], max_length=0)


def test_added_tokens_are_not_lost_in_silence(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["ENSG00000000042"])
    with pytest.raises(ValueError, match="1 tokens were added"):
        tokenizer.save_pretrained(tmp_path)
