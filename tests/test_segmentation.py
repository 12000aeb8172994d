"""Whole FASTA files to bigWigs and calls: equal to the pipeline's arrays, resumed byte for byte, in flat memory."""

import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import omics_transformers.segmentation as segmentation
from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.modeling.modeling_nucleotide_transformer import NucleotideTransformerForMaskedLM
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.pipelines import segmentation_windows
from omics_transformers.pipelines.dna_segmentation import DNASegmentationPipeline
from omics_transformers.pipelines.segmentation_tracks import read_bigwig, rounded
from omics_transformers.segmentation import segment

ELEMENTS = {0: "exon", 1: "intron", 2: "CTCF-bound"}
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
# Peak memory after each of some genomes, in MB; then a run that is killed at its third block.
MEASURED_AND_KILLED = """
import os, resource, signal, sys
from omics_transformers.pipelines import segmentation_input, segmentation_windows
from omics_transformers.pipelines.dna_segmentation import DNASegmentationPipeline
from omics_transformers.segmentation import segment
segmentation_windows.BLOCK_BP = segmentation_input._CHUNK_BP = 20_000
model, output, *genomes = sys.argv[1:]
for genome in genomes:
    segment(genome, f"{output}/{os.path.basename(genome)}.out", model=model, thresholds=0.9)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)
calls, plain = [], DNASegmentationPipeline.segment_block
def killed(*arguments):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(*arguments)
DNASegmentationPipeline.segment_block = killed
segment(genomes[0], f"{output}/killed", model=model, regions=["chr20:1-60,000"], thresholds=0.9)
"""


def make_model() -> SegmentNTForTokenClassification:
    torch.manual_seed(0)
    return SegmentNTForTokenClassification(
        SegmentNTConfig(**SIZES, window_bp=120, initializer_range=0.3, id2label=ELEMENTS, thresholds=[0.5, 0.6, 0.7])
    )


@pytest.fixture(scope="module")
def pipe() -> DNASegmentationPipeline:
    return DNASegmentationPipeline(make_model(), NucleotideKmerTokenizer(), device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pipe: DNASegmentationPipeline) -> Path:
    path = tmp_path_factory.mktemp("model")
    pipe.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """chr2: N at its ends, a long run, a short run and single ones; chrN: N only; chr10: short."""
    letters = np.random.default_rng(0).choice(list("ACGT"), 5_000)
    letters[:300], letters[1_000:1_040], letters[2_000:2_005], letters[-60:] = "N", "N", "N", "N"
    letters[3_000:3_300:17] = "N"
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text(f">chr2\n{''.join(letters)}\n>chrN\n{'N' * 50}\n>chr10\n{'ACGTTGCAAC' * 9}\n")
    return path


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation_windows, "BLOCK_BP", 500)


def content(folder: Path) -> dict[str, bytes | dict[str, Any]]:
    found: dict[str, Any] = {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    summary = json.loads(found.pop("summary.json"))
    assert summary.pop("seconds") >= 0
    return {**found, "summary.json": summary}


@pytest.mark.parametrize("decimals", [3, None])
def test_tracks_and_calls_equal_the_pipelines_arrays(
    pipe: DNASegmentationPipeline, fasta: Path, tmp_path: Path, decimals: int | None
) -> None:
    options = {"reverse_complement": True, "batch_size": 3, "overlap": 0.4}
    calling = {"minimum_length": 2, "merge_gap": 1}
    result = segment(fasta, tmp_path / "out", model=pipe, decimals=decimals, **options, **calling)  # type: ignore[arg-type]
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    rows = []
    for contig, length in (("chr2", 5_000), ("chrN", 50), ("chr10", 90)):
        expected = pipe(fasta, region=contig, **options)
        assert np.isnan(expected.probabilities[:, 0]).sum() == {"chr2": 423, "chrN": 50, "chr10": 0}[contig]
        if contig != "chrN":
            for number, element in ELEMENTS.items():
                track = read_bigwig(tmp_path / "out" / "tracks" / f"{element}.bw", contig, 0, length)
                np.testing.assert_allclose(
                    track,
                    rounded(expected.probabilities[:, number], decimals),
                    atol=1e-5 if decimals is None else 1.1e-3,
                )  # batches differ, and with them the last bits, which may tip the rounding
                np.testing.assert_array_equal(np.isnan(track), np.isnan(expected.probabilities[:, number]))
        if decimals is None:
            rows.append(expected.table(**calling))
    table = result.table()
    if decimals is None:
        assert len(table) == sum(map(len, rows)) > 100
        assert table["contig"].tolist() == [contig for part in rows for contig in part["contig"]]
        assert table["start"].tolist() == [start for part in rows for start in part["start"]]
    summary = result.summary
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["bases"], summary["n_unknown_bases"]) == (5_140, 473)
    assert summary["stretches"] == 3 and summary["blocks"] > 5
    assert {name: found["threshold"] for name, found in summary["elements"].items()} == {
        "exon": 0.5, "intron": 0.6, "CTCF-bound": 0.7
    }  # fmt: skip
    assert sum(found["segments"] for found in summary["elements"].values()) == len(table)


