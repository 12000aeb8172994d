"""Effects of variants against plain forward passes of both alleles; identity, indels, phases, ranks, bad input."""

import logging

import numpy as np
import pytest
import torch

from omics_transformers.data_scripts.genomes import Genome, open_genome
from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.pipelines.segmentation_variants import (
    EFFECT_COLUMNS,
    VariantEffects,
    variant_effects,
    variant_tracks,
)
from omics_transformers.pipelines.variant_windows import Variant, variants_of_rows

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
WINDOW_BP = 120
SEQUENCE = "".join(np.random.default_rng(0).choice(list("ACGT"), size=600))
SEQUENCE = SEQUENCE[:220] + "N" * 9 + SEQUENCE[229:]


@pytest.fixture(scope="module")
def model() -> SegmentNTForTokenClassification:
    torch.manual_seed(0)
    return SegmentNTForTokenClassification(SegmentNTConfig(**SIZES, initializer_range=0.3)).double()


@pytest.fixture(scope="module")
def tokenizer() -> NucleotideKmerTokenizer:
    return NucleotideKmerTokenizer()


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text(f">chr1\n{SEQUENCE}\n")
    return open_genome(path)


def snv(start: int) -> Variant:
    return Variant("chr1", start, SEQUENCE[start], "ACGT"["ACGT".index(SEQUENCE[start]) - 1])


def log_odds_of(
    model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer, sequence: str
) -> np.ndarray:
    """(bases, elements) by the model's own forward on one sequence."""
    model.eval()
    with torch.no_grad():
        logits = model(**tokenizer([sequence], return_tensors="pt")).logits[0]
    return (logits[..., 1] - logits[..., 0]).numpy()


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def test_an_snv_is_the_difference_of_two_forward_passes(
    model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer, genome: Genome
) -> None:
    variant = snv(400)
    start = 400 - WINDOW_BP // 2
    window = SEQUENCE[start : start + WINDOW_BP]
    other = window[:60] + variant.alternative + window[61:]
    before, after = (log_odds_of(model, tokenizer, sequence) for sequence in (window, other))
    result = variant_effects(model, tokenizer, [variant], genome, window_bp=WINDOW_BP, distance_bp=20)
    changes = (sigmoid(after) - sigmoid(before))[40:81]
    table = result.effects
    assert list(table.columns) == ["rank", *EFFECT_COLUMNS]
    assert table["element"].tolist() == list(model.config.id2label.values())
    assert (table["bases"] == 41).all() and set(table["variant"]) == {str(variant)}
    assert table["maximum_absolute_change"].to_numpy() == pytest.approx(np.abs(changes).max(0), abs=1e-9)
    assert table["mean_absolute_change"].to_numpy() == pytest.approx(np.abs(changes).mean(0), abs=1e-9)
    most = np.abs(changes).argmax(0)
    rows = np.arange(changes.shape[1])
    assert table["change"].to_numpy() == pytest.approx(changes[most, rows], abs=1e-9)
    assert table["most_changed_position"].tolist() == (start + 40 + most).tolist()
    assert table["distance_bp"].tolist() == np.abs(start + 40 + most - 400).tolist()
    assert table["reference_probability"].to_numpy() == pytest.approx(sigmoid(before)[40:81][most, rows])
    assert table["alternative_probability"].to_numpy() == pytest.approx(sigmoid(after)[40:81][most, rows])
    shifts = (after - before)[40:81]
    assert table["log_odds_change"].to_numpy() == pytest.approx(shifts[most, rows], abs=1e-9)
    largest = shifts[np.abs(shifts).argmax(0), rows]
    assert table["largest_log_odds_change"].to_numpy() == pytest.approx(largest, abs=1e-9)
    assert table[["deleted_probability", "inserted_probability"]].isna().all(axis=None)
    assert table["maximum_absolute_change"].max() > 1e-3


