"""What GC content, length and k-mers alone achieve on region ranking, to set a model's scores against.

    python -m omics_transformers.training.ranking_baselines --regions REGIONS --output-dir BASELINES

Four baselines: `gc` and `length` score a region by that number alone, the sign chosen on training pairs; `kmer` is a
linear score of k-mer frequencies, fitted by logistic regression on the differences of pairs of regions of one list
(Herbrich et al. 1999, the ranking SVM with the logistic loss), and `kmer_length` has the log length beside them. The
strength of the penalty is chosen for each by pair accuracy on the validation rows. Metric and groups are those of
run_region_ranking.py; scores do not depend on the cell type. Memory is that of the training pairs, 8 kB each.
"""

import csv
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from .pretraining_arguments import parse_yaml_and_flags
from .pretraining_output import write_json
from .ranking_data import RegionRankingDataset, RegionRankingRow, read_regions
from .ranking_metric import RegionRankingMetric
from .ranking_output import SCORE_COLUMNS, score_values
from .region_kmer_features import RegionKmerFeatures
from .segmentation_output import METRICS_FILE, without_nan

logger = logging.getLogger(__name__)

BASELINES = ("gc", "length", "kmer", "kmer_length")
FITTED = BASELINES[2:]
TABLE_FILE = "baselines.tsv"
_ROWS_AT_A_TIME = 512  # of which features are made

Array = npt.NDArray[Any]


@dataclass
class RankingBaselineArguments:
    """The command line."""

    regions: str = field(default="", metadata={"help": "folder that `build regions` wrote (required)"})
    output_dir: str = field(default="", metadata={"help": "folder for metrics and table (required)"})
    longest_kmer: int = field(default=5, metadata={"help": "k-mers from 1 to this length"})
    maximum_training_rows: int = field(default=10_000, metadata={"help": "training rows, drawn where there are more"})
    penalties: list[float] = field(
        default_factory=lambda: [1e-6, 1e-5, 1e-4, 1e-3, 1e-2],
        metadata={"help": "inverse strengths of the penalty (C) to choose from"},
    )
    block_bp: int = field(
        default=1_000_000, metadata={"help": "block of the intervals' bootstrap, where there are fewer than 5 contigs"}
    )
    resamples: int = field(default=1000, metadata={"help": "resamples of the groups; 0 for no intervals"})
    seed: int = field(default=0, metadata={"help": "of the drawn rows and resamples"})


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see `--help`."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    run_ranking_baselines(parse_yaml_and_flags((RankingBaselineArguments,), arguments)[0])


def run_ranking_baselines(arguments: RankingBaselineArguments) -> dict[str, Any]:
    """Fit, choose, test, and write metrics.json and baselines.tsv.

    Returns:
        `validation` and, where there is one, `test`: baseline -> what `RegionRankingMetric.compute` gives; `data`: rows
        and pairs trained on, and each baseline's sign or penalty; `settings`.

    Raises:
        FileNotFoundError, ValueError: for folders and settings that do not fit, without validation rows, and where no
            training row has regions of different counts.
    """
    _check(arguments)
    folder = read_regions(arguments.regions)
    if "validation" not in folder.splits:
        raise ValueError(f"{arguments.regions} has no validation rows, by which penalties are chosen: build some")
    features = RegionKmerFeatures(arguments.longest_kmer)
    training = _drawn(RegionRankingDataset(folder.splits["train"]), arguments)
    evaluated = {
        split: RegionRankingDataset(folder.splits[split]).in_groups(arguments.block_bp)
        for split in ("validation", "test")
        if split in folder.splits
    }
    pairs = TrainingPairs.of(training, features)
    weights, report = _fit(pairs, evaluated["validation"], arguments)
    results: dict[str, Any] = {}
    for split, rows in evaluated.items():
        metrics = score_rows(rows, features, weights, seed=arguments.seed)
        results[split] = {
            name: metric.compute(resamples=arguments.resamples) for name, metric in zip(BASELINES, metrics, strict=True)
        }
    report = {"training_rows": len(training), "training_pairs": len(pairs.differences), "baselines": report}
    return _write(Path(arguments.output_dir), results, report, arguments)


