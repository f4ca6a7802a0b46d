"""A pure-Python image for several platforms, grafted and emulated, in one run on one machine.

    python benchmarks/graft.py [--image python-web|static-site|shell-tool] [PLATFORM…]

Every build is from nothing (`--no-cache`) in a store that holds the bases. `python-web` needs `python-base` there, and
reaches the package index.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from bases import PYTHON, cache, make_bases  # noqa: E402

from polyarch.arch import host_platform  # noqa: E402

FOREIGN = ["linux/arm64", "linux/s390x", "linux/ppc64le", "linux/riscv64"]
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def main() -> None:
    """Print seconds of each way, and what each further platform costs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--image", default="python-web", choices=("static-site", "shell-tool", "python-web"))
    parser.add_argument("platforms", nargs="*", default=FOREIGN)
    wanted = parser.parse_args()
    platforms = [str(host_platform()), *wanted.platforms]
    env = os.environ | {"POLYARCH_HOME": str(cache() / "home"), "POLYARCH_CACHE": str(cache() / "cache")}
    if wanted.image == "python-web":
        make_bases(platforms, env, *PYTHON)
    else:
        make_bases(platforms, env)
    build(wanted.image, platforms, env)  # bases are imported and their lists of packages kept: not what is measured
    native, _ = build(wanted.image, platforms[:1], env)
    grafted, by_graft = build(wanted.image, platforms, env)
    emulated, by_emulation = build(wanted.image, platforms, env, "--strategy", "emulate")
    print(f"{wanted.image} for {', '.join(platforms)}, whole command")
    print(f"native alone {native:6.1f} s\ngrafted      {grafted:6.1f} s\nemulated     {emulated:6.1f} s")
    print(f"{'further platform':<18} {'grafted':>10} {'emulated':>10} {'ratio':>7}")
    for platform in platforms[1:]:
        one, other = by_graft[platform], by_emulation[platform]
        print(f"{platform:<18} {one:>8.2f} s {other:>8.2f} s {other / max(one, 0.001):>7.0f}")


def build(image: str, platforms: list[str], env: dict[str, str], *options: str) -> tuple[float, dict[str, float]]:
    """Seconds of one build from nothing, proof and all, and those that it gives for each platform."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "polyarch", "build", str(ROOT / "examples" / image), "--no-cache", "--json"]
        command += ["--platform", ",".join(platforms), "-o", f"oci:{folder}/image", *options]
        command += ["--secret", f"id=ca,src={CERTIFICATES}"] if image == "python-web" else []
        started = time.monotonic()
        done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        seconds = time.monotonic() - started
    return seconds, {image["platform"]: image["seconds"] for image in json.loads(done.stdout)["images"]}


if __name__ == "__main__":
    main()
