"""The commands around SegmentNT from end to end on a small genome, and how they answer to bad input."""

import contextlib
import inspect
import io
import json
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

from omics_transformers import build_segments, convert_nucleotide_transformer, explain, segment, variant_effect
from omics_transformers.cli import app, main
from omics_transformers.cli_segmentation import (
    build_segments_command,
    convert_command,
    explain_command,
    segment_command,
    variant_effect_command,
)
from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.modeling_nucleotide_transformer import NucleotideTransformerForMaskedLM
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.pipelines.segmentation_tracks import read_bigwig
from omics_transformers.training.published_nucleotide_transformer import to_published_state_dict
from omics_transformers.training.published_nucleotide_transformer_configs import to_published_config
from omics_transformers.training.run_segmentation import main as train

COMMAND = [sys.executable, "-m", "omics_transformers.cli"]
SMALL = ["--hidden-size=16", "--num-hidden-layers=1", "--num-attention-heads=2", "--intermediate-size=16"]
SMALL += ["--max-steps=3", "--disable-tqdm=true", "--save-strategy=no", "--resamples=10", "--block-bp=600"]
SMALL += ["--use-cpu", "--report-to=none"]
ELEMENTS = ["exon", "intron", "splice_donor", "splice_acceptor", "CTCF-bound"]
CONTIGS = {"chrA": 12_000, "chrB": 3_000, "chrC": 3_000}


def run(*words: object) -> str:
    """What the command prints, in this process: another takes seconds to import torch."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        app([str(word) for word in words], standalone_mode=False)
    return printed.getvalue()


def run_afresh(*words: object) -> str:
    """What the command prints, in a process of its own."""
    done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def write_genome(folder: Path) -> None:
    """Contigs of random sequence; every 600 bp a gene of two exons with an intron from GT to AG, and a peak."""
    random = np.random.default_rng(0)
    fasta, gtf, bed = [], [], []
    for contig, length in CONTIGS.items():
        letters = random.choice(list("ACGT"), length)
        for start in range(100, length - 500, 600):
            letters[start + 100 : start + 102], letters[start + 298 : start + 300] = list("GT"), list("AG")
            gene = f'gene_id "{contig}.{start}"; gene_type "lncRNA";'
            transcript = f'{gene} transcript_id "{contig}.{start}.1"; transcript_type "lncRNA";'
            rows = [("gene", 0, 400, gene), ("transcript", 0, 400, transcript)]
            rows += [("exon", 0, 100, transcript), ("exon", 300, 400, transcript)]
            gtf += [
                f"{contig}\ttest\t{feature}\t{start + first + 1}\t{start + last}\t.\t+\t.\t{attributes}"
                for feature, first, last, attributes in rows
            ]
            bed.append(f"{contig}\t{start + 420}\t{start + 450}")
        letters[length - 50 :] = "N"
        fasta.append(f">{contig}\n{''.join(letters)}")
    for name, lines in (("genome.fa", fasta), ("genes.gtf", gtf), ("ctcf.bed", bed)):
        (folder / name).write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which data set and model have been made by their commands."""
    folder = tmp_path_factory.mktemp("segmentation")
    write_genome(folder)
    files = ["--genome", folder / "genome.fa", "--annotation", folder / "genes.gtf"]
    splits = ["--train=chrA", "--validation=chrB", "--test=chrC"]
    rules = ["--bed", f"CTCF-bound={folder / 'ctcf.bed'}", *(f"--element={name}" for name in ELEMENTS)]
    made = run("build", "segments", *files, *splits, *rules, "--window-bp=300", "--output", folder / "segments")
    assert "40 train, 10 validation, 10 test" in made
    train([f"--segments={folder / 'segments'}", f"--output-dir={folder / 'model'}", *SMALL])
    return folder


