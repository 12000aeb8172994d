"""`explain` on a model that was trained to mark a planted motif: what it finds, writes, and refuses."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from omics_transformers.data_scripts.genomes import open_genome
from omics_transformers.explanation import TABLES, Explanation, explain
from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.pipelines.motif_hits import read_jaspar
from omics_transformers.pipelines.segmentation_variants import variant_effects
from omics_transformers.pipelines.variant_windows import Variant
from omics_transformers.segmentation_model import SegmentationModel

DONOR, OTHER = "GTAAGT", "CATCTC"
BASES = np.frombuffer(b"ACGT", dtype=np.uint8)
LENGTH, GENOME_LENGTH, WINDOW_BP = 120, 2_400, 600


def plant(letters: np.ndarray, motif: str, places: list[int]) -> None:
    for place in places:
        letters[..., place : place + len(motif)] = np.frombuffer(motif.encode(), dtype=np.uint8)


def occurrences(letters: np.ndarray) -> np.ndarray:
    """(..., bases) bool: within an occurrence of the motif."""
    windows = np.lib.stride_tricks.sliding_window_view(letters, len(DONOR), axis=-1)
    begins = (windows == np.frombuffer(DONOR.encode(), dtype=np.uint8)).all(-1)
    inside = np.zeros(letters.shape, dtype=bool)
    for offset in range(len(DONOR)):
        inside[..., offset : offset + begins.shape[-1]] |= begins
    return inside


def training_batch(random: np.random.Generator, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Random sequences with some motifs each, anywhere, and (sequences, bases, elements) labels."""
    letters = BASES[random.integers(0, 4, (size, LENGTH))]
    for sequence in letters:
        plant(sequence, DONOR, [start + random.integers(18) for start in range(0, 96, 24) if random.random() < 0.6])
    inside = occurrences(letters)
    return letters, np.stack((~inside, inside), axis=2).astype(np.int64)


