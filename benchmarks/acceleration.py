"""Native, plainly emulated and accelerated, step by step, in one run on one machine: CPU seconds, and ratios to native.

    python benchmarks/acceleration.py [linux/arm64 …]

Each build is from nothing (`--no-cache`), one after the other; ROUNDS (1) interleaved rounds, medians. A step is
measured by what its shell says of its children (`times`), which unlike the time of day holds no network or other load.
The example's figure is the time of day, for that is what a user waits for.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

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
# The second line of `times`: the shell's children.
TIMES = re.compile(r"^\d+m[\d.]+s \d+m[\d.]+s\n(\d+m[\d.]+s) (\d+m[\d.]+s)$", re.MULTILINE)
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
        lines = ["FROM debian:trixie", *(f"RUN {command}; times" for command in STEPS.values())]
        Path(folder, "Dockerfile").write_text("\n".join(lines) + "\n")
        log = build(Path(folder), platform, fast, env)["log"]
        spent = [user + system for user, system in TIMES.findall(Path(log).read_text())]
        example = build(ROOT / "examples" / "offering", platform, fast, env)
        return dict(zip(STEPS, map(seconds, spent), strict=True)) | {EXAMPLE: example["seconds"]}


def seconds(spent: str) -> float:
    """`1m2.5s0m0.5s` is 63."""
    return sum(60 * float(minutes) + float(rest) for minutes, rest in re.findall(r"(\d+)m([\d.]+)s", spent))


def build(context: Path, platform: str, fast: bool, env: dict[str, str]) -> dict[str, Any]:
    """Build from nothing; returns what `--json` says of the image."""
    command = [sys.executable, "-m", "polyarch", "build", str(context), "--platform", platform, "--no-cache", "--json"]
    command += [] if platform == str(host_platform()) else ["--strategy", "emulate"]
    command += [] if fast else ["--no-accelerate"]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    image: dict[str, Any] = json.loads(done.stdout)["images"][0]
    print(platform, "accelerated" if fast else "plain", f"{image['seconds']:.0f} s", file=sys.stderr, flush=True)
    return image


if __name__ == "__main__":
    main()
