"""`perturb` and `saturate` from the command line on GATA4's real locus: embedding, edits of DNA, targets, bad input.

Real: 14 kb around GATA4's TSS (hg19), RefSeq, Geneformer's vocabulary, 300 cells of pbmc3k, ChEA's targets, JASPAR.
Made up: the counts of GATA4, which blood cells lack, and the models' random weights.
"""

import gzip
import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from omics_transformers.cli import app
from omics_transformers.cli_perturbation import named_files
from omics_transformers.data_scripts.gene_features import read_gene_features
from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.modeling.tokenization_gene_rank import GeneRankTokenizer
from omics_transformers.training.small_enformer import make_small_enformer

GATA4, TSS, WINDOW_BP = "ENSG00000136574", 11_561_710, 16_384  # hg19, 0-based
PIECE_START, FIRST, LAST = 11_496_144, TSS - WINDOW_BP // 2, TSS + 6_192  # the window's last 2 kb are N
N_CELLS, N_FEATURES = 300, 96


class Locus(NamedTuple):
    """A folder with what the commands read, and GATA4's bases, of which number 0 is FIRST."""

    folder: Path
    bases: str

    def base(self, position: int) -> str:
        """Of the reference, 0-based."""
        return self.bases[position - FIRST]

    def snv(self, position: int) -> str:
        """As `--variant` takes it."""
        return f"chr8:{position + 1}:{self.base(position)}>{'A' if self.base(position) != 'A' else 'C'}"


def run(*words: object) -> None:
    """The command, in this process."""
    app([str(word) for word in words], standalone_mode=False)