@pytest.fixture(scope="module")
def trained() -> SegmentationModel:
    """Some seconds of training from random weights."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    names = {0: "intron", 1: "splice_donor"}
    config = SegmentNTConfig(**sizes, id2label=names, initializer_range=0.1, focal_gamma=0.0, window_bp=WINDOW_BP)
    model, tokenizer = SegmentNTForTokenClassification(config), NucleotideKmerTokenizer()
    optimizer, random = torch.optim.AdamW(model.parameters(), lr=5e-3), np.random.default_rng(0)
    for _ in range(150):
        letters, labels = training_batch(random)
        ids = tokenizer.encode_batch_bases([sequence.tobytes() for sequence in letters])["input_ids"]
        optimizer.zero_grad()
        model(input_ids=torch.as_tensor(ids), labels=torch.as_tensor(labels)).loss.backward()
        optimizer.step()
    return SegmentationModel(model.eval(), tokenizer)


DONOR_PLACES, OTHER_PLACES = list(range(430, 2_300, 61)), list(range(455, 2_300, 61))


def sequence_of_genome() -> str:
    letters = BASES[np.random.default_rng(5).integers(0, 4, GENOME_LENGTH)]
    letters[:300] = ord("N")
    plant(letters, DONOR, DONOR_PLACES)
    plant(letters, OTHER, OTHER_PLACES)
    return letters.tobytes().decode()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Genome and motifs."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "genome.fa").write_text(f">chr1\n{sequence_of_genome()}\n")
    lines = []
    for motif in (DONOR, OTHER, "ACACACACACAC"):
        lines.append(f">{motif}.1 {motif}")
        lines += [f"{base} [ {' '.join('97' if base == letter else '1' for letter in motif)} ]" for base in "ACGT"]
    (folder / "motifs.jaspar").write_text("\n".join(lines))
    return folder / "genome.fa", folder / "motifs.jaspar"


@pytest.fixture(scope="module")
def explained(trained: SegmentationModel, files: tuple[Path, Path]) -> Explanation:
    return explain(
        "1:1,001-1,600",
        model=trained,
        genome=files[0],
        element="splice_donor",
        motifs=files[1],
        quantity="probability",
        threshold=4e-4,
        mutagenesis_bp=600,
        batch_size=50,
    )


def test_attributions_point_to_the_planted_motif(explained: Explanation) -> None:
    assert explained.comparison is not None
    found = explained.comparison.set_index(["scores", "motif"])
    for scores in ("integrated_gradients", "mutagenesis", "mutagenesis_magnitude"):
        row = found.loc[(scores, DONOR)]
        assert row["auroc"] > 0.9 and row["auroc_bases"] > 0.8 and row["q_value"] < 1e-3, scores
        assert 0.1 < found.loc[(scores, OTHER), "auroc"] < row["auroc"] - 0.1, scores
    expected = sum(1_000 <= place <= 1_594 for place in DONOR_PLACES)
    assert found.loc[("mutagenesis", DONOR), "n_hits"] >= expected == 10
    assert explained.hits is not None
    without = 3 - explained.hits["motif"].nunique()
    assert explained.summary["motifs"] == {"motifs": 3, "without_a_hit": without, "hits": len(explained.hits)}


def test_the_window_is_the_region_s_and_the_sums_are_complete(explained: Explanation) -> None:
    assert (explained.window_start, explained.region) == (1_000, ("chr1", 1_000, 1_600))
    assert explained.attribution.encoded.sequence == sequence_of_genome()[1_000:1_600]
    summary = explained.summary
    difference = summary["target"] - summary["target_at_baseline"]
    assert summary["sum_of_integrated_gradients"] == pytest.approx(difference, rel=0.05)
    assert summary["completeness_error"] < 0.05


def test_breaking_the_motif_takes_the_element_away(trained: SegmentationModel, files: tuple[Path, Path]) -> None:
    """Changes within the motif against changes of the same bases beside it."""
    sequence = sequence_of_genome()
    variants = [
        Variant("chr1", place, sequence[place], "ACGT"[("ACGT".index(sequence[place]) + 1) % 4])
        for start in DONOR_PLACES[10:16]
        for place in (start + 2, start + 18)
    ]
    with open_genome(files[0]) as genome:
        result = variant_effects(*trained, variants, genome, window_bp=300, distance_bp=30)
    donor = result.effects[result.effects["element"] == "splice_donor"].set_index("variant")["change"]
    broken, beside = (donor[list(map(str, variants[first::2]))] for first in (0, 1))
    assert broken.median() < -0.5
    assert np.mean(np.abs(broken.to_numpy())[:, None] > np.abs(beside.to_numpy())) > 0.9
    assert result.variants["variant"].iloc[0] in broken.index


def test_a_region_in_a_wider_window(trained: SegmentationModel, files: tuple[Path, Path], tmp_path: Path) -> None:
    place = DONOR_PLACES[20]
    output = tmp_path / "explained"
    result = explain(
        f"chr1:{place + 1}-{place + 6}",
        output,
        model=trained,
        genome=files[0],
        element="splice_donor",
        motifs=files[1],
        threshold=4e-4,
        mutagenesis_bp=40,
        steps=20,
    )
    names = {f"{name}.tsv" for name in TABLES} | {"summary.json", "figures"}
    assert {path.name for path in output.iterdir()} == names
    tables = {name: pd.read_csv(output / f"{name}.tsv", sep="\t") for name in TABLES}
    genome = sequence_of_genome()
    bases = tables["attribution"]
    assert len(bases) == WINDOW_BP and set(bases["contig"]) == {"chr1"}
    assert "".join(bases["base"]) == genome[bases["position"].iloc[0] : bases["position"].iloc[-1] + 1]
    assert abs(bases["position"].mean() - (place + 2.5)) < 2
    changed = tables["mutagenesis"]
    assert changed["position"].tolist() == list(range(place + 3 - 20, place + 3 + 20))
    motif = changed["position"].between(place, place + 5)
    assert changed.loc[motif, "importance"].min() > changed.loc[~motif, "importance"].max()
    hits = tables["motif_hits"]
    forward = hits[(hits["strand"] == "+") & (hits["motif"] == DONOR)]
    assert {genome[start:end] for start, end in zip(forward["start"], forward["end"], strict=True)} == {DONOR}
    assert place in forward["start"].tolist()
    here = forward.set_index("start").loc[place]
    assert here["mutagenesis_percentile"] > 0.97 and here["integrated_gradients_percentile"] > 0.97
    assert here["mutagenesis"] == pytest.approx(changed.loc[motif, "importance"].mean(), rel=1e-5)
    tokens = tables["attention_tokens"]
    assert tokens["received"].sum() == pytest.approx(1, abs=1e-5)
    inner = tokens[tokens["end"] > tokens["start"]]
    assert all(genome[row.start : row.end] == row.token for row in inner.itertuples())
    assert len(tables["attention_heads"]) == 2
    assert json.loads((output / "summary.json").read_text())["window_start"] == result.window_start
    figures = sorted(path.name for path in (output / "figures").iterdir())
    assert figures == [
        "attention_maps.png",
        "attention_received.png",
        "attribution.png",
        "attribution_zoom.png",
        "motif_comparison.png",
        "mutagenesis.png",
    ]
    assert all(Image.open(io.BytesIO((output / "figures" / name).read_bytes())).width > 500 for name in figures)
    with pytest.raises(FileExistsError, match="--overwrite"):
        explain("chr1:500-505", output, model=trained, genome=files[0], element="splice_donor")


def test_without_motifs_and_without_mutagenesis(
    trained: SegmentationModel, files: tuple[Path, Path], tmp_path: Path
) -> None:
    """At the contig's beginning, where N are cut off the window."""
    result = explain(
        "chr1:341-350",
        tmp_path / "explained",
        model=trained,
        genome=files[0],
        element="intron",
        mutagenesis_bp=0,
        steps=20,
    )
    assert result.mutagenesis is None and result.hits is None and result.summary["motifs"] is None
    assert result.window_start == 300 and result.attribution.encoded.sequence == sequence_of_genome()[300:645]
    assert set(result.tables()) == {"attribution", "attention_tokens", "attention_heads"}
    assert not (tmp_path / "explained" / "mutagenesis.tsv").exists()


