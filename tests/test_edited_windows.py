"""Windows of haplotypes against plain lists of bases, edited from right to left."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omics_transformers.data_scripts.edited_windows import apply_variants
from omics_transformers.data_scripts.genomes import Genome, open_genome
from omics_transformers.data_scripts.sequence_variants import SequenceVariant, parse_variant

SEQUENCE = "".join(np.random.default_rng(5).choice(list("ACGT"), 60))
_PAIRS = {"A": "T", "C": "G", "G": "C", "T": "A", "N": "N"}


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    path = tmp_path_factory.mktemp("edited") / "g.fa"
    path.write_text(f">chr1\n{SEQUENCE}\n>2\n{SEQUENCE}\n")
    return open_genome(path)


def naive_window(
    variants: list[SequenceVariant], tss: int, strand: str, window_bp: int, oriented: bool
) -> tuple[str, str]:
    """Each base with its origin; edits from right to left; then the window, and the gene's strand.

    Origins: a coordinate; ("copy", coordinate); ("put", coordinate or None) for bases that the reference lacks.
    """
    haplotype: list[tuple[Any, str]] = list(enumerate(SEQUENCE))
    downstream = None  # where the TSS is gone: how many entries lie behind the hole
    for variant in sorted(variants, key=lambda one: one.start, reverse=True):
        start, end = variant.start, variant.end
        old = haplotype[start:end]
        new, hole = edited(old, variant, strand)
        if variant.alternative == "<INV>" and start <= tss < end:
            strand = "-" if strand == "+" else "+"
        haplotype[start:end] = new
        if start <= tss < end and not {tss, ("put", tss)} & {origin for origin, _ in new}:
            downstream = len(haplotype) - (start + hole)
    if downstream is None:
        place = next(i for i, (origin, _) in enumerate(haplotype) if origin in (tss, ("put", tss)))
    else:
        hole = len(haplotype) - downstream
        places = range(hole, len(haplotype)) if strand == "+" else range(hole - 1, -1, -1)
        place = next(i for i in places if haplotype[i][0] != ("put", None))
    bases = [base for _, base in haplotype]
    if oriented and strand == "-":
        bases = [_PAIRS[base] for base in reversed(bases)]
        place = len(bases) - 1 - place
    window = range(place - window_bp // 2, place - window_bp // 2 + window_bp)
    return "".join(bases[i] if 0 <= i < len(bases) else "N" for i in window), strand


def edited(old: list[tuple[Any, str]], variant: SequenceVariant, strand: str) -> tuple[list[tuple[Any, str]], int]:
    """The entries that come for a variant's, and where among them the first changed one is."""
    if variant.alternative == "<INV>":
        return [(origin, _PAIRS[base]) for origin, base in reversed(old)], 0
    if variant.alternative == "<DUP>":
        copies = [(("copy", origin), base) for origin, base in old]
        return (copies + old if strand == "+" else old + copies), 0
    if variant.alternative == "<DEL>":
        return [], 0
    front = in_common(variant.reference, variant.alternative)
    rest, put = variant.reference[front:], variant.alternative[front:]
    back = in_common(rest[::-1], put[::-1])
    put = put[: len(put) - back]
    first = variant.start + front if len(rest) - back == len(put) else None
    middle = [(("put", None if first is None else first + i), base) for i, base in enumerate(put)]
    return old[:front] + middle + old[len(old) - back :], front


def in_common(one: str, other: str) -> int:
    return max(n for n in range(min(len(one), len(other)) + 1) if one[:n] == other[:n])


@st.composite
def haplotypes(draw: st.DrawFn) -> list[SequenceVariant]:
    """Variants apart by at least a base, of all kinds."""
    variants, position = [], draw(st.integers(0, 12))
    while position < len(SEQUENCE) - 1 and len(variants) < 6:
        kind = draw(st.sampled_from(["sequence", "sequence", "<INV>", "<DUP>", "<DEL>"]))
        end = min(position + draw(st.integers(1, 8)), len(SEQUENCE) - 1)
        if kind == "sequence":
            reference = SEQUENCE[position:end]
            alternative = draw(st.text("ACGT", min_size=1, max_size=8))
            if draw(st.booleans()):
                alternative = reference[0] + alternative
            if alternative != reference:
                variants.append(SequenceVariant("1", position, end, reference, alternative))
        else:
            variants.append(SequenceVariant("1", position, end, "", kind))
        position = end + draw(st.integers(0, 12))
    return variants


