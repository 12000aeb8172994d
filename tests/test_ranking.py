"""`rank_regions` from a saved model, a genome, BED, VCF and loci to a folder; what it refuses, and what it leaves."""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from omics_transformers.modeling.configuration_nt_region_ranker import NTRegionRankerConfig
from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.modeling_nt_region_ranker import NTRegionRanker
from omics_transformers.modeling.modeling_nucleotide_transformer import NucleotideTransformerModel
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.pipelines.region_ranking import RegionRankingPipeline
from omics_transformers.pipelines.segmentation_tracks import read_bigwig
from omics_transformers.ranking import RankedGenome, open_ranking_pipeline, rank_regions

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SEQUENCE = "".join(np.random.default_rng(0).choice(list("ACGT"), 800)) + "N" * 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model/, encoder/, genome.fa, peaks.bed and sites.vcf."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    config = NTRegionRankerConfig(**TINY, num_tokens=21, region_bp=60, scorer_head="linear", initializer_range=0.3)
    NTRegionRanker(config).save_pretrained(folder / "model")
    NucleotideTransformerModel(NucleotideTransformerConfig(**TINY)).save_pretrained(folder / "encoder")
    for name in ("model", "encoder"):
        NucleotideKmerTokenizer().save_pretrained(folder / name)
    (folder / "genome.fa").write_text(f">chr1\n{SEQUENCE}\n>chr2\n{SEQUENCE[:300]}\n")
    lines = [
        "chr2\t10\t100\tfirst",
        "1\t5\t65\tsecond",
        "chr1\t850\t900\tunknown",
        "chr1\t10\t100\tsame",
        "chr1\t7\t7\tempty",
    ]
    (folder / "peaks.bed").write_text("\n".join(lines) + "\n")
    base = SEQUENCE[199]
    rows = [
        f"1\t200\trs1\t{base}\t{'A' if base != 'A' else 'C'},<DEL>",
        f"1\t300\t.\t{SEQUENCE[299:303]}\t{SEQUENCE[299]}",
    ]
    text = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (folder / "sites.vcf").write_text(text + "".join(f"{row}\t.\t.\t.\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def pipe(folder: Path) -> RegionRankingPipeline:
    return open_ranking_pipeline(folder / "model", device="cpu")


def rank(folder: Path, output: Path, **options: object) -> RankedGenome:
    chosen: dict = {"model": folder / "model", "device": "cpu", **options}
    return rank_regions(folder / "genome.fa", output, **chosen)


def test_everything_at_once(folder: Path, pipe: RegionRankingPipeline, tmp_path: Path) -> None:
    made = rank(
        folder,
        tmp_path / "ranked",
        bed=folder / "peaks.bed",
        regions=["chr1:101-160"],
        vcf=folder / "sites.vcf",
        track=["chr2:101-300", "chr1:701-1,000", "chr1:751-1,000"],
        step_bp=20,
    )
    output = made.folder
    names = ["figures", "not_scored.tsv", "regions.bed", "regions.tsv", "summary.json", "tracks", "variants.tsv"]
    assert sorted(path.name for path in output.iterdir()) == names
    regions = pd.read_csv(output / "regions.tsv", sep="\t").set_index("name")
    assert len(regions) == 5 and np.isnan(regions["score"]["unknown"])
    assert regions["score"]["first"] == regions["score"]["same"] and regions["rank"]["first"] == regions["rank"]["same"]
    assert (regions["score"].dropna().diff().dropna() <= 0).all()
    sequences = [SEQUENCE[10:100], SEQUENCE[5:65], SEQUENCE[850:900], SEQUENCE[10:100], SEQUENCE[100:160]]
    assert made.regions is not None
    np.testing.assert_allclose(made.regions["score"].sort_index(), pipe(sequences).scores, rtol=1e-4)
    assert [line.split("\t")[:4] for line in (output / "regions.bed").read_text().splitlines()][:2] == [
        ["chr2", "10", "100", "first"],
        ["chr1", "5", "65", "second"],
    ]
    variants = pd.read_csv(output / "variants.tsv", sep="\t")
    assert set(variants["name"].dropna()) == {"rs1"} and len(variants) == 2
    values = read_bigwig(output / "tracks" / "scores.bw", "chr1", 700, 1_000)
    expected = pipe.track("chr1:701-1,000", folder / "genome.fa", step_bp=20).values
    np.testing.assert_allclose(values, expected, rtol=1e-4)
    assert np.isnan(read_bigwig(output / "tracks" / "scores.bw", "chr1", 0, 700)).all()
    figures = sorted(path.name for path in (output / "figures").iterdir())
    assert figures == ["chr1_701-1000.png", "chr2_101-300.png", "scores.png"]
    summary = json.loads((output / "summary.json").read_text())
    assert summary == made.summary
    assert summary["regions"]["regions"] == 5 and summary["regions"]["nothing_but_n"] == 1
    assert summary["left_out"] == {"alternative allele <...>": 1}
    assert summary["variants"] == {**summary["variants"], "variants": 2, "scored": 2, "region_bp": 60}
    loci = summary["track"]["loci"]
    assert [one["locus"] for one in loci] == ["chr1:701-1,000", "chr2:101-300"]
    assert loci[0] == {**loci[0], "steps": 15, "scored_steps": 4, "steps_with_too_many_tokens": 1}
    assert list(tmp_path.iterdir()) == [output]


def test_only_what_is_asked_for(folder: Path, pipe: RegionRankingPipeline, tmp_path: Path) -> None:
    rank(folder, tmp_path / "bed", model=pipe, bed=folder / "peaks.bed")
    assert {path.name for path in (tmp_path / "bed").iterdir()} == {
        "regions.tsv",
        "regions.bed",
        "figures",
        "summary.json",
    }
    made = rank(folder, tmp_path / "track", model=pipe, track=["chr2"])
    assert {path.name for path in made.folder.iterdir()} == {"tracks", "figures", "summary.json"}
    assert made.regions is None and made.variants is None and made.summary["track"]["step_bp"] == 12
    base = SEQUENCE[4]
    variant = f"chr2:5:{base}>{'A' if base != 'A' else 'C'}"
    made = rank(folder, tmp_path / "variant", model=pipe, variants=[variant])
    assert {path.name for path in made.folder.iterdir()} == {"variants.tsv", "not_scored.tsv", "summary.json"}


def test_the_same_bytes_again_and_overwriting(folder: Path, pipe: RegionRankingPipeline, tmp_path: Path) -> None:
    options = {"model": pipe, "bed": folder / "peaks.bed", "track": ["chr2:1-100"]}
    first = rank(folder, tmp_path / "ranked", **options).folder
    track = (first / "tracks" / "scores.bw").stat().st_size
    with pytest.raises(FileExistsError, match="--overwrite"):
        rank(folder, tmp_path / "ranked", **options)
    rank(folder, tmp_path / "ranked", **options, overwrite=True)
    assert (first / "tracks" / "scores.bw").stat().st_size == track
    (first / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds other files, e\.g\. notes\.txt"):
        rank(folder, tmp_path / "ranked", **options, overwrite=True)


def test_pieces_of_contigs(folder: Path, pipe: RegionRankingPipeline, tmp_path: Path) -> None:
    there = rank(folder, tmp_path / "there", model=pipe, regions=["chr1:101-160"]).regions
    moved = rank(folder, tmp_path / "moved", model=pipe, regions=["chr1:5,101-5,160"], offsets={"chr1": 5_000}).regions
    assert there is not None and moved is not None and moved["start"].iloc[0] == 5_100
    assert moved["score"].iloc[0] == pytest.approx(there["score"].iloc[0], rel=1e-5)


def test_settings_that_nothing_uses_are_said(
    folder: Path, pipe: RegionRankingPipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        rank(folder, tmp_path / "ranked", model=pipe, regions=["chr1:1-60"], phases=2, step_bp=5)
    assert (
        "phases is 2, and there is no variant" in caplog.text and "step_bp is 5, and there is no track" in caplog.text
    )


def test_what_is_refused_before_the_model_runs(
    folder: Path, pipe: RegionRankingPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe, "_forward", lambda *_: pytest.fail("the model ran"))
    (tmp_path / "empty.bed").write_text("# nothing\n")
    (tmp_path / "beyond.bed").write_text("chr1\t0\t60\nchr1\t990\t1001\n")
    (tmp_path / "long.bed").write_text("chr1\t0\t700\tpeak7\n")
    wrong = next(letter for letter in "ACGT" if letter != SEQUENCE[99])

    def refused(message: str, **options: object) -> None:
        with pytest.raises((ValueError, OSError), match=message):
            rank(folder, tmp_path / "ranked", **{"model": pipe, **options})

    refused("there is nothing to score: give a BED file")
    refused("regions is the text 'chr1': give a list", regions="chr1")
    refused("empty.bed is empty", bed=tmp_path / "empty.bed")
    refused("no BED file at", bed=tmp_path / "absent.bed")
    refused(r"beyond.bed, line 2: the region chr1:991-1,001 is not within", bed=tmp_path / "beyond.bed")
    refused(r"1 of 1 regions have more tokens .* \(peak7\)", bed=tmp_path / "long.bed")
    refused("region 1: no contig 'chr9'", regions=["chr9:1-5"])
    refused("no VCF file at", vcf=tmp_path / "absent.vcf")
    bad = f"chr1:100:{wrong}>{SEQUENCE[99]}"
    refused(f"1 of 1 variants have another reference allele .* {bad}", variants=[bad], regions=["chr1:1-60"])
    refused(r"no step of chr1:851-1,000 has a value", track=["chr1:851-1,000"], regions=["chr1:1-60"])
    refused("step_bp is 61", track=["chr2"], step_bp=61)
    refused("maximum_unknown is 1.0", track=["chr2"], maximum_unknown=1.0)
    refused("region_bp is 121", track=["chr2"], region_bp=121)
    refused("phases is 7", regions=["chr1:1-60"], phases=7)
    refused("cell_type is 'T cell', and this model's scores depend on none", track=["chr2"], cell_type="T cell")
    refused(
        "encoder is a nucleotide-transformer, which does not score regions", model=folder / "encoder", track=["chr2"]
    )
    assert not (tmp_path / "ranked").exists()
    with pytest.raises(FileNotFoundError, match="no FASTA file at"):
        rank_regions(tmp_path / "absent.fa", tmp_path / "ranked", model=pipe, track=["chr2"])


def test_nothing_is_left_of_what_fails(
    folder: Path, pipe: RegionRankingPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    predict = pipe._predict

    def fail_at_last(*arguments: object) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == 3:  # within the track
            raise KeyboardInterrupt
        return predict(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pipe, "_predict", fail_at_last)
    with pytest.raises(KeyboardInterrupt):
        rank(folder, tmp_path / "ranked", model=pipe, regions=["chr1:1-60"], track=["chr2"])
    assert not list(tmp_path.iterdir())


def test_loci_too_long_to_draw(
    folder: Path, pipe: RegionRankingPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr("omics_transformers.pipelines.region_ranking_figures.LARGEST_TRACK_BP", 250)
    with caplog.at_level(logging.WARNING):
        made = rank(folder, tmp_path / "ranked", model=pipe, track=["chr2", "chr1:1-250"], step_bp=60)
    assert "1 of 2 loci are drawn" in caplog.text
    assert [path.name for path in (made.folder / "figures").iterdir()] == ["chr1_1-250.png"]