@pytest.mark.parametrize("phases", [1, 6])
def test_no_change_has_no_effect(
    phases: int, model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer, genome: Genome
) -> None:
    variants = [Variant("chr1", 300, SEQUENCE[300], SEQUENCE[300]), snv(300)]
    result = variant_effects(model, tokenizer, variants, genome, window_bp=WINDOW_BP, phases=phases)
    none, some = (result.effects[result.effects["variant"] == str(variant)] for variant in variants)
    assert none["maximum_absolute_change"].max() < 1e-12 < 1e-3 < some["maximum_absolute_change"].max()
    assert result.variants["variant"].tolist() == [str(variants[1]), str(variants[0])]
    assert result.variants["rank"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("reference", "alternative"),
    [(SEQUENCE[300], SEQUENCE[300] + "ACGTA"), (SEQUENCE[300:308], SEQUENCE[300]), (SEQUENCE[300:304], "TTTTTTT")],
    ids=["insertion", "deletion", "replacement"],
)
def test_an_indel_compares_the_bases_that_correspond(
    reference: str,
    alternative: str,
    model: SegmentNTForTokenClassification,
    tokenizer: NucleotideKmerTokenizer,
    genome: Genome,
) -> None:
    variant = Variant("chr1", 300, reference, alternative)
    tracks = variant_tracks(model, tokenizer, variant, genome, window_bp=WINDOW_BP)
    position, removed, inserted = variant.edit()
    start = int(tracks.positions[0])
    end = int(tracks.positions[-1]) + 1
    window = SEQUENCE[start:end]
    assert max(len(window), len(window) + len(inserted) - len(removed)) == WINDOW_BP
    place = position - start
    other = window[:place] + inserted + window[place + len(removed) :]
    before, after = (log_odds_of(model, tokenizer, sequence) for sequence in (window, other))
    kept = [*range(place), *range(place + len(removed), len(window))]
    assert tracks.positions.tolist() == [start + one for one in kept]
    assert np.allclose(tracks.reference, before[kept])
    moved = [*range(place), *range(place + len(inserted), len(other))]
    assert np.allclose(tracks.alternative, after[moved])
    assert np.allclose(tracks.deleted, before[place : place + len(removed)])
    assert np.allclose(tracks.inserted, after[place : place + len(inserted)])
    assert (tracks.distances == 0).sum() == 0 and tracks.distances.min() == 1


def test_deleted_and_inserted_bases_are_in_the_table(
    model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer, genome: Genome
) -> None:
    variants = [
        Variant("chr1", 300, SEQUENCE[300], SEQUENCE[300] + "ACGTA"),
        Variant("chr1", 400, SEQUENCE[400:408], SEQUENCE[400]),
    ]
    table = variant_effects(model, tokenizer, variants, genome, window_bp=WINDOW_BP).effects
    for variant, column, name in zip(variants, ("inserted", "deleted"), ("deleted", "inserted"), strict=True):
        rows = table[table["variant"] == str(variant)]
        tracks = variant_tracks(model, tokenizer, variant, genome, window_bp=WINDOW_BP)
        expected = sigmoid(getattr(tracks, column)).max(0)
        assert rows[f"{column}_probability"].to_numpy() == pytest.approx(expected)
        assert rows[f"{name}_probability"].isna().all()


def test_phases_are_averaged(
    model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer, genome: Genome
) -> None:
    variant = snv(400)
    start = 400 - WINDOW_BP // 2
    window = SEQUENCE[start : start + WINDOW_BP]
    tracks = variant_tracks(model, tokenizer, variant, genome, window_bp=WINDOW_BP, phases=3)
    answers = [log_odds_of(model, tokenizer, window[phase:]) for phase in range(3)]
    inner = np.mean([answer[2 - phase :] for phase, answer in enumerate(answers)], axis=0)
    assert np.allclose(tracks.reference[2:], inner)
    assert np.allclose(tracks.reference[0], answers[0][0])
    assert np.allclose(tracks.reference[1], (answers[0][1] + answers[1][0]) / 2)


