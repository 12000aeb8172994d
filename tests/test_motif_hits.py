"""JASPAR files read back and refused, and hits against a plain scan with exact p-values on both strands."""

import itertools
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from omics_transformers.pipelines.motif_hits import BASES, Motif, find_hits, read_jaspar

DONOR = "GTAAGT"
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def motif_of(consensus: str, count: float = 97.0) -> Motif:
    """`count` observations of the consensus at each place, and one of each other base."""
    counts = np.ones((4, len(consensus)))
    counts[[BASES.index(base) for base in consensus], np.arange(len(consensus))] = count
    return Motif(f"M_{consensus}", consensus.lower(), counts)


def random_sequence(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list(BASES), size=length))


def jaspar_text(motifs: list[Motif]) -> str:
    lines = []
    for motif in motifs:
        lines.append(f">{motif.matrix_id}\t{motif.name}")
        lines += [
            f"{base}  [ {' '.join(map(str, row))} ]" for base, row in zip(BASES, motif.counts.tolist(), strict=True)
        ]
    return "\n".join(lines) + "\n"


@given(
    st.lists(
        st.integers(1, 12).flatmap(
            lambda width: arrays.arrays(np.int64, (4, width), elements=st.integers(0, 100_000)).filter(
                lambda counts: bool(counts.sum(0).all())
            )
        ),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, tables: list[np.ndarray]) -> None:
    path = tmp_path_factory.mktemp("motifs") / "motifs.jaspar"
    written = [Motif(f"MA{number}.1", f"TF{number}::X", counts) for number, counts in enumerate(tables)]
    path.write_text(jaspar_text(written))
    found = read_jaspar(path)
    for one, other in zip(found, written, strict=True):
        assert (one.matrix_id, one.name) == (other.matrix_id, other.name)
        assert np.array_equal(one.counts, other.counts)


def test_other_spellings(tmp_path: Path) -> None:
    path = tmp_path / "motifs.jaspar"
    path.write_text(">MA1 TF one\nT 1 2\ng [3 4]\n\nC [ 5\t6 ]\nA [0 0]\n>MA2\nA [1]\nC [1]\nG [1]\nT [1.5]\n")
    first, second = read_jaspar(path)
    assert (first.matrix_id, first.name, second.name) == ("MA1", "TF one", "MA2")
    assert first.counts.tolist() == [[0, 0], [5, 6], [3, 4], [1, 2]]
    assert second.width == 1 and second.counts[3, 0] == 1.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no motif"),
        ("A [1 2]\n", "line 1: found 'A \\[1 2\\]'; expected `>id name`"),
        (">M\nA [1]\nC [1]\nG [1]\n", "line 1: the motif 'M' has no row T"),
        (">M\nA [1]\nC [1]\nG [1]\nT [1 2]\n", "rows of 1 and 2 counts"),
        (">M\nA [1]\nA [1]\n", "line 3: a second row A"),
        (">M\nA [1 x]\n", "line 2: '1 x' holds something else than counts"),
        (">M\nA [-1]\n", "line 2: expected at least one count, and all of at least 0"),
        (">M\nA [nan]\n", "line 2: expected at least one count"),
        (">M\nA []\n", "line 2: expected at least one count"),
        (">M\nA [1 0]\nC [1 0]\nG [1 0]\nT [1 0]\n", "a column without a count"),
        (">\nA [1]\n", "line 1: a motif without an id"),
        (">M\nA [1]\nC [1]\nG [1]\nT [1]\n" * 2, "the motif M is in the file twice"),
        ("MEME version 4\n", "line 1: found 'MEME version 4'"),
    ],
)
def test_files_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "motifs.jaspar"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_jaspar(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no motif file"):
        read_jaspar(tmp_path / "absent.jaspar")


def test_probabilities_add_up_to_one_and_are_never_zero() -> None:
    motif = Motif("M", "M", np.array([[9.0, 0], [0, 0], [1, 0], [0, 5]]))
    probabilities = motif.probabilities(0.1)
    assert probabilities.sum(0) == pytest.approx([1, 1])
    assert probabilities[0, 0] == pytest.approx(9.025 / 10.1) and probabilities.min() > 0


def test_planted_consensus_is_found_on_both_strands() -> None:
    sequence = "C" * 20 + DONOR + "C" * 14 + DONOR.translate(COMPLEMENT)[::-1] + "C" * 9
    hits = find_hits(sequence, [motif_of(DONOR)], threshold=1e-3)
    assert list(hits.columns) == ["matrix_id", "motif", "start", "end", "strand", "score", "p_value"]
    assert hits[["start", "end", "strand"]].to_numpy().tolist() == [[20, 26, "+"], [40, 46, "-"]]
    assert set(hits["motif"]) == {"gtaagt"}
    assert hits["p_value"].to_numpy() == pytest.approx(4.0**-6)


def score_of(letters: str, scores: np.ndarray) -> float:
    return float(sum(scores[BASES.index(letter), place] for place, letter in enumerate(letters)))


@pytest.mark.parity
@pytest.mark.parametrize("threshold", [1e-2, 1e-3])
def test_hits_are_those_of_a_plain_scan(threshold: float) -> None:
    random = np.random.default_rng(3)
    motif = Motif("M", "M", random.dirichlet([0.4] * 4, size=6).T * 100)
    sequence = random_sequence(3_000, 4)
    scores = np.log2(motif.probabilities() / 0.25)
    everything = np.sort([score_of("".join(letters), scores) for letters in itertools.product(BASES, repeat=6)])
    expected = {}
    for start in range(len(sequence) - 5):
        for strand in "+-":
            letters = sequence[start : start + 6]
            letters = letters if strand == "+" else letters.translate(COMPLEMENT)[::-1]
            expected[start, strand] = score_of(letters, scores)
    hits = find_hits(sequence, [motif], threshold=threshold)
    found = {(row.start, row.strand): row for row in hits.itertuples()}
    # memelite sorts scores into bins of 0.1 bits a column: places within that of the threshold may fall on either side.
    for place, score in expected.items():
        chances = [np.mean(everything >= score + shift - 1e-6) for shift in (0.35, -0.35)]
        if place in found:
            assert found[place].score == pytest.approx(score, abs=1e-3)
            assert chances[0] < threshold
        else:
            assert chances[1] >= threshold
    assert len(found) > 5


def test_hits_over_n_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    long = motif_of(DONOR + "ACGCA")
    with caplog.at_level(logging.INFO):
        hits = find_hits("CCC" + DONOR + "ACGCA" + "CCC" + DONOR + "ACGCN" + "CC", [long], threshold=1e-3)
    assert hits["start"].tolist() == [3]
    assert "1 motif hits reach over an N" in caplog.text


def test_nothing_to_find() -> None:
    for sequence, motifs in (("ACG", [motif_of(DONOR)]), ("C" * 50, [motif_of(DONOR)]), ("ACGT" * 9, [])):
        hits = find_hits(sequence, motifs)
        assert len(hits) == 0 and list(hits.columns)[:2] == ["matrix_id", "motif"]


def test_motifs_of_one_name_are_told_apart() -> None:
    first, second = motif_of(DONOR), motif_of("ACGCAT")
    second = Motif("other", first.name, second.counts)
    sequence = "CCC" + DONOR + "CCC" + "ACGCAT" + "CCC"
    hits = find_hits(sequence, [first, second], threshold=1e-3)
    assert hits[["matrix_id", "start"]].to_numpy().tolist() == [["M_GTAAGT", 3], ["other", 12]]


def test_pytorch_keeps_its_threads() -> None:
    """In a process of its own, since numba sets them once."""
    script = """
import numpy, torch
from omics_transformers.pipelines.motif_hits import Motif, find_hits
assert torch.get_num_threads() == 1
find_hits("ACGT" * 9, [Motif("M", "M", numpy.eye(4, 6))], threshold=1e-2)
assert torch.get_num_threads() == 1, torch.get_num_threads()
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120, env=environment)


def test_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"threshold is 1\.5"):
        find_hits("ACGT", [], threshold=1.5)
    with pytest.raises(ValueError, match="'X' at base 2"):
        find_hits("ACXT", [])
    monkeypatch.setitem(sys.modules, "memelite", None)
    with pytest.raises(ImportError, match=r'pip install "omics-transformers\[interpret\]"'):
        find_hits("ACGT", [motif_of("ACG")])


@pytest.mark.real_data
def test_jaspar_s_own_motifs_are_read_and_their_consensus_found(data_folder: Path) -> None:
    motifs = read_jaspar(data_folder / "genesets" / "JASPAR2026_cardiac_and_CTCF.jaspar")
    assert [motif.name for motif in motifs] == ["GATA4", "TBX5", "CTCF", "NKX2-5", "MEF2A", "GATA1"]
    ctcf = motifs[2]
    assert (ctcf.matrix_id, ctcf.width) == ("MA0139.2", 15)
    consensus = "".join(BASES[row] for row in ctcf.counts.argmax(0))
    hits = find_hits("A" * 30 + consensus + "A" * 30, [ctcf], threshold=1e-6)
    assert hits[["start", "end", "strand"]].to_numpy().tolist() == [[30, 45, "+"]]
