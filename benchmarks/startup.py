"""Start-up of `polyarch --help`, beside `python -c pass` and the peers' `--help` that are installed.

python benchmarks/startup.py
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 15
COMMANDS = (
    ("python -c pass", [sys.executable, "-c", "pass"]),
    ("polyarch --help", [str(Path(sys.executable).with_name("polyarch")), "--help"]),
    ("buildah --help", ["buildah", "--help"]),
    ("podman --help", ["podman", "--help"]),
    ("skopeo --help", ["skopeo", "--help"]),
)


def main() -> None:
    """Print the median of interleaved runs, in milliseconds."""
    found = {name: argv for name, argv in COMMANDS if shutil.which(argv[0])}
    taken: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(ROUNDS):
        for name, argv in found.items():
            started = time.perf_counter()
            subprocess.run(argv, check=True, capture_output=True)
            taken[name].append((time.perf_counter() - started) * 1000)
    for name, values in taken.items():
        print(f"{name:<18} {statistics.median(values):6.0f} ms")


if __name__ == "__main__":
    main()
