"""Elements of the genome from its sequence, on real data: chromosome X to train, 1 Mb of 22 to validate, 20 to test.

    python benchmarks/segmentation.py --data FOLDER --output FOLDER

Claims: a small SegmentNT, trained from random weights within an hour on two cores, tells exons, introns and splice
sites of a chromosome that it never saw better than chance, beside a logistic regression on k-mer counts; and the whole
chromosome is segmented in flat memory. hg19. Genes are RefSeq's; CTCF-bound are ENCODE's peaks in at least two of three
cell lines; promoters and enhancers are those of Ensembl's regulatory build 100, lifted from hg38; the ENCODE blacklist
is neither trained on nor scored.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from measured_process import run
from transformers import pipeline

import omics_transformers  # noqa: F401 (registers the pipeline)
from omics_transformers.data_scripts.bed_files import BedSource
from omics_transformers.data_scripts.genomes import open_genome
from omics_transformers.data_scripts.segments import build_segments
from omics_transformers.pipelines.segmentation_input import find_region, scan_region
from omics_transformers.pipelines.segmentation_tracks import read_bigwig, rounded

ROOT = Path(__file__).parents[1]
CELL_LINES = ("GM12878", "H1-hESC", "HeLa-S3")
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes=1", "--num_machines=1"]
# Without the number of threads accelerate takes one.
LAUNCH += ["--mixed_precision=no", "--dynamo_backend=no", f"--num_cpu_threads_per_process={os.cpu_count()}"]
WINDOW_BP = 3_000
CROP_BP = 2_976  # a random piece of each window, so that a base is seen at every place of its 6-mer
MODEL = ["--hidden-size=64", "--num-hidden-layers=2", "--num-attention-heads=4", "--intermediate-size=128"]
MODEL += ["--initializer-range=0.125", "--class-weights=balanced"]
TRAINING = [
    *("--per-device-train-batch-size=16", "--learning-rate=2e-3", "--lr-scheduler-type=cosine", "--weight-decay=0.01"),
    *("--eval-strategy=no", "--save-strategy=no", "--logging-steps=200", "--report-to=none", "--disable-tqdm=true"),
    *("--per-device-eval-batch-size=16", "--seed=0", "--use-cpu"),
    f"--crop-bp={CROP_BP}",
]
# Windows without any of these are mostly deserts: three in ten of them are trained on, and all are tested on.
FOCUS = ["exon", "CTCF-bound", "promoter", "enhancer"]
BACKGROUND_SHARE = 0.3
PROCESSES = f"--processes={os.cpu_count()}"  # that write tracks
SPLIT_AT_N = 12  # bp; the pipeline's default
SCORES = ("mcc", "auprc", "f1", "segment_overlap")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="the folder of real data")
    parser.add_argument("--output", type=Path, default=Path("segmentation-output"), help="folder to make")
    parser.add_argument("--steps", type=int, default=6_000, help="training steps of 16 windows")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "segmentation.json")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True)
    fasta = arguments.data / "genome" / "chr20.GRCh37.fa.gz"
    start = time.perf_counter()
    build(arguments.data, arguments.output / "segments", window_bp=WINDOW_BP)
    resources = {"build segments": {"seconds": round(time.perf_counter() - start, 1)}}
    resources["train and test"] = run(train_command(arguments.output, arguments.steps))
    resources["k-mer baseline"] = run(baseline_command(arguments.output))
    resources["segment 10 Mb of chr20"] = run(
        segment_command(fasta, arguments.output, "part", ["--region", "20:30,000,001-40,000,000"])
    )
    resources["segment chr20"] = run(segment_command(fasta, arguments.output, "chr20", ["--region", "20"]))
    summary = {
        "settings": {"window_bp": WINDOW_BP, "crop_bp": CROP_BP, "steps": arguments.steps, "threads": os.cpu_count()},
        "resources": resources,
        "test on chr20": compare(arguments.output),
        "tracks of chr20": check_tracks(fasta, arguments.output),
    }
    arguments.results.write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary, indent=1))


def build(data: Path, output: Path, *, window_bp: int = 6_000, step_bp: int | None = None) -> dict:
    """The data set of real sequence: its folder, and the report of what was left out."""
    genome, annotation = data / "genome", data / "annotation"
    regulatory_build = annotation / "ensembl100_regulatory_build.hg38.bed.gz"
    chain = annotation / "hg38ToHg19.over.chain.gz"
    return build_segments(
        [
            genome / "chrX_first70Mb.GRCh37.fa.gz",
            genome / "chr22_20000000-21000000.GRCh37.fa.gz",
            genome / "chr20.GRCh37.fa.gz",
        ],
        annotation / "ncbiRefSeq_genePred.hg19.txt.gz",
        output,
        train=["X"],
        validation=["22"],
        test=["20"],
        beds={
            "CTCF-bound": [annotation / f"ENCODE_CTCF_{name}.hg19.bed.gz" for name in CELL_LINES],
            "promoter": BedSource(regulatory_build, name="promoter", chain=chain),
            "enhancer": BedSource(regulatory_build, name="enhancer", chain=chain),
        },
        minimum_files={"CTCF-bound": 2},
        blacklist=annotation / "hg19-blacklist.v2.bed",
        window_bp=window_bp,
        step_bp=step_bp,
        # Pieces of contigs: chromosome X up to 70 Mb, and one megabase of 22.
        offsets={"X": 0, "22": 20_000_000},
    )


def train_command(output: Path, steps: int) -> list[str]:
    """Training from random weights, thresholds from validation, test on all windows of chr20."""
    data = [
        "--segments",
        str(output / "segments"),
        "--focus-elements",
        *FOCUS,
        f"--background-share={BACKGROUND_SHARE}",
    ]
    script = str(ROOT / "training" / "run_segmentation.py")
    return [*LAUNCH, script, *data, *MODEL, *TRAINING, f"--max-steps={steps}", "--output-dir", str(output / "model")]


def baseline_command(output: Path) -> list[str]:
    """The regression on k-mer counts, on the same windows."""
    module = [sys.executable, "-m", "omics_transformers.training.kmer_baseline"]
    return [*module, "--segments", str(output / "segments"), "--output-dir", str(output / "baseline")]


def segment_command(fasta: Path, output: Path, name: str, options: list[str]) -> list[str]:
    """Tracks and calls of a region."""
    command = [sys.executable, "-m", "omics_transformers.cli", "segment", str(fasta), "--model", str(output / "model")]
    return [*command, "--output", str(output / name), "--batch-size=32", "--device=cpu", *options, PROCESSES]


def compare(output: Path) -> dict[str, Any]:
    """Scores of each element with 95 % intervals, of SegmentNT and of the regression."""
    results = {
        name: json.loads((output / folder / "metrics.json").read_text())["test"]
        for name, folder in (("SegmentNT", "model"), ("k-mer regression", "baseline"))
    }
    table: dict[str, Any] = {}
    for element, scores in results["SegmentNT"]["elements"].items():
        table[element] = {"positive bases": scores["positive_bases"], "scored bases": scores["scored_bases"]}
        for name, result in results.items():
            of_element = result["elements"][element]
            table[element][name] = {
                score: [_short(of_element[score]), [_short(end) for end in of_element[f"{score}_interval"]]]
                for score in SCORES
            }
    return table


def check_tracks(fasta: Path, output: Path, *, most_bases: int = 4_000_000) -> dict[str, Any]:
    """The bigWigs of chr20 against the pipeline's arrays on whole stretches between N, and where they have no value."""
    pipe = pipeline("dna-segmentation", model=str(output / "model"), device="cpu")
    compared, greatest, without_value, n_bases = 0, 0.0, 0, 0
    tracks = sorted((output / "chr20" / "tracks").glob("*.bw"))
    names = {track.stem: track for track in tracks}
    with open_genome(fasta) as genome:
        chromosome = find_region(genome, "20", str(fasta))
        scan = scan_region(genome, chromosome, split_at_n=SPLIT_AT_N)
        contig = chromosome.contig
        for start in range(chromosome.start, chromosome.end, 1_000_000):
            end = min(start + 1_000_000, chromosome.end)
            n_bases += genome.fetch(contig, start, end).count(b"N")
            without_value += int(np.isnan(read_bigwig(tracks[0], contig, start, end)).sum())
        for stretch in sorted(scan.stretches, key=lambda stretch: stretch.end - stretch.start):
            if compared + stretch.end - stretch.start > most_bases:
                break
            result = pipe(genome, split_at_n=SPLIT_AT_N, region=f"{contig}:{stretch.start + 1}-{stretch.end}")
            for number, element in enumerate(result.elements):
                expected = rounded(result.probabilities[:, number], 3)
                found = read_bigwig(names[element], contig, stretch.start, stretch.end)
                assert np.array_equal(np.isnan(found), np.isnan(expected)), (element, stretch)
                greatest = max(greatest, float(np.nanmax(np.abs(found - expected), initial=0.0)))
            compared += stretch.end - stretch.start
    return {
        "elements": len(tracks),
        "stretches between N": len(scan.stretches),
        "bases compared with the array": compared,
        "greatest difference": greatest,
        "bases without a value": without_value,
        "bases that are N": n_bases,
    }


def _short(number: float | None) -> float | None:
    return None if number is None else round(number, 4)


if __name__ == "__main__":
    main()
