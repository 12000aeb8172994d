"""Lifted variants against edits of either assembly, pyliftover, and what is lost or refused."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.edited_windows import apply_variants
from omics_transformers.data_scripts.genomes import open_genome, reverse_complement
from omics_transformers.data_scripts.sequence_variants import SequenceVariant, parse_variant
from omics_transformers.data_scripts.variant_lift import lift_variants

OLD = "".join(np.random.default_rng(2).choice(list("ACGT"), 100))
# The new assembly lacks 3 bases at 50 and has 2 more at 70; on chrR it is the old one turned round.
NEW = OLD[10:50] + OLD[53:70] + "GG" + OLD[70:]


def write_assembly(folder: Path, **contigs: str) -> Path:
    path = folder / "new.fa"
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in contigs.items()))
    return path


def write_chain(folder: Path, *, new_length: int = len(NEW)) -> Path:
    path = folder / "oldToNew.chain"
    path.write_text(
        f"chain 9 chr1 100 + 10 100 chr1 {new_length} + 0 89 1\n40\t3\t0\n17\t0\t2\n30\n\n"
        "chain 9 chrR 100 + 0 100 chrR 100 - 0 100 2\n100\n\n"
    )
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_assembly(tmp_path, chr1=NEW, chrR=reverse_complement(OLD.encode()).decode())
    write_chain(tmp_path)
    return tmp_path


def variant_at(start: int, length: int, alternative: str, contig: str = "1") -> SequenceVariant:
    return SequenceVariant(contig, start, start + length, OLD[start : start + length], alternative)


def other(start: int) -> str:
    return "ACGT"[("ACGT".index(OLD[start]) + 1) % 4]


def test_places_and_reasons(folder: Path) -> None:
    variants = [
        variant_at(20, 1, other(20)),
        variant_at(60, 3, OLD[60]),
        variant_at(80, 1, OLD[80] + "TTT"),
        variant_at(5, 1, other(5)),
        variant_at(48, 7, OLD[48]),
        variant_at(51, 1, other(51)),
        variant_at(68, 4, OLD[68]),
        parse_variant("1:31-40:inv"),
        parse_variant("1:61-75:dup"),
        parse_variant("2:5:A>C"),
    ]
    with open_genome(folder / "new.fa") as genome:
        found = lift_variants(variants, folder / "oldToNew.chain", genome=genome, minimum_match=0.8)
    assert [(str(one)[:10], one.start) for one in found.variants] == [
        (f"chr1:11:{OLD[20]}>"[:10], 10),
        (f"chr1:48:{OLD[60]}"[:9] + OLD[61], 47),
        (f"chr1:70:{OLD[80]}>"[:10], 69),
        ("chr1:21-30", 20),
        ("chr1:48-64", 47),
    ]
    assert found.rows.tolist() == [0, 1, 2, 7, 8]
    assert [reason for _, reason in found.not_lifted] == [
        "no place", "length changed", "no place", "length changed", "no place",
    ]  # fmt: skip
    assert found.report == {
        "chain": "oldToNew.chain", "lifted": 5, "turned": 0, "lost": {"length changed": 2, "no place": 3},
        "share lost": 0.5,
    }  # fmt: skip


sites = st.tuples(st.integers(1, 90), st.integers(1, 8), st.text("ACGT", min_size=1, max_size=6), st.booleans())


@pytest.mark.parity
@given(sites)
def test_on_the_other_strand_the_edit_is_the_same_turned_round(site: tuple[int, int, str, bool]) -> None:
    start, length, alternative, has_base = site
    alternative = OLD[start] + alternative if has_base else alternative
    if alternative == OLD[start : start + length]:
        return
    variant = variant_at(start, length, alternative, "R")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_assembly(folder, chrR=reverse_complement(OLD.encode()).decode())
        with open_genome(path) as genome:
            found = lift_variants([variant], write_chain(folder), genome=genome)
            (lifted,) = found.variants
            tss = 99 if lifted.end < 99 else 0  # away from the edit
            edited = apply_variants(genome, [lifted], contig="R", tss=tss, window_bp=400).sequence.strip("N")
    assert found.report["turned"] == 1
    expected = OLD[:start] + alternative + OLD[start + length :]
    assert edited == reverse_complement(expected.encode()).decode()
    if lifted.kind in ("insertion", "deletion"):  # with the base in front
        assert lifted.reference[0] == lifted.alternative[0]


def test_the_reference_allele_is_held_against_the_target(folder: Path) -> None:
    bases = list(NEW)
    bases[10], bases[11] = other(20), "ACGT"[("ACGT".index(OLD[21]) + 2) % 4]
    path = write_assembly(folder, chr1="".join(bases))
    variants = [variant_at(start, 1, other(start)) for start in range(20, 26)]
    with open_genome(path) as genome:
        found = lift_variants(variants, folder / "oldToNew.chain", genome=genome)
    assert found.rows.tolist() == [2, 3, 4, 5]
    assert found.report["lost"] == {
        "another reference allele in the target genome": 1,
        "the target genome's reference is the alternative allele": 1,
    }


def test_pieces_of_the_target_and_contigs_that_it_lacks(folder: Path) -> None:
    path = write_assembly(folder, chr1=NEW[30:60])
    variants = [variant_at(start, 1, other(start)) for start in (20, 45, 90)] + [variant_at(3, 1, other(3), "R")]
    with open_genome(path, offsets={"chr1": 30}) as genome:
        found = lift_variants(variants, folder / "oldToNew.chain", genome=genome)
    assert [one.start for one in found.variants] == [35]
    assert found.report["lost"] == {
        "on a contig that the genome lacks": 1,
        "outside the genome's piece of the contig": 2,
    }


def test_a_chain_of_other_assemblies_is_refused(folder: Path) -> None:
    variants = [variant_at(start, 1, other(start)) for start in range(20, 45)]
    with open_genome(folder / "new.fa") as genome:
        with pytest.raises(ValueError, match=r"leads to a contig chr1 of 80 bp; in .*new.fa it ends at 89\. It is not"):
            lift_variants(variants, write_chain(folder, new_length=80), genome=genome)
        chain = write_chain(folder)
        with pytest.raises(ValueError, match=r"of 25 lifted variants have another reference allele than .*new\.fa"):
            moved = [
                SequenceVariant("1", one.start + 1, one.end + 1, one.reference, one.alternative) for one in variants
            ]
            lift_variants(moved, chain, genome=genome)
        with pytest.raises(ValueError, match=r"a place for none of 1 variants \(on 7\): {'no place': 1}"):
            lift_variants([parse_variant("7:5:A>C")], chain, genome=genome)
        with pytest.raises(ValueError, match="minimum_match is 2"):
            lift_variants(variants, chain, genome=genome, minimum_match=2)
        with pytest.raises(FileNotFoundError, match="no chain file"):
            lift_variants(variants, folder / "none.chain", genome=genome)
        assert lift_variants([], chain, genome=genome).report["share lost"] == 0
    with (
        open_genome(write_assembly(folder, chr1=OLD)) as old,
        pytest.raises(ValueError, match="it ends at 100 as in the assembly that the chain leads from"),
    ):
        lift_variants(variants, chain, genome=old)


@pytest.mark.real_data
@pytest.mark.parity
def test_places_agree_with_pyliftover(data_folder: Path) -> None:
    """hg38 to hg19 on chromosome 20: SNVs at random places, and close to where chains break."""
    pyliftover = pytest.importorskip("pyliftover")
    path = data_folder / "annotation/hg38ToHg19.over.chain.gz"
    other_way = pyliftover.LiftOver(str(path))
    generator = np.random.default_rng(1)
    positions = np.unique(np.append(generator.integers(60_000, 64_400_000, 1500), 29_400_000 + 700 * np.arange(3000)))
    variants, expected = [], []
    with open_genome(data_folder / "genome/chr20.GRCh37.fa.gz") as genome:
        for position in positions.tolist():
            places = other_way.convert_coordinate("chr20", position)
            bases = [
                (start, strand, genome.fetch("20", start, start + 1).decode())
                for contig, start, strand, _ in places
                if contig == "chr20"
            ]
            base = bases[0][2] if bases else "A"
            if base == "N":
                continue
            if bases and bases[0][1] == "-":
                base = reverse_complement(base.encode()).decode()
            variants.append(SequenceVariant("chr20", position, position + 1, base, "C" if base != "C" else "T"))
            expected.append((bases[0][0], bases[0][1]) if len(bases) == len(places) == 1 else None)
        found = lift_variants(variants, path, genome=genome)
    lifted = dict(zip(found.rows.tolist(), found.variants, strict=True))
    assert [one.start if (one := lifted.get(row)) else None for row in range(len(variants))] == [
        place[0] if place else None for place in expected
    ]
    turned = [row for row, place in enumerate(expected) if place and place[1] == "-"]
    assert len(turned) == found.report["turned"]
    assert len(found.variants) > 1000 and found.not_lifted and turned


@pytest.mark.real_data
def test_gata4_from_hg38_to_hg19(data_folder: Path) -> None:
    chain, fasta = (
        data_folder / "annotation/hg38ToHg19.over.chain.gz",
        data_folder / "genome/GATA4_chr8_11496144-11627216.hg19.fa",
    )
    with open_genome(fasta, offsets={"8": 11_496_144}) as genome:
        base = genome.fetch("8", 11_561_710, 11_561_712).decode()
        variants = [
            parse_variant(f"chr8:11704202:{base[0]}>{'A' if base[0] != 'A' else 'C'}"),
            parse_variant(f"chr8:11704202:{base}>{base[0]}"),
            parse_variant("chr8:11704302-11704350:inv"),
        ]
        found = lift_variants(variants, chain, genome=genome)
        assert [one.start for one in found.variants] == [11_561_710, 11_561_710, 11_561_810]
        window = apply_variants(genome, found.variants[:1], contig="8", tss=11_561_710)
        assert window.sequence[98_304] != window.reference[98_304]
        with pytest.raises(ValueError, match="chain from the variants' assembly to the genome's"):
            lift_variants(variants, data_folder / "annotation/hg19ToHg38.over.chain.gz", genome=genome)
    with (
        open_genome(data_folder / "genome/chr20.GRCh37.fa.gz") as hg19,
        pytest.raises(ValueError, match=r"of 64,444,167 bp; in .* it ends at 63,025,520 as in the assembly that"),
    ):
        lift_variants(variants, data_folder / "annotation/hg19ToHg38.over.chain.gz", genome=hg19)
