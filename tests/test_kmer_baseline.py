"""The baseline on segments: what is drawn, what is fitted, and that it finds what k-mers tell."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from omics_transformers.training.kmer_baseline import (
    KmerBaselineArguments,
    SampledBases,
    fit_kmer_baseline,
    main,
    run_kmer_baseline,
    sample_bases,
)
from omics_transformers.training.kmer_features import KmerFeatures
from omics_transformers.training.segmentation_data import SegmentationCollator, SegmentationDataset, read_segments

FEW = KmerFeatures(longest_kmer=2, radii=(8,), nearest=1)


@pytest.fixture(scope="module")
def sample(toy_segments: Path) -> SampledBases:
    return sample_bases(
        SegmentationDataset(read_segments(toy_segments).splits["train"]), FEW, 200, at_random=1000, seed=1
    )


def test_draws_scored_bases_of_each_element_and_at_random(sample: SampledBases, toy_segments: Path) -> None:
    segments = read_segments(toy_segments)
    assert sample.totals.tolist() == [*segments.positive_bases["train"], segments.scored_bases["train"]]
    assert sample.is_at_random.sum() == 1000
    assert sample.drawn_for.sum(axis=0).tolist() == [200, 200, 0]
    assert (sample.labels >= sample.drawn_for).all()
    assert (sample.is_at_random | sample.drawn_for.any(axis=1)).all()
    at_random = sample.labels[sample.is_at_random].mean(axis=0)
    np.testing.assert_allclose(at_random, segments.frequencies("train"), atol=0.05)
    middle = sample.matrix[:, -8:-4]  # the base itself, A C G T
    assert (middle.sum(axis=1) == 1).all()  # never an N
    assert (middle[sample.labels[:, 0]][:, [0, 3]] == 0).all()  # islands are C and G


def test_features_and_labels_are_of_the_same_bases(toy_segments: Path) -> None:
    """All bases that are scored, drawn at random: each appears once."""
    dataset = SegmentationDataset(read_segments(toy_segments).splits["validation"])
    drawn = sample_bases(dataset, FEW, 1, at_random=10**6, seed=4)
    collator = SegmentationCollator(None, reverse_complement=0.5, seed=4)
    pieces = [collator.piece(dataset[number]) for number in range(24)]
    scored = [np.flatnonzero(labels[:, 0] >= 0) for _, labels in pieces]
    expected = np.concatenate(
        [FEW.matrix(sequence, places) for (sequence, _), places in zip(pieces, scored, strict=True)]
    )
    np.testing.assert_array_equal(drawn.matrix, expected)
    of_labels = np.concatenate([labels[places] == 1 for (_, labels), places in zip(pieces, scored, strict=True)])
    np.testing.assert_array_equal(drawn.labels, of_labels)


def test_the_same_seed_draws_the_same_bases(sample: SampledBases, toy_segments: Path) -> None:
    dataset = SegmentationDataset(read_segments(toy_segments).splits["train"])
    again, other = (sample_bases(dataset, FEW, 200, at_random=1000, seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(again.matrix, sample.matrix)
    assert other.matrix.shape != sample.matrix.shape or (other.matrix != sample.matrix).any()


@pytest.mark.parity
def test_probabilities_are_scikit_learns_at_the_true_shares(sample: SampledBases) -> None:
    baseline = fit_kmer_baseline(sample, 0.1)
    rows = sample.rows_of(0)
    truth, matrix = sample.labels[rows, 0], sample.matrix[rows]
    scaled = (matrix - sample.matrix.mean(axis=0)) / sample.matrix.std(axis=0)
    fitted = LogisticRegression(C=0.1, max_iter=300).fit(scaled, truth)
    sequence = np.frombuffer(b"ACGTTGCCGCGCGGCCGCGGCATTANACGT", dtype=np.uint8)
    features = (FEW.matrix(sequence, np.arange(len(sequence))) - sample.matrix.mean(axis=0)) / sample.matrix.std(axis=0)
    share = sample.totals[0] / sample.totals[-1]
    expected = fitted.decision_function(features) + logit(share) - logit(truth.mean())
    probabilities = baseline.probabilities(sequence)
    np.testing.assert_allclose(logit(probabilities[:, 0].astype(np.float64)), expected, atol=0.02)
    assert (probabilities[:, 2] == 0).all()  # an element that no training base carries
    assert not baseline.not_converged.any()


def test_finds_what_kmers_tell_and_writes_it_down(tmp_path: Path, toy_segments: Path) -> None:
    arguments = KmerBaselineArguments(
        str(toy_segments), str(tmp_path / "out"), positives=300, at_random=1500, block_bp=1200, resamples=20,
        penalties=[1e-6, 0.1], test_windows=40,
    )  # fmt: skip
    metrics = run_kmer_baseline(arguments)
    island = metrics["test"]["elements"]["island"]
    assert island["mcc_interval"][0] > 0.85 and island["auprc"] > 0.95
    assert metrics["data"]["elements"]["island"] == {"bases_drawn_for_it": 300, "penalty": 0.1, "converged": True}
    assert metrics["data"]["test_windows_evaluated"] == metrics["test"]["windows"] == 40
    assert island["threshold"] == metrics["validation"]["elements"]["island"]["threshold"]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    table = pd.read_csv(tmp_path / "out" / "elements.tsv", sep="\t")
    assert table["split"].tolist() == ["validation"] * 3 + ["test"] * 3
    assert load_file(tmp_path / "out" / "kmer_baseline.safetensors")["weights"].shape == (1104, 3)


def test_runs_from_the_command_line_and_says_what_is_missing(tmp_path: Path, toy_segments: Path) -> None:
    with pytest.raises(ValueError, match="segments and output_dir must be set"):
        main(["--segments", str(toy_segments)])
    with pytest.raises(FileNotFoundError, match="no folder of segments"):
        run_kmer_baseline(KmerBaselineArguments(str(tmp_path / "absent"), "out"))