def _check(arguments: RankingBaselineArguments) -> None:
    if not arguments.regions or not arguments.output_dir:
        raise ValueError("regions and output_dir must be set: --regions DIR --output-dir DIR")
    if arguments.maximum_training_rows < 1:
        raise ValueError(f"maximum_training_rows is {arguments.maximum_training_rows}: expected 1 or more")
    if not arguments.penalties or min(arguments.penalties) <= 0:
        raise ValueError(f"penalties is {arguments.penalties}: expected numbers above 0, at least one")


def _drawn(rows: RegionRankingDataset, arguments: RankingBaselineArguments) -> RegionRankingDataset:
    if len(rows) <= arguments.maximum_training_rows:
        return rows
    random = np.random.default_rng(arguments.seed)
    drawn = np.sort(random.choice(len(rows), arguments.maximum_training_rows, replace=False))
    logger.info("%d of %d training rows are drawn: --maximum-training-rows sets how many", len(drawn), len(rows))
    return rows.some_of(drawn)


@dataclass
class TrainingPairs:
    """Pairs of regions of one list with different counts.

    Attributes:
        features: what regions are described by.
        differences: (pairs, features) float32: those of the region with the higher count less those of the other, in
            standard deviations over the regions, and with the sign turned where `signs` is -1.
        signs: (pairs,) 1 and -1 in turn. A regression without intercept does not see them, but needs two classes.
        deviations: (features,) float64; 1 where a feature does not vary.
    """

    features: RegionKmerFeatures
    differences: npt.NDArray[np.float32]
    signs: npt.NDArray[np.int64]
    deviations: npt.NDArray[np.float64]

    @classmethod
    def of(cls, rows: RegionRankingDataset, features: RegionKmerFeatures) -> "TrainingPairs":
        """All pairs of these rows.

        Raises:
            ValueError: where there are fewer than two.
        """
        counts = [rows[number].counts for number in range(len(rows))]
        number_of_pairs = sum(len(_ordered_pairs(some)[0]) for some in counts)
        if number_of_pairs < 2:
            raise ValueError(
                f"{len(rows):,} training rows have {number_of_pairs} pairs of regions with different counts: too few "
                "to learn from"
            )
        differences, scaler = np.empty((number_of_pairs, len(features)), dtype=np.float32), StandardScaler()
        end = 0
        for some, matrix in _with_features(rows, features, desc="pairs to train on"):
            scaler.partial_fit(matrix)
            first = np.cumsum([0, *(len(row.counts) for row in some)])[:-1]
            pairs = [_ordered_pairs(row.counts) + start for row, start in zip(some, first, strict=True)]
            higher, lower = np.concatenate(pairs, axis=1)
            begin, end = end, end + len(higher)
            np.subtract(matrix[higher], matrix[lower], out=differences[begin:end])
        signs = 1 - 2 * (np.arange(number_of_pairs) % 2)
        differences *= (signs[:, None] / scaler.scale_).astype(np.float32)
        return cls(features, differences, signs, scaler.scale_)

    def right_share(self, columns: Sequence[int]) -> float:
        """Pairs that the sum of some features (all in the same units) orders right; ties count one half."""
        summed = self.signs * (self.differences[:, columns] * self.deviations[columns]).sum(axis=1)
        return float((summed > 0).mean() + (summed == 0).mean() / 2)

    def fit(self, penalty: float, *, without: Sequence[int] = (), max_iterations: int = 500) -> tuple[Array, bool]:
        """(features,) weights of features that are not standardised, and whether the fit converged.

        Args:
            penalty: inverse strength of the L2 penalty (scikit-learn's C), on standardised features.
            without: features that are left out; their weights are 0.
            max_iterations: of L-BFGS.
        """
        columns = list(without)
        kept = self.differences[:, columns]
        self.differences[:, columns] = 0  # in place: the matrix may be most of the memory
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            regression = LogisticRegression(C=penalty, fit_intercept=False, max_iter=max_iterations)
            fitted = regression.fit(self.differences, self.signs)
        self.differences[:, columns] = kept
        converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
        return fitted.coef_[0] / self.deviations, converged


