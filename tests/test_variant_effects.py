"""`variant_effect` from a saved model, a genome and a VCF to a folder; what it reads, ranks, and refuses."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.variant_effects import TABLES, variant_effect

SEQUENCE = "".join(np.random.default_rng(0).choice(list("ACGT"), size=500))


def snv(position: int) -> str:
    """At a 1-based position."""
    base = SEQUENCE[position - 1]
    return f"chr1:{position}:{base}>{'A' if base != 'A' else 'C'}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model/ and genome.fa, and sites.vcf with an SNV, a deletion, and alleles that are no sequences."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = SegmentNTForTokenClassification(SegmentNTConfig(**sizes, window_bp=120, initializer_range=0.3))
    model.save_pretrained(folder / "model")
    NucleotideKmerTokenizer().save_pretrained(folder / "model")
    (folder / "genome.fa").write_text(f">chr1\n{SEQUENCE}\n")
    rows = [
        f"1\t200\trs1\t{SEQUENCE[199]}\t{'A' if SEQUENCE[199] != 'A' else 'C'},<DEL>",
        f"1\t300\t.\t{SEQUENCE[299:303]}\t{SEQUENCE[299]}",
        f"1\t310\t.\t{SEQUENCE[309]}\t*",
    ]
    text = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (folder / "sites.vcf").write_text(text + "".join(f"{row}\t.\t.\t.\n" for row in rows))
    return folder


def test_tables_figures_and_summary(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "effects"
    result = variant_effect(
        [snv(100), snv(250)],
        output,
        model=folder / "model",
        genome=folder / "genome.fa",
        vcf=folder / "sites.vcf",
        distance_bp=30,
        plots=2,
        device="cpu",
    )
    tables = {name: pd.read_csv(output / f"{name}.tsv", sep="\t") for name in TABLES}
    assert len(tables["effects"]) == 4 * 14 and len(tables["variants"]) == 4 and len(tables["not_scored"]) == 0
    changes = tables["variants"]["maximum_absolute_change"]
    assert (changes.diff().dropna() <= 0).all() and changes.iloc[-1] > 0
    deletion = f"1:300:{SEQUENCE[299:303]}>{SEQUENCE[299]}"
    assert {snv(100), snv(250), deletion} < set(tables["variants"]["variant"])
    assert tables["variants"].set_index("name")["start"]["rs1"] == 199
    by_variant = tables["effects"].groupby("variant")
    assert by_variant["deleted_probability"].count().loc[deletion] == 14
    summary = json.loads((output / "summary.json").read_text())
    assert summary["left_out"] == {"alternative allele <...>": 1, "alternative allele *": 1}
    assert (summary["variants"], summary["scored"], summary["window_bp"], summary["phases"]) == (4, 4, 120, 1)
    assert sorted(path.name for path in (output / "figures").iterdir()) == ["variant_1.png", "variant_2.png"]
    assert result.summary == summary
    with pytest.raises(FileExistsError, match="--overwrite"):
        variant_effect([snv(100)], output, model=folder / "model", genome=folder / "genome.fa")


def test_pieces_of_contigs_and_no_output(folder: Path) -> None:
    base = SEQUENCE[99]
    shifted = f"chr1:1,000,100:{base}>{'A' if base != 'A' else 'C'}"
    options = {"model": folder / "model", "genome": folder / "genome.fa", "device": "cpu"}
    moved = variant_effect([shifted], offsets={"chr1": 1_000_000}, **options)  # type: ignore[arg-type]
    there = variant_effect([snv(100)], **options)  # type: ignore[arg-type]
    assert moved.effects["start"].iloc[0] == 1_000_099
    shift = moved.effects["most_changed_position"] - there.effects["most_changed_position"]
    assert (shift == 1_000_000).all()
    pd.testing.assert_series_equal(moved.effects["change"], there.effects["change"])


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    def refused(message: str, *variants: str, **options: object) -> None:
        chosen = {"model": folder / "model", "genome": folder / "genome.fa", **options}
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            variant_effect(variants, tmp_path / "effects", **chosen)  # type: ignore[arg-type]

    refused("there is no variant")
    refused("is not written chr:position:REF>ALT", "chr1:100")
    refused("no VCF file", vcf=tmp_path / "absent.vcf")
    refused("no FASTA file", snv(100), genome=tmp_path / "absent.fa")
    refused("plots is -1", snv(100), plots=-1)
    wrong = next(base for base in "ACGT" if base != SEQUENCE[99])
    refused("have another reference allele than the genome", f"chr1:100:{wrong}>{SEQUENCE[99]}")
    assert not (tmp_path / "effects").exists()