@pytest.mark.parity
@settings(max_examples=400)
@given(haplotypes(), st.integers(0, 58), st.sampled_from("+-"), st.integers(1, 90), st.booleans(), st.randoms())
def test_windows_agree_with_plain_lists(
    genome: Genome, variants: list[SequenceVariant], tss: int, strand: str, window_bp: int, oriented: bool, random
) -> None:
    shuffled = list(variants)
    random.shuffle(shuffled)
    arguments = {"contig": "1", "tss": tss, "strand": strand, "window_bp": window_bp, "orient_by_strand": oriented}
    try:
        expected, new_strand = naive_window(variants, tss, strand, window_bp, oriented)
    except StopIteration:
        with pytest.raises(ValueError, match="is deleted together with all of the contig downstream"):
            apply_variants(genome, shuffled, **arguments)
        return
    found = apply_variants(genome, shuffled, **arguments)
    assert found.sequence == expected
    assert found.strand == new_strand
    assert found.reference == naive_window([], tss, strand, window_bp, oriented)[0]
    assert sorted(map(str, found.applied + found.out_of_reach)) == sorted(map(str, variants))
    # What is out of reach changes nothing, and what is within reach is all that is needed.
    assert apply_variants(genome, found.applied, **arguments).sequence == expected


def window_of(genome: Genome, *texts: str, tss: int = 30, window_bp: int = 20, **settings: Any) -> Any:
    variants = [parse_variant(text) for text in texts]
    return apply_variants(genome, variants, contig="chr1", tss=tss, window_bp=window_bp, **settings)


def text_of(start: int, length: int, alternative: str) -> str:
    """A variant of `length` bases from a 0-based position."""
    return f"1:{start + 1}:{SEQUENCE[start : start + length]}>{alternative}"


def test_a_deletion_is_refilled_from_both_sides(genome: Genome) -> None:
    left = window_of(genome, text_of(24, 4, SEQUENCE[24]))
    assert left.sequence == SEQUENCE[17:25] + SEQUENCE[28:40]
    assert (left.anchor, left.tss_is_kept, left.tss_shift, left.sequence[10]) == (30, True, -3, SEQUENCE[30])
    right = window_of(genome, text_of(32, 4, SEQUENCE[32]))
    assert right.sequence == SEQUENCE[20:33] + SEQUENCE[36:43]
    assert right.tss_shift == 0


@pytest.mark.parametrize(("strand", "anchor", "shift"), [("+", 33, -2), ("-", 27, -3)])
def test_a_deleted_tss_gives_way_to_the_nearest_base_downstream(
    genome: Genome, strand: str, anchor: int, shift: int
) -> None:
    found = window_of(genome, "1:29-33:del", strand=strand)
    place = 28 if strand == "+" else 27
    edited = SEQUENCE[:28] + SEQUENCE[33:]
    assert found.sequence == edited[place - 10 : place + 10]
    assert (found.anchor, found.tss_is_kept, found.tss_shift, found.strand) == (anchor, False, shift, strand)
    assert [str(one) for one in found.applied] == ["1:29-33:del"]
    with pytest.raises(ValueError, match="deleted together with all of the contig downstream"):
        window_of(genome, "1:29-60:del" if strand == "+" else "1:1-33:del", strand=strand)


def test_what_follows_a_deleted_tss_is_part_of_the_change(genome: Genome) -> None:
    """A deletion behind it moves the anchor on, an SNV behind it is the anchor."""
    both = window_of(genome, "1:29-33:del", "1:34-35:del", window_bp=1)
    assert (both.anchor, both.sequence, len(both.applied)) == (35, SEQUENCE[35], 2)
    snv = window_of(genome, "1:29-33:del", text_of(33, 1, other(33)), window_bp=1)
    assert (snv.anchor, snv.sequence, len(snv.applied)) == (33, other(33), 2)


def test_an_inversion_that_holds_the_tss_turns_the_gene(genome: Genome) -> None:
    found = window_of(genome, "1:21-40:inv", orient_by_strand=True)
    assert (found.strand, found.anchor, found.tss_shift) == ("-", 30, -1)
    assert found.sequence[:19] == ("".join(_PAIRS[base] for base in reversed(SEQUENCE[40:41])) + SEQUENCE[20:40])[1:20]


def test_what_is_near_in_the_reference_may_be_out_of_reach_and_the_other_way_round(genome: Genome) -> None:
    pushed_out = window_of(genome, text_of(25, 1, SEQUENCE[25] + "ACGTACGT"), snv := text_of(21, 1, other(21)))
    assert [str(one) for one in pushed_out.out_of_reach] == [snv]
    drawn_in = window_of(genome, text_of(24, 4, SEQUENCE[24]), snv := text_of(18, 1, other(18)))
    assert str(drawn_in.applied[0]) == snv
    assert drawn_in.sequence[1] == other(18)
    elsewhere = window_of(genome, "2:31:" + SEQUENCE[30] + ">" + other(30))
    assert (elsewhere.sequence, len(elsewhere.out_of_reach)) == (elsewhere.reference, 1)


def other(position: int) -> str:
    return "ACGT"[("ACGT".index(SEQUENCE[position]) + 1) % 4]


