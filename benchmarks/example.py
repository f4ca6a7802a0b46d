"""The example built natively and emulated, in one run on one machine: seconds, and what emulation costs.

    make bench            (or: python benchmarks/example.py linux/arm64 linux/s390x)

Each build is from nothing (`--no-cache`), one after the other, the median of `ROUNDS` interleaved rounds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from bases import cache, make_bases  # noqa: E402

from polyarch.arch import host_platform  # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", "1"))


def main() -> None:
    """Print one line per platform."""
    host = str(host_platform())
    platforms = [host, *(sys.argv[1:] or ["linux/arm64", "linux/s390x"])]
    env = os.environ | {"POLYARCH_HOME": str(cache() / "home"), "POLYARCH_CACHE": str(cache() / "cache")}
    make_bases(platforms, env)
    seconds: dict[str, list[float]] = {platform: [] for platform in platforms}
    for _ in range(ROUNDS):
        for platform in platforms:
            seconds[platform].append(build(platform, env))
    native = statistics.median(seconds[host])
    print(f"{'platform':<14} {'seconds':>8} {'ratio to native':>16}")
    for platform in platforms:
        median = statistics.median(seconds[platform])
        print(f"{platform:<14} {median:>8.1f} {median / native:>16.2f}")


def build(platform: str, env: dict[str, str]) -> float:
    """Seconds of one build from nothing."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "polyarch", "build", str(ROOT / "examples" / "offering"), "--no-cache"]
        options = ["--platform", platform, "-o", f"oci:{folder}/image"]
        subprocess.run([*command, *options], env=env, check=True, capture_output=True)
    return time.monotonic() - started


if __name__ == "__main__":
    main()