def test_phases_do_not_begin_behind_an_edit_at_the_contig_s_end(
    model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer, genome: Genome
) -> None:
    variant = Variant("chr1", 1, SEQUENCE[1], "T" if SEQUENCE[1] != "T" else "A")
    tracks = variant_tracks(model, tokenizer, variant, genome, window_bp=WINDOW_BP, phases=6)
    window = SEQUENCE[:WINDOW_BP]
    answers = [log_odds_of(model, tokenizer, window[phase:]) for phase in range(2)]
    assert tracks.positions.tolist() == list(range(WINDOW_BP))
    assert np.allclose(tracks.reference[1:], (answers[0][1:] + answers[1]) / 2)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_batches_do_not_matter_and_ranks_are_by_effect(
    batch_size: int, model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer, genome: Genome
) -> None:
    variants = [snv(start) for start in (100, 150, 260, 340, 590)]
    variants.append(Variant("chr1", 300, SEQUENCE[300], SEQUENCE[300] + "ACGTA", "rs1"))
    result = variant_effects(model, tokenizer, variants, genome, window_bp=WINDOW_BP, batch_size=batch_size)
    alone = {}
    for variant in variants:
        tracks = variant_tracks(model, tokenizer, variant, genome, window_bp=WINDOW_BP)
        alone[str(variant)] = np.abs(tracks.changes()).max()
    expected = sorted(alone, key=lambda name: -alone[name])
    assert result.variants["variant"].tolist() == expected
    assert result.variants["maximum_absolute_change"].to_numpy() == pytest.approx(
        [alone[name] for name in expected], abs=1e-9
    )
    assert result.effects["rank"].tolist() == np.repeat(range(1, 7), 14).tolist()
    assert result.effects.groupby("rank", sort=True)["variant"].first().tolist() == expected
    assert result.variants.set_index("variant").loc[str(variants[-1]), "name"] == "rs1"


def test_n_are_not_compared(
    model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer, genome: Genome
) -> None:
    tracks = variant_tracks(model, tokenizer, snv(250), genome, window_bp=WINDOW_BP)
    assert len(tracks.positions) == WINDOW_BP - 9
    assert not set(tracks.positions.tolist()) & set(range(220, 229))
    assert np.isfinite(tracks.reference).all() and np.isfinite(tracks.alternative).all()


def test_windows_with_too_many_tokens_are_named_not_run(
    tokenizer: NucleotideKmerTokenizer, genome: Genome, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    config = SegmentNTConfig(**SIZES, max_position_embeddings=30)  # 28 tokens
    model = SegmentNTForTokenClassification(config)
    variants = [snv(230), snv(400)]
    with caplog.at_level(logging.WARNING):
        result: VariantEffects = variant_effects(model, tokenizer, variants, genome, window_bp=132)
    assert result.not_scored["variant"].tolist() == [str(variants[0])]
    assert "many of them N, and the model takes 28" in result.not_scored["reason"][0]
    assert f"{variants[0]} is not scored" in caplog.text
    assert set(result.effects["variant"]) == {str(variants[1])}
    with pytest.raises(ValueError, match="many of them N"):
        variant_tracks(model, tokenizer, variants[0], genome, window_bp=132)
    with pytest.raises(ValueError, match="window_bp is 133: expected 2 or more, and at most 132"):
        variant_effects(model, tokenizer, variants, genome, window_bp=133)
    assert variant_effects(model, tokenizer, variants[1:], genome).settings["window_bp"] == 132


def test_indels_that_shift_kmers_are_told(
    model: SegmentNTForTokenClassification,
    tokenizer: NucleotideKmerTokenizer,
    genome: Genome,
    caplog: pytest.LogCaptureFixture,
) -> None:
    inserted = [Variant("chr1", 300, SEQUENCE[300], SEQUENCE[300] + letters) for letters in ("ACGTA", "ACGTAC")]
    with caplog.at_level(logging.WARNING):
        variant_effects(model, tokenizer, inserted, genome, window_bp=WINDOW_BP)
    assert "1 variants change the length by no multiple of 6" in caplog.text
    caplog.clear()
    variant_effects(model, tokenizer, inserted, genome, window_bp=WINDOW_BP, phases=6)
    assert "multiple" not in caplog.text


def test_no_variants(
    model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer, genome: Genome
) -> None:
    result = variant_effects(model, tokenizer, variants_of_rows([]).variants, genome)
    assert len(result.effects) == len(result.variants) == len(result.not_scored) == 0
    assert list(result.variants.columns) == ["rank", *EFFECT_COLUMNS]


def test_bad_input_before_the_model_runs(
    model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer, genome: Genome
) -> None:
    right = snv(300)
    wrong = Variant("chr1", 301, right.reference if SEQUENCE[301] != right.reference else right.alternative, "G")
    with pytest.raises(ValueError, match="1 of 2 variants have another reference allele"):
        variant_effects(model, tokenizer, [right, wrong], genome)
    for options, message in (
        ({"phases": 7}, "phases is 7: expected 1 to 6"),
        ({"window_bp": 1}, "window_bp is 1"),
        ({"distance_bp": 0}, "distance_bp is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            variant_effects(model, tokenizer, [right], genome, **options)
