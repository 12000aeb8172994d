"""The segmentation pipeline on a small SegmentNT: against one plain pass a window, both strands, N, and bad input."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast

from omics_transformers.data_scripts.genomes import open_genome
from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.pipelines.dna_segmentation import DNASegmentationPipeline
from omics_transformers.pipelines.segmentation_windows import count_tokens, window_starts


def make_pipeline(**changes: Any) -> DNASegmentationPipeline:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = SegmentNTConfig(**{**sizes, "window_bp": 120, "initializer_range": 0.3, **changes})
    return DNASegmentationPipeline(SegmentNTForTokenClassification(config), NucleotideKmerTokenizer(), device="cpu")


@pytest.fixture(scope="module")
def pipe() -> DNASegmentationPipeline:
    return make_pipeline()


def random_dna(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def plain_probabilities(pipe: DNASegmentationPipeline, sequence: str) -> np.ndarray:
    """One sequence through the tokenizer's ordinary call and the model, (bases, elements)."""
    with torch.inference_mode():
        logits = pipe.model(**pipe.tokenizer(sequence, return_tensors="pt")).logits[0]
    return logits.softmax(-1)[..., 1].numpy()


@pytest.mark.parity
@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize(("window_bp", "overlap"), [(120, 0.5), (126, 0.0), (90, 0.75), (100, 0.3)])
def test_equals_a_plain_pass_a_window(
    pipe: DNASegmentationPipeline, window_bp: int, overlap: float, batch_size: int
) -> None:
    sequence = random_dna(431)
    found = pipe(sequence, window_bp=window_bp, overlap=overlap, batch_size=batch_size)
    total, weights = np.zeros((431, 14)), np.zeros(431)
    for start in window_starts(431, window_bp, overlap).tolist():
        inside = slice(start, start + window_bp)
        weight = np.minimum(np.arange(window_bp), np.arange(window_bp)[::-1]) + 1
        total[inside] += weight[:, None] * plain_probabilities(pipe, sequence[inside])
        weights[inside] += weight
    np.testing.assert_allclose(found.probabilities, total / weights[:, None], atol=1e-5)
    assert found.probabilities.dtype == np.float32
    assert np.ptp(found.probabilities) > 0.5  # of a model that says something
    assert found.elements == tuple(pipe.model.config.id2label.values())


def test_a_short_sequence_is_one_window(pipe: DNASegmentationPipeline) -> None:
    for length in (1, 5, 6, 7, 119, 120):
        sequence = random_dna(length)
        np.testing.assert_allclose(pipe(sequence).probabilities, plain_probabilities(pipe, sequence), atol=1e-5)


@pytest.mark.parametrize("length", [119, 120, 121, 430, 431, 599])
def test_both_strands_give_the_reverse_complement_the_mirrored_result(
    pipe: DNASegmentationPipeline, length: int
) -> None:
    # Windows lie symmetrically, so the model reads the same windows from either end, whatever the length's k-mer phase.
    sequence = random_dna(length)
    sequence = sequence[:60] + "NN" + sequence[62:90] + "N" * 20 + sequence[110:]
    backward = sequence.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    one = pipe(sequence, reverse_complement=True).probabilities
    other = pipe(backward, reverse_complement=True).probabilities[::-1]
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert np.nanmax(np.abs(one - pipe(sequence).probabilities)) > 0.01


def test_both_strands_are_averaged(pipe: DNASegmentationPipeline) -> None:
    sequence = random_dna(100)
    backward = plain_probabilities(pipe, sequence.translate(str.maketrans("ACGT", "TGCA"))[::-1])[::-1]
    expected = (plain_probabilities(pipe, sequence) + backward) / 2
    np.testing.assert_allclose(pipe(sequence, reverse_complement=True).probabilities, expected, atol=1e-5)


