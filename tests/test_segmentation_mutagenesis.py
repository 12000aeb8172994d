"""Mutagenesis against whole sequences read one by one, and bad input."""

import numpy as np
import pytest
import torch

from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.pipelines.segmentation_mutagenesis import BASES, saturation_mutagenesis
from omics_transformers.pipelines.segmentation_target import SegmentationTarget

SEQUENCE = "ACGTACGGTTNACGTTGCAGGACGGTACCTATTGCAGG"  # ends in letters, and has an N
TARGET = SegmentationTarget("exon", 12, 26, "probability")


@pytest.fixture(scope="module")
def model() -> SegmentNTForTokenClassification:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return SegmentNTForTokenClassification(SegmentNTConfig(**sizes, initializer_range=0.3)).double()


@pytest.fixture(scope="module")
def tokenizer() -> NucleotideKmerTokenizer:
    return NucleotideKmerTokenizer()


def value_of(model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer, sequence: str) -> float:
    """The target by the model's own forward."""
    element = list(model.config.id2label.values()).index(TARGET.element)
    model.eval()
    with torch.no_grad():
        logits = model(**tokenizer([sequence], return_tensors="pt")).logits
    return float(logits.softmax(-1)[0, TARGET.start : TARGET.end, element, 1].sum())


@pytest.mark.parametrize(("start", "end", "batch_size"), [(0, len(SEQUENCE), 16), (4, 9, 1), (5, 38, 1_000)])
def test_effects_are_those_of_the_changed_sequences(
    start: int, end: int, batch_size: int, model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer
) -> None:
    found = saturation_mutagenesis(
        model, tokenizer, SEQUENCE, target=TARGET, start=start, end=end, batch_size=batch_size
    )
    reference = value_of(model, tokenizer, SEQUENCE)
    assert found.target_value == pytest.approx(reference)
    expected = np.full((end - start, 4), np.nan)
    for position in range(start, end):
        if SEQUENCE[position] != "N":
            changed = [SEQUENCE[:position] + base + SEQUENCE[position + 1 :] for base in BASES]
            expected[position - start] = [value_of(model, tokenizer, one) - reference for one in changed]
    assert np.allclose(found.effects, expected, atol=1e-9, equal_nan=True)
    assert np.nanmax(np.abs(expected)) > 1e-3
    there = [BASES.index(base) if base != "N" else 0 for base in SEQUENCE[start:end]]
    at_reference = found.effects[np.arange(end - start), there]
    assert (at_reference[~np.isnan(at_reference)] == 0).all()


def test_table_and_importance(model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer) -> None:
    found = saturation_mutagenesis(model, tokenizer, SEQUENCE, target=TARGET, start=8, end=14)
    table = found.table()
    assert table["position"].tolist() == list(range(8, 14))
    assert "".join(table["base"]) == SEQUENCE[8:14] == "TTNACG"
    others = table.loc[0, ["effect_A", "effect_C", "effect_G"]].to_numpy(float)
    assert table.loc[0, "effect_T"] == 0 and table.loc[0, "importance"] == pytest.approx(-others.mean())
    assert table.loc[2].isna().sum() == 5  # importance and effects of the N


def test_bases_beyond_the_sequence(model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer) -> None:
    for start, end in ((0, 39), (-1, 4), (5, 5)):
        with pytest.raises(ValueError, match=f"bases {start}-{end} were to be changed, in a sequence of 38"):
            saturation_mutagenesis(model, tokenizer, SEQUENCE, target=TARGET, start=start, end=end)


def test_only_n(model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer) -> None:
    found = saturation_mutagenesis(model, tokenizer, SEQUENCE, target=TARGET, start=10, end=11)
    assert np.isnan(found.effects).all() and found.effects.shape == (1, 4)