def test_variants_at_one_place(genome: Genome) -> None:
    base = SEQUENCE[29]
    insertion, snv = text_of(29, 1, base + "TTTT"), text_of(30, 1, other(30))
    found = window_of(genome, snv, insertion)
    assert found.sequence == SEQUENCE[24:30] + "TTTT" + other(30) + SEQUENCE[31:40]
    same_base = window_of(genome, insertion, text_of(29, 1, other(29)))
    assert same_base.sequence == SEQUENCE[24:29] + other(29) + "TTTT" + SEQUENCE[30:40]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("1:25-30:del", text_of(28, 1, other(28))),
        ("1:25-30:inv", "1:30-35:dup"),
        (text_of(28, 1, SEQUENCE[28] + "A"), text_of(28, 1, SEQUENCE[28] + "C")),
        (text_of(28, 1, other(28)), text_of(28, 1, other(28))),
        ("1:25-30:del", text_of(27, 1, SEQUENCE[27] + "A")),
    ],
)
def test_overlapping_variants_are_both_named_or_the_first_is_taken(genome: Genome, first: str, second: str) -> None:
    with pytest.raises(ValueError, match=rf"{first} and {second} overlap on one haplotype.*overlapping=\"first\""):
        window_of(genome, first, second)
    found = window_of(genome, first, second, overlapping="first")
    assert ([str(one) for one in found.applied], [str(one) for one in found.left_out]) == ([first], [second])
    assert found.sequence == window_of(genome, first).sequence


def test_what_is_refused(genome: Genome) -> None:
    for settings_given, message in (
        ({"window_bp": 0}, "positive number"),
        ({"strand": "."}, r"expected \+ or -"),
        ({"overlapping": "last"}, 'expected "error" or "first"'),
        ({"tss": 60}, r"the TSS chr1:61 \(1-based\) is outside the contig, 1-60"),
    ):
        with pytest.raises(ValueError, match=message):
            window_of(genome, **settings_given)
    with pytest.raises(ValueError, match="another reference allele"):
        window_of(genome, f"1:31:{other(30)}>{SEQUENCE[30]}")
    with pytest.raises(ValueError, match="outside their contig"):
        window_of(genome, "1:61:A>C")


def test_long_inversions_read_far_away(tmp_path: Path) -> None:
    bases = "".join(np.random.default_rng(6).choice(list("ACGT"), 5000))
    (tmp_path / "g.fa").write_text(f">1\n{bases}\n")
    with open_genome(tmp_path / "g.fa") as genome:
        found = window_of(genome, "1:1001-4000:inv", tss=1005, window_bp=40)
    edited_contig = bases[:1000] + "".join(_PAIRS[base] for base in reversed(bases[1000:4000])) + bases[4000:]
    place = 1000 + 3999 - 1005
    assert found.sequence == edited_contig[place - 20 : place + 20]
    assert (found.strand, found.tss_shift) == ("-", place - 1005)


@pytest.mark.real_data
def test_gata4_with_snvs_and_indels_around_its_tss(data_folder: Path) -> None:
    path = data_folder / "genome/GATA4_chr8_11496144-11627216.hg19.fa"
    tss = 11_561_710
    with open_genome(path, offsets={"8": 11_496_144}) as genome:
        reference = genome.fetch("8", tss - 5_000, tss + 5_000).decode()

        def at(offset: int, length: int) -> str:
            return reference[5_000 + offset : 5_000 + offset + length]

        snv = f"chr8:{tss - 100 + 1}:{at(-100, 1)}>{'A' if at(-100, 1) != 'A' else 'C'}"
        deletion = f"chr8:{tss - 50 + 1}:{at(-50, 8)}>{at(-50, 1)}"
        insertion = f"8:{tss + 20 + 1}:{at(20, 1)}>{at(20, 1)}GATAAG"
        far = f"8:{tss - 65_000 + 1}-{tss - 64_990}:del"
        variants = [parse_variant(text) for text in (insertion, snv, deletion, far)]
        found = apply_variants(genome, variants, contig="chr8", tss=tss)
        with pytest.raises(ValueError, match=r"another reference allele .*first chr8:11561711 "):
            wrong = "A" if at(0, 1) != "A" else "C"
            apply_variants(genome, [parse_variant(f"chr8:{tss + 1}:{wrong}>G")], contig="chr8", tss=tss)
        with pytest.raises(ValueError, match="outside their contig"):  # hg38's coordinate of the same place
            apply_variants(genome, [parse_variant("chr8:11704300:G>A")], contig="chr8", tss=tss)
    assert len(found.sequence) == len(found.reference) == 196_608
    middle = 98_304
    assert found.sequence[middle : middle + 21] == found.reference[middle : middle + 21]
    assert found.sequence[middle + 21 : middle + 27] == "GATAAG"
    assert found.sequence[middle + 27 : -6] == found.reference[middle + 21 : -12]
    assert found.sequence[middle - 42 : middle] == found.reference[middle - 42 : middle]
    assert found.sequence[middle - 93] != found.reference[middle - 100]
    assert [str(one) for one in found.applied] == [far, snv, deletion, insertion]
    assert (found.tss_shift, found.tss_is_kept) == (-17, True)