@pytest.fixture(scope="module")
def locus(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Locus:
    folder = tmp_path_factory.mktemp("gata4")
    bases = write_genome(data_folder, folder)
    make_small_enformer(folder / "enformer", seed=0, dim=48, output_heads={"human": 2}, calibrated=True)
    embed(folder, folder / "features.safetensors")
    write_cells_and_model(data_folder, folder)
    write_gene_sets(data_folder, folder)
    return Locus(folder, bases)


def embed(folder: Path, output: Path, *words: object) -> None:
    model = ["--model", folder / "enformer", f"--window-bp={WINDOW_BP}", "--assembly=GRCh37"]
    run("embed", *files(folder), *model, "--output", output, *words)


def files(folder: Path) -> list[str]:
    """The options that name the reference."""
    offsets = json.dumps({"8": FIRST})
    named = {"genome": "genome.fa", "annotation": "genes.txt", "gene-symbols": "symbols.json.gz"}
    return [*(f"--{name}={folder / file}" for name, file in named.items()), f"--offsets={offsets}"]


def write_genome(data_folder: Path, folder: Path) -> str:
    """The piece of the locus, its lines of the annotation, and the symbols; returns the bases."""
    text = (data_folder / "genome/GATA4_chr8_11496144-11627216.hg19.fa").read_text()
    bases = "".join(text.splitlines()[1:]).upper()[FIRST - PIECE_START : LAST - PIECE_START]
    (folder / "genome.fa").write_text(f">8\n{bases}\n")
    with gzip.open(data_folder / "annotation/ncbiRefSeq_genePred.hg19.txt.gz", "rt") as lines:
        (folder / "genes.txt").write_text("".join(line for line in lines if "\tGATA4\t" in line))
    symbols = (data_folder / "genesets/geneformer_v1_symbol_to_ensembl.json.gz").read_bytes()
    (folder / "symbols.json.gz").write_bytes(symbols)
    return bases


def write_cells_and_model(data_folder: Path, folder: Path) -> None:
    """300 cells of pbmc3k over 300 genes, GATA4 in two of three, and a Bio-DTA with GATA4's true features."""
    read = anndata.read_h5ad(data_folder / "rna/pbmc3k_raw_500labelled.h5ad")[:N_CELLS]
    medians = json.loads(gzip.decompress((data_folder / "genesets/geneformer_v1_gene_medians.json.gz").read_bytes()))
    symbols = json.loads(gzip.decompress((folder / "symbols.json.gz").read_bytes()))
    ids = read.var["gene_ids"].astype(str).to_numpy()
    totals = np.where([gene in medians for gene in ids], np.asarray(read.X.sum(axis=0)).ravel(), -1)
    chosen = np.sort(np.argsort(-totals, kind="stable")[:299])
    generator = np.random.default_rng(0)
    gata4 = generator.poisson(1.1, (N_CELLS, 1))
    counts = sparse.hstack([sparse.csr_matrix(read.X[:, chosen]), sparse.csr_matrix(gata4)]).tocsr().astype(np.float32)
    genes = [*ids[chosen], GATA4]
    anndata.AnnData(counts, obs=read.obs[[]].copy(), var=pd.DataFrame(index=genes)).write_h5ad(folder / "cells.h5ad")
    tokens = {token: number for number, token in enumerate(["<pad>", "<mask>", *genes])}
    names = {gene_id: symbol for symbol, gene_id in symbols.items() if gene_id in tokens}
    tokenizer = GeneRankTokenizer.from_dictionaries(tokens, {gene: medians[gene] for gene in genes}, names)
    made = read_gene_features(folder / "features.safetensors")
    assert made.gene_ids == [GATA4]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BioDTAConfig(
            vocab_size=len(tokens),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=128,
            dna_feature_size=N_FEATURES,
            gene_ids=list(tokens),
            gene_features_metadata=made.metadata,
            initializer_range=0.3,
        )
        model = BioDTAForMaskedLM(config)
        row = torch.from_numpy(made.features[0])
        features = row + row.std() * torch.randn(config.vocab_size, N_FEATURES)
        features[tokens[GATA4]] = row
        model.set_gene_features(features)
    model.save_pretrained(folder / "bio-dta")
    tokenizer.save_pretrained(folder / "bio-dta")


def write_gene_sets(data_folder: Path, folder: Path) -> None:
    gmt = (data_folder / "genesets/chea2015_cardiac.gmt").read_text()
    (folder / "chea.gmt").write_text("".join(line + "\n" for line in gmt.splitlines() if line.startswith("GATA")))
    housekeeping = (data_folder / "genesets/housekeeping_symbols.DERIVED.txt").read_text()
    (folder / "housekeeping.txt").write_text(housekeeping)
    (folder / "cardiac.jaspar").write_text((data_folder / "genesets/JASPAR2026_cardiac_and_CTCF.jaspar").read_text())


def perturb(locus: Locus, output: Path, *words: object, gene: str = "GATA4") -> Path:
    """`perturb` on the locus; returns the folder."""
    folder = locus.folder
    run("perturb", folder / "cells.h5ad", "--model", folder / "bio-dta", "--gene", gene, "--device=cpu",
        "--minimum-cells=5", "--batch-size=64", "--output", output, *words)  # fmt: skip
    return output


def dna(locus: Locus) -> list[str]:
    return [*files(locus.folder), f"--dna-model={locus.folder / 'enformer'}"]


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.real_data
def test_mutagenesis_with_targets_from_end_to_end(locus: Locus, tmp_path: Path) -> None:
    folder = locus.folder
    perturb(locus, tmp_path / "deleted", "--edit=delete")
    sets = ["--targets", folder / "chea.gmt", "--targets", folder / "housekeeping.txt"]
    sets += ["--gene-sets", folder / "chea.gmt", "--gene-sets", folder / "housekeeping.txt"]
    others = ["--coexpression", "--compare", f"deleted={tmp_path / 'deleted' / 'genes.tsv'}"]
    mutated = ["--edit=mutagenesis", "--mutations=12", "--candidates=6", "--track=1", "--direction=lower"]
    out = perturb(locus, tmp_path / "out", *mutated, *dna(locus), *sets, *others, "--motifs", folder / "cardiac.jaspar")
    candidates = pd.read_csv(out / "candidates.tsv", sep="\t")
    assert len(candidates) == 6 and candidates["is_chosen"].sum() == 1
    chosen = candidates[candidates["is_chosen"]].iloc[0]
    assert chosen["predicted_change"] == candidates["predicted_change"].min()
    (edit,) = json.loads((out / "edit.json").read_text())["edits"]
    assert edit["tss_1_based"] == TSS + 1 and edit["predicted_change"] == pytest.approx(chosen["predicted_change"])
    bases = pd.read_csv(out / "bases.tsv", sep="\t")
    changed = bases[bases["is_changed"]]
    assert [f"{row.position}{row.reference}>{row.edited}" for row in changed.itertuples()] == edit["mutations"]
    assert all(row.reference == locus.base(TSS + row.offset) for row in bases.itertuples())
    assert (out / "motif_hits.tsv").is_file()
    table_1 = pd.read_csv(out / "table1.tsv", sep="\t", index_col=0)
    assert list(table_1.columns) == ["P-value", "FDR adjusted P-value"] and len(table_1) == 4
    scores = pd.read_csv(out / "recovery" / "scores.tsv", sep="\t")
    assert set(scores["model"]) == {"bio-dta", "deleted", "co-expression"} and scores["gene_set"].nunique() == 4
    drawn = {path.name for path in (out / "figures").iterdir()}
    assert {"figure_3.png", "figure_3.svg", "sequence_edit.png", "precision_recall.png"} <= drawn
    report = (out / "report.html").read_text()
    assert "makes no claim about biology" in report and "random, seed 0, calibrated on random DNA" in report
    assert "Of 6 candidates" in report and "Known targets among the genes that move most" in report
    assert "no claim about biology" in (out / "recovery" / "report.html").read_text()
    summary = summary_of(out)
    assert summary["edit_asked"] == "mutagenesis" and summary["edit"]["feature_change_in_standard_deviations"] > 0


@pytest.mark.real_data
def test_variants_of_a_list_and_of_both_haplotypes(locus: Locus, tmp_path: Path) -> None:
    """An SNV on both, an insertion on the first, a deletion on the second haplotype; one SNV far away."""
    insertion, deletion = TSS - 200, TSS + 60
    rows = [
        (insertion, locus.base(insertion), locus.base(insertion) + "GATAAG", "1|0"),
        (TSS - 40, locus.base(TSS - 40), "T" if locus.base(TSS - 40) != "T" else "G", "1|1"),
        (deletion, locus.bases[deletion - FIRST : deletion - FIRST + 4], locus.base(deletion), "0|1"),
    ]
    vcf = tmp_path / "donor.vcf"
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tdonor\n"
    lines = [f"8\t{place + 1}\t.\t{ref}\t{alt}\t.\t.\t.\tGT\t{genotype}\n" for place, ref, alt, genotype in rows]
    vcf.write_text(header + "".join(lines))
    out = perturb(
        locus, tmp_path / "sample", "--edit=variants", "--vcf", vcf, "--sample=donor", *dna(locus), "--track=0"
    )
    table = pd.read_csv(out / "variants.tsv", sep="\t")
    assert table.groupby("haplotype")["kind"].apply(sorted).to_dict() == {
        1: ["insertion", "snv"],
        2: ["deletion", "snv"],
    }
    assert set(table["status"]) == {"applied"}
    edited = summary_of(out)["edit"]
    assert edited["kind"] == "haplotypes"
    change = edited["feature_change_in_standard_deviations"]
    assert change == pytest.approx(change_of_donor(locus, vcf, tmp_path / "donor.safetensors"), rel=1e-3)
    report = (out / "report.html").read_text()
    assert "the variants of donor" in report and "Haplotype 2: 2 variants applied" in report
    assert "Predicted expression: log2 change" in report
    bases = pd.read_csv(out / "bases.tsv", sep="\t", keep_default_na=False)
    assert "".join(bases.loc[bases["reference"] == "-", "edited"]) == "GATAAG"
    listed = ["--variant", locus.snv(TSS - 40), "--variant", locus.snv(TSS - WINDOW_BP // 2)]
    both = perturb(locus, tmp_path / "listed", "--edit=variants", *listed, *dna(locus))
    (edit,) = json.loads((both / "edit.json").read_text())["edits"]
    assert (
        edit["haplotypes"] == 1
        and edit["counts"] == {"applied": 2}
        and edit["applied"]
        == [["chr8:11553519:" + listed[3].rsplit(":", 1)[1], "chr8:11561671:" + listed[1].rsplit(":", 1)[1]]]
    )
    assert pd.read_csv(both / "bases.tsv", sep="\t")["is_changed"].sum() == 2


def change_of_donor(locus: Locus, vcf: Path, output: Path) -> float:
    """How far `embed` moves the donor's features of GATA4, in standard deviations of the model's."""
    embed(locus.folder, output, "--vcf", vcf)
    made: Any = read_gene_features(output)
    (donor,) = made.donor_features[made.donor_feature_index[made.donors.index("donor")]]
    model: Any = BioDTAForMaskedLM.from_pretrained(locus.folder / "bio-dta")
    table = model.base_model.gene_token_embeddings.table
    difference = (donor - made.features[0]) / table.standard_deviation.numpy()
    return float(np.sqrt(np.mean(difference**2)))


@pytest.mark.real_data
def test_motifs_out_and_in(locus: Locus, tmp_path: Path) -> None:
    motifs = ["--motifs", locus.folder / "cardiac.jaspar", "--motif=GATA4"]
    where = ["--mutation-window-bp=2000", "--threshold=1e-3"]
    out = perturb(locus, tmp_path / "out", "--edit=delete-motif", *motifs, *where, *dna(locus))
    hits = pd.read_csv(out / "motif_hits.tsv", sep="\t")
    assert (hits.loc[hits["motif"] == "GATA4", "change"] == "lost").any()
    assert "hits of GATA4 within 2,000 bp" in (out / "report.html").read_text()
    put = perturb(
        locus, tmp_path / "in", "--edit=insert-motif", *motifs, "--offset=-80", "--strand=-", *dna(locus), "--track=1"
    )
    (edit,) = json.loads((put / "edit.json").read_text())["edits"]
    assert edit["window_strand"] == "-" and edit["start"] == WINDOW_BP // 2 - 80 and "predicted_change" in edit
    gained = pd.read_csv(put / "motif_hits.tsv", sep="\t").query("change == 'gained' and motif == 'GATA4'")
    assert edit["start"] in set(gained["start"])


@pytest.mark.real_data
def test_ranks_and_several_genes(locus: Locus, tmp_path: Path) -> None:
    second = anndata.read_h5ad(locus.folder / "cells.h5ad").var_names[0]
    ranked = perturb(locus, tmp_path / "ranked", "--edit=set-rank", "--rank=3")
    assert summary_of(ranked)["edit"] == {"kind": "set-rank", "rank": 3}
    several = perturb(locus, tmp_path / "several", "--edit=mask", "--gene", second, "--any-gene")
    summary = summary_of(several)
    assert summary["gene_id"] == f"{GATA4}+{second}" and summary["require_all"] is False
    assert not (several / "edit.json").exists() and not (several / "recovery").exists()


@pytest.mark.real_data
def test_saturation_of_the_tss(locus: Locus, tmp_path: Path) -> None:
    options = ["--track=1", "--bases=6", f"--window-bp={WINDOW_BP}", "--motifs", locus.folder / "cardiac.jaspar"]
    run("saturate", "--gene=GATA4", *dna(locus), *options, "--output", tmp_path / "out")
    changes = pd.read_csv(tmp_path / "out" / "changes.tsv", sep="\t")
    assert len(changes) == 18 and sorted(changes["offset"].unique()) == [-3, -2, -1, 0, 1, 2]
    assert all(row.reference == locus.base(TSS + row.offset) for row in changes.itertuples())
    assert summary_of(tmp_path / "out")["dna_weights_origin"].startswith("random")
    assert (tmp_path / "out" / "figures" / "saturation.png").is_file()
    with pytest.raises(FileExistsError, match="earlier result"):
        run("saturate", "--gene=GATA4", *dna(locus), *options, "--output", tmp_path / "out")


def vcf_of(path: Path, *rows: str) -> Path:
    path.write_text("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tdonor\n" + "".join(r + "\n" for r in rows))
    return path


@pytest.mark.real_data
def test_variants_that_cannot_be(locus: Locus, tmp_path: Path) -> None:
    def refused(message: str, *words: object) -> None:
        with pytest.raises(ValueError, match=message):
            perturb(locus, tmp_path / "out", "--edit=variants", *words, *dna(locus))
        assert not (tmp_path / "out").exists()

    right = locus.base(TSS)
    wrong = "A" if right != "A" else "C"
    refused("1 of 1 variants have another reference allele", "--variant", f"chr8:{TSS + 1}:{wrong}>{right}")
    refused("outside their contig", "--variant=chr8:1000:A>C")
    refused("is not written chr:position:REF>ALT", "--variant=rs1234")
    overlapping = f"chr8:{TSS - 9}-{TSS + 1}:del"
    refused("overlap on one haplotype", "--variant", locus.snv(TSS), "--variant", overlapping)
    refused("needs variants or vcf")
    refused("no VCF was given", "--variant", locus.snv(TSS), "--sample=donor")
    row = "8\t{}\t.\t{}\t{}\t.\t.\t.\tGT\t0|1"
    early, late = (
        row.format(place + 1, locus.base(place), "A" if locus.base(place) != "A" else "C")
        for place in (TSS - 5, TSS + 5)
    )
    unsorted = vcf_of(tmp_path / "unsorted.vcf", late, early)
    refused("lines out of order", "--vcf", unsorted, "--sample=donor")
    refused("did you mean donor", "--vcf", unsorted, "--sample=doner", "--unsorted=sort")
    elsewhere = vcf_of(tmp_path / "elsewhere.vcf", "8\t1000\t.\tA\tC\t.\t.\t.\tGT\t0|1")
    refused("none of 0 variants reaches the window of GATA4", "--vcf", elsewhere, "--sample=donor")


@pytest.mark.real_data
def test_edits_targets_and_genes_that_cannot_be(locus: Locus, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def refused(message: str, *words: object, gene: str = "GATA4") -> None:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            perturb(locus, tmp_path / "out", *words, gene=gene)
        assert not (tmp_path / "out").exists()

    motifs = f"--motifs={locus.folder / 'cardiac.jaspar'}"
    refused("needs tracks", "--edit=mutagenesis", *dna(locus))
    refused("needs motif, offset", "--edit=insert-motif", motifs, *dna(locus))
    refused("no motif of the name or id 'GATA44'.*GATA4", "--edit=delete-motif", motifs, "--motif=GATA44", *dna(locus))
    refused("give one of them", "--edit=mutagenesis", "--track=0", "--rate=0.1", "--mutations=3", *dna(locus))
    refused("its heads are human", "--edit=mutagenesis", "--track=0", "--head=mouse", *dna(locus))
    refused("needs rank", "--edit=set-rank")
    refused("'GATA44'", "--edit=delete", gene="GATA44")
    (tmp_path / "strange.txt").write_text("NOGENE1\nNOGENE2\n")
    refused("no gene of the 1 gene sets is in the vocabulary", "--targets", tmp_path / "strange.txt")
    refused("need targets", "--coexpression")
    refused("is this model's", "--targets", locus.folder / "chea.gmt", "--compare", f"bio-dta={tmp_path / 'x.tsv'}")
    refused("no table of genes of other", "--targets", locus.folder / "chea.gmt", "--compare", "other=absent.tsv")
    with caplog.at_level(logging.WARNING):
        perturb(locus, tmp_path / "warned", "--edit=mask", "--rank=2", "--vcf=some.vcf")
    assert "edit 'mask' does not use rank, vcf: ignored" in caplog.text


def test_names_of_tables_to_compare() -> None:
    assert named_files(["a=x.tsv", "b=c=d.tsv"]) == {"a": Path("x.tsv"), "b": Path("c=d.tsv")}
    for pair in ("x.tsv", "=x.tsv", "a="):
        with pytest.raises(ValueError, match="expected NAME=FILE"):
            named_files([pair])
    with pytest.raises(ValueError, match="names a twice"):
        named_files(["a=x", "a=y"])
