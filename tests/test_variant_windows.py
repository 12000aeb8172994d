"""Variants as written and as read, their windows of a genome, and which bases correspond, by property."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.genomes import Genome, open_genome
from omics_transformers.pipelines.variant_windows import (
    Variant,
    VariantWindow,
    check_alleles,
    parse_variant,
    variant_window,
    variants_of_rows,
    warn_of_shifted_kmers,
)

ALLELES = st.text("ACGT", min_size=1, max_size=9)
LENGTH = 400


def sequence_of_genome() -> str:
    bases = np.random.default_rng(0).choice(list("ACGT"), size=LENGTH)
    return "N" * 30 + "".join(bases[30:-20]) + "N" * 20


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    """Contig 1 of 400 bp, N at both ends; and a piece of contig 2 that begins with coordinate 1,000."""
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text(f">chr1\n{sequence_of_genome()}\n>chr2:1001-1100\n{sequence_of_genome()[100:200]}\n")
    return open_genome(path, offsets={"chr2": 1_000})


@given(
    contig=st.text("chrHLA*_:0123456789.", min_size=1),
    start=st.integers(0, 10**9),
    reference=ALLELES,
    alternative=ALLELES,
)
def test_what_is_written_is_read(contig: str, start: int, reference: str, alternative: str) -> None:
    variant = Variant(contig, start, reference, alternative)
    assert parse_variant(str(variant)) == variant
    assert parse_variant(f" {contig}:{start + 1:,}:{reference.lower()}>{alternative} ") == variant
    assert variants_of_rows([(contig, start + 1, ".", reference, alternative)]).variants == [variant]


def test_text_that_is_no_variant() -> None:
    for text in ("chr20:1000", "chr20:A>G", "chr20:1000:A", "chr20:1000:>G", "chr20:1000:A>-", "chr20-1000-A-G"):
        with pytest.raises(ValueError, match=r"is not written chr:position:REF>ALT \(1-based\)"):
            parse_variant(text)
    with pytest.raises(ValueError, match="the alternative allele is 'R'; expected A, C, G and T"):
        parse_variant("chr20:10:A>R")
    with pytest.raises(ValueError, match="positions begin with 1"):
        parse_variant("chr20:0:A>G")


def test_rows_of_a_vcf() -> None:
    rows = [
        ("chr1", "10", "rs1", "a", "G,<DEL>,t", "50", "PASS"),
        ("chr1", 11, ".", "AC", "A"),
        ("chr1", 12, ".", "A", "*"),
        ("chr1", 13, ".", "A", "<INS:ME>"),
        ("chr1", 14, ".", "A", "."),
    ]
    found = variants_of_rows(rows)
    assert list(map(str, found.variants)) == ["chr1:10:A>G", "chr1:10:A>T", "chr1:11:AC>A"]
    assert [variant.name for variant in found.variants] == ["rs1", "rs1", ""]
    assert found.left_out == {
        "alternative allele <...>": 2,
        "alternative allele *": 1,
        "alternative allele .": 1,
    }
    with pytest.raises(ValueError, match="variant 1: found"):
        variants_of_rows([("chr1", "x", ".", "A", "C")])
    with pytest.raises(ValueError, match="the reference allele is 'N'"):
        variants_of_rows([("chr1", 4, ".", "N", "C")])


@pytest.mark.parametrize(
    ("reference", "alternative", "edit"),
    [
        ("A", "G", (9, "A", "G")),
        ("A", "AT", (10, "", "T")),
        ("AT", "A", (10, "T", "")),
        ("CAA", "CA", (10, "A", "")),
        ("CA", "CAA", (10, "", "A")),
        ("ACG", "ATG", (10, "C", "T")),
        ("AC", "GT", (9, "AC", "GT")),
        ("ACGT", "TT", (9, "ACG", "T")),
        ("A", "A", (9, "", "")),
    ],
)
def test_what_an_edit_changes(reference: str, alternative: str, edit: tuple[int, str, str]) -> None:
    assert Variant("chr1", 9, reference, alternative).edit() == edit


@given(before=st.text("ACGT"), reference=ALLELES, alternative=ALLELES, behind=st.text("ACGT"))
def test_an_edit_turns_the_reference_into_the_alternative(
    before: str, reference: str, alternative: str, behind: str
) -> None:
    position, removed, inserted = Variant("chr1", len(before), reference, alternative).edit()
    sequence = before + reference + behind
    assert sequence[position : position + len(removed)] == removed
    edited = sequence[:position] + inserted + sequence[position + len(removed) :]
    assert edited == before + alternative + behind
    assert not removed or not inserted or (removed[0] != inserted[0] and removed[-1] != inserted[-1])


@given(before=st.text("ACGT"), removed=st.text("ACGT"), inserted=st.text("ACGT"), behind=st.text("ACGT"))
def test_bases_correspond_through_the_edit(before: str, removed: str, inserted: str, behind: str) -> None:
    """Against a list of marks, one a base of the reference, that goes through the same edit."""
    window = VariantWindow(
        0, before + removed + behind, before + inserted + behind, len(before), len(removed), len(inserted)
    )
    marks: list[int | None] = list(range(len(window.reference)))
    edited = marks[len(before) : len(before) + len(removed)]
    there = edited if len(removed) == len(inserted) else [None] * len(inserted)
    marks[len(before) : len(before) + len(removed)] = there
    expected = [[mark, place] for place, mark in enumerate(marks) if mark is not None]
    assert window.pairs().tolist() == expected
    kept = [pair for pair in window.pairs().tolist() if not len(before) <= pair[0] < len(before) + len(removed)]
    assert all(window.reference[first] == window.alternative[second] for first, second in kept)
    distances = window.distances()
    assert len(distances) == len(window.reference)
    assert distances.tolist() == [
        *range(len(before), 0, -1),
        *[0] * len(removed),
        *range(1, len(behind) + 1),
    ]


@given(
    start=st.integers(30, LENGTH - 30), length=st.integers(1, 9), alternative=ALLELES, window_bp=st.integers(20, 500)
)
def test_windows_hold_both_alleles(genome: Genome, start: int, length: int, alternative: str, window_bp: int) -> None:
    sequence = sequence_of_genome()
    variant = Variant("1", start, sequence[start : start + length], alternative)
    check_alleles([variant], genome)
    window = variant_window(variant, genome, window_bp)
    end = window.start + len(window.reference)
    assert window.reference == sequence[window.start : end]
    edited = sequence[:start] + alternative + sequence[start + length :]
    assert window.alternative == edited[window.start : end + len(alternative) - length]
    assert max(len(window.reference), len(window.alternative)) <= window_bp
    place = window.start + window.edit_start
    assert start <= place <= start + length
    # N at the ends are cut off, and otherwise the window is as long as can be and has the variant in its middle.
    assert "N" not in window.reference[:1] + window.reference[-1:]
    full = min(window_bp - max(window.inserted - window.removed, 0), LENGTH)
    if window.start > 30 and end < LENGTH - 20:
        assert len(window.reference) == full
        assert abs(place + window.removed / 2 - (window.start + end) / 2) <= 1


def test_windows_are_shifted_at_the_ends_of_contigs(genome: Genome) -> None:
    sequence = sequence_of_genome()[100:200]
    for place, start, end in ((0, 0, 40), (99, 60, 100), (50, 30, 70)):
        base = sequence[place]
        variant = Variant("chr2", 1_000 + place, base, "A" if base != "A" else "C")
        window = variant_window(variant, genome, 40)
        assert (window.start, window.reference) == (1_000 + start, sequence[start:end])
        assert window.reference[window.edit_start] == base


def test_a_reference_allele_that_the_genome_does_not_have(genome: Genome) -> None:
    base = sequence_of_genome()[60]
    other = "A" if base != "A" else "C"
    right, wrong = Variant("chr1", 60, base, other), Variant("chr1", 60, other, base)
    check_alleles([right], genome)
    with pytest.raises(ValueError, match=f"1 of 2 variants have another reference .* first chr1:61.*genome has {base}"):
        check_alleles([right, wrong], genome)
    with pytest.raises(ValueError, match="where the genome has NN"):
        check_alleles([Variant("chr1", 399, "AC", "A")], genome)
    with pytest.raises(ValueError, match="no contig 'chr7'"):
        check_alleles([Variant("chr7", 60, "A", "C")], genome)


def test_alleles_that_do_not_fit_the_window(genome: Genome) -> None:
    sequence = sequence_of_genome()
    with pytest.raises(ValueError, match="do not fit a window of 20 bp"):
        variant_window(Variant("chr1", 100, sequence[100:130], sequence[100]), genome, 20)
    with pytest.raises(ValueError, match="do not fit a window of 20 bp"):
        variant_window(Variant("chr1", 100, sequence[100], sequence[100] + "ACGT" * 9), genome, 20)


def test_indels_that_shift_kmers_are_said(caplog: pytest.LogCaptureFixture) -> None:
    shifting, whole = parse_variant("chr1:5:A>AC"), parse_variant("chr1:5:A>AGATTAC")
    warn_of_shifted_kmers([whole], 1, 6)
    warn_of_shifted_kmers([shifting, whole], 6, 6)
    assert not caplog.text
    warn_of_shifted_kmers([shifting, whole], 1, 6)
    assert "1 variants change the length by no multiple of 6" in caplog.text and "phases=6" in caplog.text
