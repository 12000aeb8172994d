"""The speed of the multiome Performer in one run: peaks to genes, then forward and training step.

    python benchmarks/multiome.py

Runs build_multiome.py and multiome_performer.py in turn, each with its own defaults; both write their own results.
"""

import subprocess
import sys
from pathlib import Path

PARTS = ("build_multiome.py", "multiome_performer.py")


def main() -> None:
    for part in PARTS:
        subprocess.run([sys.executable, str(Path(__file__).parent / part)], check=True)


if __name__ == "__main__":
    main()