def test_long_runs_of_n_part_and_short_ones_do_not(pipe: DNASegmentationPipeline) -> None:
    left, right = random_dna(50), random_dna(40, seed=1)
    parted = pipe(left + "N" * 12 + right)
    np.testing.assert_allclose(parted.probabilities[:50], plain_probabilities(pipe, left), atol=1e-5)
    np.testing.assert_allclose(parted.probabilities[62:], plain_probabilities(pipe, right), atol=1e-5)
    assert np.isnan(parted.probabilities[50:62]).all()
    assert parted.summary["stretches"] == 2 and parted.summary["n_unknown_bases"] == 12
    whole = pipe(left + "N" * 11 + right).probabilities
    expected = plain_probabilities(pipe, left + "N" * 11 + right)
    assert np.isnan(whole[50:61]).all()
    np.testing.assert_allclose(np.delete(whole, range(50, 61), 0), np.delete(expected, range(50, 61), 0), atol=1e-5)
    assert np.isnan(pipe("N" * 30).probabilities).all()


def test_windows_that_n_makes_too_long_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = make_pipeline(max_position_embeddings=23)  # 21 tokens: 120 bp and <cls>
    widths: list[int] = []
    forward = pipe.model.forward
    monkeypatch.setattr(
        pipe.model, "forward", lambda **inputs: (widths.append(inputs["input_ids"].shape[1]), forward(**inputs))[1]
    )
    sequence = random_dna(300)
    sequence = sequence[:100] + "NACN" + sequence[104:]
    found = pipe(sequence).probabilities
    assert max(widths) == 21 and count_tokens(sequence[40:160].encode(), 6) > 21
    assert np.flatnonzero(np.isnan(found).any(1)).tolist() == [100, 103]


def test_a_list_gives_a_result_each(pipe: DNASegmentationPipeline) -> None:
    sequences = [random_dna(200), random_dna(7, seed=1), "N" * 13, random_dna(150, seed=2)]
    results = pipe(sequences)
    assert isinstance(results, list) and [len(result.probabilities) for result in results] == [200, 7, 13, 150]
    for sequence, result in zip(sequences, results, strict=True):
        np.testing.assert_allclose(result.probabilities, pipe(sequence).probabilities, atol=1e-5)
    assert results[1].contig == "sequence_2"
    assert isinstance(pipe([sequences[0]]), list)


def test_genomes_and_files_give_what_the_sequence_gives(pipe: DNASegmentationPipeline, tmp_path: Path) -> None:
    sequence = random_dna(700)
    path = tmp_path / "genome.fa"
    path.write_text(f">chr1\nACGT\n>chr20\n{sequence.lower()}\n")
    expected = pipe(sequence[99:400]).probabilities
    with open_genome(path) as genome:
        results = [
            pipe(genome, region="chr20:100-400"),
            pipe(genome, region="20:100-400"),
            pipe(path, region="chr20:100-400"),
            pipe(str(path), region="chr20:100-400"),
        ]
    for result in results:
        np.testing.assert_array_equal(result.probabilities, expected)
        assert (result.contig, result.start, result.end, result.contig_length) == ("chr20", 99, 400, 700)
    with open_genome(path, offsets={"chr20": 5_000}) as piece:
        result = pipe(piece, region="chr20:5,100-5,400")
    np.testing.assert_array_equal(result.probabilities, expected)
    assert result.table()["start"].min() >= 5_099
    assert len(pipe(path, region="chr20").probabilities) == 700


