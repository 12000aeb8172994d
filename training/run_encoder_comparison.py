"""Compare encoders as "Region Ranking on scATAC" does: heads that rank regions, and what encoders bring SegmentNT.

    python training/run_encoder_comparison.py --regions REGIONS --regions-without-duplicates REGIONS2
        --segments SEGMENTS --encoder ENCODER --seeds 0 1 2 --output-dir OUT
        [--ranking-config RANKING.yaml --segmentation-config SEGMENTATION.yaml]

Part one (figure 3.3): region rankers with each head, on a trained and a frozen encoder. Part two (figure 3.4):
SegmentNT on a random encoder, the given one, and ATAC-aware ones, made by ranking regions with the head that did best
on validation rows; rankers and segmentations are trained for each seed, differences are paired by seed. Without an
encoder all begin from random weights. Stopped, the same command goes on. Start it with plain Python: trainings are
processes of their own (--launcher "torchrun --nproc-per-node=4" for several GPUs).
"""

import dataclasses
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omics_transformers.training.comparison_runs import ComparisonRuns, Launch, ProcessLauncher
from omics_transformers.training.encoder_comparison import (
    ARMS,
    ATAC_AWARE,
    ATAC_AWARE_WITHOUT_DUPLICATES,
    GIVEN,
    MEAN_OF_ELEMENTS,
    RANDOM,
    Arm,
    HeadResult,
    best_head,
    compare_segmentations,
    write_heads_table,
    write_segmentation_table,
)
from omics_transformers.training.encoder_comparison_arguments import (
    ComparisonArguments,
    RunOptions,
    parse_comparison_arguments,
    read_run_options,
)
from omics_transformers.training.encoder_comparison_figures import heads_figure, segmentation_figure
from omics_transformers.training.pretraining_output import write_json
from omics_transformers.training.ranking_data import RegionFolder, read_regions
from omics_transformers.training.segmentation_data import read_segments

logger = logging.getLogger("omics_transformers.training.run_encoder_comparison")

RANKING_SCRIPT, SEGMENTATION_SCRIPT = "run_region_ranking", "run_segmentation"
_WITHOUT_ENCODER = (
    "no encoder was given: all begin from random weights, and the random encoder is the only baseline; this says what "
    "ranking regions teaches an untrained encoder, not what it adds to a pre-trained one"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see `--help`."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("omics_transformers").setLevel(logging.INFO)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "several processes run this comparison: start it with plain Python, and give what its trainings should be "
            'launched with: --launcher "torchrun --nproc-per-node=4"'
        )
    parsed = parse_comparison_arguments(arguments)
    try:
        compare_encoders(parsed, launch=ProcessLauncher(parsed.launcher))
    except KeyboardInterrupt:
        sys.exit(130)  # what shells report for Ctrl-C


def compare_encoders(arguments: ComparisonArguments, *, launch: Launch | None = None) -> dict[str, Any]:
    """Train what is not trained yet, and write heads.tsv, segmentation.tsv, comparison.json and figures/.

    Args:
        arguments: data, encoder, seeds and heads.
        launch: how a run is trained; see `ComparisonRuns`.

    Returns:
        What comparison.json holds.

    Raises:
        FileNotFoundError, ValueError: for files and settings that do not fit, before training begins.
        RuntimeError: where a training fails.
        KeyboardInterrupt: after Ctrl-C; the same command goes on.
    """
    options = read_run_options(arguments)
    notes = _check_data(arguments, options)
    comparison = EncoderComparison(arguments, options, launch)
    output = Path(str(arguments.output_dir))
    (output / "figures").mkdir(parents=True, exist_ok=True)
    heads = [] if arguments.skip_heads else comparison.heads()
    if heads:
        write_heads_table(output / "heads.tsv", heads)
        (output / "figures" / "heads.png").write_bytes(heads_figure(heads))
    head = arguments.transfer_head or best_head(heads)
    baseline = RANDOM if arguments.encoder is None else GIVEN
    table, undefined = compare_segmentations(comparison.segmentations(head), baseline.name)
    if undefined:
        notes.append(f"MCC is not defined in every run for {', '.join(undefined)}: left out of the mean over elements")
    write_segmentation_table(output / "segmentation.tsv", table, arguments.seeds)
    (output / "figures" / "segmentation.png").write_bytes(segmentation_figure(table))
    result = {
        "arguments": dataclasses.asdict(arguments),
        "options": options._asdict(),
        "notes": notes,
        "heads": [{**result._asdict(), "encoder": result.encoder} for result in heads],
        "transfer_head": head,
        "transfer_head_is": "given" if arguments.transfer_head else "the best on validation rows, its encoder trained",
        "baseline": baseline.name,
        "segmentation": table,
    }
    write_json(output / "comparison.json", result)
    _log_summary(table, notes)
    return result