def score_rows(
    rows: RegionRankingDataset, features: RegionKmerFeatures, weights: Array, *, seed: int = 0
) -> list[RegionRankingMetric]:
    """A metric for each column of `weights` (features, models), to which the scores of all rows were added."""
    metrics = [RegionRankingMetric(seed=seed) for _ in range(weights.shape[1])]
    for some, matrix in _with_features(rows, features, desc="baselines"):
        regions = np.array([len(row.counts) for row in some])
        mask = np.arange(regions.max()) < regions[:, None]
        counts, groups = np.zeros(mask.shape), np.array([row.block or 0 for row in some])
        counts[mask] = np.concatenate([row.counts for row in some])
        for metric, of_model in zip(metrics, (matrix @ weights).T, strict=True):
            scores = np.zeros(mask.shape)
            scores[mask] = of_model
            metric.add_batch(predictions=scores, references=counts, region_mask=mask, groups=groups)
    return metrics


def _fit(
    pairs: TrainingPairs, validation: RegionRankingDataset, arguments: RankingBaselineArguments
) -> tuple[Array, dict[str, Any]]:
    """(features, baselines) weights in the order of `BASELINES`, and what is to be said of each."""
    features = pairs.features
    weights, report = np.zeros((len(features), len(BASELINES))), {}
    for column, (name, of_name) in enumerate({"gc": features.gc, "length": [features.length]}.items()):
        share = pairs.right_share(of_name)
        weights[of_name, column] = 1 if share >= 0.5 else -1
        report[name] = {"sign": 1 if share >= 0.5 else -1, "training_pair_accuracy": max(share, 1 - share)}
    left_out: dict[str, list[int]] = {"kmer": [features.length], "kmer_length": []}
    tried = [(name, penalty) for name in FITTED for penalty in arguments.penalties]
    fits = [
        pairs.fit(penalty, without=left_out[name]) for name, penalty in tqdm(tried, desc="regressions", disable=None)
    ]
    metrics = score_rows(validation, features, np.stack([fitted for fitted, _ in fits], axis=1))
    accuracies = np.array([metric.compute()["pair_accuracy"] for metric in metrics]).reshape(len(FITTED), -1)
    for row, name in enumerate(FITTED):
        best = int(np.nan_to_num(accuracies[row]).argmax())
        fitted, converged = fits[row * len(arguments.penalties) + best]
        weights[:, BASELINES.index(name)] = fitted
        report[name] = {"penalty": arguments.penalties[best], "converged": converged}
        if not converged:
            logger.warning("the regression %s ended at the limit of iterations", name)
    return weights, report


def _with_features(
    rows: RegionRankingDataset, features: RegionKmerFeatures, *, desc: str
) -> Iterator[tuple[list[RegionRankingRow], npt.NDArray[np.float32]]]:
    """Some rows at a time, and the features of all their regions, (regions, features)."""
    for first in tqdm(range(0, len(rows), _ROWS_AT_A_TIME), desc=desc, disable=None):
        some = [rows[number] for number in range(first, min(first + _ROWS_AT_A_TIME, len(rows)))]
        yield some, features.matrix([sequence.tobytes() for row in some for sequence in row.sequences])


def _ordered_pairs(counts: Array) -> Array:
    """(2, pairs) places in a list: of the higher count, and of the lower."""
    return np.stack(np.nonzero(counts[:, None] > counts))


def _write(
    folder: Path, results: Mapping[str, Any], report: Mapping[str, Any], arguments: RankingBaselineArguments
) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    metrics = without_nan({**results, "data": report, "settings": asdict(arguments)})
    write_json(folder / METRICS_FILE, metrics)
    with (folder / TABLE_FILE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["split", "baseline", *SCORE_COLUMNS])
        for split, of_split in results.items():
            for name, result in of_split.items():
                writer.writerow([split, name, *score_values(result)])
    logger.info("metrics and table are in %s", folder)
    return metrics


if __name__ == "__main__":
    main()