def test_the_models_window_and_thresholds_are_the_default() -> None:
    assert make_pipeline().window_settings().window_bp == 120
    assert make_pipeline(window_bp=None).window_settings().window_bp == 2_044 * 6  # 2,047 k-mers, less what 4 divides
    assert make_pipeline(window_bp=None, rescaling_factor=5_001 / 2_048).window_settings().window_bp == 30_000
    assert make_pipeline(window_bp=30_000, rescaling_factor=2.44).window_settings().window_bp == 30_000
    learned = [0.1 * (1 + number % 9) for number in range(14)]
    pipe = make_pipeline(thresholds=learned)
    assert list(pipe.thresholds().values()) == learned
    assert pipe.thresholds({"exon": 0.9})["exon"] == 0.9
    result = pipe(random_dna(100))
    assert result.thresholds == pipe.thresholds()
    assert pipe(random_dna(100), thresholds=0.4).thresholds == dict.fromkeys(pipe.elements, 0.4)


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ("ACGTE", {}, "the letter 'E' at position 5 .1-based. is not DNA"),
        ("", {}, "sequence is empty"),
        ("ACGT", {"region": "sequence:2-9"}, "sequence:2-9 is not within sequence:1-4"),
        ("ACGT", {"region": "chr1"}, "no contig 'chr1' in the sequence, which has sequence"),
        (["ACGT"], {"region": "chr1"}, "region 'chr1' was given with a list"),
        (
            "ACGT",
            {"window_bp": 12_300},
            r"windows of 12,300 bp are 2,051 tokens, and the model takes 2,048: give window",
        ),
        ("ACGT", {"window_bp": 5}, "window_bp is 5: expected 6"),
        ("ACGT", {"overlap": 0.96}, "overlap is 0.96: expected a share of the window from 0 to 0.95"),
        ("ACGT", {"overlap": -0.1}, "overlap is -0.1"),
        ("ACGT", {"batch_size": 0}, "batch_size is 0"),
        ("ACGT", {"split_at_n": 0}, "split_at_n is 0"),
        ("ACGT", {"thresholds": {"exons": 0.5}}, "thresholds name 'exons'"),
        (7, {}, "input of type int cannot be segmented"),
    ],
)
def test_bad_input_before_the_model_runs(
    pipe: DNASegmentationPipeline, monkeypatch: pytest.MonkeyPatch, inputs: Any, options: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(pipe, "_forward", lambda *_: pytest.fail("the model ran"))
    with pytest.raises(ValueError, match=message):
        pipe(inputs, **options)


def test_rescaled_models_say_how_long_windows_may_be() -> None:
    pipe = make_pipeline(rescaling_factor=2.0)
    assert pipe.window_settings(window_bp=4_095 * 6).window_bp == 24_570
    with pytest.raises(ValueError, match=r"windows of 60,000 bp are 10,001 tokens.*at its rescaling_factor 2"):
        pipe.window_settings(window_bp=60_000)


def test_models_and_tokenizers_that_do_not_fit(pipe: DNASegmentationPipeline, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\n[PAD]\n[CLS]\n[SEP]\n[MASK]\nA\n")
    bert_tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    bert = BertForTokenClassification(
        BertConfig(vocab_size=6, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    )
    with pytest.raises(ValueError, match="the model is a bert, which has no segmentation head; expected a segment-nt"):
        DNASegmentationPipeline(bert, bert_tokenizer, device="cpu")
    with pytest.raises(ValueError, match="needs a NucleotideKmerTokenizer, and has BertTokenizer"):
        DNASegmentationPipeline(pipe.model, bert_tokenizer, device="cpu")
    others = ["<pad>", "<unk>", *pipe.tokenizer.kmer_vocabulary.tokens[2:]]
    with pytest.raises(ValueError, match=r"ids that differ: <pad> 0, 1. Load both from the same folder"):
        DNASegmentationPipeline(pipe.model, NucleotideKmerTokenizer(vocab=others), device="cpu")
    with pytest.raises(ValueError, match="unknown options of the pipeline: window"):
        DNASegmentationPipeline(pipe.model, pipe.tokenizer, device="cpu", window=3)


def test_half_precision_is_near(pipe: DNASegmentationPipeline) -> None:
    half = make_pipeline()
    half.model.to(torch.bfloat16)
    sequence = random_dna(300)
    found = half(sequence)
    assert found.probabilities.dtype == np.float32 and found.summary["dtype"] == "bfloat16"
    assert np.abs(found.probabilities - pipe(sequence).probabilities).mean() < 0.05


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    cpu, gpu = make_pipeline(), make_pipeline()
    gpu.device = torch.device("cuda")
    gpu.model.to("cuda")
    sequence = random_dna(700)
    np.testing.assert_allclose(gpu(sequence).probabilities, cpu(sequence).probabilities, atol=1e-3)


def test_anything_with_the_three_parts_of_a_genome_will_do(pipe: DNASegmentationPipeline) -> None:
    sequence = random_dna(200)
    genome = SimpleNamespace(
        contigs={"a": 200}, starts={"a": 0}, fetch=lambda contig, start, end: sequence[start:end].encode()
    )
    np.testing.assert_array_equal(pipe(genome).probabilities, pipe(sequence).probabilities)
