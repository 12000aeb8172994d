"""The file of gene features: round trip, same bytes, alignment to a vocabulary, and what it refuses."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.gene_features import (
    GeneFeatures,
    align_gene_features,
    read_gene_features,
    write_gene_features,
)

GENES = ["ENSG1", "ENSG2", "ENSG3"]


def make_gene_features() -> GeneFeatures:
    """Three genes, two donors; donor b differs at genes 1 and 3, donor a at gene 3 only."""
    return GeneFeatures(
        gene_ids=list(GENES),
        features=np.arange(12, dtype=np.float32).reshape(3, 4),
        metadata={"layer": "final_pointwise", "window_bp": "1024"},
        donors=["a", "b"],
        donor_features=100 + np.arange(12, dtype=np.float32).reshape(3, 4),
        donor_feature_genes=np.array([0, 2, 2], dtype=np.int32),
        donor_feature_index=np.array([[-1, -1, 1], [0, -1, 2]], dtype=np.int32),
    )


def assert_same(left: GeneFeatures, right: GeneFeatures) -> None:
    assert (left.gene_ids, left.metadata, left.donors) == (right.gene_ids, right.metadata, right.donors)
    for name in ("features", "donor_features", "donor_feature_genes", "donor_feature_index"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


def test_round_trip(tmp_path: Path) -> None:
    write_gene_features(tmp_path / "deep" / "f.safetensors", make_gene_features())
    assert_same(read_gene_features(tmp_path / "deep" / "f.safetensors"), make_gene_features())
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["f.safetensors"]


def test_the_same_features_give_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    write_gene_features(tmp_path / "here.safetensors", make_gene_features())
    code = (
        "import sys; from omics_transformers.data_scripts.gene_features import *; "
        "write_gene_features(sys.argv[2], read_gene_features(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, tmp_path / "here.safetensors", tmp_path / "there.safetensors"]
    subprocess.run(command, check=True)
    assert (tmp_path / "here.safetensors").read_bytes() == (tmp_path / "there.safetensors").read_bytes()


def test_float16_is_half_the_file_and_refused_with_donors(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    with pytest.raises(ValueError, match="round away what single variants change"):
        write_gene_features(path, make_gene_features(), dtype="float16")
    write_gene_features(path, GeneFeatures(GENES, np.full((3, 4), 0.1)), dtype="float16")
    read = read_gene_features(path)
    assert read.features.dtype == np.float32
    np.testing.assert_array_equal(read.features, np.float32(np.float16(0.1)))


def test_features_of_donor() -> None:
    table = make_gene_features()
    of_b = table.features_of_donor("b")
    assert table.donor_features is not None
    np.testing.assert_array_equal(of_b, [table.donor_features[0], table.features[1], table.donor_features[2]])
    with pytest.raises(ValueError, match=r"no donor 'c'.*a, b"):
        table.features_of_donor("c")


@given(st.permutations(["<pad>", "<mask>", *GENES]), st.integers(0, 5))
def test_alignment_keeps_what_each_donor_has_at_each_gene(vocabulary: list[str], length: int) -> None:
    table = make_gene_features()
    tokens = vocabulary[:length]
    if not set(tokens) & set(GENES):
        with pytest.raises(ValueError, match="no gene of the vocabulary has DNA features"):
            align_gene_features(table, tokens)
        return
    aligned = align_gene_features(table, tokens)
    assert aligned.gene_ids == tokens
    for donor in ("a", "b"):
        expected = dict(zip(GENES, table.features_of_donor(donor), strict=True))
        for token, features in zip(tokens, aligned.features_of_donor(donor), strict=True):
            np.testing.assert_array_equal(features, expected.get(token, np.zeros(4)))
    assert aligned.donor_feature_genes is not None
    assert all(tokens[row] in ("ENSG1", "ENSG3") for row in aligned.donor_feature_genes)


def test_genes_without_features() -> None:
    vocabulary = ["<pad>", "<mask>", "ENSG3", "ENSG9", "ENSG1"]
    with pytest.raises(ValueError, match="1 genes of the vocabulary have no DNA features: ENSG9"):
        align_gene_features(make_gene_features(), vocabulary)
    aligned = align_gene_features(make_gene_features(), vocabulary, missing="drop")
    assert aligned.gene_ids == ["<pad>", "<mask>", "ENSG3", "ENSG1"]
    with pytest.raises(ValueError, match='"error" or "drop"'):
        align_gene_features(make_gene_features(), vocabulary, missing="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.zeros((2, 4))}, r"shape \(2, 4\)"),
        ({"features": np.full((3, 4), np.nan)}, "NaN"),
        ({"gene_ids": ["x", "x", "y"]}, "occur twice.*x"),
        ({"donor_features": None}, "lack donor_features"),
        ({"donor_features": np.zeros((3, 5))}, r"\(3, 5\)"),
        ({"donor_feature_index": np.array([[-1, 1, -1], [-1, -1, -1]])}, "another gene's"),
        ({"donor_feature_index": np.array([[7, -1, -1], [-1, -1, -1]])}, "do not exist"),
        ({"donors": ["a", "a"]}, "occur twice in the donors"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(make_gene_features(), **changes)  # type: ignore[arg-type]


def test_files_that_are_not_gene_features_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    with pytest.raises(FileNotFoundError, match="no gene features at"):
        read_gene_features(path)
    write_gene_features(path, make_gene_features())
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        read_gene_features(path)
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"not a file of gene features.*weight"):
        read_gene_features(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.safetensors"
    write_gene_features(path, make_gene_features())
    before = path.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_gene_features(path, GeneFeatures(["g"], np.zeros((1, 2))))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def make_separate() -> GeneFeatures:
    """Donor a carries haplotypes 0 and 1 of gene 1, b the same the other way round and twice haplotype 2 of gene 3."""
    index = np.full((2, 3, 2), -1, dtype=np.int32)
    index[0, 0], index[1, 0], index[1, 2], index[0, 2] = [0, 1], [1, 0], [2, 2], [-1, 2]
    return replace(
        make_gene_features(),
        metadata={"haplotypes": "separate"},
        donor_feature_genes=np.array([0, 0, 2], dtype=np.int32),
        donor_feature_index=index,
    )


def test_haplotypes_apart_and_their_mean(tmp_path: Path) -> None:
    separate, path = make_separate(), tmp_path / "f.safetensors"
    assert (separate.haplotypes, make_gene_features().haplotypes) == ("separate", "mean")
    write_gene_features(path, separate)
    assert_same(read_gene_features(path, haplotypes="as_written"), separate)
    mean = read_gene_features(path)
    assert_same(mean, separate.with_mean_haplotypes())
    rows, reference = separate.donor_features, separate.features
    assert rows is not None and mean.donor_features is not None and mean.donor_feature_genes is not None
    np.testing.assert_array_equal(mean.donor_features, [(rows[0] + rows[1]) / 2, (reference[2] + rows[2]) / 2, rows[2]])
    assert mean.donor_feature_genes.tolist() == [0, 2, 2]
    np.testing.assert_array_equal(mean.donor_feature_index, [[0, -1, 1], [0, -1, 2]])
    assert (mean.haplotypes, mean.metadata) == ("mean", {"haplotypes": "mean"})
    for donor in "ab":
        np.testing.assert_array_equal(separate.features_of_donor(donor), mean.features_of_donor(donor))
    np.testing.assert_array_equal(separate.features_of_haplotypes("b"), [
        [rows[1], reference[1], rows[2]], [rows[0], reference[1], rows[2]],
    ])  # fmt: skip
    np.testing.assert_array_equal(mean.features_of_haplotypes("a"), [mean.features_of_donor("a")] * 2)
    assert mean.with_mean_haplotypes() is mean
    with pytest.raises(ValueError, match='expected "mean" or "as_written"'):
        read_gene_features(path, haplotypes="both")  # type: ignore[arg-type]


@given(st.permutations(["<pad>", "ENSG9", *GENES]), st.integers(1, 5))
def test_alignment_of_haplotypes_apart(vocabulary: list[str], length: int) -> None:
    kept = vocabulary[:length]
    if not set(kept) & set(GENES):
        return
    table = make_separate()
    aligned = align_gene_features(table, kept, missing="drop")
    of_mean = align_gene_features(table.with_mean_haplotypes(), kept, missing="drop")
    for donor in "ab":
        np.testing.assert_array_equal(aligned.features_of_donor(donor), of_mean.features_of_donor(donor))
        both, expected = aligned.features_of_haplotypes(donor), table.features_of_haplotypes(donor)
        for row, token in enumerate(aligned.gene_ids):
            if token in GENES:
                np.testing.assert_array_equal(both[:, row], expected[:, GENES.index(token)])


def test_haplotypes_of_a_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"\(donors, genes\) or \(donors, genes, 2\)"):
        replace(make_gene_features(), donor_feature_index=np.full((2, 3, 3), -1))
    index = np.full((2, 3, 2), -1)
    index[0, 1, 1] = 0
    with pytest.raises(ValueError, match="another gene's"):
        replace(make_gene_features(), donor_feature_index=index)
