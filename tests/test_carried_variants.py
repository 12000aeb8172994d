"""Variants put into a window: of a list, a VCF and a sample; what each haplotype carries, and what is said of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omics_transformers.carried_variants import NAMED, CarriedVariants, carry_variants
from omics_transformers.data_scripts.genomes import Genome, open_genome
from omics_transformers.perturbation_options import EditOptions
from omics_transformers.promoter_windows import Promoter, WindowLayout

TSS, WINDOW_BP = 100, 40
SEQUENCE = "".join(np.random.default_rng(0).choice(list("ACGT"), 400))
HEADER = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tone\ttwo\n"


@pytest.fixture
def genome(tmp_path: Path) -> Iterator[Genome]:
    (tmp_path / "genome.fa").write_text(f">chr1\n{SEQUENCE}\n>chr2\n{SEQUENCE}\n")
    with open_genome(tmp_path / "genome.fa") as opened:
        yield opened


def promoter() -> Promoter:
    start, end = TSS - WINDOW_BP // 2, TSS + WINDOW_BP // 2
    return Promoter("G1", "GENE", "chr1", "+", TSS, start, end, SEQUENCE[start:end], WindowLayout(WINDOW_BP))


def snv(place: int, contig: str = "chr1") -> tuple[str, str]:
    """As text, and its alternative base."""
    alternative = "A" if SEQUENCE[place] != "A" else "C"
    return f"{contig}:{place + 1}:{SEQUENCE[place]}>{alternative}", alternative


def row(place: int, reference: str, alternative: str, genotypes: str, name: str = ".") -> str:
    return f"chr1\t{place + 1}\t{name}\t{reference}\t{alternative}\t.\t.\t.\tGT\t{genotypes}\n"


def carry(genome: Genome, **options: Any) -> CarriedVariants:
    return carry_variants(genome, promoter(), EditOptions(**options))


def test_a_list_is_carried_by_both_haplotypes(genome: Genome) -> None:
    near, base = snv(95)
    carried = carry(genome, variants=[near, snv(300)[0], snv(95, "chr2")[0]])
    (window,) = carried.windows
    expected = SEQUENCE[:95] + base + SEQUENCE[96:]
    assert window.sequence == expected[80:120] and window.reference == SEQUENCE[80:120]
    assert carried.table["status"].tolist() == ["applied", "out of reach", "out of reach"]
    assert set(carried.table["haplotype"]) == {"both"} and set(carried.table["gene_id"]) == {"G1"}
    assert carried.notes()[0] == f"Both haplotypes: 1 variant applied: {near}."
    assert "2 variants out of reach of the window: chr1:301" in carried.notes()[1]


def test_a_sample_has_two_haplotypes_and_a_list_is_added_to_both(genome: Genome, tmp_path: Path) -> None:
    listed, base = snv(110)
    reference = SEQUENCE[90]
    rows = [
        row(85, SEQUENCE[85:88], SEQUENCE[85], "0|1\t1|1", "deletion"),
        row(90, reference, reference + "GG", "1|0\t0|0", "insertion"),
        row(300, SEQUENCE[300], "A" if SEQUENCE[300] != "A" else "C", "1|0\t0|0"),
        row(85, SEQUENCE[85], "A" if SEQUENCE[85] != "A" else "C", "1|1\t1|1").replace("chr1", "chr2"),
    ]
    (tmp_path / "donors.vcf").write_text(HEADER + "".join(rows))
    carried = carry(genome, vcf=tmp_path / "donors.vcf", sample="one", variants=[listed])
    first, second = carried.windows
    common = SEQUENCE[:110] + base + SEQUENCE[111:]
    # The TSS stays in the middle: what is upstream of it moves.
    assert first.sequence == (common[:91] + "GG" + common[91:])[82:122]
    assert second.sequence == (common[:86] + common[88:])[78:118]
    assert carried.table["status"].tolist() == ["applied", "applied", "out of reach", "applied", "applied"]
    applied = carried.table[carried.table["status"] == "applied"].groupby("haplotype")["kind"].apply(sorted).to_dict()
    assert applied == {"1": ["insertion", "snv"], "2": ["deletion", "snv"]}
    assert carried.report["lines outside every window"] == 1
    assert "Of the two, the figure shows haplotype 1 base by base." in carried.notes()
    assert any("1 lines outside every window" in note for note in carried.notes())
    alike = carry(genome, vcf=tmp_path / "donors.vcf", sample="two")
    assert len(alike.windows) == 1 and alike.table["name"].tolist() == ["deletion"]
    everything = carry(genome, vcf=tmp_path / "donors.vcf")
    assert [variant.name for variant in everything.windows[0].applied] == ["deletion", "insertion"]


def test_what_becomes_of_the_tss_and_of_overlaps_is_said(genome: Genome) -> None:
    carried = carry(genome, variants=["chr1:99-103:del", snv(101)[0]], overlapping="first")
    notes = " ".join(carried.notes())
    assert "left out, overlapping an earlier one" in notes
    assert "the TSS is lost; the window is centred on base 104 (1-based)" in notes
    assert carried.table["status"].tolist() == ["applied", "overlaps an earlier one"]


def test_bases_are_aligned_with_gaps(genome: Genome) -> None:
    inserted = f"chr1:91:{SEQUENCE[90]}>{SEQUENCE[90]}GG"
    removed = f"chr1:111:{SEQUENCE[110:113]}>{SEQUENCE[110]}"
    carried = carry(genome, variants=[removed, snv(95)[0], inserted])
    bases = carried.bases
    assert bases is not None
    assert "".join(bases["reference"]) == SEQUENCE[71:91] + "--" + SEQUENCE[91:133]  # one stretch, nothing twice
    shown = "".join(bases["edited"])
    assert shown == SEQUENCE[71:91] + "GG" + SEQUENCE[91:95] + snv(95)[1] + SEQUENCE[96:111] + "--" + SEQUENCE[113:133]
    assert bases.loc[bases["is_changed"], "offset"].tolist() == [-10, -10, -5, 11, 12]
    assert (bases["offset"] - bases["position"] == -WINDOW_BP // 2).all()
    haplotype = SEQUENCE[:91] + "GG" + SEQUENCE[91:95] + snv(95)[1] + SEQUENCE[96:111] + SEQUENCE[113:]
    assert shown.replace("-", "") in haplotype and carried.windows[0].sequence in haplotype
    assert carry(genome, variants=["chr1:91-99:inv"]).bases is None


def test_many_variants_are_named_in_part(genome: Genome) -> None:
    carried = carry(genome, variants=[snv(place)[0] for place in range(82, 118, 2)])
    assert carried.notes()[0].endswith(f"and {18 - NAMED} more (variants.tsv).")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variants": [snv(300)[0]]}, r"none of 1 variants reaches the window of GENE, chr1:81-120 \(1-based\)"),
        ({"variants": ["chr1:500:A>C"]}, "outside their contig"),
        ({"variants": ["chr3:5:A>C"]}, "chr3"),
        ({"variants": [snv(95)[0], "chr1:94-97:inv"]}, "overlap on one haplotype"),
    ],
)
def test_what_is_refused(genome: Genome, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        carry(genome, **options)