class EncoderComparison:
    """The runs of a comparison.

    Args:
        arguments: of the comparison.
        options: of its runs.
        launch: how a run is trained.
    """

    def __init__(self, arguments: ComparisonArguments, options: RunOptions, launch: Launch | None = None) -> None:
        self.arguments = arguments
        self.options = options
        self.arms = [arm for arm in ARMS if self._is_compared(arm)]
        self.runs = ComparisonRuns(Path(str(arguments.output_dir)) / "runs", launch=launch, planned=self._planned())

    def heads(self) -> list[HeadResult]:
        """Part one: rankers with each head, their encoders trained and frozen, with the first seed."""
        results = []
        for head in self.arguments.heads:
            for is_frozen in (False, True):
                metrics = self._rank(head, self.arguments.seeds[0], is_frozen=is_frozen)
                results.append(HeadResult(head, is_frozen, metrics["validation"], metrics["test"]))
        return results

    def segmentations(self, head: str) -> dict[str, list[dict[str, Any]]]:
        """Part two: arm -> the test of each seed's SegmentNT."""
        for seed in self.arguments.seeds:
            self._rank(head, seed)
            if ATAC_AWARE_WITHOUT_DUPLICATES in self.arms:
                self._rank(head, seed, without_duplicates=True)
        return {arm.name: [self._segment(arm, head, seed) for seed in self.arguments.seeds] for arm in self.arms}

    def _rank(
        self, head: str, seed: int, *, is_frozen: bool = False, without_duplicates: bool = False
    ) -> dict[str, Any]:
        given = self.arguments
        settings = self.options.ranking | {
            "regions": given.regions_without_duplicates if without_duplicates else given.regions,
            "scorer_head": head,
            "freeze_encoder": is_frozen,
            "seed": seed,
            **self._given_encoder(),
        }
        if is_frozen:
            settings["lora_rank"] = 0
        name = _ranker(head, seed, is_frozen=is_frozen, without_duplicates=without_duplicates)
        return self.runs.metrics(name, RANKING_SCRIPT, settings)

    def _segment(self, arm: Arm, head: str, seed: int) -> dict[str, Any]:
        settings = {**self.options.segmentation, "segments": self.arguments.segments, "seed": seed}
        if arm in (ATAC_AWARE, ATAC_AWARE_WITHOUT_DUPLICATES):
            ranker = _ranker(head, seed, without_duplicates=arm == ATAC_AWARE_WITHOUT_DUPLICATES)
            settings["encoder"] = str(self.runs.path(ranker))
        else:
            # Of the rankers' sizes where no encoder is given.
            sizes = {"encoder": str(self.runs.path(_ranker(head, seed)))}
            settings |= self._given_encoder() or sizes
            settings["random_weights"] = arm == RANDOM
        return self.runs.metrics(f"segmentation_{arm.name}_seed{seed}", SEGMENTATION_SCRIPT, settings)["test"]

    def _given_encoder(self) -> dict[str, str]:
        given = {"encoder": self.arguments.encoder, "encoder_revision": self.arguments.encoder_revision}
        return {name: value for name, value in given.items() if value is not None}

    def _is_compared(self, arm: Arm) -> bool:
        if arm == GIVEN:
            return self.arguments.encoder is not None
        return arm != ATAC_AWARE_WITHOUT_DUPLICATES or self.arguments.regions_without_duplicates is not None

    def _planned(self) -> int:
        given = self.arguments
        heads = 0 if given.skip_heads else 2 * len(given.heads)
        is_shared = bool(heads) and given.transfer_head in (None, *given.heads)  # part one trains a ranker of part two
        rankers = 2 if ATAC_AWARE_WITHOUT_DUPLICATES in self.arms else 1
        return heads + len(given.seeds) * (rankers + len(self.arms)) - is_shared


def _ranker(head: str, seed: int, *, is_frozen: bool = False, without_duplicates: bool = False) -> str:
    kind = "frozen" if is_frozen else "without_duplicates" if without_duplicates else "trained"
    return f"ranker_{head}_{kind}_seed{seed}"


def _check_data(arguments: ComparisonArguments, options: RunOptions) -> list[str]:
    """What to say beside the results.

    Raises:
        FileNotFoundError, ValueError: for folders that lack what the comparison needs.
    """
    notes = [] if arguments.encoder is not None else [_WITHOUT_ENCODER]
    _require_splits(str(arguments.regions), list(read_regions(str(arguments.regions)).splits))
    segments = list(read_segments(str(arguments.segments)).splits)
    _require_splits(str(arguments.segments), segments)
    if arguments.regions_without_duplicates is None:
        notes.append(f"no regions without duplicates were given: {ATAC_AWARE_WITHOUT_DUPLICATES.title} is left out")
    else:
        regions = read_regions(arguments.regions_without_duplicates)
        _require_random_padding(arguments.regions_without_duplicates, regions, options.ranking.get("padding", "stored"))
    if len(arguments.seeds) == 1:
        notes.append("one seed: no intervals over seeds")
    for note in notes:
        logger.warning("%s", note)
    return notes


def _require_splits(folder: str, splits: list[str]) -> None:
    missing = [split for split in ("validation", "test") if split not in splits]
    if missing:
        raise ValueError(f"{folder} has no {' and no '.join(missing)} rows: encoders are compared on test data")


def _require_random_padding(folder: str, regions: RegionFolder, padding: str) -> None:
    if padding == "stored" and not regions.splits["train"].has_padding_in_front():
        raise ValueError(
            f"all padding in {folder} stands at the end, and its encoder is to be trained with random padding: build "
            "the regions with it, or set `padding: random` in the ranking configuration"
        )


def _log_summary(table: dict[str, dict[str, Any]], notes: list[str]) -> None:
    for arm, row in table[MEAN_OF_ELEMENTS].items():
        logger.info("mean MCC over elements, %s: %s (difference %s)", arm, row["mean"], row["difference"]["mean"])
    for note in notes:
        logger.info("note: %s", note)


if __name__ == "__main__":
    main()
