"""Haplotypes of a phased, BGZF-compressed VCF, held against `bcftools consensus`."""

from pathlib import Path

import numpy as np
import pysam
import pysam.bcftools
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omics_transformers.data_scripts.donor_variants import read_donor_variants
from omics_transformers.data_scripts.edited_windows import apply_variants
from omics_transformers.data_scripts.genomes import Genome, open_genome

CONTIGS, CONTIG_BP, TSS = 12, 240, 120
DONORS = ("first", "second")


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bcftools") / "genome.fa"
    random = np.random.default_rng(3)
    contigs = ["".join(random.choice(list("ACGT"), CONTIG_BP)) for _ in range(CONTIGS)]
    path.write_text("".join(f">c{number}\n{bases}\n" for number, bases in enumerate(contigs)))
    pysam.faidx(str(path))
    return path


@pytest.fixture(scope="module")
def genome(fasta: Path) -> Genome:
    return open_genome(fasta)


@pytest.mark.parity
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1))
def test_haplotypes_are_those_of_bcftools(fasta: Path, genome: Genome, tmp_path: Path, seed: int) -> None:
    vcf = write_phased_vcf(tmp_path / f"{seed}.vcf", genome, np.random.default_rng(seed))
    found = read_donor_variants(vcf)
    for donor in DONORS:
        for number in (0, 1):
            expected = consensus(fasta, vcf, donor, number + 1)
            carried = found.haplotype(donor, number)
            for contig, sequence in expected.items():
                here = [variant for variant in carried if variant.contig == contig]
                # The TSS is in no variant, so it moves by the lengths gained and lost in front of it.
                tss = TSS + sum(variant.edit().length_change for variant in here if variant.start < TSS)
                window = apply_variants(genome, here, contig=contig, tss=TSS, window_bp=CONTIG_BP)
                padded = "N" * CONTIG_BP + sequence + "N" * CONTIG_BP
                assert window.sequence == padded[tss + CONTIG_BP // 2 : tss + CONTIG_BP // 2 + CONTIG_BP]


def write_phased_vcf(path: Path, genome: Genome, random: np.random.Generator) -> Path:
    """SNVs, insertions, deletions and substitutions with one or two alternative alleles, some bases apart."""
    lines = ["##fileformat=VCFv4.2", *(f"##contig=<ID=c{number},length={CONTIG_BP}>" for number in range(CONTIGS))]
    lines += ['##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
    lines.append("\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *DONORS]))
    for number in range(CONTIGS):
        bases = genome.fetch(f"c{number}", 0, CONTIG_BP).decode()
        start = int(random.integers(0, 20))
        while start < CONTIG_BP - 20:
            end = start + int(random.integers(1, 6))
            if not start <= TSS < end:
                reference = bases[start:end]
                alternatives = distinct_alleles(reference, random)
                genotypes = [
                    "|".join(map(str, random.integers(0, len(alternatives) + 1, 2))) for _ in DONORS
                ]  # no donor may carry it, or one haplotype, or each another allele
                columns = [f"c{number}", str(start + 1), ".", reference, ",".join(alternatives), ".", ".", ".", "GT"]
                lines.append("\t".join([*columns, *genotypes]))
            start = end + int(random.integers(3, 25))
    path.write_text("\n".join(lines) + "\n")
    return Path(pysam.tabix_index(str(path), preset="vcf", force=True))


def distinct_alleles(reference: str, random: np.random.Generator) -> list[str]:
    """One or two alleles that begin with the reference's first base unless they are of its length, as VCFs have it."""
    alleles: list[str] = []
    wanted = int(random.integers(1, 3))
    while len(alleles) < wanted:
        bases = "".join(random.choice(list("ACGT"), int(random.integers(1, 7))))
        allele = bases if len(bases) == len(reference) else reference[0] + bases
        if allele != reference and allele not in alleles:
            alleles.append(allele)
    return alleles


def consensus(fasta: Path, vcf: Path, donor: str, haplotype: int) -> dict[str, str]:
    """Contig -> what `bcftools consensus` makes of it."""
    text = pysam.bcftools.consensus("-f", str(fasta), "-s", donor, "-H", str(haplotype), str(vcf))
    return {record.split("\n", 1)[0]: record.split("\n", 1)[1].replace("\n", "") for record in text.split(">")[1:]}
