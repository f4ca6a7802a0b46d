"""Native, plainly emulated and accelerated, step by step, in one run on one machine: seconds, and ratios to native.

    python benchmarks/acceleration.py [linux/arm64 …]

Each build is from nothing (`--no-cache`), one after the other; ROUNDS (1) interleaved rounds, medians. A step's time is
from its announcement to the next, so that it holds the commit of its layer.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from bases import cache, make_bases  # noqa: E402

from polyarch.arch import host_platform  # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", "1"))
PACKAGES = (
    "gcc make libc6-dev pkgconf patch file bison flex autoconf automake libtool gettext libssl-dev zlib1g-dev curl"
)
STEPS = {
    "200 x /bin/true": "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done",
    "apt-get update": "apt-get update",
    "download (not compared)": f"apt-get install -y --no-install-recommends --download-only {PACKAGES}",
    "apt-get install": f"apt-get install -y --no-install-recommends {PACKAGES}",
    "compile, 20 files": "cd /tmp && i=0 && while [ $i -lt 20 ]; do cp /usr/include/stdio.h $i.h; printf"
    " '#include <stdio.h>\\n#include <stdlib.h>\\n#include <openssl/ssl.h>\\nint f(int a)"
    '{for(int i=0;i<a;i++)printf("%%d",rand());return a;}\\n\' >$i.c; gcc -O2 -g -c $i.c; i=$((i+1)); done',
}
EXAMPLE = "the example, whole"


def main() -> None:
    """Print one line per step and platform."""
    host = str(host_platform())
    platforms = sys.argv[1:] or ["linux/arm64"]
    env = os.environ | {"POLYARCH_HOME": str(cache() / "home"), "POLYARCH_CACHE": str(cache() / "cache")}
    make_bases([host, *platforms], env)
    ways = [(host, True), *((platform, fast) for platform in platforms for fast in (True, False))]
    taken: dict[tuple[str, bool], dict[str, list[float]]] = {way: defaultdict(list) for way in ways}
    for _ in range(ROUNDS):
        for platform, fast in ways:
            for name, seconds in measure(platform, fast, env).items():
                taken[platform, fast][name].append(seconds)
    print(f"{'platform':<12} {'step':<24} {'native':>7} {'plain':>7} {'accel.':>7} {'plain/n':>8} {'accel./n':>8}")
    for platform in platforms:
        for name in (*STEPS, EXAMPLE):
            native, plain, fast = (
                statistics.median(taken[way][name]) for way in ((host, True), (platform, False), (platform, True))
            )
            figures = f"{native:>7.1f} {plain:>7.1f} {fast:>7.1f} {plain / native:>8.2f} {fast / native:>8.2f}"
            print(f"{platform:<12} {name:<24} {figures}", flush=True)


def measure(platform: str, fast: bool, env: dict[str, str]) -> dict[str, float]:
    """Seconds of each step, and of the example."""
    with tempfile.TemporaryDirectory() as folder:
        lines = ["FROM debian:trixie", *(f"RUN {command}" for command in STEPS.values())]
        Path(folder, "Dockerfile").write_text("\n".join(lines) + "\n")
        times = build(Path(folder), platform, fast, env)
        seconds = [after - before for before, after in zip(times[1:], times[2:], strict=False)]
        example = build(ROOT / "examples" / "offering", platform, fast, env)
        return dict(zip(STEPS, seconds, strict=True)) | {EXAMPLE: example[-1] - example[0]}


def build(context: Path, platform: str, fast: bool, env: dict[str, str]) -> list[float]:
    """When each step began, and when the last had ended."""
    options = ["--platform", platform, "--no-cache", "--json", "--strategy", f"{platform}=emulate"]
    options = options[:4] if platform == str(host_platform()) else options
    options += [] if fast else ["--no-accelerate"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "polyarch", "build", str(context), *options, "-o", f"oci:{folder}/image"]
        done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    found = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    print(next((e["text"] for e in found if "built in" in e["text"]), ""), platform, file=sys.stderr, flush=True)
    return [e["at"] for e in found if e["kind"] == "step" and (e["step"] or e["text"] == "writing layers")]


if __name__ == "__main__":
    main()
