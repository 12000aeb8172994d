"""Either allele in the region around a variant, with scores that can be counted by hand, and what is refused."""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omics_transformers.data_scripts.genomes import Genome, open_genome
from omics_transformers.pipelines.region_ranking_variants import RegionVariantEffects, require_region_bp, score_variants
from omics_transformers.pipelines.region_tokens import TokenLimit
from omics_transformers.pipelines.segmentation_input import FastaFile
from omics_transformers.pipelines.variant_windows import Variant, parse_variant

LIMIT = TokenLimit(21, 6)
SEQUENCE = "".join(np.random.default_rng(0).choice(list("ACGT"), 400)) + "N" * 200


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Genome]:
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text(f">chr1\n{SEQUENCE}\n")
    with open_genome(path) as opened:
        yield opened


def count_g(sequences: Sequence[bytes]) -> np.ndarray:
    return np.float32([sequence.count(b"G") for sequence in sequences])


def at(start: int, removed: int, inserted: str) -> Variant:
    """The variant that replaces so many bases, as a VCF has it."""
    return Variant("chr1", start, SEQUENCE[start : start + removed], inserted)


def effects(genome: object, *variants: Variant, region_bp: int = 60, phases: int = 1) -> RegionVariantEffects:
    return score_variants(variants, genome, count_g, LIMIT, region_bp=region_bp, phases=phases)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.integers(0, 380), st.integers(1, 8), st.text("ACGT", min_size=1, max_size=8), st.sampled_from([18, 60, 61]))
def test_the_regions_length_is_the_references(
    genome: Genome, start: int, removed: int, inserted: str, region_bp: int
) -> None:
    variant = at(start, removed, inserted)
    found = effects(genome, variant, region_bp=region_bp).variants.iloc[0]
    first, last = found["region_start"], found["region_end"]
    assert last - first == region_bp or last == 400  # N at the end is cut off
    assert first <= start and variant.end <= last
    reference = SEQUENCE[first:last]
    alternative = reference[: start - first] + inserted + reference[variant.end - first :]
    assert found["reference_score"] == reference.count("G") and found["alternative_score"] == alternative.count("G")
    assert found["effect"] == alternative.count("G") - reference.count("G")


def test_columns_and_order(genome: Genome) -> None:
    chosen = [at(100, 1, "A"), at(150, 1, "GGGG" + SEQUENCE[150]), at(200, 2, SEQUENCE[200])]
    found = effects(genome, *chosen)
    assert list(found.variants.columns) == [
        "rank", "variant", "name", "contig", "start", "reference", "alternative", "region_start", "region_end",
        "reference_score", "alternative_score", "effect",
    ]  # fmt: skip
    assert found.variants["variant"].iloc[0] == str(chosen[1]) and found.variants["effect"].iloc[0] == 4
    absolute = found.variants["effect"].abs()
    assert (absolute.diff().dropna() <= 0).all() and found.variants["rank"].iloc[0] == 1
    assert found.variants["effect"].dtype == np.float32
    assert found.summary == {"variants": 3, "scored": 3, "region_bp": 60, "phases": 1}


def test_phases_average_over_first_bases(genome: Genome) -> None:
    def first_base_is_g(sequences: Sequence[bytes]) -> np.ndarray:
        return np.float32([sequence.startswith(b"G") for sequence in sequences])

    variant = at(200, 1, "ACGTACG")
    found = score_variants([variant], genome, first_base_is_g, LIMIT, region_bp=60, phases=6).variants.iloc[0]
    start = found["region_start"]
    share = SEQUENCE[start : start + 6].count("G") / 6
    assert found["reference_score"] == found["alternative_score"] == pytest.approx(share)
    edge = score_variants([at(0, 1, "G")], genome, first_base_is_g, LIMIT, region_bp=60, phases=6).variants.iloc[0]
    assert edge["alternative_score"] == 1  # no phase begins behind the edit


def test_variants_without_a_score_and_why(genome: Genome, caplog: pytest.LogCaptureFixture) -> None:
    insertion = at(200, 1, SEQUENCE[200] + "A" * 7)
    with caplog.at_level(logging.WARNING):
        found = effects(genome, at(100, 1, "A"), insertion, at(210, 70, SEQUENCE[210]), region_bp=120)
    assert len(found.variants) == 2 and found.summary["scored"] == 2
    (entry,) = found.not_scored.to_dict("records")
    assert entry["variant"] == str(insertion) and "its region has 23 tokens with the longer allele" in entry["reason"]
    assert "is not scored" in caplog.text
    found = effects(genome, at(210, 70, SEQUENCE[210]))
    assert found.not_scored["reason"][0] == "it removes 69 bases of a region of 60" and found.variants.empty


def test_indels_shift_kmers(genome: Genome, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        effects(genome, at(200, 1, SEQUENCE[200] + "AC"))
    assert "1 variants change the length by no multiple of 6" in caplog.text


def test_a_fasta_file_does_as_well(genome: Genome) -> None:
    chosen = [at(5, 1, "ACG"), at(300, 4, "A")]
    one, other = effects(genome, *chosen), effects(FastaFile(genome.path), *chosen)
    assert one.variants.equals(other.variants)
    with pytest.raises(ValueError, match="no contig 'chr7' in"):
        effects(FastaFile(genome.path), parse_variant("chr7:5:A>C"))
    wrong = parse_variant(f"chr1:9999:A>{'C'}")
    for given_genome in (genome, FastaFile(genome.path)):
        with pytest.raises(ValueError, match=r"1 of 1 variants have another reference .*chr1:9999:A>C.* genome has N"):
            effects(given_genome, wrong)


def test_what_is_refused(genome: Genome) -> None:
    base = SEQUENCE[99]
    wrong = next(letter for letter in "ACGT" if letter != base)
    with pytest.raises(ValueError, match=f"chr1:100:{wrong}>{base} .1-based., where the genome has {base}"):
        effects(genome, parse_variant(f"chr1:100:{wrong}>{base}"))
    for phases in (0, 7):
        with pytest.raises(ValueError, match=f"phases is {phases}: expected 1 to 6"):
            effects(genome, at(100, 1, "A"), phases=phases)


def test_lengths_that_the_model_does_not_take() -> None:
    for region_bp in (5, 121):
        with pytest.raises(
            ValueError, match=f"region_bp is {region_bp}: expected 6 .a k-mer. to 120, which is 21 tokens"
        ):
            require_region_bp(region_bp, LIMIT)
    with pytest.raises(ValueError, match=r"region_bp is 119, which is 25 tokens.* the model takes 21: take 114"):
        require_region_bp(119, LIMIT)
    for region_bp in (6, 60, 114, 120):
        require_region_bp(region_bp, LIMIT)