def test_the_same_call_gives_the_same_tables(trained: SegmentationModel, files: tuple[Path, Path]) -> None:
    options = {"model": trained, "genome": files[0], "element": "splice_donor", "motifs": files[1], "steps": 5}
    first, second = (
        explain("chr1:900-960", mutagenesis_bp=20, threshold=4e-4, **options)  # type: ignore[arg-type]
        for _ in range(2)
    )
    assert first.summary == second.summary
    for name, table in first.tables().items():
        pd.testing.assert_frame_equal(table, second.tables()[name])


def test_what_is_refused(trained: SegmentationModel, files: tuple[Path, Path], tmp_path: Path) -> None:
    def refused(message: str, region: str = "chr1:500-510", **options: object) -> None:
        chosen = {"model": trained, "genome": files[0], "element": "splice_donor", **options}
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            explain(region, tmp_path / "explained", **chosen)  # type: ignore[arg-type]

    refused("no contig 'chr7'", region="chr7:1-10")
    refused("not within", region="chr1:2,390-2,500")
    refused("is no region", region="chr1:500")
    refused("are all N", region="chr1:100-110")
    refused("has 700 bp, and the model reads 600", region="chr1:500-1,199")
    refused("window_bp is 13,000, and the model takes at most 12,252", window_bp=13_000)
    refused("no element 'donor'", element="donor")
    refused("mutagenesis_bp is -1", mutagenesis_bp=-1)
    refused("no motif file", motifs=tmp_path / "absent.jaspar")
    refused("background is 'shuffled'", background="shuffled")
    refused("threshold is 2", motifs=files[1], threshold=2.0)
    refused("'odds'; expected log_odds or probability", quantity="odds")
    assert not (tmp_path / "explained").exists()


@pytest.mark.parametrize("missing", ["captum", "memelite"])
def test_without_the_extra_before_any_work(
    missing: str, trained: SegmentationModel, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(trained.model, "forward", None)
    with pytest.raises(ImportError, match=r'pip install "omics-transformers\[interpret\]"'):
        explain("chr1:500-510", model=trained, genome=files[0], element="splice_donor", motifs=files[1])


@pytest.mark.real_data
def test_a_piece_of_a_chromosome_and_jaspar_s_motifs(trained: SegmentationModel, data_folder: Path) -> None:
    fasta, offsets = data_folder / "genome" / "chr22_20000000-21000000.GRCh37.fa.gz", {"22": 20_000_000}
    motifs = data_folder / "genesets" / "JASPAR2026_cardiac_and_CTCF.jaspar"
    result = explain(
        "chr22:20,500,001-20,500,300",
        model=trained,
        genome=fasta,
        offsets=offsets,
        element="splice_donor",
        motifs=motifs,
        threshold=1e-3,
        quantity="probability",
        mutagenesis_bp=30,
        steps=20,
    )
    tables = result.tables()
    with open_genome(fasta, offsets=offsets) as genome:
        window = genome.fetch("22", result.window_start, result.window_start + WINDOW_BP).decode()
    assert (result.window_start, result.region.start) == (20_499_850, 20_500_000)
    assert "".join(tables["attribution"]["base"]) == window
    hits = tables["motif_hits"]
    assert hits["start"].between(20_499_850, 20_500_450).all() and hits["motif"].nunique() >= 3
    counts = {motif.matrix_id: motif.counts for motif in read_jaspar(motifs)}
    for hit in hits.itertuples():
        letters = window[hit.start - result.window_start : hit.end - result.window_start]
        if hit.strand == "-":
            letters = letters.translate(str.maketrans("ACGT", "TGCA"))[::-1]
        shares = counts[hit.matrix_id] / counts[hit.matrix_id].sum(0)
        found = [shares["ACGT".index(letter), place] for place, letter in enumerate(letters)]
        assert np.log2(np.maximum(found, 1e-3) / 0.25).sum() == pytest.approx(hit.score, abs=2.0)
