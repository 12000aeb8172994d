"""Embedding from files to gene features: against one window at a time, stopped, resumed, cached."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omics_transformers.data_scripts.gene_features import read_gene_features
from omics_transformers.data_scripts.genomes import open_genome, reverse_complement
from omics_transformers.modeling.modeling_enformer import EnformerForGeneFeatures
from omics_transformers.training import embedding
from omics_transformers.training.embedding import embed_promoters
from omics_transformers.training.small_enformer import make_small_enformer

WINDOW = 512
CONTIGS = {
    name: "".join(np.random.default_rng(seed).choice(list("ACGT"), 3000)) for seed, name in enumerate(("1", "2"))
}
GENES = [("G0", "chr1", "+", 900), ("G1", "chr1", "-", 2950), ("G2", "chr2", "+", 100), ("G3", "chr2", "-", 1500)]
# (contig, 0-based position, genotypes of ann, bob, cat): G0 has one variant, G3 two on different haplotypes of bob.
VARIANTS = [
    ("1", 950, "0|1 1|0 0|0"),
    ("2", 1400, "0|0 0|1 0|0"),
    ("2", 1600, "0|0 1|0 1|1"),
    ("2", 2900, "1|1 1|1 1|1"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """genome.fa, tss.tsv, donors.vcf and enformer/."""
    folder = tmp_path_factory.mktemp("embedding")
    (folder / "genome.fa").write_text("".join(f">{name}\n{bases}\n" for name, bases in CONTIGS.items()))
    rows = ["\t".join(map(str, gene)) for gene in GENES]
    (folder / "tss.tsv").write_text("gene_id\tcontig\tstrand\ttss\n" + "\n".join(rows) + "\n")
    header = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tann\tbob\tcat\n"
    lines = []
    for contig, position, genotypes in VARIANTS:
        fields = [
            contig,
            position + 1,
            ".",
            CONTIGS[contig][position],
            alternative(contig, position),
            ".",
            ".",
            ".",
            "GT",
        ]
        lines.append("\t".join([*map(str, fields), *genotypes.split()]))
    (folder / "donors.vcf").write_text(header + "\n".join(lines) + "\n")
    make_small_enformer(folder / "enformer", seed=0, dim=24, depth=1)
    return folder


def alternative(contig: str, position: int) -> str:
    return "ACGT"[("ACGT".index(CONTIGS[contig][position]) + 1) % 4]


def embed(folder: Path, output: Path, **settings: Any):
    settings = {"model": folder / "enformer", "window_bp": WINDOW, "progress": False, **settings}
    return embed_promoters(folder / "genome.fa", folder / "tss.tsv", output, **settings)


def window_of(gene: tuple[str, str, str, int], changes: dict[int, str] | None = None) -> str:
    _, contig, _, tss = gene
    bases = list("N" * WINDOW + CONTIGS[contig.removeprefix("chr")] + "N" * WINDOW)
    for position, base in (changes or {}).items():
        bases[WINDOW + position] = base
    return "".join(bases[WINDOW + tss - WINDOW // 2 : WINDOW + tss + WINDOW // 2])


def features_of(folder: Path, sequences: list[str], **settings: Any) -> np.ndarray:
    model = EnformerForGeneFeatures.from_pretrained(folder / "enformer").eval()
    with torch.no_grad():
        return np.concatenate([model.gene_features([sequence], **settings).numpy() for sequence in sequences])


@pytest.mark.parametrize("batch_size", [1, 3])
def test_each_gene_has_the_features_of_its_window(folder: Path, tmp_path: Path, batch_size: int) -> None:
    output = tmp_path / "f.safetensors"
    found = embed(folder, output, batch_size=batch_size, layer="transformer", pool=2, assembly="sim")
    assert found.gene_ids == [gene[0] for gene in GENES]
    expected = features_of(folder, [window_of(gene) for gene in GENES], layer="transformer", pool=2)
    np.testing.assert_allclose(found.features, expected, rtol=1e-4, atol=1e-6)
    metadata = found.metadata
    assert (metadata["layer"], metadata["pool"], metadata["window_bp"]) == ("transformer", "2", str(WINDOW))
    assert (metadata["assembly"], metadata["tss_choice"]) == ("sim", "the table's column tss")
    assert metadata["model"] == str(folder / "enformer")
    assert metadata["weights_origin"] == "random, seed 0"
    assert [path.name for path in tmp_path.iterdir()] == ["f.safetensors"]


def test_orientation_by_strand(folder: Path, tmp_path: Path) -> None:
    found = embed(folder, tmp_path / "f.safetensors", orient_by_strand=True)
    bases = CONTIGS["2"][1500 - WINDOW // 2 + 1 : 1500 + WINDOW // 2 + 1]
    expected = features_of(folder, [reverse_complement(bases.encode()).decode()])
    np.testing.assert_allclose(found.features[3:], expected, rtol=1e-4, atol=1e-6)


def test_donors_have_the_mean_of_their_haplotypes(folder: Path, tmp_path: Path) -> None:
    found = embed(folder, tmp_path / "f.safetensors", vcf=folder / "donors.vcf")
    first = {950: alternative("1", 950)}
    left, right = {1600: alternative("2", 1600)}, {1400: alternative("2", 1400)}
    reference = features_of(folder, [window_of(gene) for gene in GENES])
    changed = features_of(folder, [window_of(GENES[0], first), window_of(GENES[3], left), window_of(GENES[3], right)])
    expected = {
        "ann": {0: (reference[0] + changed[0]) / 2},
        "bob": {0: (reference[0] + changed[0]) / 2, 3: (changed[1] + changed[2]) / 2},
        "cat": {3: changed[1]},
    }
    assert found.donors == list(expected)
    for donor, genes in expected.items():
        rows = reference.copy()
        for gene, features in genes.items():
            rows[gene] = features
        np.testing.assert_allclose(found.features_of_donor(donor), rows, rtol=1e-4, atol=1e-6)
    assert found.donor_feature_genes is not None and found.donor_feature_index is not None
    assert found.donor_feature_genes.tolist() == [0, 3, 3]  # ann and bob share one
    assert (found.donor_feature_index >= 0).sum() == 4
    assert np.abs(found.features_of_donor("ann")[0] - found.features[0]).max() > 0


# An insertion in front of G0's TSS, a deletion behind it, an inversion that holds G3's TSS, and an SNV.
KINDS = [
    ("1", 880, CONTIGS["1"][880], CONTIGS["1"][880] + "ACGTAC", ".", "0|1 1|0 0|0"),
    ("1", 920, CONTIGS["1"][920:930], CONTIGS["1"][920], ".", "0|0 0|1 1|1"),
    ("2", 1480, CONTIGS["2"][1480], "<INV>", "END=1520", "1|0 0|0 0|1"),
    ("2", 1600, CONTIGS["2"][1600], alternative("2", 1600), ".", "1|0 1|0 1|1"),
]


def write_kinds(path: Path) -> Path:
    header = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tann\tbob\tcat\n"
    rows = [
        [contig, str(position + 1), ".", reference, allele, ".", ".", info, "GT", *genotypes.split()]
        for contig, position, reference, allele, info, genotypes in KINDS
    ]
    path.write_text(header + "".join("\t".join(row) + "\n" for row in rows))
    return path


def kinds_window(gene: int, haplotype: str) -> str:
    """A window of G0 or G3 with the variants that the two letters of `haplotype` name, by plain slices."""
    contig, tss = (CONTIGS["1"], 900) if gene == 0 else (CONTIGS["2"], 1500)
    first, second = (letter == "1" for letter in haplotype)
    if gene == 0:
        contig = contig[:921] + contig[930:] if second else contig
        contig, tss = (contig[:881] + "ACGTAC" + contig[881:], tss + 6) if first else (contig, tss)
    else:
        contig = contig[:1600] + alternative("2", 1600) + contig[1601:] if second else contig
        if first:
            turned = reverse_complement(contig[1481:1520].encode()).decode()
            contig, tss = contig[:1481] + turned + contig[1520:], 1481 + 1519 - tss
    return contig[tss - WINDOW // 2 : tss + WINDOW // 2]


@pytest.mark.parametrize("haplotypes", ["mean", "separate"])
def test_variants_of_all_kinds(folder: Path, tmp_path: Path, haplotypes: str) -> None:
    vcf = write_kinds(tmp_path / "kinds.vcf")
    found = embed(folder, tmp_path / "f.safetensors", vcf=vcf, haplotypes=haplotypes)
    carried = {
        "ann": [("00", "10"), ("11", "00")],
        "bob": [("10", "01"), ("01", "00")],
        "cat": [("01", "01"), ("01", "11")],
    }
    assert found.haplotypes == found.metadata["haplotypes"] == haplotypes
    assert found.donor_features is not None
    assert len(found.donor_features) == (6 if haplotypes == "mean" else 4)  # no haplotype twice
    for donor, pairs in carried.items():
        for gene, pair in zip((0, 3), pairs, strict=True):
            expected = features_of(folder, [kinds_window(gene, haplotype) for haplotype in pair])
            np.testing.assert_allclose(
                found.features_of_donor(donor)[gene], expected.mean(axis=0), rtol=1e-4, atol=1e-6
            )
            if haplotypes == "separate":
                np.testing.assert_allclose(found.features_of_haplotypes(donor)[:, gene], expected, rtol=1e-4, atol=1e-6)
    if haplotypes == "separate":
        assert read_gene_features(tmp_path / "f.safetensors").haplotypes == "mean"
        assert embed(folder, tmp_path / "f.safetensors", vcf=vcf, haplotypes=haplotypes).haplotypes == "separate"
        with pytest.raises(FileExistsError, match="made from other"):
            embed(folder, tmp_path / "f.safetensors", vcf=vcf)


def test_a_vcf_without_variants_in_reach(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "donors.vcf").read_text().splitlines()
    (tmp_path / "v.vcf").write_text("\n".join([*lines[:2], lines[-1]]) + "\n")
    found = embed(folder, tmp_path / "f.safetensors", vcf=tmp_path / "v.vcf")
    assert found.donor_features is not None
    assert found.donor_features.shape == (0, 48)
    np.testing.assert_array_equal(found.features_of_donor("bob"), found.features)


def count_calls(monkeypatch: pytest.MonkeyPatch, *, stop_after: int | None = None) -> list[int]:
    """How many windows went through the model; optionally interrupts as Ctrl-C would."""
    calls: list[int] = []
    original = embedding._Embedder.__call__

    def counted(self: Any, sequences: list[bytes]) -> np.ndarray:
        if stop_after is not None and sum(calls) >= stop_after:
            raise KeyboardInterrupt
        calls.append(len(sequences))
        return original(self, sequences)

    monkeypatch.setattr(embedding._Embedder, "__call__", counted)
    return calls


def test_a_stopped_run_goes_on_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    whole, output = tmp_path / "whole.safetensors", tmp_path / "f.safetensors"
    settings = {"vcf": folder / "donors.vcf", "part_size": 2}
    embed(folder, whole, **settings)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        count_calls(patch, stop_after=5)
        embed(folder, output, **settings)
    assert not output.exists()
    with pytest.raises(FileExistsError, match="layer 'final_pointwise', now 'conv_tower'"):
        embed(folder, output, **settings, layer="conv_tower")
    with pytest.MonkeyPatch.context() as patch:
        calls = count_calls(patch)
        embed(folder, output, **settings)
    assert sum(calls) == 3  # of seven windows, two parts of two were done
    assert output.read_bytes() == whole.read_bytes()


def test_unchanged_input_is_not_computed_again_and_other_input_not_overwritten(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "f.safetensors"
    embed(folder, output)
    before = output.read_bytes()
    calls = count_calls(monkeypatch)
    embed(folder, output, batch_size=4)
    assert (calls, output.read_bytes()) == ([], before)
    other = make_small_enformer(tmp_path / "other", seed=1, dim=24, depth=1)
    for change in ({"pool": 2}, {"model": other}, {"gene_ids": ["G1"]}, {"vcf": folder / "donors.vcf"}):
        with pytest.raises(FileExistsError, match="made from other weights, sequences or settings"):
            embed(folder, output, **change)
    assert (calls, output.read_bytes()) == ([], before)
    found = embed(folder, output, gene_ids=["G3", "G1", "absent"], overwrite=True)
    assert found.gene_ids == ["G1", "G3"]
    report = json.loads(found.metadata["report"])
    assert (report["genes"], report["annotation"]["gene_ids given"], report["left out"]) == (2, 3, {})
    assert sum(calls) == 2


def test_bfloat16_and_float16_are_near(folder: Path, tmp_path: Path) -> None:
    exact = embed(folder, tmp_path / "a.safetensors").features
    rough = embed(folder, tmp_path / "b.safetensors", dtype="bfloat16").features
    assert 0 < np.abs(rough - exact).max() < 0.05
    small = embed(folder, tmp_path / "c.safetensors", features_dtype="float16").features
    assert 0 < np.abs(small - exact).max() < 1e-3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_bp": 500}, "multiple of 128 bp"),
        ({"layer": "stem"}, "expected final_pointwise"),
        ({"pool": 5}, "from 1 to 4"),
        ({"batch_size": 0}, "positive numbers"),
        ({"dtype": "float64"}, "expected float32 or bfloat16"),
        ({"gene_ids": ["X"]}, "none of the 1 gene_ids is in the annotation, whose ids are like G0"),
        ({"features_dtype": "float16", "vcf": "donors.vcf"}, "use float32 with a VCF"),
        ({"haplotypes": "both"}, 'expected "mean" or "separate"'),
    ],
)
def test_settings_that_are_refused_before_anything_is_computed(
    folder: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        embed(folder, tmp_path / "f.safetensors", **settings)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"ends in \.safetensors"):
        embed(folder, tmp_path / "f.h5")


def test_a_wrong_reference_allele_is_refused(folder: Path, tmp_path: Path) -> None:
    text = (folder / "donors.vcf").read_text()
    base = CONTIGS["1"][950]
    (tmp_path / "v.vcf").write_text(
        text.replace(f"1\t951\t.\t{base}\t", f"1\t951\t.\t{'ACGT'.replace(base, '')[0]}\t", 1)
    )
    with pytest.raises(ValueError, match=r"1:951 \(1-based\)"):
        embed(folder, tmp_path / "f.safetensors", vcf=tmp_path / "v.vcf")


@pytest.mark.real_data
def test_real_promoters_of_both_chromosomes(data_folder: Path, folder: Path, tmp_path: Path) -> None:
    annotation = data_folder / "annotation/ncbiRefSeq_genePred.hg19.txt.gz"
    symbols = data_folder / "genesets/geneformer_v1_symbol_to_ensembl.json.gz"
    tss = embedding.read_tss(annotation, gene_symbols=symbols)
    for contig, name in (("20", "chr20.GRCh37.fa.gz"), ("X", "chrX_first70Mb.GRCh37.fa.gz")):
        genes = tss[(tss["contig"] == f"chr{contig}") & (tss["tss"] < 69_000_000)]["gene_id"].tolist()[:12]
        found = embed_promoters(
            data_folder / "genome" / name,
            annotation,
            tmp_path / f"{contig}.safetensors",
            model=folder / "enformer",
            window_bp=4096,
            gene_symbols=symbols,
            gene_ids=genes,
            assembly="hg19",
            progress=False,
        )
        assert found.gene_ids == genes
        assert np.ptp(found.features, axis=0).max() > 0


@pytest.mark.real_data
def test_gata4_with_snvs_and_indels_of_two_donors(data_folder: Path, folder: Path, tmp_path: Path) -> None:
    fasta, tss = data_folder / "genome/GATA4_chr8_11496144-11627216.hg19.fa", 11_561_710
    (tmp_path / "tss.tsv").write_text(f"gene_id\tcontig\tstrand\ttss\nENSG00000136574\tchr8\t+\t{tss}\n")
    with open_genome(fasta, offsets={"8": 11_496_144}) as genome:
        bases = genome.fetch("8", tss - 3000, tss + 3000).decode()

    def row(offset: int, length: int, put: str, genotypes: str, info: str = ".") -> str:
        reference = bases[3000 + offset : 3000 + offset + length]
        put = put.replace("=", reference[0])
        return "\t".join(["8", str(tss + offset + 1), ".", reference, put, ".", ".", info, "GT", *genotypes.split()])

    rows = [
        row(-700, 1, "A" if bases[2300] != "A" else "C", "1|0 0|0"),
        row(-300, 12, "=", "0|1 0|0"),
        row(-20, 1, "=GATAAG", "0|0 1|1"),
        row(150, 1, "<DUP>", "0|0 0|1", f"END={tss + 180}"),
        row(2500, 1, "=T", "0|1 0|0"),
    ]
    header = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tann\tbob\n"
    (tmp_path / "v.vcf").write_text(header + "\n".join(rows) + "\n")
    settings: dict[str, Any] = {
        "model": folder / "enformer", "window_bp": 4096, "offsets": {"8": 11_496_144}, "progress": False,
    }  # fmt: skip
    output = tmp_path / "f.safetensors"
    found = embed_promoters(
        fasta, tmp_path / "tss.tsv", output, vcf=tmp_path / "v.vcf", haplotypes="separate", **settings
    )
    assert found.donor_features is not None and found.donor_features.shape == (4, 48)
    report = json.loads(found.metadata["report"])
    assert report["variants"]["variants that reach no window"] == 1
    changes = np.abs(np.concatenate([found.features_of_haplotypes(donor)[:, 0] for donor in ("ann", "bob")]))
    assert len(np.unique(changes.round(9), axis=0)) == 4