def test_a_stopped_run_goes_on_and_writes_the_same_bytes(
    pipe: DNASegmentationPipeline, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"model": pipe, "batch_size": 4, "plot": ["chr2:900-1200"]}
    segment(fasta, tmp_path / "whole", **options)
    n_blocks = content(tmp_path / "whole")["summary.json"]["blocks"]  # type: ignore[index]
    done: list[int] = []

    def interrupt(owner: Any, name: str, at: int) -> pytest.MonkeyPatch:
        plain, calls = getattr(owner, name), []
        patch = pytest.MonkeyPatch()

        def stopped(*arguments: Any, **keywords: Any) -> Any:
            calls.append(1)
            if len(calls) > at:
                raise KeyboardInterrupt
            done.append(1)
            return plain(*arguments, **keywords)

        patch.setattr(owner, name, stopped)
        return patch

    stops = [(pipe, "segment_block", 2), (pipe, "segment_block", 3), (pipe, "segment_block", 0)]
    for owner, name, at in [
        *stops,
        (segmentation, "write_elements", 0),
        (segmentation, "merge_segments", 0),
        (segmentation, "_draw", 0),
    ]:
        patch = interrupt(owner, name, at)
        with pytest.raises(KeyboardInterrupt):
            segment(fasta, tmp_path / "stopped", **options)
        patch.undo()
        assert not (tmp_path / "stopped").exists() and (tmp_path / "stopped.partial").is_dir()
        if name == "segment_block":
            assert len(list((tmp_path / "stopped.partial" / "blocks").iterdir())) == len(done)
    assert len(done) == 5 < n_blocks
    monkeypatch.setattr(pipe, "segment_block", lambda *_: pytest.fail("a finished block was made again"))
    segment(fasta, tmp_path / "stopped", **options)
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")
    assert not (tmp_path / "stopped.partial").exists()


@dataclass(frozen=True)
class FreshProcess:
    """What MEASURED_AND_KILLED left: its folders, the model and genomes (100 kb and 400 kb), and the peaks in MB."""

    folder: Path
    model: Path
    genomes: list[Path]
    peaks: list[int]


@pytest.fixture(scope="module")
def fresh_process(tmp_path_factory: pytest.TempPathFactory) -> FreshProcess:
    folder = tmp_path_factory.mktemp("fresh")
    torch.manual_seed(0)
    model = SegmentNTForTokenClassification(SegmentNTConfig(**SIZES, window_bp=600))
    DNASegmentationPipeline(model, NucleotideKmerTokenizer(), device="cpu").save_pretrained(folder / "model")
    genomes = [write_random_genome(folder / f"{n_bases}.fa", n_bases) for n_bases in (100_000, 400_000)]
    command = [sys.executable, "-c", MEASURED_AND_KILLED, *map(str, (folder / "model", folder, *genomes))]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == -9, done.stderr
    return FreshProcess(folder, folder / "model", genomes, [int(line) for line in done.stdout.split()])