def test_build_segments_leaves_what_load_dataset_reads(chain: Path) -> None:
    loaded = datasets.load_dataset(str(chain / "segments"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 40, "validation": 10, "test": 10}
    described = json.loads((chain / "segments" / "elements.json").read_text())
    assert described["elements"] == ELEMENTS and described["counts"]["train"]["splice_donor"] == 38


def test_segment_writes_tracks_calls_and_a_plot(chain: Path, tmp_path: Path) -> None:
    (tmp_path / "thresholds.json").write_text(json.dumps(dict.fromkeys(ELEMENTS, 0.001)))
    options = ["--model", chain / "model", "--region=chrC", "--thresholds", tmp_path / "thresholds.json"]
    options += ["--plot=chrC:1-600", "--annotation", chain / "genes.gtf", "--reverse-complement", "--device=cpu"]
    run_afresh("segment", chain / "genome.fa", *options, "--output", tmp_path / "out")
    values = read_bigwig(tmp_path / "out" / "tracks" / "exon.bw", "chrC", 0, 3_000)
    assert np.isnan(values[2_950:]).all() and not np.isnan(values[:2_950]).any()
    calls = pd.read_csv(tmp_path / "out" / "segments.tsv", sep="\t")
    assert set(calls["element"]) <= set(ELEMENTS) and len(calls) > 0
    assert list((tmp_path / "out" / "figures").iterdir())
    assert json.loads((tmp_path / "out" / "summary.json").read_text())


def test_explain_and_variant_effect_write_tables(chain: Path, tmp_path: Path) -> None:
    dna = ["--genome", chain / "genome.fa", "--model", chain / "model", "--device=cpu"]
    locus = ["chrC:1,001-1,010", "--element=splice_donor", "--steps=4", "--mutagenesis-bp=10"]
    run("explain", *locus, *dna, "--output", tmp_path / "explained")
    assert len(pd.read_csv(tmp_path / "explained" / "mutagenesis.tsv", sep="\t")) == 10
    base = (chain / "genome.fa").read_text().split(">chrC\n")[1][999]
    variant = f"chrC:1000:{base}>{'A' if base != 'A' else 'C'}"
    assert variant in run("variant-effect", variant, *dna, "--plots=1", "--output", tmp_path / "effects")
    effects = pd.read_csv(tmp_path / "effects" / "effects.tsv", sep="\t")
    assert set(effects["element"]) == set(ELEMENTS)


def test_convert_takes_published_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = NucleotideTransformerForMaskedLM(NucleotideTransformerConfig(**sizes))
    source = tmp_path / "published"
    source.mkdir()
    torch.save(to_published_state_dict(model), source / "pytorch_model.bin")
    (source / "config.json").write_text(json.dumps(to_published_config(model.config)))
    NucleotideKmerTokenizer().save_vocabulary(str(source))
    said = run("convert", "nucleotide-transformer", source, tmp_path / "ours", "--dtype=float32")
    assert "NucleotideTransformerForMaskedLM" in said
    loaded = NucleotideTransformerForMaskedLM.from_pretrained(tmp_path / "ours")
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("command", "function", "renamed", "left_out"),
    [
        (build_segments_command, build_segments, {"genome": "fasta"}, set()),
        (convert_command, convert_nucleotide_transformer, {}, set()),
        (segment_command, segment, {}, {"progress"}),
        (explain_command, explain, {}, {"progress"}),
        (variant_effect_command, variant_effect, {}, {"progress"}),
    ],
)
def test_commands_have_every_option_of_their_functions(command, function, renamed, left_out) -> None:
    offered = {renamed.get(name, name) for name in inspect.signature(command).parameters}
    assert offered == set(inspect.signature(function).parameters) - left_out
    assert "Example: omics-transformers" in command.__doc__


BUILD = ["build", "segments", "--genome=genome.fa", "--annotation=genes.gtf", "--output=out", "--train=chrA"]
SEGMENT = ["segment", "genome.fa", "--model=model", "--output=out", "--device=cpu"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*BUILD, "--minimum-files=CTCF-bound"], "expected ELEMENT=NUMBER"),
        ([*BUILD, "--bed=ctcf.bed"], "names no element"),
        ([*BUILD, "--bed=CTCF-bound=empty.bed"], "empty.bed"),
        ([*BUILD, "--validation=chrZ"], "chrZ"),
        ([*BUILD, "--test=chrA"], "chrA"),
        ([*SEGMENT, "--region=chrC:2,900-3,100"], "chrC"),
        ([*SEGMENT, "--region=chrZ"], "chrZ"),
        ([*SEGMENT, "--window-bp=60000"], "window_bp"),
        ([*SEGMENT, "--thresholds=absent.json"], "absent.json"),
        ([*SEGMENT, "--thresholds=1.5"], "1.5"),
        (["segment", "letters.fa", "--model=model", "--output=out", "--device=cpu"], "'Z'|letter"),
        (["explain", "chrC:1-10", "--genome=genome.fa", "--model=model", "--element=TATA", "--output=out"], "TATA"),
        (["variant-effect", "chrC:5:A", "--genome=genome.fa", "--model=model", "--output=out"], "REF>ALT|chrC:5:A"),
        (["convert", "nucleotide-transformer", "model", "out", "--dtype=int8"], "expected float32"),
        (["convert", "nucleotide-transformer", "segments", "out"], "config.json"),
    ],
)
def test_bad_input_ends_with_one_line(
    chain: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (chain / "empty.bed").write_text("")
    (chain / "letters.fa").write_text(">chrC\nACGTZACGT\n")
    monkeypatch.chdir(chain)
    monkeypatch.setattr(sys, "argv", ["omics-transformers", *words])
    with pytest.raises(SystemExit, match=f"error: .*({message})"):
        main()
    assert not Path("out").exists()
