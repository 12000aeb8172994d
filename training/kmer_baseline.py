"""What k-mer counts alone achieve on segments: a logistic regression an element, to set a model's scores against.

    python -m omics_transformers.training.kmer_baseline --segments SEGMENTS --output-dir BASELINE

Features of a base are those of `KmerFeatures`, 1,104. Trained on bases sampled from the training windows, half of them
read from the other strand: bases that carry the element, and bases at random; then the intercepts are set back to the
true shares (King and Zeng 2001, https://doi.org/10.1093/oxfordjournals.pan.a004868). Strength of the penalty and
threshold are chosen for each element on the validation windows; windows, blocks and metric are those of
run_segmentation.py. Memory is that of the drawn bases, 4.4 kB each; windows are scored without making features.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from ..modeling.configuration_segment_nt import SegmentNTConfig
from ..modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from .kmer_features import KmerFeatures
from .pretraining_arguments import parse_yaml_and_flags
from .pretraining_output import write_json
from .segmentation_arguments import SegmentationDataArguments
from .segmentation_data import SegmentationCollator, SegmentationDataset, read_segments
from .segmentation_metric import SegmentationMetric, Thresholds
from .segmentation_output import METRICS_FILE, TABLE_FILE, without_nan, write_element_table
from .segmentation_setup import SegmentationData, prepare_segmentation_data

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]


@dataclass
class KmerBaselineArguments:
    """The command line, with the fields of `SegmentationDataArguments` that it shares."""

    segments: str = field(default="", metadata={"help": "folder that `build segments` wrote (required)"})
    output_dir: str = field(default="", metadata={"help": "folder for weights, metrics and table (required)"})
    positives: int = field(default=10_000, metadata={"help": "training bases that carry an element, for each"})
    at_random: int = field(default=60_000, metadata={"help": "training bases at random, for all elements"})
    penalties: list[float] = field(
        default_factory=lambda: [1e-4, 1e-3, 1e-2, 1e-1],
        metadata={"help": "inverse strengths of the penalty (C) to choose from"},
    )
    test_windows: int | None = field(default=None, metadata={"help": "test on so many windows, evenly spaced"})
    block_bp: int = field(default=1_000_000, metadata={"help": "block of the intervals' bootstrap"})
    resamples: int = field(default=1000, metadata={"help": "resamples of the blocks; 0 for no intervals"})
    seed: int = field(default=0, metadata={"help": "of the sampled bases, strands and resamples"})


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see `--help`."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    run_kmer_baseline(parse_yaml_and_flags((KmerBaselineArguments,), arguments)[0])


def run_kmer_baseline(arguments: KmerBaselineArguments) -> dict[str, Any]:
    """Fit, choose, test, and write kmer_baseline.safetensors, metrics.json and elements.tsv.

    Returns:
        `validation` and `test` as `SegmentationMetric.compute` gives them, and `data`, windows and sampled bases.

    Raises:
        FileNotFoundError, ValueError: for folders and settings that do not fit, and without validation windows.
    """
    if not arguments.segments or not arguments.output_dir:
        raise ValueError("segments and output_dir must be set: --segments DIR --output-dir DIR")
    segments = read_segments(arguments.segments)
    shared = SegmentationDataArguments(
        arguments.segments, block_bp=arguments.block_bp, test_windows=arguments.test_windows
    )
    data = prepare_segmentation_data(
        shared, segments, NucleotideKmerTokenizer(), max_tokens=SegmentNTConfig().max_tokens
    )
    if data.validation is None:
        raise ValueError(f"{arguments.segments} has no validation windows, by which thresholds are chosen: build some")
    sample = sample_bases(
        data.training, KmerFeatures(), arguments.positives, at_random=arguments.at_random, seed=arguments.seed
    )
    baselines = [fit_kmer_baseline(sample, penalty) for penalty in arguments.penalties]
    elements = data.segments.elements
    tried = [evaluate(model, data.validation, elements, "best", seed=arguments.seed) for model in baselines]
    baseline, validation = _best_by_element(baselines, tried, elements)
    thresholds = [validation["elements"][name]["threshold"] for name in elements]
    results = {"validation": validation}
    if data.test is not None:
        results["test"] = evaluate(
            baseline, data.test, elements, thresholds, resamples=arguments.resamples, seed=arguments.seed
        )
    return _write(Path(arguments.output_dir), baseline, thresholds, results, _report(data, sample, baseline), arguments)


@dataclass
class SampledBases:
    """Training bases.

    Attributes:
        features: what they are described by.
        matrix: (sampled, features) float32.
        labels: (sampled, elements) bool.
        is_at_random: (sampled,) bool; the others were drawn for an element that they carry.
        drawn_for: (sampled, elements) bool.
        totals: (elements,) training bases that carry each; and how many are scored, last: (elements + 1,).
    """

    features: KmerFeatures
    matrix: npt.NDArray[np.float32]
    labels: npt.NDArray[np.bool_]
    is_at_random: npt.NDArray[np.bool_]
    drawn_for: npt.NDArray[np.bool_]
    totals: npt.NDArray[np.int64]

    def first(self, number: int) -> "SampledBases":
        """The first bases; the others are room that was not needed, since some bases are drawn twice."""
        return SampledBases(
            self.features,
            self.matrix[:number],
            self.labels[:number],
            self.is_at_random[:number],
            self.drawn_for[:number],
            self.totals,
        )

    def rows_of(self, element: int) -> npt.NDArray[np.int64]:
        """Bases drawn for the element, and all that were drawn at random."""
        return np.flatnonzero(self.is_at_random | self.drawn_for[:, element])


def sample_bases(
    training: SegmentationDataset, features: KmerFeatures, positives: int, *, at_random: int, seed: int = 0
) -> SampledBases:
    """Draw scored bases: up to `positives` that carry each element, and `at_random` of all, without replacement."""
    collator = SegmentationCollator(None, reverse_complement=0.5, seed=seed)
    counts = np.stack([_counts(labels) for _, labels in _pieces(training, collator, range(len(training)))])
    totals, random = counts.sum(axis=0), np.random.default_rng(seed)
    wanted = [positives] * (counts.shape[1] - 1) + [at_random]
    # For each column the drawn ranks among its bases, in the order of windows: sorted, so that they fall into windows.
    ranks = [
        np.sort(random.choice(total, size=min(size, total), replace=False))
        for total, size in zip(totals.tolist(), wanted, strict=True)
    ]
    firsts = np.concatenate([np.zeros((1, counts.shape[1]), dtype=np.int64), counts.cumsum(axis=0)])
    bounds = [np.searchsorted(rank, firsts[:, column]) for column, rank in enumerate(ranks)]  # (windows + 1,) each
    used = np.flatnonzero(sum(np.diff(bound) for bound in bounds))
    size, elements = sum(map(len, ranks)), counts.shape[1] - 1
    sampled = SampledBases(
        features,
        np.empty((size, len(features)), dtype=np.float32),
        np.empty((size, elements), dtype=bool),
        np.empty(size, dtype=bool),
        np.empty((size, elements), dtype=bool),
        totals,
    )
    end = 0
    for window, (sequence, labels) in zip(used.tolist(), _pieces(training, collator, used), strict=True):
        drawn = [
            _places(labels, column)[rank[bound[window] : bound[window + 1]] - firsts[window, column]]
            for column, (rank, bound) in enumerate(zip(ranks, bounds, strict=True))
        ]
        places = np.unique(np.concatenate(drawn))
        rows, end = slice(end, end + len(places)), end + len(places)
        sampled.matrix[rows] = features.matrix(sequence, places)
        sampled.labels[rows] = labels[places] == 1
        is_drawn = np.stack([np.isin(places, some) for some in drawn], axis=1)  # (places, elements + 1)
        sampled.drawn_for[rows], sampled.is_at_random[rows] = is_drawn[:, :elements], is_drawn[:, elements]
    return sampled.first(end)


def _pieces(
    dataset: SegmentationDataset, collator: SegmentationCollator, windows: Any
) -> Iterator[tuple[Array, Array]]:
    for window in windows:
        yield collator.piece(dataset[int(window)])


def _counts(labels: Array) -> npt.NDArray[np.int64]:
    """(elements + 1,) bases that carry each element, and scored ones."""
    return np.append((labels == 1).sum(axis=0), (labels[:, 0] >= 0).sum())


def _places(labels: Array, column: int) -> npt.NDArray[np.int64]:
    is_scored = labels[:, 0] >= 0
    return np.flatnonzero(is_scored if column == labels.shape[1] else labels[:, column] == 1)


@dataclass
class KmerBaseline:
    """A fitted logistic regression.

    Attributes:
        features: of a base.
        weights: (features, elements) float64, of features that are not standardised.
        intercepts: (elements,) float64.
        penalties: (elements,) inverse strength of each element's penalty.
        not_converged: elements whose fit ended at the limit of iterations.
    """

    features: KmerFeatures
    weights: npt.NDArray[np.float64]
    intercepts: npt.NDArray[np.float64]
    penalties: npt.NDArray[np.float64]
    not_converged: npt.NDArray[np.bool_]

    def probabilities(self, sequence: Array) -> npt.NDArray[np.float32]:
        """(bases,) ASCII letters -> (bases, elements)."""
        return expit(self.features.log_odds(sequence, self.weights) + self.intercepts).astype(np.float32)


def fit_kmer_baseline(sample: SampledBases, penalty: float, *, max_iterations: int = 300) -> KmerBaseline:
    """One regression an element; elements without a positive base get a probability of 0.

    Args:
        sample: of `sample_bases`.
        penalty: inverse strength of the L2 penalty (scikit-learn's C), on standardised features.
        max_iterations: of L-BFGS.
    """
    scaler = StandardScaler()
    for rows in np.array_split(np.arange(len(sample.matrix)), -(-len(sample.matrix) // 10_000)):
        scaler.partial_fit(sample.matrix[rows])
    mean, deviation = scaler.mean_, scaler.scale_
    elements = sample.labels.shape[1]
    weights, intercepts = np.zeros((len(sample.features), elements)), np.full(elements, -np.inf)
    not_converged = np.zeros(elements, dtype=bool)
    for element in tqdm(range(elements), desc=f"k-mer regressions, C {penalty:g}", disable=None):
        rows = sample.rows_of(element)
        truth = sample.labels[rows, element]
        if truth.all() or not truth.any():
            continue
        scaled = sample.matrix[rows]  # a copy, as large as it gets: changed in place
        scaled -= mean.astype(np.float32)
        scaled /= deviation.astype(np.float32)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            fitted = LogisticRegression(C=penalty, max_iter=max_iterations).fit(scaled, truth)
        not_converged[element] = any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
        weights[:, element] = fitted.coef_[0] / deviation
        present, scored = sample.totals[element], sample.totals[-1]
        true_odds, sampled_odds = present / max(scored - present, 1), truth.sum() / (~truth).sum()
        intercepts[element] = fitted.intercept_[0] - weights[:, element] @ mean + np.log(true_odds / sampled_odds)
    return KmerBaseline(sample.features, weights, intercepts, np.full(elements, penalty), not_converged)


def evaluate(
    baseline: KmerBaseline,
    windows: SegmentationDataset,
    elements: list[str],
    thresholds: Thresholds,
    *,
    resamples: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """What `SegmentationMetric` says of every base of the windows."""
    metric, collator = SegmentationMetric(elements, thresholds, seed=seed), SegmentationCollator(None)
    for number in tqdm(range(len(windows)), desc="k-mer baseline, windows", disable=None):
        window = windows[number]
        sequence, labels = collator.piece(window)
        metric.add(prediction=baseline.probabilities(sequence), reference=labels, block=window.block or 0)
    return metric.compute(resamples=resamples)


def _best_by_element(
    baselines: list[KmerBaseline], results: list[dict[str, Any]], elements: list[str]
) -> tuple[KmerBaseline, dict[str, Any]]:
    """For each element the regression with the best MCC on the validation windows, and the scores it has there."""
    scores = np.array([[result["elements"][name]["mcc"] for name in elements] for result in results])
    best = np.where(np.isnan(scores), -np.inf, scores).argmax(axis=0)  # (elements,)
    every = np.arange(len(elements))
    chosen = KmerBaseline(
        baselines[0].features,
        np.stack([model.weights for model in baselines])[best, :, every].T,
        *(
            np.stack([getattr(model, name) for model in baselines])[best, every]
            for name in ("intercepts", "penalties", "not_converged")
        ),
    )
    by_element = {name: results[row]["elements"][name] for name, row in zip(elements, best.tolist(), strict=True)}
    return chosen, {"windows": results[0]["windows"], "blocks": results[0]["blocks"], "elements": by_element}


def _report(data: SegmentationData, sample: SampledBases, baseline: KmerBaseline) -> dict[str, Any]:
    elements = data.segments.elements
    by_element = {
        name: {
            "bases_drawn_for_it": int(sample.drawn_for[:, number].sum()),
            "penalty": float(baseline.penalties[number]),
            "converged": not baseline.not_converged[number],
        }
        for number, name in enumerate(elements)
    }
    unfinished = [name for name, entry in by_element.items() if not entry["converged"]]
    if unfinished:
        logger.warning("regressions that ended at the limit of iterations: %s", ", ".join(unfinished))
    return {**data.report, "bases_drawn_at_random": int(sample.is_at_random.sum()), "elements": by_element}


def _write(
    folder: Path,
    baseline: KmerBaseline,
    thresholds: list[float],
    results: dict[str, Any],
    report: dict[str, Any],
    arguments: KmerBaselineArguments,
) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"weights": np.ascontiguousarray(baseline.weights), "intercepts": baseline.intercepts}
    save_file({**tensors, "thresholds": np.array(thresholds)}, folder / "kmer_baseline.safetensors")
    metrics = without_nan({**results, "data": report, "settings": asdict(arguments)})
    write_json(folder / METRICS_FILE, metrics)
    write_element_table(folder / TABLE_FILE, results)
    logger.info("weights, metrics and table are in %s", folder)
    return metrics


if __name__ == "__main__":
    main()