def write_random_genome(path: Path, n_bases: int) -> Path:
    letters = np.frombuffer(b"ACGT", dtype=np.uint8)[np.random.default_rng(0).integers(0, 4, n_bases)]
    letters[5_000:5_100] = ord("N")
    path.write_bytes(b">chr20\n" + letters.tobytes() + b"\n")
    return path


def test_memory_does_not_grow_with_the_sequence(fresh_process: FreshProcess) -> None:
    short, long = fresh_process.peaks
    # The probabilities of the further 300 kb alone would be 17 MB.
    assert long - short < 9, f"{short} MB for 100 kb and {long} MB for 400 kb"


def test_a_killed_process_goes_on_from_the_saved_model(fresh_process: FreshProcess, tmp_path: Path) -> None:
    killed, genome = fresh_process.folder / "killed", fresh_process.genomes[0]
    assert len(list((fresh_process.folder / "killed.partial" / "blocks").iterdir())) == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmentation_windows, "BLOCK_BP", 20_000)
        for output in (killed, tmp_path / "whole"):
            segment(genome, output, model=fresh_process.model, regions=["chr20:1-60,000"], thresholds=0.9)
    assert content(killed) == content(tmp_path / "whole")


def test_calls_may_be_changed_on_the_way_and_all_else_may_not(
    pipe: DNASegmentationPipeline, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"model": pipe, "regions": ["chr2"]}
    with monkeypatch.context() as patch:
        patch.setattr(segmentation, "write_elements", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            segment(fasta, tmp_path / "out", **options)
    for changed in ({"window_bp": 60}, {"decimals": 2}, {"regions": ["chr10"]}, {"overlap": 0.1}, {"batch_size": 1}):
        with pytest.raises(
            FileExistsError, match=f"unfinished segmentation made from something else .*{next(iter(changed))}"
        ):
            segment(fasta, tmp_path / "out", **{**options, **changed})
    with monkeypatch.context() as patch:
        patch.setattr(pipe, "segment_block", lambda *_: pytest.fail("a finished block was made again"))
        found = segment(fasta, tmp_path / "out", **options, thresholds=0.9).summary
    assert {element["threshold"] for element in found["elements"].values()} == {0.9}


def test_results_are_replaced_only_on_request(
    pipe: DNASegmentationPipeline, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = segment(fasta, tmp_path / "out", model=pipe, regions=["chr10"])
    with pytest.raises(FileExistsError, match=r"out exists: name another folder, or pass overwrite"):
        segment(fasta, tmp_path / "out", model=pipe)
    assert segment(fasta, tmp_path / "out", model=pipe, overwrite=True).summary["bases"] > first.summary["bases"]
    (tmp_path / "out" / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match=r"out holds other files, e.g. mine.txt, which would be lost"):
        segment(fasta, tmp_path / "out", model=pipe, overwrite=True)
    with pytest.raises(FileExistsError, match="is a file: give the name of a folder"):
        segment(fasta, fasta, model=pipe)


def test_plots_with_genes(pipe: DNASegmentationPipeline, fasta: Path, tmp_path: Path) -> None:
    (tmp_path / "genes.gtf").write_text(
        'chr2\tx\texon\t950\t1100\t.\t+\t.\tgene_id "G"; gene_name "MYGENE"; transcript_id "T";\n'
    )
    plots = ["chr2:901-1,200", "chr10"]
    segment(fasta, tmp_path / "out", model=pipe, plot=plots, annotation=tmp_path / "genes.gtf")
    names = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert names == {"chr2_901-1200.png", "chr2_901-1200.svg", "chr10_1-90.png", "chr10_1-90.svg"}
    assert "MYGENE" in (tmp_path / "out" / "figures" / "chr2_901-1200.svg").read_text()


def test_pieces_of_contigs_keep_their_coordinates(pipe: DNASegmentationPipeline, tmp_path: Path) -> None:
    (tmp_path / "piece.fa").write_text(f">22:20000001-20000090\n{'ACGTTGCAAC' * 9}\n")
    options: dict[str, Any] = {"model": pipe, "offsets": {"22": 20_000_000}, "plot": ["22:20,000,001-20,000,050"]}
    result = segment(tmp_path / "piece.fa", tmp_path / "out", **options)
    expected = pipe("ACGTTGCAAC" * 9).probabilities[:, 0]
    track = read_bigwig(tmp_path / "out" / "tracks" / "exon.bw", "22", 20_000_000, 20_000_090)
    np.testing.assert_allclose(track, expected, atol=1e-3)
    assert result.table()["start"].min() >= 20_000_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regions": ["chr2:4,999-5,001"]}, "chr2:4,999-5,001 is not within chr2:1-5,000"),
        ({"regions": ["chr3"]}, "no contig 'chr3' in .*genome.fa, which has chr2, chrN, chr10"),
        ({"regions": ["chrN"]}, "all bases of the regions are N: there is nothing to segment"),
        ({"regions": ["chr2"], "plot": ["chr10"]}, "the region to plot, chr10:1-90, is not within"),
        ({"window_bp": 30_000}, "windows of 30,000 bp are 5,001 tokens"),
        ({"decimals": 8}, "decimals is 8"),
        ({"minimum_length": 0}, "minimum_length is 0"),
        ({"merge_gap": -1}, "merge_gap is -1"),
        ({"processes": 0}, "processes is 0: expected 1 or more"),
        (
            {"thresholds": {"gene": 0.5}},
            "thresholds name 'gene', and the model's elements are exon, intron, CTCF-bound",
        ),
    ],
)
def test_bad_input_before_anything_is_written(
    pipe: DNASegmentationPipeline, fasta: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        segment(fasta, tmp_path / "out", model=pipe, **options)
    assert not list(tmp_path.iterdir())


def test_letters_that_are_no_dna(pipe: DNASegmentationPipeline, tmp_path: Path) -> None:
    (tmp_path / "bad.fa").write_text(">a\nACGTAC\nAC*T\n")
    with pytest.raises(ValueError, match=r"bad.fa: the letter '\*' at a:9 .1-based. is not DNA"):
        segment(tmp_path / "bad.fa", tmp_path / "out", model=pipe)
    assert {path.name for path in tmp_path.iterdir()} == {"bad.fa"}


def test_models_that_cannot_segment(folder: Path, fasta: Path, tmp_path: Path) -> None:
    NucleotideTransformerForMaskedLM(NucleotideTransformerConfig(**SIZES)).save_pretrained(tmp_path / "encoder")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="encoder is a nucleotide-transformer, which has no segmentation head"):
        segment(fasta, tmp_path / "out", model=tmp_path / "encoder")
    headless = make_model()
    state = {name: tensor for name, tensor in headless.state_dict().items() if not name.startswith("classifier")}
    headless.save_pretrained(tmp_path / "headless", state_dict=state)
    NucleotideKmerTokenizer().save_pretrained(tmp_path / "headless")
    with pytest.raises(ValueError, match=r"headless lacks 2 tensors, e.g. classifier.bias, classifier.weight"):
        segment(fasta, tmp_path / "out", model=tmp_path / "headless")
    with pytest.raises(ValueError, match="dtype is 'float64'; expected one of float32, bfloat16, float16"):
        segment(fasta, tmp_path / "out", model=folder, dtype="float64")
    with pytest.raises(OSError, match="absent"):
        segment(fasta, tmp_path / "out", model=tmp_path / "absent")


def test_finished_blocks_are_told_of(
    pipe: DNASegmentationPipeline, fasta: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt), caplog.at_level(logging.WARNING):
        patch.setattr(segmentation, "merge_segments", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        segment(fasta, tmp_path / "out", model=pipe)
    assert "stopped; finished blocks are in" in caplog.text and "the same command goes on" in caplog.text
    with caplog.at_level(logging.INFO):
        n_blocks = segment(fasta, tmp_path / "out", model=pipe).summary["blocks"]
    assert f"{n_blocks} of {n_blocks} blocks are done already" in caplog.text
