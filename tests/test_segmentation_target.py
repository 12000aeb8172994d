"""The target: which bases and elements it sums, tokens' bases, embeddings in place of tokens, and bad input."""

import numpy as np
import pytest
import torch

from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.modeling.nucleotide_kmers import KmerVocabulary
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.pipelines.segmentation_target import (
    SegmentationTarget,
    TargetFunction,
    batches,
    default_window_bp,
    element_index,
    encode_sequence,
    evaluating,
    longest_window_bp,
)

SEQUENCE = "ACGTACGGTTNACGTTGCANNACGGTACCTA"
TINY = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def make_model(**options: object) -> SegmentNTForTokenClassification:
    torch.manual_seed(0)
    config = SegmentNTConfig(**TINY, initializer_range=0.3, **options)
    return SegmentNTForTokenClassification(config).double().eval()


@pytest.fixture(scope="module")
def model() -> SegmentNTForTokenClassification:
    return make_model()


@pytest.fixture(scope="module")
def tokenizer() -> NucleotideKmerTokenizer:
    return NucleotideKmerTokenizer()


def probabilities(model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer) -> np.ndarray:
    """(bases, elements) by the model's own forward."""
    with torch.no_grad():
        return model(**tokenizer([SEQUENCE], return_tensors="pt")).logits.softmax(-1)[0, :, :, 1].numpy()


def test_tokens_lie_on_their_bases(model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer) -> None:
    encoded = encode_sequence(model, tokenizer, "acguacRggttan")
    assert encoded.sequence == "ACGTACNGGTTAN"
    assert encoded.letters() == ["", "ACGTAC", "N", "G", "G", "T", "T", "A", "N"]
    assert encoded.spans[[0, 1, 2, 3, 8]].tolist() == [[0, 0], [0, 6], [6, 7], [7, 8], [12, 13]]
    assert encoded.tokens_within(5, 8).tolist() == [1, 2, 3]
    assert encoded.tokens_within(6, 7).tolist() == [2]


def test_the_target_sums_an_element_over_bases_other_than_n(
    model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer
) -> None:
    found = probabilities(model, tokenizer)
    column = list(model.config.id2label.values()).index("splice_donor")
    chosen = [place for place in range(7, 20) if SEQUENCE[place] != "N"]
    ids = encode_sequence(model, tokenizer, SEQUENCE).input_ids
    for quantity, values in (("probability", found), ("log_odds", np.log(found / (1 - found)))):
        target = SegmentationTarget("splice_donor", 7, 20, quantity)
        value = TargetFunction(model, target).of_tokens(ids).item()
        assert value == pytest.approx(values[chosen, column].sum(), abs=1e-9)


@pytest.mark.parametrize(
    "options",
    [{}, {"token_dropout": True}, {"position_embedding_type": "absolute", "emb_layer_norm_before": True}],
    ids=["second version", "token dropout", "first version"],
)
def test_a_sequence_s_own_embeddings_give_the_same_as_its_tokens(
    options: dict, tokenizer: NucleotideKmerTokenizer
) -> None:
    model = make_model(**options)
    function = TargetFunction(model, SegmentationTarget("exon", 0, len(SEQUENCE)))
    ids = encode_sequence(model, tokenizer, SEQUENCE).input_ids
    embeddings = model.get_input_embeddings()(ids)
    with torch.no_grad():
        expected = function.of_tokens(ids)
        assert torch.equal(function(embeddings, ids), expected)
        assert function(embeddings.roll(1, dims=2), ids).item() != pytest.approx(expected.item())
        assert torch.equal(function.of_tokens(ids), expected)  # nothing stays behind


def test_what_cannot_be_a_target() -> None:
    with pytest.raises(ValueError, match=r"'odds'; expected log_odds or probability"):
        SegmentationTarget("exon", 0, 3, "odds")  # type: ignore[arg-type]
    for start, end in ((-1, 3), (3, 3), (4, 3)):
        with pytest.raises(ValueError, match="expected 0 <= start < end"):
            SegmentationTarget("exon", start, end)
    with pytest.raises(ValueError, match="ends at base 40 of a sequence of 31"):
        SegmentationTarget("exon", 0, 40).check(SEQUENCE)
    with pytest.raises(ValueError, match="18-20 of the sequence are all N"):
        SegmentationTarget("exon", 18, 20).check(SEQUENCE.replace("A", "N"))


def test_an_unknown_element_is_named_with_the_likeliest(model: SegmentNTForTokenClassification) -> None:
    assert element_index(model.config, "lncRNA") == 1
    with pytest.raises(ValueError, match=r"no element 'splice_doner' \(did you mean 'splice_donor'\?\)"):
        element_index(model.config, "splice_doner")


def test_bad_sequences_and_another_tokenizer(
    model: SegmentNTForTokenClassification, tokenizer: NucleotideKmerTokenizer
) -> None:
    with pytest.raises(ValueError, match="empty"):
        encode_sequence(model, tokenizer, "")
    with pytest.raises(ValueError, match="J"):
        encode_sequence(model, tokenizer, "ACGJ")
    other = NucleotideKmerTokenizer(vocab=KmerVocabulary.published(3).tokens)
    with pytest.raises(ValueError, match="use the tokenizer that belongs to it"):
        encode_sequence(model, other, "ACGT")


@pytest.mark.parametrize(
    ("options", "expected", "longest"),
    [
        ({}, (2048 - 6) * 6, (2048 - 6) * 6),
        ({"window_bp": 600}, 600, (2048 - 6) * 6),
        ({"window_bp": 2047 * 6}, (2048 - 6) * 6, (2048 - 6) * 6),
        ({"rescaling_factor": 5001 / 2048}, 30_000, None),
        ({"rescaling_factor": 5001 / 2048, "window_bp": 1_000}, 1_000, None),
    ],
)
def test_windows_fit_the_model(
    options: dict, expected: int, longest: int | None, tokenizer: NucleotideKmerTokenizer
) -> None:
    config = SegmentNTConfig(**TINY, **options)
    assert (default_window_bp(config), longest_window_bp(config)) == (expected, longest)
    if longest:
        tokens = max(len(tokenizer.encode_bases("A" * (longest - shorter))) for shorter in range(12))
        assert tokens <= config.max_tokens


def test_a_model_is_left_as_it_was() -> None:
    model = make_model()
    model.train()
    with evaluating(model):
        assert not model.unet.training
    assert model.unet.training


def test_batches_are_whole_and_of_at_most_the_size() -> None:
    assert [list(batch) for batch in batches(range(5), 2)] == [[0, 1], [2, 3], [4]]
    with pytest.raises(ValueError, match="batch_size is 0"):
        next(batches([1], 0))
