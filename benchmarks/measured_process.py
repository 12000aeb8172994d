"""A command that a benchmark runs, with the time and memory that it took."""

import os
import subprocess
import time
from collections.abc import Mapping


def run(command: list[str], environment: Mapping[str, str] | None = None) -> dict[str, float]:
    """Seconds and peak memory of a command, its children included; ends the program where it fails.

    Args:
        command: words.
        environment: beside that of this process.
    """
    print(" ".join(command), flush=True)
    start = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, **(environment or {})})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: {' '.join(command)}")
    return {"seconds": round(time.perf_counter() - start, 1), "peak memory in MiB": usage.ru_maxrss // 1024}
