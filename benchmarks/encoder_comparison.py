"""What an ATAC-aware encoder brings SegmentNT, on real data: the thesis' comparison (figure 3.4) at a small size.

    python benchmarks/encoder_comparison.py --data FOLDER --output FOLDER

Question, not claim: trained with the same small budget, does SegmentNT tell elements of chromosome 20 better from an
encoder that ranked regions first than from a random one? Region rankers learn from the cells of `region_ranking.py`, in
both versions of the data; SegmentNT from the windows of `segmentation.py`. Chromosome X to train, 1 Mb of 22 for
thresholds, windows of 20 to test. No pretrained weights were at hand, so the random encoder is the baseline. Stopped,
the same command goes on.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import region_ranking
import segmentation
import yaml
from measured_process import run

ROOT = Path(__file__).parents[1]
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
SIZES |= {"initializer_range": 0.125}
TRAINING = {"lr_scheduler_type": "cosine", "weight_decay": 0.01, "eval_strategy": "no", "save_strategy": "no"}
TRAINING |= {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "logging_steps": 100}
RANKING = {"ranking_labels": "ranks", "reverse_complement": 0.5, "learning_rate": 1e-3, "max_steps": 400}
RANKING |= {"per_device_train_batch_size": 32, "test_rows": 500, "resamples": 0}
SEGMENTATION = {"class_weights": "balanced", "learning_rate": 2e-3, "per_device_train_batch_size": 16}
SEGMENTATION |= {"per_device_eval_batch_size": 16, "crop_bp": segmentation.CROP_BP, "resamples": 0}
SEGMENTATION |= {"focus_elements": segmentation.FOCUS, "background_share": segmentation.BACKGROUND_SHARE}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="the folder of real data")
    parser.add_argument("--output", type=Path, default=Path("encoder-comparison-output"), help="folder to make")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--head", default="linear", help="head that the rankers are trained with")
    parser.add_argument("--steps", type=int, default=800, help="steps of SegmentNT, 16 windows each")
    parser.add_argument("--test-windows", type=int, default=2_000, help="windows of chromosome 20 to test on")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "encoder_comparison.json")
    arguments = parser.parse_args()
    build(arguments.data, arguments.output)
    resources = run(command(arguments), {"OMP_NUM_THREADS": str(os.cpu_count())})
    compared = json.loads((arguments.output / "comparison" / "comparison.json").read_text())
    summary = {
        "settings": {"seeds": arguments.seeds, "head": arguments.head, "steps": arguments.steps}
        | {"test windows": arguments.test_windows},
        "notes": compared["notes"],
        "baseline": compared["baseline"],
        "MCC": compared["segmentation"],
        "resources": resources,
    }
    arguments.results.write_text(json.dumps(summary, indent=1) + "\n")
    figure = arguments.output / "comparison" / "figures" / "segmentation.png"
    shutil.copyfile(figure, arguments.results.with_suffix(".png"))
    print(json.dumps(summary, indent=1))


def build(data: Path, output: Path) -> None:
    """Both versions of the regions, and the windows of segmentation, where they are not there yet."""
    output.mkdir(parents=True, exist_ok=True)
    for name, choice in region_ranking.VERSIONS.items():
        if not (output / name).exists():
            region_ranking.build(data, output / name, **choice)
    if not (output / "segments").exists():
        segmentation.build(data, output / "segments", window_bp=segmentation.WINDOW_BP)


def command(arguments: argparse.Namespace) -> list[str]:
    output = arguments.output
    first, second = (str(output / name) for name in region_ranking.VERSIONS)
    sizes = {"max_steps": arguments.steps, "test_windows": arguments.test_windows}
    options: dict[str, dict[str, Any]] = {
        "ranking": SIZES | TRAINING | RANKING,
        "segmentation": TRAINING | SEGMENTATION | sizes,
    }
    for name, content in options.items():
        (output / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return [
        *(sys.executable, str(ROOT / "training" / "run_encoder_comparison.py")),
        *("--regions", first, "--regions-without-duplicates", second, "--segments", str(output / "segments")),
        *("--output-dir", str(output / "comparison"), "--skip-heads", "--transfer-head", arguments.head),
        *("--ranking-config", str(output / "ranking.yaml")),
        *("--segmentation-config", str(output / "segmentation.yaml")),
        *("--seeds", *map(str, arguments.seeds)),
    ]


if __name__ == "__main__":
    main()
