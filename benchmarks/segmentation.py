"""Elements of the genome from its sequence, on real data: chromosome X to train, 1 Mb of 22 to validate, 20 to test.

    python benchmarks/segmentation.py --data FOLDER --output FOLDER

hg19. Genes are RefSeq's; CTCF-bound are ENCODE's peaks in at least two of three cell lines; promoters and enhancers are
those of Ensembl's regulatory build 100, lifted from hg38; the ENCODE blacklist is neither trained on nor scored.
"""

import argparse
import json
import time
from pathlib import Path

from omics_transformers.data_scripts.bed_files import BedSource
from omics_transformers.data_scripts.segments import build_segments

ROOT = Path(__file__).parents[1]
CELL_LINES = ("GM12878", "H1-hESC", "HeLa-S3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="the folder of real data")
    parser.add_argument("--output", type=Path, default=Path("segmentation-output"), help="folder to make")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True)
    start = time.perf_counter()
    report = build(arguments.data, arguments.output / "segments")
    summary = {"windows": report["windows"], "seconds": {"build segments": round(time.perf_counter() - start, 1)}}
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


if __name__ == "__main__":
    main()
